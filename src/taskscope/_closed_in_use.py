"""Tasks that still hold a resource when it has been closed: who is suspected, who is accused, and what became of them.

No accusation is false, as far as can be told; a missed one is better. So a task is let be that waits for whoever closes
the resource, or that the closing itself sets going and that ends soon; and one that the resource keeps itself is
accused only if it failed. What was not seen to be closed, but found to be, is held against those alone who fail and say
that it was closed: any other could be who has closed it.
"""

from __future__ import annotations

import inspect
import time
import types
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any, Final, NamedTuple, cast, final

from taskscope._backends._backend import Backend, Tracking
from taskscope._backends._here import backend_here
from taskscope._closers import closers
from taskscope._diagnosis.awaitables import is_exactly
from taskscope._diagnosis.diagnosis import Diagnosis
from taskscope._diagnosis.holding import Holding, HoldingSearch, is_stop, tasks_of
from taskscope._diagnosis.safely import safe_repr, safely
from taskscope._diagnosis.tasks import coroutine_of
from taskscope._diagnosis.woken import woken_by
from taskscope._left_alone import LeftAlone
from taskscope._off import is_off
from taskscope._report import Finding, Outcome, TaskRecord
from taskscope._resource import closed_part, is_server, stand_ins
from taskscope._table import NO_SITE, AnyTask, Row, TaskTable

TURNS: Final = 10
"""Turns of the loop in which a task may end that the closing itself has set going."""

ACCUSED_LIMIT: Final = 1_000
"""Tasks of one scope beyond this number are not described."""

_REMEMBERED: Final = 16
"""Resources that are remembered of a task to have been closed by it."""

_WAITING_LIMIT: Final = 1_000
"""Tasks that are looked through for one that waits, by way of others, for the one that closes a resource."""


class _Holder(NamedTuple):
    task: AnyTask
    table: TaskTable
    holding: Holding


