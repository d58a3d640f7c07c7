"""Programs as suites have them, in which a test starts tasks that are a fixture's to end.

Each is there twice: as it should be, and as its leaking twin, which does nothing in the lines that end in
`# teardown`. TWIN stands for which of the two it is, NAME for the program's name.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

_TEARDOWN = "# teardown"


@dataclass(frozen=True)
class Program:
    """One program.

    Attributes:
        name: Its tests are `test_NAME_clean` and `test_NAME_leak`, or methods of classes that are named so.
        text: Its source, without imports.
        owner: Who has the leak of the leaking twin: a fixture, by its name, or the test itself.
        spawner: Whether it is the test that has spawned the task, which the report must say.
        needs_wide_loop: Whether it takes a loop that outlives the test.
    """

    name: str
    text: str
    owner: str = "fixture NAME_leak"
    spawner: bool = True
    needs_wide_loop: bool = False

    def twin(self, which: str) -> str:
        lines = textwrap.dedent(self.text).splitlines()
        if which == "leak":
            lines = [_without_statement(line) if line.endswith(_TEARDOWN) else line for line in lines]
        return "\n".join(lines).replace("TWIN", which).replace("NAME", self.name) + "\n"

    @property
    def owner_of_leak(self) -> str:
        return self.owner.replace("NAME", self.name)

    @property
    def is_of_fixture(self) -> bool:
        return self.owner.startswith("fixture")


def _without_statement(line: str) -> str:
    return line[: len(line) - len(line.lstrip())] + "pass"


ASYNCIO_HELPERS = """
import asyncio
import collections
import contextvars
import functools
import threading
import types
import weakref
from unittest.mock import MagicMock

import pytest

@pytest.fixture
async def loop_is_older():
    pass  # for fixtures that are no coroutine functions: this has the loop made before them, and closed after them

@pytest.fixture(scope="session")
async def loop_of_session():
    pass

async def forever():
    await asyncio.Event().wait()

async def end(*tasks):
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)

class Client:
    def __init__(self):
        self.reader = None
        self.inbox = asyncio.Queue()

    def ask(self):
        if self.reader is None:
            self.reader = asyncio.create_task(self.read())  # spawned here

    def ask_and_forget(self):
        asyncio.create_task(self.read_until_told())  # spawned here

    def ask_in_closure(self):
        async def read():
            while await self.inbox.get():
                pass

        asyncio.create_task(read())  # spawned here

    async def read(self):
        await asyncio.Event().wait()

    async def read_until_told(self):
        while await self.inbox.get():
            pass

    async def aclose(self):
        if self.reader is not None:
            await end(self.reader)

    async def say_bye(self):
        self.inbox.put_nowait(None)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

class Scheduler:
    def __init__(self):
        self.jobs = set()

    def submit(self, job):
        task = asyncio.create_task(job())  # spawned here
        self.jobs.add(task)
        task.add_done_callback(self.jobs.discard)

    async def aclose(self):
        await end(*self.jobs)
