"""The futures that a task waits for, directly or through `gather`, `wait`, `shield` and the like."""

from __future__ import annotations

import asyncio
import gc
import types
from asyncio import taskgroups
from collections.abc import Iterable, Iterator
from typing import Any, Final, cast

from taskscope._diagnosis.awaitables import cells_of, fields, is_done, is_future, is_task
from taskscope._diagnosis.primitives import CONCURRENT, referred

GATHERING: Final[type] = vars(asyncio.tasks)["_GatheringFuture"]
"""What `gather` returns: to cancel it cancels all that it waits for."""

AS_COMPLETED: Final[type | None] = vars(asyncio.tasks).get("_AsCompletedIterator")
"""What `as_completed` returns since 3.13."""

# The functions, made anew at each call, by which one future reports to another.
_SHIELD: Final = "shield.<locals>._outer_done_callback"
_WRAPPED: Final = "_chain_future.<locals>._call_check_cancel"


def is_gathering(future: object) -> bool:
    return issubclass(type(future), GATHERING)


def gathered(future: object) -> list[object]:
    """The futures that a `gather` has put together."""
    children: Any = object.__getattribute__(future, "_children") if is_gathering(future) else None
    return list(cast("list[object]", children)) if type(children) is list else []


def shielded_by(future: object) -> object | None:
    """The future behind the one that `shield` has returned, None where that was not made by `shield`."""
    # by its name: since 3.14 the task that called `shield` is among them, too
    cells = _callback_cells(future, _SHIELD)
    return next((cell for name, cell in cells if name == "inner" and is_future(cell)), None)


def wrapped_in(future: object) -> object | None:
    """The concurrent future behind one that `run_in_executor` or `wrap_future` has returned, None behind others."""
    return next((cell for _, cell in _callback_cells(future, _WRAPPED) if issubclass(type(cell), CONCURRENT)), None)


def futures_in(holder: object) -> list[object]:
    """The futures that a coroutine of asyncio's waits for: they are in a set or list among what it refers to."""
    group = referred(holder, taskgroups.TaskGroup)
    if group is not None:
        return _members(fields(group).get("_tasks"))
    found: list[object] = []
    for ref in _near(holder):
        for member in _members(ref):
            if member not in found:
                found.append(member)
    return found


def pending(futures: Iterable[object]) -> list[object]:
    return [future for future in futures if not is_done(future)]


def _near(holder: object) -> Iterator[object]:
    """What a coroutine refers to, through closures and an iterator object too."""
    for ref in gc.get_referents(holder):
        if type(ref) is types.CellType:
            yield from gc.get_referents(ref)
        elif type(ref) is AS_COMPLETED:
            yield fields(ref).get("_todo")
        else:
            yield ref


def _members(collection: object) -> list[object]:
    if is_task(collection):
        return [collection]
    if type(collection) not in (set, list, tuple, frozenset):
        return []
    return [member for member in cast("list[object]", collection) if is_future(member)]


def _callback_cells(future: Any, qualname: str) -> Iterator[tuple[str, object]]:
    """The names and values of the variables that the callbacks of a function share with it."""
    callbacks: Any = getattr(future, "_callbacks", None) if is_future(future) else None
    for callback, _ in callbacks or ():
        if type(callback) is types.FunctionType and callback.__qualname__ == qualname:
            for name, cell in cells_of(callback).items():
                yield from ((name, value) for value in gc.get_referents(cell))
