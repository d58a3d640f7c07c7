"""Trio's tasks, as far as they show their state. Trio is looked at only where a program has imported it."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any, Final, cast

from taskscope._diagnosis.awaitables import UNKNOWN, field_of
from taskscope._diagnosis.opaque import is_named, module_of, package_of

_NESTED: Final = 16


def is_trio_task(obj: object) -> bool:
    """Whether an object is a task of Trio's."""
    return is_class_of_trio_tasks(type(obj))


def is_class_of_trio_tasks(kind: type) -> bool:
    """Whether it is the class of Trio's tasks. No other can be derived from that."""
    return is_named(kind, "trio.lowlevel", "Task")


def name_of(task: object) -> str:
    name = field_of(task, "name")
    return name if type(name) is str else "<unknown>"


def coroutine_of(task: Any) -> object:
    """The coroutine of a task, also of one that has ended, `UNKNOWN` where it does not show it.

    What taskscope has put in its place, to cancel the task, is seen through.
    """
    coro = field_of(task, "coro")
    for _ in range(_NESTED):
        if not (module_of(type(coro)) or "").startswith("taskscope."):
            return coro
        coro = field_of(coro, "_coro")
    return UNKNOWN


def is_ended(task: Any) -> bool:
    """Whether Trio has done with a task, or is about to."""
    tasks: Any = field_of(field_of(task, "_runner"), "tasks")
    if type(tasks) is set and task not in tasks:
        return True
    coro: Any = coroutine_of(task)
    return type(coro) is types.CoroutineType and coro.cr_frame is None


def can_go_on(task: Any) -> bool:
    """Whether nothing keeps a task from going on: it has its turn, or is in the queue for one."""
    coro: Any = coroutine_of(task)
    if type(coro) is types.CoroutineType and coro.cr_running:
        return True
    return _known(field_of(task, "_next_send_fn")) is not None


def parent_nursery(task: Any) -> Any:
    """The nursery that a task is in, None for Trio's very first task."""
    return _known(field_of(task, "_parent_nursery"))


def nurseries_round(task: Any) -> Iterator[Any]:
    """The nurseries that a task is in, innermost first."""
    while (nursery := parent_nursery(task)) is not None:
        yield nursery
        task = field_of(nursery, "_parent_task")


def children_of(nursery: object) -> list[Any]:
    """The tasks in a nursery, in the order in which they were spawned."""
    found = field_of(nursery, "_children")
    tasks: list[Any] = list(found) if type(found) is set else []  # pyright: ignore[reportUnknownArgumentType]
    return sorted([task for task in tasks if is_trio_task(task)], key=_counter)


def tasks_beside(task: object) -> list[Any]:
    """All tasks of the run that a task belongs to."""
    found = field_of(field_of(task, "_runner"), "tasks")
    return list(found) if type(found) is set else []  # pyright: ignore[reportUnknownArgumentType,reportUnknownVariableType]


def seconds_to(deadline: float, task: object) -> float | None:
    """Seconds until a deadline by the clock that a task's runner goes by, None where that clock is a user's own."""
    clock = field_of(field_of(task, "_runner"), "clock")
    if package_of(type(clock)) != "trio":
        return None
    now: float = cast("Any", clock).current_time()
    return max(0.0, deadline - now)


def _counter(task: object) -> int:
    counter = field_of(task, "_counter")
    return counter if type(counter) is int else 0


def _known(value: object) -> object | None:
    return None if value is UNKNOWN else value
