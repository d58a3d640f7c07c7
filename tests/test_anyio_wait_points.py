"""What a task waits for: every primitive of AnyIO on asyncio, with the state it is in."""

from __future__ import annotations

import math
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import anyio.from_thread
import anyio.to_thread
import pytest
from conftest import Run

from taskscope import TaskRecord, TaskScope

HAS_HANDLES = hasattr(anyio, "TaskHandle")

Wait = Callable[[], Coroutine[Any, Any, Any]]


pytestmark = pytest.mark.usefixtures("eager_tasks_are_known_to_anyio")


async def hang() -> None:
    await anyio.Event().wait()


# What a task is to wait in. The second part is what the report says: kind, primitive, and a pattern for the detail.
async def event() -> None:
    await hang()


async def event_made_before_a_loop_ran() -> None:
    await EARLY_EVENTS.pop().wait()


async def lock() -> None:
    lock = anyio.Lock()

    async def hold() -> None:
        async with lock:
            await hang()

    async with anyio.create_task_group() as group:
        group.start_soon(hold, name="other")
        await anyio.sleep(0.001)
        async with lock:
            pass


async def semaphore() -> None:
    async with anyio.Semaphore(0, max_value=2):
        pass


async def limiter() -> None:
    limiter = anyio.CapacityLimiter(1)
    await limiter.acquire_on_behalf_of("somebody")
    async with limiter:
        pass


async def limiter_for_another() -> None:
    limiter = anyio.CapacityLimiter(2)
    for borrower in range(3):
        await limiter.acquire_on_behalf_of(borrower)


async def condition() -> None:
    condition = anyio.Condition()
    async with condition:
        await condition.wait()


async def condition_wait_for() -> None:
    condition = anyio.Condition()
    async with condition:
        await condition.wait_for(lambda: False)


async def condition_notified() -> None:
    condition = anyio.Condition()

    async def notify_and_keep() -> None:
        async with condition:
            condition.notify()
            await hang()

    async with anyio.create_task_group() as group:
        async with condition:
            group.start_soon(notify_and_keep, name="other")
            await condition.wait()


async def send_to_nobody() -> None:
    send, receive = anyio.create_memory_object_stream[int]()
    with send, receive:
        await send.send(1)


async def send_to_a_full_buffer() -> None:
    send, receive = anyio.create_memory_object_stream[int](2)
    with send, receive, receive.clone():
        for number in range(3):
            await send.send(number)


async def receive() -> None:
    send, receive = anyio.create_memory_object_stream[int](math.inf)
    with send, receive:
        async for _ in receive:
            pass


async def group_exit() -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(hang, name="other")


async def group_start() -> None:
    async def never_starts(*, task_status: anyio.abc.TaskStatus[None]) -> None:
        await hang()

    async with anyio.create_task_group() as group:
        await group.start(never_starts, name="other")


async def handle_wait() -> None:
    async with anyio.create_task_group() as group:
        await group.create_task(hang(), name="other").wait()


async def handle_awaited() -> None:
    async with anyio.create_task_group() as group:
        await group.create_task(hang(), name="other")


async def sleep() -> None:
    await anyio.sleep(60)


async def sleep_forever() -> None:
    await anyio.sleep_forever()


async def sleep_until() -> None:
    await anyio.sleep_until(anyio.current_time() + 60)


async def in_a_thread() -> None:
    release = threading.Event()
    try:
        await anyio.to_thread.run_sync(release.wait, abandon_on_cancel=True)
    finally:
        release.set()


async def no_thread_is_free() -> None:
    limiter = anyio.CapacityLimiter(1)
    await limiter.acquire_on_behalf_of("somebody")
    await anyio.to_thread.run_sync(int, limiter=limiter)


async def portal_sleeps() -> None:
    async with anyio.from_thread.BlockingPortal() as portal:
        await portal.sleep_until_stopped()


async def under_a_timeout() -> None:
    with anyio.fail_after(60):
        await hang()


async def under_a_shield_under_a_timeout() -> None:
    with anyio.fail_after(60), anyio.CancelScope(shield=True) as scope:
        SHIELDS.append(scope)
        await hang()


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[anyio.abc.SocketStream, anyio.abc.SocketStream]]:
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        async with await anyio.connect_tcp("127.0.0.1", port) as near, await listener.listeners[0].accept() as far:
            yield near, far


async def socket_receive() -> None:
    async with connected() as (near, _):
        await near.receive()


async def socket_send() -> None:
    async with connected() as (_, far):  # what has connected reads nothing until it is asked to
        while True:
            await far.send(bytes(1 << 20))


