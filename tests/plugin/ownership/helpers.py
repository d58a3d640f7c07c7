"""What the programs are written with."""

ON_ASYNCIO = """
import asyncio
import collections
import contextlib
import contextvars
import functools
import sys
import threading
import types
import unittest
import weakref
from unittest.mock import AsyncMock, MagicMock, patch

import pytest

@pytest.fixture
async def loop_is_older():
    pass  # for fixtures that are no coroutine functions: this has the loop made before them, and closed after them

@pytest.fixture(scope="session")
async def loop_of_session():
    pass

async def forever():
    await asyncio.Event().wait()

async def nothing(*arguments):
    pass

async def end(*tasks):
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)

class Client:
    def __init__(self):
        self.reader = None
        self.inbox = asyncio.Queue()

    def ask(self):
        if self.reader is None:
            self.reader = asyncio.create_task(self.read())  # spawned here

    def ask_and_forget(self):
        asyncio.create_task(self.read_until_told())  # spawned here

    def ask_in_closure(self):
        async def read():
            while await self.inbox.get():
                pass

        asyncio.create_task(read())  # spawned here

    async def read(self):
        await asyncio.Event().wait()

    async def read_until_told(self):
        while await self.inbox.get():
            pass

    async def aclose(self):
        if self.reader is not None:
            await end(self.reader)

    async def say_bye(self):
        self.inbox.put_nowait(None)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

class Scheduler:
    def __init__(self):
        self.jobs = set()

    def submit(self, job):
        task = asyncio.create_task(job())  # spawned here
        self.jobs.add(task)
        task.add_done_callback(self.jobs.discard)

    async def aclose(self):
        await end(*self.jobs)
"""

# What is spawned into a nursery ends with it, so what a test can leave on Trio is a system task in its context.
ON_TRIO = """
import contextvars
import types
import unittest
import weakref

import anyio
import pytest
import trio

class Client:
    def __init__(self):
        self.scope, self.over = trio.CancelScope(), trio.Event()
        self.is_started = False

    def ask(self):
        self.is_started = True
        trio.lowlevel.spawn_system_task(self.read, context=contextvars.copy_context())  # spawned here

    async def read(self):
        with self.scope:
            await trio.sleep_forever()
        self.over.set()

    async def aclose(self):
        if self.is_started:
            self.scope.cancel()
            await self.over.wait()
"""
