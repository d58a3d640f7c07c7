"""What one object of an await chain awaits, found without running a line of anybody's code.

An awaitable can be of any make, so nothing is read here that a user's class could compute: only fields that C code
defines, and what an object refers to in the eyes of the garbage collector.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import itertools
import types
from collections.abc import Callable
from typing import Any, Final, cast

try:
    from _asyncio import Future as _CFuture
    from _asyncio import Task as _CTask
except ImportError:  # pragma: no cover - an interpreter without asyncio's C code
    _CFuture, _CTask = asyncio.futures.Future, asyncio.tasks.Task  # type: ignore[misc]

_PyFuture: Final = cast("type[asyncio.Future[Any]]", asyncio.futures._PyFuture)  # type: ignore[attr-defined]
_PyTask: Final = cast("type[asyncio.Task[Any]]", asyncio.tasks._PyTask)  # type: ignore[attr-defined]
C_TASK: Final = cast("type[asyncio.Task[Any]]", _CTask)
TASKS: Final = (cast("type[asyncio.Task[Any]]", _CTask), _PyTask)

FUTURES: Final = (cast("type[asyncio.Future[Any]]", _CFuture), _PyFuture)
PYTHON_FUTURE_AWAIT: Final[types.CodeType] = _PyFuture.__await__.__code__

UNKNOWN: Final = object()
"""Stands for what cannot be told."""

# Read through the descriptors of `type` itself: a metaclass can redefine the attributes of its classes.
_mro: Final[Callable[[type], tuple[type, ...]]] = type.__dict__["__mro__"].__get__
_namespace: Final[Callable[[type], Any]] = type.__dict__["__dict__"].__get__
_flags: Final[Callable[[type], int]] = type.__dict__["__flags__"].__get__
_name: Final[Callable[[type], str]] = type.__dict__["__name__"].__get__
_qualname: Final[Callable[[type], str]] = type.__dict__["__qualname__"].__get__

# Iterators, written in C, that stand between an `await` and the object that does the work. Classes written in Python
# are not immutable, so none can pass for one of these.
_IMMUTABLE_TYPE: Final = 1 << 8
_WRAPPERS: Final = frozenset(
    {"anext_awaitable", "async_generator_asend", "async_generator_athrow", "coroutine_wrapper", "FutureIter"}
)

# How C code, Cython's above all, names the fields of its own kinds of coroutine: what it awaits, and its code.
_FIELDS: Final = (("cr_await", "cr_code"), ("gi_yieldfrom", "gi_code"), ("ag_await", "ag_code"))

# Where an awaitable of a user's class may keep what it awaits.
_COLLECTIONS: Final = (dict, list, tuple)
_CALLS: Final[tuple[Any, ...]] = (
    functools.partial,
    itertools.chain,
    map,
    type(iter(int, 1)),
    types.BuiltinMethodType,
    types.MethodType,
)
_LARGEST_COLLECTION: Final = 100
_MOST_CONTAINERS: Final = 100


def is_exactly(obj: object, kind: type) -> bool:
    return type(obj) is kind


def is_future(obj: object) -> bool:
    return issubclass(type(obj), FUTURES)


def is_task(obj: object) -> bool:
    return issubclass(type(obj), TASKS)


def is_done(future: Any) -> bool:
    """Whether a future is done, by asyncio's own account and not by that of a subclass."""
    return any(issubclass(type(future), known) and known.done(future) for known in FUTURES)


def is_wrapper(obj: object) -> bool:
    kind = type(obj)
    return bool(_flags(kind) & _IMMUTABLE_TYPE) and _name(kind) in _WRAPPERS


def wrapped_by(wrapper: object) -> object | None:
    """What stands behind a wrapper, None behind one that has been used up."""
    return next((ref for ref in gc.get_referents(wrapper) if not issubclass(type(ref), type)), None)


def future_behind(generator: object) -> object | None:
    """The pure-Python future whose `__await__` a generator is."""
    return next((ref for ref in gc.get_referents(generator) if is_future(ref)), None)


def compiled_coroutine(obj: object) -> tuple[object, object]:
    """What a coroutine or generator of compiled code awaits, and its code object. `UNKNOWN` for anything else."""
    for awaits, code in _FIELDS:
        awaited = c_field(obj, awaits)
        if awaited is not UNKNOWN:
            return awaited, c_field(obj, code)
    return UNKNOWN, UNKNOWN


