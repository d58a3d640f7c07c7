"""Kernels in which somebody sends over an unbuffered or full channel with a lock held that the receiver needs first.

After the mixed deadlocks of GoBench (CGO 2021, doi:10.1109/CGO51591.2021.9370317); each names its upstream pull
request.
"""

from __future__ import annotations

import asyncio
from typing import Final

from kernels.kernel import Kernel, Stuck
from kernels.shims import Chan, Receiving, Sending, WaitGroup, give_way, select

# etcd-io/etcd#7492

AUTHENTICATORS: Final = 3


class SimpleTokens:
    """Tokens go to a keeper, which also looks from time to time which of them are too old."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.assigned = Chan[str](1)
        self.ticks = Chan[None](1)
        self.stop = Chan[None]()
        self.kept: list[str] = []

    async def assign(self, token: str) -> None:
        async with self.lock:
            await self.assigned.send(token)  # bug: the keeper may need the lock before it receives

    async def assign_fixed(self, token: str) -> None:
        async with self.lock:
            pass  # has made the token
        await self.assigned.send(token)

    async def keep(self) -> None:
        cases = Receiving(self.stop), Receiving(self.ticks), Receiving(self.assigned)
        while (chosen := await select(*cases))[0] != 0:
            if chosen[0] == 2:
                self.kept.append(chosen[1])
                continue
            async with self.lock:
                self.kept = self.kept[-100:]


async def authenticate(tokens: SimpleTokens, token: str, group: WaitGroup) -> None:
    await tokens.assign(token)
    group.done()


async def authenticate_fixed(tokens: SimpleTokens, token: str, group: WaitGroup) -> None:
    await tokens.assign_fixed(token)
    group.done()


async def authenticators() -> None:
    tokens, group = SimpleTokens(), WaitGroup(AUTHENTICATORS)
    for number in range(AUTHENTICATORS):
        asyncio.create_task(authenticate(tokens, f"token {number}", group), name=f"authenticator {number}")
    await tokens.ticks.send(None)
    keeping = asyncio.create_task(tokens.keep(), name="keeper")
    await group.wait()
    tokens.stop.close()
    await keeping


async def authenticators_fixed() -> None:
    tokens, group = SimpleTokens(), WaitGroup(AUTHENTICATORS)
    for number in range(AUTHENTICATORS):
        asyncio.create_task(authenticate_fixed(tokens, f"token {number}", group), name=f"authenticator {number}")
    await tokens.ticks.send(None)
    keeping = asyncio.create_task(tokens.keep(), name="keeper")
    await group.wait()
    tokens.stop.close()
    await keeping


# grpc/grpc-go#1353


class RoundRobin:
    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.updates = Chan[list[str]]()
        self.addresses: list[str] = []
        self.is_connected = Chan[None]()

    async def watch_address_updates(self) -> None:
        async with self.lock:
            for addresses in (["first"], ["second"]):
                await self.updates.send(addresses)  # bug: down() needs the lock before the next can be received
        self.updates.close()

    async def watch_address_updates_fixed(self) -> None:
        for addresses in (["first"], ["second"]):
            async with self.lock:
                self.addresses = addresses
            await self.updates.send(addresses)
        self.updates.close()

    async def watch_balancer(self) -> None:
        async for addresses in self.updates:
            for address in addresses:
                await self.down(address)
        await self.is_connected.send(None)

    async def down(self, address: str) -> None:
        async with self.lock:
            self.addresses = [other for other in self.addresses if other != address]

    async def dial(self) -> None:
        await self.is_connected.recv()


async def balancer() -> None:
    robin = RoundRobin()
    asyncio.create_task(robin.dial(), name="dial")
    asyncio.create_task(robin.watch_address_updates(), name="watch address updates")
    asyncio.create_task(robin.watch_balancer(), name="watch balancer")
    await give_way()


async def balancer_fixed() -> None:
    robin = RoundRobin()
    async with asyncio.TaskGroup() as group:
        group.create_task(robin.dial(), name="dial")
        group.create_task(robin.watch_address_updates_fixed(), name="watch address updates")
        group.create_task(robin.watch_balancer(), name="watch balancer")


# istio/istio#16224


class ConfigMonitor:
    """Tells a handler of changes. The handler looks at what it has seen under a lock."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.events = Chan[str]()
        self.done = Chan[None]()
        self.seen: list[str] = []

    async def run(self) -> None:
        while True:
            await self.handle(await self.events.recv())  # bug (the second): whoever has sent enough stops sending

    async def handle(self, event: str) -> None:
        async with self.lock:
            self.seen.append(event)
            await self.done.send(None)  # bug (the first): whoever receives it may want the lock before

    async def run_fixed(self) -> None:
        async for event in self.events:
            async with self.lock:
                self.seen.append(event)
            await self.done.send(None)


