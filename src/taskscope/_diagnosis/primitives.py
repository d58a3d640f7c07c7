"""The primitives of asyncio that a task can wait in: how they are recognised, and what state they are in.

Each is known by the qualified name of the coroutine function that waits and by its file, which is asyncio's. Its object
(the queue, the lock) is among what that coroutine refers to. Nothing of a user's is called: fields are read from the
objects' own dicts, so that a subclass with properties of its own is as harmless as any.
"""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import gc
import socket
import sys
from asyncio import base_events, streams, subprocess, taskgroups
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, cast

from taskscope._diagnosis.awaitables import fields
from taskscope._diagnosis.durations import in_seconds

FOR_EVER: Final = "for ever"
"""What a report says of a sleep that has no end."""

_ENDLESS: Final = 1e9
"""Seconds: uvloop makes a hundred years of infinity."""

Kind = str
Read = Callable[[object], str | None]


@dataclass(frozen=True, slots=True)
class Primitive:
    """A primitive: its kind, its name in reports, and what tells its state from the coroutine that waits in it."""

    kind: Kind
    name: str
    state: Read


def referred(holder: object, kind: type | tuple[type, ...]) -> Any:
    """The first object of a class that a coroutine refers to, None where there is none.

    gc.get_referents and not the frame's locals: asking a frame for those changes it before 3.13.
    """
    return next((ref for ref in _referents(holder) if issubclass(type(ref), kind)), None)


def _referents(holder: object) -> list[object]:
    """What a coroutine refers to; for one of Cython's, what its scope does, which is an object of its own."""
    refs = gc.get_referents(holder)
    scope = next((ref for ref in refs if type(ref).__name__.startswith("__pyx_scope_struct")), None)
    return refs if scope is None else gc.get_referents(scope)


def _queue(holder: object) -> str | None:
    known = fields(referred(holder, asyncio.queues.Queue))
    items: Any = known.get("_queue")
    maxsize: Any = known.get("_maxsize")
    if type(items) not in (collections.deque, list) or type(maxsize) is not int:
        return None
    size = len(items)
    limit = "unbounded" if maxsize <= 0 else f"maxsize={maxsize}"
    filling = "empty" if not size else "full" if 0 < maxsize <= size else f"{size:,} in it"
    closed = ", shut down" if known.get("_is_shutdown") is True else ""
    return f"Queue {limit}, {filling}{closed}"


def _unfinished(holder: object) -> str | None:
    left = fields(referred(holder, asyncio.queues.Queue)).get("_unfinished_tasks")
    return f"Queue with {left:,} items not marked as done" if type(left) is int else None


def _lock(holder: object) -> str | None:
    locked = fields(referred(holder, asyncio.locks.Lock)).get("_locked")
    return None if type(locked) is not bool else "Lock held" if locked else "Lock free"


def _semaphore(holder: object) -> str | None:
    value = fields(referred(holder, asyncio.locks.Semaphore)).get("_value")
    return f"Semaphore at {value}" if type(value) is int else None


def _event(holder: object) -> str | None:
    value = fields(referred(holder, asyncio.locks.Event)).get("_value")
    return None if type(value) is not bool else "Event set" if value else "Event not set"


def _condition(holder: object) -> str | None:
    condition = referred(holder, asyncio.locks.Condition)
    return None if condition is None else "Condition not notified"


def _barrier(holder: object) -> str | None:
    known = fields(referred(holder, asyncio.locks.Barrier))
    waiting, parties = known.get("_count"), known.get("_parties")
    if type(waiting) is not int or type(parties) is not int:
        return None
    return f"Barrier with {waiting} of {parties} parties"


def timer_state(holder: object) -> str | None:
    left = _seconds_left(gc.get_referents(holder))
    return None if left is None else FOR_EVER if left > _ENDLESS else f"{in_seconds(left)} left"


def _seconds_left(refs: Iterable[object]) -> float | None:
    """Seconds until the first timer among some objects fires."""
    for ref in refs:
        if issubclass(type(ref), asyncio.events.TimerHandle) or _is_uvloop(ref, "TimerHandle"):
            when: Any = cast("asyncio.TimerHandle", ref).when()
            loop = asyncio._get_running_loop()
            return None if loop is None else max(0.0, float(when - loop.time()))
    return None


def _peer(holder: object) -> str | None:
    stream = referred(holder, (streams.StreamReader, streams.StreamWriter))
    return peer_of(fields(stream).get("_transport"))


def peer_of(transport: Any) -> str | None:
    """Whom a transport is connected to; asked only of transports that asyncio or uvloop made."""
    if type(transport).__module__.partition(".")[0] not in ("asyncio", "uvloop"):
        return None
    peer: object = transport.get_extra_info("peername")
    return None if not peer else f"peer {address(peer)}"


