"""Whether an object leads to another: a bounded walk along strong references, among a program's own things."""

from __future__ import annotations

import asyncio
import gc
import sys
import types
import weakref
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, Final, TypeVar

from taskscope._diagnosis.awaitables import FUTURES, TASKS, UNKNOWN, done_callbacks, field_of, fields
from taskscope._diagnosis.awaited import GATHERING
from taskscope._diagnosis.opaque import class_of, is_named, package_of
from taskscope._diagnosis.stops import STOPS
from taskscope._diagnosis.tasks import coroutine_of
from taskscope._diagnosis.trio_tasks import is_class_of_trio_tasks
from taskscope.pytest_plugin._mocks import is_call

T = TypeVar("T")

# Gives what an object holds.
_Way = Callable[[Any], Iterable[object]]

OBJECTS: Final = 100_000
"""Objects that one walk comes to. What lies further is not found."""

NEAR: Final = 2_000
"""The same for a walk that is to find what most fixtures have, which is not far."""

REFERENCES: Final = 5
"""References that a walk looks at for each object, for many lead back to where it has been."""

ATOMS: Final = 10
"""References to numbers and strings, past which no walk goes, that count as one."""

TURN: Final = 100
"""References that a walk looks at before it is another one's turn."""

_ATOMS: Final[frozenset[type]] = frozenset({str, bytes, int, float, complex, bool, type(None)})

# Whose objects, and those of classes derived from theirs, lead back into the machinery that runs the tests, or to us,
# who hold all tasks.
MACHINERY: Final = frozenset(
    {"_pytest", "pytest", "pytest_asyncio", "pytest_mock", "pluggy", "hypothesis", "xdist", "taskscope"}
)
# From one logger it goes to all others. A handler or a filter of a user's leads only to what he has put there.
_LOGGERS: Final = frozenset({"Logger", "Manager"})
# Objects of these libraries lead to the tasks that wait for them, save for those by which tasks, connections and
# processes can be ended.
LIBRARIES: Final = frozenset({"anyio", "trio"})
_HOLDERS: Final = frozenset(
    {
        "TaskGroup",
        "Nursery",
        "Task",
        "TaskHandle",
        "BlockingPortal",
        "SocketStream",
        "StreamProtocol",
        "TLSStream",
        "BufferedByteReceiveStream",
        "BufferedByteStream",
        "StapledByteStream",
        "StreamReaderWrapper",
        "StreamWriterWrapper",
        "UDPSocket",
        "ConnectedUDPSocket",
        "DatagramProtocol",
        "Process",
    }
)

# What asyncio has for all loops: ways to whatever any of them runs.
_OF_ALL_LOOPS: Final = ("EventLoopPolicy", "ChildWatcher")

_SETS: Final = (set, frozenset)

# Where a future that is written in Python keeps who waits for it.
_CALLBACKS: Final = "_callbacks"

# Where a task group keeps who has opened it.
_PARENT_TASK: Final = "_parent_task"

_WEAK: Final = (weakref.WeakSet, weakref.WeakKeyDictionary, weakref.WeakValueDictionary)
_referent: Final[Callable[[object], object]] = vars(weakref.ReferenceType)["__call__"]

_mro: Final = type.__dict__["__mro__"].__get__
_name: Final = type.__dict__["__name__"].__get__


def first_reaching(
    sources: Iterable[tuple[Any, Iterable[object]]],
    targets: Mapping[T, Collection[int]],
    avoid: Collection[int] = (),
    further: Callable[[T], Collection[int]] | None = None,
    objects: int = OBJECTS,
) -> dict[T, Any]:
    """Which source is the first to come to each target. They take turns: a large one is not to hold up the others.

    sources: names, each with the objects at which its walk begins.
    targets: each with the ids of what stands for it: to come to one of these will do.
    avoid: ids of objects past which no walk goes.
    further: gives the ids of what else stands for a target. Asked for those only that are not near any source.
    objects: how many a walk comes to.
    """
    standing_for: dict[int, list[T]] = {}
    for target, ids in targets.items():
        for each in ids:
            standing_for.setdefault(each, []).append(target)
    found: dict[T, Any] = {}
    met: dict[int, Any] = dict.fromkeys(avoid)
    ways: dict[type, _Way | None] = {}
    ahead = [(name, _walk(name, starts, met, ways, objects)) for name, starts in sources]
    while ahead and len(found) < len(targets):
        for name, walk in list(ahead):
            turn = next(walk, None)
            if turn is None:
                ahead.remove((name, walk))
                continue
            for each in standing_for.keys() & turn:
                for target in standing_for[each]:
                    found.setdefault(target, name)
        if further is None:
            continue
        for target in [target for target in targets if target not in found]:
            for each in further(target):
                standing_for.setdefault(each, []).append(target)
                if met.get(each) is not None:
                    found.setdefault(target, met[each])
        further = None
    return found


