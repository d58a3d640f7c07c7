"""What will run on an event loop, or can call into it from elsewhere, as far as that can be seen."""

from __future__ import annotations

import asyncio
import gc
import inspect
import signal
import sys
import threading
import types
from collections.abc import Callable, Collection, Container, Iterator
from typing import Any, Final

from taskscope._diagnosis.awaitables import coroutine_of, done_callbacks
from taskscope._diagnosis.code_ahead import is_library, module_in
from taskscope._diagnosis.own_fields import own_values

_SIGNALS: Final = tuple(map(int, signal.valid_signals()))

# Without what makes enumerations of numbers, which takes longer than all the rest.
_getsignal: Final[Callable[[int], object]] = getattr(signal.getsignal, "__wrapped__", signal.getsignal)

# Whose functions have in hand what they call when a job of theirs is done.
_RUNNING_JOBS: Final = frozenset({"concurrent.futures.thread", "multiprocessing.pool"})


def alive_on(loop: asyncio.AbstractEventLoop, tasks: Iterator[Any], at_rest: Container[int]) -> Iterator[object]:
    """What holds code that may go on: what the loop holds, signal handlers, other threads, tasks.

    The caller of the loop is not among them: it goes on when the loop has stopped. As asyncio's own runner it may then
    cancel all tasks, which is their end and not what they wait for.

    tasks: the loop's pending tasks.
    at_rest: ids of tasks that do not go on, or of which that is to count for nothing.
    """
    yield from own_values(loop)  # timers, handles, the selector with readers and writers, the handler of exceptions
    # The attributes of uvloop's are in C, and so are those of its timers and handles. The collector sees all of them.
    yield from gc.get_referents(loop)
    yield from signal_handlers()
    yield from _threads()
    for task in tasks:
        if id(task) not in at_rest:
            yield coroutine_of(task)
            yield from done_callbacks(task)


def alive_on_trio(runner: Any, tasks: Iterator[Any], at_rest: Container[int]) -> Iterator[object]:
    """The same for a run of Trio's: what was given to `run_sync_soon`, instruments, signal handlers, threads, tasks."""
    yield from (runner.entry_queue.queue, runner.entry_queue.idempotent_queue, runner.instruments["_all"])
    yield from signal_handlers()
    yield from _threads()
    yield from (task.coro for task in tasks if id(task) not in at_rest)


def signal_handlers() -> Iterator[object]:
    """What is called at signals, as far as Python knows it."""
    yield from map(_getsignal, _SIGNALS)


def frames_of_other_threads() -> Iterator[types.FrameType]:
    """The functions that run in other threads now."""
    for innermost in other_threads():
        yield from callers(innermost)


def other_threads() -> Collection[types.FrameType]:
    """The innermost frame of each other thread that runs code of Python's, or waits in it."""
    frames = sys._current_frames()  # pyright: ignore[reportPrivateUsage]
    # Or this frame would hold itself, and with it all who have called it, and their variables.
    del frames[threading.get_ident()]
    return frames.values()


def callers(innermost: types.FrameType) -> Iterator[types.FrameType]:
    """A frame and all that have called it."""
    frame: types.FrameType | None = innermost
    while frame is not None:
        yield frame
        frame = frame.f_back


def _threads() -> Iterator[object]:
    own = threading.get_ident()
    yield from (thread for thread in threading.enumerate() if thread.ident != own)
    for frame in frames_of_other_threads():
        yield from _of_frame(frame)


def _of_frame(frame: types.FrameType) -> Iterator[object]:
    """A running frame does not show its function: one like that is made from its code and what it knows."""
    code = frame.f_code
    if is_library(frame.f_globals):
        if module_in(frame.f_globals) in _RUNNING_JOBS:
            yield from _variables(frame).values()
        return
    if not code.co_flags & inspect.CO_OPTIMIZED:
        yield types.FunctionType(code, frame.f_globals)  # of a module or a class body: nothing but globals
        return
    variables = _variables(frame)
    cells = tuple(types.CellType(variables.get(name)) for name in code.co_freevars)
    yield types.FunctionType(code, frame.f_globals, None, tuple(variables.values()), cells)


def _variables(frame: types.FrameType) -> dict[str, object]:
    # Before 3.13 they come in a dict that the frame keeps. It would keep its variables alive by that, and to clear it
    # is to take them from a frame that is being traced.
    return dict(frame.f_locals) if sys.version_info >= (3, 13) else {}
