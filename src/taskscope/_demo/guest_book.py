"""A server answers at once, writes to SQLite in the background, and closes the database too early.

Every visit spawns a task that writes the guest's name, held back until a flush. `GuestBook.close` asks for that and
closes the database at once. Every task ends, so who looks later for tasks still running finds none. But each came to a
closed database: the names are lost, and the error went to a log that nobody reads. `guard` is what makes it known.

The fix: `await asyncio.gather(*self._writes)` before the database is closed.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from pathlib import Path
from tempfile import TemporaryDirectory

import taskscope

logger = logging.getLogger(__name__)


class GuestBook:
    def __init__(self, file: Path) -> None:
        database = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
        self._database = taskscope.guard(database, "guests")
        self._database.execute("CREATE TABLE guests (name TEXT)")
        self._one_at_a_time = asyncio.Lock()  # each write in a thread of its own, and a connection bears one at once
        self._flush = asyncio.Event()
        self._writes: set[asyncio.Task[None]] = set()

    async def visit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        guest = (await reader.readline()).decode().strip()
        write = asyncio.create_task(self._write(guest), name=f"write {guest}")
        write.add_done_callback(self._ended)
        self._writes.add(write)
        writer.write(b"welcome\n")
        writer.close()

    async def _write(self, guest: str) -> None:
        await self._flush.wait()
        async with self._one_at_a_time:
            await asyncio.to_thread(self._database.execute, "INSERT INTO guests VALUES (?)", (guest,))

    def _ended(self, write: asyncio.Task[None]) -> None:
        self._writes.discard(write)
        if not write.cancelled() and write.exception() is not None:
            logger.info("not written: %s", write.exception())

    def close(self) -> None:
        self._flush.set()
        self._database.close()  # the mistake: the tasks that this wakes have not run yet


async def sign(guest: str, port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{guest}\n".encode())
    await reader.read()
    writer.close()
    await writer.wait_closed()


async def main(file: Path) -> None:
    book = GuestBook(file)
    async with await asyncio.start_server(book.visit, "127.0.0.1", 0) as server:
        for guest in ("Ada", "Grace"):
            await sign(guest, server.sockets[0].getsockname()[1])
    book.close()


async def run() -> taskscope.Report:
    with TemporaryDirectory() as directory:
        async with taskscope.TaskScope("guest book", grace=2.0, on_leak="ignore") as scope:
            await main(Path(directory, "guests.db"))
    return scope.report


if __name__ == "__main__":
    print(asyncio.run(run()))
