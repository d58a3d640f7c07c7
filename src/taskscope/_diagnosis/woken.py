"""Which tasks of asyncio the end of a task can wake, at once or by way of futures and other tasks."""

from __future__ import annotations

import types
from collections import deque
from collections.abc import Iterator
from typing import Any, Final

from taskscope._diagnosis.awaitables import done_callbacks, is_future, is_task
from taskscope._diagnosis.holding import is_stop
from taskscope._diagnosis.opaque import class_of
from taskscope._diagnosis.steps import steps_from

_STEPS: Final = 4
"""Steps from what is called back to the future that it completes: `as_completed` has a queue between them."""

_OBJECTS: Final = 200
"""Objects that are looked at for one callback."""

_FUTURES: Final = 1_000
"""Futures and tasks that are looked at."""


def woken_by(task: object) -> set[int]:
    """The ids of the tasks that wait for a task, directly or not, and of some that may only do so."""
    if not is_task(task):
        return set()
    found: set[int] = set()
    seen = {id(task)}
    ahead: deque[object] = deque([task])
    while ahead and len(seen) < _FUTURES:
        for callback in done_callbacks(ahead.popleft()):
            for woken in _woken_by_callback(callback):
                if is_task(woken):
                    found.add(id(woken))
                if id(woken) not in seen:
                    seen.add(id(woken))
                    ahead.append(woken)
    return found


def _woken_by_callback(callback: Any) -> Iterator[object]:
    """The task that a callback wakes, else the futures that it can come to: it may complete them."""
    if type(callback) in (types.BuiltinMethodType, types.MethodType) and is_task(callback.__self__):
        yield callback.__self__
        return
    seen: set[int] = set()
    ahead: deque[tuple[object, int]] = deque([(callback, _STEPS)])
    while ahead and len(seen) < _OBJECTS:
        obj, left = ahead.popleft()
        for _, held in steps_from(obj):
            if is_future(held):
                if not is_task(held):  # a task ends by itself
                    yield held
            elif left > 1 and id(held) not in seen and not is_stop(class_of(held)):
                seen.add(id(held))
                ahead.append((held, left - 1))
