"""What a clock will do, but not for so many seconds yet: for as long as that nothing is woken by it."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Mapping
from typing import Any

from taskscope._diagnosis.awaitables import field_of
from taskscope._diagnosis.opaque import class_of


def timers_later(loop: asyncio.AbstractEventLoop, seconds: float) -> Mapping[int, int]:
    """The ids of the timers of a loop that are due later, each of which its loop holds once.

    None of a loop that does not show them, as uvloop, which holds them in C.
    """
    until = loop.time() + seconds
    timers = (timer for timer in _listed(loop, "_scheduled") if class_of(timer) is asyncio.TimerHandle)
    return Counter(id(timer) for timer in timers if timer.when() > until)


def deadlines_later(seconds: float) -> Mapping[int, int]:
    """The ids of the cancel scopes of the running Trio that have a later deadline, and how often its books hold each.

    They also hold a scope for deadlines that it has no more.
    """
    runner: Any = sys.modules["trio"].lowlevel.current_task()._runner
    until = runner.clock.current_time() + seconds
    entries = _listed(runner.deadlines, "_heap")
    return Counter(id(scope) for _, _, scope in entries if scope._registered_deadline > until)


def _listed(obj: object, field: str) -> list[Any]:
    kept: Any = field_of(obj, field)
    return kept if class_of(kept) is list else []
