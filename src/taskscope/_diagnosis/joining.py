"""Tasks that wait for tasks: who waits for whom, as a chain or, where it comes back to where it began, as a cycle."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from taskscope._diagnosis.awaited import gathered, is_gathering, pending, shielded_by
from taskscope._diagnosis.tasks import is_task
from taskscope._diagnosis.wait_point import WaitPoint

LONGEST: Final = 16
"""Tasks of a chain that are named."""

_MOST: Final = 10_000


@dataclass(frozen=True, slots=True, eq=False)
class Joining:
    """Whom a task waits for in the end.

    Attributes:
        path: The tasks on the way, from the first that the task waits for; where several are waited for, the first of
            them that leads into a cycle with the task, else the first. At most 16.
        is_cycle: The last of the path waits for the task itself.
    """

    path: tuple[Any, ...]
    is_cycle: bool


def awaited_tasks(point: WaitPoint | None) -> list[Any]:
    """The pending tasks at a wait point, also those behind `gather` and `shield`."""
    todo: list[object] = list(point.futures) if point is not None else []
    found: list[Any] = []
    seen: set[int] = set()
    while todo and len(seen) < _MOST:
        future = todo.pop(0)
        if id(future) in seen:
            continue
        seen.add(id(future))
        if is_task(future):
            found.append(future)
        elif is_gathering(future):
            todo += pending(gathered(future))
        else:
            inner = shielded_by(future)
            todo += [] if inner is None else pending([inner])
    return found


def joining(task: Any, awaited_by: Callable[[Any], list[Any]]) -> Joining | None:
    """Whom a task waits for, None for one that waits for no task.

    awaited_by: the tasks that a task awaits, as `awaited_tasks` finds them.
    """
    path: list[Any] | None = _cycle(task, awaited_by)
    if path is not None:
        return Joining(tuple(path[:LONGEST]), is_cycle=True)
    path = []
    seen = {id(task)}
    current = task
    while len(path) < LONGEST:
        following = next((other for other in awaited_by(current) if id(other) not in seen), None)
        if following is None:
            break
        seen.add(id(following))
        path.append(following)
        current = following
    return Joining(tuple(path), is_cycle=False) if path else None


def _cycle(task: Any, awaited_by: Callable[[Any], list[Any]]) -> list[Any] | None:
    """The tasks of a cycle through a task, from the one it waits for on; None where there is none."""
    came_from: dict[int, Any] = {}
    todo = deque([task])
    while todo and len(came_from) < _MOST:
        current = todo.popleft()
        for other in awaited_by(current):
            if other is task:
                return _way_back(current, task, came_from)
            if id(other) not in came_from:
                came_from[id(other)] = current
                todo.append(other)
    return None


def _way_back(last: Any, task: Any, came_from: dict[int, Any]) -> list[Any]:
    path: list[Any] = []
    while last is not task:
        path.append(last)
        last = came_from[id(last)]
    return [*reversed(path), task]
