"""What the worker threads of libraries are at, told from their frames: which function, for whom."""

from __future__ import annotations

import queue
import sys
import threading
from concurrent.futures import thread as pools
from contextvars import Context
from dataclasses import dataclass, replace
from types import FrameType
from typing import Any, Final, final

from taskscope._findings.thread_stacks import stack_of

# Where the classes of workers, or the functions that they run, come from.
_MODULES: Final = frozenset({"anyio._backends._asyncio", "trio._core._thread_cache", "concurrent.futures.thread"})

_RUN_ITEM: Final = vars(pools)["_WorkItem"].run.__code__
_WAIT_FOR_ITEM: Final = vars(queue.Queue)["get"].__code__


@final
@dataclass(frozen=True, eq=False)
class Work:
    """What a worker runs. Either the context is known in which it does, or the executor's future for its result.

    Attributes:
        run: With the context: the event loop, or the `TrioToken`, that has given it the work.
    """

    function: Any
    context: Context | None
    future: Any
    run: object = None


def is_worker(thread: threading.Thread) -> bool:
    """Whether a thread is a worker of AnyIO, of Trio or of an executor."""
    module = getattr(getattr(thread, "_target", None), "__module__", None)
    return not _MODULES.isdisjoint((module, type(thread).__module__))


def current_work(thread: threading.Thread) -> Work | None:
    """What a thread runs as a worker of AnyIO, of Trio or of an executor. None for any other, and an idle one."""
    if not is_worker(thread):
        return None
    stack = stack_of(thread)
    for place, frame in enumerate(stack):
        code = frame.f_code
        if code is _RUN_ITEM:
            return Work(None, None, getattr(_variable(frame, "self"), "future", None))
        if code.co_name == "worker_fn" and frame.f_globals.get("__name__") == "trio._threads":
            token = _variable(frame, "current_trio_token")
            return _for_anyio(_in_context(frame, "sync_fn", token), stack[place + 1 :])
        if code.co_qualname == "WorkerThread.run" and frame.f_globals.get("__name__") == "anyio._backends._asyncio":
            waits = stack[place + 1 : place + 2]
            if waits and waits[0].f_code is _WAIT_FOR_ITEM:
                return None
            return _in_context(frame, "func", getattr(thread, "loop", None))
    return None


def _for_anyio(work: Work | None, inside: list[FrameType]) -> Work | None:
    """The same where it is AnyIO that has Trio run it, inside of a function of its own."""
    if work is None or not inside or inside[0].f_globals.get("__name__") != "anyio._backends._trio":
        return work
    return replace(work, function=_variable(inside[0], "func"))


def _in_context(frame: FrameType, name: str, run: object) -> Work | None:
    context = _variable(frame, "context")
    return Work(_variable(frame, name), context, None, run) if type(context) is Context else None


def _variable(frame: FrameType, name: str) -> Any:
    variables = frame.f_locals
    value = variables.get(name)
    if sys.version_info < (3, 13):
        variables.clear()  # a copy, which would stay with the frame and hold all that is in it
    return value
