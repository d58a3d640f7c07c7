"""Kernels in which a background task ends only on a word that never comes: the end of a context, or of an object.

After the communication deadlocks of GoBench (CGO 2021, doi:10.1109/CGO51591.2021.9370317); each names its upstream pull
request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from kernels.kernel import Body, Kernel, Stuck
from kernels.shims import Chan, Receiving, Sending, give_way, select

# cockroachdb/cockroach#10790


class Replica:
    def __init__(self) -> None:
        self.is_cancelled = asyncio.Event()
        self.commands: list[asyncio.Queue[str]] = [asyncio.Queue(1), asyncio.Queue(1)]

    async def command(self, done: asyncio.Queue[str]) -> None:
        await asyncio.sleep(0)
        if not self.is_cancelled.is_set():
            await done.put("done")

    async def begin_commands(self) -> None:
        await self.is_cancelled.wait()
        asyncio.create_task(self.drain(), name="drain")

    async def drain(self) -> None:
        for done in self.commands:
            await done.get()  # bug: commands that have seen the cancellation put nothing

    async def begin_commands_fixed(self, running: list[asyncio.Task[None]]) -> None:
        await self.is_cancelled.wait()
        await asyncio.wait(running)


def start_commands(replica: Replica) -> list[asyncio.Task[None]]:
    numbered: Iterator[tuple[int, asyncio.Queue[str]]] = enumerate(replica.commands)
    return [asyncio.create_task(replica.command(done), name=f"command {number}") for number, done in numbered]


async def cancelled_commands() -> None:
    replica = Replica()
    running = start_commands(replica)
    replica.is_cancelled.set()
    await replica.begin_commands()
    await asyncio.wait(running)
    await give_way()


async def cancelled_commands_fixed() -> None:
    replica = Replica()
    running = start_commands(replica)
    replica.is_cancelled.set()
    await replica.begin_commands_fixed(running)


# cockroachdb/cockroach#13755


class Rows:
    """Rows of a database, with a task that gives the connection back once they are closed."""

    def __init__(self) -> None:
        self.is_closed = asyncio.Event()
        self.has_connection = True
        self.awaiting_done = asyncio.create_task(self.await_done(), name="await done")

    async def await_done(self) -> None:
        await self.is_closed.wait()
        self.has_connection = False

    async def first(self) -> int:
        await asyncio.sleep(0)
        return 1

    async def aclose(self) -> None:
        self.is_closed.set()
        await self.awaiting_done


async def query() -> None:
    rows = Rows()
    await rows.first()
    # bug: they are never closed


async def query_fixed() -> None:
    rows = Rows()
    try:
        await rows.first()
    finally:
        await rows.aclose()


# grpc/grpc-go#862


class ClientConnection:
    def __init__(self) -> None:
        self.resetting = asyncio.create_task(self.reset_transport(), name="reset transport")

    async def reset_transport(self) -> None:
        retries = 0
        while True:
            await asyncio.sleep(min(0.001 * 1_000**retries, 120))
            retries += 1

    async def aclose(self) -> None:
        self.resetting.cancel()
        with suppress(asyncio.CancelledError):
            await self.resetting


async def dial(is_cancelled: asyncio.Event) -> ClientConnection | None:
    connection = ClientConnection()
    await asyncio.sleep(0)
    if is_cancelled.is_set():
        return None  # bug: now nobody can close the connection
    return connection


async def dial_fixed(is_cancelled: asyncio.Event) -> ClientConnection | None:
    connection = ClientConnection()
    await asyncio.sleep(0)
    if is_cancelled.is_set():
        await connection.aclose()
        return None
    return connection


async def dialling() -> None:
    is_cancelled = asyncio.Event()
    is_cancelled.set()
    await dial(is_cancelled)
    await asyncio.sleep(0.01)  # for the first retry


async def dialling_fixed() -> None:
    is_cancelled = asyncio.Event()
    is_cancelled.set()
    await dial_fixed(is_cancelled)


# kubernetes/kubernetes#25331


async def synchronise() -> str:
    await asyncio.sleep(0)
    return "the version asked for is gone"


class WatchChan:
    """A watch that ends itself at an error. Its context is a channel that is closed when the watch is cancelled."""

    def __init__(self) -> None:
        self.results = Chan[str]()
        self.cancelled = Chan[None]()

    async def run(self) -> None:
        error = await synchronise()
        self.cancelled.close()
        await self.results.send(error)  # bug: whoever was told of the cancellation does not receive any more

    async def run_fixed(self) -> None:
        error = await synchronise()
        self.cancelled.close()
        await select(Sending(self.results, error), Receiving(self.cancelled))

    async def next(self) -> str | None:
        _, result = await select(Receiving(self.results), Receiving(self.cancelled))
        return str(result) if result is not None else None


async def watch() -> None:
    watched = WatchChan()
    asyncio.create_task(watched.run(), name="watch")
    await watched.next()
    await give_way()


async def watch_fixed() -> None:
    watched = WatchChan()
    running = asyncio.create_task(watched.run_fixed(), name="watch")
    await watched.next()
    await running


async def watch_idiomatic() -> None:
    async def run() -> None:
        raise LookupError(await synchronise())

    watching = asyncio.create_task(run(), name="watch")
    await asyncio.wait([watching])
    watching.exception()


KERNELS: Final = (
    Kernel(
        "cockroach/10790",
        "After a cancellation a task drains the queues of commands that have noticed it and put nothing.",
        cancelled_commands,
        cancelled_commands_fixed,
        leaks=(Stuck("drain", "Queue.get"),),
    ),
    Kernel(
        "cockroach/13755",
        "An object starts a task that waits for it to be closed, and nobody closes it.",
        query,
        query_fixed,
        leaks=(Stuck("await done", "Event.wait"),),
    ),
    Kernel(
        "grpc/862",
        "A cancelled dial drops a connection that goes on trying to connect.",
        dialling,
        dialling_fixed,
        leaks=(Stuck("reset transport", "sleep", provable=False),),
    ),
    Kernel(
        "kubernetes/25331",
        "A watch cancels itself and then sends its error, for which nobody waits any more.",
        watch,
        watch_fixed,
        leaks=(Stuck("watch", "Chan.send"),),
    ),
)

CONTROLS: Final[tuple[tuple[str, Body], ...]] = (("kubernetes/25331", watch_idiomatic),)
