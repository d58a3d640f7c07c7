"""The tasks of one scope, and how finished ones are let go without a callback on each task."""

from __future__ import annotations

import asyncio
import math
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from contextvars import ContextVar, Token
from itertools import cycle
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any, Final, final

from taskscope._frames import frame_at

if TYPE_CHECKING:
    from taskscope._backends._backend import Backend
    from taskscope._diagnosis.proof import AtRest
    from taskscope._scope import TaskScope

AnyTask = asyncio.Task[Any]

# Where and by whom a task was spawned: the spawner's code and the offset of the call in it (the line is computed only
# for a report), the spawner's own row, the number of its ancestors. With spawn_site="stack" the whole stack and the
# time follow.
Row = tuple[CodeType | None, int, Any, int] | tuple[CodeType | None, int, Any, int, Any, float]

# Makes the row of a task from the innermost frame at the spawn and the spawner's row.
Note = Callable[[FrameType | None, Row], Row]

NO_SITE: Row = (None, 0, None, 0)

# How many finished tasks may be held before somebody looks. A table of this size is also about what stays in a
# processor's cache: larger ones make every spawn slower.
HELD = 128

# Of a table with fewer pending tasks than this nobody sees the ends any more.
FEW = 32

# The host of a closed table. Not None, for that is what a callback has in the place of a current task.
_NO_HOST: Any = object()

# While many tasks are pending, about one in 16 gets a done callback that keeps count, and twice as many in a table so
# small that those would be few. The gaps differ, without a period that a program could have ("every 16th task is a
# supervisor") and so hide the others from the sample.
MEAN_GAP = 16
SMALL = 512


def _uneven_gaps() -> tuple[int, ...]:
    gaps: list[int] = []
    state = 1
    for _ in range(127):
        state = (state * 1_103_515_245 + 12_345) % 2**31
        gaps.append(MEAN_GAP - 7 + (state >> 16) % 15)
    return tuple(gaps)


GAPS = _uneven_gaps()

# A sample is only likely to show how many have ended: it is believed less by so many standard deviations.
DOUBT = 4.0


# By their ids.
_weak_books: Final[weakref.WeakValueDictionary[int, Any]] = weakref.WeakValueDictionary()


def weak_books() -> list[Any]:
    """The weak sets and dicts in which scopes know tasks. They wake none, and a proof has to know of them."""
    books = [reference() for reference in _weak_books.valuerefs()]
    return [book for book in books if book is not None]


def note_weak_book(book: Any) -> None:
    _weak_books[id(book)] = book