async def monitor() -> None:
    config = ConfigMonitor()
    asyncio.create_task(config.run(), name="run")
    await config.events.send("added")
    await asyncio.sleep(0)
    async with config.lock:
        config.seen.clear()
    await config.done.recv()


async def monitor_fixed() -> None:
    config = ConfigMonitor()
    running = asyncio.create_task(config.run_fixed(), name="run")
    await config.events.send("added")
    await asyncio.sleep(0)
    async with config.lock:
        config.seen.clear()
    await config.done.recv()
    config.events.close()
    await running


async def stopped_monitor() -> None:
    config = ConfigMonitor()
    asyncio.create_task(config.run(), name="run")
    await config.events.send("added")
    await config.done.recv()
    async with config.lock:
        config.seen.clear()


async def stopped_monitor_fixed() -> None:
    config = ConfigMonitor()
    running = asyncio.create_task(config.run_fixed(), name="run")
    await config.events.send("added")
    await config.done.recv()
    async with config.lock:
        config.seen.clear()
    config.events.close()
    await running


# kubernetes/kubernetes#6632


class IdleAwareFramer:
    """A monitor closes a connection that is idle for long; every frame that is written puts that off."""

    def __init__(self) -> None:
        self.write_lock = asyncio.Lock()
        self.resets = Chan[None]()
        self.closed = Chan[None]()

    async def monitor(self) -> None:
        while (await select(Receiving(self.closed), Receiving(self.resets)))[0] != 0:
            pass
        async with self.write_lock:
            self.resets.close()

    async def write_frame(self) -> None:
        async with self.write_lock:
            await asyncio.sleep(0)
            if not self.resets.is_closed:
                await self.resets.send(None)  # bug: the monitor may be waiting for the lock

    async def write_frame_fixed(self) -> None:
        async with self.write_lock:
            await asyncio.sleep(0)
            if not self.resets.is_closed:
                await select(Sending(self.resets), Receiving(self.closed))


async def framer() -> None:
    connection = IdleAwareFramer()
    asyncio.create_task(connection.write_frame(), name="write frame")
    asyncio.create_task(connection.monitor(), name="monitor")
    connection.closed.close()
    await give_way()


async def framer_fixed() -> None:
    connection = IdleAwareFramer()
    async with asyncio.TaskGroup() as group:
        group.create_task(connection.write_frame_fixed(), name="write frame")
        group.create_task(connection.monitor(), name="monitor")
        connection.closed.close()


KERNELS: Final = (
    Kernel(
        "etcd/7492",
        "A token is sent to the keeper with a lock held that the keeper wants at its next tick.",
        authenticators,
        authenticators_fixed,
        leaks=(
            Stuck("authenticator 1", "Chan.send"),
            Stuck("authenticator 2", "Lock.acquire"),
            Stuck("keeper", "Lock.acquire"),
        ),
        body=Stuck("", "WaitGroup.wait"),
    ),
    Kernel(
        "grpc/1353",
        "Updates are sent with a lock held that their receiver wants after the first; a third waits for the receiver.",
        balancer,
        balancer_fixed,
        leaks=(
            Stuck("watch address updates", "Chan.send"),
            Stuck("watch balancer", "Lock.acquire"),
            Stuck("dial", "Chan.recv"),
        ),
    ),
    Kernel(
        "istio/16224",
        "A handler sends with a lock held that whoever receives wants first.",
        monitor,
        monitor_fixed,
        leaks=(Stuck("run", "Chan.send"),),
        body=Stuck("", "Lock.acquire"),
    ),
    Kernel(
        "istio/16224, stopped",
        "A monitor waits for the next event when nobody is left to send one.",
        stopped_monitor,
        stopped_monitor_fixed,
        leaks=(Stuck("run", "Chan.recv"),),
    ),
    Kernel(
        "kubernetes/6632",
        "A writer sends a reset with a lock held that the receiver wants in order to close.",
        framer,
        framer_fixed,
        leaks=(Stuck("write frame", "Chan.send"), Stuck("monitor", "Lock.acquire")),
    ),
)