"""

ASYNCIO_PROGRAMS = (
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
    Program(
        "client",
        """
        @pytest.fixture
        async def NAME_TWIN():
            client = Client()
            yield client
            await client.aclose()  # teardown

        async def test_NAME_TWIN(NAME_TWIN):
            NAME_TWIN.ask()
        """,
    ),
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
        "inner",
        """
        @pytest.fixture
        async def NAME_TWIN():
            scheduler = Scheduler()
            yield scheduler
            await scheduler.aclose()  # teardown

        @pytest.fixture
        async def outer_TWIN(NAME_TWIN):
            yield types.SimpleNamespace(scheduler=NAME_TWIN)

        async def test_NAME_TWIN(outer_TWIN):
            outer_TWIN.scheduler.submit(forever)
        """,
    ),
    Program(
        "asked_for_late",
        """
        @pytest.fixture
        async def NAME_TWIN():
            scheduler = Scheduler()
            yield scheduler
            await scheduler.aclose()  # teardown

        async def test_NAME_TWIN(request, NAME_TWIN):
            NAME_TWIN.submit(forever)
        """,
    ),
    Program(
        "autouse",
        """
        _NAME_TWIN = []

        @pytest.fixture
        async def NAME_TWIN():
            scheduler = Scheduler()
            _NAME_TWIN.append(scheduler)
            yield
            await scheduler.aclose()  # teardown

        @pytest.mark.usefixtures("NAME_TWIN")
        async def test_NAME_TWIN():
            _NAME_TWIN.pop().submit(forever)
        """,
    ),
    Program(
        "fixture_method",
        """
        class TestClass_NAME_TWIN:
            @pytest.fixture(autouse=True)
            async def NAME_TWIN(self):
                self.client = Client()
                yield
                await self.client.aclose()  # teardown

            async def test_NAME_TWIN(self):
                self.client.ask()
        """,
    ),
    Program(
        "set_up_method",
        """
        @pytest.mark.usefixtures("loop_of_session")
        class TestClass_NAME_TWIN:
            def setup_method(self):
                self.scheduler = Scheduler()

            def teardown_method(self):
                for job in self.scheduler.jobs:
                    job.cancel()  # teardown

            async def test_NAME_TWIN(self):
                self.scheduler.submit(forever)
        """,
        owner="fixture _xunit_setup_method_fixture_TestClass_NAME_leak",
        needs_wide_loop=True,
    ),
    Program(
        "mock",
        """
        @pytest.fixture
        async def NAME_TWIN():
            mock = MagicMock()
            mock.client = Client()
            yield mock
            await mock.client.aclose()  # teardown

        async def test_NAME_TWIN(NAME_TWIN):
            NAME_TWIN.client.ask()
        """,
    ),
    Program(
        "dict_of_defaults",
        """
        @pytest.fixture
        async def NAME_TWIN():
            clients = collections.defaultdict(Client)
            yield {"clients": clients}
            for client in clients.values():
                await client.aclose()  # teardown

        async def test_NAME_TWIN(NAME_TWIN):
            NAME_TWIN["clients"]["a"].ask()
        """,
    ),
    Program(
        "weak_reference",
        """
        @pytest.fixture
        async def NAME_TWIN():
            client = Client()
            yield weakref.proxy(client)
            await client.aclose()  # teardown

        async def test_NAME_TWIN(NAME_TWIN):
            NAME_TWIN.ask()
        """,
    ),
    Program(
        "sync_generator",
        """
        @pytest.fixture
        def NAME_TWIN(loop_is_older):
            scheduler = Scheduler()
            yield weakref.proxy(scheduler)
            for job in scheduler.jobs:
                job.cancel()  # teardown

        async def test_NAME_TWIN(NAME_TWIN):
            NAME_TWIN.submit(forever)
        """,
    ),
    Program(
        "add_finalizer",
        """
        @pytest.fixture
        def NAME_TWIN(request, loop_is_older):
            scheduler = Scheduler()
            def finish():
                for job in scheduler.jobs:
                    job.cancel()  # teardown
            request.addfinalizer(finish)
            return functools.partial(submit_NAME_TWIN, weakref.ref(scheduler))

        def submit_NAME_TWIN(scheduler, job):
            scheduler().submit(job)

        async def test_NAME_TWIN(NAME_TWIN):
            NAME_TWIN(forever)
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
    Program(
        "large_neighbour",
        """
        @pytest.fixture
        def data_TWIN():
            return [{"row": [object()]} for _ in range(30_000)]

        @pytest.fixture
        async def NAME_TWIN():
            scheduler = Scheduler()
            yield scheduler
            await scheduler.aclose()  # teardown

        async def test_NAME_TWIN(data_TWIN, NAME_TWIN):
            NAME_TWIN.submit(forever)
        """,
    ),
    Program(
        "hostile",
        """
        class Hostile_TWIN:
            touched = []

            def __init__(self):
                self.scheduler = Scheduler()

            def __getattribute__(self, name):
                if pytest.is_over:
                    object.__getattribute__(self, "touched").append(name)
                return object.__getattribute__(self, name)

            def __getattr__(self, name):
                self.touched.append(name)
                raise ZeroDivisionError(name)

            @property
            def __class__(self):
                self.touched.append("class")
                raise ZeroDivisionError

            def __eq__(self, other):
                raise ZeroDivisionError

            __hash__ = None

            def __bool__(self):
                raise ZeroDivisionError

        @pytest.fixture
        async def NAME_TWIN():
            pytest.is_over = False
            hostile = Hostile_TWIN()
            yield hostile
            assert not Hostile_TWIN.touched
            pytest.is_over = False
            await hostile.scheduler.aclose()  # teardown

        async def test_NAME_TWIN(NAME_TWIN):
            NAME_TWIN.scheduler.submit(forever)
            pytest.is_over = True
        """,
    ),
    # A test's own: that a fixture has made what it waits for does not make it the fixture's.
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
)
