"""Cancelling what a scope left behind: all at once, again where a cancellation was swallowed, and what came of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import final

from taskscope._backends._backend import Backend
from taskscope._diagnosis.safely import safe_repr
from taskscope._diagnosis.stack import Chain, task_chain
from taskscope._report import Frame, TaskRecord
from taskscope._table import AnyTask, Row

MAX_CANCELS = 8
"""How often one task is cancelled at most."""

DYING_WISHES = 128
"""How many tasks that dying tasks have spawned are cancelled while there is time, or as many as were cancelled at first
if that is more. The rest is left to the last round: what multiplies when it is cancelled would otherwise go on to do so
for as long as it is given."""

FIRST_PAUSE = 0.005
"""Seconds from the first round of cancelling to the second. Each further pause is twice as long."""


class _Attempt:
    """The cancelling of one task."""

    def __init__(self) -> None:
        self.cancels = 0
        self.undeliverable = False
        self.chain: Chain | None = None  # as it was when the task was last cancelled
        self.swallowed_by: Frame | None = None
        self.swallowed = 0


@final
class Cancelling:
    def __init__(self, backend: Backend, rows: Mapping[AnyTask, Row], host: AnyTask) -> None:
        self._backend = backend
        self._rows = rows
        self._host = host
        self._attempts: dict[AnyTask, _Attempt] = {}
        self._pause = FIRST_PAUSE
        self._at_first = 0

    def next_pause(self) -> float:
        pause = self._pause
        self._pause *= 2
        return pause

    def cancel_due(self, pending: Iterable[AnyTask], *, hurry: bool, last: bool = False) -> int:
        """Cancels those for which it is time. Returns how many of these cancels came back to the host.

        hurry: little time is left, so even tasks are cancelled that may be busy cleaning up.
        last: no time is left, and what is spawned from now on does not get to run.
        """
        tasks = dict.fromkeys(pending)
        alive = {id(self._rows[task]) for task in tasks}
        own = {task: None for task in tasks if not self._backend.is_ended_by_another(task, tasks)}
        for task in tasks.keys() - own:
            self._backend.watch_end(task)
        due = [task for task in own if self._is_due(task, alive, hurry) and (last or not self._is_one_too_many(task))]
        self._at_first = self._at_first or len(due)
        return sum([self._cancel(task) for task in due])

    def _is_due(self, task: AnyTask, alive: set[int], hurry: bool) -> bool:
        attempt = self._attempts.get(task)
        if self._backend.is_out_of_reach(task):
            return False
        if attempt is None:
            # A task that another one spawned in order to clean up gets the time to do so, as long as that one waits.
            spawner = self._rows[task][2]
            return hurry or not self._attempts or spawner is None or id(spawner) not in alive
        if attempt.undeliverable or attempt.cancels >= MAX_CANCELS:
            return False
        if self._backend.is_runnable(task):
            return hurry  # it may be on its way out, or spin for ever
        swallowed = self._notice_swallowing(task, attempt)
        return swallowed or hurry

    def _is_one_too_many(self, task: AnyTask) -> bool:
        newcomers = len(self._attempts) - self._at_first
        return task not in self._attempts and newcomers > max(DYING_WISHES, self._at_first)

    def _cancel(self, task: AnyTask) -> int:
        attempt = self._attempts.setdefault(task, _Attempt())
        attempt.chain = task_chain(task)
        attempt.cancels += 1
        delivered, echoes = self._backend.cancel(task, self._host)
        attempt.undeliverable = not delivered
        return echoes

    def _notice_swallowing(self, task: AnyTask, attempt: _Attempt) -> bool:
        """Whether a cancelled task has gone back to waiting just where it waited before."""
        before, now = attempt.chain, task_chain(task)
        if before is None:
            return False
        attempt.swallowed_by = _deepest_common(before, now) or attempt.swallowed_by
        if _position(before) != _position(now):
            return False
        attempt.swallowed += 1
        return True

    def with_outcome(self, task: AnyTask, record: TaskRecord) -> TaskRecord:
        attempt = self._attempts.get(task) or _Attempt()
        if not self._backend.is_done(task):
            self._notice_swallowing(task, attempt)
            why = self._backend.why_immune(task) or _why_survived(attempt)
            return replace(record, outcome="survived", outcome_detail=why)
        outcome, error = self._backend.outcome_of_cancelled(task)
        if outcome == "cancelled":
            again = None if attempt.cancels <= 1 else f"after {attempt.cancels} cancels"
            return replace(record, outcome="cancelled", outcome_detail=again)
        if error is not None:
            return replace(record, outcome="failed", outcome_detail=safe_repr(error))
        detail = "it caught the cancellation and returned" if attempt.cancels else "by itself, meanwhile"
        return replace(record, outcome="finished", outcome_detail=detail)


def _position(chain: Chain) -> tuple[object, ...]:
    return tuple((link.code, link.frame.line) for link in chain.links)


def _deepest_common(before: Chain, now: Chain) -> Frame | None:
    """The innermost frame that is still there: every frame inside it has been unwound by the cancellation."""
    kept = {id(link.holder) for link in now.links}
    common = [link.frame for link in before.links if id(link.holder) in kept]
    return common[-1] if common else None


def _why_survived(attempt: _Attempt) -> str:
    if attempt.undeliverable:
        return "its event loop is not running, so nothing can cancel it"
    if not attempt.cancels:
        return "spawned while the scope was ending, and not cancelled in time"
    times = "1 cancel" if attempt.cancels == 1 else f"{attempt.cancels} cancels"
    where = attempt.swallowed_by
    if where is None:
        return f"still there after {times}"
    return f"still there after {times}, swallowed in {where.function} ({where.file}:{where.line})"
