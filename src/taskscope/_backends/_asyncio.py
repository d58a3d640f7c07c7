"""asyncio, and uvloop: what a scope needs to know of its tasks, how it cancels them and how it waits."""

from __future__ import annotations

import asyncio
import math
import sys
from asyncio import base_events
from collections.abc import Awaitable, Callable, Container, Coroutine
from contextlib import AbstractContextManager, nullcontext
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar, final

from taskscope._backends import _watchdog
from taskscope._backends._cycles import cancel_by_waking, cancel_here
from taskscope._backends._loop_tracking import LoopTracking, tracking_of
from taskscope._backends._ownership import all_tasks as all_tasks
from taskscope._backends._ownership import running_loop, running_task
from taskscope._backends._ownership import task_context as task_context
from taskscope._backends._watchdog import call_in, release, start_thread, watchdog_if_needed
from taskscope._backends._watchdog import one_turn as one_turn
from taskscope._diagnosis.awaitables import UNKNOWN, waiter_of
from taskscope._diagnosis.awaitables import is_done as is_future_done
from taskscope._table import AnyTask, TaskTable

if TYPE_CHECKING:
    from taskscope._backends._asyncio_clock import AsyncioClock
    from taskscope._report import Outcome

T = TypeVar("T")

LAST_SECONDS: Final = 0.05
"""How long work of ours that was cancelled, for its time was up, has to end."""

name: Final = "asyncio"

Cancelled: Final = asyncio.exceptions.CancelledError


def running_tracking() -> LoopTracking:
    return tracking_of(running_loop())


def tracking_of_task(task: AnyTask) -> LoopTracking:
    return tracking_of(task.get_loop())


def current_task() -> AnyTask | None:
    return running_task(running_loop())


def is_task(obj: object) -> bool:
    return asyncio.futures.isfuture(obj) and hasattr(obj, "get_coro")


def is_done(task: AnyTask) -> bool:
    return task.done()


def is_runnable(task: AnyTask) -> bool:
    if task.done():
        return False
    waiter = getattr(task, "_fut_waiter", None)
    return waiter is None or waiter.done()


def where_it_waits(task: AnyTask) -> int:
    # Not the future itself: to hold that would make it look alive.
    if task.done() or task.get_loop() is not asyncio._get_running_loop():
        return 0
    waiter = waiter_of(task)
    return 0 if waiter is None or waiter is UNKNOWN or is_future_done(waiter) else id(waiter)


def outcome(task: AnyTask) -> tuple[Outcome, BaseException | None]:
    if task.cancelled():
        return "cancelled", None
    # Not task.exception(): that would mark it as retrieved, and asyncio's own message about it would be lost.
    error = getattr(task, "_exception", None)
    return ("finished", None) if error is None else ("failed", error)


def drop_ended(table: TaskTable) -> bool:
    return False


def watch_end(task: AnyTask) -> None:
    pass  # tasks keep it


def sees_each_turn(table: TaskTable, task: AnyTask) -> bool:
    loop = running_loop()
    return loop.get_debug() and task.get_loop() is loop and tracking_of(loop).turns().add(table)


def watch_for_end(task: AnyTask, ended: Callable[[AnyTask], object]) -> None:
    task.add_done_callback(ended, context=Context())  # not in that of the running code: it may carry a tag


def stop_watching_for_end(task: AnyTask, ended: Callable[[AnyTask], object], watch: object) -> None:
    task.remove_done_callback(ended)


def outcome_of_cancelled(task: AnyTask) -> tuple[Outcome, BaseException | None]:
    if task.cancelled():
        return "cancelled", None
    error = task.exception()
    return ("finished", None) if error is None else ("failed", error)


def number_of_groups(host: AnyTask | None) -> int:
    return 0


def is_opened_since(group: object, opener: AnyTask, number: int) -> bool:
    return False


def is_ended_by_another(task: AnyTask, pending: Container[AnyTask]) -> bool:
    return False


def cancel(task: AnyTask, host: AnyTask) -> tuple[bool, int]:
    """Cancels a task, through its own loop when that is another one.

    A task that awaits the host passes its cancellation on to it. That is our own doing and is taken back.
    """
    from taskscope._backends._anyio import spare_siblings

    before = host.cancelling()
    spare_siblings(task)
    delivered = _cancel(task)
    if host.cancelling() > before:
        cancel_by_waking(task)  # what it awaits waits for it
    echoes = 0
    while host.cancelling() > before:
        host.uncancel()
        echoes += 1
    return delivered, echoes


def _cancel(task: AnyTask) -> bool:
    loop = task.get_loop()
    if loop is running_loop():
        cancel_here(task)
        return True
    if not loop.is_running():
        return False
    try:
        loop.call_soon_threadsafe(cancel_here, task)
    except RuntimeError:  # closed since
        return False
    return True


def is_out_of_reach(task: AnyTask) -> bool:
    from taskscope._backends._anyio import is_shielded

    return is_shielded(task)


def why_immune(task: AnyTask) -> str | None:
    return "it is inside a shielded cancel scope, which no cancel reaches" if is_out_of_reach(task) else None


def cancel_without_waiting(task: AnyTask) -> None:
    """Asks a task to end, from wherever this runs: in its loop, in another one, or where no loop runs."""
    loop = task.get_loop()
    if asyncio._get_running_loop() is loop:
        cancel_here(task)
    elif not loop.is_closed():
        call_in(loop, cancel_here, task)


