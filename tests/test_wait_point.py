"""What a task waits for: every primitive of asyncio, with the state it is in."""

from __future__ import annotations

import asyncio
import concurrent.futures
import math
import re
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
from conftest import Run

from taskscope import TaskRecord, TaskScope

Setting = Callable[[], Coroutine[Any, Any, Coroutine[Any, Any, Any]]]


async def hang() -> None:
    await asyncio.Event().wait()


async def awaiting(awaitable: Any) -> None:
    await awaitable


# Each makes what a task is to wait in, and returns the coroutine that does. The second part is what the report says:
# kind, primitive, and a pattern for the detail.
async def queue_get() -> Coroutine[Any, Any, Any]:
    return asyncio.Queue[int]().get()


async def queue_put() -> Coroutine[Any, Any, Any]:
    queue: asyncio.Queue[int] = asyncio.Queue(maxsize=1)
    queue.put_nowait(1)
    return queue.put(2)


async def priority_queue_put() -> Coroutine[Any, Any, Any]:
    queue: asyncio.PriorityQueue[int] = asyncio.PriorityQueue(maxsize=2)
    queue.put_nowait(1)
    queue.put_nowait(2)
    return queue.put(3)


async def queue_join() -> Coroutine[Any, Any, Any]:
    queue: asyncio.Queue[int] = asyncio.Queue()
    queue.put_nowait(1)
    return queue.join()


async def lock() -> Coroutine[Any, Any, Any]:
    lock = asyncio.Lock()
    await lock.acquire()
    return lock.acquire()


async def lock_in_a_block() -> Coroutine[Any, Any, Any]:
    lock = asyncio.Lock()

    async def twice() -> None:
        async with lock, lock:
            pass

    return twice()


async def semaphore() -> Coroutine[Any, Any, Any]:
    return asyncio.BoundedSemaphore(0).acquire()


async def event() -> Coroutine[Any, Any, Any]:
    return asyncio.Event().wait()


async def condition() -> Coroutine[Any, Any, Any]:
    async def wait() -> None:
        condition = asyncio.Condition()
        async with condition:
            await condition.wait()

    return wait()


async def condition_wait_for() -> Coroutine[Any, Any, Any]:
    async def wait() -> None:
        condition = asyncio.Condition()
        async with condition:
            await condition.wait_for(lambda: False)

    return wait()


async def condition_notified() -> Coroutine[Any, Any, Any]:
    async def wait() -> None:
        condition = asyncio.Condition()

        async def notify_and_keep() -> None:
            async with condition:
                condition.notify_all()
                await hang()

        async with condition:
            asyncio.create_task(notify_and_keep(), name="other")
            await condition.wait()

    return wait()


async def barrier() -> Coroutine[Any, Any, Any]:
    return asyncio.Barrier(3).wait()


async def sleep() -> Coroutine[Any, Any, Any]:
    return asyncio.sleep(60)


async def sleep_long() -> Coroutine[Any, Any, Any]:
    return asyncio.sleep(3_600)


async def sleep_without_end() -> Coroutine[Any, Any, Any]:
    return asyncio.sleep(math.inf)


async def task() -> Coroutine[Any, Any, Any]:
    return awaiting(asyncio.create_task(hang(), name="other"))


async def shield() -> Coroutine[Any, Any, Any]:
    return awaiting(asyncio.shield(asyncio.create_task(hang(), name="other")))


async def gather() -> Coroutine[Any, Any, Any]:
    return awaiting(asyncio.gather(asyncio.create_task(hang(), name="other"), asyncio.sleep(0)))


async def wait() -> Coroutine[Any, Any, Any]:
    return asyncio.wait([asyncio.create_task(hang(), name="other")])


async def as_completed() -> Coroutine[Any, Any, Any]:
    other = asyncio.create_task(hang(), name="other")

    async def all_of_them() -> None:
        for future in asyncio.as_completed([other]):
            await future

    return all_of_them()


async def task_group() -> Coroutine[Any, Any, Any]:
    async def group() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(hang(), name="other")

    return group()


async def executor() -> Coroutine[Any, Any, Any]:
    async def in_thread() -> None:
        release = threading.Event()
        try:
            await asyncio.get_running_loop().run_in_executor(None, release.wait)
        finally:
            release.set()

    return in_thread()


