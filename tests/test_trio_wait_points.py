"""What a task of Trio's waits for: every primitive of Trio and of AnyIO on top of it, with the state it is in."""

from __future__ import annotations

import re
import signal
import ssl
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, NoReturn

import anyio
import anyio.lowlevel
import pytest
import trio
import trio.testing

from taskscope import TaskRecord
from taskscope._diagnosis.diagnosis import Diagnosis
from taskscope._diagnosis.tasks import is_ended
from taskscope._table import NO_SITE

Waits = Callable[[], Coroutine[Any, Any, Any]]


# Each comes to wait in something. The second part is what the report says: kind, primitive, a pattern for the detail.
async def event() -> None:
    await trio.Event().wait()


async def lock() -> None:
    lock = trio.Lock()
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(hold, lock), name="other")
        async with lock:
            pass


async def fifo_lock() -> None:
    lock = trio.StrictFIFOLock()
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(hold, lock), name="other")
        await lock.acquire()


async def hold(lock: Any, task_status: Any) -> None:
    async with lock:
        task_status.started()
        await hang()


async def hang() -> NoReturn:
    await trio.Event().wait()
    raise AssertionError("nothing sets it")


async def condition() -> None:
    condition = trio.Condition()
    async with condition:
        await condition.wait()


async def condition_notified() -> None:
    condition = trio.Condition()

    async def notify_and_keep() -> None:
        async with condition:
            condition.notify_all()
            await hang()

    async with trio.open_nursery() as nursery:
        async with condition:
            nursery.start_soon(notify_and_keep, name="other")
            await condition.wait()


async def semaphore() -> None:
    await trio.Semaphore(0).acquire()


async def limiter() -> None:
    limiter = trio.CapacityLimiter(1)
    limiter.acquire_on_behalf_of_nowait("somebody")
    await limiter.acquire()


async def limiter_for_somebody() -> None:
    limiter = trio.CapacityLimiter(1)
    limiter.acquire_on_behalf_of_nowait("somebody")
    await limiter.acquire_on_behalf_of("somebody else")


async def channel_send() -> None:
    send, receive = trio.open_memory_channel[int](1)
    with send, receive:
        await send.send(1)
        await send.send(2)


async def channel_receive() -> None:
    send, receive = trio.open_memory_channel[int](3)
    with send, receive, send.clone():
        async for _ in receive:
            pass


async def unbounded_queue() -> None:
    with pytest.warns(trio.TrioDeprecationWarning):
        queue = trio.lowlevel.UnboundedQueue[int]()
    await queue.get_batch()


async def sleep() -> None:
    await trio.sleep(60)


async def sleep_until() -> None:
    await trio.sleep_until(trio.current_time() + 60)


async def sleep_forever() -> None:
    await trio.sleep_forever()


async def nursery() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hang, name="other")


async def nursery_start() -> None:
    async def never(task_status: Any) -> None:
        await hang()

    async with trio.open_nursery() as nursery:
        await nursery.start(never, name="other")


async def to_thread() -> None:
    release = threading.Event()
    with _at_the_end(release.set):
        await trio.to_thread.run_sync(release.wait, abandon_on_cancel=True)


async def to_thread_in_a_queue() -> None:
    limiter = trio.CapacityLimiter(1)
    limiter.acquire_on_behalf_of_nowait("somebody")
    await trio.to_thread.run_sync(int, limiter=limiter)


async def from_thread() -> None:
    await trio.to_thread.run_sync(partial(trio.from_thread.run, trio.Event().wait))


async def socket_receive() -> None:
    near, far = trio.socket.socketpair()
    with near, far:
        await near.recv(1)


async def socket_accept() -> None:
    with trio.socket.socket() as server:
        await server.bind(("127.0.0.1", 0))
        server.listen()
        await server.accept()


async def stream_receive() -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listeners[0], await trio.testing.open_stream_to_socket_listener(listeners[0]) as stream:
        await stream.receive_some()


