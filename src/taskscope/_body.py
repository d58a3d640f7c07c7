"""The body of a scope: what ends it before its time, and what ends with it."""

from __future__ import annotations

from typing import final

from taskscope._diagnosis.proof import NOT_HELD, Held, Proof
from taskscope._errors import DeadlockError, ScopeTimeoutError
from taskscope._report import DESCRIBED_LIMIT, TaskRecord
from taskscope._table import NO_SITE, AnyTask, TaskTable
from taskscope._watch import BodyWatch

Error = type[ScopeTimeoutError] | type[DeadlockError]


@final
class BodyEnd:
    """Cancels a scope's body when it has taken too long or is proven stuck, after noting where everything was.

    Attributes:
        table: The scope's.
        host: The task that runs the body, None between the steps of a generator.
    """

    def __init__(self, table: TaskTable, *, timeout: float | None, watch: float | None) -> None:
        self.fired = False
        self.error: Error = ScopeTimeoutError
        self.body: TaskRecord | None = None
        self.tasks: dict[AnyTask, TaskRecord] = {}
        self.table = table
        self.host: AnyTask | None = None
        self._held = NOT_HELD
        backend = table.backend
        self._cancel = backend.BodyCancel()
        self._timer = None if timeout is None else backend.call_at(backend.time() + timeout, self._time_is_up)
        # On a virtual clock each look would be a time to jump to: a body that sleeps for an hour would take long.
        if watch is not None and backend.is_clock_virtual():
            watch = None
        self._watch = None if watch is None else BodyWatch(watch, table, self._is_stuck)
        if self.has_timeout or self._watch is not None:
            backend.running_tracking().timed_bodies.add(self)

    @property
    def has_timeout(self) -> bool:
        return self._timer is not None

    def enter(self, held: Held) -> None:
        """Says that the table's host runs the body from now on.

        held: what `host_as_held` said before.
        """
        host = self.table.host
        assert host is not None
        self.host = host
        self._held = held
        self._cancel.enter(host)
        if self._watch is not None:
            self._watch.body_runs_in(host, held)

    def suspend(self, exc: BaseException | None) -> BaseException | None:
        """Says that nobody runs the body for now, as between the steps of a generator.

        exc: what it raised. What is left of that without what was raised here is returned.
        """
        self.host = None
        if self._watch is not None:
            self._watch.body_runs_in(None, NOT_HELD)
        return self._cancel.leave(exc)

    def end(self, exc: BaseException | None) -> BaseException | None:
        """The same, for good."""
        self._stop()
        return self.suspend(exc)

    async def gone(self) -> None:
        """Returns when nothing of this is left on the loop."""
        timers = [self._timer, None if self._watch is None else self._watch.timer]
        await self.table.backend.timers_gone([timer for timer in timers if timer is not None])

    def was_it(self, exc: BaseException | None) -> bool:
        """Whether the body ended for this alone. To be asked once, in the host."""
        return self.fired and self._cancel.was_it(exc)

    def _stop(self) -> None:
        self.table.backend.running_tracking().timed_bodies.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._watch is not None:
            self._watch.stop()

    def _time_is_up(self) -> None:
        from taskscope._proving import prove_with_host  # only where a body is ended is this paid for

        self._end(prove_with_host(self.table, self._held))

    def _is_stuck(self, proof: Proof) -> None:
        self.error = DeadlockError
        self._end(proof)

    def _end(self, proof: Proof) -> None:
        from taskscope._diagnosis.diagnosis import Diagnosis

        self._stop()
        self.fired = True
        rows = self.table.rows
        tasks = self.table.pending()[:DESCRIBED_LIMIT]
        diagnosis = Diagnosis([*tasks, *([] if self.host is None else [self.host])], proof.stuck)
        if self.host is None:
            self.body = TaskRecord("", self.table.name, stack_note="it was between two steps, in its consumer's hands")
        else:
            self.body = diagnosis.record(self.host, self.table.host_row)
        for task in tasks:
            self.tasks[task] = diagnosis.record(task, rows.get(task, NO_SITE))
            self.table.backend.watch_end(task)
        self._cancel.cancel()