@final
class Suspects:
    """The tasks that hold a resource, as they were before it was closed."""

    def __init__(self, what: str, resource: object, others: Iterable[object], backend: Backend) -> None:
        parts = [*stand_ins(resource), *(other for other in others if not is_stop(type(other)))]
        self._what = what
        self._backend = backend
        self._targets = frozenset(map(id, parts))
        self._resource = _weakly(closed_part(resource))
        self._own = tasks_of(resource)
        self._rows_of_own = self._find_rows_of_own()
        self._is_counted_as_missed = False
        # By the ids of the tasks, and weakly: to hold a task would make it look alive. And where each waits.
        self._before: dict[int, tuple[weakref.ref[Any], int]] = {}
        for holder in self._holders():
            where = backend.where_it_waits(holder.task)
            self._before[id(holder.task)] = (weakref.ref(holder.task), where)

    @classmethod
    def before(cls, what: str, resource: object, *others: object) -> Suspects | None:
        """The suspects now, where the resource is about to be closed. None where nobody can tell who they are.

        others: what else stands for the resource.
        """
        if is_off() or is_server(resource):
            return None
        with suppress(Exception):  # that a look fails is no reason for the closing to fail
            backend = backend_here()
            tracking = backend.running_tracking()
            if tracking.looks.has_any_left:
                with _spending(tracking):
                    return cls(what, resource, others, backend)
            tracking.closings_missed += 1
        return None

    def judge(self, *, is_closed: bool = True) -> None:
        """Accuses those that still hold the resource, which has been closed by now.

        is_closed: False where that cannot be told for sure: what closes it has failed, or was cancelled.
        """
        with suppress(Exception):
            self._judge(is_unseen=not is_closed)

    def judge_unseen(self) -> None:
        """The same where the resource was found to be closed: by whom, and when, cannot be told."""
        self.judge(is_closed=False)

    def _judge(self, *, is_unseen: bool = False) -> None:
        """A budget that is used up by now is overdrawn: who was suspected is judged."""
        if self._before:
            with _spending(self._backend.running_tracking()):
                self._accuse(is_unseen=is_unseen)

    def _accuse(self, *, is_unseen: bool) -> None:
        backend = self._backend
        holders = [holder for holder in self._holders() if self._is_known(holder) and not self._closes(holder.task)]
        if not holders:
            return
        diagnosis = Diagnosis()
        tracking = backend.running_tracking()
        waited_for = _waited_for(backend, tracking)
        ended_by = _tasks_that_scopes_wait_for(backend, tracking)
        accusations: list[Accusation] = []
        for task, table, holding in holders:
            scope = table.scope
            if scope is None or _waits_for(task, waited_for, ended_by, diagnosis):
                continue
            policy = scope._policy  # pyright: ignore[reportPrivateUsage]
            if LeftAlone(table, policy, table.host).takes(task):
                continue
            record = diagnosis.record(task, table.rows.get(task, NO_SITE))
            accusation = Accusation(backend, task, replace(record, closed_scope=table.closed_scope_of(task)))
            accusation.what, accusation.holding, accusation.targets = self._what, holding, self._targets
            accusation.resource = self._resource
            accusation.is_own = id(task) in self._own or self._is_child_of_own(table.rows.get(task, NO_SITE))
            accusation.is_unseen = is_unseen
            accusation.has_not_begun = _has_not_begun(task)
            accusation.is_roused = accusation.has_not_begun or self._is_roused(task)
            if _enter(table, accusation):
                accusation.watch()
                accusations.append(accusation)
        waiting = [accusation for accusation in accusations if accusation.is_roused or accusation.holding.keeper]
        if waiting:
            backend.call_after_turns(TURNS, partial(_time_is_over, waiting, self._targets, tracking))

    def _holders(self) -> Iterator[_Holder]:
        """The pending tasks of scopes that hold the resource, but for the running one."""
        tracking = self._backend.running_tracking()
        current = self._backend.current_task()
        search = HoldingSearch(self._targets)
        here = {task: tracking.table_of(task) for task in self._backend.all_tasks() if task is not current}
        for table in dict.fromkeys(here.values()):
            if table is None or table.closed:
                continue
            for task in table.pending():  # in the order in which they were spawned
                holding = search.holding(task) if here.get(task) is table else None
                if holding is not None:
                    yield _Holder(task, table, holding)
        if search.is_cut_short and not self._is_counted_as_missed:
            self._is_counted_as_missed = True
            tracking.closings_missed += 1

    def _find_rows_of_own(self) -> list[Row]:
        if not self._own:
            return []
        tracking = self._backend.running_tracking()
        own = [task for task in self._backend.all_tasks() if id(task) in self._own]
        rows = [table.rows.get(task, NO_SITE) for task in own if (table := tracking.table_of(task)) is not None]
        return [row for row in rows if row[0] is not None]

    def _is_child_of_own(self, row: Row) -> bool:
        """Whether a task was spawned by one that the resource keeps, or by a child of that."""
        origin: Row | None = row[2]
        while origin is not None:
            if any(origin is own for own in self._rows_of_own):
                return True
            origin = origin[2]
        return False

    def _is_known(self, holder: _Holder) -> bool:
        before = self._before.get(id(holder.task))
        return before is not None and before[0]() is holder.task

    def _closes(self, task: AnyTask) -> bool:
        """Whether a task has closed the resource as well, or is at it."""
        return not self._targets.isdisjoint(closers.get(task, ()))

    def _is_roused(self, task: AnyTask) -> bool:
        """Whether a task waited before, and since then has run, can run or has been cancelled."""
        where = self._before[id(task)][1]
        return where != 0 and self._backend.where_it_waits(task) != where


