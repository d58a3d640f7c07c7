"""The state of the object that a task of Trio's waits in, in words.

Trio's classes have fields of their own making and cannot be derived from, so the fields are read as they stand.
"""

from __future__ import annotations

import gc
import math
import socket
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, cast

from taskscope._diagnosis.awaitables import UNKNOWN, class_name, field_of
from taskscope._diagnosis.opaque import module_of
from taskscope._diagnosis.primitives import socket_state
from taskscope._diagnosis.trio_deadlines import own_deadline
from taskscope._diagnosis.trio_tasks import children_of, is_trio_task, name_of, seconds_to

_PACKAGES: Final = ("trio", "anyio")


@dataclass(frozen=True, slots=True, eq=False)
class Waiting:
    """A task that waits, and the coroutines of Trio's and AnyIO's by which it does, outermost first."""

    task: Any
    holders: list[Any]

    def find(self, *names: str) -> Any:
        """The object of a class of Trio's or AnyIO's that the innermost of the coroutines refers to."""
        for holder in reversed(self.holders):
            for ref in _referents(holder):
                if class_name(ref) in names and _is_of_package(ref):
                    return _original(ref)
        return None

    def nursery(self) -> object | None:
        """The nursery at whose end the task waits."""
        return cast("object | None", self.find("Nursery"))

    def children(self) -> list[Any]:
        return children_of(self.nursery())


def event(waiting: Waiting) -> str | None:
    flag = field_of(waiting.find("Event"), "_flag")
    return None if type(flag) is not bool else "Event set" if flag else "Event not set"


def lock(waiting: Waiting) -> str | None:
    found = waiting.find("Lock", "StrictFIFOLock")
    if found is None:
        return None
    owner = field_of(found, "_owner")
    return f"{class_name(found)} {_held_by(owner)}"


def condition(waiting: Waiting) -> str | None:
    found = waiting.find("Condition")
    lock_of = field_of(found, "_lock")
    if lock_of is UNKNOWN:
        return None
    if field_of(waiting.task, "custom_sleep_data") is field_of(lock_of, "_lot"):
        return f"Condition notified or cancelled, its lock {_held_by(field_of(lock_of, '_owner'))}"
    return "Condition not notified"


def semaphore(waiting: Waiting) -> str | None:
    value = field_of(waiting.find("Semaphore"), "_value")
    return f"Semaphore at {value}" if type(value) is int else None


def limiter(waiting: Waiting) -> str | None:
    found = waiting.find("CapacityLimiter")
    borrowers: Any = field_of(found, "_borrowers")
    total: Any = field_of(found, "_total_tokens")
    if type(borrowers) is not set:
        return None
    return f"CapacityLimiter with {len(borrowers):,} of {total} borrowed"  # pyright: ignore[reportUnknownArgumentType]


def channel(waiting: Waiting) -> str | None:
    state = field_of(waiting.find("MemorySendChannel", "MemoryReceiveChannel"), "_state")
    items: Any = field_of(state, "data")
    if items is UNKNOWN:
        return None
    sides = _sides(field_of(state, "open_send_channels"), field_of(state, "open_receive_channels"))
    most: Any = field_of(state, "max_buffer_size")
    limit = "unbounded" if most == math.inf else f"{most}"
    return f"channel with {len(items):,} of {limit} buffered; {sides}"


def unbounded_queue(waiting: Waiting) -> str | None:
    items: Any = field_of(waiting.find("UnboundedQueue"), "_data")
    return f"UnboundedQueue with {len(items):,} in it" if type(items) is list else None  # pyright: ignore[reportUnknownArgumentType]


def parking_lot(waiting: Waiting) -> str | None:
    parked: Any = field_of(waiting.find("ParkingLot"), "_parked")
    return None if parked is UNKNOWN else f"ParkingLot with {len(parked):,} parked"


def timer(waiting: Waiting) -> str | None:
    deadline = own_deadline(waiting.task)
    left = None if deadline == math.inf else seconds_to(deadline, waiting.task)
    return None if left is None else f"{left:.3g} s left"


def for_ever(waiting: Waiting) -> str | None:
    return "for ever"


def nursery(waiting: Waiting) -> str | None:
    return _group(waiting, "Nursery")


def task_group(waiting: Waiting) -> str | None:
    return _group(waiting, "TaskGroup")


def start(waiting: Waiting) -> str | None:
    return "started() not called"


def thread(waiting: Waiting) -> str | None:
    limited = limiter(waiting) if _waits_for_limiter(waiting) else None
    return "running in a thread" if limited is None else limited


def peer(waiting: Waiting) -> str | None:
    sock: Any = field_of(waiting.find("_SocketType"), "_sock")
    return socket_state(sock) if issubclass(type(sock), socket.socket) else None


def file_descriptor(waiting: Waiting) -> str | None:
    refs = [ref for holder in waiting.holders for ref in _referents(holder)]
    sock = next((ref for ref in refs if issubclass(type(ref), socket.socket)), None)
    if sock is not None:
        return socket_state(sock)
    number = next((ref for ref in refs if type(ref) is int), None)
    return None if number is None else f"file descriptor {number}"


def pipe(waiting: Waiting) -> str | None:
    number = field_of(field_of(waiting.find("FdStream"), "_fd_holder"), "fd")
    return f"file descriptor {number}" if type(number) is int else None


def process(waiting: Waiting) -> str | None:
    pid = field_of(waiting.find("Process"), "pid")
    return f"process {pid}" if type(pid) is int else None


def nothing(waiting: Waiting) -> str | None:
    return None


def _held_by(owner: object) -> str:
    if is_trio_task(owner):
        return f"held by task {name_of(owner)!r}"
    return "free" if owner is None else "held"


def _group(waiting: Waiting, kind: str) -> str | None:
    found = waiting.nursery()
    if found is None:
        return None
    starting: Any = field_of(found, "_pending_starts")
    more = f", {starting:,} starting" if type(starting) is int and starting else ""
    return f"{kind} with {len(waiting.children()):,} pending{more}"


def _sides(senders: object, receivers: object) -> str:
    return f"{_counted(senders, 'sender')} and {_counted(receivers, 'receiver')} open"


def _counted(number: object, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _waits_for_limiter(waiting: Waiting) -> bool:
    codes = [getattr(holder, "cr_code", None) for holder in waiting.holders]
    return any(code is not None and code.co_qualname == "CapacityLimiter.acquire_on_behalf_of" for code in codes)


def _referents(holder: object) -> Iterator[Any]:
    """What a coroutine refers to, in its variables and in those that it shares with functions inside of it."""
    for ref in gc.get_referents(holder):
        if type(ref) is types.CellType:
            yield from gc.get_referents(ref)
        else:
            yield ref


def _is_of_package(obj: object) -> bool:
    return (module_of(type(obj)) or "").partition(".")[0] in _PACKAGES


def _original(obj: Any) -> Any:
    """Trio's own object behind one of AnyIO's."""
    found = field_of(obj, f"_{class_name(obj)}__original")
    return obj if found is UNKNOWN else found
