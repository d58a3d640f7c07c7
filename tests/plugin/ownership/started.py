"""What a test starts, on asyncio, that a fixture's object is to end."""

from __future__ import annotations

from plugin.ownership.on_either import CLIENT
from plugin.ownership.program import Program

STARTED = (
    Program(
        "server",
        """
        @pytest.fixture
        async def NAME_TWIN():
            async def handle(reader, writer):
                try:
                    writer.write(await reader.readline())
                    await reader.read()
                finally:
                    writer.close()
            handlers = set()
            def connected(reader, writer):
                handlers.add(asyncio.create_task(handle(reader, writer)))  # spawned here
            server = await asyncio.start_server(connected, "127.0.0.1", 0)
            yield server.sockets[0].getsockname()
            server.close()
            await end(*handlers)  # teardown

        async def test_NAME_TWIN(NAME_TWIN):
            reader, writer = await asyncio.open_connection(*NAME_TWIN)
            writer.write(b"hello\\n")
            assert await reader.readline() == b"hello\\n"
            pytest.writer = writer
        """,
        spawner=False,
    ),
    CLIENT,
    Program(
        "method",
        """
        @pytest.fixture
        async def NAME_TWIN():
            client = Client()
            yield client
            await client.say_bye()  # teardown

        async def test_NAME_TWIN(NAME_TWIN):
            NAME_TWIN.ask_and_forget()
        """,
    ),
    Program(
        "closure_of_method",
        """
        @pytest.fixture
        async def NAME_TWIN():
            client = Client()
            yield client
            await client.say_bye()  # teardown

        async def test_NAME_TWIN(NAME_TWIN):
            NAME_TWIN.ask_in_closure()
        """,
    ),
    Program(
        "scheduler",
        """
        @pytest.fixture
        async def NAME_TWIN():
            scheduler = Scheduler()
            yield scheduler
            await scheduler.aclose()  # teardown

        async def test_NAME_TWIN(NAME_TWIN):
            async def job():
                await forever()
            NAME_TWIN.submit(job)
            await asyncio.sleep(0)
        """,
    ),
    Program(
        "task_of_its_task",
        """
        async def run_NAME_TWIN(client):
            task = asyncio.create_task(forever())  # spawned here
            try:
                await client.read_until_told()
            finally:
                task.cancel()

        @pytest.fixture
        async def NAME_TWIN():
            client = Client()
            yield client
            await client.say_bye()  # teardown

        async def test_NAME_TWIN(NAME_TWIN):
            asyncio.create_task(run_NAME_TWIN(NAME_TWIN))  # spawned here
            await asyncio.sleep(0)
        """,
    ),
    Program(
        "task_group",
        """
        @pytest.fixture
        async def NAME_TWIN():
            stop = asyncio.Event()
            group = asyncio.TaskGroup()
            await group.__aenter__()
            yield types.SimpleNamespace(group=group, stop=stop)
            stop.set()  # teardown
            await group.__aexit__(None, None, None)  # teardown

        async def test_NAME_TWIN(NAME_TWIN):
            NAME_TWIN.group.create_task(NAME_TWIN.stop.wait())  # spawned here
        """,
    ),
    Program(
        "factory",
        """
        @pytest.fixture
        async def NAME_TWIN():
            made = []
            def make():
                made.append(Client())
                return made[-1]
            yield make
            for client in made:
                await client.aclose()  # teardown

        async def test_NAME_TWIN(NAME_TWIN):
            NAME_TWIN().ask()
            NAME_TWIN().ask()
        """,
    ),
    Program(
        "gather",
        """
        class Many_TWIN:
            def start(self, *functions):
                self.all = asyncio.gather(*(function() for function in functions))  # spawned here

            async def aclose(self):
                self.all.cancel()
                await asyncio.wait([self.all])

        @pytest.fixture
        async def NAME_TWIN():
            many = Many_TWIN()
            yield many
            await many.aclose()  # teardown

        async def test_NAME_TWIN(NAME_TWIN):
            NAME_TWIN.start(forever, forever)
            await asyncio.sleep(0)
        """,
    ),
    Program(
        "lost_context",
        """
        class Client_NAME_TWIN(Client):
            def ask(self):
                self.reader = asyncio.create_task(self.read(), context=contextvars.Context())  # spawned here

        @pytest.fixture
        async def NAME_TWIN():
            client = Client_NAME_TWIN()
            yield client
            await client.aclose()  # teardown

        async def test_NAME_TWIN(NAME_TWIN):
            NAME_TWIN.ask()
        """,
    ),
    Program(
        "callback",
        """
        @pytest.fixture
        async def NAME_TWIN():
            scheduler = Scheduler()
            yield scheduler
            await scheduler.aclose()  # teardown

        async def test_NAME_TWIN(NAME_TWIN):
            done = asyncio.Event()
            def submit():
                NAME_TWIN.submit(forever)
                done.set()
            asyncio.get_running_loop().call_soon(submit)
            await done.wait()
        """,
    ),
    Program(
        "thread",
        """
        @pytest.fixture
        async def NAME_TWIN():
            client = Client()
            yield client
            await client.say_bye()  # teardown

        async def test_NAME_TWIN(NAME_TWIN):
            loop = asyncio.get_running_loop()
            def work():
                asyncio.run_coroutine_threadsafe(submit(), loop).result()
            async def submit():
                NAME_TWIN.ask_and_forget()
            await asyncio.to_thread(work)
        """,
    ),
)