async def to_thread() -> Coroutine[Any, Any, Any]:
    async def in_thread() -> None:
        release = threading.Event()
        try:
            await asyncio.to_thread(release.wait)
        finally:
            release.set()

    return in_thread()


async def concurrent_future() -> Coroutine[Any, Any, Any]:
    return awaiting(asyncio.wrap_future(concurrent.futures.Future()))


class Channel:
    async def send(self) -> None:
        await asyncio.get_running_loop().create_future()


async def a_users_own() -> Coroutine[Any, Any, Any]:
    return Channel().send()


async def in_an_async_generator() -> Coroutine[Any, Any, Any]:
    async def numbers() -> AsyncIterator[int]:
        await asyncio.Queue[int]().get()
        yield 1

    async def consume() -> None:
        async for _ in numbers():
            pass

    return consume()


async def under_a_timeout() -> Coroutine[Any, Any, Any]:
    async def timed() -> None:
        async with asyncio.timeout(60):
            await asyncio.Event().wait()

    return timed()


async def stream_read() -> Coroutine[Any, Any, Any]:
    async def read() -> None:
        near, far = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=near)
        try:
            await reader.readline()
        finally:
            writer.close()
            far.close()

    return read()


async def stream_drain() -> Coroutine[Any, Any, Any]:
    async def write() -> None:
        near, far = socket.socketpair()
        _, writer = await asyncio.open_connection(sock=near)
        try:
            while True:
                writer.write(bytes(1 << 20))
                await writer.drain()
        finally:
            writer.transport.abort()
            far.close()

    return write()


async def socket_recv() -> Coroutine[Any, Any, Any]:
    async def receive() -> None:
        near, far = socket.socketpair()
        near.setblocking(False)
        with near, far:
            await asyncio.get_running_loop().sock_recv(near, 1)

    return receive()


async def socket_accept() -> Coroutine[Any, Any, Any]:
    async def accept() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.setblocking(False)
            await asyncio.get_running_loop().sock_accept(server)

    return accept()


async def serve_forever() -> Coroutine[Any, Any, Any]:
    async def serve() -> None:
        server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
        async with server:
            await server.serve_forever()

    return serve()


async def process_wait() -> Coroutine[Any, Any, Any]:
    async def run() -> None:
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", "input()", stdin=asyncio.subprocess.PIPE)
        try:
            await process.wait()
        finally:
            process.kill()
            await process.wait()

    return run()


async def process_communicate() -> Coroutine[Any, Any, Any]:
    async def run() -> None:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "import time; time.sleep(60)", stdin=pipe, stdout=pipe
        )
        try:
            await process.communicate()
        finally:
            process.kill()
            await process.wait()

    return run()


WAITS: list[tuple[Setting, str, str, str]] = [
    (queue_get, "queue", "Queue.get", "Queue unbounded, empty"),
    (queue_put, "queue", "Queue.put", "Queue maxsize=1, full"),
    (priority_queue_put, "queue", "Queue.put", "Queue maxsize=2, full"),
    (queue_join, "queue", "Queue.join", "Queue with 1 items not marked as done"),
    (lock, "lock", "Lock.acquire", "Lock held"),
    (lock_in_a_block, "lock", "Lock.acquire", "Lock held( by this very task)?"),
    (semaphore, "semaphore", "Semaphore.acquire", "Semaphore at 0"),
    (event, "event", "Event.wait", "Event not set"),
    (condition, "condition", "Condition.wait", "Condition not notified"),
    (condition_wait_for, "condition", "Condition.wait_for", "Condition not notified"),
    (condition_notified, "condition", "Condition.wait", "Condition notified or cancelled, its lock held .*"),
    (barrier, "barrier", "Barrier.wait", "Barrier with 1 of 3 parties"),
    (sleep, "timer", "sleep", r"\d\d(\.\d)? s left"),
    (sleep_long, "timer", "sleep", "3,(600|599) s left"),
    (sleep_without_end, "timer", "sleep", "for ever"),
    (task, "task", "task", ""),
    (shield, "task", "shield", ""),
    (gather, "tasks", "gather", ""),
    (wait, "tasks", "wait", ""),
    (as_completed, "tasks", "as_completed", ""),
    (task_group, "tasks", "TaskGroup.__aexit__", "TaskGroup with 1 pending"),
    (executor, "thread", "run_in_executor", "running in a thread"),
    (to_thread, "thread", "to_thread", ""),
    (concurrent_future, "thread", "run_in_executor", "not started yet"),
    (a_users_own, "future", "Channel.send", "a bare Future"),
    (in_an_async_generator, "queue", "Queue.get", "Queue unbounded, empty"),
    (under_a_timeout, "event", "Event.wait", r"Event not set; a timeout ends it in \d\d(\.\d)? s"),
    (stream_read, "io", "StreamReader.readline", ".*"),
    (stream_drain, "io", "StreamWriter.drain", ".*"),
    (socket_recv, "io", "loop.sock_recv", r"(socket|peer) .*"),
    (socket_accept, "io", "loop.sock_accept", r"socket \d+"),
    (serve_forever, "io", "Server.serve_forever", r"(Server on 127\.0\.0\.1:\d+)?"),
    (process_wait, "process", "Process.wait", r"process \d+"),
    (process_communicate, "process", "Process.communicate", r"process \d+"),
]

