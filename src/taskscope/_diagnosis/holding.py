"""Which variable of a task leads to an object: a bounded walk from the frames of its await chain, by name.

Nothing of a user's is called on the way: objects are known by their identity, and only fields are read.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import gc
import logging
import sys
import types
import weakref
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice, pairwise
from typing import Any, Final, final

from taskscope._clock import perf_counter
from taskscope._diagnosis.awaitables import is_wrapper
from taskscope._diagnosis.folding import is_internal, is_of_library, is_own
from taskscope._diagnosis.live_variables import dead_variables
from taskscope._diagnosis.opaque import class_of, module_of, package_of
from taskscope._diagnosis.own_fields import own_fields
from taskscope._diagnosis.packages import TRIO, function_in
from taskscope._diagnosis.stack import Link, task_chain
from taskscope._diagnosis.steps import OBJECTS, Step, held_by, steps_from
from taskscope._diagnosis.stops import STOPS
from taskscope._diagnosis.tasks import is_task
from taskscope._report import Frame

DEPTH: Final = 4
"""Steps from a variable to what it leads to. What lies further is not found."""

ALL_OBJECTS: Final = 300_000
"""Objects that are looked at for all tasks together. Those that are not come to by then count as holding nothing."""

SECONDS: Final = 0.25
"""How long all tasks together are looked at."""

_STOPS: Final[tuple[type, ...]] = (
    *STOPS,
    types.TracebackType,
    BaseException,
    concurrent.futures.Future,
    logging.Logger,
    logging.Handler,
    # A connection leads to its server, and to whatever answers there.
    asyncio.transports.BaseTransport,
    asyncio.streams.StreamReaderProtocol,
    bytearray,
)

_name: Final = type.__dict__["__name__"].__get__

# What a frame refers to that is no value in an expression, or may not be: its function, its globals, shared variables.
_NOT_IN_HAND: Final = (types.FunctionType, types.CellType, dict)

# Of Trio and AnyIO: what leads from one task to all others. A nursery leads to its own tasks only.
_MACHINERY: Final = frozenset({"CancelScope", "CancelStatus", "Runner", "Task", "TaskState", "Nursery"})

# Where groups of tasks keep those: that of asyncio and AnyIO's, AnyIO's on Trio, and a nursery.
_TASKS_OF_GROUPS: Final = ("_tasks", "_nursery", "_children")

# How a frame is come by: from a coroutine, a generator or an asynchronous generator.
_FRAMES: Final[dict[type, Callable[[Any], Any]]] = {
    types.CoroutineType: lambda holder: holder.cr_frame,
    types.GeneratorType: lambda holder: holder.gi_frame,
    types.AsyncGeneratorType: lambda holder: holder.ag_frame,
}


@final
@dataclass(frozen=True, slots=True)
class Holding:
    """Where a task holds an object.

    Attributes:
        frame: The frame, at the line where it stands.
        variable: Its variable, with what leads on from there: `"self._pool"`.
        keeper: What on that way leads to the object, None where the variable itself is the object.
    """

    frame: Frame
    variable: str
    keeper: Keeper | None = field(default=None, compare=False, repr=False)


@final
class Keeper:
    """Things on the way to an object, which others can take that out of. They are not held."""

    def __init__(self, way: list[Any]) -> None:
        """way: from the first thing to the object."""
        self._thing: Callable[[], Any] = _unknown
        self._steps = 0
        for steps, thing in enumerate(reversed(way[:-1]), start=1):
            try:
                self._thing = weakref.ref(thing)
            except TypeError:  # a list or a dict: one of the things before it will do
                continue
            self._steps = steps
            break

    def is_there(self) -> bool:
        """Whether anything is left that can tell. What went with the task that had it cannot."""
        return self._thing() is not None

    def leads_to(self, targets: Collection[int]) -> bool:
        things: list[object] = [self._thing()]
        for _ in range(self._steps):
            held = list(islice((held for thing in things for held in held_by(thing)), OBJECTS))
            if any(id(each) in targets for each in held):
                return True
            things = [each for each in held if not is_stop(class_of(each))]
        return False


@final
class HoldingSearch:
    """Looks for one thing in any number of tasks. To be used within one turn of the loop, and then dropped."""

    def __init__(self, targets: Collection[int]) -> None:
        """targets: ids of the objects that stand for the thing: to come to one of them will do."""
        self._targets = targets
        self._left = ALL_OBJECTS
        self._until = perf_counter() + SECONDS
        # How many steps from an object have been looked at in vain, by its id.
        self._in_vain: dict[int, int] = {}
        self._stops: dict[int, bool] = {}

    def holding(self, task: Any) -> Holding | None:
        """Where a suspended task holds the thing, in the frame that a reader can do the most about: the innermost one
        of a user's own code, else one of a package, else one of the event loop's library.
        """
        if self.is_cut_short:
            return None
        for link in _by_interest(task_chain(task).links):
            holding = self._holding_of(link)
            if holding is not None:
                return holding
        return None

    def leads_from(self, thing: object) -> bool:
        """Whether something else leads to the thing that is looked for."""
        return self._way_from({"it": thing}) is not None

    @property
    def is_cut_short(self) -> bool:
        """Whether the limits of objects and time are reached: what has not been found by now is not found."""
        return self._left <= 0 or perf_counter() >= self._until

    def _holding_of(self, link: Link) -> Holding | None:
        find = _FRAMES.get(type(link.holder))
        frame = None if find is None else find(link.holder)
        if frame is None:
            return None
        variables = _variables(frame)
        dead = dead_variables(frame.f_code, frame.f_lasti)
        read_no_more = {name: variables.pop(name) for name in dead if name in variables}
        try:
            way = self._way_from(variables)
            if way is None and read_no_more:
                way = self._way_from(read_no_more)
                # What an expression or a block has in hand is held all the same: `async with database.transaction():`.
                if way is not None and self._way_from(_in_hand(link.holder, variables, read_no_more)) is None:
                    way = None
            if way is None:
                return None
            return Holding(link.frame, _named(way), Keeper(way[1:]) if len(way) > 2 else None)
        finally:
            variables.clear()
            read_no_more.clear()

    def _way_from(self, variables: dict[str, object]) -> list[Any] | None:
        """The shortest way that leads from the variables to the thing, both with it. None where none does."""
        # Each object, the one that has led there, and how many steps may still follow.
        came_to: list[tuple[object, int, int]] = [(variables, -1, DEPTH + 1)]
        seen: dict[int, int] = {}
        for place, (obj, _, left) in enumerate(came_to):  # which grows meanwhile
            children = list(variables.values()) if obj is variables else held_by(obj)
            self._left -= len(children)
            for held in children:
                if id(held) in self._targets:
                    return [*(came_to[step][0] for step in _back(came_to, place)), held]
                if self._is_worth_going_to(held, left - 1, seen):
                    seen[id(held)] = left - 1
                    came_to.append((held, place, left - 1))
            if self.is_cut_short or len(seen) >= OBJECTS:
                # From the next task the same way would be gone just as far.
                self._in_vain.update((id(gone), steps) for gone, _, steps in came_to[1 : place + 1])
                return None
        self._in_vain.update(seen)
        return None

    def _is_worth_going_to(self, obj: object, left: int, seen: dict[int, int]) -> bool:
        """left: how many steps may follow."""
        if left <= 0 or id(obj) in seen or self._is_stop(class_of(obj)):
            return False
        return self._in_vain.get(id(obj), 0) < left

    def _is_stop(self, kind: type) -> bool:
        found = self._stops.get(id(kind))
        if found is None:
            found = self._stops[id(kind)] = is_stop(kind)
        return found


def tasks_of(thing: object) -> set[int]:
    """The ids of the tasks that a thing keeps, by itself or in what it holds: they are its own."""
    found: set[int] = set()
    seen = {id(thing)}
    ahead = deque([(thing, DEPTH)])
    while ahead and len(seen) < OBJECTS:
        obj, steps = ahead.popleft()
        for _, held in _steps_to_tasks(obj):
            if is_task(held):
                found.add(id(held))
            elif steps and id(held) not in seen and not _leads_to_users(class_of(held)):
                seen.add(id(held))
                ahead.append((held, steps - 1))
    return found


def leads_to(thing: object, target: object) -> bool:
    """Whether a thing is another, or leads to it in a few steps."""
    return thing is target or HoldingSearch({id(target)}).leads_from(thing)


def is_stop(kind: type) -> bool:
    """Whether no walk goes through objects of a class."""
    module = module_of(kind) or ""
    package = module.partition(".")[0]
    if issubclass(kind, _STOPS):
        return True
    if package == "taskscope":
        return not module.startswith("taskscope._demo")
    return package in ("trio", "anyio") and _name(kind) in _MACHINERY


def _back(came_to: list[tuple[object, int, int]], place: int) -> list[int]:
    """The places on the way to a place, from the variables on."""
    way = [place]
    while came_to[way[-1]][1] >= 0:
        way.append(came_to[way[-1]][1])
    return way[::-1]


def _unknown() -> None:
    """In the place of a weak reference, where there can be none."""


def _named(way: list[Any]) -> str:
    """A way as an expression. The names are looked for last: the walk comes to thousands of objects, this to a few."""
    variables, *following = way
    name = next((name for name, value in variables.items() if value is following[0]), "?")
    for obj, held in pairwise(following):
        name += next((step for step, value in steps_from(obj) if value is held), ".?")
    return name


def _leads_to_users(kind: type) -> bool:
    """Whether objects of a class may lead to tasks that only wait for something: primitives of Trio and AnyIO do."""
    if _is_group(kind):
        return False
    return package_of(kind) in ("trio", "anyio") or is_stop(kind)


def _steps_to_tasks(obj: Any) -> Iterator[Step]:
    # The other fields of a group lead to who has opened it, and to what that is in.
    return own_fields(obj, *_TASKS_OF_GROUPS) if _is_group(class_of(obj)) else steps_from(obj)


def _is_group(kind: type) -> bool:
    package = package_of(kind)
    is_of_theirs = package in ("trio", "anyio") and _name(kind) in ("Nursery", "TaskGroup")
    return is_of_theirs or issubclass(kind, asyncio.taskgroups.TaskGroup)


def _variables(frame: types.FrameType) -> dict[str, object]:
    """The variables of a suspended frame. To be cleared by who asked."""
    found = frame.f_locals
    if sys.version_info >= (3, 13):
        return dict(found)
    # A dict that the frame keeps, and would keep them alive by: it is filled anew whenever somebody asks again.
    variables = dict(found)
    found.clear()
    return variables


def _in_hand(holder: object, *variables: dict[str, object]) -> dict[str, object]:
    """What a suspended frame holds beside its variables: the results of parts of an expression, and exits of blocks."""
    of_variables = Counter(id(value) for each in variables for value in each.values())
    found: dict[str, object] = {}
    for number, value in enumerate(gc.get_referents(holder)):
        if of_variables[id(value)]:
            of_variables[id(value)] -= 1
        elif not issubclass(class_of(value), _NOT_IN_HAND):
            found[str(number)] = value
    return found


def _by_interest(links: Iterable[Link]) -> list[Link]:
    frames = [link for link in reversed(list(links)) if not is_own(link.code) and not is_wrapper(link.holder)]
    return sorted(frames, key=lambda link: _distance(link.code))


def _distance(code: types.CodeType) -> int:
    """How far a function is from what a user has written."""
    if is_internal(code) or is_of_library(code) or function_in(TRIO, code) is not None:
        return 2
    return 1 if code.co_filename.startswith(_packages()) else 0


@functools.cache
def _packages() -> tuple[str, ...]:
    """Where packages lie that nobody has written for this program."""
    import sysconfig  # only who has found something needs it

    paths = sysconfig.get_paths()
    return tuple({paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")})
