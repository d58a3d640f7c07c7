"""Tasks that still hold a resource when it has been closed: who is suspected, and who is accused.

No accusation is false, as far as can be told; a missed one is better. So a task is let be that waits for whoever closes
the resource, or that the closing itself sets going and that ends soon; and one that the resource keeps itself is
accused only if it failed. What was not seen to be closed, but found to be, is held against those alone who fail and say
that it was closed: any other could be who has closed it.
"""

from __future__ import annotations

import inspect
import types
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any, Final, NamedTuple, cast, final

from taskscope._accusations import Accusation, enter
from taskscope._backends._backend import Backend, Tracking
from taskscope._backends._here import backend_here
from taskscope._clock import perf_counter
from taskscope._closers import closers
from taskscope._diagnosis.awaitables import is_exactly
from taskscope._diagnosis.diagnosis import Diagnosis
from taskscope._diagnosis.holding import Holding, HoldingSearch, is_stop, tasks_of
from taskscope._diagnosis.tasks import coroutine_of
from taskscope._left_alone import LeftAlone
from taskscope._off import is_off
from taskscope._resource import closed_part, is_server, stand_ins
from taskscope._table import NO_SITE, AnyTask, Row, TaskTable
from taskscope._waiting_for_closer import ids_waited_for, tasks_that_scopes_wait_for, waits_for

TURNS: Final = 10
"""Turns of the loop in which a task may end that the closing itself has set going."""

_REMEMBERED: Final = 16
"""Resources that are remembered of a task to have been closed by it."""


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
        waited_for = ids_waited_for(backend, tracking)
        ended_by = tasks_that_scopes_wait_for(backend, tracking)
        accusations: list[Accusation] = []
        for task, table, holding in holders:
            scope = table.scope
            if scope is None or waits_for(task, waited_for, ended_by, diagnosis):
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
            if enter(table, accusation):
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


@contextmanager
def _spending(tracking: Tracking) -> Generator[None]:
    started = perf_counter()
    try:
        yield
    finally:
        tracking.looks.spend(perf_counter() - started)


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


def _time_is_over(accusations: Iterable[Accusation], targets: frozenset[int], tracking: Tracking) -> None:
    with _spending(tracking):
        search = HoldingSearch(targets)
        for accusation in accusations:
            with suppress(Exception):
                accusation.time_is_over(search)


def _weakly(thing: object) -> Callable[[], object]:
    """Something that gives a thing while it is there. What cannot be referred to weakly counts as being there."""
    try:
        return weakref.ref(thing)
    except TypeError:
        return lambda: True


def _has_not_begun(task: AnyTask) -> bool:
    """Whether a task has not run its first line. Nothing of it runs at all if it is cancelled before, on asyncio."""
    coroutine = coroutine_of(task)
    if not is_exactly(coroutine, types.CoroutineType):
        return False
    return inspect.getcoroutinestate(cast("Any", coroutine)) == inspect.CORO_CREATED
