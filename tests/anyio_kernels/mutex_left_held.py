"""Kernels in which a mutex is left held by somebody who has no more use for it.

Go's mutex belongs to nobody, and so does a `Semaphore(1)`. A lock belongs to a task: Trio's breaks when that has ended.

After the resource deadlocks of GoBench (CGO 2021, doi:10.1109/CGO51591.2021.9370317); each names its upstream pull
request.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import anyio
from anyio import lowlevel
from anyio.abc import TaskGroup
from kernels.kernel import Stuck

from anyio_kernels.kernel import Kernel
from anyio_kernels.shims import give_way, settled

# cockroachdb/cockroach#584


class Gossip:
    def __init__(self) -> None:
        self.mutex = anyio.Semaphore(1)
        self.is_closed = False

    async def until_closed(self) -> None:
        while True:
            await self.mutex.acquire()
            if self.is_closed:
                break  # bug: with the mutex
            self.mutex.release()
            await lowlevel.checkpoint()

    async def until_closed_fixed(self) -> None:
        while True:
            async with self.mutex:
                if self.is_closed:
                    break
            await lowlevel.checkpoint()

    async def run(self) -> None:
        await self.until_closed()  # to bootstrap
        await self.until_closed()  # to manage

    async def run_fixed(self) -> None:
        await self.until_closed_fixed()
        await self.until_closed_fixed()


async def gossip(group: TaskGroup) -> None:
    node = Gossip()
    group.start_soon(node.run)
    await lowlevel.checkpoint()
    node.is_closed = True
    await settled()


async def gossip_fixed(group: TaskGroup) -> None:
    node = Gossip()
    group.start_soon(node.run_fixed)
    await lowlevel.checkpoint()
    node.is_closed = True
    await settled()


# etcd-io/etcd#5509


class LeaseClient:
    def __init__(self) -> None:
        self.mutex = anyio.Semaphore(1)
        self.is_closed = False

    async def use(self) -> None:
        await self.mutex.acquire()
        if self.is_closed:
            raise ConnectionError("closed")  # bug: with the mutex
        self.mutex.release()

    async def use_fixed(self) -> None:
        async with self.mutex:
            if self.is_closed:
                raise ConnectionError("closed")

    async def close(self, closing: anyio.Event) -> None:
        async with self.mutex:
            self.is_closed = True
            closing.set()
            await give_way()  # says goodbye, while a user of the client queues up for the mutex
        async with self.mutex:
            pass  # the last user has left


async def read(use: Callable[[], Awaitable[None]], closing: anyio.Event) -> None:
    await closing.wait()
    with suppress(ConnectionError):
        await use()


async def close_client(group: TaskGroup) -> None:
    client, closing = LeaseClient(), anyio.Event()
    group.start_soon(read, client.use, closing)
    await client.close(closing)


async def close_client_fixed(group: TaskGroup) -> None:
    client, closing = LeaseClient(), anyio.Event()
    group.start_soon(read, client.use_fixed, closing)
    await client.close(closing)


# grpc/grpc-go#3017


class Removal:
    def __init__(self) -> None:
        self.is_due = anyio.Event()
        self.is_aborted = False


class SubConnections:
    """Connections are kept for a moment after their removal, for whoever wants them back."""

    def __init__(self, group: TaskGroup) -> None:
        self.group = group
        self.mutex = anyio.Semaphore(1)
        self.kept: dict[str, Removal] = {}

    async def remove(self, address: str, delete: Callable[[str, Removal], Awaitable[None]]) -> None:
        async with self.mutex:
            removal = self.kept[address] = Removal()
            self.group.start_soon(delete, address, removal)

    async def take_back(self, address: str) -> None:
        async with self.mutex:
            removal = self.kept.pop(address, None)
            if removal is not None:
                await removal.is_due.wait()  # the timer fires just now
                removal.is_aborted = True

    async def delete(self, address: str, removal: Removal) -> None:
        await give_way()  # the timer
        removal.is_due.set()
        await self.mutex.acquire()
        if removal.is_aborted:
            return  # bug: with the mutex
        self.kept.pop(address, None)
        self.mutex.release()

    async def delete_fixed(self, address: str, removal: Removal) -> None:
        await give_way()  # the timer
        removal.is_due.set()
        async with self.mutex:
            if not removal.is_aborted:
                self.kept.pop(address, None)

    async def flap(self, delete: Callable[[str, Removal], Awaitable[None]], is_done: anyio.Event) -> None:
        await self.remove("address", delete)
        await self.take_back("address")
        await lowlevel.checkpoint()
        async with self.mutex:
            is_done.set()


async def flapping(group: TaskGroup) -> None:
    cache, is_done = SubConnections(group), anyio.Event()
    group.start_soon(cache.flap, cache.delete, is_done)
    await is_done.wait()


async def flapping_fixed(group: TaskGroup) -> None:
    cache, is_done = SubConnections(group), anyio.Event()
    group.start_soon(cache.flap, cache.delete_fixed, is_done)
    await is_done.wait()
    await settled()


# moby/moby#7559


class UdpProxy:
    def __init__(self) -> None:
        self.mutex = anyio.Semaphore(1)
        self.clients: dict[str, str] = {}

    async def dial(self, client: str) -> str:
        await lowlevel.checkpoint()
        if client == "refused":
            raise ConnectionRefusedError
        return f"to {client}"

    async def run(self, packets: list[str]) -> None:
        for client in packets:
            await self.mutex.acquire()
            if client not in self.clients:
                try:
                    self.clients[client] = await self.dial(client)
                except ConnectionRefusedError:
                    continue  # bug: with the mutex
            self.mutex.release()

    async def run_fixed(self, packets: list[str]) -> None:
        for client in packets:
            async with self.mutex:
                if client not in self.clients:
                    with suppress(ConnectionRefusedError):
                        self.clients[client] = await self.dial(client)


PACKETS: Final = ["accepted", "refused", "accepted"]


async def proxy(group: TaskGroup) -> None:
    group.start_soon(UdpProxy().run, PACKETS)
    await settled()


async def proxy_fixed(group: TaskGroup) -> None:
    group.start_soon(UdpProxy().run_fixed, PACKETS)
    await settled()


KERNELS: Final = (
    Kernel(
        "cockroach_584",
        "A loop is left with the mutex held, and the next one locks again.",
        gossip,
        gossip_fixed,
        leaks=(Stuck("Gossip.run", "Semaphore.acquire"),),
    ),
    Kernel(
        "etcd_5509",
        "A reader that finds the client closed returns with the mutex held, and close() waits to lock again.",
        close_client,
        close_client_fixed,
        body=Stuck("", "Semaphore.acquire"),
    ),
    Kernel(
        "grpc_3017",
        "A timer's task finds its work called off and returns with the mutex held.",
        flapping,
        flapping_fixed,
        leaks=(Stuck("SubConnections.flap", "Semaphore.acquire"),),
        body=Stuck("", "Event.wait"),
    ),
    Kernel(
        "moby_7559",
        "A loop goes on to its next turn without unlocking when it cannot dial.",
        proxy,
        proxy_fixed,
        leaks=(Stuck("UdpProxy.run", "Semaphore.acquire"),),
    ),
)