async def accept() -> None:
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        await listener.listeners[0].accept()


async def serve() -> None:
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        await listener.listeners[0].serve(handle)


async def handle(stream: anyio.abc.SocketStream) -> None: ...


@asynccontextmanager
async def unix_connected() -> AsyncIterator[tuple[anyio.abc.SocketStream, anyio.abc.SocketStream]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "socket")
        async with await anyio.create_unix_listener(path) as listener:
            async with await anyio.connect_unix(path) as near, await listener.accept() as far:
                yield near, far


async def unix_receive() -> None:
    async with unix_connected() as (near, _):
        await near.receive()


async def unix_send() -> None:
    async with unix_connected() as (near, _):
        while True:
            await near.send(bytes(1 << 20))


async def unix_accept() -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with await anyio.create_unix_listener(Path(folder, "socket")) as listener:
            await listener.accept()


async def udp_receive() -> None:
    async with await anyio.create_udp_socket(local_host="127.0.0.1") as udp:
        await udp.receive()


async def connected_udp_receive() -> None:
    async with await anyio.create_connected_udp_socket("127.0.0.1", 9) as udp:
        await udp.receive()


async def unix_datagram_receive() -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with await anyio.create_unix_datagram_socket(local_path=Path(folder, "socket")) as datagrams:
            await datagrams.receive()


async def readable() -> None:
    near, far = socket.socketpair()
    near.setblocking(False)
    with near, far:
        await getattr(anyio, "wait_readable", getattr(anyio, "wait_socket_readable", None))(near)


async def writable() -> None:
    near, far = socket.socketpair()
    near.setblocking(False)
    with near, far:
        try:
            while True:
                near.send(bytes(1 << 16))
        except BlockingIOError:
            await getattr(anyio, "wait_writable", getattr(anyio, "wait_socket_writable", None))(near)


