"""Timers that are due later: until then they wake nobody, where their loop goes by the clock of the real world."""

from __future__ import annotations

import asyncio
import math
import time
from asyncio import base_events
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from taskscope._diagnosis.awaitables import field_of
from taskscope._diagnosis.opaque import class_of

# As they were before any test could put something else in their place.
_LOOP_TIME: Final = base_events.BaseEventLoop.time
_MONOTONIC: Final = time.monotonic


def timers_later(loop: asyncio.AbstractEventLoop, seconds: float) -> Mapping[int, int]:
    """The ids of the timers of a loop that are due in more than so many seconds, each of which its loop holds once.

    None where the clock may jump.
    """
    if seconds == math.inf or not goes_by_real_time(loop):
        return {}
    return timers_after(loop, loop.time() + seconds)


def timers_after(loop: asyncio.AbstractEventLoop, when: float) -> Mapping[int, int]:
    """The same by the loop's clock. None of a loop that does not show its timers, as uvloop, which has them in C."""
    scheduled: Any = field_of(loop, "_scheduled")
    if class_of(scheduled) is not list:
        return {}
    timers = (timer for timer in scheduled if class_of(timer) is asyncio.events.TimerHandle)
    return Counter(id(timer) for timer in timers if timer.when() > when)


def goes_by_real_time(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether a loop's timers are due when they say, whatever else is ready."""
    is_own = type(loop).time is not _LOOP_TIME or "time" in getattr(loop, "__dict__", ())
    is_patched = vars(base_events).get("time") is not time or time.monotonic is not _MONOTONIC
    return not is_own and not is_patched and loop.time() != loop.time()
