"""Kernels in which a background task ends only on a word that never comes: the end of a context, or of an object.

After the communication deadlocks of GoBench (CGO 2021, doi:10.1109/CGO51591.2021.9370317); each names its upstream pull
request.
"""

from __future__ import annotations

from typing import Final

import anyio
from anyio import lowlevel
from anyio.abc import TaskGroup
from kernels.kernel import Stuck

from anyio_kernels.kernel import Kernel
from anyio_kernels.shims import settled

# cockroachdb/cockroach#10790


class Replica:
    def __init__(self) -> None:
        self.is_cancelled = anyio.Event()
        self.commands = [anyio.create_memory_object_stream[str](1) for _ in range(2)]

    async def command(self, number: int) -> None:
        await lowlevel.checkpoint()
        done, _ = self.commands[number]
        if not self.is_cancelled.is_set():
            await done.send("done")

    async def command_fixed(self, number: int) -> None:
        done, _ = self.commands[number]
        with done:
            await self.command(number)

    async def drain(self) -> None:
        await self.is_cancelled.wait()
        for _, results in self.commands:
            async for _ in results:  # bug: commands that have seen the cancellation neither send nor close
                break


async def cancelled_commands(group: TaskGroup) -> None:
    replica = Replica()
    group.start_soon(replica.drain)
    for number in range(2):
        group.start_soon(replica.command, number)
    replica.is_cancelled.set()
    await settled()


async def cancelled_commands_fixed(group: TaskGroup) -> None:
    replica = Replica()
    group.start_soon(replica.drain)
    for number in range(2):
        group.start_soon(replica.command_fixed, number)
    replica.is_cancelled.set()
    await settled()


# cockroachdb/cockroach#13755


class Rows:
    """Rows of a database, with a task that gives the connection back once they are closed."""

    def __init__(self, group: TaskGroup) -> None:
        self.is_closed = anyio.Event()
        self.has_connection = True
        group.start_soon(self.await_done)

    async def await_done(self) -> None:
        await self.is_closed.wait()
        self.has_connection = False

    async def first(self) -> int:
        await lowlevel.checkpoint()
        return 1

    async def aclose(self) -> None:
        self.is_closed.set()
        await settled()


async def query(group: TaskGroup) -> None:
    rows = Rows(group)
    await rows.first()
    await settled()
    # bug: they are never closed


async def query_fixed(group: TaskGroup) -> None:
    rows = Rows(group)
    try:
        await rows.first()
    finally:
        await rows.aclose()


# grpc/grpc-go#862


class ClientConnection:
    def __init__(self, group: TaskGroup) -> None:
        self.context = anyio.CancelScope()
        group.start_soon(self.reset_transport)

    async def reset_transport(self) -> None:
        with self.context:
            while True:
                await lowlevel.checkpoint()  # cannot connect
                await anyio.sleep(120)


async def dial(group: TaskGroup, context: anyio.CancelScope) -> ClientConnection | None:
    connection = ClientConnection(group)
    await lowlevel.checkpoint()
    if context.cancel_called:
        return None  # bug: now nobody can close the connection
    return connection


async def dial_fixed(group: TaskGroup, context: anyio.CancelScope) -> ClientConnection | None:
    connection = ClientConnection(group)
    await lowlevel.checkpoint()
    if context.cancel_called:
        connection.context.cancel()
        return None
    return connection


async def dialling(group: TaskGroup) -> None:
    context = anyio.CancelScope()
    context.cancel()
    await dial(group, context)
    await settled()


async def dialling_fixed(group: TaskGroup) -> None:
    context = anyio.CancelScope()
    context.cancel()
    await dial_fixed(group, context)
    await settled()


# kubernetes/kubernetes#25331


class WatchChan:
    """A watch that ends itself at an error. Who watches does so in its context."""

    def __init__(self) -> None:
        self.send, self.results = anyio.create_memory_object_stream[str](0)
        self.context = anyio.CancelScope()
        self.failing = anyio.Event()

    async def run(self) -> None:
        await self.failing.wait()
        self.context.cancel()
        await self.send.send("the version asked for is gone")  # bug: whoever was cancelled does not receive any more

    async def run_fixed(self) -> None:
        await self.failing.wait()
        self.context.cancel()
        with anyio.CancelScope() as sending:
            sending.cancel()  # as the context is: whoever is ready receives, for anybody else it is too late
            await self.send.send("the version asked for is gone")

    async def next(self) -> str | None:
        with self.context:
            self.failing.set()
            return await self.results.receive()
        return None


async def watch(group: TaskGroup) -> None:
    watched = WatchChan()
    group.start_soon(watched.run)
    await watched.next()
    await settled()


async def watch_fixed(group: TaskGroup) -> None:
    watched = WatchChan()
    group.start_soon(watched.run_fixed)
    await watched.next()
    await settled()


KERNELS: Final = (
    Kernel(
        "cockroach_10790",
        "After a cancellation a task drains the streams of commands that have noticed it and send nothing.",
        cancelled_commands,
        cancelled_commands_fixed,
        leaks=(Stuck("Replica.drain", "MemoryObjectReceiveStream.receive"),),
    ),
    Kernel(
        "cockroach_13755",
        "An object starts a task that waits for it to be closed, and nobody closes it.",
        query,
        query_fixed,
        leaks=(Stuck("Rows.await_done", "Event.wait"),),
    ),
    Kernel(
        "grpc_862",
        "A cancelled dial drops a connection that goes on trying to connect.",
        dialling,
        dialling_fixed,
        leaks=(Stuck("ClientConnection.reset_transport", "sleep", provable=False),),
    ),
    Kernel(
        "kubernetes_25331",
        "A watch cancels itself and then sends its error, for which nobody waits any more.",
        watch,
        watch_fixed,
        leaks=(Stuck("WatchChan.run", "MemoryObjectSendStream.send"),),
    ),
)