async def stream_send() -> None:
    near, far = trio.socket.socketpair()
    with near, far:
        await trio.SocketStream(near).send_all(bytes(1 << 26))


async def listener_accept() -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listeners[0]:
        await listeners[0].accept()


async def ssl_handshake() -> None:
    near, far = trio.socket.socketpair()
    with near, far:
        await trio.SSLStream(trio.SocketStream(near), ssl.create_default_context(), server_hostname="x").do_handshake()


async def process_wait() -> None:
    process = await trio.lowlevel.open_process([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        await process.wait()
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


async def run_process() -> None:
    await trio.run_process([sys.executable, "-c", "import time; time.sleep(60)"])


async def wait_readable() -> None:
    near, far = trio.socket.socketpair()
    with near, far:
        await trio.lowlevel.wait_readable(near.fileno())


async def signals() -> None:
    with trio.open_signal_receiver(signal.SIGUSR1) as received:
        async for _ in received:
            pass


async def all_tasks_blocked() -> None:
    await trio.testing.wait_all_tasks_blocked(60)


async def parking_lot() -> None:
    await trio.lowlevel.ParkingLot().park()


class Channel:
    async def send(self) -> None:
        await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.SUCCEEDED)


async def a_users_own() -> None:
    await Channel().send()


async def in_an_async_generator() -> None:
    async def numbers() -> AsyncIterator[int]:
        await trio.Semaphore(0).acquire()
        yield 1

    async for _ in numbers():
        pass


async def under_a_deadline() -> None:
    with trio.move_on_after(60), trio.CancelScope():
        await trio.Event().wait()


async def shielded_from_a_deadline() -> None:
    with trio.move_on_after(60), trio.CancelScope(shield=True) as shield:
        _shields.append(shield)
        await trio.Event().wait()


_shields: list[trio.CancelScope] = []
"""Scopes that a test has to cancel itself, for what is inside of them to end."""


async def anyio_event() -> None:
    await anyio.Event().wait()


async def anyio_lock() -> None:
    await _anyio_lock(anyio.Lock())


async def anyio_fast_lock() -> None:
    await _anyio_lock(anyio.Lock(fast_acquire=True))


async def _anyio_lock(lock: anyio.Lock) -> None:
    async with anyio.create_task_group() as group:
        await group.start(partial(hold, lock), name="other")
        async with lock:
            pass


async def anyio_semaphore() -> None:
    await anyio.Semaphore(0, fast_acquire=True).acquire()


async def anyio_limiter() -> None:
    limiter = anyio.CapacityLimiter(1)
    limiter.acquire_on_behalf_of_nowait("somebody")
    async with limiter:
        pass


async def anyio_task_group() -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(hang, name="other")


async def anyio_start() -> None:
    async def never(task_status: Any) -> None:
        await hang()

    async with anyio.create_task_group() as group:
        await group.start(never, name="other")


async def anyio_to_thread() -> None:
    release = threading.Event()
    with _at_the_end(release.set):
        await anyio.to_thread.run_sync(release.wait, abandon_on_cancel=True)


async def anyio_sleep() -> None:
    await anyio.sleep(60)


async def anyio_sleep_forever() -> None:
    await anyio.sleep_forever()


async def anyio_receive() -> None:
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener:
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            await stream.receive()


async def anyio_accept() -> None:
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        await listener.listeners[0].accept()


async def anyio_condition() -> None:
    condition = anyio.Condition()
    async with condition:
        await condition.wait()


async def anyio_condition_notified() -> None:
    condition = anyio.Condition()

    async def notify_and_keep() -> None:
        async with condition:
            condition.notify_all()
            await hang()

    async with anyio.create_task_group() as group, condition:
        group.start_soon(notify_and_keep, name="other")
        await condition.wait()


async def anyio_send() -> None:
    send, receive = anyio.create_memory_object_stream[int](0)
    with send, receive:
        await send.send(1)


async def anyio_receive_object() -> None:
    send, receive = anyio.create_memory_object_stream[int](float("inf"))
    with send, receive:
        await receive.receive()


async def anyio_signals() -> None:
    with anyio.open_signal_receiver(signal.SIGUSR1) as received:
        async for _ in received:
            pass


async def anyio_process() -> None:
    async with await anyio.open_process([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        await process.wait()


SECONDS = r"\d\d(\.\d)? s"

WAITS: list[tuple[Waits, str, str, str]] = [
    (event, "event", "Event.wait", "Event not set"),
    (lock, "lock", "Lock.acquire", "Lock held by task 'other'"),
    (fifo_lock, "lock", "Lock.acquire", "StrictFIFOLock held by task 'other'"),
    (condition, "condition", "Condition.wait", "Condition not notified"),
    (
        condition_notified,
        "condition",
        "Condition.wait",
        "Condition notified or cancelled, its lock held by task 'other'",
    ),
    (semaphore, "semaphore", "Semaphore.acquire", "Semaphore at 0"),
    (limiter, "semaphore", "CapacityLimiter.acquire", "CapacityLimiter with 1 of 1 tokens borrowed"),
    (
        limiter_for_somebody,
        "semaphore",
        "CapacityLimiter.acquire_on_behalf_of",
        "CapacityLimiter with 1 of 1 tokens borrowed",
    ),
    (
        channel_send,
        "queue",
        "MemorySendChannel.send",
        "buffer 1 of 1; 1 sender and 1 receiver open; 1 waiting to send",
    ),
    (
        channel_receive,
        "queue",
        "MemoryReceiveChannel.receive",
        "buffer 0 of 3; 2 senders and 1 receiver open; 1 waiting to receive",
    ),
    (unbounded_queue, "queue", "UnboundedQueue.get_batch", "UnboundedQueue with 0 in it"),
    (sleep, "timer", "sleep", f"{SECONDS} left"),
    (sleep_until, "timer", "sleep_until", f"{SECONDS} left"),
    (sleep_forever, "timer", "sleep_forever", "for ever"),
    (nursery, "tasks", "Nursery.__aexit__", "Nursery with 1 pending"),
    (nursery_start, "task", "Nursery.start", r"task_status.started\(\) not called yet"),
    (to_thread, "thread", "to_thread.run_sync", "running in a thread"),
    (
        to_thread_in_a_queue,
        "thread",
        "to_thread.run_sync",
        "no thread free: CapacityLimiter with 1 of 1 tokens borrowed",
    ),
    (from_thread, "event", "Event.wait", "Event not set"),
    (socket_receive, "io", "socket.recv", r"socket \d+"),
    (socket_accept, "io", "socket.accept", r"listening on 127.0.0.1:\d+"),
    (stream_receive, "io", "SocketStream.receive_some", r"peer 127\.0\.0\.1:\d+"),
    (stream_send, "io", "SocketStream.send_all", r"socket \d+"),
    (listener_accept, "io", "SocketListener.accept", r"listening on 127.0.0.1:\d+"),
    (ssl_handshake, "io", "SSLStream.do_handshake", r"socket \d+"),
    (process_wait, "process", "Process.wait", r"process \d+"),
    (run_process, "process", "run_process", r"process \d+"),
    (wait_readable, "io", "wait_readable", r"descriptor \d+"),
    (signals, "io", "SignalReceiver.__anext__", ""),
    (all_tasks_blocked, "event", "wait_all_tasks_blocked", ""),
    (parking_lot, "reschedule", "ParkingLot.park", "ParkingLot with 1 parked"),
    (a_users_own, "reschedule", "Channel.send", "a bare wait_task_rescheduled"),
    (in_an_async_generator, "semaphore", "Semaphore.acquire", "Semaphore at 0"),
    (under_a_deadline, "event", "Event.wait", f"Event not set; a timeout ends it in {SECONDS}"),
    (shielded_from_a_deadline, "event", "Event.wait", "Event not set"),
    (anyio_event, "event", "Event.wait", "Event not set"),
    (anyio_lock, "lock", "Lock.acquire", "Lock held by task 'other'"),
    (anyio_fast_lock, "lock", "Lock.acquire", "Lock held by task 'other'"),
    (anyio_semaphore, "semaphore", "Semaphore.acquire", "Semaphore at 0"),
    (anyio_limiter, "semaphore", "CapacityLimiter.acquire", "CapacityLimiter with 1 of 1 tokens borrowed"),
    (anyio_task_group, "tasks", "TaskGroup.__aexit__", "TaskGroup with 1 pending"),
    (anyio_start, "task", "TaskGroup.start", r"task_status.started\(\) not called yet"),
    (anyio_to_thread, "thread", "to_thread.run_sync", "running in a thread"),
    (anyio_sleep, "timer", "sleep", f"{SECONDS} left"),
    (anyio_sleep_forever, "timer", "sleep_forever", "for ever"),
    (anyio_receive, "io", "SocketStream.receive", r"peer 127\.0\.0\.1:\d+"),
    (anyio_accept, "io", "SocketListener.accept", r"listening on 127.0.0.1:\d+"),
    (anyio_process, "process", "Process.wait", r"process \d+"),
    (anyio_condition, "condition", "Condition.wait", "Condition not notified"),
    (
        anyio_condition_notified,
        "condition",
        "Condition.wait",
        "Condition notified or cancelled, its lock held by task 'other'",
    ),
    (
        anyio_send,
        "queue",
        "MemoryObjectSendStream.send",
        "buffer 0 of 0; 1 sender and 1 receiver open; 1 waiting to send",
    ),
    (
        anyio_receive_object,
        "queue",
        "MemoryObjectReceiveStream.receive",
        "buffer 0 of unlimited; 1 sender and 1 receiver open; 1 waiting to receive",
    ),
    (anyio_signals, "io", "open_signal_receiver", "SIGUSR1"),
]

VERDICTS = {
    "sleep": "sleeping",
    "sleep_until": "sleeping",
    "io": "io",
    "process": "io",
    "task": "joining",
    "tasks": "joining",
}


class _at_the_end:
    """A `with` block that calls a function when it is left."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self._call()


def records_of(*waits: Callable[..., Awaitable[Any]]) -> dict[str, TaskRecord]:
    """The records of all tasks, by name, once some functions, which run under their own names, have come to wait."""

    async def main() -> dict[str, TaskRecord]:
        async with trio.open_nursery() as nursery:
            for function in waits:
                nursery.start_soon(function, name=function.__name__)
            await trio.testing.wait_all_tasks_blocked(0.03)
            tasks = [task for task in _all_tasks() if not is_ended(task)]
            diagnosis = Diagnosis(tasks)
            found = {task.name: diagnosis.record(task, NO_SITE) for task in tasks}
            for scope in (nursery.cancel_scope, *_shields):
                scope.cancel()
            _shields.clear()
        return found

    return trio.run(main)


def _all_tasks() -> list[Any]:
    root = trio.lowlevel.current_root_task()
    found: list[Any] = [root]
    for task in found:
        found += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    return found


@pytest.mark.parametrize(("waits", "kind", "primitive", "detail"), WAITS, ids=[waits.__name__ for waits, *_ in WAITS])
def test_primitive(waits: Waits, kind: str, primitive: str, detail: str) -> None:
    record = records_of(waits)[waits.__name__]
    assert record.wait is not None, record
    assert (record.wait.kind, record.wait.primitive) == (kind, primitive)
    assert re.fullmatch(detail, record.wait.detail or ""), record.wait.detail
    assert record.verdict == (VERDICTS.get(primitive) or VERDICTS.get(kind, "blocked"))
    assert record.coroutine == waits.__name__
    if kind in ("task", "tasks"):
        assert record.wait.awaited == ("other",)
        assert record.wait.path == ("other",)
    assert record.stack[0].function == waits.__name__
    functions = {frame.function for frame in record.stack}
    assert not functions & {"wait_task_rescheduled", "_async_yield", "Nursery._nested_child_finished"}


def test_tasks_are_told_apart_by_whether_anything_keeps_them_from_going_on() -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 0, name="brief")
            nursery.start_soon(trio.lowlevel.checkpoint, name="unstarted")
            brief, unstarted = sorted(nursery.child_tasks, key=lambda task: task.name)
            running = trio.lowlevel.current_task()
            diagnosis = Diagnosis([brief, unstarted, running])
            for task in (brief, unstarted, running):
                record = diagnosis.record(task, NO_SITE)
                assert (record.verdict, record.wait) == ("runnable", None)
            assert diagnosis.record(running, NO_SITE).stack[0].function.endswith(".main")
        assert is_ended(brief) and is_ended(unstarted) and not is_ended(running)
        assert Diagnosis().record(brief, NO_SITE).stack_note == "the task has ended"
        assert Diagnosis().record(brief, NO_SITE).coroutine == "sleep"

    trio.run(main)


def test_tasks_that_wait_for_each_other_are_named_as_a_chain() -> None:
    async def outer() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(middle, name="middle")

    async def middle() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hang, name="inner")
            nursery.start_soon(hang, name="another")

    wait = records_of(outer)["outer"].wait
    assert wait is not None
    assert (wait.awaited, wait.path) == (("middle",), ("middle", "inner"))


def test_a_coroutine_that_was_taken_over_is_seen_through() -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hang, name="taken over")
            await trio.testing.wait_all_tasks_blocked()
            (task,) = nursery.child_tasks
            own = task.coro
            task.coro = _TakenOver(own)
            record = Diagnosis().record(task, NO_SITE)
            task.coro = own
            nursery.cancel_scope.cancel()
        assert [frame.function for frame in record.stack] == ["hang", "Event.wait"]
        assert record.coroutine == "hang"

    trio.run(main)


class _TakenOver:
    """Stands for what taskscope puts in the place of a coroutine."""

    __module__ = "taskscope._backends"

    def __init__(self, coro: Any) -> None:
        self._coro = coro


def test_broken_tasks_are_told_of_all_the_same() -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hang, name="broken")
            await trio.testing.wait_all_tasks_blocked()
            (task,) = nursery.child_tasks
            own = task.coro
            for broken in (None, 1, object(), _TakenOver(None)):
                task.coro, task.name = broken, broken
                record = Diagnosis([task]).record(task, NO_SITE)
                assert (record.name, record.verdict) == ("<unknown>", "blocked")
            task.coro, task.name = own, "mended"
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_the_task_of_a_handle_is_the_one_waited_for() -> None:
    async def waits() -> None:
        async with anyio.create_task_group() as group:
            await group.create_task(hang(), name="other")

    if not hasattr(anyio, "TaskHandle"):
        pytest.skip("AnyIO has handles of tasks since 4.14")
    wait = records_of(waits)["waits"].wait
    assert wait is not None
    assert (wait.kind, wait.primitive, wait.awaited) == ("task", "TaskHandle.__await__", ("other",))


def test_tasks_of_anyio_go_by_the_functions_that_users_have_written() -> None:
    async def waits() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(hang, name="soon")
            await group.start(started, name="started")

    async def started(task_status: Any) -> None:
        task_status.started()
        await hang()

    records = records_of(waits)
    assert records["soon"].coroutine == "hang"
    assert records["started"].coroutine.endswith("<locals>.started")
    assert [frame.function for frame in records["soon"].stack] == ["hang", "Event.wait"]
