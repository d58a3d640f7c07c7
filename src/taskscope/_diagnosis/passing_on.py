"""What passes on what it holds, so that whoever has it has that as well; and what of it libraries alone have."""

from __future__ import annotations

import asyncio
import collections
import functools
import types
from typing import Any, Final

from taskscope._diagnosis.anyio_scopes import is_of_backend
from taskscope._diagnosis.awaitables import cells_of, fields, is_exactly
from taskscope._diagnosis.folding import is_of_library
from taskscope._diagnosis.opaque import class_of

_ITERATORS: Final = frozenset(
    {
        *(id(type(iter(list[object]()))), id(type(iter(tuple[object]()))), id(type(iter(set[object]())))),
        *(id(type(iter(view))) for view in (dict[object, object]().values(), dict[object, object]().items())),
        *(id(type(iter(dict[object, object]()))), id(type(reversed(list[object]()))), id(enumerate), id(zip)),
    }
)

CONTAINERS: Final = _ITERATORS | frozenset(
    {
        *(id(list), id(set), id(frozenset), id(tuple), id(dict), id(types.CellType)),
        *(id(collections.deque), id(collections.OrderedDict)),
    }
)

METHODS: Final = frozenset(map(id, (types.MethodType, types.BuiltinMethodType)))
CALLABLES: Final = METHODS | {id(types.FunctionType), id(functools.partial)}
"""The ids of their classes."""

# What is called at Ctrl-C, and when a task of a group ends.
_KNOWN_METHODS: Final = (
    getattr(asyncio.runners.Runner, "_on_sigint", None),
    getattr(asyncio.taskgroups.TaskGroup, "_on_task_done", None),
)


def passes_on(holder: Any) -> bool:
    """Whether who has this has what it holds, so that it is to be asked who has this."""
    kind = id(class_of(holder))
    if kind in CONTAINERS or (kind in CALLABLES and not is_of_libraries(holder)):
        return True
    if is_exactly(holder, asyncio.timeouts.Timeout):
        return fields(holder).get("_timeout_handler") is None
    return (
        is_exactly(holder, asyncio.taskgroups.TaskGroup)
        or is_of_backend(holder, "TaskGroup")
        or is_of_backend(holder, "BlockingPortal")
    )


def is_of_libraries(holder: Any) -> bool:
    """Whether it is what a runner has called at Ctrl-C, or `gather`, `wait` and groups when a task ends.

    Nobody else has these but the other tasks that are waited for, and what these do when they end does not count.
    """
    if is_exactly(holder, functools.partial):
        holder = holder.func
    if is_exactly(holder, types.MethodType):
        return holder.__func__ in _KNOWN_METHODS
    return (
        is_exactly(holder, types.FunctionType) and is_of_library(holder.__code__) and not _waits_for_one_of_many(holder)
    )


def _waits_for_one_of_many(function: Any) -> bool:
    """Whether it is what `asyncio.wait` has called at the end of a task, and goes on when another one ends."""
    if function.__code__.co_qualname != "_wait.<locals>._on_completion":
        return False
    cell = cells_of(function).get("return_when")
    return cell is not None and cell.cell_contents != asyncio.tasks.ALL_COMPLETED
