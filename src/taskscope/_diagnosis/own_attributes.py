"""Whether somebody has given a task attributes, which makes it more than something to wait for and to cancel."""

from __future__ import annotations

import asyncio
import gc
import sys
from typing import Any, Final, cast

from taskscope._diagnosis.awaitables import C_TASK, UNKNOWN, c_field, fields

# Since 3.14 the attributes of a task of asyncio's C code have no dict, but stand in the task itself beside its fields.
_STAND_IN_TASK: Final = sys.version_info >= (3, 14)

_FIELDS: Final = ("_loop", "_coro", "_fut_waiter", "_source_traceback", "_cancel_message")

# What a task of asyncio's Python code keeps in its `__dict__`.
_PYTHON_FIELDS: Final = frozenset(
    {
        *("_asyncio_future_blocking", "_callbacks", "_cancel_message", "_cancelled_exc", "_context", "_coro"),
        *("_fut_waiter", "_log_destroy_pending", "_loop", "_must_cancel", "_name", "_num_cancels_requested"),
        *("_source_traceback", "_state", "_Future__asyncio_awaited_by", "_Future__log_traceback"),
    }
)


def has_own_attributes(task: asyncio.Task[Any]) -> bool:
    """Whether a suspended task has attributes beside those that asyncio gives it. Where in doubt it has."""
    if not issubclass(type(task), C_TASK):
        own = fields(task)
        return "_coro" not in own or not own.keys() <= _PYTHON_FIELDS
    refs = gc.get_referents(task)
    if any(type(ref) is dict for ref in refs):
        return True
    if not _STAND_IN_TASK:
        return False
    known: list[object] = [type(task), cast("Any", C_TASK).get_context(task)]
    known += [value for name in _FIELDS if (value := c_field(task, name)) is not None]
    callbacks = _entries(c_field(task, "_callbacks"))
    awaiters = _entries(c_field(task, "_asyncio_awaited_by"))
    are_in_set = bool(awaiters) and all(ref is not awaiters[0] for ref in refs)
    known += [*(callbacks[0] if callbacks else ()), *awaiters]
    unknown = [ref for ref in refs if not _take(known, ref)]
    # The first callback stands in the task, the others in a list. Who awaits it stands there alone, or in a set. The
    # name is a number until somebody asks for it.
    for kinds, number in (((list,), len(callbacks) > 1), ((set,), are_in_set), ((str, int), 1)):
        for ref in [ref for ref in unknown if type(ref) in kinds][:number]:
            _take(unknown, ref)
    return bool(unknown)


def _entries(field: object) -> list[Any]:
    return [] if field is None or field is UNKNOWN else list(cast("Any", field))


def _take(objects: list[object], wanted: object) -> bool:
    for position, obj in enumerate(objects):
        if obj is wanted:
            del objects[position]
            return True
    return False
