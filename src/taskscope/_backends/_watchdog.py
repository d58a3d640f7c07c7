"""Real time, measured in a thread where the loop's clock cannot be trusted, and how it comes back into the loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, final

from taskscope._backends._ownership import running_loop


def call_in(loop: asyncio.AbstractEventLoop, callback: Callable[..., object], *args: Any) -> None:
    with suppress(RuntimeError):  # closed: its tasks can neither end nor be told anything
        loop.call_soon_threadsafe(callback, *args)


def call_at(
    loop: asyncio.AbstractEventLoop, when: float, callback: Callable[..., object], *args: Any
) -> asyncio.TimerHandle:
    # Of its class: a test can have put another in the place of the loop's own.
    return type(loop).call_at(loop, when, callback, *args)


def release(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def one_turn() -> None:
    """Lets everything run once that is ready to run."""
    loop = running_loop()
    future = loop.create_future()
    loop.call_soon(release, future)
    await future


@final
class Watchdog:
    """Measures real time in a thread of its own, whatever has become of the clocks."""

    def __init__(self, call_soon: Callable[[Callable[[], object]], object], seconds: float, patience: float) -> None:
        """call_soon: calls something in the loop, from whatever thread."""
        self.is_patience_over = False
        self.has_fired = False
        self._call_soon = call_soon
        self._seconds = seconds
        self._patience = patience
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def is_running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def watch(self, over: Callable[[], object]) -> None:
        """Starts the measuring. When the time is over `over` is called in the loop."""

        def run() -> None:
            if self._stopped.wait(self._patience):
                return
            self.is_patience_over = True
            if not self._stopped.wait(self._seconds - self._patience):
                self.has_fired = True
                self._call_soon(over)

        self._thread = start_thread(run, "taskscope-watchdog")
        if self._thread is None:
            self.is_patience_over = True

    def stop(self) -> None:
        self._stopped.set()


def watchdog_if_needed(loop: asyncio.AbstractEventLoop, seconds: float, patience: float) -> Watchdog | None:
    """A watchdog where the clock does not move between two looks: a thread is not for free.

    (uvloop's moves once a turn, but nobody can patch it.)
    """
    if not isinstance(loop, asyncio.base_events.BaseEventLoop) or loop.time() != loop.time():
        return None
    return Watchdog(partial(call_in, loop), seconds, patience)


def start_thread(target: Callable[[], None], name: str) -> threading.Thread | None:
    """Starts a thread, None where there is none to be had: at the end of a process, or with too many of them."""
    thread = threading.Thread(target=target, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError:
        return None
    return thread
