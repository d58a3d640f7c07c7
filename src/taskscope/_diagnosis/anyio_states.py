"""What state the primitives of AnyIO on asyncio are in, read from the frames that wait in them.

Nothing of a user's is called, and AnyIO is not imported.
"""

from __future__ import annotations

import gc
import math
import os
import signal
import socket
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Protocol, cast

from taskscope._diagnosis.anyio_scopes import attribute
from taskscope._diagnosis.awaitables import coroutine_of, fields, is_done, is_exactly, is_task
from taskscope._diagnosis.opaque import package_of
from taskscope._diagnosis.primitives import address, peer_of, referred, socket_state, timer_state
from taskscope._diagnosis.safely import safely

_mro: Final[Callable[[type], tuple[type, ...]]] = type.__dict__["__mro__"].__get__
_name: Final[Callable[[type], str]] = type.__dict__["__name__"].__get__


class Link(Protocol):
    """A frame of an await chain: the coroutine, and its code."""

    @property
    def holder(self) -> object: ...

    @property
    def code(self) -> types.CodeType: ...


Inner = Sequence[Link]
"""The frame of a primitive, and the frames further in."""


def anyio_package() -> str | None:
    """The folder of AnyIO's package, None where AnyIO is not in use."""
    file = fields(sys.modules.get("anyio")).get("__file__")
    return os.path.dirname(file) + os.sep if type(file) is str else None


def is_of_anyio(code: types.CodeType) -> bool:
    package = anyio_package()
    return package is not None and code.co_filename.startswith(package)


def _self(links: Inner, name: str) -> object | None:
    """The first object of a class of AnyIO's that the frame of a primitive refers to."""
    return _found(links[0].holder, name)


def _found(holder: object, name: str) -> object | None:
    return next((variable for variable in _variables(holder) if _is_anyios(variable, name)), None)


def _variables(holder: object) -> Iterator[object]:
    """What a coroutine refers to, also by variables that it shares with functions in it."""
    for ref in gc.get_referents(holder):
        if type(ref) is types.CellType:
            yield from gc.get_referents(ref)
        else:
            yield ref


def _is_anyios(obj: object, name: str) -> bool:
    return any(_name(base) == name and package_of(base) == "anyio" for base in _mro(type(obj)))


def _length(obj: object, name: str) -> int:
    # asyncio's and Python's own collections, no user's: AnyIO makes them
    return len(cast("Any", attribute(obj, name)))


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


# ----------------------------------------------------------------------------------------------------- synchronization


def event(links: Inner) -> str | None:
    value = fields(attribute(_self(links, "Event"), "_event")).get("_value")
    return None if type(value) is not bool else "Event set" if value else "Event not set"


def lock(links: Inner) -> str | None:
    return _lock_text(_self(links, "Lock"))


def _lock_text(lock: object) -> str | None:
    owner: Any = attribute(lock, "_owner_task")
    if owner is None:
        return "Lock free"
    return f"Lock held by task {safely(owner.get_name, '<unknown>')!r}" if is_task(owner) else None


def condition(links: Inner) -> str | None:
    for link in links[1:]:
        if link.code.co_qualname == "Lock.acquire" and is_of_anyio(link.code):
            held = _lock_text(_found(link.holder, "Lock")) or "Lock held by somebody else"
            return f"Condition notified or cancelled, its {held[0].lower()}{held[1:]}"
    return "Condition not notified"


def semaphore(links: Inner) -> str | None:
    value = attribute(_self(links, "Semaphore"), "_value")
    return f"Semaphore at {value}" if type(value) is int else None


def limiter(links: Inner) -> str | None:
    return _limiter_text(_self(links, "CapacityLimiter"))


def _limiter_text(limiter: object) -> str | None:
    total = attribute(limiter, "_total_tokens")
    if limiter is None or type(total) not in (int, float):
        return None
    return f"CapacityLimiter with {_length(limiter, '_borrowers'):,} of {total:,} tokens borrowed"


# ------------------------------------------------------------------------------------------------------ memory streams


def memory_stream(class_name: str, waiting: str, doing: str) -> Callable[[Inner], str | None]:
    def state(links: Inner) -> str | None:
        shared = attribute(_self(links, class_name), "_state")
        limit = attribute(shared, "max_buffer_size")
        if type(limit) not in (int, float):
            return None
        size = "unlimited" if limit == math.inf else f"{limit:,}"
        senders, receivers = attribute(shared, "open_send_channels"), attribute(shared, "open_receive_channels")
        if type(senders) is not int or type(receivers) is not int:
            return None
        open_ends = f"{_count(senders, 'sender')} and {_count(receivers, 'receiver')} open"
        number = _length(shared, waiting)
        return f"buffer {_length(shared, 'buffer'):,} of {size}; {open_ends}; {number:,} waiting to {doing}"

    return state


