"""What is a test's own stays so: its clocks, what it opens for others to close, the objects that it counts."""

from __future__ import annotations

from pathlib import Path

import pytest
from plugin.project import run_pytest

INI = "taskscope = true\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n"

CLOCKS = """
    import asyncio
    import time
    from unittest import mock

    import pytest

    NAMES = ["perf_counter", "monotonic", "thread_time", "process_time", "time", "sleep"]

    async def turn():
        await asyncio.sleep(0)

    async def leave():
        asyncio.create_task(asyncio.sleep(10))
        await asyncio.sleep(0)

    def refused():
        return mock.Mock(side_effect=AssertionError("somebody has used the clock of the test"))

    @pytest.mark.parametrize("name", NAMES)
    async def test_clean(monkeypatch, name):
        if name != "monotonic":  # the loop's own
            monkeypatch.setattr(time, name, refused())

    @pytest.mark.parametrize("main", [turn, leave])
    @pytest.mark.parametrize("name", NAMES)
    def test_counted(name, main):
        with mock.patch(f"time.{name}", wraps=getattr(time, name)) as clock:
            asyncio.run(turn())
            plain = clock.call_count
        with mock.patch(f"time.{name}", wraps=getattr(time, name)) as clock:
            asyncio.run(main())
            if name != "monotonic":
                assert clock.call_count == plain == 0
"""


def test_no_clock_of_a_test_is_used(tmp_path: Path) -> None:
    run = run_pytest(
        tmp_path,
        {"test_it.py": CLOCKS},
        "--taskscope-on-leak=summary",
        plugins=("pytest_asyncio.plugin",),
        ini=INI,
    )
    assert set(run.outcomes().values()) == {"passed"}, run.output
    assert run.report is not None
    assert len(run.report["findings"]) == 6


OPENED = """
    import contextlib

    import anyio
    import pytest

    pytestmark = pytest.mark.anyio

    @pytest.fixture(params=["asyncio", "trio"])
    def anyio_backend(request):
        return request.param

    class Client:
        async def connect(self):
            self.group = anyio.create_task_group()
            await self.group.__aenter__()
            self.group.start_soon(anyio.sleep_forever)

        async def aclose(self):
            self.group.cancel_scope.cancel()
            await self.group.__aexit__(None, None, None)

    @pytest.fixture
    async def client(anyio_backend):
        client = Client()
        yield client
        await client.aclose()

    @pytest.fixture
    async def stack():
        async with contextlib.AsyncExitStack() as stack:
            yield stack

    async def test_client(client):
        await client.connect()

    async def test_stack(stack):
        group = await stack.enter_async_context(anyio.create_task_group())
        group.start_soon(anyio.sleep, 0.01)

    async def test_after(client):
        await client.connect()
"""


@pytest.mark.parametrize("options", [(), ("--taskscope-timeout=60",), ("--taskscope-on-leak=summary",)])
def test_what_a_test_opens_its_fixtures_may_close(options: tuple[str, ...], tmp_path: Path) -> None:
    run = run_pytest(tmp_path, {"test_it.py": OPENED}, *options, plugins=("anyio",), ini="taskscope = true\n")
    assert len(run.outcomes()) == 6
    assert set(run.outcomes().values()) == {"passed"}, run.output


COUNTED = """
    import asyncio
    import collections
    import gc

    async def spawn():
        await asyncio.create_task(asyncio.sleep(0))

    def counted():
        return collections.Counter(type(obj).__module__ + "." + type(obj).__qualname__ for obj in gc.get_objects())

    def test_nothing_comes_of_it():
        loop = asyncio.new_event_loop()
        loop.run_until_complete(spawn())
        gc.collect()
        gc.disable()
        try:
            before = counted()
            loop.run_until_complete(spawn())
            loop.close()
            new = counted() - before
        finally:
            gc.enable()
        assert [name for name in new if name.startswith("taskscope.")] == []
"""


def test_closing_a_loop_makes_nothing_that_a_test_could_count(tmp_path: Path) -> None:
    run = run_pytest(tmp_path, {"test_it.py": COUNTED}, "--taskscope-on-leak=summary", ini="taskscope = true\n")
    assert run.outcomes() == {"test_nothing_comes_of_it": "passed"}, run.output


GONE = """
    import asyncio
    import gc
    import weakref

    import pytest

    loops = []

    class Client:
        def start(self):
            self.reader = asyncio.create_task(asyncio.sleep(3600))
            loops.append(weakref.ref(asyncio.get_running_loop()))

    @pytest.fixture
    async def client():
        client = Client()
        yield client
        client.reader.cancel()
        await asyncio.wait([client.reader])

    async def test_uses_client(client):
        client.start()

    def test_nothing_keeps_the_loop():
        gc.collect()
        assert len(loops) == 1 and loops[0]() is None
"""


def test_a_loop_on_which_a_fixture_has_ended_a_tests_task_is_not_kept(tmp_path: Path) -> None:
    ini = "taskscope = true\nasyncio_mode = auto\n"
    run = run_pytest(tmp_path, {"test_it.py": GONE}, plugins=("pytest_asyncio.plugin",), ini=ini)
    assert run.outcomes() == {"test_uses_client": "passed", "test_nothing_keeps_the_loop": "passed"}, run.output


DROPPED = """
    import asyncio
    import gc
    import weakref

    import pytest

    class Connection:
        def __init__(self):
            self.reader = asyncio.ensure_future(asyncio.sleep(3600))

        async def itself(self):
            return self

        async def fail(self):
            raise ValueError(self)

        def __del__(self):
            self.reader.cancel()

    @pytest.fixture(autouse=True)
    def no_collector():
        gc.disable()
        yield
        gc.enable()

    async def test_result():
        connection = Connection()
        reader = connection.reader
        task = asyncio.create_task(connection.itself())
        assert await task is connection
        del connection, task
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert reader.cancelled()

    async def test_result_is_dropped_by_the_end():
        connection = Connection()
        assert await asyncio.create_task(connection.itself()) is connection

    async def test_exception():
        told = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context["message"]))
        task = asyncio.create_task(Connection().fail())
        await asyncio.wait([task])
        del task
        await asyncio.sleep(0)
        assert told == ["Task exception was never retrieved"]

    def test_own_loop():
        loop = asyncio.new_event_loop()
        log = []

        async def make():
            connection = Connection()
            weakref.finalize(connection, log.append, "gone")
            return connection

        def use():
            assert loop.run_until_complete(make()) is not None

        use()
        assert log == ["gone"]
        loop.run_until_complete(asyncio.sleep(0.001))  # the reader ends
        loop.close()
"""


def test_what_an_ended_task_has_returned_or_raised_is_let_go_as_without_us(tmp_path: Path) -> None:
    ini = "taskscope = true\nasyncio_mode = auto\n"
    run = run_pytest(tmp_path, {"test_it.py": DROPPED}, plugins=("pytest_asyncio.plugin",), ini=ini)
    tests = ("test_result", "test_result_is_dropped_by_the_end", "test_exception", "test_own_loop")
    assert run.outcomes() == dict.fromkeys(tests, "passed"), run.output
    without = run_pytest(
        tmp_path / "without",
        {"test_it.py": DROPPED},
        plugins=("pytest_asyncio.plugin",),
        ini=ini + "addopts = --no-taskscope\n",
        report=False,
    )
    assert without.outcomes() == run.outcomes(), without.output
