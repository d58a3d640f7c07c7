"""What taskscope keeps for an event loop, and how its task factory comes there and goes again."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple, final

from taskscope._backends._budget import Budget
from taskscope._backends._calls import may_call
from taskscope._backends._factory import EAGER_CODE, Factory, chained_factory, eager_factory, plain_factory
from taskscope._backends._ownership import Owner, Ownership
from taskscope._backends._turns import Turns
from taskscope._diagnosis.safely import safe_repr
from taskscope._table import AnyTask, TaskTable

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
                self._plain = plain_factory(
                    self.ownership, 2 if isinstance(loop, asyncio.base_events.BaseEventLoop) else 1
                )
                setattr(self._plain, _MARK, _Mark(weakref.ref(self._plain), self.ownership, None))
            self.factory = self._plain
            loop.set_task_factory(self._plain)
            return
        mark = _mark_of(current)
        if mark is not None and mark.ownership is self.ownership:
            self.factory = current  # one of ours, kept by somebody and put back
            return
        if EAGER_CODE is not None and getattr(current, "__code__", None) is EAGER_CODE and current.__closure__:
            factory = eager_factory(self.ownership, current.__closure__[0].cell_contents)
        else:
            factory = chained_factory(self.ownership, current)
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
