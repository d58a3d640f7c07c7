"""Exceptions of tasks that nobody has asked for when the scope ends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import TracebackType
from typing import Final, final

from taskscope._diagnosis.describe import describe
from taskscope._diagnosis.safely import error_in_words
from taskscope._diagnosis.tasks import UNNAMED
from taskscope._findings.found import Found, Looking
from taskscope._frames import frame_at
from taskscope._policy import Policy
from taskscope._report import Finding, Frame
from taskscope._table import NO_SITE, AnyTask, Row, TaskTable

FRAMES: Final = 50
"""Frames of a traceback that are told, innermost ones."""

KEPT: Final = 128
"""Failed tasks that are kept for their exceptions after the scope has let go of them. More are counted."""


@final
class Unretrieved(Looking):
    def __init__(self, table: TaskTable, policy: Policy) -> None:
        super().__init__(table, policy)
        self._kept: dict[AnyTask, Row] = {}
        self._not_kept = 0

    def begin(self) -> None:
        self.table.lets_go = (*self.table.lets_go, self._keep_failed)

    def finish(self) -> None:
        self.table.lets_go = tuple(told for told in self.table.lets_go if told != self._keep_failed)
        self._kept = {}

    def found(self) -> list[Found]:
        failed = {**self._kept, **self.table.rows}
        return [_found(task, row) for task, row in failed.items() if _has_failed_unseen(task)]

    def coverage(self) -> tuple[str, ...]:
        if not self._not_kept:
            return ()
        return (f"{self._not_kept:,} more tasks failed, too many to look whether anybody retrieved their exceptions",)

    def _keep_failed(self, tasks: Iterable[AnyTask], rows: Mapping[AnyTask, Row]) -> None:
        for task in tasks:
            # By itself, for this is asked of every task that ends: of few is there more to be done.
            if getattr(task, "_log_traceback", False):
                self._keep(task, rows.get(task, NO_SITE))

    def _keep(self, task: AnyTask, row: Row) -> None:
        if len(self._kept) >= KEPT:
            self._kept = {task: row for task, row in self._kept.items() if _has_failed_unseen(task)}
        if len(self._kept) >= KEPT:
            self._not_kept += 1
            return
        self._kept[task] = row


def _has_failed_unseen(task: AnyTask) -> bool:
    """Whether a task has raised, and nobody has asked what. To ask `exception()` would be to retrieve it."""
    return bool(getattr(task, "_log_traceback", False))


def _found(task: AnyTask, row: Row) -> Found:
    error = getattr(task, "_exception", None)
    frames = _frames_of(getattr(error, "__traceback__", None))
    record = describe(task, row, None)
    if record.coroutine == UNNAMED and frames:
        record = replace(record, coroutine=frames[0].function)  # started eagerly and over at once: it has none any more
    finding = Finding(
        "unretrieved",
        error_in_words(error),
        spawn_site=record.spawn_site,
        stack=frames,
        task=record,
    )
    return Found(finding, (task,))


def _frames_of(traceback: TracebackType | None) -> tuple[Frame, ...]:
    frames: list[Frame] = []
    while traceback is not None:
        frames.append(frame_at(traceback.tb_frame.f_code, traceback.tb_lasti))
        traceback = traceback.tb_next
    return tuple(frames[-FRAMES:])
