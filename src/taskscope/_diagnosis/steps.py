"""What an object leads to by one step, and how that is written: an item, an attribute, a variable of a closure.

Nothing of a user's is called on the way: only fields are read.
"""

from __future__ import annotations

import functools
import types
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final, cast

from taskscope._diagnosis.opaque import class_of
from taskscope._diagnosis.own_fields import own_fields, own_values

Step = tuple[str, object]
"""A way on: what follows the name of the thing in an expression, and what is there."""

OBJECTS: Final = 1_000
"""Objects that are looked at for one frame, or in one container."""

_KEY_WIDTH: Final = 40

_SEQUENCES: Final[tuple[type, ...]] = (list, tuple, deque)
_SETS: Final[tuple[type, ...]] = (set, frozenset)
_CALLS: Final[tuple[Any, ...]] = (types.FunctionType, types.MethodType, types.BuiltinMethodType, functools.partial)


def held_by(obj: Any) -> list[object]:
    """What an object leads to, by one step, without saying how."""
    kind = class_of(obj)
    if any(kind is known for known in _CALLS):
        return [value for _, value in steps_from(obj)]
    return [*_values(obj, kind), *own_values(obj)]


def _values(obj: Any, kind: type) -> list[object]:
    """What is in a container."""
    if issubclass(kind, dict):
        return _first(cast("Any", dict).values(obj))
    base = next((base for base in (*_SEQUENCES, *_SETS) if issubclass(kind, base)), None)
    return [] if base is None else _first(cast("Any", base).__iter__(obj))


def steps_from(obj: Any) -> Iterator[Step]:
    """What an object leads to, by one step."""
    kind = class_of(obj)
    if kind is types.FunctionType:
        yield from _closure(obj)
    elif kind is types.MethodType or kind is types.BuiltinMethodType:
        yield ".__self__", obj.__self__
        if kind is types.MethodType:
            yield ".__func__", obj.__func__
    elif kind is functools.partial:
        yield ".func", obj.func
        yield from ((f".args[{number}]", value) for number, value in enumerate(obj.args))
        yield from ((f".keywords[{_key(key)}]", value) for key, value in list(obj.keywords.items()))
    else:
        yield from _items(obj, kind)
        yield from ((f".{name}", value) for name, value in own_fields(obj))


def _items(obj: Any, kind: type) -> Iterator[Step]:
    if issubclass(kind, dict):
        yield from ((f"[{_key(key)}]", value) for key, value in _first(cast("Any", dict).items(obj)))
    for base in _SEQUENCES:
        if issubclass(kind, base):
            values = _first(cast("Any", base).__iter__(obj))
            yield from ((f"[{number}]", value) for number, value in enumerate(values))
    for base in _SETS:
        if issubclass(kind, base):
            yield from (("{...}", value) for value in _first(cast("Any", base).__iter__(obj)))


def _first(things: Iterable[Any]) -> list[Any]:
    """As many as there is any use in looking at."""
    try:
        return list(islice(things, OBJECTS))
    except RuntimeError:  # another thread has changed them meanwhile
        return []


def _closure(function: types.FunctionType) -> Iterator[Step]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            yield f".<closure>.{name}", cell.cell_contents
        except ValueError:  # a variable that has no value yet
            continue
    for number, value in enumerate(function.__defaults__ or ()):
        yield f".__defaults__[{number}]", value
    for name, value in (function.__kwdefaults__ or {}).items():
        yield f".__kwdefaults__[{_key(name)}]", value


def _key(key: object) -> str:
    if type(key) is str and len(key) <= _KEY_WIDTH:
        return repr(key)
    return str(key) if type(key) is int else "..."
