"""Whether an object leads to another: a bounded walk along strong references, among a program's own things."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import types
import weakref
from collections.abc import Collection, Iterable
from typing import Any, Final

from taskscope._diagnosis.tasks import coroutine_of, is_task
from taskscope._scope import TaskScope
from taskscope._table import TaskTable

# Where a task group keeps its tasks: its other attributes lead to who has opened it.
_TASKS_OF_GROUP: Final = {"TaskGroup": "_tasks", "Nursery": "_children"}

LIMIT = 20_000
"""Objects looked at in one walk. What lies further is not found."""

# Ways that lead everywhere, or back into the machinery that runs the tests. And those on which a thing leads to who
# waits for it: that a test's task waits for something of a fixture's does not make it the fixture's.
_STOPS: tuple[type, ...] = (
    types.ModuleType,
    type,
    types.CodeType,
    types.FrameType,
    types.BuiltinFunctionType,
    weakref.ReferenceType,
    weakref.ProxyType,
    weakref.CallableProxyType,
    contextvars.Context,
    contextvars.ContextVar,
    contextvars.Token,
    asyncio.AbstractEventLoop,
    asyncio.Runner,
    TaskScope,
    TaskTable,
    str,
    bytes,
    int,
    float,
    complex,
    bool,
    type(None),
)
_TESTING = ("_pytest", "pluggy", "pytest", "_hypothesis", "hypothesis", "xdist", "logging")
_LIBRARIES = ("anyio", "trio")
_HOLDERS = ("TaskGroup", "Nursery", "Task", "BlockingPortal")


def first_reaching(
    sources: Iterable[tuple[Any, Iterable[object]]], targets: Collection[int], avoid: Collection[int] = ()
) -> dict[int, Any]:
    """Which source is the first that leads to each target.

    sources: names, each with the objects at which its walks begin, in the order of their right.
    targets: ids of what is looked for.
    avoid: ids of objects past which no walk goes.
    """
    found: dict[int, Any] = {}
    seen: set[int] = set(avoid)
    for name, starts in sources:
        ahead = [start for start in starts if id(start) not in seen and not _is_stop(start)]
        seen.update(map(id, ahead))
        while ahead and len(seen) < LIMIT and len(found) < len(targets):
            following: list[object] = []
            for obj in ahead:
                if id(obj) in targets:
                    found.setdefault(id(obj), name)
                for referent in _referents(obj):
                    if id(referent) not in seen and not _is_stop(referent):
                        seen.add(id(referent))
                        following.append(referent)
            ahead = following
        for obj in ahead:
            if id(obj) in targets:
                found.setdefault(id(obj), name)
    return found


def _is_stop(obj: object) -> bool:
    kind = type(obj)
    if issubclass(kind, _STOPS):
        return True
    module = kind.__module__
    if type(module) is not str:
        return False
    if module.partition(".")[0] in _LIBRARIES:
        return kind.__name__ not in _HOLDERS
    return module.startswith(_TESTING) or (issubclass(kind, asyncio.Future) and not is_task(obj))


def _referents(obj: Any) -> list[object]:
    if type(obj) is types.FunctionType:
        # Not its globals: they are its module.
        return [obj.__closure__, obj.__defaults__, obj.__kwdefaults__, obj.__dict__]
    if is_task(obj):
        # Not its callbacks, its nursery and the like, which lead to those that it runs beside.
        return [coroutine_of(obj), *getattr(obj, "child_nurseries", ())]
    tasks: Any = getattr(obj, _TASKS_OF_GROUP.get(type(obj).__name__, ""), None)
    return gc.get_referents(obj) if type(tasks) is not set else [*tasks]


def methods_objects(frames: Iterable[types.FrameType]) -> list[object]:
    """The objects whose methods run in some frames."""
    return [found for frame in frames if (found := _methods_object(frame)) is not None]


def _methods_object(frame: types.FrameType) -> object | None:
    code = frame.f_code
    if not code.co_argcount:
        return None
    obj = frame.f_locals.get(code.co_varnames[0])
    of_class = code.co_qualname.rpartition(".")[0].rpartition(".")[2]
    if obj is None or _is_stop(obj) or not of_class:
        return None
    return obj if any(kind.__name__ == of_class for kind in type(obj).__mro__) else None
