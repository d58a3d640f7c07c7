"""All that can be told about the tasks of one moment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, final

from taskscope._diagnosis.describe import describe
from taskscope._diagnosis.holders import lock_at, lock_holders
from taskscope._diagnosis.joining import awaited_tasks, joining
from taskscope._diagnosis.safely import safely
from taskscope._diagnosis.stack import Chain, task_chain
from taskscope._diagnosis.tasks import is_ended, name_of
from taskscope._diagnosis.trio_tasks import is_trio_task
from taskscope._diagnosis.trio_wait_point import trio_wait_point
from taskscope._diagnosis.wait_point import WaitPoint, wait_point
from taskscope._report import TaskRecord, Wait
from taskscope._table import AnyTask, Row

NAMED = 16
"""Tasks that a record names at most in one place."""


@final
class Diagnosis:
    """Describes tasks, and looks at each only once. To be used within one turn of the loop, and then dropped.

    around: tasks among which the holders of locks are looked for.
    stuck: the tasks that have been proven to be stuck, as `Proof` has them.
    """

    def __init__(self, around: Iterable[AnyTask] = (), stuck: Mapping[int, tuple[int, ...]] | None = None) -> None:
        self._around = list(around)
        self._stuck = stuck or {}
        self._by_id = {id(task): task for task in self._around} if stuck else {}
        self._chains: dict[AnyTask, Chain] = {}
        self._points: dict[AnyTask, WaitPoint | None] = {}
        self._awaited: dict[AnyTask, list[AnyTask]] = {}
        self._holders: dict[int, list[AnyTask]] | None = None

    def record(self, task: AnyTask, row: Row) -> TaskRecord:
        """The record of a pending task."""
        record = describe(task, row, self.chain(task))
        wait = self._wait(task)
        if id(task) not in self._stuck:
            return replace(record, wait=wait, verdict=_verdict(record, wait))
        others = [self._by_id[other] for other in self._stuck[id(task)] if other in self._by_id]
        return replace(record, wait=wait, verdict="deadlocked", stuck_with=_names(others))

    def chain(self, task: AnyTask) -> Chain:
        found = self._chains.get(task)
        if found is None:
            found = self._chains[task] = task_chain(task)
        return found

    def point(self, task: Any) -> WaitPoint | None:
        if task not in self._points:
            find = trio_wait_point if is_trio_task(task) else wait_point
            self._points[task] = find(task, self.chain(task))
        return self._points[task]

    def awaited(self, task: Any) -> list[AnyTask]:
        found = self._awaited.get(task)
        if found is None:
            found = self._awaited[task] = awaited_tasks(self.point(task))
        return found

    def _wait(self, task: AnyTask) -> Wait | None:
        point = self.point(task)
        if point is None:
            return None
        joined = joining(task, self.awaited)
        return Wait(
            point.kind,
            point.primitive,
            self._with_holder(task, point),
            _names(self.awaited(task)),
            () if joined is None else _names(joined.path),
            joined is not None and joined.is_cycle,
        )

    def _with_holder(self, task: AnyTask, point: WaitPoint) -> str | None:
        lock = lock_at(point)
        if lock is None:
            return point.detail
        if self._holders is None:
            self._holders = lock_holders((other, self.chain(other)) for other in self._around if not is_ended(other))
        holders = self._holders.get(id(lock), [])
        if len(holders) != 1:
            return point.detail
        by = "this very task" if holders[0] is task else f"task {_name(holders[0])!r}"
        return f"{point.detail} by {by}" if point.kind == "lock" else f"{point.detail}: {by}"


def _verdict(record: TaskRecord, wait: Wait | None) -> Any:
    if record.verdict != "blocked" or wait is None:
        return record.verdict
    if wait.kind in ("io", "process"):
        return "io"
    return "joining" if wait.awaited else "blocked"


def _names(tasks: Iterable[AnyTask]) -> tuple[str, ...]:
    names = [_name(task) for task in tasks]
    return tuple(names[:NAMED])


def _name(task: Any) -> str:
    return safely(lambda: name_of(task), "<unknown>")
