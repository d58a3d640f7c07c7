"""The weak sets and dicts by which libraries know tasks, to cancel them or to tell of them, and not to wake them."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable, Container, Iterable
from typing import Any, Final

from taskscope._diagnosis.anyio_scopes import registry_of_anyio
from taskscope._diagnosis.awaitables import fields, is_exactly
from taskscope._diagnosis.opaque import module_of

_mro: Final[Callable[[type], tuple[type, ...]]] = type.__dict__["__mro__"].__get__
callback_of: Final[Callable[[object], object]] = weakref.ref.__dict__["__callback__"].__get__


def registries_of_asyncio() -> list[Any]:
    """Weak sets by which asyncio knows its tasks and asynchronous generators. It uses them to cancel and to close."""
    found = [getattr(asyncio.tasks, name, None) for name in ("_scheduled_tasks", "_all_tasks")]
    loop = asyncio._get_running_loop()
    found.append(fields(loop).get("_asyncgens"))
    if any(module_of(base) == "uvloop" for base in _mro(type(loop))):
        # It does not show its attributes, but has only this one of the kind; with two, the other is somebody else's.
        weak_sets: list[Any] = [ref for ref in gc.get_referents(loop) if type(ref) is weakref.WeakSet]
        found += weak_sets if len(weak_sets) == 1 else []
    return [registry for registry in found if type(registry) is weakref.WeakSet]


def registries_of_anyio() -> list[Any]:
    """The weak dict by which AnyIO knows the cancel scope that a task is in. It uses it to cancel."""
    found = registry_of_anyio()
    return [] if found is None else [found]


def callbacks_of(registries: Iterable[Any]) -> set[int]:
    """The ids of the callbacks that the weak references of registries have: one for all of a registry."""
    return {id(registry._remove) for registry in registries}


def has_strange_references(obj: object, number: int, known: set[int], inside: Container[int] = ()) -> bool:
    """Whether an object is known weakly to anybody but registries.

    number: how many weak references to it there are.
    known: what `callbacks_of` said of the registries.
    inside: ids of objects. A weak reference that is one of them, and has no callback, is as good as any reference from
        there.
    """
    references: list[Any] = weakref.getweakrefs(obj)
    # A proxy would pass on to its referent whatever it is asked.
    return len(references) != number or any(id(callback) not in known for callback in _callbacks(references, inside))


def count_strange_references(obj: object, known: set[int], inside: Container[int] = ()) -> int | None:
    """How many weak references to an object have callbacks of their own and are not of registries.

    None where there are others, without a callback: they can be shared, so nobody knows how many hold them.
    """
    callbacks = _callbacks(weakref.getweakrefs(obj), inside)
    return sum(id(callback) not in known for callback in callbacks) if all(callbacks) else None


def _callbacks(references: list[Any], inside: Container[int]) -> list[object]:
    """The callbacks of weak references, None for one that has none and is not inside, or that is no plain one."""
    callbacks = [callback_of(ref) if is_exactly(ref, weakref.ref) else None for ref in references]
    found = zip(references, callbacks, strict=True)
    return [
        callback
        for ref, callback in found
        if callback is not None or not is_exactly(ref, weakref.ref) or id(ref) not in inside
    ]
