"""Cancelling where asyncio cannot: tasks that wait for each other.

`Task.cancel` passes a cancellation on to what the task waits for. Where that leads back to the task itself it goes
round until it fails with a `RecursionError`, and a chain of some thousand tasks is too long for it as well.
"""

from __future__ import annotations

import asyncio
from typing import Any

from taskscope._table import AnyTask


def cancel_here(task: AnyTask) -> None:
    """Cancels a task of the running loop, also one in a cycle of tasks that wait for each other."""
    if not hasattr(task, "cancelling"):  # a bare future, as a user's factory may make them: it waits for nothing
        task.cancel()
        return
    before = task.cancelling()
    try:
        task.cancel()
    except RecursionError:
        while task.cancelling() > before + 1:  # it has been counted once for each time round
            task.uncancel()
        cancel_by_waking(task)


def cancel_by_waking(task: AnyTask) -> None:
    """Wakes a task as if what it waits for had been cancelled, and nothing else."""
    waiter: Any = getattr(task, "_fut_waiter", None)
    callbacks: list[tuple[Any, Any]] = list(getattr(waiter, "_callbacks", None) or [])
    for callback, context in callbacks:
        if getattr(callback, "__self__", None) is task:
            waiter.remove_done_callback(callback)
            if not isinstance(waiter, asyncio.tasks.Task):
                waiter.add_done_callback(_retrieve)
            cancelled = task.get_loop().create_future()
            cancelled.cancel()
            task.get_loop().call_soon(callback, cancelled, context=context)
            return


def _retrieve(waiter: asyncio.Future[Any]) -> None:
    """Looks at a result that nobody waits for any more, so that asyncio does not complain about that."""
    if not waiter.cancelled():
        waiter.exception()
