"""A test that is aborted by a signal handler, as pytest-timeout does it, has not left the task in which it ran."""

from __future__ import annotations

from pathlib import Path

import pytest
from plugin.project import Run, run_pytest

ABORTED = """
    import asyncio
    import signal
    import unittest

    import pytest

    def abort(*args):
        pytest.fail("it takes too long")

    @pytest.fixture(autouse=True)
    def alarm():
        before = signal.signal(signal.SIGALRM, abort)
        yield
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

    @pytest.fixture
    def anyio_backend():
        return "asyncio"

    async def hang():
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        await asyncio.sleep(3_600)

    class Case(unittest.IsolatedAsyncioTestCase):
        async def test_case(self):
            await hang()

        async def test_case_leaks(self):
            asyncio.create_task(asyncio.sleep(3_600))

    @pytest.mark.asyncio
    async def test_pytest_asyncio():
        await hang()

    @pytest.mark.anyio
    async def test_anyio():
        await hang()

    def test_run():
        asyncio.run(hang())
    """
CLEAN = ["test_case", "test_pytest_asyncio", "test_anyio", "test_run"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder: Path = tmp_path_factory.mktemp("aborted")
    plugins = ("pytest_asyncio.plugin", "anyio")
    return run_pytest(folder, {"test_it.py": ABORTED}, plugins=plugins, ini="taskscope = true\nasyncio_mode = strict")


def test_they_fail(run: Run) -> None:
    assert run.outcomes() == dict.fromkeys([*CLEAN, "test_case_leaks"], "failed"), run.output


@pytest.mark.parametrize("test", CLEAN)
def test_it_has_left_nothing(test: str, run: Run) -> None:
    assert not run.findings_of(test)


def test_a_task_that_one_beside_it_has_left_is_told(run: Run) -> None:
    (finding,) = run.findings_of("test_case_leaks")
    assert [leak["coroutine"] for leak in finding["report"]["leaks"]] == ["sleep"]
