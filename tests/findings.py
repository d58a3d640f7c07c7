"""Things beside tasks that can outlive a scope, each planted and ended in time, on every kind of loop."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
import trio
from parity import ANYIO, ASYNCIO, TRIO, Column, Library

from taskscope._policy import FIND, Find

SLEEPS = (sys.executable, "-c", "import sys; sys.stdin.read()")
"""A command that runs until its input is closed."""


@dataclass
class Ground:
    """What a planted thing needs that is not the scope's.

    Attributes:
        column: The kind of loop.
        go: Lets threads end.
        at_work: Set by a thread that has begun.
        after: Ends what a scope does not.
        kept: Things that somebody refers to, so that no finalizer ends them.
        port: Where a server of the tests listens.
    """

    column: Column
    port: int
    go: threading.Event = field(default_factory=threading.Event)
    at_work: threading.Event = field(default_factory=threading.Event)
    after: AsyncExitStack = field(default_factory=AsyncExitStack)
    kept: list[Any] = field(default_factory=list)

    @property
    def library(self) -> Library:
        return self.column.library

    @property
    def is_on_trio(self) -> bool:
        return self.library is TRIO or self.column.backend == "trio"


Plant = Callable[[Ground], Awaitable[None]]


@dataclass(frozen=True)
class Case:
    """A kind of finding: its word in `find`, its kind in the report, and how it comes about.

    Attributes:
        meaning: What the README says it is.
        plant: Leaves one behind.
        clean: Uses one and ends it in time.
        what: What the report calls it, as far as that is the same everywhere.
        function: The function that has started it, None where that is not known.
        outcome: What becomes of it.
        not_on_trio: Why there is none on Trio, None where there is.
    """

    word: str
    kind: str
    meaning: str
    plant: Plant
    clean: Plant
    what: str
    function: str | None
    outcome: str | None
    not_on_trio: str | None = None


def due() -> None:
    raise AssertionError("it was cancelled in time")


async def leave_a_timer(ground: Ground) -> None:
    asyncio.get_running_loop().call_later(60, due)


async def cancel_a_timer(ground: Ground) -> None:
    called = asyncio.Event()
    asyncio.get_running_loop().call_later(60, due).cancel()
    asyncio.get_running_loop().call_later(0.001, called.set)
    await called.wait()
    async with asyncio.timeout(60):
        await ground.library.sleep(0.001)


async def numbers() -> AsyncGenerator[int]:
    for number in range(3):
        yield number


async def leave_a_generator(ground: Ground) -> None:
    generator = numbers()
    ground.kept.append(generator)
    ground.after.push_async_callback(generator.aclose)
    assert await anext(generator) == 0


async def close_a_generator(ground: Ground) -> None:
    async with aclosing(numbers()) as generator:
        assert await anext(generator) == 0
    assert [number async for number in numbers()] == [0, 1, 2]


def work(ground: Ground) -> None:
    ground.at_work.set()
    ground.go.wait()


async def leave_work_in_a_thread(ground: Ground) -> None:
    ground.after.callback(ground.go.set)
    if ground.library is ASYNCIO:
        waits = asyncio.get_running_loop().run_in_executor(None, work, ground)
        await _until_at_work(ground)
        waits.cancel()
        return
    run = trio.to_thread.run_sync if ground.library is TRIO else anyio.to_thread.run_sync
    async with ground.library.group() as group:
        ground.library.spawner(group)(partial(run, work, ground, abandon_on_cancel=True))
        await _until_at_work(ground)
        group.cancel_scope.cancel()


async def _until_at_work(ground: Ground) -> None:
    while not ground.at_work.is_set():
        await ground.library.sleep(0)


async def wait_for_work_in_a_thread(ground: Ground) -> None:
    ground.go.set()
    await ground.library.in_thread(work, ground)
    if not ground.is_on_trio:
        await asyncio.get_running_loop().run_in_executor(None, work, ground)


async def leave_a_thread(ground: Ground) -> None:
    thread = threading.Thread(target=work, args=(ground,), name="worker")
    thread.start()
    ground.after.callback(thread.join)
    ground.after.callback(ground.go.set)


async def join_a_thread(ground: Ground) -> None:
    ground.go.set()
    thread = threading.Thread(target=work, args=(ground,), name="worker")
    thread.start()
    thread.join()
    await ground.library.in_thread(work, ground)  # whose thread waits for more work then


async def start_process(ground: Ground) -> Any:
    if ground.library is ASYNCIO:
        return await asyncio.create_subprocess_exec(*SLEEPS, stdin=asyncio.subprocess.PIPE)
    if ground.library is TRIO:
        return await trio.lowlevel.open_process(SLEEPS, stdin=-1)
    return await anyio.open_process(SLEEPS, stdout=None, stderr=None)


def kill(process: Any) -> None:
    with suppress(ProcessLookupError):
        process.kill()


async def leave_a_process(ground: Ground) -> None:
    process = await start_process(ground)
    ground.after.push_async_callback(process.wait)
    ground.after.callback(kill, process)


async def wait_for_a_process(ground: Ground) -> None:
    process = await start_process(ground)
    process.kill()
    await process.wait()


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def leave_a_server(ground: Ground) -> None:
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    ground.kept.append(server)
    ground.after.callback(server.close)


async def close_a_server(ground: Ground) -> None:
    async with await asyncio.start_server(answer, "127.0.0.1", 0):
        pass


async def connect(ground: Ground) -> Any:
    if ground.library is ANYIO:
        return await anyio.connect_tcp("127.0.0.1", ground.port)
    return (await asyncio.open_connection("127.0.0.1", ground.port))[1]


async def leave_a_connection(ground: Ground) -> None:
    connection = await connect(ground)
    ground.kept.append(connection)
    if ground.library is ANYIO:
        ground.after.push_async_callback(connection.aclose)
    else:
        ground.after.callback(connection.close)


async def close_a_connection(ground: Ground) -> None:
    connection = await connect(ground)
    if ground.library is ANYIO:
        await connection.aclose()
        return
    connection.close()
    await connection.wait_closed()


async def fail() -> None:
    raise ValueError("nobody asks")


async def let_a_task_fail(ground: Ground) -> None:
    task = asyncio.create_task(fail(), name="fails")
    await asyncio.wait([task])
    ground.kept.append(task)
    ground.after.callback(task.exception)  # or asyncio would tell as well


async def ask_a_task_that_fails(ground: Ground) -> None:
    task = asyncio.create_task(fail(), name="fails")
    await asyncio.wait([task])
    assert task.exception() is not None
    with suppress(ValueError):
        await asyncio.create_task(fail())


async def for_ever() -> None:
    await asyncio.Event().wait()


async def make_a_task_past_the_factory(ground: Ground) -> None:
    ground.kept.append(asyncio.Task(for_ever(), loop=asyncio.get_running_loop(), name="past"))


async def end_a_task_made_past_the_factory(ground: Ground) -> None:
    task = asyncio.Task(for_ever(), loop=asyncio.get_running_loop(), name="past")
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])


_NO_TIMERS = "Trio has no timers: a deadline belongs to a cancel scope, and ends with its block"
_NO_SERVERS = "on Trio a server is a task, and found as such"
_NO_TRANSPORTS = "Trio has no transports: a stream is a socket, with nothing of the loop's that would go on"
_NO_UNRETRIEVED = "on Trio what a task raises always propagates into its nursery"
_NO_UNTRACKED = "on Trio tasks cannot be made past the scheduler"

CASES = (
    Case(
        "timers",
        "timer",
        "calls that are still to come: `call_later`, `call_at`",
        leave_a_timer,
        cancel_a_timer,
        "due",
        None,
        "cancelled",
        _NO_TIMERS,
    ),
    Case(
        "generators",
        "generator",
        "asynchronous generators that were started and never closed",
        leave_a_generator,
        close_a_generator,
        "numbers",
        "leave_a_generator",
        "closed",
    ),
    Case(
        "executor",
        "executor",
        "threads that still run what they were given: `to_thread`, `run_in_executor`",
        leave_work_in_a_thread,
        wait_for_work_in_a_thread,
        "work (running)",
        None,
        None,
    ),
    Case(
        "threads",
        "thread",
        "threads, and workers of a pool that was not shut down",
        leave_a_thread,
        join_a_thread,
        "thread 'worker'",
        "leave_a_thread",
        None,
    ),
    Case(
        "processes",
        "process",
        "child processes, of `multiprocessing` too",
        leave_a_process,
        wait_for_a_process,
        "pid",
        "start_process",
        None,
    ),
    Case(
        "servers",
        "server",
        "servers that still listen",
        leave_a_server,
        close_a_server,
        "server listening at",
        None,
        "closed",
        _NO_SERVERS,
    ),
    Case(
        "transports",
        "transport",
        "connections, pipes and sockets that are still open; `add_reader`, `add_writer`",
        leave_a_connection,
        close_a_connection,
        "connection to",
        None,
        "closed",
        _NO_TRANSPORTS,
    ),
    Case(
        "unretrieved",
        "unretrieved",
        "exceptions of tasks that nobody has retrieved",
        let_a_task_fail,
        ask_a_task_that_fails,
        "ValueError: nobody asks",
        "let_a_task_fail",
        None,
        _NO_UNRETRIEVED,
    ),
    Case(
        "untracked",
        "untracked",
        "tasks made past the task factory: `asyncio.Task(...)`",
        make_a_task_past_the_factory,
        end_a_task_made_past_the_factory,
        "task 'past'",
        None,
        None,
        _NO_UNTRACKED,
    ),
)


EVERYTHING: tuple[Find, ...] = FIND


@asynccontextmanager
async def ground_of(column: Column) -> AsyncIterator[Ground]:
    """The ground on a kind of loop, in the loop."""
    if column.library is TRIO or column.backend == "trio":
        ground = Ground(column, 0)
        async with ground.after:
            yield ground
        return
    connections: set[asyncio.Task[Any]] = set()

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.current_task()
        assert connection is not None
        connections.add(connection)
        with suppress(OSError):
            await reader.read()
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    async with await asyncio.start_server(hold, "127.0.0.1", 0) as server:
        ground = Ground(column, server.sockets[0].getsockname()[1])
        async with ground.after:
            yield ground
    if connections:
        await asyncio.wait(connections)
