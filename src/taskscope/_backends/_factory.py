"""The tagging task factory and its place on a loop."""

from __future__ import annotations

import asyncio
import functools
import sys
import weakref
from asyncio import base_events, tasks
from collections.abc import Callable, Coroutine
from contextvars import Context
from types import CodeType
from typing import Any, NamedTuple, final

from taskscope._backends._budget import Budget
from taskscope._backends._calls import may_call
from taskscope._backends._ownership import NOBODY, Owner, Ownership, current_task, running_loop
from taskscope._backends._turns import Turns
from taskscope._diagnosis.safely import safe_repr
from taskscope._site import CREATE_TASK, GROUP_CREATE_TASK, cut, note_site, user_frame
from taskscope._table import NO_SITE, AnyTask, Row, TaskTable, tag

Factory = Callable[..., Any]

# AnyIO recognises an eager factory by this code object and takes the constructor out of its closure.
if sys.version_info >= (3, 12):
    _EAGER_CODE: CodeType | None = asyncio.eager_task_factory.__code__
else:
    _EAGER_CODE = None

# Set on every factory made here, to a `_Mark`.
_MARK = "_taskscope_mark"


class _Mark(NamedTuple):
    """What a factory made here is known by. A mere attribute would not do: `functools.wraps` copies it to wrappers.

    It names its factory weakly, or with every loop a cycle would be left to the collector.
    """

    factory: weakref.ref[Factory]
    ownership: Ownership
    replaced: Factory | None


