"""Kernels in which somebody sends over an unbuffered or full stream with a lock held that the receiver needs first.

After the mixed deadlocks of GoBench (CGO 2021, doi:10.1109/CGO51591.2021.9370317); each names its upstream pull
request.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import anyio
from anyio import lowlevel
from anyio.abc import TaskGroup
from kernels.kernel import Stuck

from anyio_kernels.kernel import Kernel
from anyio_kernels.shims import WaitGroup, give_way, settled

# etcd-io/etcd#7492

AUTHENTICATORS: Final = 3
TICK: Final = ""


class SimpleTokens:
    """Tokens go to a keeper, which also looks at each tick which of them are too old."""

    def __init__(self) -> None:
        self.lock = anyio.Lock()
        self.tell, self.told = anyio.create_memory_object_stream[str](1)
        self.kept: list[str] = []

    async def assign(self, token: str) -> None:
        async with self.lock:
            await self.tell.send(token)  # bug: the keeper may need the lock before it receives

    async def assign_fixed(self, token: str) -> None:
        async with self.lock:
            pass  # has made the token
        await self.tell.send(token)

    async def keep(self) -> None:
        async for told in self.told:
            if told != TICK:
                self.kept.append(told)
                continue
            async with self.lock:
                self.kept = self.kept[-100:]


async def authenticate(assign: Callable[[str], Awaitable[None]], group: WaitGroup) -> None:
    await assign("token")
    group.done()


async def authenticators(group: TaskGroup) -> None:
    tokens, all_done = SimpleTokens(), WaitGroup(AUTHENTICATORS)
    await tokens.tell.send(TICK)
    for _ in range(AUTHENTICATORS):
        group.start_soon(authenticate, tokens.assign, all_done)
    await give_way()
    group.start_soon(tokens.keep)
    await all_done.wait()
    tokens.tell.close()


async def authenticators_fixed(group: TaskGroup) -> None:
    tokens, all_done = SimpleTokens(), WaitGroup(AUTHENTICATORS)
    await tokens.tell.send(TICK)
    for _ in range(AUTHENTICATORS):
        group.start_soon(authenticate, tokens.assign_fixed, all_done)
    await give_way()
    group.start_soon(tokens.keep)
    await all_done.wait()
    tokens.tell.close()
    await settled()


# grpc/grpc-go#1353


class RoundRobin:
    def __init__(self) -> None:
        self.lock = anyio.Lock()
        self.update, self.updates = anyio.create_memory_object_stream[list[str]](0)
        self.connect, self.connected = anyio.create_memory_object_stream[None](0)
        self.addresses: list[str] = []

    async def watch_address_updates(self) -> None:
        async with self.lock:
            for addresses in (["first"], ["second"]):
                await self.update.send(addresses)  # bug: down() needs the lock before the next can be received
        self.update.close()

    async def watch_address_updates_fixed(self) -> None:
        for addresses in (["first"], ["second"]):
            async with self.lock:
                self.addresses = addresses
            await self.update.send(addresses)
        self.update.close()

    async def watch_balancer(self) -> None:
        async for addresses in self.updates:
            for address in addresses:
                await self.down(address)
        await self.connect.send(None)

    async def down(self, address: str) -> None:
        async with self.lock:
            self.addresses = [other for other in self.addresses if other != address]

    async def dial(self) -> None:
        await self.connected.receive()


async def balancer(group: TaskGroup) -> None:
    robin = RoundRobin()
    group.start_soon(robin.dial)
    group.start_soon(robin.watch_address_updates)
    group.start_soon(robin.watch_balancer)
    await settled()


async def balancer_fixed(group: TaskGroup) -> None:
    robin = RoundRobin()
    group.start_soon(robin.dial)
    group.start_soon(robin.watch_address_updates_fixed)
    group.start_soon(robin.watch_balancer)
    await settled()


# istio/istio#16224


class ConfigMonitor:
    """Tells a handler of changes. The handler looks at what it has seen under a lock."""

    def __init__(self) -> None:
        self.lock = anyio.Lock()
        self.happen, self.events = anyio.create_memory_object_stream[str](0)
        self.finish, self.finished = anyio.create_memory_object_stream[None](0)
        self.seen: list[str] = []

    async def run(self) -> None:
        while True:
            await self.handle(await self.events.receive())  # bug (the second): who has sent enough does not close

    async def handle(self, event: str) -> None:
        async with self.lock:
            self.seen.append(event)
            await self.finish.send(None)  # bug (the first): whoever receives it may want the lock before

    async def run_fixed(self) -> None:
        async for event in self.events:
            async with self.lock:
                self.seen.append(event)
            await self.finish.send(None)


async def monitor(group: TaskGroup) -> None:
    config = ConfigMonitor()
    group.start_soon(config.run)
    await config.happen.send("added")
    await give_way()
    async with config.lock:
        config.seen.clear()
    await config.finished.receive()


async def monitor_fixed(group: TaskGroup) -> None:
    config = ConfigMonitor()
    group.start_soon(config.run_fixed)
    await config.happen.send("added")
    await give_way()
    async with config.lock:
        config.seen.clear()
    await config.finished.receive()
    config.happen.close()
    await settled()


async def stopped_monitor(group: TaskGroup) -> None:
    config = ConfigMonitor()
    group.start_soon(config.run)
    await config.happen.send("added")
    await config.finished.receive()
    async with config.lock:
        config.seen.clear()
    await settled()


async def stopped_monitor_fixed(group: TaskGroup) -> None:
    config = ConfigMonitor()
    group.start_soon(config.run_fixed)
    await config.happen.send("added")
    await config.finished.receive()
    async with config.lock:
        config.seen.clear()
    config.happen.close()
    await settled()


# kubernetes/kubernetes#6632


class IdleAwareFramer:
    """A monitor closes a connection that is idle for long; every frame that is written puts that off."""

    def __init__(self) -> None:
        self.write_lock = anyio.Lock()
        self.reset, self.resets = anyio.create_memory_object_stream[None](0)
        self.context = anyio.CancelScope()

    async def monitor(self) -> None:
        with self.context:
            async for _ in self.resets:
                pass
        async with self.write_lock:
            self.resets.close()

    async def monitor_fixed(self) -> None:
        with self.context, self.resets:
            async for _ in self.resets:
                pass

    async def write_frame(self) -> None:
        async with self.write_lock:
            await lowlevel.checkpoint()
            try:
                await self.reset.send(None)  # bug: the monitor may be waiting for the lock
            except anyio.BrokenResourceError:
                return


async def framer(group: TaskGroup) -> None:
    connection = IdleAwareFramer()
    connection.context.cancel()
    group.start_soon(connection.write_frame)
    group.start_soon(connection.monitor)
    await settled()


async def framer_fixed(group: TaskGroup) -> None:
    connection = IdleAwareFramer()
    connection.context.cancel()
    group.start_soon(connection.write_frame)
    group.start_soon(connection.monitor_fixed)
    await settled()


KERNELS: Final = (
    Kernel(
        "etcd_7492",
        "A token is sent to the keeper with a lock held that the keeper wants at its next tick.",
        authenticators,
        authenticators_fixed,
        leaks=(
            Stuck("authenticate", "MemoryObjectSendStream.send"),
            Stuck("authenticate", "Lock.acquire"),
            Stuck("SimpleTokens.keep", "Lock.acquire"),
        ),
        body=Stuck("", "Event.wait"),
    ),
    Kernel(
        "grpc_1353",
        "Updates are sent with a lock held that their receiver wants after the first; a third waits for the receiver.",
        balancer,
        balancer_fixed,
        leaks=(
            Stuck("RoundRobin.watch_address_updates", "MemoryObjectSendStream.send"),
            Stuck("RoundRobin.watch_balancer", "Lock.acquire"),
            Stuck("RoundRobin.dial", "MemoryObjectReceiveStream.receive"),
        ),
    ),
    Kernel(
        "istio_16224",
        "A handler sends with a lock held that whoever receives wants first.",
        monitor,
        monitor_fixed,
        leaks=(Stuck("ConfigMonitor.run", "MemoryObjectSendStream.send"),),
        body=Stuck("", "Lock.acquire"),
    ),
    Kernel(
        "istio_16224_stopped",
        "A monitor waits for the next event when nobody is left to send one.",
        stopped_monitor,
        stopped_monitor_fixed,
        leaks=(Stuck("ConfigMonitor.run", "MemoryObjectReceiveStream.receive"),),
    ),
    Kernel(
        "kubernetes_6632",
        "A writer sends a reset with a lock held that the receiver wants in order to close.",
        framer,
        framer_fixed,
        leaks=(
            Stuck("IdleAwareFramer.write_frame", "MemoryObjectSendStream.send"),
            Stuck("IdleAwareFramer.monitor", "Lock.acquire"),
        ),
    ),
)
