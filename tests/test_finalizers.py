"""What an object's `__del__` can wake is not proven to be stuck: that runs when nobody holds the object any more."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from conftest import Run
from plugin.project import run_pytest

from taskscope import Report, TaskScope


class Transport:
    """Has what a task waits for. Its task holds it, as it holds its client's."""

    def __init__(self, stop: Any) -> None:
        self.stop = stop

    async def hold(self) -> None:
        await self.stop.wait()


class StoppedInTheEnd(Transport):
    def __del__(self) -> None:
        self.stop.set()


# What a failed test had in variables lives on with the traceback, and is let go with that.
FAILED = """
    import asyncio
    import pytest

    class Transport:
        def __init__(self):
            self.stop = asyncio.Event()
            self.itself = self

    class StoppedInTheEnd(Transport):
        def __del__(self):
            self.stop.set()

    async def hold(stop):
        await stop.wait()

    @pytest.mark.parametrize("kind", [Transport, StoppedInTheEnd])
    async def test_fails(kind):
        transport = kind()
        asyncio.create_task(hold(transport.stop))
        await asyncio.sleep(0)
        raise ValueError
"""

KINDS = ("Transport", "StoppedInTheEnd")
VERDICTS = pytest.mark.parametrize(
    ("kind", "verdict"), [(Transport, "deadlocked"), (StoppedInTheEnd, "blocked")], ids=["without", "with"]
)


@VERDICTS
def test_what_a_task_holds(kind: type[Transport], verdict: str, run_asyncio: Run) -> None:
    async def main() -> Report:
        async with TaskScope(grace=0, on_leak="ignore") as scope:
            asyncio.create_task(kind(asyncio.Event()).hold())
            await asyncio.sleep(0)
        return scope.report

    (leak,) = run_asyncio(main).leaks
    assert leak.verdict == verdict


@VERDICTS
def test_what_a_task_of_trios_holds(kind: type[Transport], verdict: str) -> None:
    async def main() -> Report:
        async with trio.open_nursery() as nursery:
            async with TaskScope(grace=0, on_leak="ignore") as scope:
                nursery.start_soon(kind(trio.Event()).hold)
                await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        return scope.report

    (leak,) = trio.run(main).leaks
    assert leak.verdict == verdict


def test_what_a_failed_test_holds(tmp_path: Path) -> None:
    ini = "taskscope = true\nasyncio_mode = auto\n"
    run = run_pytest(tmp_path, {"test_it.py": FAILED}, plugins=("pytest_asyncio.plugin",), ini=ini)
    verdicts = [run.findings_of(f"test_fails[{kind}]")[0]["report"]["leaks"][0]["verdict"] for kind in KINDS]
    assert verdicts == ["deadlocked", "blocked"]