VERDICTS = {"timer": "sleeping", "io": "io", "process": "io", "task": "joining", "tasks": "joining"}


async def record_of(make: Setting) -> TaskRecord:
    """The record of a task that has come to wait in what `make` has made."""
    async with TaskScope(grace=0, on_leak="ignore") as scope:
        coroutine = await make()
        asyncio.create_task(coroutine, name="waiting")
        del coroutine
        for _ in range(500):
            await asyncio.sleep(0.001)
            record = next(record for record in scope.snapshot().leaks if record.name == "waiting")
            if record.wait is not None and record.wait.primitive not in ("future", "loop.getaddrinfo"):
                break
        await asyncio.sleep(0.02)  # and no further: some get to their last wait by way of others
        return next(record for record in scope.snapshot().leaks if record.name == "waiting")


@pytest.mark.parametrize(("make", "kind", "primitive", "detail"), WAITS, ids=[make.__name__ for make, *_ in WAITS])
def test_primitive(run: Run, make: Setting, kind: str, primitive: str, detail: str) -> None:
    async def main() -> TaskRecord:
        return await record_of(make)

    record = run(main)
    assert record.wait is not None, record
    assert (record.wait.kind, record.wait.primitive) == (kind, primitive)
    assert re.fullmatch(detail, record.wait.detail or ""), record.wait.detail
    if make is as_completed and sys.version_info < (3, 13):
        return  # before, what it waits in had no way to what it waits for
    expected = "blocked" if make is sleep_without_end else VERDICTS.get(kind, "blocked")
    assert record.verdict in (expected, "deadlocked")
    if kind in ("task", "tasks"):
        assert record.wait.awaited == ("other",)
        assert record.wait.path == ("other",)


def test_wait_for_is_seen_through_or_names_the_task_it_has_made(run: Run) -> None:
    async def make() -> Coroutine[Any, Any, Any]:
        return asyncio.wait_for(asyncio.Queue[int]().get(), 60)

    async def main() -> TaskRecord:
        return await record_of(make)

    record = run(main)
    assert record.wait is not None
    if sys.version_info >= (3, 12):
        assert record.wait.primitive == "Queue.get"
        assert "a timeout ends it in" in (record.wait.detail or "")
    else:
        assert record.wait.primitive == "wait_for"
        assert len(record.wait.awaited) == 1


@pytest.mark.skipif(sys.version_info < (3, 13), reason="queues can be shut down since 3.13")
def test_a_queue_that_was_shut_down_says_so(run: Run) -> None:
    async def make() -> Coroutine[Any, Any, Any]:
        queue: asyncio.Queue[int] = asyncio.Queue()
        queue.put_nowait(1)
        queue.shutdown()
        return queue.join()

    async def main() -> TaskRecord:
        return await record_of(make)

    assert run(main).wait is not None


def test_the_holder_of_a_lock_is_named_where_it_can_be_told(run: Run) -> None:
    async def main() -> None:
        lock = asyncio.Lock()

        async def hold() -> None:
            async with lock:
                await hang()

        async def want() -> None:
            async with lock:
                pass

        async with TaskScope(grace=0, on_leak="ignore") as scope:
            asyncio.create_task(hold(), name="holder")
            await asyncio.sleep(0)
            asyncio.create_task(want(), name="first")
            asyncio.create_task(want(), name="second")
            await asyncio.sleep(0)
        waits = {leak.name: leak.wait for leak in scope.report.leaks}
        for name in ("first", "second"):
            wait = waits[name]
            assert wait is not None and wait.detail == "Lock held by task 'holder'"

    run(main)


