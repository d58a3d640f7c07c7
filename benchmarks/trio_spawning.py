"""What a task of Trio's costs from its spawn to its end: into a nursery inside of the scope, and into one outside."""

from __future__ import annotations

import gc
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass

import trio
import trio.lowlevel

from benchmarks.effort import Effort
from benchmarks.figures import Goal, Row, ratios, rotated
from taskscope import TaskScope

WIDTH = 100
"""Tasks that are alive at once."""

WARM_UP = 1_000


async def one_checkpoint() -> None:
    await trio.lowlevel.checkpoint()


class NoInstrumentOfOurs(trio.abc.Instrument):
    """What any instrument costs that looks at every spawn, whatever it does with it."""

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        pass


def no_scope() -> AbstractAsyncContextManager[object]:
    return nullcontext()


def tagged() -> AbstractAsyncContextManager[object]:
    return TaskScope(grace=5)


async def inside(enter: Callable[[], AbstractAsyncContextManager[object]], count: int) -> float:
    """Spawns into nurseries that are opened inside of the scope. Returns seconds for all."""
    async with enter():
        return await _waves(count)


async def outside(enter: Callable[[], AbstractAsyncContextManager[object]], count: int) -> float:
    """Spawns into a nursery that was opened before the scope, and that its tasks could outlive the scope in."""
    async with trio.open_nursery() as nursery, enter():
        started = time.perf_counter()
        for _ in range(count // WIDTH):
            for _ in range(WIDTH):
                nursery.start_soon(one_checkpoint)
            while nursery.child_tasks:
                await trio.lowlevel.cancel_shielded_checkpoint()
        return time.perf_counter() - started


async def _waves(count: int) -> float:
    started = time.perf_counter()
    for _ in range(count // WIDTH):
        async with trio.open_nursery() as nursery:
            for _ in range(WIDTH):
                nursery.start_soon(one_checkpoint)
    return time.perf_counter() - started


@dataclass(frozen=True)
class TrioSpawning:
    name: str
    shape: Callable[[Callable[[], AbstractAsyncContextManager[object]], int], Awaitable[float]]
    goal: float

    def run(self, effort: Effort) -> list[Row]:
        subjects = {"trio": no_scope, "trio, an empty instrument": no_scope, "taskscope": tagged}
        rows = {subject: Row(self.name, subject, "us per task") for subject in subjects}
        for round_number in range(effort.spawn_rounds):
            for subject in rotated(list(subjects), round_number):
                instruments = [NoInstrumentOfOurs()] if "instrument" in subject else []
                sample = trio.run(self._measure, subjects[subject], effort.tasks, instruments=instruments)
                rows[subject].samples.append(sample)
        for subject, row in rows.items():
            if subject != "trio":
                row.ratios = ratios(row.samples, rows["trio"].samples)
        rows["taskscope"].goal = Goal(self.goal, "ratios")
        return list(rows.values())

    async def _measure(self, enter: Callable[[], AbstractAsyncContextManager[object]], count: int) -> float:
        await self.shape(enter, WARM_UP)
        gc.collect()
        return await self.shape(enter, count) / count * 1e6


def benchmarks() -> list[TrioSpawning]:
    return [
        TrioSpawning("trio: spawn into a nursery inside the scope, one checkpoint", inside, goal=1.20),
        TrioSpawning("trio: spawn into a nursery outside the scope, one checkpoint", outside, goal=2.0),
    ]
