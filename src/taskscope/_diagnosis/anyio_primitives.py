"""The primitives of AnyIO on asyncio that a task can wait in, and how they are recognised.

Each is known by its file inside of AnyIO's package and by the qualified name of the coroutine function. They go by the
names of the public classes and functions, which are the same on all backends.
"""

from __future__ import annotations

import os
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from taskscope._diagnosis.anyio_states import (
    Inner,
    anyio_package,
    condition,
    descriptor,
    event,
    group,
    limiter,
    listener,
    lock,
    memory_stream,
    nothing,
    portal,
    process,
    raw_socket,
    semaphore,
    signals,
    started_task,
    starting,
    task_of_handle,
    tasks_of_group,
    thread,
    timer,
    transport,
)

_BACKEND: Final = "_backends/_asyncio.py"


@dataclass(frozen=True, slots=True)
class AnyioPrimitive:
    """A primitive of AnyIO's: its kind, its name in reports, and what tells its state and the tasks it waits for."""

    kind: str
    name: str
    state: Callable[[Inner], str | None]
    tasks: Callable[[object], list[Any]] | None = None


def anyio_primitive(code: types.CodeType) -> AnyioPrimitive | None:
    """The primitive that a function of AnyIO's is, None for any other function."""
    package = anyio_package()
    if package is None or not code.co_filename.startswith(package):
        return None
    return _PRIMITIVES.get((code.co_filename[len(package) :].replace(os.sep, "/"), code.co_qualname))


def _all() -> dict[tuple[str, str], AnyioPrimitive]:
    found = {
        (_BACKEND, "Event.wait"): AnyioPrimitive("event", "Event.wait", event),
        (_BACKEND, "Lock.acquire"): AnyioPrimitive("lock", "Lock.acquire", lock),
        (_BACKEND, "Semaphore.acquire"): AnyioPrimitive("semaphore", "Semaphore.acquire", semaphore),
        (_BACKEND, "TaskGroup.__aexit__"): AnyioPrimitive(
            "tasks", "TaskGroup.__aexit__", group("TaskGroup"), tasks_of_group
        ),
        (_BACKEND, "TaskGroup.start"): AnyioPrimitive("task", "TaskGroup.start", starting, started_task),
        (_BACKEND, "Process.wait"): AnyioPrimitive("process", "Process.wait", process),
        (_BACKEND, "StreamReaderWrapper.receive"): AnyioPrimitive("io", "ByteReceiveStream.receive", nothing),
        (_BACKEND, "StreamWriterWrapper.send"): AnyioPrimitive("io", "ByteSendStream.send", nothing),
        (_BACKEND, "_SignalReceiver.__anext__"): AnyioPrimitive("io", "open_signal_receiver", signals),
        ("_core/_synchronization.py", "Condition.wait"): AnyioPrimitive("condition", "Condition.wait", condition),
        ("_core/_synchronization.py", "Condition.wait_for"): AnyioPrimitive(
            "condition", "Condition.wait_for", condition
        ),
        ("_core/_tasks.py", "TaskHandle.wait"): AnyioPrimitive("task", "TaskHandle.wait", nothing, task_of_handle),
        ("_core/_tasks.py", "TaskHandle.__await__"): AnyioPrimitive(
            "task", "TaskHandle.__await__", nothing, task_of_handle
        ),
        ("_core/_subprocesses.py", "run_process"): AnyioPrimitive("process", "run_process", process),
        ("_core/_sockets.py", "connect_tcp"): AnyioPrimitive("io", "connect_tcp", nothing),
        ("_core/_sockets.py", "connect_unix"): AnyioPrimitive("io", "connect_unix", nothing),
        ("_core/_sockets.py", "getaddrinfo"): AnyioPrimitive("thread", "getaddrinfo", nothing),
        ("_core/_sockets.py", "getnameinfo"): AnyioPrimitive("thread", "getnameinfo", nothing),
        ("to_thread.py", "run_sync"): AnyioPrimitive("thread", "to_thread.run_sync", thread),
        ("to_interpreter.py", "run_sync"): AnyioPrimitive("thread", "to_interpreter.run_sync", nothing),
        ("to_process.py", "run_sync"): AnyioPrimitive("process", "to_process.run_sync", process),
        ("from_thread.py", "BlockingPortal.sleep_until_stopped"): AnyioPrimitive(
            "event", "BlockingPortal.sleep_until_stopped", portal
        ),
        ("from_thread.py", "BlockingPortal.__aexit__"): AnyioPrimitive(
            "tasks", "BlockingPortal.__aexit__", group("BlockingPortal"), tasks_of_group
        ),
        ("from_thread.py", "BlockingPortal.call_async"): AnyioPrimitive("thread", "BlockingPortal.call_async", nothing),
        ("streams/memory.py", "MemoryObjectSendStream.send"): AnyioPrimitive(
            "queue",
            "MemoryObjectSendStream.send",
            memory_stream("MemoryObjectSendStream", "waiting_senders", "send"),
        ),
        ("streams/memory.py", "MemoryObjectReceiveStream.receive"): AnyioPrimitive(
            "queue",
            "MemoryObjectReceiveStream.receive",
            memory_stream("MemoryObjectReceiveStream", "waiting_receivers", "receive"),
        ),
    }
    for function in ("sleep", "sleep_forever", "sleep_until"):
        found["_core/_eventloop.py", function] = AnyioPrimitive("timer", function, timer)
    for method in ("acquire", "acquire_on_behalf_of"):
        name = f"CapacityLimiter.{method}"
        found[_BACKEND, name] = AnyioPrimitive("semaphore", name, limiter)
    for kind in ("readable", "writable"):
        for function in (f"wait_{kind}", f"wait_socket_{kind}"):  # the second one before AnyIO 4.7
            found[_BACKEND, f"AsyncIOBackend.{function}"] = AnyioPrimitive("io", f"wait_{kind}", descriptor)
    for kind in ("SocketStream", "UDPSocket", "ConnectedUDPSocket"):
        for method in ("receive", "send"):
            found[_BACKEND, f"{kind}.{method}"] = AnyioPrimitive("io", f"{kind}.{method}", transport(kind))
    for kind in ("UNIXSocketStream", "UNIXDatagramSocket", "ConnectedUNIXDatagramSocket"):
        for method in ("receive", "send", "receive_fds", "send_fds"):
            found[_BACKEND, f"{kind}.{method}"] = AnyioPrimitive("io", f"{kind}.{method}", raw_socket(kind))
    for kind in ("TCPSocketListener", "UNIXSocketListener"):
        found[_BACKEND, f"{kind}.accept"] = AnyioPrimitive("io", "SocketListener.accept", listener(kind))
    return found


_PRIMITIVES: Final = _all()
