"""The end of a scope: grace, snapshot, cancel, bounded in time. What is found is kept for the report."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, final

from taskscope._backends import _asyncio as backend
from taskscope._cancelling import Cancelling
from taskscope._diagnosis.describe import describe, group_name, owning_group, safe_repr
from taskscope._diagnosis.stack import task_chain
from taskscope._policy import Policy
from taskscope._report import TaskRecord
from taskscope._table import NO_SITE, AnyTask, Row, TaskTable

DESCRIBED_LIMIT = 1_000
"""Leaks beyond this number are cancelled like the others, and counted, but not described."""


@final
class Closing:
    """One run through the end of a scope, in the scope's host task or whichever task ends it."""

    def __init__(self, table: TaskTable, policy: Policy, excused: Iterable[AnyTask]) -> None:
        host = asyncio.current_task()
        assert host is not None
        self.late: list[TaskRecord] = []
        self.transferred: dict[AnyTask, TaskRecord] = {}
        self.ignored: dict[AnyTask, TaskRecord] = {}
        self.leaks: dict[AnyTask, TaskRecord] = {}
        self.omitted = 0
        self.survivors: dict[AnyTask, TaskRecord] = {}
        # The first cancellation from outside that came while this was at work. It is for the caller to raise again.
        self.cancelled_by: asyncio.CancelledError | None = None
        self._loop = asyncio.get_running_loop()
        self._table = table
        self._policy = policy
        self._host = host
        self.excused = {host, *excused}
        self._waited_for: dict[AnyTask, Row] = {}
        self._cancelling_before = host.cancelling()
        self._seen_leaking: set[AnyTask] = set()
        self._started = self._loop.time()
        self._settled = self._started

    @property
    def settled_after(self) -> float:
        return max(0.0, self._settled - self._started)

    async def run(self, *, grace: bool) -> None:
        pending = self._pending()
        if pending and grace:
            pending = await self._wait_out_grace(pending)
        if pending:
            self._describe_leaks(pending)
            await self._cancel(pending)
        self._note_late()

    async def guarded(self, work: Coroutine[Any, Any, None], *, shield: bool) -> bool:
        """Runs our own waiting. A cancellation from outside is kept for later. False when one came."""
        try:
            with backend.shielded() if shield else _no_shield():
                await work
        except asyncio.CancelledError as cancellation:
            if self._host.cancelling() <= self._cancelling_before:
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
            if task not in self._waited_for and self._is_left_alone(task):
                self.excused.add(task)
                continue
            self._waited_for.setdefault(task, self._table.rows.get(task, NO_SITE))
            mine.append(task)
        return mine

    def _is_left_alone(self, task: AnyTask) -> bool:
        row = self._table.rows.get(task, NO_SITE)
        if row[0] is not None and row[0].co_name == "__del__":
            record = describe(task, row, task_chain(task))
            self.ignored[task] = replace(
                record,
                outcome_detail="spawned by a finalizer, which may run in the middle of anybody's code: "
                "whose task it is cannot be told",
            )
            return True
        if self._policy.outer_groups == "transfer":
            group = self._outer_group(task)
            if group is not None:
                self.transferred[task] = replace(describe(task, row, task_chain(task)), owner=group)
                return True
        return False

    def _outer_group(self, task: AnyTask) -> str | None:
        """The group that holds a task, where that group was opened outside the scope."""
        group, opener = owning_group(task)
        if group is None or opener is None or opener.done() or opener in self._table.rows:
            return None
        return group_name(group, opener)

    async def _wait_out_grace(self, pending: list[AnyTask]) -> list[AnyTask]:
        deadline = self._started + self._policy.grace
        # Inside an AnyIO scope that is cancelled already no wait would last: the grace is due all the same, bounded.
        shield = backend.in_cancelled_anyio_scope()
        while pending and self._loop.time() < deadline:
            if not await self.guarded(backend.wait_ended(pending, deadline), shield=shield):
                self._settled = self._loop.time()
                return self._pending()
            pending = self._pending()
        if pending:
            await self.guarded(backend.settle(pending), shield=shield)
            pending = self._pending()
        self._settled = self._loop.time()
        return pending

    def _describe_leaks(self, tasks: list[AnyTask]) -> None:
        for task in tasks:
            self._seen_leaking.add(task)
            if len(self.leaks) >= DESCRIBED_LIMIT:
                self.omitted += 1
                continue
            self.leaks[task] = self._leak(task)

    def _leak(self, task: AnyTask) -> TaskRecord:
        row = self._waited_for[task]
        group, opener = owning_group(task)
        return replace(
            describe(task, row, task_chain(task)),
            owner=None if group is None else group_name(group, opener),
            closed_scope=self._table.closed_scope_of(task),
        )

    async def _cancel(self, tasks: list[AnyTask]) -> None:
        cancelling = Cancelling(self._waited_for, self._host)
        deadline = self._loop.time() + self._policy.cancel_timeout
        pending = tasks
        while True:
            await self._cancel_round(cancelling, pending, hurry=self._is_half_over(deadline))
            until = min(deadline, self._loop.time() + cancelling.next_pause())
            await self.guarded(backend.wait_ended(pending, until), shield=True)
            pending = self._pending()
            self._describe_newcomers(pending)
            if not pending or self._loop.time() >= deadline:
                break
        if pending:
            pending = await self._cancel_for_the_last_time(cancelling, pending)
        self._settled = self._loop.time()
        for task, record in self.leaks.items():
            self.leaks[task] = cancelling.with_outcome(task, record)
        self.survivors = {task: self.leaks[task] for task in pending if task in self.leaks}

    async def _cancel_round(self, cancelling: Cancelling, pending: list[AnyTask], *, hurry: bool) -> None:
        if cancelling.cancel_due(pending, hurry=hurry):
            await self.guarded(backend.one_turn(), shield=True)  # where the echo arrives, if at all

    async def _cancel_for_the_last_time(self, cancelling: Cancelling, pending: list[AnyTask]) -> list[AnyTask]:
        """Time is up. What a task spawns from here on dies before its first step, or respawning would never end."""
        self._table.refuse()
        await self._cancel_round(cancelling, pending, hurry=True)
        await self.guarded(backend.settle(pending), shield=True)
        pending = self._pending()
        self._describe_newcomers(pending)
        return pending

    def _is_half_over(self, deadline: float) -> bool:
        return deadline - self._loop.time() <= self._policy.cancel_timeout / 2

    def _describe_newcomers(self, pending: list[AnyTask]) -> None:
        self._describe_leaks([task for task in pending if task not in self._seen_leaking])

    def _note_late(self) -> None:
        for task, row in self._waited_for.items():
            if task.done() and task not in self._seen_leaking and len(self.late) < DESCRIBED_LIMIT:
                self.late.append(late_record(task, row))


def late_record(task: AnyTask, row: Row) -> TaskRecord:
    record = describe(task, row, None)
    if task.cancelled():
        return replace(record, outcome="cancelled")
    # Not task.exception(): that would mark it as retrieved, and asyncio's own message about it would be lost.
    error = getattr(task, "_exception", None)
    if error is None:
        return replace(record, outcome="finished")
    return replace(record, outcome="failed", outcome_detail=safe_repr(error))


def _no_shield() -> AbstractContextManager[Any]:
    return nullcontext()
