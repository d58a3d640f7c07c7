"""A kernel on AnyIO under a scope: what that must say about it. Whether it did is judged as for the others."""

from __future__ import annotations

import time
from dataclasses import replace

import anyio
from anyio import lowlevel
from kernels.judging import WATCH, Expected, Outcome, Shape
from kernels.kernel import Stuck

from anyio_kernels.kernel import Body, Kernel
from taskscope import DeadlockError, Report, ScopeTimeoutError, TaskScope
from taskscope._report import TaskRecord


def shapes(kernel: Kernel) -> tuple[Shape, ...]:
    """How a kernel's body runs: awaited in the scope and, where it hangs, also in a task group opened in the scope."""
    return ("direct",) if kernel.body is None else ("direct", "task")


def expected(kernel: Kernel, shape: Shape) -> Expected:
    if kernel.body is None or shape == "direct":
        return Expected(kernel.body, (kernel.leaks,))
    body = replace(kernel.body, task=kernel.buggy.__qualname__)
    return Expected(Stuck("", "TaskGroup.__aexit__", body.provable), ((body, *kernel.leaks),))


async def under_taskscope(body: Body, shape: Shape, timeout: float) -> Outcome:
    """Runs a body in a scope that gives no grace and ends a body that hangs."""
    before = {task.id for task in anyio.get_running_tasks()}
    ended_by = None
    async with anyio.create_task_group() as group:
        scope = TaskScope(grace=0, watch=WATCH, timeout=timeout, on_leak="ignore")
        started = time.perf_counter()
        try:
            async with scope:
                if shape == "direct":
                    await body(group)
                else:
                    async with anyio.create_task_group() as inside:
                        inside.start_soon(body, group)
                started = time.perf_counter()
        except (DeadlockError, ScopeTimeoutError) as error:
            ended_by = type(error).__name__
        seconds = time.perf_counter() - started
        with anyio.CancelScope(shield=True):  # a stray's cancelled group is that of this task, too
            await lowlevel.checkpoint()  # a task of Trio's that has been cancelled ends with its next step
        left = tuple(task.name or "" for task in anyio.get_running_tasks() if task.id not in before)
        group.cancel_scope.cancel()
    return Outcome(_by_coroutine(scope.report), ended_by, seconds, left)


def _by_coroutine(report: Report) -> Report:
    """The report with each task under the name of its coroutine: what backends call a task differs."""
    return replace(
        report,
        leaks=tuple(map(_named, report.leaks)),
        late=tuple(map(_named, report.late)),
        survivors=tuple(map(_named, report.survivors)),
    )


def _named(record: TaskRecord) -> TaskRecord:
    return replace(record, name=record.coroutine)
