"""What is said of loops on which this and that can happen, as JSON: in a process that has no threads of other tests."""

from __future__ import annotations

import asyncio
import ctypes
import inspect
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from unittest import mock

from taskscope._diagnosis.asleep import is_asleep_for

SECONDS = 5.0


def until_alone() -> None:
    """A thread has ended for Python before it has for the system, and that which waits for a process ends with it."""
    ended = time.monotonic() + 10.0
    while len(os.listdir("/proc/self/task")) > 1:
        if time.monotonic() > ended:
            raise TimeoutError("there is a thread that does not end")


def nothing(loop: asyncio.AbstractEventLoop, stack: ExitStack) -> None: ...


def timer_later(loop: asyncio.AbstractEventLoop, stack: ExitStack) -> None:
    stack.callback(loop.call_later(60.0, print).cancel)


def cancelled_timer(loop: asyncio.AbstractEventLoop, stack: ExitStack) -> None:
    loop.call_later(1.0, print).cancel()


def ended_thread(loop: asyncio.AbstractEventLoop, stack: ExitStack) -> None:
    thread = threading.Thread(target=print)
    thread.start()
    thread.join()
    until_alone()


def timer_soon(loop: asyncio.AbstractEventLoop, stack: ExitStack) -> None:
    stack.callback(loop.call_later(1.0, print).cancel)


def ready(loop: asyncio.AbstractEventLoop, stack: ExitStack) -> None:
    async def runs() -> None:
        while True:
            await asyncio.sleep(0)

    stack.callback(loop.create_task(runs()).cancel)


def reader(loop: asyncio.AbstractEventLoop, stack: ExitStack) -> None:
    ours, theirs = socket.socketpair()
    stack.enter_context(ours)
    stack.enter_context(theirs)
    loop.add_reader(ours, print)
    stack.callback(loop.remove_reader, ours)


def handler_of_signal(loop: asyncio.AbstractEventLoop, stack: ExitStack) -> None:
    loop.add_signal_handler(signal.SIGUSR1, print)
    stack.callback(loop.remove_signal_handler, signal.SIGUSR1)


def alarm(loop: asyncio.AbstractEventLoop, stack: ExitStack) -> None:
    before = signal.signal(signal.SIGALRM, lambda *args: None)
    signal.setitimer(signal.ITIMER_REAL, 1.0)
    stack.callback(signal.signal, signal.SIGALRM, before)
    stack.callback(signal.setitimer, signal.ITIMER_REAL, 0.0)


def thread(loop: asyncio.AbstractEventLoop, stack: ExitStack) -> None:
    release = threading.Event()
    other = threading.Thread(target=release.wait)
    other.start()
    stack.callback(other.join)
    stack.callback(release.set)


def thread_of_c(loop: asyncio.AbstractEventLoop, stack: ExitStack) -> None:
    """One that Python knows nothing of, until it calls into it."""
    libc = ctypes.CDLL(None)
    made = ctypes.c_ulong()
    libc.pthread_create(ctypes.byref(made), None, ctypes.cast(libc.sleep, ctypes.c_void_p), ctypes.c_void_p(1))
    stack.callback(libc.pthread_join, made, None)


def patched_clock(loop: asyncio.AbstractEventLoop, stack: ExitStack) -> None:
    stack.enter_context(mock.patch("time.monotonic", time.monotonic.__call__))


def own_step(loop: asyncio.AbstractEventLoop, stack: ExitStack) -> None:
    patched: Any = loop
    patched._run_once = patched._run_once
    stack.callback(vars(loop).pop, "_run_once")


async def process(loop: asyncio.AbstractEventLoop, stack: ExitStack) -> None:
    started = await asyncio.create_subprocess_exec(sys.executable, "-c", "input()", stdin=asyncio.subprocess.PIPE)
    stack.callback(started.kill)


class OwnLoop(asyncio.SelectorEventLoop): ...


ASLEEP = [nothing, timer_later, cancelled_timer, ended_thread]
AWAKE = [
    timer_soon,
    ready,
    reader,
    handler_of_signal,
    alarm,
    thread,
    thread_of_c,
    process,
    patched_clock,
    own_step,
]


def ask(happen: Callable[..., object], make_loop: Callable[[], asyncio.AbstractEventLoop]) -> bool:
    """What is answered in a callback of a loop on which this can happen, while its only task is suspended."""

    async def main() -> bool:
        loop = asyncio.get_running_loop()
        answer = loop.create_future()
        with ExitStack() as stack:
            begun = happen(loop, stack)
            if inspect.isawaitable(begun):
                await begun
            loop.call_soon(lambda: answer.set_result(is_asleep_for(loop, SECONDS)))
            return bool(await answer)

    loop = make_loop()
    try:
        return loop.run_until_complete(main())
    finally:
        loop.close()
        until_alone()


def main() -> None:
    answers = {happen.__name__: ask(happen, asyncio.SelectorEventLoop) for happen in [*ASLEEP, *AWAKE]}
    answers["own loop"] = ask(nothing, OwnLoop)
    answers["nothing, again"] = ask(nothing, asyncio.SelectorEventLoop)
    try:
        import uvloop
    except ImportError:
        pass
    else:
        answers["uvloop"] = ask(nothing, uvloop.new_event_loop)
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
