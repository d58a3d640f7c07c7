"""The ways in which a test says itself what is to be called when it is torn down, on asyncio."""

from __future__ import annotations

from plugin.ownership.program import Program

FINALIZED = (
    Program(
        "of_request",
        """
        async def test_NAME_TWIN(request):
            scheduler = Scheduler()
            scheduler.submit(forever)

            def end_NAME_TWIN():
                for job in scheduler.jobs:
                    job.cancel()  # teardown

            request.addfinalizer(end_NAME_TWIN)
        """,
        owner="finalizer test_NAME_leak.<locals>.end_NAME_leak",
    ),
    Program(
        "of_node",
        """
        def end_NAME_TWIN(client):
            client.reader.cancel()  # teardown

        async def test_NAME_TWIN(request):
            client = Client()
            client.ask()
            request.addfinalizer(print)
            request.node.addfinalizer(functools.partial(end_NAME_TWIN, client))
        """,
        owner="finalizer end_NAME_leak",
    ),
    Program(
        "of_class",
        """
        class TestClass_NAME_TWIN:
            async def test_NAME_TWIN(self, request, loop_of_session):
                client = Client()
                client.ask()

                def end_NAME_TWIN():
                    reader = client.reader
                    reader.cancel()  # teardown

                request.node.getparent(pytest.Class).addfinalizer(end_NAME_TWIN)
        """,
        owner="finalizer TestClass_NAME_leak.test_NAME_leak.<locals>.end_NAME_leak",
        needs_wide_loop=True,
    ),
    Program(
        "of_node_in_fixture",
        """
        @pytest.fixture
        def fixture_NAME_TWIN(request, loop_is_older):
            scheduler = Scheduler()

            def end_NAME_TWIN():
                for job in scheduler.jobs:
                    job.cancel()  # teardown

            request.node.addfinalizer(end_NAME_TWIN)
            return weakref.proxy(scheduler)

        async def test_NAME_TWIN(fixture_NAME_TWIN):
            fixture_NAME_TWIN.submit(forever)
        """,
        owner="finalizer fixture_NAME_leak.<locals>.end_NAME_leak",
    ),
)
