"""A client asks a server for a price over TCP and is never closed: its monitor task reads on.

As in many clients of databases and message brokers, a task inside the client reads what the server sends.
`Client.close` stops it. `main` has its answer and forgets `close`, so task and connection stay, on both sides.

The fix: `try: ... finally: await client.close()`.
"""

from __future__ import annotations

import asyncio

import taskscope
from taskscope._demo.price_server import price_server


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._answers: asyncio.Queue[bytes] = asyncio.Queue()
        self._monitor = asyncio.create_task(self._read_answers(), name="connection monitor")

    async def ask(self, question: str) -> str:
        self._writer.write(f"{question}\n".encode())
        return (await self._answers.get()).decode().strip()

    async def close(self) -> None:
        self._monitor.cancel()
        await asyncio.gather(self._monitor, return_exceptions=True)

    async def _read_answers(self) -> None:
        try:
            while line := await self._reader.readline():
                self._answers.put_nowait(line)
        finally:
            self._writer.close()


async def main(port: int) -> None:
    client = Client(*await asyncio.open_connection("127.0.0.1", port))
    await client.ask("tea")
    # The mistake: no `await client.close()`.


async def run() -> taskscope.Report:
    scope = taskscope.TaskScope("connection", find=("tasks", "transports"), on_leak="ignore")
    # The server is not under test, so it runs outside the scope.
    async with price_server() as port, scope:
        await main(port)
    return scope.report


if __name__ == "__main__":
    print(asyncio.run(run()))
