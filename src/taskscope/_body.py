"""The body of a scope: what ends it before its time, and what ends with it."""

from __future__ import annotations

import asyncio
import inspect
from dataclasses import replace
from types import FrameType
from typing import final

from taskscope._backends._cycles import cancel_here
from taskscope._closing import DESCRIBED_LIMIT, late_record
from taskscope._diagnosis.diagnosis import Diagnosis
from taskscope._diagnosis.host import NOT_HELD, Held
from taskscope._diagnosis.reachability import Proof
from taskscope._errors import DeadlockError, ScopeTimeoutError
from taskscope._proving import prove_with_host
from taskscope._report import TaskRecord
from taskscope._table import NO_SITE, AnyTask, TaskTable
from taskscope._watch import BodyWatch

Error = type[ScopeTimeoutError] | type[DeadlockError]


@final
class BodyEnd:
    """Cancels a scope's host when the body has taken too long or is proven stuck, after noting where everything was.

    The count of the host's cancellations is kept balanced in the way of `asyncio.timeout`.
    """

    def __init__(self, table: TaskTable, *, timeout: float | None, watch: float | None) -> None:
        self.fired = False
        self.error: Error = ScopeTimeoutError
        self.body: TaskRecord | None = None
        self.tasks: dict[AnyTask, TaskRecord] = {}
        self._table = table
        self._host: AnyTask | None = None
        self._cancelled: AnyTask | None = None
        self._cancelling = 0
        self._held = NOT_HELD
        loop = asyncio.get_running_loop()
        self._timer = None if timeout is None else loop.call_at(loop.time() + timeout, self._time_is_up)
        self._watch = None if watch is None else BodyWatch(watch, table, self._is_stuck)

    def body_runs_in(self, host: AnyTask | None, held: Held = NOT_HELD) -> None:
        """Says which task runs the body now; None between the steps of a generator, when nobody does.

        held: what `host_as_held` said before the body began.
        """
        self._host = host
        self._held = held
        if host is not None:
            self._cancelling = host.cancelling()
        if self._watch is not None:
            self._watch.body_runs_in(host, held)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._watch is not None:
            self._watch.stop()

    def was_it(self, exc: BaseException | None) -> bool:
        """Whether the body ended for this alone. To be asked once, in the host."""
        if not self.fired:
            return False
        others = self._cancelled is not None and self._cancelled.uncancel() > self._cancelling
        return exc is None or (isinstance(exc, asyncio.CancelledError) and not others)

    def _time_is_up(self) -> None:
        self._end(prove_with_host(self._table, self._held))

    def _is_stuck(self, proof: Proof) -> None:
        self.error = DeadlockError
        self._end(proof)

    def _end(self, proof: Proof) -> None:
        self.stop()
        self.fired = True
        rows = self._table.rows
        tasks = self._table.pending()[:DESCRIBED_LIMIT]
        diagnosis = Diagnosis([*tasks, *([] if self._host is None else [self._host])], proof.stuck)
        if self._host is None:
            self.body = TaskRecord("", self._table.name, stack_note="it was between two steps, in its consumer's hands")
        else:
            self.body = diagnosis.record(self._host, self._table.host_row)
        for task in tasks:
            self.tasks[task] = diagnosis.record(task, rows.get(task, NO_SITE))
        if self._host is not None:
            self._cancelled = self._host
            cancel_here(self._host)


def with_end(task: AnyTask, record: TaskRecord, leak: TaskRecord | None) -> TaskRecord:
    """The record of a task as it was when the body was ended, with what became of it.

    leak: its record as a leak of the scope, None where it ended when the body was cancelled.
    """
    if leak is not None:
        end = {field: getattr(leak, field) for field in ("outcome", "outcome_detail", "owner", "closed_scope")}
        return replace(record, **end)
    if not task.done():
        return record
    return replace(record, outcome=late_record(task, NO_SITE).outcome)


def is_called_by_async_generator(frame: FrameType) -> bool:
    """Whether code that handles `GeneratorExit` may await: an asynchronous generator may, a coroutine may not."""
    return bool(frame.f_code.co_flags & inspect.CO_ASYNC_GENERATOR)