def refuse(task: AnyTask) -> None:
    if not getattr(task.get_coro(), "cr_suspended", False):  # too late for what was started eagerly
        task.cancel()


def cancels_of(host: AnyTask) -> int:
    return host.cancelling()


def cancel_later(cancellation: BaseException) -> None:
    """Has the running task cancelled again when it waits next, by a cancellation that cannot propagate by itself.

    Before Python 3.13 it is only counted: `uncancel` does not take back what has not been delivered yet, so whoever
    answers for the cancellation, `asyncio.timeout` for instance, could not keep it from striking after all.
    """
    task = asyncio.tasks.current_task()
    if sys.version_info >= (3, 13) and task is not None and task.cancelling():
        task.uncancel()
        task.cancel(*cancellation.args)


@final
class BodyCancel:
    """Cancels a host with its count of cancellations kept balanced, in the way of `asyncio.timeout`."""

    def __init__(self) -> None:
        self._host: AnyTask | None = None
        self._cancelling = 0
        self._cancelled: AnyTask | None = None

    def enter(self, host: AnyTask) -> None:
        self._host = host
        self._cancelling = host.cancelling()

    def cancel(self) -> None:
        if self._host is not None:
            self._cancelled = self._host
            cancel_here(self._host)

    def leave(self, exc: BaseException | None) -> BaseException | None:
        self._host = None
        return exc

    def was_it(self, exc: BaseException | None) -> bool:
        others = self._cancelled is not None and self._cancelled.uncancel() > self._cancelling
        return exc is None or (isinstance(exc, asyncio.exceptions.CancelledError) and not others)


def tasks_waiting_for_current() -> list[AnyTask]:
    current = current_task()
    waiting: list[AnyTask] = []
    for task in all_tasks():
        seen: set[int] = set()
        awaited: Any = task
        while awaited is not None and awaited is not current and id(awaited) not in seen:
            seen.add(id(awaited))
            awaited = getattr(awaited, "_fut_waiter", None)
        if awaited is current and task is not current:
            waiting.append(task)
    return waiting


def is_in_loop() -> bool:
    return asyncio._get_running_loop() is not None


def protected(work: Coroutine[Any, Any, T]) -> Awaitable[T]:
    return work


def new_clock() -> AsyncioClock:
    from taskscope._backends._asyncio_clock import AsyncioClock

    return AsyncioClock(running_loop())


def time() -> float:
    return running_loop().time()


def call_at(when: float, callback: Callable[[], object]) -> asyncio.TimerHandle:
    return _watchdog.call_at(running_loop(), when, callback)


def is_clock_virtual() -> bool:
    loop = running_loop()
    if "time" in getattr(loop, "__dict__", ()):
        return True
    return type(loop).time is not base_events.BaseEventLoop.time and not type(loop).__module__.startswith("uvloop")


def call_after_turns(turns: int, callback: Callable[[], object]) -> None:
    if turns:
        running_loop().call_soon(call_after_turns, turns - 1, callback, context=Context())
    else:
        callback()


async def timers_gone(timers: list[asyncio.TimerHandle]) -> None:
    pass


async def called_back(work: Callable[[asyncio.Future[None]], T]) -> T | None:
    loop = running_loop()
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


async def off_loop(work: Callable[[], T], seconds: float) -> T | None:
    loop = running_loop()
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
            timer = _watchdog.call_at(loop, loop.time() + seconds, release, done)
            await done
        else:
            watchdog.watch(partial(release, done))
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


async def within(works: list[Coroutine[Any, Any, object]], seconds: float) -> list[BaseException | None]:
    # Not through the factory, the user's or ours: these are no tasks of a program's.
    loop = running_loop()
    tasks: list[AnyTask] = [asyncio.tasks.Task(work, loop=loop, name="taskscope closes") for work in works]
    clock = new_clock()
    await clock.wait_ended(tasks, clock.time() + seconds)
    late = {task for task in tasks if not task.done()}
    for task in late:
        task.cancel()
    await clock.wait_ended(late, clock.time() + LAST_SECONDS)
    return [TimeoutError(f"it took more than {seconds:g} s") if task in late else _raised(task) for task in tasks]


def _raised(task: AnyTask) -> BaseException | None:
    return None if task.cancelled() else task.exception()


def shielded() -> AbstractContextManager[Any]:
    """Keeps AnyIO's cancel scopes out of a wait; nothing where AnyIO is not in use.

    A cancelled scope of AnyIO's cancels its tasks again in every turn of the loop, for as long as they are in it.
    """
    if not _is_anyio_at_work():
        return nullcontext()
    import anyio

    return anyio.CancelScope(shield=True)


def is_cancelled_already() -> bool:
    """Whether a cancel scope of AnyIO's round the running code has been cancelled."""
    if not _is_anyio_at_work():
        return False
    import anyio

    return anyio.current_effective_deadline() == -math.inf


def _is_anyio_at_work() -> bool:
    if "anyio._backends._asyncio" not in sys.modules:
        return False
    # As AnyIO asks: from 3.14 on it sees no task that is in pure Python, and a test may have put a mock there.
    current: Callable[[], object] = vars(asyncio)["current_task"]
    try:
        return current() is not None
    except Exception:
        return False
