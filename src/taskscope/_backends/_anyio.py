"""Cancelling one task of AnyIO's on asyncio in a way that AnyIO is not upset by.

It takes a task that has been cancelled, and not by its group, for one that has failed, and cancels the whole group. And
its shields keep out its own cancels, but not asyncio's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from taskscope._diagnosis.anyio_scopes import attribute, scopes_round
from taskscope._diagnosis.awaitables import done_callbacks
from taskscope._diagnosis.groups import group_behind


def spare_siblings(task: asyncio.Task[Any]) -> None:
    """Makes sure that a task's group, if it is one of AnyIO's, goes on when the task is cancelled."""
    for callback in done_callbacks(task):
        group = group_behind(callback)
        if group is not None:
            task.remove_done_callback(callback)
            task.add_done_callback(partial(_count_off, callback, group))
            return


def is_shielded(task: asyncio.Task[Any]) -> bool:
    """Whether a task is in a shielded cancel scope that it has opened itself."""
    for scope in scopes_round(task):
        if attribute(scope, "_host_task") is not task:
            return False
        if attribute(scope, "_shield") is True:
            return True
    return False


def _count_off(count_off: Callable[[asyncio.Task[Any]], None], group: Any, task: asyncio.Task[Any]) -> None:
    """Lets the group count off a task, and take itself for cancelled meanwhile if the task is: then it does no more."""
    scope = group.cancel_scope
    was_cancelled = scope._cancel_called
    scope._cancel_called = was_cancelled or task.cancelled()
    try:
        count_off(task)
    finally:
        scope._cancel_called = was_cancelled
