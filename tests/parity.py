"""One way to write a program for asyncio, AnyIO and Trio, so that the same body runs on all of them."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import anyio.to_thread
import trio

Spawn = Callable[..., None]
Function = Callable[..., Awaitable[Any]]


@dataclass(frozen=True)
class Library:
    """What a body needs of a library, under one name each.

    Attributes:
        primitives: What reports call the primitives, by our names for them.
        group: Opens a task group.
        spawner: What spawns into a group: it takes an async function, its arguments and a `name=`.
        channel: Makes a channel that holds so many items: what sends into it, and what receives from it.
        move_on_after: Gives a block so many seconds, and goes on behind it.
    """

    primitives: dict[str, str]
    group_kind: str
    group: Callable[[], AbstractAsyncContextManager[Any]]
    spawner: Callable[[Any], Spawn]
    sleep: Callable[[float], Awaitable[None]]
    event: Callable[[], Any]
    lock: Callable[[], AbstractAsyncContextManager[Any]]
    channel: Callable[[int], tuple[Function, Function]]
    in_thread: Function
    move_on_after: Callable[[float], AbstractAsyncContextManager[None]]
    run_cancelled: Callable[[], type[BaseException]]

    async def settle(self) -> None:
        """Lets every task come to where it waits."""
        for _ in range(10):
            await self.sleep(0)


def _spawner_of_asyncio(group: Any) -> Spawn:
    def spawn(function: Function, *args: Any, name: str | None = None) -> None:
        group.create_task(function(*args), name=name)

    return spawn


def _queue(size: int) -> tuple[Function, Function]:
    queue: asyncio.Queue[object] = asyncio.Queue(size)
    return queue.put, queue.get


def _both_kept(send: Any, receive: Any) -> tuple[Function, Function]:
    """The two ends of a channel, each of which keeps the other: one that is dropped would close the channel."""

    async def put(item: object, other: object = receive) -> None:
        await send.send(item)

    async def get(other: object = send) -> object:
        return await receive.receive()

    return put, get


@asynccontextmanager
async def _timeout(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        pass


def _stream(size: int) -> tuple[Function, Function]:
    send, receive = anyio.create_memory_object_stream[object](size)
    return _both_kept(send, receive)


def _asynchronous(make: Callable[[float], AbstractContextManager[Any]]) -> Callable[[float], Any]:
    @asynccontextmanager
    async def entered(seconds: float) -> AsyncIterator[None]:
        with make(seconds):
            yield

    return entered


def _start_soon(group: Any) -> Spawn:
    spawn: Spawn = group.start_soon
    return spawn


def _memory_channel(size: int) -> tuple[Function, Function]:
    send, receive = trio.open_memory_channel[object](size)
    return _both_kept(send, receive)


ASYNCIO = Library(
    {
        "event": "Event.wait",
        "lock": "Lock.acquire",
        "send": "Queue.put",
        "receive": "Queue.get",
        "sleep": "sleep",
        "thread": "to_thread",
        "group": "TaskGroup.__aexit__",
    },
    "TaskGroup",
    asyncio.TaskGroup,
    _spawner_of_asyncio,
    asyncio.sleep,
    asyncio.Event,
    asyncio.Lock,
    _queue,
    asyncio.to_thread,
    _timeout,
    lambda: asyncio.CancelledError,
)

ANYIO = Library(
    {
        "event": "Event.wait",
        "lock": "Lock.acquire",
        "send": "MemoryObjectSendStream.send",
        "receive": "MemoryObjectReceiveStream.receive",
        "sleep": "sleep",
        "thread": "to_thread.run_sync",
        "group": "TaskGroup.__aexit__",
    },
    "AnyIO task group",
    anyio.create_task_group,
    _start_soon,
    anyio.sleep,
    anyio.Event,
    anyio.Lock,
    _stream,
    anyio.to_thread.run_sync,
    _asynchronous(anyio.move_on_after),
    anyio.get_cancelled_exc_class,
)

TRIO = Library(
    {
        "event": "Event.wait",
        "lock": "Lock.acquire",
        "send": "MemorySendChannel.send",
        "receive": "MemoryReceiveChannel.receive",
        "sleep": "sleep",
        "thread": "to_thread.run_sync",
        "group": "Nursery.__aexit__",
    },
    "nursery",
    trio.open_nursery,
    _start_soon,
    trio.sleep,
    trio.Event,
    trio.Lock,
    _memory_channel,
    trio.to_thread.run_sync,
    _asynchronous(trio.move_on_after),
    lambda: trio.Cancelled,
)


@dataclass(frozen=True)
class Column:
    """A way to run a program: a library, and what runs the loop."""

    name: str
    library: Library
    backend: str
    options: dict[str, Any]

    def run(self, main: Callable[[Library], Awaitable[Any]]) -> Any:
        if self.library is ASYNCIO:
            with asyncio.Runner(loop_factory=self.options.get("loop_factory")) as runner:
                return runner.run(main(self.library))  # type: ignore[arg-type]
        if self.library is TRIO:
            return trio.run(main, self.library)
        return anyio.run(main, self.library, backend=self.backend, backend_options=self.options)


def _uvloop() -> asyncio.AbstractEventLoop:
    import uvloop

    return uvloop.new_event_loop()


def _eager() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    if sys.version_info >= (3, 12):
        loop.set_task_factory(asyncio.eager_task_factory)
    return loop


COLUMNS = (
    Column("asyncio", ASYNCIO, "asyncio", {}),
    Column("uvloop", ASYNCIO, "asyncio", {"loop_factory": _uvloop}),
    Column("eager", ASYNCIO, "asyncio", {"loop_factory": _eager}),
    Column("AnyIO/asyncio", ANYIO, "asyncio", {}),
    Column("AnyIO/Trio", ANYIO, "trio", {}),
    Column("Trio", TRIO, "trio", {}),
)


def _is_there(column: Column) -> bool:
    if column.name == "eager":
        return sys.version_info >= (3, 12)
    return column.name != "uvloop" or importlib.util.find_spec("uvloop") is not None


THERE = tuple(filter(_is_there, COLUMNS))
"""Those that this Python, and what is installed, can run."""