@final
class Accusation:
    """One task that still held a resource when that had been closed."""

    what: str
    holding: Holding
    targets: frozenset[int]
    resource: Callable[[], object]
    is_own = False
    is_unseen = False
    has_not_begun = False
    is_roused = False
    has_let_go = False

    def __init__(self, backend: Backend, task: AnyTask, record: TaskRecord) -> None:
        self.record = record
        # Held until it ends. The proof of deadlock knows that this is no way to wake it.
        self.task: AnyTask | None = task
        self._backend = backend
        self._ended_task: weakref.ref[Any] | None = None
        self._closed_at = backend.time()
        self._seconds = 0.0
        self._outcome: Outcome | None = None
        self._error: str | None = None
        self._says_closed = False
        self._watch: Any = None

    def watch(self) -> None:
        if self.task is not None:
            self._watch = self._backend.watch_for_end(self.task, self.ended)

    def stop(self) -> None:
        """Leaves nothing of ours with the task, and lets go of it."""
        if self.task is not None:
            self._backend.stop_watching_for_end(self.task, self.ended, self._watch)
        self.task = self._watch = None

    def ended(self, task: Any) -> None:
        """Called when the task has ended."""
        if self.task is None:
            return
        with suppress(RuntimeError):  # the loop is over: all that is known is that the task is too
            self._seconds = max(0.0, self._backend.time() - self._closed_at)
        self._outcome, error = self._backend.outcome(task)
        if error is not None:
            self._error = safe_repr(error)
            self._says_closed = "closed" in f"{type(error).__name__} {safely(lambda: str(error), '')}".lower()
        self._ended_task = weakref.ref(task)
        self.stop()
        with suppress(Exception):
            self._look_whether_it_was_let_go()

    def time_is_over(self, search: HoldingSearch) -> None:
        """Called when who closed the resource has had time to take it out of where it was kept."""
        if self.task is None:
            return
        # What was set going by the closing and has not ended by now is like any other task.
        self.is_roused = False
        if self.holding.keeper is not None:
            self.has_let_go = self.resource() is None or search.holding(self.task) is None

    def _look_whether_it_was_let_go(self) -> None:
        """Whether a registry or a pool no longer has it. What went with the task itself was held to the end."""
        keeper = self.holding.keeper
        if keeper is None or not keeper.is_there() or self.has_let_go:
            return
        self.has_let_go = self.resource() is None or not keeper.leads_to(self.targets)

    def look(self) -> None:
        """Takes notice of an end that nobody has told of yet."""
        if self.task is not None and self._backend.is_done(self.task):
            self.ended(self.task)

    def is_about(self, task: AnyTask) -> bool:
        return task is self.task or (self._ended_task is not None and self._ended_task() is task)

    @property
    def stands(self) -> bool:
        """Whether nothing speaks for the task."""
        has_ended = self._ended_task is not None
        if self.is_unseen or self.has_let_go:
            return self._says_closed
        if self.is_own:
            return self._outcome == "failed" and not self.is_roused
        if has_ended and self.has_not_begun and self._says_closed:
            return True
        return not (has_ended and self.is_roused)

    def is_like(self, other: Accusation) -> bool:
        """Whether another one says the same, of a resource that was closed twice."""
        is_same = other.task is self.task and other.what == self.what
        return is_same and other.holding.variable == self.holding.variable

    def finding(self) -> Finding:
        has_ended = self._ended_task is not None
        return Finding(
            "closed-in-use",
            self.what,
            spawn_site=self.record.spawn_site,
            detail=self._end() if has_ended else "it did not end",
            task=self.record,
            held_in=self.holding.frame,
            variable=self.holding.variable,
            outcome="ended" if has_ended else "survived",
        )

    def _end(self) -> str:
        text = f"it ended {self._seconds:.3f} s after the resource was closed"
        if self._outcome == "cancelled":
            return f"{text}, cancelled"
        return text if self._error is None else f"{text}, and failed: {self._error}"


@contextmanager
def _spending(tracking: Tracking) -> Generator[None]:
    started = time.perf_counter()
    try:
        yield
    finally:
        tracking.looks.spend(time.perf_counter() - started)


def note_closer(part: object) -> None:
    """Keeps in mind that the running task closes a resource: it is not to be accused when another closes it again."""
    with suppress(Exception):
        task = backend_here().current_task()
        if task is not None:
            closers.setdefault(task, deque(maxlen=_REMEMBERED)).append(id(part))


def is_within_reach(thing: object) -> bool:
    """Whether a task can come to a thing, the running one too. What cannot be looked at for want of time counts so."""
    with suppress(Exception):
        backend = backend_here()
        tracking = backend.running_tracking()
        if not is_off() and tracking.looks.has_any_left:
            with _spending(tracking):
                search = HoldingSearch({id(thing)})
                return any(search.holding(task) for task in backend.all_tasks()) or search.is_cut_short
    return True


def findings_of(table: TaskTable, left: LeftAlone | None = None) -> tuple[Finding, ...]:
    """What a scope has to say of resources that were closed while its tasks used them, when it ends.

    left: the tasks that are left alone at that end.
    """
    accusations = _standing(table)
    if left is not None:
        accusations = [each for each in accusations if not _is_left(left, each.task)]
    return tuple(accusation.finding() for accusation in accusations)


