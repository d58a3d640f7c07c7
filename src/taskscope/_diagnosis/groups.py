"""The task group that holds a task: who has opened it, and where."""

from __future__ import annotations

import asyncio
import gc
import os
import types
import weakref
from collections.abc import Iterator
from typing import Any, Final

from taskscope._diagnosis.anyio_scopes import attribute, is_of_backend
from taskscope._diagnosis.awaitables import cells_of, done_callbacks, fields, is_task
from taskscope._diagnosis.folding import is_internal, is_of_library
from taskscope._diagnosis.registries import registries_of_asyncio
from taskscope._diagnosis.safely import safely
from taskscope._diagnosis.stack import task_chain
from taskscope._diagnosis.trio_groups import nursery_name, owning_nursery
from taskscope._diagnosis.trio_tasks import is_trio_task
from taskscope._diagnosis.with_blocks import line_of_block
from taskscope._table import AnyTask

_GENERATORS: Final = 200
"""Asynchronous generators that are looked at for one group."""


def owning_group(task: AnyTask) -> tuple[Any, AnyTask | None]:
    """The task group that holds a task and the task that opened the group, both None where no group does.

    A group is known by the done callback that it puts on its tasks: a method of `asyncio.TaskGroup`, a closure of
    AnyIO's task group. Trio's tasks know their nursery.
    """
    if is_trio_task(task):
        return owning_nursery(task)
    for callback in done_callbacks(task):
        if type(callback) is types.MethodType and issubclass(type(callback.__self__), asyncio.taskgroups.TaskGroup):
            return callback.__self__, fields(callback.__self__).get("_parent_task")
        group = group_behind(callback)
        if group is not None:
            opener: Any = attribute(attribute(group, "cancel_scope"), "_host_task")
            return group, opener if is_task(opener) else None
    return None, None


def group_behind(callback: Any) -> object | None:
    """The task group of AnyIO's that has put a done callback on a task, None where it is not one of those."""
    cell = cell_of_group(callback)
    group: object = None if cell is None else cell.cell_contents
    return group if is_of_backend(group, "TaskGroup") else None


def cell_of_group(callback: Any) -> types.CellType | None:
    """Where a done callback of a task of AnyIO's has the task group."""
    if type(callback) is not types.FunctionType or callback.__module__ != "anyio._backends._asyncio":
        return None
    return cells_of(callback).get("self")


def group_name(group: object, opener: AnyTask | None) -> str:
    """A group as a report names it: `TaskGroup opened in 'serve' (app.py:12) by task 'main'`.

    The place is left out where it cannot be told: where the opener runs, say, or where no block holds the group.
    """
    if is_trio_task(opener):
        return safely(lambda: nursery_name(group, opener), "nursery")
    kind = "AnyIO task group" if type(group).__module__.startswith("anyio") else "TaskGroup"
    if opener is None:
        return kind
    place = safely(lambda: _place(group, opener), "")
    return f"{kind} opened {place}by task {safely(opener.get_name, '<unknown>')!r}"


def _place(group: object, opener: AnyTask) -> str:
    for holder in _holders(opener):
        line = line_of_block(holder, group)
        if line is not None:
            code = holder.cr_code if type(holder) is types.CoroutineType else holder.ag_code
            return f"in {code.co_qualname!r} ({os.path.basename(code.co_filename)}:{line}) "
    return _place_of_exit(group, opener)


def _holders(opener: AnyTask) -> Iterator[Any]:
    """What may have opened a group: the coroutines of its opener, or the generator of a fixture that has yielded it."""
    for link in task_chain(opener).links:
        if type(link.holder) in (types.CoroutineType, types.AsyncGeneratorType):
            yield link.holder
    yield from suspended_generators()


def suspended_generators() -> Iterator[Any]:
    """The asynchronous generators of the running loop, as many as can be looked at."""
    for registry in registries_of_asyncio():
        references: list[weakref.ref[Any]] = list(registry.data)
        for reference in references[:_GENERATORS]:
            generator = reference()
            if type(generator) is types.AsyncGeneratorType:
                yield generator


def _place_of_exit(group: object, opener: AnyTask) -> str:
    """Where the opener waits for the group's tasks already, its block has let go of the group."""
    links = task_chain(opener).links
    for place, link in enumerate(links):
        if link.code.co_qualname == "TaskGroup.__aexit__" and is_of_library(link.code):
            outer = [outer for outer in links[:place] if not is_internal(outer.code)]
            if outer and any(ref is group for ref in gc.get_referents(link.holder)):
                frame = outer[-1].frame
                return f"in {frame.function!r} ({os.path.basename(frame.file)}:{frame.line}) "
    return ""
