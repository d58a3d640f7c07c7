"""Calls that a loop was asked for and that are still to come: `call_later` and `call_at`."""

from __future__ import annotations

import asyncio
from typing import Final, final

from taskscope._backends._ownership import running_loop
from taskscope._diagnosis.durations import in_seconds
from taskscope._findings.callables import definition_of, module_of, name_of, object_of
from taskscope._findings.found import Found, Looking
from taskscope._findings.loops import Timer, shows_timers, timers_under
from taskscope._report import Finding, Frame

# Their private functions are how a task sleeps, or how a timeout or a connection keeps its own time: told with those.
_LIBRARIES: Final = frozenset({"asyncio", "_asyncio", "anyio", "uvloop"})

# A scope that is still open on a loop that was interrupted watches its body, for instance.
_OURS: Final = __name__.partition(".")[0]


@final
class Timers(Looking):
    def found(self) -> list[Found]:
        loop = running_loop()
        mine = timers_under(self.table, loop)
        return [_found(loop, timer) for timer in mine if not _is_part_of_library(timer)]

    def coverage(self) -> tuple[str, ...]:
        loop = running_loop()
        if shows_timers(loop):
            return ()
        return (f"timers were not looked at: a {type(loop).__qualname__} does not show those that it has",)


def _is_part_of_library(timer: Timer) -> bool:
    package = module_of(timer.callback).partition(".")[0]
    is_private = any(part.startswith("_") for part in name_of(timer.callback).split("."))
    return package == _OURS or (is_private and package in _LIBRARIES)


def _found(loop: asyncio.AbstractEventLoop, timer: Timer) -> Found:
    left = max(0.0, timer.when - loop.time())
    finding = Finding(
        "timer",
        f"{name_of(timer.callback)}, to be called in {in_seconds(left)}",
        spawn_site=_site_of(timer.handle),
        stack=definition_of(timer.callback),
    )
    return Found(
        finding,
        (timer.handle, timer.callback, object_of(timer.callback)),
        end=timer.handle.cancel,
        ended="cancelled",
        lasts=lambda deadline: timer.when > deadline,
    )


def _site_of(handle: asyncio.TimerHandle) -> Frame | None:
    """Who asked for a timer. A loop notes that only in debug mode."""
    traceback = getattr(handle, "_source_traceback", None)
    if not traceback:
        return None
    caller = traceback[-1]
    return Frame(caller.filename, caller.lineno or 0, caller.name)
