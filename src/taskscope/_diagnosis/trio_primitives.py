"""The primitives that a task of Trio's can wait in: Trio's own, and AnyIO's on top of them.

Each is known by its package, its module and the qualified name of the coroutine function that waits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from taskscope._diagnosis import trio_state as state
from taskscope._diagnosis.packages import ANYIO, TRIO
from taskscope._diagnosis.trio_state import Waiting

Read = Callable[[Waiting], str | None]


@dataclass(frozen=True, slots=True)
class TrioPrimitive:
    """A primitive: its kind, its name in reports, what tells its state, and the tasks that end it."""

    kind: str
    name: str
    state: Read
    awaited: Callable[[Waiting], Iterable[Any]] | None = None

    def name_for(self, waiting: Waiting) -> str:
        """Its name; the methods of sockets share one function, but each of its coroutines has the name of its own."""
        return f"{self.name}{waiting.holders[0].__name__}" if self.name.endswith(".") else self.name


def _trio() -> dict[tuple[str, str], TrioPrimitive]:
    found: dict[tuple[str, str], TrioPrimitive] = {}

    def add(module: str, function: str, kind: str, read: Read, name: str | None = None) -> None:
        found[module, function] = TrioPrimitive(kind, name or function, read)

    add("_sync", "Event.wait", "event", state.event)
    add("_sync", "_LockImpl.acquire", "lock", state.lock, "Lock.acquire")
    add("_sync", "Condition.wait", "condition", state.condition)
    add("_sync", "Semaphore.acquire", "semaphore", state.semaphore)
    add("_sync", "CapacityLimiter.acquire", "semaphore", state.limiter)
    add("_sync", "CapacityLimiter.acquire_on_behalf_of", "semaphore", state.limiter)
    add("_channel", "MemorySendChannel.send", "queue", state.channel)
    add("_channel", "MemoryReceiveChannel.receive", "queue", state.channel)
    add("_core._unbounded_queue", "UnboundedQueue.get_batch", "queue", state.unbounded_queue)
    add("_core._parking_lot", "ParkingLot.park", "reschedule", state.parking_lot)
    for function in ("sleep", "sleep_until"):
        add("_timeouts", function, "timer", state.timer)
    add("_timeouts", "sleep_forever", "timer", state.for_ever)
    found["_core._run", "NurseryManager.__aexit__"] = TrioPrimitive(
        "tasks", "Nursery.__aexit__", state.nursery("Nursery"), Waiting.children
    )
    found["_core._run", "Nursery.start"] = TrioPrimitive("task", "Nursery.start", state.start, Waiting.children)
    for module in ("_core._run", "_core._generated_run"):
        add(module, "wait_all_tasks_blocked", "event", state.nothing)
    add("_threads", "to_thread_run_sync", "thread", state.thread, "to_thread.run_sync")
    add("_threads", "wait_all_threads_completed", "thread", state.nothing)
    add("_signals", "SignalReceiver.__anext__", "io", state.nothing)
    add("_subprocess", "Process.wait", "process", state.process)
    add("_subprocess", "_run_process", "process", state.process, "run_process")
    for function in ("getaddrinfo", "getnameinfo"):
        add("_socket", function, "thread", state.thread, f"socket.{function}")
    add("_socket", "_make_simple_sock_method_wrapper.<locals>.wrapper", "io", state.peer, "socket.")
    add("_socket", "_SocketType.accept", "io", state.listener, "socket.accept")
    for method in ("connect", "sendto", "sendmsg", "wait_writable"):
        add("_socket", f"_SocketType.{method}", "io", state.peer, f"socket.{method}")
    for method in ("send_all", "wait_send_all_might_not_block", "receive_some"):
        add("_highlevel_socket", f"SocketStream.{method}", "io", state.peer)
        add("_unix_pipes", f"FdStream.{method}", "io", state.pipe)
        add("_windows_pipes", f"PipeSendStream.{method}", "io", state.nothing)
        add("_windows_pipes", f"PipeReceiveStream.{method}", "io", state.nothing)
        add("_ssl", f"SSLStream.{method}", "io", state.peer)
    for method in ("do_handshake", "unwrap", "aclose"):
        add("_ssl", f"SSLStream.{method}", "io", state.peer)
    add("_highlevel_socket", "SocketListener.accept", "io", state.listener)
    add("_ssl", "SSLListener.accept", "io", state.listener)
    for backend in ("epoll", "kqueue", "windows"):
        for function in ("wait_readable", "wait_writable"):
            add(f"_core._generated_io_{backend}", function, "io", state.file_descriptor)
    add("_wait_for_object", "WaitForSingleObject", "io", state.nothing)
    return found


def _anyio() -> dict[tuple[str, str], TrioPrimitive]:
    found: dict[tuple[str, str], TrioPrimitive] = {}
    backend = "_backends._trio"

    def add(module: str, function: str, kind: str, read: Read, name: str | None = None) -> None:
        found[module, function] = TrioPrimitive(kind, name or function, read)

    add(backend, "Event.wait", "event", state.event)
    add(backend, "Lock.acquire", "lock", state.lock)
    add(backend, "Semaphore.acquire", "semaphore", state.semaphore)
    add(backend, "CapacityLimiter.acquire", "semaphore", state.limiter)
    add(backend, "CapacityLimiter.acquire_on_behalf_of", "semaphore", state.limiter)
    found[backend, "TaskGroup.__aexit__"] = TrioPrimitive(
        "tasks", "TaskGroup.__aexit__", state.nursery("TaskGroup"), Waiting.children
    )
    found[backend, "TaskGroup.start"] = TrioPrimitive("task", "TaskGroup.start", state.start, Waiting.children)
    add(backend, "_SignalReceiver.__anext__", "io", state.signals, "open_signal_receiver")
    add(backend, "Process.wait", "process", state.process)
    for kind in (
        "SocketStream",
        "UDPSocket",
        "ConnectedUDPSocket",
        "UNIXDatagramSocket",
        "ConnectedUNIXDatagramSocket",
    ):
        for method in ("receive", "send"):
            add(backend, f"{kind}.{method}", "io", state.peer)
    for method in ("receive_fds", "send_fds"):
        add(backend, f"UNIXSocketStream.{method}", "io", state.peer)
    for kind in ("TCPSocketListener", "UNIXSocketListener"):
        add(backend, f"{kind}.accept", "io", state.listener, "SocketListener.accept")
    add(backend, "ReceiveStreamWrapper.receive", "io", state.nothing, "ByteReceiveStream.receive")
    add(backend, "SendStreamWrapper.send", "io", state.nothing, "ByteSendStream.send")
    for end in ("readable", "writable"):
        for function in (f"wait_{end}", f"wait_socket_{end}"):  # the second one before AnyIO 4.7
            add(backend, f"TrioBackend.{function}", "io", state.file_descriptor, f"wait_{end}")
    for function in ("wait", "wait_for"):
        add("_core._synchronization", f"Condition.{function}", "condition", state.condition)
    for function in ("wait", "__await__"):
        name = f"TaskHandle.{function}"
        found["_core._tasks", name] = TrioPrimitive("task", name, state.nothing, Waiting.handled)
    for function in ("sleep", "sleep_until"):
        add("_core._eventloop", function, "timer", state.timer)
    add("_core._eventloop", "sleep_forever", "timer", state.for_ever)
    add("_core._testing", "wait_all_tasks_blocked", "event", state.nothing)
    add("_core._subprocesses", "run_process", "process", state.process)
    for function in ("connect_tcp", "connect_unix"):
        add("_core._sockets", function, "io", state.nothing)
    for function in ("getaddrinfo", "getnameinfo"):
        add("_core._sockets", function, "thread", state.nothing)
    add("to_thread", "run_sync", "thread", state.thread, "to_thread.run_sync")
    add("to_interpreter", "run_sync", "thread", state.nothing, "to_interpreter.run_sync")
    add("to_process", "run_sync", "process", state.process, "to_process.run_sync")
    add("from_thread", "BlockingPortal.sleep_until_stopped", "event", state.portal)
    found["from_thread", "BlockingPortal.__aexit__"] = TrioPrimitive(
        "tasks", "BlockingPortal.__aexit__", state.nursery("BlockingPortal"), Waiting.children
    )
    add("from_thread", "BlockingPortal.call_async", "thread", state.nothing)
    add("streams.memory", "MemoryObjectSendStream.send", "queue", state.memory_stream)
    add("streams.memory", "MemoryObjectReceiveStream.receive", "queue", state.memory_stream)
    return found


PRIMITIVES: Final = {
    **{(TRIO, *function): primitive for function, primitive in _trio().items()},
    **{(ANYIO, *function): primitive for function, primitive in _anyio().items()},
}
