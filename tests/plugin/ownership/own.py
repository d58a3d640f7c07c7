"""What is a test's own, on asyncio, though it has to do with something that a fixture has made."""

from __future__ import annotations

from plugin.ownership.program import Program

OWN = (
    Program(
        "waits_on_queue",
        """
        @pytest.fixture
        async def NAME_TWIN():
            yield asyncio.Queue()

        async def test_NAME_TWIN(NAME_TWIN):
            async def consume():
                await NAME_TWIN.get()
            task = asyncio.create_task(consume())  # spawned here
            await asyncio.sleep(0)
            await end(task)  # teardown
        """,
        owner="test_NAME_leak",
    ),
    Program(
        "waits_on_others",
        """
        @pytest.fixture
        async def NAME_TWIN():
            lock = asyncio.Lock()
            await lock.acquire()
            future = asyncio.get_running_loop().create_future()
            task = asyncio.create_task(forever())
            yield types.SimpleNamespace(event=asyncio.Event(), lock=lock, future=future, task=task)
            await end(task)

        async def test_NAME_TWIN(NAME_TWIN):
            async def wait(thing):
                await (thing.acquire() if hasattr(thing, "acquire") else thing.wait())
            async def join(future):
                await asyncio.wait([future])
            tasks = [
                asyncio.create_task(wait(NAME_TWIN.event)),  # spawned here
                asyncio.create_task(NAME_TWIN.event.wait()),  # spawned here
                asyncio.create_task(wait(NAME_TWIN.lock)),  # spawned here
                asyncio.create_task(join(NAME_TWIN.future)),  # spawned here
                asyncio.create_task(join(NAME_TWIN.task)),  # spawned here
            ]
            await asyncio.sleep(0)
            await end(*tasks)  # teardown
        """,
        owner="test_NAME_leak",
    ),
    Program(
        "own_object",
        """
        @pytest.fixture
        async def NAME_TWIN():
            client = Client()
            yield client
            await client.aclose()

        async def test_NAME_TWIN(NAME_TWIN):
            mine = Client()
            mine.inbox = NAME_TWIN.inbox
            mine.ask()
            await asyncio.sleep(0)
            await mine.aclose()  # teardown
        """,
        owner="test_NAME_leak",
    ),
    Program(
        "spawned_in_method_of_fixtures",
        """
        class Runner_TWIN:
            def start(self, function):
                return asyncio.create_task(function())  # spawned here

        @pytest.fixture
        async def NAME_TWIN():
            yield Runner_TWIN()

        async def test_NAME_TWIN(NAME_TWIN):
            task = NAME_TWIN.start(forever)
            await asyncio.sleep(0)
            await end(task)  # teardown
        """,
        owner="test_NAME_leak",
    ),
    Program(
        "cancelled_with_all_others",
        """
        @pytest.fixture
        async def NAME_TWIN():
            yield
            await end(*(task for task in asyncio.all_tasks() if task.get_coro().__name__ == "forever"))

        async def test_NAME_TWIN(NAME_TWIN):
            task = asyncio.create_task(forever())  # spawned here
            await asyncio.sleep(0)
            await end(task)  # teardown
        """,
        owner="test_NAME_leak",
    ),
    Program(
        "passed_to_mock",
        """
        @pytest.fixture
        async def NAME_TWIN():
            mock = AsyncMock()
            yield mock
            mock.assert_awaited_once()

        async def test_NAME_TWIN(NAME_TWIN):
            mine = Client()
            mine.ask()
            await NAME_TWIN(mine)
            NAME_TWIN.connection.send(client=mine)
            await asyncio.sleep(0)
            await mine.aclose()  # teardown
        """,
        owner="test_NAME_leak",
    ),
    Program(
        "passed_to_function_in_place",
        """
        def send_NAME_TWIN(client):
            pass

        @pytest.fixture
        async def NAME_TWIN():
            with patch(f"{__name__}.send_NAME_TWIN", autospec=True) as mock:
                yield mock

        async def test_NAME_TWIN(NAME_TWIN):
            mine = Client()
            mine.ask()
            send_NAME_TWIN(mine)
            await asyncio.sleep(0)
            await mine.aclose()  # teardown
        """,
        owner="test_NAME_leak",
    ),
    Program(
        "on_its_instance",
        """
        class TestClass_NAME_TWIN:
            @pytest.fixture(autouse=True)
            async def NAME_TWIN(self):
                self.log = []
                yield
                self.log.clear()

            @pytest.fixture(autouse=True)
            def other_NAME_TWIN(self):
                self.name = "name"
                yield

            async def test_NAME_TWIN(self):
                self.task = asyncio.create_task(forever())  # spawned here
                await asyncio.sleep(0)
                await end(self.task)  # teardown
        """,
        owner="test_NAME_leak",
    ),
)
