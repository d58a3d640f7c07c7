"""Whether a task waits for whoever closes a resource, directly or by way of others."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final

from taskscope._backends._backend import Backend, Tracking
from taskscope._diagnosis.diagnosis import Diagnosis
from taskscope._diagnosis.woken import woken_by
from taskscope._table import AnyTask

_WAITING_LIMIT: Final = 1_000
"""Tasks that are looked through for one that waits, by way of others, for the one that closes a resource."""


def ids_waited_for(backend: Backend, tracking: Tracking) -> set[int]:
    """The ids of the running task, of those that its end wakes, and of those that end a scope which it belongs to."""
    current = backend.current_task()
    if current is None:
        return set()
    found = {id(current), *woken_by(current)}
    table = tracking.table_of(current)
    while table is not None:
        scope = table.scope
        if scope is not None and table.host is not None and scope._state == "closing":  # pyright: ignore[reportPrivateUsage]
            found.add(id(table.host))
        table = table.parent
    return found


def tasks_that_scopes_wait_for(backend: Backend, tracking: Tracking) -> dict[int, list[AnyTask]]:
    """The tasks that are waited for by a scope that ends, by the ids of those who end it."""
    found: dict[int, list[AnyTask]] = {}
    for task in backend.all_tasks():
        table = tracking.table_of(task)
        scope = None if table is None else table.scope
        if table is not None and scope is not None and scope._state == "closing":  # pyright: ignore[reportPrivateUsage]
            found.setdefault(id(table.host), []).append(task)
    return found


def waits_for(task: AnyTask, waited_for: set[int], ended_by: Mapping[int, list[AnyTask]], diagnosis: Diagnosis) -> bool:
    """Whether a task waits for one of these, directly or by way of others.

    ended_by: the tasks for which scopes wait, by the ids of those who end the scopes.
    """
    ahead = deque([task])
    seen = {id(task)}
    while ahead and len(seen) < _WAITING_LIMIT:
        current = ahead.popleft()
        if id(current) in waited_for:
            return True
        for other in (*diagnosis.awaited(current), *ended_by.get(id(current), ())):
            if id(other) not in seen:
                seen.add(id(other))
                ahead.append(other)
    return False
