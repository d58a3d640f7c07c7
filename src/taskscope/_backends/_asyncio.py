"""What a scope needs of asyncio to end: its clock, waiting for tasks, cancelling them, work off the loop."""

from __future__ import annotations

import asyncio
import math
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar, final

from taskscope._backends._cycles import cancel_here
from taskscope._backends._watchdog import Watchdog, call_in, release, start_thread, watchdog_if_needed
from taskscope._table import AnyTask

T = TypeVar("T")

# Turns of the loop that runnable tasks still get when a deadline has passed: the loop may have been blocked all along,
# or its clock jumped.
EXTRA_TURNS = 50

PATIENCE = 0.2
"""Seconds of real time, in one exit, that tasks get where the loop's clock jumps."""


def running_loop() -> asyncio.AbstractEventLoop:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(
            "a TaskScope needs a running asyncio event loop: use it in a coroutine that asyncio, uvloop or AnyIO's "
            "asyncio backend runs (trio is not supported in this version)"
        ) from None


@final
class Clock:
    """The loop's clock for one exit, helped on where it stands still, as when a test has frozen `time`.

    Where it jumps instead, as that of a loop with virtual time does as soon as nothing is ready, tasks get some real
    time as well: what they wait for can be real, a thread or a socket.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._helped = 0.0
        self._patience = PATIENCE

    def time(self) -> float:
        return self._loop.time() + self._helped

    async def wait_ended(self, tasks: Iterable[AnyTask], deadline: float) -> None:
        """Returns when all tasks have ended or it is `deadline`, leaving no callback behind.

        Event-driven: nothing of it depends on `asyncio.sleep`, `asyncio.wait` or other functions that tests patch.
        """
        before = self.time()
        seconds = max(0.0, deadline - before)
        watchdog = watchdog_if_needed(self._loop, seconds, min(seconds, self._patience))
        pending = [task for task in tasks if not task.done()]
        await _Wait(self._loop, pending).until(self._loop.time() + seconds, watchdog)
        if watchdog is not None:
            self._patience -= min(seconds, self._patience)
            if watchdog.has_fired:
                self._helped += max(0.0, deadline - self.time())
            while watchdog.is_running:
                await one_turn()


async def one_turn() -> None:
    """Lets everything run once that is ready to run."""
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    loop.call_soon(release, future)
    await future


async def called_back(work: Callable[[asyncio.Future[None]], T]) -> T | None:
    """The result of work that the loop calls while the calling task is suspended; None where it failed.

    work: gets the future that the task waits for.
    """
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    results: list[T] = []

    def call() -> None:
        try:
            results.append(work(done))
        finally:
            release(done)

    loop.call_soon(call)
    await done
    return results[0] if results else None


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
        cancel_here(task)
        return True
    if not loop.is_running():
        return False
    try:
        loop.call_soon_threadsafe(cancel_here, task)
    except RuntimeError:  # closed since
        return False
    return True


def cancel_without_waiting(task: AnyTask) -> None:
    """Asks a task to end, from wherever this runs: in its loop, in another one, or where no loop runs."""
    loop = task.get_loop()
    if asyncio._get_running_loop() is loop:
        cancel_here(task)
    elif not loop.is_closed():
        call_in(loop, cancel_here, task)


def cancel_later(cancellation: asyncio.CancelledError) -> None:
    """Has the running task cancelled again when it waits next, by a cancellation that cannot propagate by itself.

    Before Python 3.13 it is only counted: `uncancel` does not take back what has not been delivered yet, so whoever
    answers for the cancellation, `asyncio.timeout` for instance, could not keep it from striking after all.
    """
    task = asyncio.current_task()
    if sys.version_info >= (3, 13) and task is not None and task.cancelling():
        task.uncancel()
        task.cancel(*cancellation.args)


def is_in_loop() -> bool:
    return asyncio._get_running_loop() is not None


def shielded() -> AbstractContextManager[Any]:
    """Keeps AnyIO's cancel scopes out of a wait; nothing where AnyIO is not in use.

    A cancelled scope of AnyIO's cancels its tasks again in every turn of the loop, for as long as they are in it.
    """
    if not _is_anyio_at_work():
        return nullcontext()
    import anyio

    return anyio.CancelScope(shield=True)


def in_cancelled_anyio_scope() -> bool:
    """Whether a cancel scope of AnyIO's round the running code has been cancelled already."""
    if not _is_anyio_at_work():
        return False
    import anyio

    return anyio.current_effective_deadline() == -math.inf


