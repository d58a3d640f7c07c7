"""Kernels in which somebody sends into a full buffer that nobody empties, or receives where nobody sends.

After the communication deadlocks of GoBench (CGO 2021, doi:10.1109/CGO51591.2021.9370317); each names its upstream pull
request.
"""

from __future__ import annotations

from typing import Final

import anyio
from anyio import lowlevel
from anyio.abc import ObjectSendStream, TaskGroup
from kernels.kernel import Stuck

from anyio_kernels.kernel import Kernel
from anyio_kernels.shims import settled

# cockroachdb/cockroach#24808


class Compactor:
    def __init__(self) -> None:
        self.suggest, self.suggestions = anyio.create_memory_object_stream[str](1)
        self.compacted: list[str] = []

    async def start(self, group: TaskGroup) -> None:
        await self.suggest.send("all that was left to do")  # bug: who takes it is started only afterwards
        group.start_soon(self.compact)

    async def start_fixed(self, group: TaskGroup) -> None:
        group.start_soon(self.compact)
        await self.suggest.send("all that was left to do")

    async def compact(self) -> None:
        while len(self.compacted) < 2:
            self.compacted.append(await self.suggestions.receive())


async def compact(group: TaskGroup) -> None:
    compactor = Compactor()
    await compactor.suggest.send("a span")
    await compactor.start(group)


async def compact_fixed(group: TaskGroup) -> None:
    compactor = Compactor()
    await compactor.suggest.send("a span")
    await compactor.start_fixed(group)
    await settled()


# cockroachdb/cockroach#35073

ROWS: Final = 20


class Outbox:
    """Sends rows on to another node, to which it cannot connect."""

    def __init__(self) -> None:
        self.push, self.rows = anyio.create_memory_object_stream[int](16)

    async def run(self) -> None:
        await lowlevel.checkpoint()
        # bug: cannot connect, and leaves those who push where they are

    async def run_fixed(self) -> None:
        with self.rows:
            await lowlevel.checkpoint()

    async def push_all(self) -> None:
        for row in range(ROWS):
            try:
                await self.push.send(row)
            except anyio.BrokenResourceError:
                return


async def push_rows(_: TaskGroup) -> None:
    outbox = Outbox()
    async with anyio.create_task_group() as group:
        group.start_soon(outbox.run)
        group.start_soon(outbox.push_all)
        group.start_soon(outbox.push_all)


async def push_rows_fixed(_: TaskGroup) -> None:
    outbox = Outbox()
    async with anyio.create_task_group() as group:
        group.start_soon(outbox.run_fixed)
        group.start_soon(outbox.push_all)
        group.start_soon(outbox.push_all)


# etcd-io/etcd#6857


class Node:
    def __init__(self) -> None:
        self.request, self.requests = anyio.create_memory_object_stream[ObjectSendStream[str]](0)
        self.stopping = anyio.CancelScope()

    async def run(self) -> None:
        with self.stopping:
            async for reply in self.requests:
                await reply.send("leader")

    async def run_fixed(self) -> None:
        with self.requests:
            await self.run()

    async def status(self) -> str:
        reply, replies = anyio.create_memory_object_stream[str](1)
        try:
            await self.request.send(reply)  # bug: whoever would take it may have stopped
        except anyio.BrokenResourceError:
            return "stopped"
        return await replies.receive()


async def node_status(group: TaskGroup) -> None:
    node = Node()
    group.start_soon(node.run)
    await lowlevel.checkpoint()
    node.stopping.cancel()
    await settled()
    group.start_soon(node.status)
    await settled()


async def node_status_fixed(group: TaskGroup) -> None:
    node = Node()
    group.start_soon(node.run_fixed)
    await lowlevel.checkpoint()
    node.stopping.cancel()
    await settled()
    group.start_soon(node.status)
    await settled()


# grpc/grpc-go#1275


class Stream:
    def __init__(self) -> None:
        self.write, self.frames = anyio.create_memory_object_stream[bytes](10)
        self.is_open = True
        self.is_read = anyio.Event()

    async def read_all(self) -> None:
        async for _ in self.frames:
            pass
        self.is_read.set()

    async def close(self) -> None:
        self.is_open = False  # bug: does not wake the reader

    async def close_fixed(self) -> None:
        self.is_open = False
        self.write.close()


async def stream(group: TaskGroup) -> None:
    opened = Stream()
    group.start_soon(opened.read_all)
    await opened.write.send(b"header")
    await opened.close()
    with anyio.move_on_after(0.01):  # long enough for anybody to read that
        await opened.is_read.wait()


async def stream_fixed(group: TaskGroup) -> None:
    opened = Stream()
    group.start_soon(opened.read_all)
    await opened.write.send(b"header")
    await opened.close_fixed()
    await opened.is_read.wait()
    await settled()


# kubernetes/kubernetes#38669


class CacheWatcher:
    def __init__(self) -> None:
        self.add, self.input = anyio.create_memory_object_stream[str](10)
        self.send, self.result = anyio.create_memory_object_stream[str](1)

    async def process(self, initial: list[str]) -> None:
        for present in initial:
            await self.send.send(present)  # bug: stop() reaches only those who wait for input
        async for event in self.input:
            await self.send.send(event)

    async def process_fixed(self, initial: list[str], stopping: anyio.CancelScope) -> None:
        with stopping:
            await self.process(initial)

    def stop(self) -> None:
        self.add.close()


async def watch_cache(group: TaskGroup) -> None:
    watcher = CacheWatcher()
    group.start_soon(watcher.process, ["added", "modified"])
    await lowlevel.checkpoint()
    watcher.stop()
    await settled()


async def watch_cache_fixed(group: TaskGroup) -> None:
    watcher, stopping = CacheWatcher(), anyio.CancelScope()
    group.start_soon(watcher.process_fixed, ["added", "modified"], stopping)
    await lowlevel.checkpoint()
    watcher.stop()
    stopping.cancel()
    await settled()


KERNELS: Final = (
    Kernel(
        "cockroach_24808",
        "start() sends something into a full buffer before it starts who takes it out.",
        compact,
        compact_fixed,
        body=Stuck("", "MemoryObjectSendStream.send"),
    ),
    Kernel(
        "cockroach_35073",
        "The consumer gives up at its start without closing its stream, and two producers wait for room in it.",
        push_rows,
        push_rows_fixed,
        leaks=(Stuck("Outbox.push_all", "MemoryObjectSendStream.send"),) * 2,
        body=Stuck("", "TaskGroup.__aexit__"),
    ),
    Kernel(
        "etcd_6857",
        "A request is sent to a worker that has stopped.",
        node_status,
        node_status_fixed,
        leaks=(Stuck("Node.status", "MemoryObjectSendStream.send"),),
    ),
    Kernel(
        "grpc_1275",
        "Closing a stream does not wake its reader; whoever closed it waits for the reader for a while and leaves.",
        stream,
        stream_fixed,
        leaks=(Stuck("Stream.read_all", "MemoryObjectReceiveStream.receive"),),
    ),
    Kernel(
        "kubernetes_38669",
        "The events at hand fill a buffer that nobody reads, and stop() only ends the input.",
        watch_cache,
        watch_cache_fixed,
        leaks=(Stuck("CacheWatcher.process", "MemoryObjectSendStream.send"),),
    ),
)
