"""Tests that nothing we know runs: neither asyncio nor Trio, or a Trio that is no longer the imported one."""

from __future__ import annotations

from pathlib import Path

import pytest
from plugin.project import Run, run_pytest

CONFTEST = """
    import inspect
    import pytest

    def drive(coroutine):
        try:
            while True:
                coroutine.send(None)
        except StopIteration as stop:
            return stop.value

    async def next_of(generator):
        return await anext(generator, None)

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(pyfuncitem):
        if not inspect.iscoroutinefunction(pyfuncitem.obj):
            return None
        names = pyfuncitem._fixtureinfo.argnames
        drive(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
        return True

    @pytest.hookimpl(tryfirst=True)
    def pytest_fixture_setup(fixturedef, request):
        function = fixturedef.func
        if inspect.iscoroutinefunction(function):
            value = drive(function())
        elif inspect.isasyncgenfunction(function):
            generator = function()
            value = drive(next_of(generator))
            request.addfinalizer(lambda: drive(next_of(generator)))
        else:
            return None
        fixturedef.cached_result = value, fixturedef.cache_key(request), None
        return value
"""

BY_HAND = """
    import asyncio
    import pytest

    class Turn:
        def __await__(self):
            yield

    torn_down = []

    @pytest.fixture
    async def one():
        await Turn()
        return 1

    @pytest.fixture
    async def two():
        await Turn()
        yield 2
        await Turn()
        torn_down.append(2)

    async def test_passes(one, two):
        await Turn()
        assert one + two == 3

    async def test_fails(two):
        await Turn()
        assert torn_down == [2] and two == 3

    @pytest.mark.taskscope(timeout=60, find=["tasks", "timers", "threads"])
    async def test_asks_for_more(one):
        await Turn()

    async def forever():
        await asyncio.Event().wait()

    async def leave():
        asyncio.create_task(forever())
        await asyncio.sleep(0)

    def test_leak():
        asyncio.run(leave())
"""


@pytest.fixture(scope="module")
def by_hand(tmp_path_factory: pytest.TempPathFactory) -> Run:
    files = {"conftest.py": CONFTEST, "test_it.py": BY_HAND}
    return run_pytest(tmp_path_factory.mktemp("by_hand"), files, ini="taskscope = true")


def test_what_another_library_runs_is_left_alone(by_hand: Run) -> None:
    outcomes = by_hand.outcomes()
    del outcomes["test_leak"]
    assert outcomes == {"test_passes": "passed", "test_fails": "failed", "test_asks_for_more": "passed"}, by_hand.output
    assert "two == 3" in by_hand.phase("test_fails").text
    assert "taskscope" not in by_hand.phase("test_fails").text


def test_what_asyncio_runs_beside_it_is_not(by_hand: Run) -> None:
    assert "1 task outlived scope" in by_hand.phase("test_leak").text


IMPORTING = """
    import sys

    def test_of_what_is_imported():
        old = sys.modules["trio"]
        for name in list(sys.modules):
            if name.startswith("trio"):
                del sys.modules[name]
        import trio
        assert trio is not old
"""

# As a module of each of two names, of which one runs before that and one after it.
ON_TRIO = """
    import contextvars
    import pytest
    import trio

    pytestmark = pytest.mark.taskscope(grace=0.1)

    async def forever():
        await trio.sleep_forever()

    async def leave():
        trio.lowlevel.spawn_system_task(forever, context=contextvars.copy_context())
        await trio.lowlevel.checkpoint()

    @pytest.mark.trio
    async def test_clean_NAME():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.lowlevel.checkpoint)

    @pytest.mark.trio
    async def test_leak_NAME():
        await leave()

    def test_sync_clean_NAME():
        trio.run(trio.lowlevel.checkpoint)

    def test_sync_leak_NAME():
        trio.run(leave)
"""


@pytest.fixture(scope="module")
def on_trio(tmp_path_factory: pytest.TempPathFactory) -> Run:
    files = {f"test_{name}.py": ON_TRIO.replace("NAME", name) for name in ("a", "c")} | {"test_b.py": IMPORTING}
    return run_pytest(
        tmp_path_factory.mktemp("on_trio"), files, plugins=("pytest_trio.plugin",), ini="taskscope = true"
    )


@pytest.mark.parametrize("name", ["a", "c"], ids=["before", "after"])
def test_trio_is_tracked_when_another_one_has_been_imported_as_well(on_trio: Run, name: str) -> None:
    outcomes = on_trio.outcomes()
    assert outcomes["test_of_what_is_imported"] == "passed"
    for kind in ("", "sync_"):
        assert outcomes[f"test_{kind}clean_{name}"] == "passed", on_trio.output
        assert "1 task outlived scope" in on_trio.phase(f"test_{kind}leak_{name}").text


def test_a_trio_that_is_imported_again_before_any_of_it_runs(tmp_path: Path) -> None:
    files = {"test_a.py": IMPORTING, "test_b.py": ON_TRIO.replace("NAME", "b")}
    run = run_pytest(
        tmp_path, files, "-k", "imported or clean", plugins=("pytest_trio.plugin",), ini="taskscope = true"
    )
    assert set(run.outcomes().values()) == {"passed"}, run.output
    assert run.code == 0
