"""Kernels of AnyIO's own, which Go cannot supply: groups, `start`, limiters, threads."""

from __future__ import annotations

import threading
from typing import Final

import anyio
from anyio import to_thread
from anyio.abc import TaskGroup, TaskStatus
from kernels.kernel import Stuck

from anyio_kernels.kernel import Kernel
from anyio_kernels.shims import settled

# start(): both sides wait for the other to begin


class Server:
    def __init__(self) -> None:
        self.is_configured = anyio.Event()

    async def serve(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        await self.is_configured.wait()  # bug: who configures it waits for it to have started
        task_status.started()

    async def serve_fixed(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        await self.is_configured.wait()


async def start_server(group: TaskGroup) -> None:
    server = Server()
    await group.start(server.serve)
    server.is_configured.set()


async def start_server_fixed(group: TaskGroup) -> None:
    server = Server()
    await group.start(server.serve_fixed)
    server.is_configured.set()
    await settled()


# start(): what started stays behind


async def listen(*, task_status: TaskStatus[int] = anyio.TASK_STATUS_IGNORED) -> None:
    send, connections = anyio.create_memory_object_stream[str](0)
    with send, connections:
        task_status.started(8080)
        async for _ in connections:
            pass


async def start_listener(group: TaskGroup) -> None:
    await group.start(listen)  # bug: nobody can stop it but who cancels the whole group
    await settled()


async def start_listener_fixed(_: TaskGroup) -> None:
    async with anyio.create_task_group() as group:
        await group.start(listen)
        group.cancel_scope.cancel()


# A group in a task that does not end: whoever waits for the task waits for a child of it


class Supervisor:
    def __init__(self) -> None:
        self.is_stopped = anyio.Event()

    async def watch(self) -> None:
        await self.is_stopped.wait()

    async def supervise(self) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(self.watch)


async def supervision(group: TaskGroup) -> None:
    group.start_soon(Supervisor().supervise)  # bug: nobody else has it, to stop it
    await settled()


async def supervision_fixed(group: TaskGroup) -> None:
    supervisor = Supervisor()
    group.start_soon(supervisor.supervise)
    await settled()
    supervisor.is_stopped.set()
    await settled()


# A limiter whose only token is held by who waits for somebody that needs it


class Pool:
    def __init__(self) -> None:
        self.limiter = anyio.CapacityLimiter(1)
        self.is_begun = anyio.Event()
        self.is_written = anyio.Event()

    async def write(self) -> None:
        await self.is_begun.wait()
        await to_thread.run_sync(int, limiter=self.limiter)
        self.is_written.set()

    async def transaction(self) -> None:
        async with self.limiter:
            self.is_begun.set()
            await self.is_written.wait()  # bug: the writer's thread needs a token of the same limiter

    async def transaction_fixed(self) -> None:
        async with self.limiter:
            self.is_begun.set()
        await self.is_written.wait()


async def write(group: TaskGroup) -> None:
    pool = Pool()
    group.start_soon(pool.write)
    group.start_soon(pool.transaction)
    await settled()


async def write_fixed(_: TaskGroup) -> None:
    pool = Pool()
    async with anyio.create_task_group() as group:
        group.start_soon(pool.write)
        group.start_soon(pool.transaction_fixed)


# A thread that nobody releases. It could be released from anywhere: threads are not looked into


class Import:
    def __init__(self) -> None:
        self.gate = threading.Event()

    async def run(self) -> None:
        try:
            await to_thread.run_sync(self.gate.wait, abandon_on_cancel=True)
        finally:
            self.gate.set()


async def import_data(group: TaskGroup) -> None:
    group.start_soon(Import().run)  # bug: nobody opens the gate
    await settled()


async def import_data_fixed(_: TaskGroup) -> None:
    imported = Import()
    async with anyio.create_task_group() as group:
        group.start_soon(imported.run)
        await settled()
        imported.gate.set()


KERNELS: Final = (
    Kernel(
        "anyio_start",
        "start() waits for a task that says it has started only when it has got what comes after start().",
        start_server,
        start_server_fixed,
        leaks=(Stuck("Server.serve", "Event.wait"),),
        body=Stuck("", "TaskGroup.start"),
    ),
    Kernel(
        "anyio_start_and_forget",
        "A listener that has started is left behind in somebody else's group.",
        start_listener,
        start_listener_fixed,
        leaks=(Stuck("listen", "MemoryObjectReceiveStream.receive"),),
    ),
    Kernel(
        "anyio_group_in_task",
        "A task waits in its own group for a child that nobody can stop.",
        supervision,
        supervision_fixed,
        leaks=(Stuck("Supervisor.supervise", "TaskGroup.__aexit__"), Stuck("Supervisor.watch", "Event.wait")),
    ),
    Kernel(
        "anyio_limiter",
        "A task that has the only token of a limiter waits for another, whose thread needs it.",
        write,
        write_fixed,
        leaks=(Stuck("Pool.write", "to_thread.run_sync"), Stuck("Pool.transaction", "Event.wait")),
    ),
    Kernel(
        "anyio_thread",
        "A task waits for a thread that waits for somebody who never comes.",
        import_data,
        import_data_fixed,
        leaks=(Stuck("Import.run", "to_thread.run_sync", provable=False),),
    ),
)
