"""A kernel under a scope: what the scope must say about it, and whether it did."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from kernels.kernel import Body, Kernel, Stuck
from taskscope import DeadlockError, Report, ScopeTimeoutError, TaskScope
from taskscope._report import TaskRecord

Shape = Literal["direct", "task"]
"""How a body runs: awaited in the scope, or as a task that is awaited in the scope."""

SHAPES: Final[tuple[Shape, ...]] = ("direct", "task")

WATCH: Final = 0.02
"""Seconds between two looks at the body."""

BODY: Final = "body"
"""The name of the task that runs a body."""


@dataclass(frozen=True)
class Expected:
    """What a scope has to report.

    Attributes:
        body: Where the scope's own body hangs, None where it returns.
        leaks: The sets of tasks of which one must be left behind.
    """

    body: Stuck | None
    leaks: tuple[tuple[Stuck, ...], ...]


@dataclass(frozen=True)
class Outcome:
    """What a scope said.

    Attributes:
        report: The scope's report.
        ended_by: The name of the error by which the scope ended a body that hung. None where the body returned.
        seconds: How long the verdict took: from the end of the body to that of the scope, or from the beginning where
            the scope had to end the body.
        left: Names of the tasks that are still there when the scope has ended.
    """

    report: Report
    ended_by: str | None
    seconds: float
    left: tuple[str, ...]


@dataclass
class Judgement:
    """How good an outcome is.

    Attributes:
        detected: Whether there was a report at all.
        right_task: Whether it names just the tasks that are left behind, and the body if that hangs.
        right_wait: Whether each of them is said to wait where it waits.
        provable, proven: Of the tasks left behind and the body, how many can be proven to be stuck, and how many were.
        misses: Whatever is not as it should be, in words.
    """

    detected: bool = False
    right_task: bool = False
    right_wait: bool = False
    provable: int = 0
    proven: int = 0
    misses: list[str] = field(default_factory=list)


def expected(kernel: Kernel, shape: Shape) -> Expected:
    leaks = (kernel.leaks, *kernel.also)
    if kernel.body is None or shape == "direct":
        return Expected(kernel.body, leaks)
    inner = replace(kernel.body, task=BODY)
    return Expected(Stuck("", "task", kernel.body.provable), tuple((inner, *tasks) for tasks in leaks))


def in_shape(body: Body, shape: Shape) -> Coroutine[Any, Any, object]:
    return body() if shape == "direct" else _as_task(body)


async def _as_task(body: Body) -> None:
    await asyncio.create_task(body(), name=BODY)


async def under_taskscope(body: Body, shape: Shape, timeout: float) -> Outcome:
    """Runs a body in a scope that gives no grace and ends a body that hangs."""
    scope = TaskScope(grace=0, watch=WATCH, timeout=timeout, on_leak="ignore")
    ended_by = None
    started = time.perf_counter()
    try:
        async with scope:
            await in_shape(body, shape)
            started = time.perf_counter()
    except (DeadlockError, ScopeTimeoutError) as error:
        ended_by = type(error).__name__
    seconds = time.perf_counter() - started
    left = asyncio.all_tasks() - {asyncio.current_task()}
    return Outcome(scope.report, ended_by, seconds, tuple(task.get_name() for task in left))


def judge(outcome: Outcome, wanted: Expected) -> Judgement:
    """Compares what a scope said about a buggy body with what it should have."""
    report = outcome.report
    stuck = _nearest(wanted.leaks, report.leaks)
    judgement = Judgement(detected=bool(report.leaks) or outcome.ended_by is not None)
    misses = judgement.misses
    if not judgement.detected:
        misses.append("nothing was reported")
    misses += _misses_of_end(outcome, wanted.body)
    judgement.right_task = _names(stuck) == sorted(record.name for record in report.leaks)
    if not judgement.right_task:
        found = sorted(record.name for record in report.leaks)
        misses.append(f"tasks: {_some(found)} instead of {_some(_names(stuck))}")
    pairs = _pairs(stuck, report.leaks)
    if wanted.body is not None:
        judgement.right_task = judgement.right_task and report.body is not None
        pairs.append((wanted.body, report.body))
    wrong_waits = [miss for expects, record in pairs if (miss := _wrong_wait(expects, record))]
    wrong_verdicts = [miss for expects, record in pairs if (miss := _wrong_verdict(expects, record))]
    judgement.right_wait = not wrong_waits
    judgement.provable = sum(expects.provable for expects, _ in pairs)
    judgement.proven = sum(expects.provable and _is_called_deadlocked(record) for expects, record in pairs)
    misses += [*wrong_waits, *wrong_verdicts]
    misses += [f"{record.name or 'the body'} survived: {record.outcome_detail}" for record in report.survivors]
    misses += [f"{name} is still there after the scope" for name in outcome.left]
    return judgement


def false_reports(outcome: Outcome) -> list[str]:
    """What a scope said about a body in which there is nothing to be said, in words."""
    report = outcome.report
    said = [f"{record.name} is said to leak: {record.verdict}, {record.wait}" for record in report.leaks]
    said += [f"{record.name} is said to be late" for record in report.late]
    if outcome.ended_by is not None:
        said.append(f"the body was ended by {outcome.ended_by}: {report.body}")
    return said + [f"{name} is still there after the scope" for name in outcome.left]


def _misses_of_end(outcome: Outcome, body: Stuck | None) -> list[str]:
    wanted = None if body is None else DeadlockError.__name__ if body.provable else ScopeTimeoutError.__name__
    misses = [] if outcome.ended_by == wanted else [f"the body was ended by {outcome.ended_by} instead of {wanted}"]
    phase = "exit" if wanted is None else "body"
    if outcome.report.phase != phase:
        misses.append(f"the report is of phase {outcome.report.phase!r} instead of {phase!r}")
    return misses


def _wrong_wait(expects: Stuck, record: TaskRecord | None) -> str | None:
    wait = None if record is None or record.wait is None else record.wait.primitive
    return None if wait == expects.wait else f"{expects.task or 'the body'} waits in {expects.wait}, not in {wait}"


def _wrong_verdict(expects: Stuck, record: TaskRecord | None) -> str | None:
    """What is wrong with a verdict. The worst is a proof where there can be none."""
    if _is_called_deadlocked(record) == expects.provable:
        return None
    verdict = None if record is None else record.verdict
    truth = "can be proven to be stuck" if expects.provable else "could still be woken"
    return f"{expects.task or 'the body'} {truth}, and is called {verdict}"


def _is_called_deadlocked(record: TaskRecord | None) -> bool:
    return record is not None and record.verdict == "deadlocked"


def _nearest(sets: Sequence[tuple[Stuck, ...]], records: Sequence[TaskRecord]) -> tuple[Stuck, ...]:
    """The set with the names that were reported and most of the wait points, the first where there is none."""
    waits = {(record.name, None if record.wait is None else record.wait.primitive) for record in records}
    names = sorted(record.name for record in records)

    def rank(stuck: tuple[Stuck, ...]) -> tuple[bool, int]:
        return _names(stuck) == names, len(waits & {(one.task, one.wait) for one in stuck})

    return max(sets, key=rank)


def _pairs(stuck: Sequence[Stuck], records: Sequence[TaskRecord]) -> list[tuple[Stuck, TaskRecord | None]]:
    """Each expected task with a record of that name, None where there is none."""
    left = sorted(records, key=lambda record: (record.name, "" if record.wait is None else record.wait.primitive))
    by_name: dict[str, list[TaskRecord]] = {}
    for record in left:
        by_name.setdefault(record.name, []).append(record)
    pairs: list[tuple[Stuck, TaskRecord | None]] = []
    for one in sorted(stuck, key=lambda one: (one.task, one.wait)):
        named = by_name.get(one.task)
        pairs.append((one, named.pop(0) if named else None))
    return pairs


def _names(stuck: Sequence[Stuck]) -> list[str]:
    return sorted(one.task for one in stuck)


def _some(names: list[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "") or "none"
