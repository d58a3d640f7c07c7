"""The body of a scope: its timeout, and what ends with it."""

from __future__ import annotations

import asyncio
import inspect
from dataclasses import replace
from types import FrameType
from typing import final

from taskscope._closing import DESCRIBED_LIMIT, late_record
from taskscope._diagnosis.describe import describe
from taskscope._diagnosis.stack import task_chain
from taskscope._report import TaskRecord
from taskscope._table import NO_SITE, AnyTask, TaskTable


@final
class BodyTimeout:
    """Cancels a scope's host when the body has taken too long, after noting where everything was then.

    The count of the host's cancellations is kept balanced in the way of `asyncio.timeout`.
    """

    def __init__(self, seconds: float, table: TaskTable) -> None:
        self.fired = False
        self.body: TaskRecord | None = None
        self.tasks: dict[AnyTask, TaskRecord] = {}
        self._table = table
        self._host: AnyTask | None = None
        self._cancelled: AnyTask | None = None
        self._cancelling = 0
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(loop.time() + seconds, self._fire)

    def body_runs_in(self, host: AnyTask | None) -> None:
        """Says which task runs the body now; None between the steps of a generator, when nobody does."""
        self._host = host
        if host is not None:
            self._cancelling = host.cancelling()

    def stop(self) -> None:
        self._timer.cancel()

    def was_it(self, exc: BaseException | None) -> bool:
        """Whether the body ended for this timeout alone. To be asked once, in the host."""
        if not self.fired:
            return False
        others = self._cancelled is not None and self._cancelled.uncancel() > self._cancelling
        return exc is None or (isinstance(exc, asyncio.CancelledError) and not others)

    def _fire(self) -> None:
        self.fired = True
        rows = self._table.rows
        if self._host is None:
            self.body = TaskRecord("", self._table.name, stack_note="it was between two steps, in its consumer's hands")
        else:
            self.body = describe(self._host, self._table.host_row, task_chain(self._host))
        for task in self._table.pending()[:DESCRIBED_LIMIT]:
            self.tasks[task] = describe(task, rows.get(task, NO_SITE), task_chain(task))
        if self._host is not None:
            self._cancelled = self._host
            self._host.cancel()


def with_own_end(task: AnyTask, record: TaskRecord) -> TaskRecord:
    """The record of a task that was there when the body timed out, with how it ended when the body was cancelled."""
    if not task.done():
        return record
    return replace(record, outcome=late_record(task, NO_SITE).outcome)


def is_called_by_async_generator(frame: FrameType) -> bool:
    """Whether code that handles `GeneratorExit` may await: an asynchronous generator may, a coroutine may not."""
    return bool(frame.f_code.co_flags & inspect.CO_ASYNC_GENERATOR)
