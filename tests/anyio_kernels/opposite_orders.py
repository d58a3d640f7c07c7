"""Kernels in which two locks are taken in opposite orders.

After the resource deadlocks of GoBench (CGO 2021, doi:10.1109/CGO51591.2021.9370317); each names its upstream pull
request.
"""

from __future__ import annotations

from typing import Final

import anyio
from anyio.abc import TaskGroup
from kernels.kernel import Stuck

from anyio_kernels.kernel import Kernel
from anyio_kernels.shims import give_way, settled

# cockroachdb/cockroach#7504


class Leases:
    def __init__(self) -> None:
        self.lease_lock = anyio.Lock()
        self.cache_lock = anyio.Lock()

    async def release(self) -> None:
        async with self.lease_lock:
            await give_way()
            async with self.cache_lock:  # bug: acquire_by_name takes them the other way round
                pass

    async def release_fixed(self) -> None:
        async with self.cache_lock:
            await give_way()
            async with self.lease_lock:
                pass

    async def acquire_by_name(self) -> None:
        async with self.cache_lock:
            await give_way()
            async with self.lease_lock:
                pass


async def leases(_: TaskGroup) -> None:
    manager = Leases()
    async with anyio.create_task_group() as group:
        group.start_soon(manager.release)
        group.start_soon(manager.acquire_by_name)


async def leases_fixed(_: TaskGroup) -> None:
    manager = Leases()
    async with anyio.create_task_group() as group:
        group.start_soon(manager.release_fixed)
        group.start_soon(manager.acquire_by_name)


# gohugoio/hugo#3251

REQUESTS: Final = 20
URL: Final = "https://example.com"


class UrlLocks:
    """A mutex for each URL, and a lock for the table of them."""

    def __init__(self) -> None:
        self.lock = anyio.Lock()
        self.of_url: dict[str, anyio.Semaphore] = {}

    async def lock_url(self, url: str) -> None:
        async with self.lock:
            mutex = self.of_url.setdefault(url, anyio.Semaphore(1))
            await mutex.acquire()  # bug: whoever has it needs the table to unlock

    async def lock_url_fixed(self, url: str) -> None:
        async with self.lock:
            mutex = self.of_url.setdefault(url, anyio.Semaphore(1))
        await mutex.acquire()

    async def unlock_url(self, url: str) -> None:
        async with self.lock:
            self.of_url[url].release()


async def fetch(locks: UrlLocks) -> None:
    await locks.lock_url(URL)
    await anyio.lowlevel.checkpoint()
    await locks.unlock_url(URL)


async def fetch_fixed(locks: UrlLocks) -> None:
    await locks.lock_url_fixed(URL)
    await anyio.lowlevel.checkpoint()
    await locks.unlock_url(URL)


async def fetches(_: TaskGroup) -> None:
    locks = UrlLocks()
    async with anyio.create_task_group() as group:
        for _request in range(REQUESTS):
            group.start_soon(fetch, locks)


async def fetches_fixed(_: TaskGroup) -> None:
    locks = UrlLocks()
    async with anyio.create_task_group() as group:
        for _request in range(REQUESTS):
            group.start_soon(fetch_fixed, locks)


# kubernetes/kubernetes#30872


class FederatedInformer:
    """Clusters come out of a queue, which has a lock, and go into an informer, which has one too."""

    def __init__(self) -> None:
        self.queue_lock = anyio.Lock()
        self.informer_lock = anyio.Lock()
        self.clusters = 0

    async def pop(self, popping: anyio.Event) -> None:
        async with self.queue_lock:
            popping.set()
            await give_way()
            await self.add_cluster()  # bug: has_synced is called with the informer's lock held

    async def pop_fixed(self, popping: anyio.Event) -> None:
        async with self.queue_lock:
            popping.set()
            await give_way()
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

    async def until_synced(self, popping: anyio.Event) -> None:
        await popping.wait()
        while not await self.clusters_synced():
            await anyio.lowlevel.checkpoint()

    async def stop(self) -> None:
        async with self.informer_lock:
            self.clusters = 0


async def federation(group: TaskGroup) -> None:
    informer, popping = FederatedInformer(), anyio.Event()
    group.start_soon(informer.until_synced, popping)
    group.start_soon(informer.pop, popping)
    await popping.wait()
    await settled()
    group.start_soon(informer.stop)
    await settled()


async def federation_fixed(group: TaskGroup) -> None:
    informer, popping = FederatedInformer(), anyio.Event()
    group.start_soon(informer.until_synced, popping)
    group.start_soon(informer.pop_fixed, popping)
    await popping.wait()
    await settled()
    group.start_soon(informer.stop)
    await settled()


KERNELS: Final = (
    Kernel(
        "cockroach_7504",
        "release() locks the lease and then the cache, acquire_by_name() the cache and then the lease.",
        leases,
        leases_fixed,
        leaks=(Stuck("Leases.release", "Lock.acquire"), Stuck("Leases.acquire_by_name", "Lock.acquire")),
        body=Stuck("", "TaskGroup.__aexit__"),
    ),
    Kernel(
        "hugo_3251",
        "Locking a URL waits for it with the table locked, and unlocking it needs the table.",
        fetches,
        fetches_fixed,
        leaks=(Stuck("fetch", "Semaphore.acquire"), *(Stuck("fetch", "Lock.acquire"),) * (REQUESTS - 1)),
        body=Stuck("", "TaskGroup.__aexit__"),
    ),
    Kernel(
        "kubernetes_30872",
        "A queue's lock is held when an informer's is taken, and the other way round; a third task waits behind them.",
        federation,
        federation_fixed,
        leaks=(
            Stuck("FederatedInformer.pop", "Lock.acquire"),
            Stuck("FederatedInformer.until_synced", "Lock.acquire"),
            Stuck("FederatedInformer.stop", "Lock.acquire"),
        ),
    ),
)