# --------------------------------------------------------------------------------------------------------------- tasks


def group(kind: str) -> Callable[[Inner], str | None]:
    def state(links: Inner) -> str | None:
        return f"{kind} with {len(tasks_of_group(links[0].holder)):,} pending"

    return state


def tasks_of_group(holder: object) -> list[Any]:
    group = _found(holder, "TaskGroup") or attribute(_found(holder, "BlockingPortal"), "_task_group")
    tasks: Any = attribute(group, "_tasks")
    return [task for task in list(tasks) if not is_done(task)] if is_exactly(tasks, set) else []


def starting(links: Inner) -> str | None:
    return "task_status.started() not called yet"


def started_task(holder: object) -> list[Any]:
    found = next((ref for ref in gc.get_referents(holder) if is_task(ref)), None)  # before AnyIO 4.14
    return task_of_handle(holder) if found is None else [found]


def task_of_handle(holder: object) -> list[Any]:
    """The task of the handle that a coroutine refers to. The handle does not know it, but its cancel scope does."""
    handle = _found(holder, "TaskHandle")
    task = attribute(attribute(handle, "_cancel_scope"), "_host_task")
    if is_task(task):
        return [task]
    # It has not started. Its coroutine is there already.
    group = _found(holder, "TaskGroup")
    return [task for task in tasks_of_group(holder) if _refers_to(coroutine_of(task), handle)] if group else []


def _refers_to(holder: object, obj: object) -> bool:
    return any(ref is obj for ref in gc.get_referents(holder))


# --------------------------------------------------------------------------------------------------- time, and threads


def timer(links: Inner) -> str | None:
    return timer_state(links[-1].holder)


def thread(links: Inner) -> str | None:
    for link in links[1:]:
        if link.code.co_qualname.startswith("CapacityLimiter."):
            limiter = _limiter_text(_found(link.holder, "CapacityLimiter"))
            return "no thread free" if limiter is None else f"no thread free: {limiter}"
    return "running in a thread"


def portal(links: Inner) -> str | None:
    return "BlockingPortal not stopped"


def nothing(links: Inner) -> str | None:
    return None


# ----------------------------------------------------------------------------------------- sockets, processes, signals


def transport(class_name: str) -> Callable[[Inner], str | None]:
    def state(links: Inner) -> str | None:
        transport: Any = attribute(_self(links, class_name), "_transport")
        return peer_of(transport) or _own_address(transport)

    return state


def _own_address(transport: Any) -> str | None:
    if type(transport).__module__.partition(".")[0] not in ("asyncio", "uvloop"):
        return None
    name: object = transport.get_extra_info("sockname")
    return None if not name else f"socket on {address(name)}"


def raw_socket(class_name: str) -> Callable[[Inner], str | None]:
    def state(links: Inner) -> str | None:
        sock = attribute(_self(links, class_name), "_RawSocketMixin__raw_socket")
        return socket_state(sock) if issubclass(type(sock), socket.socket) else None

    return state


def listener(class_name: str) -> Callable[[Inner], str | None]:
    def state(links: Inner) -> str | None:
        sock: Any = attribute(_self(links, class_name), f"_{class_name}__raw_socket")
        if not issubclass(type(sock), socket.socket):
            return None
        name: Any = socket.socket.getsockname(sock)
        return f"listening on {address(name)}" if name else f"socket {socket.socket.fileno(sock)}"

    return state


def descriptor(links: Inner) -> str | None:
    sock = referred(links[0].holder, socket.socket)  # before AnyIO 4.7
    if sock is not None:
        return f"descriptor {socket.socket.fileno(sock)}"
    number = next((value for value in _variables(links[0].holder) if type(value) is int), None)
    return None if number is None else f"descriptor {number}"


def process(links: Inner) -> str | None:
    process = attribute(_self(links, "Process"), "_process")
    pid = fields(process).get("pid")
    return f"process {pid}" if type(pid) is int else None


def signals(links: Inner) -> str | None:
    signals = attribute(_self(links, "_SignalReceiver"), "_signals")
    if type(signals) is not tuple:
        return None
    return ", ".join(signal.Signals(number).name for number in cast("tuple[int, ...]", signals))