@final
class TaskTable:
    """The pending tasks of a scope, each with its row, and at most `max(HELD, pending)` finished ones.

    asyncio holds its tasks weakly, so the table is also what keeps a blocked task alive that nobody else refers to.

    Small tables are swept when a spawn fills them. Where more than half of `HELD` tasks are pending that would be too
    seldom (all of them can end without another spawn) or too dear (a sweep every few spawns). On Trio the end of every
    task is seen then; on asyncio a sample of the tasks is watched, and their ends tell when a sweep is due.
    """

    # What most tables never change stays with the class: a scope that is clean should cost next to nothing.
    backend: Backend
    parent: TaskTable | None = None
    groups_before = 0  # how many groups the host had opened when the scope began, where the backend tells
    shadowed: TaskTable | None = None  # the tag that the host's context had before this one, mostly the parent
    swept = 0
    closed = False
    refusing = False
    closed_in_use: list[Any] | None = None  # accusations: who held a resource when that was closed
    accused_omitted = 0
    # Whether a loop is to look in each of its turns which tasks have ended, where that is cheaper than callbacks.
    is_seen_each_turn = True
    _lets_each_go = False
    _sweep_at = HELD
    _sampled: set[AnyTask] | None = None
    _sampled_ended = 0
    _gaps: Iterator[int] | None = None
    _closed_in: dict[AnyTask, str] | None = None
    # Gives what does nothing while the scope's body runs. None: nobody knows of any.
    at_rest: Callable[[], AtRest] | None = None
    # Tasks that somebody else has taken over. None before there is any.
    given_away: weakref.WeakSet[AnyTask] | None = None
    # Told of tasks that have ended and are let go, in one call for all of a sweep, with the rows in which theirs are.
    # Nobody is, unless a scope looks for what nobody has retrieved.
    lets_go: tuple[Callable[[Iterable[AnyTask], Mapping[AnyTask, Row]], None], ...] = ()

    def __init__(self, scope: TaskScope, note: Note | None, label: str | tuple[CodeType, int]) -> None:
        # None once the scope has ended: contexts can keep a table for ever, and need no more than its ancestors.
        self.scope: TaskScope | None = scope
        self._label = label
        self.rows: dict[AnyTask, Row] = {}
        # The hot path compares len(rows) with this alone. Below zero: every spawn is looked at.
        self.threshold = HELD - 1
        self.host: AnyTask | None = None
        self.host_row: Row = NO_SITE
        self.last_code: CodeType | None = None
        self.last_row: Row = NO_SITE
        self.note = note

    def pending(self) -> list[AnyTask]:
        if not self.rows:
            return []
        is_done = self.backend.is_done
        return [task for task in list(self.rows) if not is_done(task)]

    @property
    def spawned(self) -> int:
        return self.swept + len(self.rows)

    @property
    def name(self) -> str:
        """The scope's name. Without one of its own: function and line of where it was opened."""
        if not isinstance(self._label, str):
            place = frame_at(*self._label)
            self._label = f"{place.function} ({os.path.basename(place.file)}:{place.line})"
        elif type(self._label) is not str:  # of a class of a user's, and reports hold no live objects
            self._label = str.__str__(self._label)
        return self._label

    def open_ancestor(self) -> TaskTable | None:
        """The nearest table outwards that is open."""
        table = self.parent
        while table is not None and table.closed:
            table = table.parent
        return table

    def is_meant_by(self, tagged: TaskTable | None) -> bool:
        """Whether a tag is the scope's, or that of a closed scope inside it."""
        while tagged is not None and tagged is not self and tagged.closed:
            tagged = tagged.parent
        return tagged is self

    def pass_on(self, task: AnyTask) -> None:
        """A context that outlived the scope has spawned: the nearest open ancestor answers for the task."""
        row = self.rows.pop(task, NO_SITE)
        heir = self.open_ancestor()
        if heir is not None:
            heir.inherit(task, row, self.name)

    def inherit(self, task: AnyTask, row: Row, closed_scope: str) -> None:
        """Takes a task that was spawned from the context of a closed scope."""
        self._note_closed(task, closed_scope)
        self.rows[task] = row
        if len(self.rows) > self.threshold:
            self.tidy(task)

    def hand_over(self, task: AnyTask, taker: TaskTable) -> None:
        """Gives a pending task to another table, which keeps in mind where it comes from."""
        came_from = self.closed_scope_of(task) or self.name
        self.backend.tracking_of_task(task).move(task, self, taker)
        if came_from != taker.name:
            taker._note_closed(task, came_from)

    def _note_closed(self, task: AnyTask, scope: str) -> None:
        if self._closed_in is None:
            self._closed_in = {}
        self._closed_in[task] = scope

    def closed_scope_of(self, task: AnyTask) -> str | None:
        return None if self._closed_in is None else self._closed_in.get(task)

    def note_given_away(self, task: AnyTask) -> None:
        if self.given_away is None:
            self.given_away = weakref.WeakSet()
            note_weak_book(self.given_away)
        self.given_away.add(task)

    def pending_elsewhere(self) -> list[AnyTask]:
        """The tasks that somebody else has taken over, and not given back, and that have not ended."""
        given = self.given_away or ()
        return [task for task in given if task not in self.rows and not self.backend.is_done(task)]

    def take(self, task: AnyTask) -> Row | None:
        """Lets a task go to somebody else."""
        row = self.rows.pop(task, None)
        if row is not None:
            self.swept += 1
        if self._closed_in is not None:
            self._closed_in.pop(task, None)
        if self._sampled is not None and task in self._sampled:
            self._sampled.discard(task)
            task.remove_done_callback(self._sampled_end)
        if self._lets_each_go:
            self._stop_watching(task)
        return row

    def put(self, task: AnyTask, row: Row) -> None:
        """Takes a pending task from somebody else."""
        self.rows[task] = row
        if self._lets_each_go:
            self._watch_for_end(task)

    def tidy(self, newest: AnyTask) -> None:
        """Called by the spawn that brought the table over its threshold."""
        if self.closed:
            self.pass_on(newest)
            return
        if self.refusing:
            self.backend.refuse(newest)
            return
        if self._lets_each_go:
            self._watch_for_end(newest)
            return
        # Another thread may be tidying, or this very one, where a finalizer has spawned meanwhile.
        if not _tidying.acquire(blocking=False):
            return
        try:
            if len(self.rows) >= self._sweep_at or self._seems_due():
                self._sweep()
            else:
                self._sample(newest)
            self._set_threshold()
        finally:
            _tidying.release()

    def let_each_go(self) -> None:
        """From now on a task of asyncio's is let go when it has ended, and what it has returned or raised with it.

        That can be what a program waits for: a `__del__` or finalizer there. It costs a callback for every task.
        """
        self._lets_each_go = True
        self.threshold = -1

    def _watch_for_end(self, task: AnyTask) -> None:
        # What is spawned before its loop runs is mostly what that is to run until it is complete, and its end is seen
        # by whoever runs the loop. With a callback of ours before theirs it would be held in another way.
        if asyncio._get_running_loop() is None:
            return
        with suppress(Exception):  # of a class of a user's, which can have methods of its own
            if task.done() or (self.is_seen_each_turn and self._is_seen_each_turn(task)):
                return
            self.backend.watch_for_end(task, self._has_ended)

    def _is_seen_each_turn(self, task: AnyTask) -> bool:
        if not self.backend.sees_each_turn(self, task):
            return False
        if len(self.rows) <= FEW:
            return True
        self.is_seen_each_turn = False  # to look at many in every turn would be dearer yet
        for seen in self.pending():
            if seen is not task and seen.get_loop() is asyncio._get_running_loop():
                self.backend.watch_for_end(seen, self._has_ended)
        return False

    def _stop_watching(self, task: AnyTask) -> None:
        with suppress(Exception):
            self.backend.stop_watching_for_end(task, self._has_ended, None)

    def _has_ended(self, task: AnyTask) -> None:
        if task in self.rows:
            self._drop([task])

    def let_ended_go(self) -> None:
        """Holds only what is pending, as after any sweep."""
        if not self.rows or not _tidying.acquire(blocking=False):
            return
        try:
            self._drop([task for task in list(self.rows) if self.backend.is_done(task)])
            if not self._lets_each_go:
                self._set_threshold()
        finally:
            _tidying.release()

    def expect_few(self) -> None:
        """The table has become small: from now on it is swept when a spawn fills it."""
        self._sweep_at = HELD
        self._set_threshold()

    def refuse(self) -> None:
        """From now on, until the table is closed, what is spawned is cancelled before its first step."""
        self.refusing = True
        self.threshold = -1

    def close(self) -> None:
        """Drops all tasks. From now on every spawn that comes here is passed on."""
        self.closed = True
        self.threshold = -1
        self.scope = None
        self.host = _NO_HOST
        if self.rows:
            if self._lets_each_go:
                for task in list(self.rows):
                    self._stop_watching(task)
            self.swept += len(self.rows)
            self.rows.clear()
        self._closed_in = None
        if self._sampled is not None:
            self._forget_samples()

    def _sweep(self) -> None:
        rows = self.rows
        is_done = self.backend.is_done
        self._drop([task for task in list(rows) if is_done(task)])
        pending = len(rows)
        self._sampled_ended = 0
        if pending <= HELD // 2:
            self._forget_samples()
            self._sweep_at = HELD
            return
        self._sweep_at = pending + max(HELD, pending)
        if self.backend.drop_ended(self):
            return
        if self._sampled is None:
            self._sampled = set()
            self._gaps = cycle(GAPS)
        self._top_up_samples(self._sampled)

    def _drop(self, ended: list[AnyTask]) -> None:
        rows = self.rows
        for told in self.lets_go:
            told(ended, rows)
        for task in ended:
            if rows.pop(task, None) is not None:  # another thread can have been faster
                self.swept += 1
            if self._closed_in is not None:
                self._closed_in.pop(task, None)

    def _set_threshold(self) -> None:
        if self.closed or self.refusing or self._lets_each_go:
            self.threshold = -1
        elif self._gaps is None:
            self.threshold = self._sweep_at - 1
        else:
            self.threshold = min(self._sweep_at - 1, len(self.rows) + self._scaled(next(self._gaps)))
            if len(self.rows) <= HELD < self.threshold:
                self.threshold = HELD  # no number of ends was too many up to here

    def _scaled(self, gap: int) -> int:
        return gap // 2 if len(self.rows) < SMALL else gap

    def _top_up_samples(self, sampled: set[AnyTask]) -> None:
        # what was pending before sampling began, or is left when the sampled ones have ended, must be represented too
        missing = len(self.rows) // self._scaled(MEAN_GAP) - len(sampled)
        if missing <= 0:
            return
        tasks = list(self.rows)
        position = 0
        for gap in cycle(GAPS):
            position += self._scaled(gap)
            if position >= len(tasks) or missing <= 0:
                return
            if tasks[position] not in sampled:
                self._sample(tasks[position])
                missing -= 1

    def _sample(self, task: AnyTask) -> None:
        if self._sampled is None or task.done() or task.get_loop() is not asyncio._get_running_loop():
            return
        self._sampled.add(task)
        task.add_done_callback(self._sampled_end)

    def _sampled_end(self, task: AnyTask) -> None:
        if self._sampled is None or task not in self._sampled:
            return
        self._sampled.discard(task)
        self._sampled_ended += 1
        if not self._seems_due():
            return
        if not _tidying.acquire(blocking=False):
            return
        try:
            self._sweep()
            self._set_threshold()
        finally:
            _tidying.release()

    def _seems_due(self) -> bool:
        """Whether so many of the sample have ended that of all tasks more than the bound may have."""
        held = len(self.rows)
        if held <= HELD or not self._sampled_ended or self._sampled is None:
            return False
        bound = max(HELD, held / 2) / held
        expected = (len(self._sampled) + self._sampled_ended) * bound
        return self._sampled_ended >= expected - DOUBT * math.sqrt(expected * (1 - bound))

    def _forget_samples(self) -> None:
        for task in list(self._sampled or ()):
            task.remove_done_callback(self._sampled_end)
        self._sampled = None
        self._gaps = None


# One for all tables. Nobody waits for it: a table that finds it taken is tidied by its next spawn.
_tidying = threading.Lock()


def set_tag(table: TaskTable) -> Token[TaskTable | None]:
    token = tag.set(table)
    shadowed = token.old_value
    table.shadowed = None if shadowed is Token.MISSING else shadowed
    return token


# The tag: what the running code's tasks belong to. It names the table and not the scope, to save the hot path a step.
tag: ContextVar[TaskTable | None] = ContextVar("taskscope")