@final
class LoopTracking:
    """What taskscope keeps for one event loop, for as long as the loop lives."""

    __slots__ = (
        "__weakref__",
        "_loop",
        "_plain",
        "_turns",
        "budget",
        "closings_missed",
        "factory",
        "guards",
        "installation",
        "looks",
        "losses",
        "ownership",
        "timed_bodies",
        "users",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)
        self.ownership = Ownership()
        self.factory: Factory | None = None
        self._plain: Factory | None = None
        self._turns: Turns | None = None
        # The installation on this loop, if somebody made one.
        self.installation: Any = None
        self.users = 0
        # How often the factory was found replaced by somebody else's while it was in use.
        self.losses = 0
        self.budget = Budget()
        self.timed_bodies: set[Any] = set()
        self.looks = Budget()
        self.closings_missed = 0
        self.guards: list[Any] | None = None

    @property
    def root(self) -> TaskTable | None:
        return self.ownership.root

    @root.setter
    def root(self, table: TaskTable | None) -> None:
        self.ownership.root = table

    def acquire(self) -> None:
        """Puts the factory on the loop, unless it is there, and counts a user."""
        loop = self._require_loop()
        current = loop.get_task_factory()
        if self.factory is None or (current is not self.factory and not self._reaches(current)):
            if self.users:
                self.losses += 1
            self._put_on(loop, current)
        self.users += 1

    def return_to_loop(self) -> None:
        """Puts the factory on the loop again, in front of one that somebody has put in its place meanwhile."""
        self.acquire()
        self.release()

    def release(self) -> None:
        """Counts a user off. With the last one the factory goes, and what it replaced comes back."""
        self.users -= 1
        loop = self._loop()
        if self.users or loop is None:
            return
        if self._turns is not None:
            self._turns.stop()
        if loop.get_task_factory() is self.factory:
            loop.set_task_factory(_mark_of(self.factory).replaced)
            self.factory = None
        # Otherwise somebody has wrapped or replaced ours. Theirs stays; ours, if theirs still calls it, finds no scope
        # open and passes everything through.

    def step_aside(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Has the loop make tasks without us until `step_back`. False where others count on what makes them now."""
        if self._plain is None or self.root is not None or loop.get_task_factory() is not self._plain:
            return False
        loop.set_task_factory(None)
        return True

    def step_back(self, loop: asyncio.AbstractEventLoop) -> None:
        if self.users and loop.get_task_factory() is None:
            loop.set_task_factory(self._plain)

    def is_on_loop(self) -> bool:
        """Whether tasks are made with our factory, directly or through a factory that calls ours."""
        current = self._require_loop().get_task_factory()
        return current is self.factory or (current is not None and self._reaches(current))

    def call_soon(self, callback: Callable[[], object]) -> None:
        """Has something called in the loop, as soon as that runs."""
        self._require_loop().call_soon_threadsafe(callback)

    def turns(self) -> Turns:
        if self._turns is None:
            self._turns = Turns(self._require_loop())
        return self._turns

    def loss(self) -> str:
        by = "one that was taken off again" if self.is_on_loop() else safe_repr(self._require_loop().get_task_factory())
        return f"the task factory was replaced while the scope was open, by {by}"

    def owner_of_spawn(self) -> Owner:
        return self.ownership.of_spawn(self._require_loop())

    def owner_of_scope(self, host: AnyTask | None) -> Owner:
        return self.ownership.of_scope(host)

    def table_of(self, task: AnyTask) -> TaskTable | None:
        return self.ownership.of_task(task)

    def move(self, task: AnyTask, source: TaskTable | None, target: TaskTable | None) -> None:
        self.ownership.move(task, source, target)

    def is_starting(self) -> bool:
        return bool(self.ownership.starting)

    def is_moved(self, task: AnyTask) -> bool:
        return task in self.ownership.aside

    def _require_loop(self) -> asyncio.AbstractEventLoop:
        loop = self._loop()
        assert loop is not None, "a scope holds its loop"
        return loop

    def _put_on(self, loop: asyncio.AbstractEventLoop, current: Any) -> None:
        if current is None:
            if self._plain is None:
                self._plain = _plain_factory(self.ownership, 2 if isinstance(loop, asyncio.BaseEventLoop) else 1)
                setattr(self._plain, _MARK, _Mark(weakref.ref(self._plain), self.ownership, None))
            self.factory = self._plain
            loop.set_task_factory(self._plain)
            return
        mark = _mark_of(current)
        if mark is not None and mark.ownership is self.ownership:
            self.factory = current  # one of ours, kept by somebody and put back
            return
        if _EAGER_CODE is not None and getattr(current, "__code__", None) is _EAGER_CODE and current.__closure__:
            factory = _eager_factory(self.ownership, current.__closure__[0].cell_contents)
        else:
            factory = _chained_factory(self.ownership, current)
        setattr(factory, _MARK, _Mark(weakref.ref(factory), self.ownership, current))
        self.factory = factory
        loop.set_task_factory(factory)

    def _reaches(self, factory: object) -> bool:
        """Whether a factory calls ours, as far as its code tells. To hold ours is not enough: aiomonitor's factory
        keeps what it has replaced, only to give it back.
        """
        return self.factory is not None and may_call(factory, self.factory)


def _mark_of(factory: Any) -> Any:
    mark = getattr(factory, _MARK, None)
    return mark if isinstance(mark, _Mark) and mark.factory() is factory else None


# The tracking that was asked for last, beside its loop: mostly there is one loop, and a weak dictionary is slow.
_last: tuple[weakref.ref[asyncio.AbstractEventLoop], LoopTracking] | None = None

_trackings: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, LoopTracking] = weakref.WeakKeyDictionary()


def tracking_of(loop: asyncio.AbstractEventLoop) -> LoopTracking:
    global _last
    last = _last
    if last is not None and last[0]() is loop:
        return last[1]
    tracking = _trackings.get(loop) or _trackings.setdefault(loop, LoopTracking(loop))
    _last = (weakref.ref(loop), tracking)
    return tracking


def _plain_factory(ownership: Ownership, depth: int) -> Factory:
    """The factory for a loop that has none. This is the hot path: each line of it is paid by every spawn.

    depth: how many calls above the factory the nearest frame is that can be a user's. `loop.create_task` is a Python
        function in asyncio and leaves a frame, in uvloop it does not. Mostly it is `asyncio.create_task`, and the
        user's is the next one, which is why that one is looked at first.
    """
    get_tag = tag.get
    get_frame = sys._getframe  # pyright: ignore[reportPrivateUsage]

    def factory(loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], **kwargs: Any) -> AnyTask:
        task: AnyTask
        if not kwargs:
            task = tasks.Task(coro, loop=loop)
        elif kwargs.get("context") is not None or kwargs.get("eager_start"):
            task = _spawn(
                ownership, loop, kwargs.get("context"), functools.partial(tasks.Task, coro, loop=loop, **kwargs)
            )
            _fold_source_traceback(task, 2)
            return task
        else:
            task = tasks.Task(coro, loop=loop, **kwargs)
        if task._source_traceback:  # type: ignore[attr-defined]
            _fold_source_traceback(task, 1)
        table = get_tag(None)
        if table is None:
            table = ownership.root
            if table is None:
                _record_stray(ownership, loop, task)
                return task
        parent = current_task(loop)
        rows = table.rows
        origin = table.host_row if parent is table.host else rows.get(parent)  # type: ignore[arg-type]
        if origin is None:
            _record_stray(ownership, loop, task)
            return task
        if table.note is not None:
            rows[task] = table.note(get_frame(1), origin)
        else:
            try:
                frame: Any = get_frame(depth + 1)
                row = table.last_row
                if row[0] is not frame.f_code or row[1] != frame.f_lasti or row[2] is not origin:
                    row = _site_row(table, get_frame(depth), origin)
                rows[task] = row
            except ValueError:  # called from C, with no Python code around
                rows[task] = note_site(None, origin)
        if len(rows) > table.threshold:
            table.tidy(task)
        return task

    return factory


def _site_row(table: TaskTable, frame: Any, origin: Row) -> Row:
    """The row of a spawn that is not like the one before.

    frame: the nearest that can be a user's. One that only passes a coroutine on to the loop is looked through, and what
        its caller does is remembered: the same call by the same spawner has the same row, and most spawns are repeats.
        (A caller that gets to the loop in two ways from one call has the site of the first for both.)
    """
    code = frame.f_code
    looked_through = code is CREATE_TASK or code is GROUP_CREATE_TASK
    if looked_through:
        frame = frame.f_back
        code = frame.f_code
    if code is not table.last_code:
        found = user_frame(sys._getframe(1))  # pyright: ignore[reportPrivateUsage]
        if found is None:
            return note_site(None, origin)
        looked_through = looked_through and found is frame
        frame = found
        code = table.last_code = frame.f_code
    ancestors = origin[3] + 1
    row = (code, frame.f_lasti, cut(origin), ancestors)
    if looked_through:
        table.last_row = row
    return row


def _chained_factory(ownership: Ownership, theirs: Factory) -> Factory:
    def factory(loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], **kwargs: Any) -> Any:
        task = _spawn(ownership, loop, kwargs.get("context"), functools.partial(theirs, loop, coro, **kwargs))
        _fold_among_others(task)
        return task

    return factory


def _eager_factory(ownership: Ownership, theirs: Callable[..., Any]) -> Factory:
    def construct(coro: Coroutine[Any, Any, Any], **kwargs: Any) -> Any:
        loop = kwargs.get("loop") or running_loop()
        task = _spawn(ownership, loop, kwargs.get("context"), functools.partial(theirs, coro, **kwargs))
        _fold_among_others(task)
        return task

    if sys.version_info < (3, 12):
        raise RuntimeError("there is no eager task factory before Python 3.12")
    return asyncio.create_eager_task_factory(construct)


def _spawn(
    ownership: Ownership, loop: asyncio.AbstractEventLoop, context: Context | None, make: Callable[[], Any]
) -> Any:
    """Makes a task that may run its first step while it is being made."""
    owner = ownership.of_spawn(loop)
    if type(context) is Context and (context.get(tag) or ownership.root) is not owner.table:
        owner = owner._replace(aside=True)
    row = _note(owner)
    starting = Owner(owner.table, row, owner.aside, owner.closed)
    ownership.starting.append(starting)
    try:
        task = make()
    finally:
        is_owned_still = ownership.starting.pop() is starting
    if is_owned_still:
        ownership.record(task, owner, row)
    return task


def _record_stray(ownership: Ownership, loop: asyncio.AbstractEventLoop, task: AnyTask) -> None:
    owner = ownership.of_spawn(loop)
    if owner is not NOBODY:
        ownership.record(task, owner, _note(owner))


def _note(owner: Owner) -> Row:
    if owner.table is None:
        return NO_SITE
    note = owner.table.note or note_site
    # The caller of a factory of ours, in which both callers of this are called.
    return note(sys._getframe(2).f_back, owner.origin)  # pyright: ignore[reportPrivateUsage]


def _fold_source_traceback(task: Any, ours: int) -> None:
    """Takes our frames out of the creation traceback that asyncio keeps in debug mode, where no other factory is set.

    With them that of the loop's `create_task`, as asyncio itself does then.

    ours: how many the last ones are.
    """
    frames = task._source_traceback
    if not frames or frames[-1].filename != __file__:
        return  # not that of Python's own task in C
    if len(frames) > ours and frames[-ours - 1].filename == base_events.__file__:
        ours += 1
    del frames[-ours:]


def _fold_among_others(task: Any) -> None:
    """The same below another factory, whose frames come after ours."""
    frames = getattr(task, "_source_traceback", None)
    if frames:
        frames[:] = [frame for frame in frames if frame.filename != __file__]
