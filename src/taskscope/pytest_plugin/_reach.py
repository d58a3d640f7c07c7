"""Whether an object leads to another: a bounded walk along strong references, among a program's own things."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
import types
import weakref
from collections.abc import Callable, Collection, Iterable
from typing import Any, Final, final

from taskscope._diagnosis.awaitables import UNKNOWN, field_of, fields
from taskscope._diagnosis.opaque import class_of, module_of
from taskscope._diagnosis.tasks import coroutine_of, is_task
from taskscope._diagnosis.trio_tasks import is_trio_task

OBJECTS: Final = 20_000
"""Objects that one walk comes to. What lies further is not found."""

REFERENCES: Final = 10 * OBJECTS
"""References that one walk looks at: most lead to numbers and strings, which are not walked to, or back."""

# Ways that lead everywhere. And futures, by which a thing leads to who waits for it: that a test's task waits for
# something of a fixture's does not make it the fixture's.
_STOPS: Final[tuple[type, ...]] = (
    types.ModuleType,
    type,
    types.CodeType,
    types.FrameType,
    weakref.ReferenceType,
    weakref.ProxyType,
    weakref.CallableProxyType,
    contextvars.Context,
    contextvars.ContextVar,
    contextvars.Token,
    asyncio.AbstractEventLoop,
    asyncio.Runner,
    asyncio.Future,
    str,
    bytes,
    int,
    float,
    complex,
    type(None),
)
# Whose objects lead back into the machinery that runs the tests, or to us, who hold all tasks.
_MACHINERY: Final = frozenset(
    {"_pytest", "pytest", "pytest_asyncio", "pluggy", "hypothesis", "xdist", "logging", "taskscope"}
)
# Objects of these libraries lead to the tasks that wait for them, save for those by which tasks can be ended.
_LIBRARIES: Final = frozenset({"anyio", "trio"})
_HOLDERS: Final = frozenset({"TaskGroup", "Nursery", "Task", "TaskHandle", "BlockingPortal"})

# What `asyncio.gather` returns: to cancel it cancels all that it waits for.
_GATHERING: Final[Any] = vars(asyncio.tasks)["_GatheringFuture"]

# Where a task group keeps who has opened it.
_PARENT_TASK: Final = "_parent_task"

_WEAK: Final = (weakref.WeakSet, weakref.WeakKeyDictionary, weakref.WeakValueDictionary)
_referent: Final[Callable[[object], object]] = vars(weakref.ReferenceType)["__call__"]

_mro: Final = type.__dict__["__mro__"].__get__
_name: Final = type.__dict__["__name__"].__get__


def first_reaching(
    sources: Iterable[tuple[Any, Iterable[object]]], targets: Collection[int], avoid: Collection[int] = ()
) -> dict[int, Any]:
    """Which source is the first that leads to each target.

    sources: names, each with the objects at which its walk begins, in the order of their right.
    targets: ids of what is looked for.
    avoid: ids of objects past which no walk goes.
    """
    found: dict[int, Any] = {}
    missing = set(targets)
    walk = _Walk(avoid)
    for name, starts in sources:
        for target in walk.find(starts, missing):
            found[target] = name
            missing.discard(target)
        if not missing:
            break
    return found


@final
class _Walk:
    """A walk from one source after the other, nearest things first. Where one has been, the next need not go."""

    def __init__(self, avoid: Collection[int]) -> None:
        self._seen = set(avoid)
        self._stops: dict[type, bool] = {}

    def find(self, starts: Iterable[object], targets: Collection[int]) -> set[int]:
        found: set[int] = set()
        ahead: list[object] = []
        left = REFERENCES
        self._meet(starts, ahead, left)
        for obj in ahead:  # which grows meanwhile
            if id(obj) in targets:
                found.add(id(obj))
                if len(found) == len(targets):
                    break
            if left > 0 and len(ahead) < OBJECTS:
                left -= self._meet(_referents(obj), ahead, left)
        return found

    def _meet(self, objects: Iterable[object], ahead: list[object], most: int) -> int:
        """Adds those that no walk has come to. Returns how many were looked at."""
        looked_at = 0
        seen = self._seen
        stops = self._stops
        for looked_at, obj in enumerate(objects, 1):
            if looked_at > most or len(ahead) >= OBJECTS:
                break
            if id(obj) in seen:
                continue
            kind = class_of(obj)
            is_stop = stops.get(kind)
            if is_stop is None:
                is_stop = stops[kind] = _is_stop(kind)
            if not is_stop:
                seen.add(id(obj))
                ahead.append(obj)
        return looked_at


def _is_stop(kind: type) -> bool:
    if issubclass(kind, _STOPS):
        return not (issubclass(kind, asyncio.Task) or kind is _GATHERING)
    modules = [(module_of(base) or "").partition(".")[0] for base in _mro(kind)]
    if modules[0] in _LIBRARIES:
        return _name(kind) not in _HOLDERS
    return not _MACHINERY.isdisjoint(modules)


def _referents(obj: Any) -> Iterable[object]:
    """What an object holds, as far as a walk goes on there. Nothing of a user's code is called."""
    kind = class_of(obj)
    if kind is types.FunctionType:
        # Not its globals: they are its module.
        return [obj.__closure__, obj.__defaults__, obj.__kwdefaults__, obj.__dict__]
    if kind in _WEAK:
        return _alive_in(obj)
    if is_trio_task(obj):
        # Not its nursery and the like, which lead to those that it runs beside.
        return [coroutine_of(obj), _held(obj, "_child_nurseries")]
    if is_task(obj):
        return [coroutine_of(obj)]
    if kind is _GATHERING:
        return [obj._children]
    if _is_nursery(kind):
        return [_held(obj, "_children")]
    if issubclass(kind, asyncio.TaskGroup):
        return [value for name, value in fields(obj).items() if name != _PARENT_TASK]
    return gc.get_referents(obj)


def _alive_in(container: object) -> list[object]:
    """What a weak collection holds: who has that has its members, and can end them."""
    data: Any = fields(container).get("data", ())
    parts: list[object] = [*data, *data.values()] if type(data) is dict else [*data]  # pyright: ignore[reportUnknownMemberType]
    return [_referent(part) if issubclass(class_of(part), weakref.ReferenceType) else part for part in parts]


def _is_nursery(kind: type) -> bool:
    trio = sys.modules.get("trio")
    return trio is not None and kind is vars(trio).get("Nursery")


def _held(obj: object, name: str) -> object:
    value = field_of(obj, name)
    return None if value is UNKNOWN else value
