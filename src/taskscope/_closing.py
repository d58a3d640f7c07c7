"""The end of a scope: grace, snapshot, cancel, bounded in time. What is found is kept for the report."""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, final

from taskscope._backends._backend import Backend
from taskscope._cancelling import Cancelling
from taskscope._clock import sleep
from taskscope._diagnosis.describe import describe
from taskscope._diagnosis.diagnosis import Diagnosis
from taskscope._diagnosis.groups import group_name, owning_group
from taskscope._diagnosis.safely import safe_repr
from taskscope._left_alone import LeftAlone
from taskscope._policy import Policy
from taskscope._report import DESCRIBED_LIMIT, Finding, TaskRecord
from taskscope._table import NO_SITE, AnyTask, Row, TaskTable

if TYPE_CHECKING:
    from taskscope._findings.search import Search

PROVEN_LIMIT = 2_000
"""With more leaks than this no proof is looked for: it would hold up the loop for more than a tenth of a second."""

WAITED_FOR_LIMIT = 200
"""With more pending tasks than this the grace is waited out without asking whether that is in vain."""

EXTRA_TURNS = 50
"""Turns of the loop that runnable tasks still get when a deadline has passed: the loop may have been blocked all along,
or its clock jumped."""

Claims = Callable[[list[AnyTask]], Mapping[AnyTask, tuple[TaskTable, str]]]
"""Tells of pending tasks which of them are somebody else's: who takes each, and why it is theirs."""

PAUSE_MORE = 1.0
"""Seconds that a thread which sleeps for us may be late."""

FIRST_LOOK = 0.005
"""Seconds until that is asked for the first time. Each further pause is twice as long."""


