"""Kernels in which a lock is asked for by who holds it already, or has left without giving it back.

After the resource deadlocks of GoBench (CGO 2021, doi:10.1109/CGO51591.2021.9370317); each names its upstream pull
request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from kernels.kernel import Kernel, Stuck
from kernels.shims import give_way

# cockroachdb/cockroach#584


class Gossip:
    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.is_closed = False

    async def until_closed(self) -> None:
        while True:
            await self.lock.acquire()
            if self.is_closed:
                break  # bug: with the lock
            self.lock.release()
            await asyncio.sleep(0)

    async def until_closed_fixed(self) -> None:
        while True:
            async with self.lock:
                if self.is_closed:
                    break
            await asyncio.sleep(0)

    async def run(self) -> None:
        await self.until_closed()  # to bootstrap
        await self.until_closed()  # to manage

    async def run_fixed(self) -> None:
        await self.until_closed_fixed()
        await self.until_closed_fixed()


async def gossip() -> None:
    node = Gossip()
    asyncio.create_task(node.run(), name="gossip")
    await asyncio.sleep(0)
    node.is_closed = True
    await give_way()


async def gossip_fixed() -> None:
    node = Gossip()
    running = asyncio.create_task(node.run_fixed(), name="gossip")
    await asyncio.sleep(0)
    node.is_closed = True
    await running


# etcd-io/etcd#5509


class LeaseClient:
    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.is_closed = False

    async def use(self) -> None:
        await self.lock.acquire()
        if self.is_closed:
            raise ConnectionError("closed")  # bug: with the lock
        self.lock.release()

    async def use_fixed(self) -> None:
        async with self.lock:
            if self.is_closed:
                raise ConnectionError("closed")

    async def close(self) -> None:
        async with self.lock:
            self.is_closed = True
            await give_way()  # says goodbye, while a user of the client queues up for the lock
        async with self.lock:
            pass  # the last user has left


async def read(use: Callable[[], Awaitable[None]]) -> None:
    await asyncio.sleep(0)  # so that the closing has begun where tasks run at once, too
    with suppress(ConnectionError):
        await use()


async def close_client() -> None:
    client = LeaseClient()
    asyncio.create_task(read(client.use), name="reader")
    await client.close()


async def close_client_fixed() -> None:
    client = LeaseClient()
    reader = asyncio.create_task(read(client.use_fixed), name="reader")
    await client.close()
    await reader


# etcd-io/etcd#10492


class Lessor:
    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.left = {"lease": 10}

    async def checkpoint(self, lease: str, left: int) -> None:
        async with self.lock:
            self.left[lease] = left

    async def renew(self, lease: str, checkpointer: Callable[[str, int], Awaitable[None]]) -> None:
        async with self.lock:
            left = self.left[lease]
            await checkpointer(lease, left)  # bug: a user's code, called with the lock held

    async def renew_fixed(self, lease: str, checkpointer: Callable[[str, int], Awaitable[None]]) -> None:
        async with self.lock:
            left = self.left[lease]
        await checkpointer(lease, left)


async def renew() -> None:
    lessor = Lessor()
    await lessor.renew("lease", lessor.checkpoint)


async def renew_fixed() -> None:
    lessor = Lessor()
    await lessor.renew_fixed("lease", lessor.checkpoint)


# grpc/grpc-go#3017


class SubConnections:
    """Connections are kept for a moment after their removal, for whoever wants them back."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.kept: dict[str, Removal] = {}

    async def remove(self, address: str, delete: Callable[[str, Removal], Awaitable[None]]) -> None:
        async with self.lock:
            removal = self.kept[address] = Removal()
            asyncio.get_running_loop().call_later(0.001, start_deletion, delete, address, removal)

    async def take_back(self, address: str) -> None:
        async with self.lock:
            removal = self.kept.pop(address, None)
            if removal is not None:
                await removal.is_due.wait()  # the timer fires just now
                removal.is_aborted = True

    async def delete(self, address: str, removal: Removal) -> None:
        removal.is_due.set()
        await self.lock.acquire()
        if removal.is_aborted:
            return  # bug: with the lock
        del self.kept[address]
        self.lock.release()

    async def delete_fixed(self, address: str, removal: Removal) -> None:
        removal.is_due.set()
        async with self.lock:
            if not removal.is_aborted:
                del self.kept[address]