def c_field(obj: object, name: str) -> object:
    """The value of an attribute that C code defines, `UNKNOWN` where there is none or Python code defines it."""
    found = class_attribute(type(obj), name)
    if type(found) is not types.GetSetDescriptorType and type(found) is not types.MemberDescriptorType:
        return UNKNOWN
    try:
        return found.__get__(obj, type(obj))
    except AttributeError:  # a slot that was never filled
        return UNKNOWN


def fields(obj: object) -> dict[str, Any]:
    """An object's own attributes; those that C code or slots define are not among them.

    Read through the `__dict__` that Python itself gives to a class: a user's class can define one that computes.
    """
    found = c_field(obj, "__dict__")
    return cast("dict[str, Any]", found) if type(found) is dict else {}


def field_of(obj: object, name: str) -> object:
    """One of an object's own attributes, whoever holds it: C code, slots or its `__dict__`. `UNKNOWN` without one."""
    value = c_field(obj, name)
    return fields(obj).get(name, UNKNOWN) if value is UNKNOWN else value


def class_attribute(kind: type, name: str) -> Any:
    """What a class or one of its bases has under a name, as it stands there. `UNKNOWN` where none has it."""
    for base in _mro(kind):
        found = _namespace(base).get(name, UNKNOWN)
        if found is not UNKNOWN:
            return found
    return UNKNOWN


def held_by(holder: object, passed: dict[int, object]) -> list[object]:
    """What an object holds, by itself or in small containers, that it could be awaiting.

    That is whatever is in the middle of an await or, where nothing is, futures.

    passed: objects to leave out, by their id.
    """
    suspended: list[object] = []
    futures: list[object] = []
    known = {id(holder), *passed}
    containers = [holder]
    for container in containers:
        refs: list[object] = gc.get_referents(container)
        for ref in refs:
            if id(ref) in known:
                continue
            known.add(id(ref))
            if is_future(ref):
                futures.append(ref)
            elif _is_suspended(ref, type(ref)):
                suspended.append(ref)
            elif len(containers) < _MOST_CONTAINERS and (is_wrapper(ref) or _is_container(ref)):
                containers.append(ref)
    return suspended or futures


def _is_suspended(obj: Any, kind: object) -> bool:
    if kind is types.CoroutineType:
        return obj.cr_await is not None
    if kind is types.GeneratorType:
        return obj.gi_yieldfrom is not None
    if kind is types.AsyncGeneratorType:
        return obj.ag_await is not None
    awaited, _ = compiled_coroutine(obj)
    return awaited is not UNKNOWN and awaited is not None


def _is_container(obj: Any) -> bool:
    if any(type(obj) is known for known in _COLLECTIONS):
        return len(obj) <= _LARGEST_COLLECTION
    return any(type(obj) is known for known in _CALLS)


def cells_of(function: types.FunctionType) -> dict[str, types.CellType]:
    """The variables of others that a function knows, by their names."""
    return dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))


def class_name(obj: object) -> str:
    return str.__str__(_qualname(type(obj)))


def coroutine_of(task: Any) -> object:
    """The coroutine of a task, None for one that has ended, `UNKNOWN` where it does not show it.

    An object of a foreign class is asked by calling its method `get_coro`, if it has one.
    """
    if is_done(task):
        return None  # CPython 3.12.1 crashes when an eager task is asked that ended at once
    for known in TASKS:
        if issubclass(type(task), known):
            return known.get_coro(task)
    method: Any = _method_of(task, "get_coro")
    if type(method) is types.FunctionType or type(method) is types.MethodDescriptorType:
        return method(task)
    return UNKNOWN


def _method_of(obj: object, name: str) -> object:
    return class_attribute(type(obj), name)


def waiter_of(task: object) -> object:
    """The future that a task waits for, None where it waits for none, `UNKNOWN` where it does not show that."""
    return field_of(task, "_fut_waiter")


def done_callbacks(task: object) -> list[Any]:
    """What is called when a task or future is done."""
    entries = c_field(task, "_callbacks")
    if entries is UNKNOWN:  # in pure Python
        entries = fields(task).get("_callbacks")
    return [callback for callback, *_ in cast("list[tuple[Any, ...]]", entries or [])]
