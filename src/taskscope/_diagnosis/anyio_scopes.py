"""The books that AnyIO keeps of asyncio's tasks: the cancel scope in which each of them is."""

from __future__ import annotations

import math
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Final, cast

from taskscope._diagnosis.awaitables import UNKNOWN, c_field, fields, is_exactly

_BACKEND: Final = "anyio._backends._asyncio"
_DEEPEST: Final = 1_000

_mro: Final[Callable[[type], tuple[type, ...]]] = type.__dict__["__mro__"].__get__


def registry_of_anyio() -> Any:
    """The weak dict from tasks to their states, None where AnyIO is not in use."""
    found: Any = fields(sys.modules.get(_BACKEND)).get("_task_states")
    found = fields(found).get("_task_states", found)  # in AnyIO 4.7.0 it is inside of another object
    return found if is_exactly(found, weakref.WeakKeyDictionary) else None


def state_of(task: object, registry: Any) -> object | None:
    """What a registry has for a task. It is found by the registry's own reference, so that no task is compared."""
    references: list[Any] = weakref.getweakrefs(task)
    for reference in references:
        if is_exactly(reference, weakref.ref) and reference.__callback__ is registry._remove:
            return cast("object | None", registry.data.get(reference))
    return None


def scopes_round(task: object) -> Iterator[object]:
    """The cancel scopes that a task is in, from the innermost on."""
    registry = registry_of_anyio()
    scope = None if registry is None else attribute(state_of(task, registry), "cancel_scope")
    for _ in range(_DEEPEST):
        if not is_of_backend(scope, "CancelScope"):
            return
        yield scope
        scope = attribute(scope, "_parent_scope")


def deadlines_of(task: object) -> Iterator[float]:
    """When the cancel scopes round a wait will end it, those that have a deadline."""
    for scope in effective_scopes(task):
        deadline = attribute(scope, "_deadline")
        if type(deadline) is float and deadline != math.inf:
            yield deadline


def is_about_to_be_cancelled(task: object) -> bool:
    """Whether a cancel scope round a task has a deadline or has been cancelled. Where in doubt it has."""
    return any(
        attribute(scope, "_timeout_handle") is not None or attribute(scope, "_cancel_called") is not False
        for scope in effective_scopes(task)
    )


def effective_scopes(task: object) -> Iterator[object]:
    """The cancel scopes that can cancel a task: those outside of a shield cannot."""
    for scope in scopes_round(task):
        yield scope
        if attribute(scope, "_shield") is True:
            return


def attribute(obj: object, name: str) -> object:
    """A field of one of AnyIO's objects, which are made with slots or without; `UNKNOWN` where there is none."""
    found = c_field(obj, name)
    return fields(obj).get(name, UNKNOWN) if found is UNKNOWN else found


def is_of_backend(obj: object, name: str) -> bool:
    """Whether an object is of a class of AnyIO's asyncio backend. The classes are looked through, none is asked."""
    kind = class_of_backend(name)
    return any(base is kind for base in _mro(type(obj)))


def is_exactly_of_backend(obj: object, name: str) -> bool:
    """Whether an object is of such a class, and not of one derived from it."""
    return type(obj) is class_of_backend(name)


def class_of_backend(name: str) -> Any:
    return fields(sys.modules.get(_BACKEND)).get(name, UNKNOWN)
