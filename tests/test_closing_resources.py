"""`closing` and `guard` on what programs really close: databases, connections, clients, streams.

Each breach has a clean twin, that differs in nothing but the order.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import pytest
import trio
from closings import accused, closed_in_use
from parity import ANYIO, ASYNCIO, THERE, TRIO, Column, Library

from taskscope import Report, TaskScope, closing, guard

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: text/plain\r\n\r\nok"


@dataclass(frozen=True)
class Real:
    """A kind of resource.

    Attributes:
        made: Makes one, beside whatever it needs, which is taken down afterwards.
        use: Uses it, and raises when it is closed.
        what: What a report calls it.
    """

    made: Callable[[Path], AbstractAsyncContextManager[Any]]
    use: Callable[[Any], Awaitable[object]]
    close: Callable[[Any], Awaitable[object]]
    what: str
    libraries: tuple[Library, ...]


REAL: dict[str, Real] = {}


class Service:
    """What uses a resource when it is told to."""

    def __init__(self, resource: Any, use: Callable[[Any], Awaitable[object]]) -> None:
        self._resource = resource
        self._use = use
        self.error: Exception | None = None

    async def work_when(self, event: Any) -> None:
        await event.wait()
        try:
            await self._use(self._resource)
        except Exception as error:
            self.error = error


async def aclose(resource: Any) -> None:
    await resource.aclose()


async def close(resource: Any) -> None:
    await resource.close()


# ------------------------------------------------------------------------------------------------------------ databases


@asynccontextmanager
async def aiosqlite_connection(folder: Path) -> AsyncIterator[Any]:
    aiosqlite = pytest.importorskip("aiosqlite")
    connection = await aiosqlite.connect(folder / "guests.db")
    await connection.execute("CREATE TABLE guests (name TEXT)")
    yield connection


async def insert(connection: Any) -> None:
    await connection.execute("INSERT INTO guests VALUES ('Ada')")


REAL["aiosqlite"] = Real(aiosqlite_connection, insert, close, "aiosqlite.Connection 'it'", (ASYNCIO,))


# -------------------------------------------------------------------------------------------------------------- streams


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while line := await reader.readline():
            writer.write(line)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def answer_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(ANSWER)
            await writer.drain()
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


@asynccontextmanager
async def asyncio_server(serve: Any) -> AsyncIterator[int]:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


@asynccontextmanager
async def asyncio_pair(folder: Path) -> AsyncIterator[Any]:
    async with asyncio_server(echo) as port:
        yield await asyncio.open_connection("127.0.0.1", port)


async def ask_by_pair(pair: Any) -> None:
    reader, writer = pair
    writer.write(b"hello\n")
    await writer.drain()
    if not await reader.readline():
        raise ConnectionError("closed")


async def close_pair(pair: Any) -> None:
    pair[1].close()
    await pair[1].wait_closed()


REAL["asyncio streams"] = Real(asyncio_pair, ask_by_pair, close_pair, "asyncio.StreamWriter 'it'", (ASYNCIO,))


@asynccontextmanager
async def tcp_server(answer: Callable[[Any], Awaitable[None]]) -> AsyncIterator[int]:
    """On AnyIO's backends, and Trio."""
    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
        anyio.create_task_group() as group,
    ):
        group.start_soon(listener.serve, answer)
        yield listener.extra(anyio.abc.SocketAttribute.local_port)
        group.cancel_scope.cancel()


async def echo_once(stream: Any) -> None:
    async with stream:
        try:
            while True:
                await stream.send(await stream.receive())
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            pass


@asynccontextmanager
async def anyio_stream(folder: Path) -> AsyncIterator[Any]:
    async with tcp_server(echo_once) as port:
        yield await anyio.connect_tcp("127.0.0.1", port)


async def ask_by_anyio(stream: Any) -> None:
    await stream.send(b"hello\n")
    assert await stream.receive() == b"hello\n"


REAL["AnyIO TCP stream"] = Real(anyio_stream, ask_by_anyio, aclose, "anyio.SocketStream 'it'", (ANYIO,))


@asynccontextmanager
async def anyio_memory(folder: Path) -> AsyncIterator[Any]:
    send, receive = anyio.create_memory_object_stream[int](1)
    async with receive:
        yield send


REAL["AnyIO memory stream"] = Real(
    anyio_memory,
    lambda stream: stream.send(1),
    aclose,
    "anyio.streams.memory.MemoryObjectSendStream 'it'",
    (ANYIO,),
)


@asynccontextmanager
async def trio_stream(folder: Path) -> AsyncIterator[Any]:
    async def echo_all(stream: Any) -> None:
        async with stream:
            try:
                async for data in stream:
                    await stream.send_all(data)
            except trio.BrokenResourceError:
                pass

    async with trio.open_nursery() as nursery:
        listeners: Any = await nursery.start(partial(trio.serve_tcp, echo_all, 0, host="127.0.0.1"))
        yield await trio.open_tcp_stream("127.0.0.1", listeners[0].socket.getsockname()[1])
        nursery.cancel_scope.cancel()