def address(peer: Any) -> str:
    if type(peer) is not tuple or len(cast("tuple[object, ...]", peer)) < 2:
        return str(cast("object", peer))
    host, port = cast("tuple[object, ...]", peer)[:2]
    return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"


def _socket(holder: object) -> str | None:
    sock = referred(holder, socket.socket)
    return None if sock is None else socket_state(sock)


def socket_state(sock: Any) -> str:
    with suppress(OSError):  # not connected, or closed
        peer: Any = socket.socket.getpeername(sock)
        if peer:
            return f"peer {address(peer)}"
    return f"socket {socket.socket.fileno(sock)}"


def _server(holder: object) -> str | None:
    server = referred(holder, base_events.Server)
    sockets: Any = fields(server).get("_sockets")
    if not sockets:
        return None if server is None else "Server closed"
    return "Server on " + ", ".join(address(sock.getsockname()) for sock in sockets)


def _process(holder: object) -> str | None:
    pid = fields(referred(holder, subprocess.Process)).get("pid")
    return f"process {pid}" if type(pid) is int else None


def _group(holder: object) -> str | None:
    tasks = fields(referred(holder, taskgroups.TaskGroup)).get("_tasks")
    return f"TaskGroup with {len(tasks):,} pending" if type(tasks) is set else None  # pyright: ignore[reportUnknownArgumentType]


def _nothing(holder: object) -> str | None:
    return None


def _is_uvloop(obj: object, name: str) -> bool:
    kind = type(obj)
    return kind.__module__ == "uvloop.loop" and kind.__name__ == name


def thread_state(source: object) -> str:
    state = fields(source).get("_state")
    words = {"RUNNING": "running in a thread", "PENDING": "not started yet"}
    return words.get(str(state), "done, its result on the way")


CONCURRENT: Final = concurrent.futures.Future


_SOCKET_METHODS: Final = (
    "sock_recv",
    "sock_recv_into",
    "sock_recvfrom",
    "sock_recvfrom_into",
    "sock_sendall",
    "sock_sendto",
    "sock_connect",
    "sock_accept",
    "sock_sendfile",
)


def _primitives() -> dict[str, Primitive]:
    found = {
        "Queue.get": Primitive("queue", "Queue.get", _queue),
        "Queue.put": Primitive("queue", "Queue.put", _queue),
        "Queue.join": Primitive("queue", "Queue.join", _unfinished),
        "Lock.acquire": Primitive("lock", "Lock.acquire", _lock),
        "Semaphore.acquire": Primitive("semaphore", "Semaphore.acquire", _semaphore),
        "Event.wait": Primitive("event", "Event.wait", _event),
        "Condition.wait": Primitive("condition", "Condition.wait", _condition),
        "Condition.wait_for": Primitive("condition", "Condition.wait_for", _condition),
        "Barrier.wait": Primitive("barrier", "Barrier.wait", _barrier),
        "sleep": Primitive("timer", "sleep", timer_state),
        "wait": Primitive("tasks", "wait", _nothing),
        "TaskGroup.__aexit__": Primitive("tasks", "TaskGroup.__aexit__", _group),
        "StreamWriter.drain": Primitive("io", "StreamWriter.drain", _peer),
        "StreamWriter.wait_closed": Primitive("io", "StreamWriter.wait_closed", _peer),
        "Server.wait_closed": Primitive("io", "Server.wait_closed", _server),
        "Server.serve_forever": Primitive("io", "Server.serve_forever", _server),
        "Process.wait": Primitive("process", "Process.wait", _process),
        "Process.communicate": Primitive("process", "Process.communicate", _process),
        "to_thread": Primitive("thread", "to_thread", _nothing),
    }
    for method in ("read", "readline", "readuntil", "readexactly"):
        found[f"StreamReader.{method}"] = Primitive("io", f"StreamReader.{method}", _peer)
    for loop in ("BaseSelectorEventLoop", "BaseProactorEventLoop", "BaseEventLoop", "Loop"):
        for method in _SOCKET_METHODS:
            found[f"{loop}.{method}"] = Primitive("io", f"loop.{method}", _socket)
        for method in ("getaddrinfo", "getnameinfo"):
            found[f"{loop}.{method}"] = Primitive("thread", f"loop.{method}", _nothing)
    if sys.version_info < (3, 12):  # later ones run the coroutine in the waiting task itself
        found["wait_for"] = Primitive("tasks", "wait_for", _nothing)
    for waiting in ("as_completed.<locals>._wait_for_one", "_AsCompletedIterator._wait_for_one"):
        found[waiting] = Primitive("tasks", "as_completed", _nothing)
    return found


PRIMITIVES: Final = _primitives()
