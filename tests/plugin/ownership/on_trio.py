"""The same on Trio, for AnyIO's plugin and for pytest-trio."""

from __future__ import annotations

from plugin.ownership.on_either import CLIENT, WEAK_REFERENCE
from plugin.ownership.program import Program

ON_TRIO = (
    CLIENT,
    Program(
        "inner",
        """
        @pytest.fixture
        async def NAME_TWIN():
            client = Client()
            yield client
            await client.aclose()  # teardown

        @pytest.fixture
        async def outer_TWIN(NAME_TWIN):
            yield types.SimpleNamespace(client=NAME_TWIN)

        async def test_NAME_TWIN(outer_TWIN):
            outer_TWIN.client.ask()
        """,
    ),
    WEAK_REFERENCE,
    Program(
        "without_value",
        """
        clients_TWIN = []

        @pytest.fixture
        async def NAME_TWIN():
            client = Client()
            clients_TWIN.append(client)
            yield
            await client.aclose()  # teardown

        async def test_NAME_TWIN(NAME_TWIN):
            clients_TWIN.pop().ask()
        """,
    ),
    Program(
        "nursery",
        """
        @pytest.fixture
        async def NAME_TWIN():
            async with trio.open_nursery() as nursery:
                yield nursery
                nursery.cancel_scope.cancel()

        async def test_NAME_TWIN(NAME_TWIN):
            NAME_TWIN.start_soon(trio.sleep_forever)
            await trio.lowlevel.checkpoint()
        """,
        has_twin=False,
    ),
    Program(
        "anyio_group",
        """
        @pytest.fixture
        async def NAME_TWIN():
            async with anyio.create_task_group() as group:
                yield group
                group.cancel_scope.cancel()

        async def test_NAME_TWIN(NAME_TWIN):
            NAME_TWIN.start_soon(anyio.sleep_forever)
            await trio.lowlevel.checkpoint()
        """,
        has_twin=False,
    ),
    Program(
        "nursery_of_task",
        """
        @pytest.fixture
        async def NAME_TWIN():
            async with trio.open_nursery() as nursery:
                yield nursery
                nursery.cancel_scope.cancel()

        async def test_NAME_TWIN(NAME_TWIN):
            async def serve(task_status=trio.TASK_STATUS_IGNORED):
                async with trio.open_nursery() as inner:
                    inner.start_soon(trio.sleep_forever)
                    task_status.started(inner)
            inner = await NAME_TWIN.start(serve)
            inner.start_soon(trio.sleep_forever)
        """,
        has_twin=False,
    ),
    Program(
        "waits_on_event",
        """
        @pytest.fixture
        async def NAME_TWIN():
            yield types.SimpleNamespace(event=trio.Event())

        async def test_NAME_TWIN(NAME_TWIN):
            over = trio.Event()
            async def wait():
                await NAME_TWIN.event.wait()
                over.set()
            trio.lowlevel.spawn_system_task(wait, context=contextvars.copy_context())  # spawned here
            await trio.lowlevel.checkpoint()
            NAME_TWIN.event.set()  # teardown
            await (over.wait() if NAME_TWIN.event.is_set() else trio.lowlevel.checkpoint())
        """,
        owner="test_NAME_leak",
    ),
)
