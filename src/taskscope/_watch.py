"""The watch over a body: looks from time to time whether it can ever go on."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

from taskscope._backends._budget import SHARE_OF_FINDS, SHARE_OF_WATCHES
from taskscope._clock import thread_time
from taskscope._diagnosis.proof import NOT_HELD, Held, Proof
from taskscope._table import AnyTask, TaskTable


@final
class BodyWatch:
    """Calls back when the task that runs a body is proven to be stuck.

    It looks only where the body waits for the same thing as the last time, so that a body that goes on costs nothing
    but a timer.
    """

    def __init__(self, seconds: float, table: TaskTable, found: Callable[[Proof], None]) -> None:
        self._seconds = seconds
        self._table = table
        self._found = found
        self._host: AnyTask | None = None
        self._held = NOT_HELD
        self._waited_for = 0
        self._backend = backend = table.backend
        self.timer = backend.call_at(backend.time() + seconds, self._look)

    def body_runs_in(self, host: AnyTask | None, held: Held) -> None:
        self._host = host
        self._held = held

    def stop(self) -> None:
        self.timer.cancel()

    def _look(self) -> None:
        before, self._waited_for = self._waited_for, self._where_host_waits()
        budget = self._backend.running_tracking().budget
        now = self._backend.time()
        if self._waited_for and self._waited_for == before and now >= budget.next_look:
            from taskscope._proving import prove_with_host  # only who waits that long pays for the import

            started = thread_time()  # on a busy machine a look takes longer, and costs no more
            proof = prove_with_host(self._table, self._held)
            taken = thread_time() - started
            if id(self._host) in proof.stuck:
                budget.next_look = now + taken / SHARE_OF_FINDS
                self._found(proof)
                return
            budget.next_look = now + taken / SHARE_OF_WATCHES
            now = budget.next_look  # others first, or one that looks in vain would keep them from it for good
        self.timer = self._backend.call_at(max(now + self._seconds, budget.next_look), self._look)

    def _where_host_waits(self) -> int:
        return 0 if self._host is None else self._backend.where_it_waits(self._host)