async def ask_by_trio(stream: Any) -> None:
    await stream.send_all(b"hello\n")
    assert await stream.receive_some() == b"hello\n"


REAL["Trio stream"] = Real(trio_stream, ask_by_trio, aclose, "trio.SocketStream 'it'", (TRIO,))


@asynccontextmanager
async def trio_channel(folder: Path) -> AsyncIterator[Any]:
    send, receive = trio.open_memory_channel[int](1)
    async with receive:
        yield send


REAL["Trio channel"] = Real(
    trio_channel, lambda channel: channel.send(1), aclose, "trio.MemorySendChannel 'it'", (TRIO,)
)


# -------------------------------------------------------------------------------------------------------------- clients


@dataclass
class Client:
    """A client that knows its address."""

    client: Any
    url: str


@asynccontextmanager
async def aiohttp_session(folder: Path) -> AsyncIterator[Any]:
    aiohttp = pytest.importorskip("aiohttp")
    async with asyncio_server(answer_http) as port:
        yield aiohttp.ClientSession(f"http://127.0.0.1:{port}")


async def get_by_aiohttp(session: Any) -> None:
    async with session.get("/") as response:
        assert await response.text() == "ok"


REAL["aiohttp"] = Real(aiohttp_session, get_by_aiohttp, close, "aiohttp.ClientSession 'it'", (ASYNCIO,))


async def answer_http_on_anyio(stream: Any) -> None:
    async with stream:
        try:
            while await stream.receive():
                await stream.send(ANSWER)
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            pass


@asynccontextmanager
async def httpx_client(folder: Path) -> AsyncIterator[Any]:
    httpx = pytest.importorskip("httpx")
    async with tcp_server(answer_http_on_anyio) as port:
        yield httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False)


async def get_by_httpx(client: Any) -> None:
    assert (await client.get("/")).text == "ok"


REAL["httpx"] = Real(httpx_client, get_by_httpx, aclose, "httpx.AsyncClient 'it'", (ASYNCIO, ANYIO, TRIO))


CELLS = [
    pytest.param(real, column, id=f"{column.name}: {name}")
    for name, real in REAL.items()
    for column in THERE
    if column.library in real.libraries
]
each = pytest.mark.parametrize(("real", "column"), CELLS)


@asynccontextmanager
async def closed_by_guard(real: Real, resource: Any) -> AsyncIterator[None]:
    guard(resource, "it")
    try:
        yield
    finally:
        await real.close(resource)


def block(how: str, real: Real, resource: Any) -> AbstractAsyncContextManager[Any]:
    return closing(resource, "it") if how == "closing" else closed_by_guard(real, resource)


def lines_of(report: Report) -> str:
    return report.format()


@pytest.mark.parametrize("how", ["closing", "guard"])
@each
def test_closed_in_use(real: Real, column: Column, how: str, tmp_path: Path) -> None:
    async def main(library: Library) -> Any:
        scope = TaskScope("mine", grace=10.0, on_leak="ignore")
        event = library.event()
        async with real.made(tmp_path) as resource, library.group() as group:
            service = Service(resource, real.use)
            async with scope:
                async with block(how, real, resource):
                    await real.use(resource)
                    library.spawner(group)(service.work_when, event, name="worker")
                    await library.settle()
                event.set()
        return scope.report, service.error

    report, error = column.run(main)
    assert error is not None
    assert accused(report) == ["worker"]
    [finding] = closed_in_use(report)
    assert finding.what == real.what
    assert finding.variable in ("self._resource", "self._resource[1]", "self._resource[0]")
    assert finding.held_in.function == "Service.work_when"
    assert "await event.wait()" in lines_of(report)
    assert finding.detail.startswith("it ended ")
    [late] = report.late
    assert late.closed_before_end == (real.what,)


@pytest.mark.parametrize("how", ["closing", "guard"])
@each
def test_closed_after_use(real: Real, column: Column, how: str, tmp_path: Path) -> None:
    async def main(library: Library) -> Any:
        scope = TaskScope("mine", grace=10.0, on_leak="ignore")
        event = library.event()
        async with real.made(tmp_path) as resource:
            service = Service(resource, real.use)
            async with scope:
                async with block(how, real, resource):
                    async with library.group() as group:
                        library.spawner(group)(service.work_when, event, name="worker")
                        await library.settle()
                        event.set()
        return scope.report, service.error

    report, error = column.run(main)
    assert error is None
    assert report.ok, str(report)
    assert closed_in_use(report) == []


# ------------------------------------------------------------------------------------------------ closed by another way


def database_in(folder: Path) -> sqlite3.Connection:
    database = sqlite3.connect(folder / "guests.db", check_same_thread=False, isolation_level=None)
    database.execute("CREATE TABLE guests (name TEXT)")
    return database


