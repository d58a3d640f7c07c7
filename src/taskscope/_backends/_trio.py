"""Trio: what a scope needs to know of its tasks, how it cancels them and how it waits."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Container, Coroutine
from contextlib import AbstractContextManager, suppress
from contextvars import Context
from typing import Any, Final, TypeVar, final

import trio
from trio.lowlevel import Task

from taskscope._backends._trio_cancelling import stand_in_of, take_over
from taskscope._backends._trio_clock import Outcomes, TrioClock, outcome_seen
from taskscope._backends._trio_clock import is_clock_virtual as is_clock_virtual
from taskscope._backends._trio_tracking import TrioTracking, run_context, tracking_of_run
from taskscope._backends._trio_tracking import running_tracking as running_tracking
from taskscope._backends._watchdog import start_thread
from taskscope._clock import perf_counter
from taskscope._report import Outcome
from taskscope._table import TaskTable

T = TypeVar("T")

name: Final = "trio"

# Ctrl-C is raised at whatever the main task waits for, as a cancellation is.
Cancelled: Final = (trio.Cancelled, KeyboardInterrupt)


def tracking_of_task(task: Any) -> TrioTracking:
    return tracking_of_run(task._runner) or running_tracking()


def current_task() -> Any:
    # `trio.lowlevel.current_task` raises where there is none, which would cost every scope on asyncio a microsecond.
    return run_context.__dict__.get("task")


def all_tasks() -> list[Any]:
    """All but the one that Trio runs the others in."""
    root: Any = trio.lowlevel.current_root_task()
    found: list[Any] = [root]
    for task in found:  # which grows meanwhile
        found += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    return found[1:]


def task_context(task: Any) -> Context:
    context: Context = task.context
    return context


def is_task(obj: object) -> bool:
    return type(obj) is Task


def is_done(task: Any) -> bool:
    return task not in task._runner.tasks


def is_runnable(task: Any) -> bool:
    return task._next_send_fn is not None and not is_done(task)


def where_it_waits(task: Any) -> int:
    if is_done(task) or is_runnable(task) or task._runner is not _runner_here():
        return 0
    return int(task._schedule_points) + 1


def drop_ended(table: TaskTable) -> bool:
    running_tracking().drop_ended(table)
    return True


def watch_end(task: Any) -> None:
    take_over(task)


def outcome(task: Any) -> tuple[Outcome | None, BaseException | None]:
    stand_in = stand_in_of(task)
    if stand_in is not None and stand_in.outcome is not None:
        return stand_in.outcome, stand_in.error
    return outcome_seen(task)


def sees_each_turn(table: TaskTable, task: Any) -> bool:
    return False


def watch_for_end(task: Any, ended: Callable[[Any], object]) -> Outcomes:
    watch = Outcomes(ended)
    watch.watch([task])
    return watch


def stop_watching_for_end(task: Any, ended: Callable[[Any], object], watch: Outcomes | None) -> None:
    if watch is not None:
        watch.stop()


def outcome_of_cancelled(task: Any) -> tuple[Outcome | None, BaseException | None]:
    return outcome(task)


def number_of_groups(host: Any) -> int:
    return len(host.child_nurseries)


def is_opened_since(group: object, opener: Any, number: int) -> bool:
    return group in opener.child_nurseries[number:]


def is_ended_by_another(task: Any, pending: Container[Any]) -> bool:
    """A task whose nursery is that of a pending one is cancelled with it, unless that one shields it."""
    nursery = task.parent_nursery
    return nursery is not None and nursery.parent_task in pending


def cancel(task: Any, host: Any) -> tuple[bool, int]:
    """Cancels a task, through its own run when that is another one."""
    if task._runner is _runner_here():
        take_over(task).cancel()
        return True, 0
    return _call_in_run_of(task, lambda: take_over(task).cancel()), 0


def cancel_without_waiting(task: Any) -> None:
    _call_in_run_of(task, lambda: None if is_done(task) else take_over(task).cancel())


def is_out_of_reach(task: Any) -> bool:
    return False  # a cancel waits at the shield


def why_immune(task: Any) -> str | None:
    stand_in = stand_in_of(task)
    if stand_in is None:
        return None
    if not stand_in.is_cancelled:
        return f"it ends when task {task.parent_nursery.parent_task.name!r} does, whose nursery it is in"
    return "it is inside a shielded cancel scope, which no cancel reaches" if stand_in.is_shielded() else None


def refuse(task: Any) -> None:
    take_over(task).refuse()


def cancels_of(host: Any) -> int:
    return 0


def cancel_later(cancellation: BaseException) -> None:
    """A cancel scope cancels again by itself. Ctrl-C has to be struck again."""
    if isinstance(cancellation, KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


@final
class BodyCancel:
    """A cancel scope round a body."""

    def __init__(self) -> None:
        self._scope: trio.CancelScope | None = None

    def enter(self, host: object) -> None:
        self._scope = trio.CancelScope()
        self._scope.__enter__()

    def cancel(self) -> None:
        if self._scope is not None:
            self._scope.cancel()

    def leave(self, exc: BaseException | None) -> BaseException | None:
        scope, self._scope = self._scope, None
        if scope is None or _take_out(scope):
            return exc
        try:
            is_over = scope.__exit__(None if exc is None else type(exc), exc, None)
        except RuntimeError:
            if isinstance(exc, GeneratorExit):  # destroyed, in no task at all
                return exc
            raise
        except BaseException as left:
            return left
        return None if is_over else exc

    def was_it(self, exc: BaseException | None) -> bool:
        return exc is None


@trio.lowlevel.enable_ki_protection
def _take_out(scope: trio.CancelScope) -> bool:
    """Ends a cancel scope in which others are still open. False where there are none, or where it was cancelled.

    AnyIO runs a test and its fixtures in one task, so what the one has opened the other may close. Trio has no public
    way to end the outer one first.
    """
    status: Any = getattr(scope, "_cancel_status", None)
    innermost: Any = getattr(current_task(), "_cancel_status", None)
    if status is None or innermost is status or scope.cancel_called or not status.encloses(innermost):
        return False
    for inner in status.children:
        inner.parent = status.parent
    status.close()
    scope._cancel_status = None  # pyright: ignore[reportPrivateUsage]
    return True


def tasks_waiting_for_current() -> list[Any]:
    found: list[Any] = []
    nursery = trio.lowlevel.current_task().parent_nursery
    while nursery is not None:
        found.append(nursery.parent_task)
        nursery = nursery.parent_task.parent_nursery
    return found


def is_in_loop() -> bool:
    return current_task() is not None


@trio.lowlevel.enable_ki_protection
async def protected(work: Coroutine[Any, Any, T]) -> T:
    return await work


def new_clock() -> TrioClock:
    return TrioClock()


def time() -> float:
    return trio.current_time()


@final
class Timer:
    """Calls something at a time on the clock, in a system task: Trio has no timers of another kind."""

    def __init__(self, when: float, callback: Callable[[], object]) -> None:
        self._callback = callback
        self._scope = trio.CancelScope(deadline=when)
        self._is_cancelled = False
        self.is_over = False
        trio.lowlevel.spawn_system_task(self._wait, name="taskscope timer", context=Context())

    def cancel(self) -> None:
        self._is_cancelled = True
        with suppress(RuntimeError):  # the run is over
            self._scope.cancel()

    async def _wait(self) -> None:
        with self._scope:
            await trio.Event().wait()
        if not self._is_cancelled:
            self._callback()
        self.is_over = True


def call_after_turns(turns: int, callback: Callable[[], object]) -> None:
    if not turns:
        callback()
        return
    with suppress(trio.RunFinishedError):  # as the last calls are made: what comes after the run is none of ours
        trio.lowlevel.current_trio_token().run_sync_soon(call_after_turns, turns - 1, callback)


def call_at(when: float, callback: Callable[[], object]) -> Timer:
    return Timer(when, callback)


async def timers_gone(timers: list[Timer]) -> None:
    while not all(timer.is_over for timer in timers):
        await one_turn()


async def one_turn() -> None:
    await trio.lowlevel.cancel_shielded_checkpoint()


async def called_back(work: Callable[[Any], T]) -> T | None:
    done = trio.Event()
    results: list[T] = []

    def call() -> None:
        try:
            results.append(work(done))
        except Exception:  # it would end the whole run
            pass
        finally:
            done.set()

    trio.lowlevel.current_trio_token().run_sync_soon(call)
    await done.wait()
    return results[0] if results else None


async def off_loop(work: Callable[[], T], seconds: float) -> T | None:
    done = trio.Event()
    results: list[T] = []
    call_soon = trio.lowlevel.current_trio_token().run_sync_soon

    def run() -> None:
        try:
            results.append(work())
        finally:
            with suppress(trio.RunFinishedError):
                call_soon(done.set)

    thread = start_thread(run, "taskscope-report")
    if thread is None:
        return None
    if is_clock_virtual():
        deadline = perf_counter() + seconds
        while not done.is_set() and perf_counter() < deadline:
            await one_turn()  # as long as something is ready a clock does not jump
    else:
        with trio.CancelScope(deadline=trio.current_time() + seconds):
            await done.wait()
    while results and thread.is_alive():
        await one_turn()  # it has only to return: no thread of ours is left when the scope is
    return results[0] if results else None


async def within(works: list[Coroutine[Any, Any, object]], seconds: float) -> list[BaseException | None]:
    # One after the other, and here: what a generator has opened has to be closed by the task that it was opened in.
    errors: list[BaseException | None] = []
    left = works[::-1]
    with trio.CancelScope(deadline=trio.current_time() + seconds, shield=True):
        while left:
            try:
                await left.pop()
            except Exception as error:
                errors.append(error)
            else:
                errors.append(None)
    for work in left:
        work.close()
    return errors + [TimeoutError(f"it took more than {seconds:g} s")] * (len(works) - len(errors))


def shielded() -> AbstractContextManager[Any]:
    return trio.CancelScope(shield=True)


def is_cancelled_already() -> bool:
    return trio.current_effective_deadline() == -math.inf


def _runner_here() -> Any:
    task = current_task()
    return None if task is None else task._runner


def _call_in_run_of(task: Any, call: Callable[[], object]) -> bool:
    if task._runner is _runner_here():
        call()
        return True
    try:
        task._runner.entry_queue.run_sync_soon(call)
    except trio.RunFinishedError:
        return False
    return True
