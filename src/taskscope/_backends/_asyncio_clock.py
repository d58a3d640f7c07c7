"""Waiting for tasks of asyncio to end: by the loop's clock, and helped on where that clock is none."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable
from functools import partial
from typing import final

from taskscope._backends._watchdog import Watchdog, call_at, call_in, one_turn, release, watchdog_if_needed
from taskscope._table import AnyTask

PATIENCE = 0.2
"""Seconds of real time, in one exit, that tasks get where the loop's clock jumps."""


@final
class AsyncioClock:
    """The loop's clock for one exit, helped on where it stands still, as when a test has frozen `time`.

    Where it jumps instead, as that of a loop with virtual time does as soon as nothing is ready, tasks get some real
    time as well: what they wait for can be real, a thread or a socket.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._helped = 0.0
        self._patience = PATIENCE

    def close(self) -> None:
        pass  # no wait leaves anything behind

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
        timer = call_at(self._loop, deadline, release, self._released)
        try:
            for task in self._tasks:
                self._attach(task)
            if watchdog is not None:
                watchdog.watch(partial(release, self._released))
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
