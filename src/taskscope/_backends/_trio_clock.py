"""Waiting for tasks of Trio's to end: by the run's clock, and helped on where that clock is none."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, final

import trio
from trio.lowlevel import Task

from taskscope._backends._trio_cancelling import is_cancellation
from taskscope._backends._watchdog import Watchdog
from taskscope._clock import perf_counter
from taskscope._report import Outcome

PATIENCE = 0.2
"""Seconds of real time, in one exit, that tasks get where the clock jumps: what they wait for can be real."""

LONGEST_TURN = 0.01
"""A turn of the loop that takes longer counts as so many seconds: a machine that stalls stops the world too."""

_ended: weakref.WeakKeyDictionary[Task, tuple[Outcome, BaseException | None]] = weakref.WeakKeyDictionary()


def outcome_seen(task: Task) -> tuple[Outcome | None, BaseException | None]:
    """How a task ended while a scope waited for it, None for any other. Trio does not keep that."""
    return _ended.get(task, (None, None))


@final
class TrioClock:
    """The run's clock for one exit.

    Where it stands still, as a `MockClock` does that nobody moves, real time is measured instead. Where it jumps as
    soon as every task waits, those that wait for the world outside get some real time as well.
    """

    def __init__(self) -> None:
        self._helped = 0.0
        self._patience = PATIENCE
        self._outcomes = Outcomes()

    def close(self) -> None:
        self._outcomes.stop()

    def time(self) -> float:
        return trio.current_time() + self._helped

    async def wait_ended(self, tasks: Iterable[Any], deadline: float) -> None:
        seconds = max(0.0, deadline - self.time())
        watchdog = _watchdog_if_needed(seconds)
        wait = _Wait(task for task in tasks if task in task._runner.tasks)
        self._outcomes.watch(wait.left)
        await wait.until(trio.current_time() + seconds, watchdog)
        if watchdog is not None and watchdog.has_fired:
            self._helped += max(0.0, deadline - self.time())
        if wait.left and is_clock_jumping():
            await self._wait_in_real_time(wait)
        while watchdog is not None and watchdog.is_running:
            await trio.lowlevel.cancel_shielded_checkpoint()

    async def _wait_in_real_time(self, wait: _Wait) -> None:
        """As long as something is ready to run the clock does not jump again."""
        while self._patience > 0 and wait.left_to_the_world():
            started = perf_counter()
            await trio.lowlevel.checkpoint()
            self._patience -= min(perf_counter() - started, LONGEST_TURN)


def is_clock_jumping() -> bool:
    """Whether the clock jumps to the next deadline when every task waits, as a `MockClock` can be told to."""
    return getattr(trio.lowlevel.current_clock(), "autojump_threshold", math.inf) != math.inf


def is_clock_virtual() -> bool:
    return is_clock_jumping() or trio.current_time() == trio.current_time()


def _watchdog_if_needed(seconds: float) -> Watchdog | None:
    if is_clock_jumping() or trio.current_time() != trio.current_time():
        return None
    return Watchdog(trio.lowlevel.current_trio_token().run_sync_soon, seconds, 0)


@final
class _Wait(trio.abc.Instrument):
    """Sees the tasks end that somebody waits for."""

    def __init__(self, tasks: Iterable[Any]) -> None:
        self.left: set[Any] = set(tasks)
        self._released = trio.Event()

    def left_to_the_world(self) -> bool:
        """Whether any of the tasks waits for what is outside of the run, a socket or a thread."""
        self.left = {task for task in self.left if task in task._runner.tasks}
        return any(_waits_for_the_world(task) for task in self.left)

    async def until(self, deadline: float, watchdog: Watchdog | None) -> None:
        if not self.left:
            return
        trio.lowlevel.add_instrument(self)
        try:
            if watchdog is not None:
                watchdog.watch(self._released.set)
            with trio.CancelScope(deadline=deadline):
                await self._released.wait()
        finally:
            if watchdog is not None:
                watchdog.stop()
            with suppress(KeyError):
                trio.lowlevel.remove_instrument(self)

    def task_exited(self, task: Task) -> None:
        if task not in self.left:
            return
        self.left.discard(task)
        if not self.left:
            self._released.set()


@final
class Outcomes(trio.abc.Instrument):
    """Sees how tasks end, from the first wait of an exit to its end: they can end between two waits as well."""

    def __init__(self, ended: Callable[[Any], object] | None = None) -> None:
        """ended: called with each task when it has ended."""
        self._told = ended
        # By their ids: whoever holds a frame holds all that its code has in its variables.
        self._frames: dict[Any, int] = {}
        self._known_errors: set[int] = set()

    def watch(self, tasks: Iterable[Any]) -> None:
        for task in tasks:
            if task not in self._frames:
                self._frames[task] = id(task.coro.cr_frame)
                self._known_errors.update(map(id, _errors_beside(task)))
        if self._frames:
            trio.lowlevel.add_instrument(self)  # does nothing the second time

    def stop(self) -> None:
        with suppress(KeyError, RuntimeError):
            trio.lowlevel.remove_instrument(self)

    def task_exited(self, task: Task) -> None:
        if task in self._frames:
            _ended[task] = self._outcome_of(task)
            if self._told is not None:
                self._told(task)

    def _outcome_of(self, task: Any) -> tuple[Outcome, BaseException | None]:
        """How a task has just ended: its nursery keeps what its tasks raise until all of them have ended."""
        for error in _errors_beside(task):
            traceback = error.__traceback__
            if id(error) in self._known_errors or traceback is None:
                continue
            if id(traceback.tb_frame) == self._frames[task]:
                return ("cancelled", None) if is_cancellation(error) else ("failed", error)
        return "finished", None


def _errors_beside(task: Any) -> Iterable[BaseException]:
    found: list[BaseException] = getattr(task.parent_nursery, "_pending_excs", [])
    return found


def _waits_for_the_world(task: Any) -> bool:
    from taskscope._diagnosis.stack import task_chain
    from taskscope._diagnosis.trio_wait_point import trio_wait_point

    point = trio_wait_point(task, task_chain(task))
    return point is not None and point.kind in ("io", "process", "thread")
