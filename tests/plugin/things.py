"""Things beside tasks that a test or fixture begins and ends, or only begins: projects of them for each plugin."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

_THINGS = """
import asyncio
import socket
import subprocess
import sys
import threading
import unittest

import anyio
import anyio.lowlevel
import pytest

kept = []  # what a test has left lives on

def keep(thing):
    kept.append(thing)
    return thing

async def turn():
    await anyio.lowlevel.checkpoint()

class Timer:
    async def begin(self):
        self.handle = asyncio.get_running_loop().call_later(60, self.ring)

    def ring(self):
        pass

    async def end(self):
        self.handle.cancel()

class Generator:
    async def steps(self):
        yield 1
        yield 2

    async def begin(self):
        self.generator = self.steps()
        await anext(self.generator)

    async def end(self):
        await self.generator.aclose()

class Thread:
    async def begin(self):
        self.told = threading.Event()
        self.thread = threading.Thread(target=run_until_told, args=(self.told,), daemon=True)
        self.thread.start()

    async def end(self):
        self.told.set()
        self.thread.join()

def run_until_told(told):
    told.wait(60)

class Executor:
    async def begin(self):
        self.told = threading.Event()
        self.work = asyncio.get_running_loop().run_in_executor(None, self.told.wait, 2)

    async def end(self):
        self.told.set()
        await self.work

class Process:
    async def begin(self):
        self.process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)

    async def end(self):
        self.process.communicate()

class Server:
    async def begin(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)

    async def serve(self, reader, writer):
        writer.close()

    async def end(self):
        self.server.close()
        await self.server.wait_closed()

listening = socket.create_server(("127.0.0.1", 0))

class Transport:
    async def begin(self):
        where = listening.getsockname()
        self.transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, *where)

    async def end(self):
        self.transport.close()
        await turn()

class AnyioStream:
    async def begin(self):
        self.stream = await anyio.connect_tcp(*listening.getsockname())

    async def end(self):
        await self.stream.aclose()

class Unretrieved:
    async def begin(self):
        self.task = asyncio.create_task(fail())
        while not self.task.done():
            await turn()

    async def end(self):
        self.task.exception()

async def fail():
    raise LookupError("nobody asks")
"""

KINDS = {
    "Timer": "timer",
    "Generator": "generator",
    "Thread": "thread",
    "Executor": "executor",
    "Process": "process",
    "Server": "server",
    "Transport": "transport",
    "AnyioStream": "transport",
    "Unretrieved": "unretrieved",
}
ON_ASYNCIO = tuple(KINDS)
ON_TRIO = ("Generator", "Thread", "Process")

TWINS = ("clean", "leak")

# Work in a thread is waited for when its loop is closed, and an exception is nobody's once the test has ended in which
# the task failed.
_NO_LEAK_OF_FIXTURES = {"made": ("Executor",), "lazy": ("Executor", "Unretrieved")}


@dataclass(frozen=True)
class Cell:
    """A test in which a thing is begun, and ended where and when it should be or not at all.

    Attributes:
        way: `"in_test"`; `"made"` by a fixture or the setup of a test case, or `"lazy"`, which is begun by the test and
            held by the fixture or test case.
        scope: That of the fixture. None without.
        thing: The class.
        twin: One of `TWINS`.
    """

    way: str
    scope: str | None
    thing: str
    twin: str

    @property
    def name(self) -> str:
        return "_".join(part for part in (self.way, self.scope, self.thing, self.twin) if part is not None)

    @property
    def kind(self) -> str:
        return KINDS[self.thing]

    @property
    def needs_no_loop(self) -> bool:
        return self.kind in ("thread", "process")

    @property
    def owner(self) -> str:
        return f"::test_{self.name}" if self.scope is None else f"fixture {self.name}"

    def function(self) -> str:
        """The test, with its fixture."""
        end = "await thing.end()" if self.twin == "clean" else "pass"
        if self.way == "in_test":
            return f"""
async def test_{self.name}():
    thing = keep({self.thing}())
    await thing.begin()
    {end}
"""
        begin = "await thing.begin()"
        return f"""
@pytest.fixture(scope="{self.scope}")
async def {self.name}():
    thing = {self.thing}()
    {begin if self.way == "made" else "pass"}
    yield thing
    {end}

async def test_{self.name}({self.name}):
    thing = keep({self.name})
    {begin if self.way == "lazy" else "pass"}
"""

    def method(self) -> str:
        """The test as that of a test case."""
        end = "await self.thing.end()" if self.twin == "clean" else "pass"
        begin = "await self.thing.begin()"
        if self.way == "in_test":
            return f"""
class Case_{self.name}(unittest.IsolatedAsyncioTestCase):
    async def test_{self.name}(self):
        thing = keep({self.thing}())
        await thing.begin()
        {end.replace("self.", "")}
"""
        return f"""
class Case_{self.name}(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        self.thing = keep({self.thing}())
        {begin if self.way == "made" else "pass"}

    async def test_{self.name}(self):
        {begin if self.way == "lazy" else "pass"}

    async def asyncTearDown(self):
        {end}
"""


def cells(things: tuple[str, ...], scopes: tuple[str | None, ...]) -> list[Cell]:
    """scopes: of fixtures; of test cases it is `(None,)`."""
    found = [Cell("in_test", None, thing, twin) for thing in things for twin in TWINS]
    for way, without in _NO_LEAK_OF_FIXTURES.items():
        found += [
            Cell(way, scope, thing, twin)
            for scope in scopes
            for thing in things
            for twin in TWINS
            if twin == "clean" or thing not in without
        ]
    return found


def module(cells: list[Cell], *, as_methods: bool = False) -> str:
    return textwrap.dedent(_THINGS) + "".join(cell.method() if as_methods else cell.function() for cell in cells)
