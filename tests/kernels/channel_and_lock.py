"""Kernels in which somebody waits with a lock held for somebody else who needs that lock first.

After the mixed deadlocks of GoBench (CGO 2021, doi:10.1109/CGO51591.2021.9370317); each names its upstream pull
request.
"""

from __future__ import annotations

import asyncio
from typing import Final

from kernels.kernel import Kernel, Stuck
from kernels.shims import give_way

# etcd-io/etcd#6873


class WatchBroadcasts:
    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.updates = asyncio.Queue[str | None]()
        self.is_done = asyncio.Event()
        self.coalesced: list[str] = []

    async def coalesce(self) -> None:
        while (update := await self.updates.get()) is not None:
            async with self.lock:
                self.coalesced.append(update)
        self.is_done.set()

    async def stop(self) -> None:
        async with self.lock:
            await self.updates.put(None)
            await self.is_done.wait()  # bug: the worker may need the lock before it is done

    async def stop_fixed(self) -> None:
        async with self.lock:
            await self.updates.put(None)
        await self.is_done.wait()


async def broadcasts() -> None:
    watch = WatchBroadcasts()
    await watch.updates.put("an update")
    asyncio.create_task(watch.stop(), name="stop")
    asyncio.create_task(watch.coalesce(), name="coalesce")
    await give_way()


async def broadcasts_fixed() -> None:
    watch = WatchBroadcasts()
    await watch.updates.put("an update")
    async with asyncio.TaskGroup() as group:
        group.create_task(watch.stop_fixed(), name="stop")
        group.create_task(watch.coalesce(), name="coalesce")


# kubernetes/kubernetes#26980


class SharedProcessor:
    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.is_stopped = asyncio.Event()

    async def pop(self) -> None:
        async with self.lock:
            await self.is_stopped.wait()  # bug: with the lock held, which others need before anybody stops it

    async def pop_fixed(self) -> None:
        await self.is_stopped.wait()
        async with self.lock:
            pass

    async def add_listener(self) -> None:
        async with self.lock:
            pass


async def processor() -> None:
    shared = SharedProcessor()
    asyncio.create_task(shared.pop(), name="pop")
    adding = asyncio.create_task(shared.add_listener(), name="add listener")
    try:
        await adding
    finally:
        shared.is_stopped.set()


async def processor_fixed() -> None:
    shared = SharedProcessor()
    popping = asyncio.create_task(shared.pop_fixed(), name="pop")
    adding = asyncio.create_task(shared.add_listener(), name="add listener")
    try:
        await adding
    finally:
        shared.is_stopped.set()
        await popping


# knative/serving#2137


class Breaker:
    """Lets one request at a time through."""

    def __init__(self) -> None:
        self.active = asyncio.Semaphore(1)

    async def request(self, lock: asyncio.Lock, accepted: asyncio.Queue[bool]) -> None:
        async with self.active:
            async with lock:  # bug: whoever holds it may wait for the next request, and that one for this
                await accepted.put(True)

    async def request_fixed(self, lock: asyncio.Lock, accepted: asyncio.Queue[bool]) -> None:
        async with lock:
            async with self.active:
                await accepted.put(True)


async def requests() -> None:
    breaker = Breaker()
    locks = [asyncio.Lock(), asyncio.Lock()]
    accepted = [asyncio.Queue[bool](1), asyncio.Queue[bool](1)]
    for lock in locks:
        await lock.acquire()
    for name, lock, answer in zip("AB", locks, accepted, strict=True):
        asyncio.create_task(breaker.request(lock, answer), name=f"request {name}")
    await give_way()
    for lock, answer in zip(reversed(locks), reversed(accepted), strict=True):  # the second is to be the first to end
        lock.release()
        await answer.get()


async def requests_fixed() -> None:
    breaker = Breaker()
    locks = [asyncio.Lock(), asyncio.Lock()]
    accepted = [asyncio.Queue[bool](1), asyncio.Queue[bool](1)]
    running: list[asyncio.Task[None]] = []
    for lock in locks:
        await lock.acquire()
    for name, lock, answer in zip("AB", locks, accepted, strict=True):
        running.append(asyncio.create_task(breaker.request_fixed(lock, answer), name=f"request {name}"))
    await give_way()
    for lock, answer in zip(reversed(locks), reversed(accepted), strict=True):
        lock.release()
        await answer.get()
    await asyncio.wait(running)


KERNELS: Final = (
    Kernel(
        "etcd/6873",
        "stop() waits with the lock held for a worker that needs the lock for its last piece of work.",
        broadcasts,
        broadcasts_fixed,
        leaks=(Stuck("stop", "Event.wait"), Stuck("coalesce", "Lock.acquire")),
    ),
    Kernel(
        "kubernetes/26980",
        "A task waits to be stopped with the lock held, and who would stop it waits for one that needs the lock.",
        processor,
        processor_fixed,
        leaks=(Stuck("pop", "Event.wait"), Stuck("add listener", "Lock.acquire")),
        body=Stuck("", "task"),
    ),
    Kernel(
        "serving/2137",
        "The one request that is let through waits for its lock, whose holder waits for the next request first.",
        requests,
        requests_fixed,
        leaks=(Stuck("request A", "Lock.acquire"), Stuck("request B", "Semaphore.acquire")),
        body=Stuck("", "Queue.get"),
    ),
)
