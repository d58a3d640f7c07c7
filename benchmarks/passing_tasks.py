"""Whether memory grows with the tasks that pass through one scope: the process's RSS at 10 % of them and at the end.

`python -m benchmarks.passing_tasks SUBJECT COUNT` is one measurement, in a process of its own.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec

from benchmarks import subjects
from benchmarks.effort import Effort
from benchmarks.figures import Goal, Row
from benchmarks.spawning import yields_once
from benchmarks.subjects import Subject

GOAL = 10.0
MEGABYTE = 1024 * 1024
# So many live at a time: more than a scope sweeps without watching some of them end.
BATCH = 100
SUBJECTS = {subject.name: subject for subject in (subjects.BARE, subjects.SITE)}


@dataclass(frozen=True)
class PassingTasks:
    """One benchmark. Its figures are differences, so there are no ratios."""

    name: str = "memory growth of one scope"

    def run(self, effort: Effort) -> list[Row]:
        label = f"{effort.passing_tasks:,} tasks"
        rows: list[Row] = []
        for subject in SUBJECTS:
            row = Row(self.name, f"{subject}, {label}", "MB")
            if find_spec("resource") is None:
                row.note = "not measured on this system"
            else:
                row.samples.append(_in_new_process(subject, effort.passing_tasks))
            if subject == subjects.SITE.name:
                row.goal = Goal(GOAL, "samples")
            rows.append(row)
        return rows


def _in_new_process(subject: str, count: int) -> float:
    command = [sys.executable, "-m", "benchmarks.passing_tasks", subject, str(count)]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


async def growth(subject: Subject, count: int) -> float:
    """MB by which the process has grown between a tenth of the tasks and the last."""
    async with subject.enter() as spawn:
        await _pass(spawn, count // 10)
        early = _resident_bytes()
        await _pass(spawn, count - count // 10)
        return (_resident_bytes() - early) / MEGABYTE


async def _pass(spawn: subjects.Spawn, count: int) -> None:
    for _ in range(count // BATCH):
        for task in [spawn(yields_once()) for _ in range(BATCH)]:
            await task


def _resident_bytes() -> int:
    """RSS of this process; its peak where the system does not tell the present one."""
    import resource  # there is none on Windows

    try:
        with open("/proc/self/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * resource.getpagesize()
    except FileNotFoundError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def benchmarks() -> list[PassingTasks]:
    return [PassingTasks()]


if __name__ == "__main__":
    print(asyncio.run(growth(SUBJECTS[sys.argv[1]], int(sys.argv[2])), debug=False))
