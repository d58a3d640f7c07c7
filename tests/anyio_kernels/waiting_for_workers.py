"""Kernels in which somebody waits, often with a lock held, for a worker who needs something of him first.

After the mixed deadlocks of GoBench (CGO 2021, doi:10.1109/CGO51591.2021.9370317); each names its upstream pull
request.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import anyio
from anyio.abc import ObjectReceiveStream, ObjectSendStream, TaskGroup
from kernels.kernel import Stuck

from anyio_kernels.kernel import Kernel
from anyio_kernels.shims import WaitGroup, give_way, settled

# etcd-io/etcd#6873


class WatchBroadcasts:
    def __init__(self) -> None:
        self.lock = anyio.Lock()
        self.update, self.updates = anyio.create_memory_object_stream[str](10)
        self.is_stopping = anyio.Event()
        self.is_done = anyio.Event()
        self.coalesced: list[str] = []

    async def coalesce(self) -> None:
        await self.is_stopping.wait()  # the update comes just now
        async for update in self.updates:
            async with self.lock:
                self.coalesced.append(update)
        self.is_done.set()

    async def stop(self) -> None:
        async with self.lock:
            self.is_stopping.set()
            self.update.close()
            await self.is_done.wait()  # bug: the worker may need the lock before it is done

    async def stop_fixed(self) -> None:
        async with self.lock:
            self.is_stopping.set()
            self.update.close()
        await self.is_done.wait()


async def broadcasts(group: TaskGroup) -> None:
    watch = WatchBroadcasts()
    await watch.update.send("an update")
    group.start_soon(watch.stop)
    group.start_soon(watch.coalesce)
    await settled()


async def broadcasts_fixed(group: TaskGroup) -> None:
    watch = WatchBroadcasts()
    await watch.update.send("an update")
    group.start_soon(watch.stop_fixed)
    group.start_soon(watch.coalesce)
    await settled()


# kubernetes/kubernetes#26980


class SharedProcessor:
    def __init__(self) -> None:
        self.lock = anyio.Lock()
        self.is_popping = anyio.Event()
        self.is_stopped = anyio.Event()
        self.add, self.added = anyio.create_memory_object_stream[None](0)

    async def pop(self) -> None:
        async with self.lock:
            self.is_popping.set()
            await self.is_stopped.wait()  # bug: with the lock held, which others need before anybody stops it

    async def pop_fixed(self) -> None:
        self.is_popping.set()
        await self.is_stopped.wait()
        async with self.lock:
            pass

    async def add_listener(self) -> None:
        await self.is_popping.wait()
        async with self.lock:
            await self.add.send(None)


async def processor(group: TaskGroup) -> None:
    shared = SharedProcessor()
    group.start_soon(shared.pop)
    group.start_soon(shared.add_listener)
    try:
        await shared.added.receive()
    finally:
        shared.is_stopped.set()


async def processor_fixed(group: TaskGroup) -> None:
    shared = SharedProcessor()
    group.start_soon(shared.pop_fixed)
    group.start_soon(shared.add_listener)
    try:
        await shared.added.receive()
    finally:
        shared.is_stopped.set()
    await settled()


# knative/serving#2137

Request = Callable[["Breaker", anyio.Semaphore, ObjectSendStream[None]], Awaitable[None]]


class Breaker:
    """Lets one request at a time through."""

    def __init__(self) -> None:
        self.active = anyio.CapacityLimiter(1)

    async def request(self, lock: anyio.Semaphore, accept: ObjectSendStream[None]) -> None:
        async with self.active:
            async with lock:  # bug: whoever holds it may wait for the next request, and that one for this
                await accept.send(None)

    async def request_fixed(self, lock: anyio.Semaphore, accept: ObjectSendStream[None]) -> None:
        async with lock:
            async with self.active:
                await accept.send(None)


async def send_requests(group: TaskGroup, request: Request) -> None:
    breaker = Breaker()
    sent: list[tuple[anyio.Semaphore, ObjectReceiveStream[None]]] = []
    for _ in range(2):
        lock = anyio.Semaphore(1)  # as Go's, it breaks for nobody when its owner ends
        await lock.acquire()
        accept, accepted = anyio.create_memory_object_stream[None](1)
        group.start_soon(request, breaker, lock, accept)
        await give_way()
        sent.append((lock, accepted))
    for lock, accepted in reversed(sent):  # the second is to be the first to end
        lock.release()
        await accepted.receive()


async def requests(group: TaskGroup) -> None:
    await send_requests(group, Breaker.request)


async def requests_fixed(group: TaskGroup) -> None:
    await send_requests(group, Breaker.request_fixed)
    await settled()


# cockroachdb/cockroach#1462


class Stopper:
    """Workers work in a context that is cancelled when they are to stop, and are then waited for."""

    def __init__(self) -> None:
        self.context = anyio.CancelScope()
        self.workers = WaitGroup(2)

    async def stop(self) -> None:
        self.context.cancel()
        await self.workers.wait()


async def produce(events: ObjectSendStream[int], stopper: Stopper) -> None:
    try:
        for event in range(3):
            await events.send(event)  # bug: nobody receives any more once the consumer has stopped
    except anyio.BrokenResourceError:
        pass
    stopper.workers.done()


async def consume(events: ObjectReceiveStream[int], stopper: Stopper) -> None:
    with stopper.context:
        async for _ in events:
            await anyio.sleep_forever()  # takes its time with each
    stopper.workers.done()


async def consume_fixed(events: ObjectReceiveStream[int], stopper: Stopper) -> None:
    async with events:
        await consume(events, stopper)


async def feed(group: TaskGroup) -> None:
    stopper = Stopper()
    send, events = anyio.create_memory_object_stream[int](0)
    group.start_soon(consume, events, stopper)
    group.start_soon(produce, send, stopper)
    await give_way()
    await stopper.stop()


async def feed_fixed(group: TaskGroup) -> None:
    stopper = Stopper()
    send, events = anyio.create_memory_object_stream[int](0)
    group.start_soon(consume_fixed, events, stopper)
    group.start_soon(produce, send, stopper)
    await give_way()
    await stopper.stop()
    await settled()


KERNELS: Final = (
    Kernel(
        "etcd_6873",
        "stop() waits with the lock held for a worker that needs the lock for its last piece of work.",
        broadcasts,
        broadcasts_fixed,
        leaks=(Stuck("WatchBroadcasts.stop", "Event.wait"), Stuck("WatchBroadcasts.coalesce", "Lock.acquire")),
    ),
    Kernel(
        "kubernetes_26980",
        "A task waits to be stopped with the lock held, and who would stop it waits for one that needs the lock.",
        processor,
        processor_fixed,
        leaks=(Stuck("SharedProcessor.pop", "Event.wait"), Stuck("SharedProcessor.add_listener", "Lock.acquire")),
        body=Stuck("", "MemoryObjectReceiveStream.receive"),
    ),
    Kernel(
        "serving_2137",
        "The one request that is let through waits for its lock, whose holder waits for the next request first.",
        requests,
        requests_fixed,
        leaks=(Stuck("Breaker.request", "Semaphore.acquire"), Stuck("Breaker.request", "CapacityLimiter.acquire")),
        body=Stuck("", "MemoryObjectReceiveStream.receive"),
    ),
    Kernel(
        "cockroach_1462",
        "The consumer stops when told to, and stop() waits for a producer that still sends to it.",
        feed,
        feed_fixed,
        leaks=(Stuck("produce", "MemoryObjectSendStream.send"),),
        body=Stuck("", "Event.wait"),
    ),
)
