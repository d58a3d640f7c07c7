"""Kernels in which a reader comes back for a read lock that it holds, behind a writer that waits for the reader.

After the resource deadlocks of GoBench (CGO 2021, doi:10.1109/CGO51591.2021.9370317); each names its upstream pull
request.
"""

from __future__ import annotations

import asyncio
from typing import Final

from kernels.kernel import Kernel, Stuck
from kernels.shims import RWLock, give_way

# cockroachdb/cockroach#3710


class Store:
    def __init__(self) -> None:
        self.lock = RWLock()
        self.replicas = [1, 2]
        self.scanned: list[int] = []

    async def force_raft_log_scan(self) -> None:
        async with self.lock.reading():
            for replica in self.replicas:
                await asyncio.sleep(0)
                await self.maybe_add(replica)

    async def maybe_add(self, replica: int) -> None:
        async with self.lock.reading():  # bug: its caller reads already
            self.scanned.append(replica)

    async def force_raft_log_scan_fixed(self) -> None:
        async with self.lock.reading():
            replicas = list(self.replicas)
        for replica in replicas:
            await asyncio.sleep(0)
            await self.maybe_add(replica)

    async def process_raft(self) -> None:
        async with self.lock.writing():
            self.replicas.append(3)


async def log_scan() -> None:
    store = Store()
    asyncio.create_task(store.force_raft_log_scan(), name="log scan")
    asyncio.create_task(store.process_raft(), name="process raft")
    await give_way()


async def log_scan_fixed() -> None:
    store = Store()
    scan = asyncio.create_task(store.force_raft_log_scan_fixed(), name="log scan")
    await asyncio.create_task(store.process_raft(), name="process raft")
    await scan


# cockroachdb/cockroach#16167


class DatabaseCache:
    def __init__(self, lock: RWLock) -> None:
        self.lock = lock

    async def wait_for_update(self) -> None:
        async with self.lock.reading():
            pass


class Executor:
    def __init__(self) -> None:
        self.config_lock = RWLock()
        self.databases = DatabaseCache(self.config_lock)

    async def start(self) -> None:
        async with self.config_lock.writing():
            self.databases = DatabaseCache(self.config_lock)

    async def execute(self) -> None:
        async with self.config_lock.reading():
            await give_way()
            await self.databases.wait_for_update()  # bug: the cache knows the same lock under another name

    async def execute_fixed(self) -> None:
        async with self.config_lock.reading():
            databases = self.databases
            await give_way()
        await databases.wait_for_update()


async def execute() -> None:
    executor = Executor()
    asyncio.create_task(start_later(executor), name="start")
    await executor.execute()


async def execute_fixed() -> None:
    executor = Executor()
    starting = asyncio.create_task(start_later(executor), name="start")
    await executor.execute_fixed()
    await starting


async def start_later(executor: Executor) -> None:
    await asyncio.sleep(0)  # so that the execution has begun where tasks run at once, too
    await executor.start()


# kubernetes/kubernetes#62464


class CpuManager:
    def __init__(self) -> None:
        self.lock = RWLock()
        self.assigned = {"container": {0, 1}}
        self.default = {2, 3}

    async def cpus(self, container: str) -> set[int] | None:
        async with self.lock.reading():
            return self.assigned.get(container)

    async def cpus_or_default(self, container: str) -> set[int]:
        async with self.lock.reading():
            await asyncio.sleep(0)
            return await self.cpus(container) or self.default  # bug: cpus() reads, too

    async def cpus_or_default_fixed(self, container: str) -> set[int]:
        async with self.lock.reading():
            await asyncio.sleep(0)
            return self.assigned.get(container) or self.default

    async def remove(self, container: str) -> None:
        async with self.lock.writing():
            self.assigned.pop(container, None)


async def reconcile() -> None:
    manager = CpuManager()
    asyncio.create_task(manager.cpus_or_default("container"), name="reconcile")
    asyncio.create_task(manager.remove("container"), name="remove container")
    await give_way()


async def reconcile_fixed() -> None:
    manager = CpuManager()
    await asyncio.gather(
        asyncio.create_task(manager.cpus_or_default_fixed("container"), name="reconcile"),
        asyncio.create_task(manager.remove("container"), name="remove container"),
    )


KERNELS: Final = (
    Kernel(
        "cockroach/3710",
        "A scan holds the read lock and takes it again for each replica, with a writer queued in between.",
        log_scan,
        log_scan_fixed,
        leaks=(Stuck("log scan", "RWLock.acquire_read"), Stuck("process raft", "RWLock.acquire_write")),
    ),
    Kernel(
        "cockroach/16167",
        "One read-write lock is known under two names and read under both, with a writer queued in between.",
        execute,
        execute_fixed,
        leaks=(Stuck("start", "RWLock.acquire_write"),),
        body=Stuck("", "RWLock.acquire_read"),
    ),
    Kernel(
        "kubernetes/62464",
        "A method that holds the read lock calls another that takes it, with a writer queued in between.",
        reconcile,
        reconcile_fixed,
        leaks=(Stuck("reconcile", "RWLock.acquire_read"), Stuck("remove container", "RWLock.acquire_write")),
    ),
)