def _is_anyio_at_work() -> bool:
    # It knows its tasks by asyncio.current_task, which from 3.14 on sees none that is in pure Python.
    return "anyio._backends._asyncio" in sys.modules and asyncio.current_task() is not None


async def off_loop(work: Callable[[], T], seconds: float) -> T | None:
    """The result of work that may block, done in a thread of its own; None where it failed or was not done in time."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    results: list[T] = []

    def run() -> None:
        try:
            results.append(work())
        finally:
            call_in(loop, release, done)

    thread = start_thread(run, "taskscope-report")
    if thread is None:
        return None
    watchdog = watchdog_if_needed(loop, seconds, 0)
    timer = None
    try:
        if watchdog is None:
            timer = loop.call_at(loop.time() + seconds, release, done)
            await done
        else:
            watchdog.watch(done)
            while not done.done():
                await one_turn()  # as long as something is ready a clock with virtual time does not jump
        while results and thread.is_alive():
            await one_turn()  # it has only to return: no thread of ours is left when the scope is
    finally:
        if timer is not None:
            timer.cancel()
        if watchdog is not None:
            watchdog.stop()
    while watchdog is not None and watchdog.is_running:
        await one_turn()
    return results[0] if results else None


class _Wait:
    def __init__(self, loop: asyncio.AbstractEventLoop, tasks: list[AnyTask]) -> None:
        self._loop = loop
        self._tasks = tasks
        self._left = len(tasks)
        self._released = loop.create_future()
        # Tasks on other loops end in other threads, any time, also while this wait is being given up.
        self._lock = threading.Lock()
        self._is_over = False
        self._under_way = 0

    async def until(self, deadline: float, watchdog: Watchdog | None) -> None:
        if not self._left:
            return
        timer = self._loop.call_at(deadline, release, self._released)
        try:
            for task in self._tasks:
                self._attach(task)
            if watchdog is not None:
                watchdog.watch(self._released)
            await self._released
            while watchdog is not None and self._left and not watchdog.is_patience_over:
                await one_turn()  # the clock has jumped; as long as something is ready it does not jump again
        finally:
            timer.cancel()
            if watchdog is not None:
                watchdog.stop()
            for task in self._tasks:
                self._detach(task)
            with self._lock:
                self._is_over = True
        if self._under_way or sum(task.done() for task in self._tasks) > len(self._tasks) - self._left:
            await one_turn()  # callbacks of those that have just ended are on their way, and not to be left behind

    def _attach(self, task: AnyTask) -> None:
        loop = task.get_loop()
        if loop is self._loop:
            task.add_done_callback(self._ended)
        elif loop.is_running():
            call_in(loop, task.add_done_callback, self._ended_elsewhere)

    def _detach(self, task: AnyTask) -> None:
        loop = task.get_loop()
        if loop is self._loop:
            task.remove_done_callback(self._ended)
        elif loop.is_running():
            call_in(loop, task.remove_done_callback, self._ended_elsewhere)

    def _ended(self, task: object) -> None:
        self._left -= 1
        if not self._left:
            release(self._released)

    def _ended_elsewhere(self, task: object) -> None:
        with self._lock:
            if not self._is_over:
                self._under_way += 1
                call_in(self._loop, self._arrived, task)

    def _arrived(self, task: object) -> None:
        self._under_way -= 1
        self._ended(task)