@asynccontextmanager
async def process() -> AsyncIterator[anyio.abc.Process]:
    process = await anyio.open_process([sys.executable, "-c", "input()"], stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        with anyio.CancelScope(shield=True):
            await process.aclose()


async def process_wait() -> None:
    async with process() as made:
        await made.wait()


async def process_output() -> None:
    async with process() as made:
        assert made.stdout is not None
        await made.stdout.receive()


async def signals() -> None:
    with anyio.open_signal_receiver(signal.SIGUSR1, signal.SIGUSR2) as receiver:
        async for _ in receiver:
            pass


EARLY_EVENTS: list[anyio.Event] = []
SHIELDS: list[anyio.CancelScope] = []

WAITS: list[tuple[Wait, str, str, str]] = [
    (event, "event", "Event.wait", "Event not set"),
    (lock, "lock", "Lock.acquire", "Lock held by task 'other'"),
    (semaphore, "semaphore", "Semaphore.acquire", "Semaphore at 0"),
    (limiter, "semaphore", "CapacityLimiter.acquire", "CapacityLimiter with 1 of 1 tokens borrowed"),
    (
        limiter_for_another,
        "semaphore",
        "CapacityLimiter.acquire_on_behalf_of",
        "CapacityLimiter with 2 of 2 tokens borrowed",
    ),
    (condition, "condition", "Condition.wait", "Condition not notified"),
    (condition_wait_for, "condition", "Condition.wait_for", "Condition not notified"),
    (
        condition_notified,
        "condition",
        "Condition.wait",
        "Condition notified or cancelled, its lock held by task 'other'",
    ),
    (
        send_to_nobody,
        "queue",
        "MemoryObjectSendStream.send",
        "buffer 0 of 0; 1 sender and 1 receiver open; 1 waiting to send",
    ),
    (
        send_to_a_full_buffer,
        "queue",
        "MemoryObjectSendStream.send",
        "buffer 2 of 2; 1 sender and 2 receivers open; 1 waiting to send",
    ),
    (
        receive,
        "queue",
        "MemoryObjectReceiveStream.receive",
        "buffer 0 of unlimited; 1 sender and 1 receiver open; 1 waiting to receive",
    ),
    (group_exit, "tasks", "TaskGroup.__aexit__", "TaskGroup with 1 pending"),
    (group_start, "task", "TaskGroup.start", r"task_status.started\(\) not called yet"),
    (handle_wait, "task", "TaskHandle.wait", ""),
    (handle_awaited, "task", "TaskHandle.__await__", ""),
    (sleep, "timer", "sleep", r"\d\d(\.\d)? s left.*"),
    (sleep_forever, "timer", "sleep_forever", "for ever"),
    (sleep_until, "timer", "sleep_until", r"\d\d(\.\d)? s left.*"),
    (in_a_thread, "thread", "to_thread.run_sync", "running in a thread"),
    (
        no_thread_is_free,
        "thread",
        "to_thread.run_sync",
        "no thread free: CapacityLimiter with 1 of 1 tokens borrowed",
    ),
    (portal_sleeps, "event", "BlockingPortal.sleep_until_stopped", "BlockingPortal not stopped"),
    (under_a_timeout, "event", "Event.wait", r"Event not set; a timeout ends it in \d\d(\.\d)? s"),
    (under_a_shield_under_a_timeout, "event", "Event.wait", "Event not set"),
    (socket_receive, "io", "SocketStream.receive", r"peer 127\.0\.0\.1:\d+"),
    (socket_send, "io", "SocketStream.send", r"peer 127\.0\.0\.1:\d+"),
    (accept, "io", "SocketListener.accept", r"listening on 127\.0\.0\.1:\d+"),
    (serve, "io", "SocketListener.accept", r"listening on 127\.0\.0\.1:\d+"),
    (unix_receive, "io", "UNIXSocketStream.receive", "peer .*/socket"),
    (unix_send, "io", "UNIXSocketStream.send", "peer .*/socket"),
    (unix_accept, "io", "SocketListener.accept", "listening on .*/socket"),
    (udp_receive, "io", "UDPSocket.receive", r"socket on 127\.0\.0\.1:\d+"),
    (connected_udp_receive, "io", "ConnectedUDPSocket.receive", r"peer 127\.0\.0\.1:9"),
    (unix_datagram_receive, "io", "UNIXDatagramSocket.receive", r"socket \d+"),
    (readable, "io", "wait_readable", r"descriptor \d+"),
    (writable, "io", "wait_writable", r"descriptor \d+"),
    (process_wait, "process", "Process.wait", r"process \d+"),
    (process_output, "io", "ByteReceiveStream.receive", ""),
    (signals, "io", "open_signal_receiver", "SIGUSR1, SIGUSR2"),
    (event_made_before_a_loop_ran, "event", "Event.wait", "Event not set"),
]

VERDICTS = {"timer": "sleeping", "io": "io", "process": "io", "task": "joining", "tasks": "joining"}

WITH_ONLY_SOME_VERSIONS = {
    handle_wait: HAS_HANDLES,
    handle_awaited: HAS_HANDLES,
    condition_wait_for: hasattr(anyio.Condition, "wait_for"),
}


async def record_of(wait: Wait, primitive: str, detail: str) -> TaskRecord:
    """The record of a task that has come to wait as it should. Some get there by way of others."""
    async with TaskScope(grace=0, on_leak="ignore") as scope, anyio.create_task_group() as group:
        group.start_soon(wait, name="waiting")
        for _ in range(500):
            await anyio.sleep(0.002)
            records = scope.snapshot().leaks
            record = next(record for record in records if record.name == "waiting")
            if record.wait is None or any(record.verdict == "runnable" for record in records):
                continue  # until the tasks that it has started have begun, too
            if record.wait.primitive == primitive and re.fullmatch(detail, record.wait.detail or ""):
                break
        group.cancel_scope.cancel()
        while SHIELDS:
            SHIELDS.pop().cancel()
    return record


@pytest.mark.parametrize(("wait", "kind", "primitive", "detail"), WAITS, ids=[wait.__name__ for wait, *_ in WAITS])
def test_primitive(run: Run, wait: Wait, kind: str, primitive: str, detail: str) -> None:
    if not WITH_ONLY_SOME_VERSIONS.get(wait, True):
        pytest.skip("not in this version of AnyIO")

    async def main() -> TaskRecord:
        return await record_of(wait, primitive, detail)

    EARLY_EVENTS[:] = [anyio.Event()]
    record = run(main)
    assert record.coroutine == wait.__name__
    assert record.wait is not None, record
    assert (record.wait.kind, record.wait.primitive) == (kind, primitive)
    assert re.fullmatch(detail, record.wait.detail or ""), record.wait.detail
    is_endless = record.wait.detail == "for ever"
    assert record.verdict == ("blocked" if is_endless else VERDICTS.get(kind, "blocked"))
    if kind in ("task", "tasks"):
        assert record.wait.awaited == ("other",)
        assert record.wait.path == ("other",)
    # A user sees his own frames, and then the primitive, but nothing of how it is made.
    own = [place for place, frame in enumerate(record.stack) if frame.file == __file__]
    assert own == list(range(len(own))) and own, record.stack
    assert len(record.stack) <= len(own) + 1 + (wait is serve), record.stack
