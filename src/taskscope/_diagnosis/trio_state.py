"""The state of the object that a task of Trio's waits in, in words.

Trio's classes have fields of their own making and cannot be derived from, so the fields are read as they stand.
"""

from __future__ import annotations

import gc
import math
import signal
import socket
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, cast

from taskscope._diagnosis.awaitables import UNKNOWN, class_name, field_of
from taskscope._diagnosis.durations import in_seconds
from taskscope._diagnosis.opaque import package_of
from taskscope._diagnosis.packages import ANYIO, function_in
from taskscope._diagnosis.primitives import address, socket_state
from taskscope._diagnosis.trio_deadlines import own_deadline
from taskscope._diagnosis.trio_tasks import (
    children_of,
    coroutine_of,
    is_trio_task,
    name_of,
    seconds_to,
    tasks_beside,
)

_PACKAGES: Final = ("trio", "anyio")

# By which names a channel knows what is in its buffer, who waits to send, and who waits to receive.
_TRIOS_NAMES: Final = ("data", "send_tasks", "receive_tasks")
_ANYIOS_NAMES: Final = ("buffer", "waiting_senders", "waiting_receivers")


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

    def children(self) -> list[Any]:
        """The tasks in the nursery at whose end the task waits."""
        return children_of(self.find("Nursery"))

    def handled(self) -> list[Any]:
        """The task of the handle of AnyIO's for which the task waits. That is known to the task's code, not to it."""
        handle = self.find("TaskHandle")
        return [task for task in tasks_beside(self.task) if _runs(task, handle)]


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
    found = _original(field_of(waiting.find("Condition"), "_lock"))
    if found is UNKNOWN:
        return None
    if field_of(waiting.task, "custom_sleep_data") is field_of(found, "_lot"):
        return f"Condition notified or cancelled, its lock {_held_by(field_of(found, '_owner'))}"
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
    return f"CapacityLimiter with {len(borrowers):,} of {total:,} tokens borrowed"  # pyright: ignore[reportUnknownArgumentType]


def channel(waiting: Waiting) -> str | None:
    return _channel(field_of(waiting.find("MemorySendChannel", "MemoryReceiveChannel"), "_state"), _TRIOS_NAMES)


def memory_stream(waiting: Waiting) -> str | None:
    found = waiting.find("MemoryObjectSendStream", "MemoryObjectReceiveStream")
    return _channel(field_of(found, "_state"), _ANYIOS_NAMES)


def _channel(state: object, names: tuple[str, str, str]) -> str | None:
    items, senders, receivers = (cast("Any", field_of(state, name)) for name in names)
    limit: Any = field_of(state, "max_buffer_size")
    if UNKNOWN in (items, senders, receivers, limit):
        return None
    size = "unlimited" if limit == math.inf else f"{limit:,}"
    open_ends = [
        _count(cast("int", field_of(state, f"open_{end}_channels")), noun)
        for end, noun in (("send", "sender"), ("receive", "receiver"))
    ]
    waiting = f"{len(senders):,} waiting to send" if senders else f"{len(receivers):,} waiting to receive"
    return f"buffer {len(items):,} of {size}; {' and '.join(open_ends)} open; {waiting}"


def unbounded_queue(waiting: Waiting) -> str | None:
    items: Any = field_of(waiting.find("UnboundedQueue"), "_data")
    return f"UnboundedQueue with {len(items):,} in it" if type(items) is list else None  # pyright: ignore[reportUnknownArgumentType]


def parking_lot(waiting: Waiting) -> str | None:
    parked: Any = field_of(waiting.find("ParkingLot"), "_parked")
    return None if parked is UNKNOWN else f"ParkingLot with {len(parked):,} parked"


def timer(waiting: Waiting) -> str | None:
    deadline = own_deadline(waiting.task)
    left = None if deadline == math.inf else seconds_to(deadline, waiting.task)
    return None if left is None else f"{in_seconds(left)} left"


def for_ever(waiting: Waiting) -> str | None:
    return "for ever"


def nursery(kind: str) -> Callable[[Waiting], str | None]:
    def state(waiting: Waiting) -> str | None:
        found = waiting.find("Nursery")
        if found is None:
            return None
        starting: Any = field_of(found, "_pending_starts")
        more = f", {starting:,} starting" if type(starting) is int and starting else ""
        return f"{kind} with {len(children_of(found)):,} pending{more}"

    return state


def start(waiting: Waiting) -> str | None:
    return "task_status.started() not called yet"


def thread(waiting: Waiting) -> str | None:
    limited = limiter(waiting) if _waits_for_limiter(waiting) else None
    return "running in a thread" if limited is None else f"no thread free: {limited}"


def peer(waiting: Waiting) -> str | None:
    sock: Any = field_of(waiting.find("_SocketType"), "_sock")
    return socket_state(sock) if issubclass(type(sock), socket.socket) else None


def listener(waiting: Waiting) -> str | None:
    sock: Any = field_of(waiting.find("_SocketType"), "_sock")
    name: Any = socket.socket.getsockname(sock)
    return f"listening on {address(name)}" if name else socket_state(sock)


def signals(waiting: Waiting) -> str | None:
    numbers: Any = field_of(waiting.find("_SignalReceiver"), "_signals")
    if type(numbers) is not tuple:
        return None
    return ", ".join(signal.Signals(number).name for number in cast("tuple[int, ...]", numbers))


def portal(waiting: Waiting) -> str | None:
    return "BlockingPortal not stopped"


def file_descriptor(waiting: Waiting) -> str | None:
    refs = [ref for holder in waiting.holders for ref in _referents(holder)]
    sock = next((ref for ref in refs if issubclass(type(ref), socket.socket)), None)
    if sock is not None:
        return socket_state(sock)
    number = next((ref for ref in refs if type(ref) is int), None)
    return None if number is None else f"descriptor {number}"


def pipe(waiting: Waiting) -> str | None:
    number = field_of(field_of(waiting.find("FdStream"), "_fd_holder"), "fd")
    return f"descriptor {number}" if type(number) is int else None


def process(waiting: Waiting) -> str | None:
    pid = field_of(waiting.find("Process"), "pid")
    return f"process {pid}" if type(pid) is int else None


def nothing(waiting: Waiting) -> str | None:
    return None


def _held_by(owner: object) -> str:
    if is_trio_task(owner):
        return f"held by task {name_of(owner)!r}"
    return "free" if owner is None else "held"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _runs(task: object, handle: object) -> bool:
    coro = coroutine_of(task)
    if type(coro) is not types.CoroutineType or function_in(ANYIO, coro.cr_code) is None:
        return False
    return any(ref is handle for ref in _referents(cast("object", coro)))


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
    return package_of(type(obj)) in _PACKAGES


def _original(obj: Any) -> Any:
    """Trio's own object behind one of AnyIO's."""
    for name in ("_internal_lock", f"_{class_name(obj)}__original", "_Lock__original"):
        found = field_of(obj, name)
        obj = obj if found is UNKNOWN else found
    return obj