async def write_when(event: asyncio.Event, database: sqlite3.Connection) -> None:
    await event.wait()
    await asyncio.to_thread(database.execute, "INSERT INTO guests VALUES ('Ada')")


@pytest.mark.parametrize("how", ["closing", "guard"])
def test_sqlite_in_a_thread(run: Any, how: str, tmp_path: Path) -> None:
    async def main() -> Any:
        event = asyncio.Event()
        database = database_in(tmp_path)
        async with TaskScope(grace=10.0, on_leak="ignore") as scope:
            if how == "closing":
                async with closing(database, "guests"):
                    task = asyncio.create_task(write_when(event, database), name="writer")
                    await asyncio.sleep(0)
            else:
                guard(database, "guests")
                task = asyncio.create_task(write_when(event, database), name="writer")
                await asyncio.sleep(0)
                database.close()
            event.set()
        assert isinstance(task.exception(), sqlite3.ProgrammingError)
        return scope.report

    report = run(main)
    [finding] = closed_in_use(report)
    assert finding.what == "sqlite3.Connection 'guests'"
    assert (finding.task.name, finding.variable) == ("writer", "database")
    assert "failed: ProgrammingError('Cannot operate on a closed database.')" in finding.detail


@pytest.mark.parametrize("how", ["closing", "guard"])
def test_sqlite_that_is_closed_after_use(run: Any, how: str, tmp_path: Path) -> None:
    async def main() -> Any:
        event = asyncio.Event()
        database = database_in(tmp_path)
        async with TaskScope(grace=10.0) as scope:
            guard(database)
            async with closing(database, "guests") if how == "closing" else asyncio.timeout(None):
                task = asyncio.create_task(write_when(event, database))
                await asyncio.sleep(0)
                event.set()
                await task
            database.close()
        return scope.report

    assert run(main).ok


def test_who_closes_a_guarded_database_and_goes_on_is_not_accused(run: Any, tmp_path: Path) -> None:
    async def main() -> Any:
        event = asyncio.Event()
        database = guard(database_in(tmp_path))

        async def closes() -> None:
            database.close()
            await event.wait()

        async with TaskScope(grace=10.0) as scope:
            asyncio.create_task(closes())
            await asyncio.sleep(0)
            event.set()
        return scope.report

    report = run(main)
    assert (report.ok, len(report.late)) == (True, 1)


def test_an_httpx_client_that_is_left_without_aclose(run: Any, tmp_path: Path) -> None:
    async def main() -> Any:
        event = asyncio.Event()

        async def get_when(client: Any) -> None:
            await event.wait()
            await client.get("/")

        async with httpx_client(tmp_path) as client:
            async with TaskScope(grace=10.0, on_leak="ignore") as scope:
                async with guard(client):
                    task = asyncio.create_task(get_when(client), name="late")
                    await asyncio.sleep(0)
                event.set()
            assert isinstance(task.exception(), RuntimeError)
        return scope.report

    [finding] = closed_in_use(run(main))
    assert (finding.what, finding.task.name) == ("httpx.AsyncClient", "late")


def test_who_holds_the_reader_alone_holds_the_connection(run: Any, tmp_path: Path) -> None:
    async def main() -> Any:
        event = asyncio.Event()

        async def reads(reader: asyncio.StreamReader) -> None:
            await event.wait()
            await reader.read()

        async with asyncio_pair(tmp_path) as (reader, writer):
            async with TaskScope(grace=10.0, on_leak="ignore") as scope:
                async with closing(writer):
                    asyncio.create_task(reads(reader), name="reader")
                    await asyncio.sleep(0)
                event.set()
        return scope.report

    [finding] = closed_in_use(run(main))
    assert (finding.task.name, finding.held_in.function.rpartition(".")[2]) == ("reader", "reads")


def test_a_reader_that_the_closing_wakes_and_that_ends_is_not_accused(run: Any, tmp_path: Path) -> None:
    async def main() -> Any:
        async def reads(reader: asyncio.StreamReader) -> None:
            while await reader.readline():
                pass

        async with asyncio_pair(tmp_path) as (reader, writer):
            async with TaskScope(grace=10.0) as scope:
                async with closing((reader, writer)):
                    asyncio.create_task(reads(reader))
                    await asyncio.sleep(0)
        return scope.report

    assert run(main).ok


def test_the_handlers_of_a_server_are_not_accused_of_it(run: Any) -> None:
    async def main() -> Any:
        event = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            began.set()
            await event.wait()
            writer.close()

        began = asyncio.Event()
        async with TaskScope(grace=10.0) as scope:
            server = await asyncio.start_server(serve, "127.0.0.1", 0)
            if hasattr(server, "__dict__"):  # that of uvloop has none
                guard(server)
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            await began.wait()
            server.close()
            event.set()
            await reader.read()
            writer.close()
            await writer.wait_closed()
        return scope.report

    assert run(main).ok
