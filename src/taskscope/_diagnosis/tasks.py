"""What every task is asked for, whichever library runs it: its name, its coroutine, whether it has ended."""

from __future__ import annotations

from typing import Any, Final

from taskscope._diagnosis import awaitables, trio_tasks
from taskscope._diagnosis.trio_tasks import is_trio_task

UNNAMED: Final = "<unknown>"


def is_task(obj: object) -> bool:
    return awaitables.is_task(obj) or is_trio_task(obj)


def name_of(task: Any) -> str:
    """May raise: a task class of a user's can have a `get_name` of its own, or none."""
    return trio_tasks.name_of(task) if is_trio_task(task) else str(task.get_name())


def is_ended(task: Any) -> bool:
    """Whether a task has ended; of one that is no task, by its own account."""
    return trio_tasks.is_ended(task) if is_trio_task(task) else bool(task.done())


def coroutine_of(task: Any) -> object:
    """The coroutine of a task, None for one that has ended, `UNKNOWN` where it does not show it."""
    if not is_trio_task(task):
        return awaitables.coroutine_of(task)
    return None if trio_tasks.is_ended(task) else trio_tasks.coroutine_of(task)


def coroutine_name(task: Any) -> str:
    """The qualified name of a task's coroutine, also of one that has ended. May raise, as `name_of` may."""
    coro: Any = trio_tasks.coroutine_of(task) if is_trio_task(task) else _coroutine_of(task)
    if coro is None:
        return UNNAMED
    return str(getattr(coro, "__qualname__", None) or type(coro).__qualname__)


def _coroutine_of(task: Any) -> object:
    # Not by get_coro() where that can be: 3.12 crashes in it for a task that started eagerly and ended at once.
    coro = awaitables.c_field(task, "_coro")
    return task.get_coro() if coro is awaitables.UNKNOWN else coro
