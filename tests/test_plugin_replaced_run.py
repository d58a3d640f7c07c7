"""Tests that put something of their own in the place of what runs a loop: it is called, and undone, as without us."""

from __future__ import annotations

from pathlib import Path

import pytest
from plugin.project import Run, run_pytest

# Where `asyncio.run` and `trio.run` lead, and what a test runs there.
_ON_ASYNCIO = """
import asyncio

WHERE, NAME = asyncio.Runner, "run"

def run(function):
    return asyncio.run(function())

async def leak():
    asyncio.create_task(asyncio.Event().wait())

async def hang():
    await asyncio.Event().wait()

async def clean():
    await asyncio.create_task(asyncio.sleep(0))
"""

_ON_TRIO = """
import trio

WHERE, NAME, run = trio._core._run, "unrolled_run", trio.run

async def hang():
    await trio.Event().wait()

async def clean():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep, 0)
"""

# Says at the end of the run what is there, and how often each test's own was called.
_CONFTEST = """
import pytest
from place import NAME, WHERE

original = getattr(WHERE, NAME)
calls = []

def depth():
    function, found = getattr(WHERE, NAME), 0
    while hasattr(function, "__wrapped__"):
        function, found = function.__wrapped__, found + 1
    return found

def make(name):
    inner = getattr(WHERE, NAME)

    def own(*args, **kwargs):
        calls.append(name)
        return inner(*args, **kwargs)

    return own

@pytest.fixture
def replaced(monkeypatch, request):
    monkeypatch.setattr(WHERE, NAME, make(request.node.name))

@pytest.fixture(scope="module")
def replaced_in_module():
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(WHERE, NAME, make("module"))
        yield

@pytest.fixture(autouse=True)
def not_deeper():
    before = depth()
    assert before <= 1
    yield

def pytest_unconfigure():
    print("put back:", getattr(WHERE, NAME) is original)
    print("calls:", *calls)
"""


def _run(folder: Path, place: str, tests: str) -> Run:
    return run_pytest(
        folder,
        {"place.py": place, "conftest.py": _CONFTEST, "test_it.py": tests},
        "-s",
        plugins=("anyio.pytest_plugin",),
        ini="taskscope = true\ntaskscope_grace = 0.05\nanyio_mode = auto",
    )


def _not_passed(run: Run) -> set[str]:
    return {test for test, outcome in run.outcomes().items() if outcome != "passed"}


@pytest.fixture(params=[_ON_ASYNCIO, _ON_TRIO], ids=["asyncio", "trio"])
def place(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


def test_one_that_a_test_puts_there_over_and_over(tmp_path: Path, place: str) -> None:
    tests = """
        import pytest
        from conftest import make
        from place import NAME, WHERE, clean, hang, run

        @pytest.mark.parametrize("number", range(5))
        def test_own(monkeypatch, number):
            monkeypatch.setattr(WHERE, NAME, make("own"))
            run(clean)

        async def test_between():
            pass

        def test_hang():
            run(hang)
        """
    run = _run(tmp_path, place, tests)
    assert _not_passed(run) == {"test_hang"}, run.output
    assert "put back: True" in run.output
    assert f"calls:{' own' * 5}\n" in run.output


@pytest.mark.parametrize("fixture", ["replaced", "replaced_in_module"])
def test_what_is_run_by_a_fixtures_is_watched_once(tmp_path: Path, fixture: str) -> None:
    tests = """
        import pytest
        from place import clean, leak, run

        def test_before():
            run(clean)

        @pytest.mark.usefixtures("FIXTURE")
        class TestClass:
            def test_leak(self):
                run(leak)

            async def test_async(self):
                pass

            def test_clean(self):
                run(clean)

        def test_leak_after():
            run(leak)
        """
    run = _run(tmp_path, _ON_ASYNCIO, tests.replace("FIXTURE", fixture))
    assert _not_passed(run) == {"test_leak", "test_leak_after"}, run.output
    assert run.phase("test_leak").text.count("outlived scope") == 1
    assert "put back: True" in run.output
    calls = "test_leak test_clean" if fixture == "replaced" else "module module module"
    assert f"calls: {calls}\n" in run.output


def test_a_mock_is_called_as_without_us(tmp_path: Path) -> None:
    tests = """
        import asyncio
        import unittest.mock
        import pytest

        @pytest.fixture
        def mock():
            with unittest.mock.patch.object(asyncio.Runner, "run") as mock:
                yield mock

        def test_before():
            asyncio.run(asyncio.sleep(0))

        def test_mock(mock):
            with asyncio.Runner() as runner:
                runner.run("main")
            mock.assert_called_once_with("main")
        """
    run = _run(tmp_path, _ON_ASYNCIO, tests)
    assert run.outcomes() == {"test_before": "passed", "test_mock": "passed"}, run.output
    assert "put back: True" in run.output
