"""What a task costs from its spawn to its end: three shapes of program, on asyncio, on uvloop and started eagerly."""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from benchmarks import subjects
from benchmarks.effort import Effort
from benchmarks.figures import Goal, Row, ratios, rotated
from benchmarks.subjects import Spawn, Subject

Body = Callable[[], Coroutine[Any, Any, None]]
# Spawns about so many tasks, waits for them and tells how many they were.
Shape = Callable[[Spawn, Body, int], Coroutine[Any, Any, int]]

WIDTH = 1_000
WARM_UP = 1_000


async def empty() -> None:
    pass


async def yields_once() -> None:
    await asyncio.sleep(0)


async def one_by_one(spawn: Spawn, body: Body, count: int) -> int:
    for _ in range(count):
        await spawn(body())
    return count


async def fan_out(spawn: Spawn, body: Body, count: int) -> int:
    for _ in range(count // WIDTH):
        tasks = [spawn(body()) for _ in range(WIDTH)]
        for task in tasks:
            await task
    return count


async def nested(spawn: Spawn, body: Body, count: int) -> int:
    """1,000 tasks live side by side, and each of them spawns others one by one."""
    spawners = [spawn(one_by_one(spawn, body, max(1, count // WIDTH))) for _ in range(WIDTH)]
    return WIDTH + sum([await task for task in spawners])


@dataclass(frozen=True)
class Spawning:
    """One benchmark. The first subject is the baseline of the ratios, and `judged` the one that has the goal."""

    name: str
    shape: Shape
    body: Body
    subjects: tuple[Subject, ...]
    new_loop: Callable[[], asyncio.AbstractEventLoop]
    goal: float | None = None
    judged: str = subjects.SITE.name

    def run(self, effort: Effort) -> list[Row]:
        rows = {subject: Row(self.name, subject.name, "us per task") for subject in self.subjects}
        present = [subject for subject in self.subjects if subject.is_installed]
        for round_number in range(effort.spawn_rounds):
            for subject in rotated(present, round_number):
                count = effort.slow_tasks if subject.is_slow else effort.tasks
                rows[subject].samples.append(self._sample(subject, count))
        baseline = rows[self.subjects[0]].samples
        for subject, row in rows.items():
            if not subject.is_installed:
                row.note = "not installed"
            elif subject is not self.subjects[0]:
                row.ratios = ratios(row.samples, baseline)
            if self.goal is not None and subject.name == self.judged:
                row.goal = Goal(self.goal, "ratios")
        return list(rows.values())

    def _sample(self, subject: Subject, count: int) -> float:
        # a fresh loop each time: nobody measures what the one before has left on it
        with asyncio.Runner(debug=False, loop_factory=self.new_loop) as runner:
            return runner.run(self._measure(subject, count)) * 1e6

    async def _measure(self, subject: Subject, count: int) -> float:
        async with subject.enter() as spawn:
            # The interpreter adapts its code to what it sees: without this each would pay for its predecessor.
            await self.shape(spawn, self.body, WARM_UP)
            # The collector stays on, as in the programs that spawn tasks, but each sample starts with none of its
            # predecessor's garbage. What the imported packages hold is frozen (in __main__) for the same reason.
            gc.collect()
            start = time.perf_counter()
            spawned = await self.shape(spawn, self.body, count)
            return (time.perf_counter() - start) / spawned


def benchmarks() -> list[Spawning]:
    scopes = (subjects.BARE, subjects.SITE, subjects.OFF, subjects.STACK, subjects.TASK_GROUP)
    everybody = (*scopes, subjects.AIOMONITOR, subjects.DEBUG_MODE, subjects.PYLEAK)
    empty_goal = 1.30 if sys.version_info >= (3, 14) else 1.25
    on_asyncio = partial(Spawning, new_loop=asyncio.new_event_loop)
    found = [
        on_asyncio("spawn one by one, empty body", one_by_one, empty, everybody, goal=empty_goal),
        on_asyncio("spawn one by one, body yields once", one_by_one, yields_once, everybody, goal=1.12),
        on_asyncio("spawn 1,000 at a time, empty body", fan_out, empty, everybody),
        on_asyncio("spawn 1,000 at a time, body yields once", fan_out, yields_once, everybody),
        on_asyncio("spawn from within 1,000 tasks, empty body", nested, empty, scopes),
        on_asyncio("spawn from within 1,000 tasks, body yields once", nested, yields_once, scopes),
    ]
    return [*found, *_on_uvloop(), *_eager(), *_finding()]


def _on_uvloop() -> list[Spawning]:
    def new_loop() -> asyncio.AbstractEventLoop:
        import uvloop

        return uvloop.new_event_loop()

    pair = (Subject("uvloop", subjects.bare, package="uvloop"), replace(subjects.SITE, package="uvloop"))
    on_uvloop = partial(Spawning, subjects=pair, new_loop=new_loop)
    return [
        on_uvloop("uvloop: spawn one by one, empty body", one_by_one, empty),
        on_uvloop("uvloop: spawn one by one, body yields once", one_by_one, yields_once, goal=1.35),
        on_uvloop("uvloop: spawn 1,000 at a time, empty body", fan_out, empty),
        on_uvloop("uvloop: spawn 1,000 at a time, body yields once", fan_out, yields_once),
    ]


def _eager() -> list[Spawning]:
    if sys.version_info < (3, 12):
        return []
    factory = asyncio.eager_task_factory

    def new_loop() -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        loop.set_task_factory(factory)
        return loop

    pair = (Subject("asyncio, eager task factory", subjects.bare), subjects.SITE)
    eager = partial(Spawning, subjects=pair, new_loop=new_loop)
    return [
        eager("eager: spawn one by one, empty body", one_by_one, empty),
        eager("eager: spawn one by one, body yields once", one_by_one, yields_once),
    ]


def _finding() -> list[Spawning]:
    """That what else a scope looks for is not paid for by its tasks: to one that looks for tasks only."""
    pair = (subjects.SITE, subjects.EVERYTHING)
    judged = subjects.EVERYTHING.name
    finding = partial(Spawning, subjects=pair, new_loop=asyncio.new_event_loop, goal=1.03, judged=judged)
    return [
        finding("find: spawn one by one, empty body", one_by_one, empty),
        finding("find: spawn one by one, body yields once", one_by_one, yields_once),
    ]
