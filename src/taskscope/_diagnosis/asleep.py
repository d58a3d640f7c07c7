"""Whether a loop is asleep: nothing is ready on it or registered with it, and nobody else runs who could call it."""

from __future__ import annotations

import asyncio
import selectors
import signal
import sys
from types import FrameType
from typing import Any, Final

from taskscope._backends._turns import has_turns_of_asyncio
from taskscope._diagnosis.alive_on_loop import callers, other_threads
from taskscope._diagnosis.awaitables import fields
from taskscope._diagnosis.code_ahead import module_in
from taskscope._diagnosis.later import goes_by_real_time
from taskscope._diagnosis.opaque import class_of

_LOOP: Final[type[Any]] = asyncio.SelectorEventLoop
_SELECTORS: Final = frozenset({selectors.DefaultSelector, selectors.SelectSelector})

# Not that of `os`, in whose place blockbuster has one that raises on a loop.
_stat: Final = getattr(sys.modules.get("posix"), "stat", None) if sys.platform == "linux" else None
_THREADS: Final = "/proc/self/task"


def is_asleep_for(loop: asyncio.AbstractEventLoop, seconds: float) -> bool:
    """Whether nothing can happen on the running loop for so many seconds, whoever holds what.

    That is so where nothing is ready, no timer is due by then, no socket, pipe, process or signal is waited for, and no
    other thread is there. False where it cannot be told: on loops that are not asyncio's own, and where not on Linux.

    To be asked by a callback of the loop, while whoever wants to know is suspended.
    """
    if class_of(loop) is not _LOOP or not goes_by_real_time(loop) or not has_turns_of_asyncio(loop):
        return False
    own = fields(loop)
    return (
        not own.get("_ready", True)
        and not own.get("_signal_handlers", True)
        and _has_no_timer_before(own, loop.time() + seconds)
        and _is_registered_alone(own)
        and _is_alone()
        and not 0.0 < signal.getitimer(signal.ITIMER_REAL)[0] <= seconds
    )


def _has_no_timer_before(own: dict[str, Any], when: float) -> bool:
    return all(
        class_of(timer) is asyncio.events.TimerHandle and (timer.cancelled() or timer.when() > when)
        for timer in own["_scheduled"]
    )


def _is_registered_alone(own: dict[str, Any]) -> bool:
    """Whether a loop waits for nothing but the end of its own pipe, by which threads wake it."""
    selector: Any = own.get("_selector")
    pipe: Any = own.get("_ssock")
    return class_of(selector) in _SELECTORS and [*selector.get_map()] == [pipe.fileno()]


def _is_alone() -> bool:
    """Whether there is no other thread, but those by which a worker of pytest-xdist hears of its tests."""
    others = other_threads()
    return _number_of_threads() == len(others) + 1 and all(map(_is_execnets, others))


def _number_of_threads() -> int:
    """Those of the process: one that Python knows nothing of, of a library in Rust, can call a loop as well.

    0 where it cannot be told. Linux counts them as links of a folder.
    """
    return 0 if _stat is None else _stat(_THREADS).st_nlink - 2


def _is_execnets(innermost: FrameType) -> bool:
    return any(module_in(frame.f_globals).partition(".")[0] == "execnet" for frame in callers(innermost))