class Removal:
    def __init__(self) -> None:
        self.is_due = asyncio.Event()
        self.is_aborted = False


def start_deletion(delete: Callable[[str, Removal], Awaitable[None]], address: str, removal: Removal) -> None:
    async def deletion() -> None:
        await delete(address, removal)

    asyncio.create_task(deletion(), name=f"deletion of {address}")


async def flap(
    cache: SubConnections, delete: Callable[[str, Removal], Awaitable[None]], is_done: asyncio.Event
) -> None:
    for address in ("first", "second"):
        await cache.remove(address, delete)
    for address in ("first", "second"):
        await cache.take_back(address)
    async with cache.lock:
        is_done.set()


async def flapping() -> None:
    cache, is_done = SubConnections(), asyncio.Event()
    asyncio.create_task(flap(cache, cache.delete, is_done), name="flapping")
    await is_done.wait()


async def flapping_fixed() -> None:
    cache, is_done = SubConnections(), asyncio.Event()
    running = asyncio.create_task(flap(cache, cache.delete_fixed, is_done), name="flapping")
    await is_done.wait()
    await running


# moby/moby#7559


class UdpProxy:
    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.clients: dict[str, str] = {}

    async def dial(self, client: str) -> str:
        await asyncio.sleep(0)
        if client == "refused":
            raise ConnectionRefusedError
        return f"to {client}"

    async def run(self, packets: list[str]) -> None:
        for client in packets:
            await self.lock.acquire()
            if client not in self.clients:
                try:
                    self.clients[client] = await self.dial(client)
                except ConnectionRefusedError:
                    continue  # bug: with the lock
            self.lock.release()

    async def run_fixed(self, packets: list[str]) -> None:
        for client in packets:
            async with self.lock:
                if client not in self.clients:
                    with suppress(ConnectionRefusedError):
                        self.clients[client] = await self.dial(client)


PACKETS: Final = ["accepted", "refused", "accepted"]


async def proxy() -> None:
    asyncio.create_task(UdpProxy().run(PACKETS), name="UDP proxy")
    await give_way()


async def proxy_fixed() -> None:
    await asyncio.create_task(UdpProxy().run_fixed(PACKETS), name="UDP proxy")


# moby/moby#36114


class ServiceVM:
    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.disks: list[str] = []

    async def hot_add(self, disks: list[str]) -> None:
        async with self.lock:
            self.add(disks)

    def add(self, disks: list[str]) -> None:
        self.disks += disks

    async def start(self) -> None:
        async with self.lock:
            await self.hot_add(["root", "scratch"])  # bug: it takes the same lock

    async def start_fixed(self) -> None:
        async with self.lock:
            self.add(["root", "scratch"])


async def start_vm() -> None:
    asyncio.create_task(ServiceVM().start(), name="start VM")
    await give_way()


async def start_vm_fixed() -> None:
    await asyncio.create_task(ServiceVM().start_fixed(), name="start VM")


KERNELS: Final = (
    Kernel(
        "cockroach/584",
        "A loop is left with the lock held, and the next one locks again.",
        gossip,
        gossip_fixed,
        leaks=(Stuck("gossip", "Lock.acquire"),),
    ),
    Kernel(
        "etcd/5509",
        "A reader that finds the client closed returns with the lock held, and close() waits to lock again.",
        close_client,
        close_client_fixed,
        body=Stuck("", "Lock.acquire"),
    ),
    Kernel(
        "etcd/10492",
        "A callback of the user's, called with a lock held, takes that lock.",
        renew,
        renew_fixed,
        body=Stuck("", "Lock.acquire"),
    ),
    Kernel(
        "grpc/3017",
        "A timer's task finds its work called off and returns with the lock held.",
        flapping,
        flapping_fixed,
        leaks=(Stuck("flapping", "Lock.acquire"), Stuck("deletion of second", "Lock.acquire")),
        body=Stuck("", "Event.wait"),
    ),
    Kernel(
        "moby/7559",
        "A loop goes on to its next turn without unlocking when it cannot dial.",
        proxy,
        proxy_fixed,
        leaks=(Stuck("UDP proxy", "Lock.acquire"),),
    ),
    Kernel(
        "moby/36114",
        "A method that holds the lock calls another that takes it.",
        start_vm,
        start_vm_fixed,
        leaks=(Stuck("start VM", "Lock.acquire"),),
    ),
)
