"""What it costs to enter and leave a scope that stays clean, with other tasks alive on the loop."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.util import find_spec

import taskscope
from benchmarks.effort import Effort
from benchmarks.figures import Goal, Row, ratios, rotated

FOREIGN_TASKS = (0, 1_000, 10_000, 100_000)
GOAL = 6.0
# "The same" with 100,000 tasks as with none, within what caches and a busy machine make of it.
FLAT_GOAL = 1.10

TASKSCOPE = "taskscope"
TASK_GROUP = "asyncio.TaskGroup"
PYLEAK = "pyleak"


async def _taskscope(times: int) -> None:
    for _ in range(times):
        async with taskscope.TaskScope():
            pass


async def _task_group(times: int) -> None:
    for _ in range(times):
        async with asyncio.TaskGroup():
            pass


async def _pyleak(times: int) -> None:
    import pyleak

    for _ in range(times):
        async with pyleak.no_task_leaks(action="raise"):
            pass


SUBJECTS: dict[str, Callable[[int], Awaitable[None]]] = {
    TASK_GROUP: _task_group,
    TASKSCOPE: _taskscope,
    PYLEAK: _pyleak,
}


@dataclass(frozen=True)
class EnteringAndLeaving:
    """One benchmark. `asyncio.TaskGroup` is the baseline of the ratios: asyncio has nothing that is barer."""

    name: str = "enter and leave a clean scope"

    def run(self, effort: Effort) -> list[Row]:
        rows = {
            (foreign, subject): Row(self.name, f"{subject}, {foreign:,} foreign tasks", "us")
            for foreign in FOREIGN_TASKS
            for subject in SUBJECTS
        }
        present = [subject for subject in SUBJECTS if subject != PYLEAK or find_spec("pyleak") is not None]
        for round_number in range(effort.scope_rounds):
            for foreign in rotated(list(FOREIGN_TASKS), round_number):
                with asyncio.Runner(debug=False, loop_factory=asyncio.new_event_loop) as runner:
                    order = rotated(present, round_number)
                    for subject, sample in runner.run(_measure(order, foreign, effort.scopes)).items():
                        rows[foreign, subject].samples.append(sample)
        for (foreign, subject), row in rows.items():
            if subject not in present:
                row.note = "not installed"
            elif subject != TASK_GROUP:
                row.ratios = ratios(row.samples, rows[foreign, TASK_GROUP].samples)
            if subject == TASKSCOPE:
                row.goal = Goal(GOAL, "samples")
        return [*rows.values(), self._flatness(rows)]

    def _flatness(self, rows: dict[tuple[int, str], Row]) -> Row:
        least, most = FOREIGN_TASKS[0], FOREIGN_TASKS[-1]
        row = Row(self.name, f"taskscope, {most:,} foreign tasks to {least}", "us", goal=Goal(FLAT_GOAL, "ratios"))
        row.samples = rows[most, TASKSCOPE].samples
        row.ratios = ratios(row.samples, rows[least, TASKSCOPE].samples)
        return row


async def _measure(order: list[str], foreign: int, times: int) -> dict[str, float]:
    over = asyncio.get_running_loop().create_future()
    tasks = [asyncio.create_task(_wait_for(over)) for _ in range(foreign)]
    await asyncio.sleep(0)
    found: dict[str, float] = {}
    for subject in order:
        enter_and_leave = SUBJECTS[subject]
        # pyleak sleeps for 10 ms each time and then looks at all tasks
        count = times if subject != PYLEAK else 3
        await enter_and_leave(min(count, 100))
        gc.collect()
        start = time.perf_counter()
        await enter_and_leave(count)
        found[subject] = (time.perf_counter() - start) / count * 1e6
    over.set_result(None)
    for task in tasks:
        await task
    return found


async def _wait_for(over: asyncio.Future[None]) -> None:
    await over


def benchmarks() -> list[EnteringAndLeaving]:
    return [EnteringAndLeaving()]
