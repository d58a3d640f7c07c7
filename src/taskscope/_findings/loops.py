"""What an event loop of asyncio keeps: its timers, and what it watches sockets and pipes for. Read, never changed."""

from __future__ import annotations

import asyncio
import gc
from collections import deque
from contextvars import Context
from dataclasses import dataclass
from typing import Any, Final, final

from taskscope._diagnosis.awaitables import UNKNOWN, field_of
from taskscope._diagnosis.collector import get_referrers
from taskscope._findings.owners import is_tagged
from taskscope._table import TaskTable

_UVLOOP: Final = "uvloop.loop"


@final
@dataclass(frozen=True, eq=False)
class Timer:
    """A call that is still to come. `when` is on the loop's clock."""

    handle: asyncio.TimerHandle
    callback: Any
    context: Context | None
    when: float


@final
@dataclass(frozen=True, eq=False)
class Watched:
    """A call that a loop makes when a file descriptor can be read or written."""

    handle: object
    descriptor: int
    is_for_reading: bool
    callback: Any
    arguments: tuple[Any, ...]
    context: Context | None


def is_uvloop(loop: asyncio.AbstractEventLoop) -> bool:
    return any(kind.__module__ == _UVLOOP for kind in type(loop).__mro__)


def shows_timers(loop: asyncio.AbstractEventLoop) -> bool:
    return is_uvloop(loop) or type(field_of(loop, "_scheduled")) is list


def timers_under(table: TaskTable, loop: asyncio.AbstractEventLoop) -> list[Timer]:
    """A loop's timers under a scope's tag, neither over nor cancelled. None of one that does not show them."""
    if is_uvloop(loop):
        kept = (handle for handle in uvloop_objects(loop, "TimerHandle") if is_tagged(context_in(handle), table))
        timers = map(_uvloop_timer, kept)  # one that is being called has no callback any more
        return [timer for timer in timers if callable(timer.callback) and not timer.handle.cancelled()]
    if not shows_timers(loop):
        return []
    # those that are due wait among the other calls of this turn
    due = [handle for handle in _listed(loop, "_ready") if isinstance(handle, asyncio.events.TimerHandle)]
    handles = _listed(loop, "_scheduled") + due
    mine = [handle for handle in handles if is_tagged(handle._context, table) and not handle.cancelled()]
    return [Timer(handle, handle._callback, handle._context, handle.when()) for handle in mine]


def _listed(loop: asyncio.AbstractEventLoop, field: str) -> list[Any]:
    kept: Any = field_of(loop, field)
    return [*kept] if isinstance(kept, list | deque) else []  # pyright: ignore[reportUnknownVariableType]


def shows_what_it_watches(loop: asyncio.AbstractEventLoop) -> bool:
    return is_uvloop(loop) or _map_of(loop) is not None


def watched_under(table: TaskTable, loop: asyncio.AbstractEventLoop) -> list[Watched]:
    """What a loop watches file descriptors for under a scope's tag. Nothing of one that does not show that.

    uvloop has no such entries for its transports and servers, which are objects of its own.
    """
    if is_uvloop(loop):
        return [
            Watched(handle, descriptor, True, _callback_in(handle), (), context_in(handle))
            for descriptor, poll in _uvloop_polls(loop)
            for handle in gc.get_referents(poll)
            if type(handle).__name__ == "Handle" and is_tagged(context_in(handle), table)
        ]
    get_map = _map_of(loop)
    keys: Any = None if get_map is None else get_map()
    return [watched for key in ([] if keys is None else [*keys.values()]) for watched in _watched(key, table)]


def _map_of(loop: asyncio.AbstractEventLoop) -> Any:
    return getattr(field_of(loop, "_selector"), "get_map", None)


def _watched(key: Any, table: TaskTable) -> list[Watched]:
    """What a selector's key stands for: a handle for reading and one for writing, either of which can be None."""
    handles: Any = key.data if type(key.data).__name__ == "tuple" else ()
    return [
        Watched(handle, key.fd, place == 0, handle._callback, tuple(handle._args or ()), handle._context)
        for place, handle in enumerate(handles)
        if handle is not None and is_tagged(handle._context, table) and not handle.cancelled()
    ]


def what_is_hidden(loop: asyncio.AbstractEventLoop, what: str) -> tuple[str, ...]:
    """What a report has to say where a loop does not show what it watches."""
    if shows_what_it_watches(loop):
        return ()
    return (f"{what} were not looked at: a {type(loop).__qualname__} does not show those that it has",)


def uvloop_objects(loop: asyncio.AbstractEventLoop, *kinds: str) -> list[Any]:
    """The objects of uvloop's C types that a loop keeps: timers, servers, transports and processes.

    It has sets of them, and a weak dictionary of its transports, none of which can be read as attributes.
    """
    return [obj for kept in gc.get_referents(loop) for obj in _within(kept) if type(obj).__name__ in kinds]


def _within(kept: Any) -> list[Any]:
    if type(kept).__name__ not in ("set", "WeakValueDictionary"):
        return []
    return list(kept.values() if hasattr(kept, "values") else kept)


def unkept_uvloop_objects(loop: asyncio.AbstractEventLoop, kind: str) -> list[Any]:
    """Those of a type that a loop does not keep. Found among all objects there are: 1 to 2 ms for each 100,000."""
    return [obj for obj in get_referrers(loop) if type(obj).__module__ == _UVLOOP and type(obj).__name__ == kind]


def context_in(obj: object) -> Context | None:
    """The context that an object of uvloop's keeps for its callbacks."""
    return next((ref for ref in gc.get_referents(obj) if type(ref) is Context), None)


def _uvloop_polls(loop: asyncio.AbstractEventLoop) -> list[tuple[int, Any]]:
    dicts: list[dict[Any, Any]] = [held for held in gc.get_referents(loop) if type(held) is dict]
    return [(key, value) for held in dicts for key, value in held.items() if type(value).__name__ == "UVPoll"]


def _callback_in(handle: Any) -> Any:
    """What a user has asked uvloop to call; for what uvloop itself has, anything."""
    known = (asyncio.events.AbstractEventLoop, Context)
    return next((held for held in gc.get_referents(handle) if not isinstance(held, known)), UNKNOWN)


def _uvloop_timer(handle: Any) -> Timer:
    callback = next(iter(gc.get_referents(handle)), UNKNOWN)
    return Timer(handle, callback, context_in(handle), handle.when())