@final
class Closing:
    """One run through the end of a scope, in the scope's host task or whichever task ends it."""

    def __init__(
        self,
        table: TaskTable,
        policy: Policy,
        excused: Iterable[AnyTask],
        claims: Claims | None = None,
        search: Search | None = None,
    ) -> None:
        self.backend = backend = table.backend
        host = backend.current_task()
        assert host is not None
        self.late: list[TaskRecord] = []
        # What the report says could not be looked at, or had no room.
        self.coverage: tuple[str, ...] = ()
        self.left = LeftAlone(table, policy, host)
        self.leaks: dict[AnyTask, TaskRecord] = {}
        self.omitted = 0
        self.survivors: dict[AnyTask, TaskRecord] = {}
        # The first cancellation from outside that came while this was at work. It is for the caller to raise again.
        self.cancelled_by: BaseException | None = None
        self._clock = backend.new_clock()
        self._table = table
        self._policy = policy
        self._claims = claims
        self._search = search
        self._host = host
        self.excused = {host, *excused}
        self._waited_for: dict[AnyTask, Row] = {}
        self._cancelling_before = backend.cancels_of(host)
        self._awaits_echo = False
        self._seen_leaking: set[AnyTask] = set()
        self._stuck: dict[int, tuple[int, ...]] = {}
        # Tasks that a timer will wake, of which there is no proof to be had.
        self._timed: set[int] = set()
        self._owners: dict[AnyTask, str | None] = {}
        self._started = self._clock.time()
        self._settled = self._started

    @property
    def findings(self) -> tuple[Finding, ...]:
        return () if self._search is None else self._search.findings

    @property
    def search_coverage(self) -> tuple[str, ...]:
        return () if self._search is None else self._search.coverage

    @property
    def settled_after(self) -> float:
        return max(0.0, self._settled - self._started)

    async def run(self, *, grace: bool) -> None:
        try:
            await self._run(grace=grace)
        finally:
            self._clock.close()

    async def _run(self, *, grace: bool) -> None:
        self._look_at_guarded()
        pending = self._without_claimed(self._pending())
        if pending and grace:
            pending = self._without_claimed(await self._wait_out_grace(pending))
        pending = [task for task in pending if not self._is_left_at_last(task)]
        if self._search is not None:
            await self._search.wait_out_grace(self, self._started + (self._policy.grace if grace else 0.0))
            pending = self._pending()
        if pending:
            pending = await self._prove(pending)
        if pending:
            self._look_at_guarded()
            self._describe_leaks(pending)
            if self._policy.cancels:
                await self._cancel(pending)
        if self._search is not None:
            await self._search.end(self, self.leaks)
            self._settled = self._clock.time()
        self._note_late()

    def _look_at_guarded(self) -> None:
        tracking = self.backend.running_tracking()
        if tracking.guards is not None:
            from taskscope._guard import look_at_guarded

            look_at_guarded(tracking)

    def time(self) -> float:
        return self._clock.time()

    async def pause(self, seconds: float) -> bool:
        """Lets the loop run for so many seconds of real time. False once this is to be hurried up."""
        await self.guarded(self._sleep(seconds), shield=True)
        return self.cancelled_by is None

    async def _sleep(self, seconds: float) -> None:
        await self.backend.off_loop(partial(sleep, seconds), seconds + PAUSE_MORE)

    async def bounded(self, works: list[Coroutine[Any, Any, object]], seconds: float) -> list[BaseException | None]:
        """Awaits works, all together for at most so many seconds, and returns what each has raised."""
        errors: list[BaseException | None] = []

        async def run() -> None:
            errors.extend(await self.backend.within(works, seconds))

        await self.guarded(run(), shield=True)
        return errors

    def left_to_others(self) -> set[AnyTask]:
        """The pending tasks that were the scope's, and are left alone or are somebody else's by now."""
        excused = {task for task in self.excused if task is not self._host and not self.backend.is_done(task)}
        return excused | {*self._table.pending_elsewhere()}

    async def _prove(self, pending: list[AnyTask]) -> list[AnyTask]:
        """Looks which tasks nothing can wake, and returns those that are pending then."""
        if len(pending) > PROVEN_LIMIT:
            self.coverage = (f"{len(pending):,} tasks are too many to look for a proof of deadlock",)
            return pending
        await self.guarded(self._look_for_proof(), shield=True)
        return self._pending()

    async def _look_for_proof(self) -> None:
        await self.backend.called_back(self._look)

    def _look(self, waited_for: object) -> None:
        """Looks at what only shows while the host is suspended."""
        from taskscope._proving import prove_tasks  # only who has found a leak pays for the import

        if not all(id(task) in self._timed for task in self._table.pending()):
            self._stuck = prove_tasks(self._table, waited_for).stuck
        names: dict[int, str] = {}
        for task in self._table.pending()[:DESCRIBED_LIMIT]:
            group, opener = owning_group(task)
            if group is not None and id(group) not in names:
                names[id(group)] = group_name(group, opener)
            self._owners[task] = None if group is None else names[id(group)]

    async def guarded(self, work: Coroutine[Any, Any, None], *, shield: bool) -> bool:
        """Runs our own waiting. A cancellation from outside is kept for later. False when one came."""
        try:
            with self.backend.shielded() if shield else _no_shield():
                await work
        except self.backend.Cancelled as cancellation:
            if self._awaits_echo and self.backend.cancels_of(self._host) <= self._cancelling_before:
                return True  # an echo: a task that awaits the host has passed on our own cancel, which was taken back
            self.cancelled_by = self.cancelled_by or cancellation
            return False
        return True

    def _pending(self) -> list[AnyTask]:
        """The pending tasks that are this scope's to wait for."""
        mine: list[AnyTask] = []
        for task in self._table.pending():
            if task in self.excused:
                continue
            if task not in self._waited_for and self.left.takes(task):
                self.excused.add(task)
                continue
            self._waited_for.setdefault(task, self._table.rows.get(task, NO_SITE))
            mine.append(task)
        return mine

    def _without_claimed(self, pending: list[AnyTask]) -> list[AnyTask]:
        """Gives those tasks away that are somebody else's, and returns the others."""
        if self._claims is None or not pending:
            return pending
        claimed = self._claims(pending)
        for task, (taker, why) in claimed.items():
            self.left.give_back(task, why)
            self._table.hand_over(task, taker)
            self.excused.add(task)
            self._waited_for.pop(task, None)
        return [task for task in pending if task not in claimed]

    def _is_left_at_last(self, task: AnyTask) -> bool:
        if not self.left.takes_at_last(task):
            return False
        self.excused.add(task)
        del self._waited_for[task]  # or it would be late as well, if it ends while others are cancelled
        return True

    async def _wait_out_grace(self, pending: list[AnyTask]) -> list[AnyTask]:
        deadline = self._started + self._policy.grace
        # Inside a cancel scope that is cancelled already no wait would last: the grace is due all the same, bounded.
        shield = self.backend.is_cancelled_already()
        pause = FIRST_LOOK
        while pending and self.cancelled_by is None and self._clock.time() < deadline:
            until = min(deadline, self._clock.time() + pause)
            if not await self.guarded(self._clock.wait_ended(pending, until), shield=shield):
                self._settled = self._clock.time()
                return self._pending()
            pending = self._pending()
            if pending and until < deadline and await self._is_hopeless(pending, deadline, shield=shield):
                break
            pause *= 2
        if pending:
            await self.guarded(self._settle(pending), shield=shield)
            pending = self._pending()
        self._settled = self._clock.time()
        return pending

    async def _settle(self, tasks: list[AnyTask]) -> None:
        for _ in range(EXTRA_TURNS):
            if not any(map(self.backend.is_runnable, tasks)):
                return
            await self.backend.one_turn()

    async def _is_hopeless(self, pending: list[AnyTask], deadline: float, *, shield: bool) -> bool:
        """Whether nothing can end any of the tasks before this exit is over: to wait on would be in vain."""
        if len(pending) > WAITED_FOR_LIMIT or not all(map(self.backend.where_it_waits, pending)):
            return False
        from taskscope._proving import can_nothing_happen, prove_while_host_waits

        in_vain: set[int] = set()
        timed: set[int] = set()

        def look(waited_for: object) -> None:
            left = deadline - self._clock.time() if self._policy.looks_ahead else math.inf
            if can_nothing_happen(self._table, left):
                in_vain.update(map(id, self._table.pending()))
                return
            proof = prove_while_host_waits(self._table, waited_for, left)
            in_vain.update(proof.stuck)
            timed.update(proof.timed)

        await self.guarded(self.backend.called_back(look), shield=shield)
        is_hopeless = all(id(task) in in_vain for task in self._pending())
        if is_hopeless:  # or they could wait for something else by the end of the grace
            self._timed = timed
        return is_hopeless

    def _describe_leaks(self, tasks: list[AnyTask]) -> None:
        diagnosis = Diagnosis([*tasks, self._host], self._stuck)
        for task in tasks:
            self._seen_leaking.add(task)
            if len(self.leaks) >= DESCRIBED_LIMIT:
                self.omitted += 1
                continue
            self.leaks[task] = self._leak(task, diagnosis)

    def _leak(self, task: AnyTask, diagnosis: Diagnosis) -> TaskRecord:
        row = self._waited_for[task]
        return replace(
            diagnosis.record(task, row),
            owner=self._owners[task] if task in self._owners else _owner_of(task),
            closed_scope=self._table.closed_scope_of(task),
        )

    async def _cancel(self, tasks: list[AnyTask]) -> None:
        cancelling = Cancelling(self.backend, self._waited_for, self._host)
        deadline = self._clock.time() + self._policy.cancel_timeout
        pending = tasks
        while True:
            await self._cancel_round(cancelling, pending, hurry=self._is_half_over(deadline))
            until = min(deadline, self._clock.time() + cancelling.next_pause())
            await self.guarded(self._clock.wait_ended(pending, until), shield=True)
            pending = self._pending()
            if not pending:
                # Callbacks of those that have just ended may not have run, and can spawn.
                await self.guarded(self.backend.one_turn(), shield=True)
                pending = self._pending()
            self._describe_newcomers(pending)
            if not pending or self._clock.time() >= deadline:
                break
        if pending:
            pending = await self._cancel_for_the_last_time(cancelling, pending)
        self._settled = self._clock.time()
        for task, record in self.leaks.items():
            self.leaks[task] = cancelling.with_outcome(task, record)
        self.survivors = {task: self.leaks[task] for task in pending if task in self.leaks}

    async def _cancel_round(
        self, cancelling: Cancelling, pending: list[AnyTask], *, hurry: bool, last: bool = False
    ) -> None:
        if cancelling.cancel_due(pending, hurry=hurry, last=last):
            self._awaits_echo = True
            await self.guarded(self.backend.one_turn(), shield=True)  # where the echo arrives, if at all
            self._awaits_echo = False

    async def _cancel_for_the_last_time(self, cancelling: Cancelling, pending: list[AnyTask]) -> list[AnyTask]:
        """Time is up. What a task spawns from here on dies before its first step, or respawning would never end."""
        self._table.refuse()
        await self._cancel_round(cancelling, pending, hurry=True, last=True)
        await self.guarded(self._settle(pending), shield=True)
        pending = self._pending()
        self._describe_newcomers(pending)
        return pending

    def _is_half_over(self, deadline: float) -> bool:
        return deadline - self._clock.time() <= self._policy.cancel_timeout / 2

    def _describe_newcomers(self, pending: list[AnyTask]) -> None:
        self._describe_leaks([task for task in pending if task not in self._seen_leaking])

    def _note_late(self) -> None:
        late = [task for task in self._waited_for if self.backend.is_done(task) and task not in self._seen_leaking]
        self.late = [
            with_closed(self._table, task, late_record(self.backend, task, self._waited_for[task]))
            for task in late[:DESCRIBED_LIMIT]
        ]
        omitted = len(late) - len(self.late)
        if omitted:
            self.coverage = (f"{omitted:,} more tasks ended late, too many to describe",)


def _owner_of(task: AnyTask) -> str | None:
    group, opener = owning_group(task)
    return None if group is None else group_name(group, opener)


def late_record(backend: Backend, task: AnyTask, row: Row) -> TaskRecord:
    outcome, error = backend.outcome(task)
    detail = None if error is None else safe_repr(error)
    return replace(describe(task, row, None), outcome=outcome, outcome_detail=detail)


def with_closed(table: TaskTable, task: AnyTask, record: TaskRecord) -> TaskRecord:
    """A task's record, with the resources that it held when they were closed."""
    if table.closed_in_use is None:
        return record
    from taskscope._accusations import closed_before_end  # only who has something to tell pays for the import

    closed = closed_before_end(table, task)
    return replace(record, closed_before_end=closed) if closed else record


def _no_shield() -> AbstractContextManager[Any]:
    return nullcontext()
