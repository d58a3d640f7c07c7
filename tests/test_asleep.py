"""A loop that is asleep: what leaves are waited for in vain there, and what shows that something can still happen."""

from __future__ import annotations

import asyncio
import ctypes
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from plugin.project import run_pytest

from taskscope._diagnosis.asleep import is_asleep_for

SECONDS = 5.0

Happen = Callable[[asyncio.AbstractEventLoop, ExitStack], object]


def ask(happen: Happen, loop_factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.SelectorEventLoop) -> bool:
    """What is answered in a callback of a loop on which this can happen, while its only task is suspended."""

    async def main() -> bool:
        loop = asyncio.get_running_loop()
        answer = loop.create_future()
        with ExitStack() as stack:
            happen(loop, stack)
            loop.call_soon(lambda: answer.set_result(is_asleep_for(loop, SECONDS)))
            return bool(await answer)

    loop = loop_factory()
    try:
        return loop.run_until_complete(main())
    finally:
        loop.close()


def nothing(loop: asyncio.AbstractEventLoop, stack: ExitStack) -> None: ...


def timer_later(loop: asyncio.AbstractEventLoop, stack: ExitStack) -> None:
    stack.callback(loop.call_later(60.0, print).cancel)


def cancelled_timer(loop: asyncio.AbstractEventLoop, stack: ExitStack) -> None:
    loop.call_later(1.0, print).cancel()


def ended_thread(loop: asyncio.AbstractEventLoop, stack: ExitStack) -> None:
    thread = threading.Thread(target=print)
    thread.start()
    thread.join()


@pytest.mark.parametrize("happen", [nothing, timer_later, cancelled_timer, ended_thread])
def test_a_loop_is_asleep(happen: Happen) -> None:
    assert ask(happen)


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


@pytest.mark.parametrize(
    "happen", [timer_soon, ready, reader, handler_of_signal, alarm, thread, thread_of_c, patched_clock, own_step]
)
def test_a_loop_is_not_asleep(happen: Happen) -> None:
    assert not ask(happen)
    assert ask(nothing)


class OwnLoop(asyncio.SelectorEventLoop): ...


def test_of_loops_that_are_not_asyncios_own_nothing_is_said() -> None:
    assert not ask(nothing, OwnLoop)
    if sys.platform != "win32":
        uvloop = pytest.importorskip("uvloop")
        assert not ask(nothing, uvloop.new_event_loop)


def test_a_loop_with_a_process_is_not_asleep() -> None:
    async def main() -> bool:
        loop = asyncio.get_running_loop()
        answer = loop.create_future()
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", "input()", stdin=-1)
        try:
            loop.call_soon(lambda: answer.set_result(is_asleep_for(loop, SECONDS)))
            return bool(await answer)
        finally:
            process.kill()
            await process.communicate()

    assert asyncio.run(main()) is False


LEAVES = """
    import asyncio
    import threading

    import pytest

    KEPT = []  # whoever has this can wake them, so that nothing is proven

    async def wait():
        event = asyncio.Event()
        KEPT.append(event)
        await event.wait()

    @pytest.mark.taskscope(grace=60)
    async def test_leaves():
        asyncio.create_task(wait())
        await asyncio.sleep(0)

    @pytest.mark.taskscope(grace=60)
    async def test_leaves_what_a_thread_ends():
        asyncio.create_task(wait())
        await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        timer = threading.Timer(0.3, lambda: loop.call_soon_threadsafe(KEPT[-1].set))
        timer.start()

    @pytest.mark.taskscope(grace=60)
    async def test_leaves_what_a_timer_ends():
        asyncio.create_task(wait())
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(0.3, KEPT[-1].set)
"""


@pytest.mark.parametrize("options", [(), ("-n", "1")])
def test_no_grace_is_spent_where_the_loop_sleeps(options: tuple[str, ...], tmp_path: Path) -> None:
    run = run_pytest(
        tmp_path,
        {"test_it.py": LEAVES},
        *options,
        *("-p", "no:faulthandler"),  # or the timeout that these runs have comes with a thread
        plugins=("pytest_asyncio.plugin", *(["xdist.plugin"] if options else [])),
        ini="taskscope = true\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n",
    )
    outcomes = {name.rpartition("::")[2]: outcome for name, outcome in run.outcomes().items()}
    assert outcomes == {
        "test_leaves": "failed",
        "test_leaves_what_a_thread_ends": "passed",
        "test_leaves_what_a_timer_ends": "passed",
    }, run.output
    assert run.report is not None
    (finding,) = run.report["findings"]
    assert finding["report"]["settled_after"] < 30
