"""Kernels in which somebody sends to a queue or channel that nobody receives from, or receives where nobody sends.

After the communication deadlocks of GoBench (CGO 2021, doi:10.1109/CGO51591.2021.9370317); each names its upstream pull
request.
"""

from __future__ import annotations

import asyncio
from typing import Final

from kernels.kernel import Kernel, Stuck
from kernels.shims import give_way

# cockroachdb/cockroach#24808


class Compactor:
    def __init__(self) -> None:
        self.suggestions = asyncio.Queue[str](1)
        self.compacted: list[str] = []

    async def suggest(self, span: str) -> None:
        await self.suggestions.put(span)

    async def start(self) -> asyncio.Task[None]:
        await self.suggest("all that was left to do")  # bug: who takes it is started only afterwards
        return asyncio.create_task(self.compact(), name="compactor")

    async def start_fixed(self) -> asyncio.Task[None]:
        compacting = asyncio.create_task(self.compact(), name="compactor")
        await self.suggest("all that was left to do")
        return compacting

    async def compact(self) -> None:
        while len(self.compacted) < 2:
            self.compacted.append(await self.suggestions.get())


async def compact() -> None:
    compactor = Compactor()
    await compactor.suggest("a span")
    await (await compactor.start())


async def compact_fixed() -> None:
    compactor = Compactor()
    await compactor.suggest("a span")
    await (await compactor.start_fixed())


# cockroachdb/cockroach#35073

ROWS: Final = 20


class Outbox:
    """Sends rows on to another node, to which it cannot connect."""

    def __init__(self) -> None:
        self.rows = asyncio.Queue[int](16)
        self.is_closed = False

    async def run(self) -> None:
        await asyncio.sleep(0)
        # bug: cannot connect, and leaves those who push where they are

    async def run_fixed(self) -> None:
        await asyncio.sleep(0)
        self.is_closed = True
        while not self.rows.empty():
            self.rows.get_nowait()
            await asyncio.sleep(0)

    async def push_all(self) -> None:
        for row in range(ROWS):
            if self.is_closed:
                return
            await self.rows.put(row)


async def push_rows() -> None:
    outbox = Outbox()
    async with asyncio.TaskGroup() as group:
        group.create_task(outbox.run(), name="outbox")
        group.create_task(outbox.push_all(), name="first pusher")
        group.create_task(outbox.push_all(), name="second pusher")


async def push_rows_fixed() -> None:
    outbox = Outbox()
    async with asyncio.TaskGroup() as group:
        group.create_task(outbox.run_fixed(), name="outbox")
        group.create_task(outbox.push_all(), name="first pusher")
        group.create_task(outbox.push_all(), name="second pusher")


# etcd-io/etcd#6857


class Node:
    def __init__(self) -> None:
        self.requests = asyncio.Queue[asyncio.Future[str] | None]()
        self.is_stopped = False

    async def run(self) -> None:
        while (request := await self.requests.get()) is not None:
            request.set_result("leader")

    async def stop(self) -> None:
        self.is_stopped = True
        await self.requests.put(None)

    async def status(self) -> str:
        reply = asyncio.get_running_loop().create_future()
        await self.requests.put(reply)  # bug: whoever would reply may have stopped
        return str(await reply)

    async def status_fixed(self) -> str:
        if self.is_stopped:
            return "stopped"
        reply = asyncio.get_running_loop().create_future()
        await self.requests.put(reply)
        return str(await reply)


async def node_status() -> None:
    node = Node()
    running = asyncio.create_task(node.run(), name="node")
    await node.stop()
    await running
    asyncio.create_task(node.status(), name="status")
    await give_way()


async def node_status_fixed() -> None:
    node = Node()
    running = asyncio.create_task(node.run(), name="node")
    await node.stop()
    await running
    await asyncio.create_task(node.status_fixed(), name="status")


# grpc/grpc-go#1275


class Stream:
    def __init__(self) -> None:
        self.frames = asyncio.Queue[bytes]()
        self.is_open = True

    async def read_all(self) -> bytes:
        found = b""
        while frame := await self.frames.get():
            found += frame
        return found

    async def close(self) -> None:
        self.is_open = False  # bug: does not wake the reader

    async def close_fixed(self) -> None:
        self.is_open = False
        await self.frames.put(b"")


async def stream() -> None:
    opened = Stream()
    reader = asyncio.create_task(opened.read_all(), name="stream reader")
    await opened.frames.put(b"header")
    await opened.close()
    await asyncio.wait([reader], timeout=0.01)  # long enough for anybody to read that


async def stream_fixed() -> None:
    opened = Stream()
    reader = asyncio.create_task(opened.read_all(), name="stream reader")
    await opened.frames.put(b"header")
    await opened.close_fixed()
    await asyncio.wait([reader])


# kubernetes/kubernetes#38669


class CacheWatcher:
    def __init__(self) -> None:
        self.input = asyncio.Queue[str | None](10)
        self.result = asyncio.Queue[str](1)

    async def process(self, initial: list[str]) -> None:
        for present in initial:
            await self.result.put(present)  # bug: stop() reaches only those who wait for input
        while (event := await self.input.get()) is not None:
            await self.result.put(event)

    async def stop(self) -> None:
        await self.input.put(None)


async def watch_cache() -> None:
    watcher = CacheWatcher()
    asyncio.create_task(watcher.process(["added", "modified"]), name="process")
    await asyncio.sleep(0)
    await watcher.stop()
    await give_way()


async def watch_cache_fixed() -> None:
    watcher = CacheWatcher()
    processing = asyncio.create_task(watcher.process(["added", "modified"]), name="process")
    await asyncio.sleep(0)
    processing.cancel()
    await asyncio.wait([processing])


KERNELS: Final = (
    Kernel(
        "cockroach/24808",
        "start() puts something into a full queue before it starts who takes it out.",
        compact,
        compact_fixed,
        body=Stuck("", "Queue.put"),
    ),
    Kernel(
        "cockroach/35073",
        "The consumer gives up at its start, and two producers wait for room in its queue.",
        push_rows,
        push_rows_fixed,
        leaks=(Stuck("first pusher", "Queue.put"), Stuck("second pusher", "Queue.put")),
        body=Stuck("", "TaskGroup.__aexit__"),
    ),
    Kernel(
        "etcd/6857",
        "A request is sent to a worker that has stopped, and its reply awaited.",
        node_status,
        node_status_fixed,
        leaks=(Stuck("status", "Node.status"),),
    ),
    Kernel(
        "grpc/1275",
        "Closing a stream does not wake its reader; whoever closed it waits for the reader for a while and leaves.",
        stream,
        stream_fixed,
        leaks=(Stuck("stream reader", "Queue.get"),),
    ),
    Kernel(
        "kubernetes/38669",
        "The events at hand fill a queue that nobody reads, and stop() only ends the input.",
        watch_cache,
        watch_cache_fixed,
        leaks=(Stuck("process", "Queue.put"),),
    ),
)
