"""What a scope needs of asyncio to end: its clock, waiting for tasks, cancelling them, work off the loop."""

from __future__ import annotations

import asyncio
import math
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any, TypeVar

from taskscope._table import AnyTask

T = TypeVar("T")

# Turns of the loop that runnable tasks still get when a deadline has passed: the loop may have been blocked all along,
# or its clock jumped.
EXTRA_TURNS = 50


def running_loop() -> asyncio.AbstractEventLoop:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(
            "a TaskScope needs a running asyncio event loop: use it in a coroutine that asyncio, uvloop or AnyIO's "
            "asyncio backend runs (trio is not supported in this version)"
        ) from None


async def wait_ended(tasks: Iterable[AnyTask], deadline: float) -> None:
    """Returns when all tasks have ended or the loop's clock has reached `deadline`, leaving no callback behind.

    Event-driven: nothing of it depends on `asyncio.sleep`, `asyncio.wait` or other functions that tests patch.
    """
    loop = asyncio.get_running_loop()
    wait = _Wait(loop, [task for task in tasks if not task.done()])
    await wait.until(deadline)


async def one_turn() -> None:
    """Lets everything run once that is ready to run."""
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    loop.call_soon(_release, future)
    await future


async def settle(tasks: Iterable[AnyTask]) -> None:
    """Gives tasks that could run if they were let a bounded number of turns."""
    for _ in range(EXTRA_TURNS):
        if not any(is_runnable(task) for task in tasks):
            return
        await one_turn()


def is_runnable(task: AnyTask) -> bool:
    if task.done():
        return False
    waiter = getattr(task, "_fut_waiter", None)
    return waiter is None or waiter.done()


def cancel(task: AnyTask) -> bool:
    """Cancels a task, through its own loop when that is another one. False where no loop will ever deliver it."""
    loop = task.get_loop()
    if loop is asyncio.get_running_loop():
        task.cancel()
        return True
    if not loop.is_running():
        return False
    try:
        loop.call_soon_threadsafe(task.cancel)
    except RuntimeError:  # closed since
        return False
    return True


def cancel_without_waiting(task: AnyTask) -> None:
    """Asks a task to end, from wherever this runs: in its loop, in another one, or where no loop runs."""
    loop = task.get_loop()
    if asyncio._get_running_loop() is loop:
        task.cancel()
    elif not loop.is_closed():
        _call_in(loop, task.cancel)


def shielded() -> AbstractContextManager[Any]:
    """Keeps AnyIO's cancel scopes out of a wait; nothing where AnyIO is not in use.

    A cancelled scope of AnyIO's cancels its tasks again in every turn of the loop, for as long as they are in it.
    """
    if "anyio._backends._asyncio" not in sys.modules:
        return nullcontext()
    import anyio

    return anyio.CancelScope(shield=True)


def in_cancelled_anyio_scope() -> bool:
    """Whether a cancel scope of AnyIO's round the running code has been cancelled already."""
    if "anyio._backends._asyncio" not in sys.modules:
        return False
    import anyio

    return anyio.current_effective_deadline() == -math.inf


async def off_loop(work: Callable[[], T], deadline: float) -> T | None:
    """The result of work that may block, done in a thread of its own; None where it failed or was not done in time."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    results: list[T] = []

    def run() -> None:
        try:
            results.append(work())
        finally:
            _call_in(loop, _release, done)

    thread = threading.Thread(target=run, name="taskscope-report", daemon=True)
    thread.start()
    timer = loop.call_at(deadline, _release, done)
    try:
        await done
        while results and thread.is_alive():
            await one_turn()  # it has only to return: no thread of ours is left when the scope is
    finally:
        timer.cancel()
    return results[0] if results else None


class _Wait:
    def __init__(self, loop: asyncio.AbstractEventLoop, tasks: list[AnyTask]) -> None:
        self._loop = loop
        self._tasks = tasks
        self._left = len(tasks)
        self._released = loop.create_future()

    async def until(self, deadline: float) -> None:
        if not self._left:
            return
        timer = self._loop.call_at(deadline, _release, self._released)
        watchdog = _start_watchdog(self._loop, self._released, deadline - self._loop.time())
        try:
            for task in self._tasks:
                self._attach(task)
            await self._released
        finally:
            timer.cancel()
            if watchdog is not None:
                watchdog.set()
            for task in self._tasks:
                self._detach(task)

    def _attach(self, task: AnyTask) -> None:
        loop = task.get_loop()
        if loop is self._loop:
            task.add_done_callback(self._ended)
        elif loop.is_running():
            _call_in(loop, task.add_done_callback, self._ended_elsewhere)

    def _detach(self, task: AnyTask) -> None:
        loop = task.get_loop()
        if loop is self._loop:
            task.remove_done_callback(self._ended)
        elif loop.is_running():
            _call_in(loop, task.remove_done_callback, self._ended_elsewhere)

    def _ended(self, task: object) -> None:
        self._left -= 1
        if not self._left:
            _release(self._released)

    def _ended_elsewhere(self, task: object) -> None:
        _call_in(self._loop, self._ended, task)


def _call_in(loop: asyncio.AbstractEventLoop, callback: Callable[..., object], *args: Any) -> None:
    with suppress(RuntimeError):  # closed: its tasks can neither end nor be told anything
        loop.call_soon_threadsafe(callback, *args)


def _release(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _start_watchdog(
    loop: asyncio.AbstractEventLoop, released: asyncio.Future[None], seconds: float
) -> threading.Event | None:
    """Ends a wait in real time where the loop's clock stands still, as when a test has frozen `time`.

    Only where the clock does not move between two looks: a thread is not for free. (uvloop's moves once a turn.)
    """
    if not isinstance(loop, asyncio.BaseEventLoop) or loop.time() != loop.time():
        return None
    stop = threading.Event()

    def watch() -> None:
        if not stop.wait(seconds):
            _call_in(loop, _release, released)

    threading.Thread(target=watch, name="taskscope-watchdog", daemon=True).start()
    return stop
