"""The proof in programs on AnyIO: its books of tasks wake nobody, and who really holds a cancel scope is alive."""

from __future__ import annotations

import asyncio

import anyio
import pytest
from conftest import Run

from taskscope import TaskScope


@pytest.mark.parametrize("how", ["directly", "in a group"])
def test_what_the_host_does_when_it_goes_on_can_wake_a_task(run: Run, how: str) -> None:
    async def host() -> None:
        event = asyncio.Event()
        async with TaskScope(grace=0, on_leak="ignore") as scope:
            asyncio.create_task(event.wait())
            await asyncio.sleep(0)
        assert [leak.verdict for leak in scope.report.leaks] == ["blocked"]
        event.set()

    async def main() -> None:
        if how == "directly":
            await host()
            return
        async with anyio.create_task_group() as group:
            group.start_soon(host)

    run(main)
