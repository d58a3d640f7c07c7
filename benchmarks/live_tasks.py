"""How much memory a pending task takes beyond what it takes without anybody tracking it."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from benchmarks import subjects
from benchmarks.effort import Effort
from benchmarks.figures import Goal, Row, rotated
from benchmarks.subjects import Spawn, Subject

# Just past the number (2,730) at which a dict has to grow: most of its room is unused, which is the least favourable
# moment to look.
TASKS = 2_800
GOAL = 300.0

# Spawns TASKS tasks that wait for the future, and returns when all have started.
Arrangement = Callable[[Spawn, "asyncio.Future[None]"], Coroutine[Any, Any, "list[asyncio.Task[Any]]"]]


async def by_one(spawn: Spawn, over: asyncio.Future[None]) -> list[asyncio.Task[Any]]:
    """All tasks are spawned at one place by one task, so they can share what is noted about that."""
    tasks = [spawn(_wait_for(over)) for _ in range(TASKS)]
    await asyncio.sleep(0)
    return tasks


async def in_pairs(spawn: Spawn, over: asyncio.Future[None]) -> list[asyncio.Task[Any]]:
    """Each second task is spawned by one that lives on, as a connection's handler spawns what writes to it."""
    spawned: list[asyncio.Task[Any]] = []

    async def spawn_another() -> None:
        spawned.append(spawn(_wait_for(over)))
        await over

    spawners = [spawn(spawn_another()) for _ in range(TASKS // 2)]
    await asyncio.sleep(0)  # the spawners start
    await asyncio.sleep(0)  # and what they have spawned
    return spawners + spawned


async def in_a_chain(spawn: Spawn, over: asyncio.Future[None]) -> list[asyncio.Task[Any]]:
    """Each task is spawned by the one before: none can share what is noted, and spawn chains are long.

    Most of what this takes is a frame object for each: looking at the frame of a spawner makes one, which then lives
    as long as the spawner's code runs.
    """
    tasks: list[asyncio.Task[Any]] = []
    all_started = asyncio.get_running_loop().create_future()

    async def spawn_next() -> None:
        if len(tasks) < TASKS:
            tasks.append(spawn(spawn_next()))
        else:
            all_started.set_result(None)
        await over

    tasks.append(spawn(spawn_next()))
    await all_started
    return tasks


async def _wait_for(over: asyncio.Future[None]) -> None:
    await over


@dataclass(frozen=True)
class LiveTasks:
    """One benchmark. Every figure is the subject's bytes per task minus those of bare asyncio in the same round."""

    name: str
    arrange: Arrangement
    subjects: tuple[Subject, ...]
    goal: float | None = None

    def run(self, effort: Effort) -> list[Row]:
        rows = {subject: Row(self.name, subject.name, "B per task") for subject in self.subjects}
        for subject, row in rows.items():
            if not subject.is_installed:
                row.note = "not installed"
            if self.goal is not None and subject is subjects.SITE:
                row.goal = Goal(self.goal, "samples")
        present = [subject for subject in self.subjects if subject.is_installed]
        self._sample(subjects.BARE)  # asyncio's own registry grows to this size once and never shrinks
        for round_number in range(effort.memory_rounds):
            bare = self._sample(subjects.BARE)
            for subject in rotated(present, round_number):
                rows[subject].samples.append(self._sample(subject) - bare)
        return list(rows.values())

    def _sample(self, subject: Subject) -> float:
        with asyncio.Runner(debug=False, loop_factory=asyncio.new_event_loop) as runner:
            return runner.run(self._measure(subject))

    async def _measure(self, subject: Subject) -> float:
        over = asyncio.get_running_loop().create_future()
        async with subject.enter() as spawn:
            gc.collect()  # empties the free lists too: what comes from them would not be counted
            tracemalloc.start()
            try:
                tasks = await self.arrange(spawn, over)
                gc.collect()
                taken, _ = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            over.set_result(None)
            for task in tasks:
                await task
        return taken / TASKS


def benchmarks() -> list[LiveTasks]:
    scopes = (subjects.SITE, subjects.OFF, subjects.STACK, subjects.TASK_GROUP)
    everybody = (*scopes, subjects.AIOMONITOR, subjects.DEBUG_MODE, subjects.PYLEAK)
    return [
        LiveTasks("memory per live task, all spawned by one", by_one, everybody, GOAL),
        LiveTasks("memory per live task, in pairs", in_pairs, scopes, GOAL),
        LiveTasks("memory per live task, in a chain", in_a_chain, scopes),
    ]