def _walk(
    name: Any, starts: Iterable[object], met: dict[int, Any], ways: dict[type, _Way | None], objects: int
) -> Iterator[list[int]]:
    """Goes along references, nearest things first, and yields after each turn the ids of what it has come to in it.

    Of classes, too: no walk goes through one, but tasks can be theirs.

    met: ids of what any walk has come to, where no other need go, each with whose walk that was.
    ways: how walks go on from objects of a class, as far as that has been asked.
    """
    came_to: list[tuple[_Way, object]] = []
    left = objects * REFERENCES * ATOMS
    turn: list[int] = []
    looked_at = 0
    for held in chain([starts], (way(each) for way, each in came_to)):  # which grows meanwhile
        for obj in held:
            kind = class_of(obj)
            is_atom = kind in _ATOMS
            left -= 1 if is_atom else ATOMS
            if left < 0 or len(came_to) >= objects:
                yield turn
                return
            if is_atom:
                continue
            if kind not in ways:
                ways[kind] = _way_through(kind)
            way = ways[kind]
            if way is not None and id(obj) not in met:
                met[id(obj)] = name
                came_to.append((way, obj))
                turn.append(id(obj))
            elif issubclass(kind, type):
                met.setdefault(id(obj), name)
                turn.append(id(obj))
            looked_at += 1
            if looked_at == TURN:
                yield turn
                turn, looked_at = [], 0
    yield turn


def _is_stop(kind: type) -> bool:
    roots = [package_of(base) for base in _mro(kind)]
    if issubclass(kind, STOPS):
        return not _is_passed_in_spite(kind, roots[0])
    if is_call(kind):
        return True
    if roots[0] == "logging" or any(_is_logger(base) for base in _mro(kind)):
        return True
    if "asyncio" in roots and any(_name(base).endswith(_OF_ALL_LOOPS) for base in _mro(kind)):
        return True
    if roots[0] in LIBRARIES:
        return _name(kind) not in _HOLDERS
    return not MACHINERY.isdisjoint(roots)


def _is_passed_in_spite(kind: type, root: str) -> bool:
    """Whether a walk goes through the objects of a class that is derived from one at which it stops."""
    if issubclass(kind, TASKS) or kind is GATHERING:
        return True
    # What a user has derived from these holds what he has put there. Other futures only lead to who waits for them:
    # that a test's task waits for something of a fixture's does not make it the fixture's.
    is_users = root not in sys.stdlib_module_names | LIBRARIES | MACHINERY
    return is_users and issubclass(kind, (*FUTURES, *_ATOMS))


def _is_logger(kind: type) -> bool:
    return _name(kind) in _LOGGERS and package_of(kind) == "logging"


def _way_through(kind: type[Any]) -> _Way | None:
    """What gives all that an object of a class holds, as far as a walk goes on there. None where it stops.

    Nothing of a user's code is called.
    """
    if _is_stop(kind):
        return None
    if kind is types.FunctionType:
        return _held_by_function
    if kind is list:
        return iter  # of a large one no second one is made
    if kind in _WEAK:
        return _alive_in
    if is_class_of_trio_tasks(kind):
        return _held_by_trio_task
    if issubclass(kind, TASKS):
        return _held_by_task
    if kind is GATHERING:
        return _gathered_by
    if issubclass(kind, FUTURES):
        return _given_to_future
    if _is_nursery(kind):
        return _children_of_nursery
    return _held_by_group if issubclass(kind, asyncio.taskgroups.TaskGroup) else gc.get_referents


def _held_by_function(function: Any) -> Iterable[object]:
    # Not its globals: they are its module.
    return [function.__closure__, function.__defaults__, function.__kwdefaults__, function.__dict__]


def _held_by_trio_task(task: object) -> Iterable[object]:
    # Not its nursery and the like, which lead to those that it runs beside.
    return [coroutine_of(task), _held(task, "_child_nurseries")]


def _held_by_task(task: object) -> Iterable[object]:
    return [coroutine_of(task)]


def _gathered_by(future: Any) -> Iterable[object]:
    return [future._children]


def _children_of_nursery(nursery: object) -> Iterable[object]:
    return [_held(nursery, "_children")]


def _held_by_group(group: object) -> Iterable[object]:
    return [value for name, value in fields(group).items() if name != _PARENT_TASK]


def _given_to_future(future: object) -> list[object]:
    """What a user has put into a future of a class of his own, without those who wait for it."""
    own = fields(future)
    if own:
        return [value for name, value in own.items() if name != _CALLBACKS]
    # One in C has no `__dict__` to tell of them. Since 3.14 it refers to each by itself, before that to a dict.
    parts = gc.get_referents(future)
    if sys.version_info < (3, 14):
        return [part for part in parts if type(part) is dict]
    awaited_by = field_of(future, "_asyncio_awaited_by")
    waiting = {*map(id, done_callbacks(future)), *map(id, awaited_by if type(awaited_by) in _SETS else ())}
    return [part for part in parts if id(part) not in waiting and not _is_kept_in(part, waiting)]


def _is_kept_in(part: Any, waiting: Container[int]) -> bool:
    """Whether it is what a future keeps those in who wait for it: in a set, or callbacks with a context each."""
    kind = class_of(part)
    if kind is set:
        return any(id(each) in waiting for each in part)
    return kind is list and any(class_of(each) is tuple and each and id(each[0]) in waiting for each in part)


def _alive_in(container: object) -> list[object]:
    """What a weak collection holds: who has that has its members, and can end them."""
    data: Any = fields(container).get("data", ())
    parts: list[object] = [*data, *data.values()] if type(data) is dict else [*data]  # pyright: ignore[reportUnknownMemberType]
    return [_referent(part) if issubclass(class_of(part), weakref.ReferenceType) else part for part in parts]


def _is_nursery(kind: type) -> bool:
    return is_named(kind, "trio", "Nursery")


def _held(obj: object, name: str) -> object:
    value = field_of(obj, name)
    return None if value is UNKNOWN else value
