"""A scope's context in a thread that runs the other library: the scope there is its own, and ours is not touched."""

from __future__ import annotations

import asyncio
from typing import Any

import trio

import taskscope
from taskscope import Report, TaskScope


async def _spawn_on_asyncio() -> Report:
    taskscope.install()
    await asyncio.create_task(asyncio.sleep(0))
    async with TaskScope("within", grace=0, on_leak="ignore") as scope:
        asyncio.create_task(asyncio.Event().wait())
        await asyncio.sleep(0)
    return scope.report


async def _spawn_on_trio() -> Report:
    taskscope.install()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.lowlevel.checkpoint)
        async with TaskScope("within", grace=0, on_leak="ignore") as scope:
            nursery.start_soon(trio.sleep_forever)
            await trio.lowlevel.checkpoint()
    return scope.report


def test_a_trio_scope_leaves_alone_what_asyncio_spawns_in_a_thread_of_its() -> None:
    async def main() -> tuple[Report, Report]:
        async with TaskScope("without") as scope:
            inner: Any = await trio.to_thread.run_sync(lambda: asyncio.run(_spawn_on_asyncio()))
        return scope.report, inner

    _check(*trio.run(main))


def test_an_asyncio_scope_leaves_alone_what_trio_spawns_in_a_thread_of_its() -> None:
    async def main() -> tuple[Report, Report]:
        async with TaskScope("without") as scope:
            inner = await asyncio.to_thread(trio.run, _spawn_on_trio)
        return scope.report, inner

    _check(*asyncio.run(main()))


def _check(outer: Report, inner: Report) -> None:
    assert outer.ok
    assert outer.spawned == 0
    assert outer.inherited == ()
    assert [record.outcome for record in inner.leaks] == ["cancelled"]