def closed_before_end(table: TaskTable, task: AnyTask) -> tuple[str, ...]:
    """The resources that a task held when they were closed."""
    found = [accusation.what for accusation in _standing(table) if accusation.is_about(task)]
    return tuple(dict.fromkeys(found))


def forget(table: TaskTable) -> None:
    """Leaves nothing of ours with the tasks of a scope that has ended."""
    for accusation in table.closed_in_use or ():
        accusation.stop()
    table.closed_in_use = None


def _standing(table: TaskTable) -> list[Accusation]:
    accusations: list[Accusation] = table.closed_in_use or []
    for accusation in accusations:
        accusation.look()
    return [accusation for accusation in accusations if accusation.stands]


def _is_left(left: LeftAlone, task: AnyTask | None) -> bool:
    return task is not None and (left.is_ignored(task) or left.is_transferred(task))


def _enter(table: TaskTable, accusation: Accusation) -> bool:
    """Notes an accusation with the scope whose task it is. False where there is one like it."""
    if table.closed_in_use is None:
        table.closed_in_use = []
    accusations: list[Accusation] = table.closed_in_use
    like = next((each for each in accusations if each.is_like(accusation)), None)
    if like is not None:
        if not like.is_unseen or accusation.is_unseen:
            return False
        like.stop()  # what is seen counts for more
        accusations.remove(like)
    if len(accusations) >= ACCUSED_LIMIT:
        table.accused_omitted += 1
        return False
    accusations.append(accusation)
    return True


def _time_is_over(accusations: Iterable[Accusation], targets: frozenset[int], tracking: Tracking) -> None:
    with _spending(tracking):
        search = HoldingSearch(targets)
        for accusation in accusations:
            with suppress(Exception):
                accusation.time_is_over(search)


def _waited_for(backend: Backend, tracking: Tracking) -> set[int]:
    """The ids of the running task, of those that its end wakes, and of those that end a scope which it belongs to."""
    current = backend.current_task()
    if current is None:
        return set()
    found = {id(current), *woken_by(current)}
    table = tracking.table_of(current)
    while table is not None:
        scope = table.scope
        if scope is not None and table.host is not None and scope._state == "closing":  # pyright: ignore[reportPrivateUsage]
            found.add(id(table.host))
        table = table.parent
    return found


def _weakly(thing: object) -> Callable[[], object]:
    """Something that gives a thing while it is there. What cannot be referred to weakly counts as being there."""
    try:
        return weakref.ref(thing)
    except TypeError:
        return lambda: True


def _tasks_that_scopes_wait_for(backend: Backend, tracking: Tracking) -> dict[int, list[AnyTask]]:
    """The tasks that are waited for by a scope that ends, by the ids of those who end it."""
    found: dict[int, list[AnyTask]] = {}
    for task in backend.all_tasks():
        table = tracking.table_of(task)
        scope = None if table is None else table.scope
        if table is not None and scope is not None and scope._state == "closing":  # pyright: ignore[reportPrivateUsage]
            found.setdefault(id(table.host), []).append(task)
    return found


def _has_not_begun(task: AnyTask) -> bool:
    """Whether a task has not run its first line. Nothing of it runs at all if it is cancelled before, on asyncio."""
    coroutine = coroutine_of(task)
    if not is_exactly(coroutine, types.CoroutineType):
        return False
    return inspect.getcoroutinestate(cast("Any", coroutine)) == inspect.CORO_CREATED


def _waits_for(
    task: AnyTask, waited_for: set[int], ended_by: Mapping[int, list[AnyTask]], diagnosis: Diagnosis
) -> bool:
    """Whether a task waits for one of these, directly or by way of others.

    ended_by: the tasks for which scopes wait, by the ids of those who end the scopes.
    """
    ahead = deque([task])
    seen = {id(task)}
    while ahead and len(seen) < _WAITING_LIMIT:
        current = ahead.popleft()
        if id(current) in waited_for:
            return True
        for other in (*diagnosis.awaited(current), *ended_by.get(id(current), ())):
            if id(other) not in seen:
                seen.add(id(other))
                ahead.append(other)
    return False
