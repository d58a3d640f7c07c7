"""Kernels in which a lock is asked for by who holds it already, the second time behind a writer in some.

Go's mutex belongs to nobody, and so does a `Semaphore(1)`. AnyIO's lock refuses a task that holds it already.

After the resource deadlocks of GoBench (CGO 2021, doi:10.1109/CGO51591.2021.9370317); each names its upstream pull
request.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import anyio
from anyio.abc import TaskGroup
from kernels.kernel import Stuck

from anyio_kernels.kernel import Kernel
from anyio_kernels.shims import RWLock, give_way, settled

# etcd-io/etcd#10492


class Lessor:
    def __init__(self) -> None:
        self.mutex = anyio.Semaphore(1)
        self.left = {"lease": 10}

    async def checkpoint(self, lease: str, left: int) -> None:
        async with self.mutex:
            self.left[lease] = left

    async def renew(self, lease: str, checkpointer: Callable[[str, int], Awaitable[None]]) -> None:
        async with self.mutex:
            left = self.left[lease]
            await checkpointer(lease, left)  # bug: a user's code, called with the mutex held

    async def renew_fixed(self, lease: str, checkpointer: Callable[[str, int], Awaitable[None]]) -> None:
        async with self.mutex:
            left = self.left[lease]
        await checkpointer(lease, left)


async def renew(group: TaskGroup) -> None:
    lessor = Lessor()
    await lessor.renew("lease", lessor.checkpoint)


async def renew_fixed(group: TaskGroup) -> None:
    lessor = Lessor()
    await lessor.renew_fixed("lease", lessor.checkpoint)


# moby/moby#36114


class ServiceVM:
    def __init__(self) -> None:
        self.mutex = anyio.Semaphore(1)
        self.disks: list[str] = []

    async def hot_add(self, disks: list[str]) -> None:
        async with self.mutex:
            self.add(disks)

    def add(self, disks: list[str]) -> None:
        self.disks += disks

    async def start(self) -> None:
        async with self.mutex:
            await self.hot_add(["root", "scratch"])  # bug: it takes the same mutex

    async def start_fixed(self) -> None:
        async with self.mutex:
            self.add(["root", "scratch"])


async def start_vm(group: TaskGroup) -> None:
    group.start_soon(ServiceVM().start)
    await settled()


async def start_vm_fixed(group: TaskGroup) -> None:
    group.start_soon(ServiceVM().start_fixed)
    await settled()


# cockroachdb/cockroach#3710


class Store:
    def __init__(self) -> None:
        self.lock = RWLock()
        self.replicas = [1, 2]
        self.scanned: list[int] = []
        self.is_reading = anyio.Event()

    async def force_raft_log_scan(self) -> None:
        async with self.lock.reading():
            self.is_reading.set()
            await give_way()
            for replica in self.replicas:
                await self.maybe_add(replica)

    async def maybe_add(self, replica: int) -> None:
        async with self.lock.reading():  # bug: its caller reads already
            self.scanned.append(replica)

    async def force_raft_log_scan_fixed(self) -> None:
        async with self.lock.reading():
            self.is_reading.set()
            await give_way()
            replicas = list(self.replicas)
        for replica in replicas:
            await self.maybe_add(replica)

    async def process_raft(self) -> None:
        await self.is_reading.wait()
        async with self.lock.writing():
            self.replicas.append(3)


async def log_scan(group: TaskGroup) -> None:
    store = Store()
    group.start_soon(store.force_raft_log_scan)
    group.start_soon(store.process_raft)
    await store.is_reading.wait()
    await settled()


async def log_scan_fixed(group: TaskGroup) -> None:
    store = Store()
    group.start_soon(store.force_raft_log_scan_fixed)
    group.start_soon(store.process_raft)
    await store.is_reading.wait()
    await settled()


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
        self.is_executing = anyio.Event()

    async def start(self) -> None:
        await self.is_executing.wait()
        async with self.config_lock.writing():
            self.databases = DatabaseCache(self.config_lock)

    async def execute(self) -> None:
        async with self.config_lock.reading():
            self.is_executing.set()
            await give_way()
            await self.databases.wait_for_update()  # bug: the cache knows the same lock under another name

    async def execute_fixed(self) -> None:
        async with self.config_lock.reading():
            databases = self.databases
            self.is_executing.set()
            await give_way()
        await databases.wait_for_update()


async def execute(group: TaskGroup) -> None:
    executor = Executor()
    group.start_soon(executor.start)
    await executor.execute()


async def execute_fixed(group: TaskGroup) -> None:
    executor = Executor()
    group.start_soon(executor.start)
    await executor.execute_fixed()


# kubernetes/kubernetes#62464


class CpuManager:
    def __init__(self) -> None:
        self.lock = RWLock()
        self.assigned = {"container": {0, 1}}
        self.default = {2, 3}
        self.is_reading = anyio.Event()

    async def cpus(self, container: str) -> set[int] | None:
        async with self.lock.reading():
            return self.assigned.get(container)

    async def reconcile(self) -> set[int]:
        async with self.lock.reading():
            self.is_reading.set()
            await give_way()
            return await self.cpus("container") or self.default  # bug: cpus() reads, too

    async def reconcile_fixed(self) -> set[int]:
        async with self.lock.reading():
            self.is_reading.set()
            await give_way()
            return self.assigned.get("container") or self.default

    async def remove(self, container: str) -> None:
        await self.is_reading.wait()
        async with self.lock.writing():
            self.assigned.pop(container, None)


async def reconcile(group: TaskGroup) -> None:
    manager = CpuManager()
    group.start_soon(manager.reconcile)
    group.start_soon(manager.remove, "container")
    await manager.is_reading.wait()
    await settled()


async def reconcile_fixed(group: TaskGroup) -> None:
    manager = CpuManager()
    group.start_soon(manager.reconcile_fixed)
    group.start_soon(manager.remove, "container")
    await manager.is_reading.wait()
    await settled()


KERNELS: Final = (
    Kernel(
        "etcd_10492",
        "A callback of the user's, called with a mutex held, takes that mutex.",
        renew,
        renew_fixed,
        body=Stuck("", "Semaphore.acquire"),
    ),
    Kernel(
        "moby_36114",
        "A method that holds the mutex calls another that takes it.",
        start_vm,
        start_vm_fixed,
        leaks=(Stuck("ServiceVM.start", "Semaphore.acquire"),),
    ),
    Kernel(
        "cockroach_3710",
        "A scan holds the read lock and takes it again for each replica, with a writer queued in between.",
        log_scan,
        log_scan_fixed,
        leaks=(Stuck("Store.force_raft_log_scan", "Event.wait"), Stuck("Store.process_raft", "Event.wait")),
    ),
    Kernel(
        "cockroach_16167",
        "One read-write lock is known under two names and read under both, with a writer queued in between.",
        execute,
        execute_fixed,
        leaks=(Stuck("Executor.start", "Event.wait"),),
        body=Stuck("", "Event.wait"),
    ),
    Kernel(
        "kubernetes_62464",
        "A method that holds the read lock calls another that takes it, with a writer queued in between.",
        reconcile,
        reconcile_fixed,
        leaks=(Stuck("CpuManager.reconcile", "Event.wait"), Stuck("CpuManager.remove", "Event.wait")),
    ),
)
