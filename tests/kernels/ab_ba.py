"""Kernels in which two locks are taken in opposite orders.

After the resource deadlocks of GoBench (CGO 2021, doi:10.1109/CGO51591.2021.9370317); each names its upstream pull
request.
"""

from __future__ import annotations

import asyncio
from typing import Final

from kernels.kernel import Kernel, Stuck
from kernels.shims import give_way

# cockroachdb/cockroach#7504


class Leases:
    def __init__(self) -> None:
        self.lease_lock = asyncio.Lock()
        self.cache_lock = asyncio.Lock()

    async def release(self) -> None:
        async with self.lease_lock:
            await asyncio.sleep(0)
            async with self.cache_lock:  # bug: acquire_by_name takes them the other way round
                pass

    async def release_fixed(self) -> None:
        async with self.cache_lock:
            await asyncio.sleep(0)
            async with self.lease_lock:
                pass

    async def acquire_by_name(self) -> None:
        async with self.cache_lock:
            await asyncio.sleep(0)
            async with self.lease_lock:
                pass


async def leases() -> None:
    manager = Leases()
    async with asyncio.TaskGroup() as group:
        group.create_task(manager.release(), name="release")
        group.create_task(manager.acquire_by_name(), name="acquire by name")


async def leases_fixed() -> None:
    manager = Leases()
    async with asyncio.TaskGroup() as group:
        group.create_task(manager.release_fixed(), name="release")
        group.create_task(manager.acquire_by_name(), name="acquire by name")


# gohugoio/hugo#3251

REQUESTS: Final = 50


class UrlLocks:
    """A lock for each URL, and one for the table of them."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.of_url: dict[str, asyncio.Lock] = {}

    async def lock_url(self, url: str) -> None:
        async with self.lock:
            await self.of_url.setdefault(url, asyncio.Lock()).acquire()  # bug: whoever has it needs the table to unlock

    async def lock_url_fixed(self, url: str) -> None:
        async with self.lock:
            of_url = self.of_url.setdefault(url, asyncio.Lock())
        await of_url.acquire()

    async def unlock_url(self, url: str) -> None:
        async with self.lock:
            self.of_url[url].release()


async def fetch(locks: UrlLocks) -> None:
    await locks.lock_url("https://example.com")
    await asyncio.sleep(0)
    await locks.unlock_url("https://example.com")


async def fetch_fixed(locks: UrlLocks) -> None:
    await locks.lock_url_fixed("https://example.com")
    await asyncio.sleep(0)
    await locks.unlock_url("https://example.com")


async def fetches() -> None:
    locks = UrlLocks()
    await asyncio.gather(*(asyncio.create_task(fetch(locks), name=f"fetch {number}") for number in range(REQUESTS)))


async def fetches_fixed() -> None:
    locks = UrlLocks()
    tasks = [asyncio.create_task(fetch_fixed(locks), name=f"fetch {number}") for number in range(REQUESTS)]
    await asyncio.gather(*tasks)


# kubernetes/kubernetes#30872


class FederatedInformer:
    """Clusters come out of a queue, which has a lock, and go into an informer, which has one too."""

    def __init__(self) -> None:
        self.queue_lock = asyncio.Lock()
        self.informer_lock = asyncio.Lock()
        self.clusters = 0

    async def pop(self) -> None:
        async with self.queue_lock:
            await asyncio.sleep(0)
            await self.add_cluster()  # bug: has_synced is called with the informer's lock held

    async def pop_fixed(self) -> None:
        async with self.queue_lock:
            await asyncio.sleep(0)
        await self.add_cluster()

    async def add_cluster(self) -> None:
        async with self.informer_lock:
            self.clusters += 1

    async def clusters_synced(self) -> bool:
        async with self.informer_lock:
            return await self.has_synced()

    async def has_synced(self) -> bool:
        async with self.queue_lock:
            return self.clusters > 0

    async def stop(self) -> None:
        async with self.informer_lock:
            self.clusters = 0


async def until_synced(informer: FederatedInformer) -> None:
    while not await informer.clusters_synced():
        await asyncio.sleep(0)


async def federation() -> None:
    informer = FederatedInformer()
    asyncio.create_task(informer.pop(), name="pop")
    asyncio.create_task(until_synced(informer), name="clusters synced")
    asyncio.create_task(informer.stop(), name="stop")
    await give_way()


async def federation_fixed() -> None:
    informer = FederatedInformer()
    await asyncio.gather(
        asyncio.create_task(informer.pop_fixed(), name="pop"),
        asyncio.create_task(until_synced(informer), name="clusters synced"),
    )
    await asyncio.create_task(informer.stop(), name="stop")


KERNELS: Final = (
    Kernel(
        "cockroach/7504",
        "release() locks the lease and then the cache, acquire_by_name() the cache and then the lease.",
        leases,
        leases_fixed,
        leaks=(Stuck("release", "Lock.acquire"), Stuck("acquire by name", "Lock.acquire")),
        body=Stuck("", "TaskGroup.__aexit__"),
    ),
    Kernel(
        "hugo/3251",
        "Locking a URL waits for it with the table locked, and unlocking it needs the table.",
        fetches,
        fetches_fixed,
        leaks=tuple(Stuck(f"fetch {number}", "Lock.acquire") for number in range(REQUESTS)),
        body=Stuck("", "gather"),
    ),
    Kernel(
        "kubernetes/30872",
        "A queue's lock is held when an informer's is taken, and the other way round; a third task waits behind them.",
        federation,
        federation_fixed,
        leaks=(
            Stuck("pop", "Lock.acquire"),
            Stuck("clusters synced", "Lock.acquire"),
            Stuck("stop", "Lock.acquire"),
        ),
    ),
)