def test_who_waits_in_a_condition_does_not_hold_its_lock(run: Run) -> None:
    async def main() -> None:
        lock = asyncio.Lock()
        condition = asyncio.Condition(lock)

        async def wait() -> None:
            async with lock:
                await condition.wait()

        async def want() -> None:
            await lock.acquire()
            try:
                await lock.acquire()
            finally:
                lock.release()

        async with TaskScope(grace=0, on_leak="ignore") as scope:
            asyncio.create_task(wait(), name="waits")
            await asyncio.sleep(0)
            asyncio.create_task(want(), name="wants")
            await asyncio.sleep(0)
        record = next(leak for leak in scope.report.leaks if leak.name == "wants")
        assert record.wait is not None and record.wait.detail == "Lock held"

    run(main)


@pytest.mark.parametrize("length", [1, 2, 3])
@pytest.mark.parametrize("by", ["await", "gather", "shield"])
def test_a_cycle_is_named_with_every_member(run: Run, length: int, by: str) -> None:
    if (length, by) == (1, "await"):
        pytest.skip("asyncio refuses a task that awaits itself")

    async def main() -> None:
        tasks: dict[int, asyncio.Task[None]] = {}

        async def awaits(number: int) -> None:
            await asyncio.sleep(0)
            other = tasks[number]
            if by == "await":
                await other
            elif by == "gather":
                await asyncio.gather(other)
            else:
                await asyncio.shield(other)

        async with TaskScope(grace=0, on_leak="ignore") as scope:
            for number in range(length):
                tasks[number] = asyncio.create_task(awaits((number + 1) % length), name=f"task {number}")
            await asyncio.sleep(0.001)
        assert len(scope.report.leaks) == length
        for leak in scope.report.leaks:
            assert leak.wait is not None and leak.wait.is_cycle
            assert set(leak.wait.path) == {f"task {number}" for number in range(length)}
            assert leak.wait.path[-1] == leak.name
            assert leak.outcome == "cancelled"
        assert "which waits for" in str(scope.report) or length == 1

    run(main)


def test_a_chain_of_tasks_is_followed_to_its_end(run: Run) -> None:
    async def main() -> None:
        async with TaskScope(grace=0, on_leak="ignore") as scope:
            last = asyncio.create_task(hang(), name="last")
            middle = asyncio.create_task(awaiting(last), name="middle")
            asyncio.create_task(awaiting(middle), name="first")
            del last, middle
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        waits = {leak.name: leak.wait for leak in scope.report.leaks}
        first = waits["first"]
        assert first is not None and first.path == ("middle", "last") and not first.is_cycle

    run(main)


calls: list[str] = []


def asked() -> Any:
    """Notes the call: to raise would not do, for who looks at broken objects must expect that."""
    calls.append(sys._getframe(1).f_code.co_name)
    raise AssertionError(calls[-1])


class Hostile(asyncio.Queue[int]):
    """Everything that a class can do to mislead who looks at its objects."""

    def qsize(self) -> int:
        return asked()

    def __len__(self) -> int:
        return asked()

    def __repr__(self) -> str:
        return asked()

    def __eq__(self, other: object) -> bool:
        return asked()

    __hash__ = None  # type: ignore[assignment]

    @property
    def maxsize(self) -> int:
        return asked()


class HostileToItsFields(Hostile):
    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        return asked()


@pytest.mark.parametrize(("kind", "detail"), [(Hostile, "Queue unbounded, empty"), (HostileToItsFields, None)])
def test_nothing_of_a_users_is_called(run: Run, kind: type[Hostile], detail: str | None) -> None:
    async def make() -> Coroutine[Any, Any, Any]:
        return kind().get()

    async def main() -> TaskRecord:
        return await record_of(make)

    calls.clear()
    wait = run(main).wait
    assert calls == []
    assert wait is not None
    assert (wait.primitive, wait.detail) == ("Queue.get", detail)
