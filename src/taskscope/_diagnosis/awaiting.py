"""Who awaits a task: tasks that cannot do anything else before it has ended."""

from __future__ import annotations

import gc
import types
from typing import Any

from taskscope._diagnosis.awaitables import done_callbacks, is_task, is_wrapper
from taskscope._diagnosis.stack import task_chain


def code_that_awaits(task: object) -> list[object]:
    """The tasks that await a task directly, their coroutines, and the iterators of their `await`."""
    found: list[object] = []
    for awaiter in _awaiters(task):
        found += [awaiter, *code_of(awaiter)]
    return found


def code_of(task: object) -> list[object]:
    """The coroutines that a task is in, outermost first, and the iterators of the `await` of the innermost."""
    coroutines = [link.holder for link in task_chain(task).links if type(link.holder) is not types.CodeType]
    if not coroutines:
        return []
    return [*coroutines, *(ref for ref in gc.get_referents(coroutines[-1]) if is_wrapper(ref))]


def references_of(holders: list[object], obj: object) -> int:
    """How many references these holders have to an object."""
    return sum(ref is obj for holder in holders for ref in gc.get_referents(holder))


def _awaiters(task: object) -> list[Any]:
    woken = [callback.__self__ for callback in done_callbacks(task) if type(callback) in _METHODS]
    return [awaiter for awaiter in woken if is_task(awaiter)]


_METHODS = (types.BuiltinMethodType, types.MethodType)
