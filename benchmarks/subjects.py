"""What is compared: each subject is a way to have tasks spawned, set up on a running loop and taken down again."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any, Literal, get_args

import taskscope
from taskscope._policy import Find

Spawn = Callable[[Coroutine[Any, Any, Any]], "asyncio.Task[Any]"]


@dataclass(frozen=True)
class Subject:
    """One of the things compared.

    Attributes:
        enter: Sets it up on the running loop for the time of an `async with` and gives what spawns a task.
        package: What has to be installed for it, None for nothing.
        is_slow: Whether a task costs so much more than a bare one that a smaller sample must do.
    """

    name: str
    enter: Callable[[], AbstractAsyncContextManager[Spawn]]
    package: str | None = None
    is_slow: bool = False

    @property
    def is_installed(self) -> bool:
        return self.package is None or find_spec(self.package) is not None


@asynccontextmanager
async def bare() -> AsyncIterator[Spawn]:
    yield asyncio.create_task


@asynccontextmanager
async def scope(spawn_site: Literal["site", "stack", "off"] = "site") -> AsyncIterator[Spawn]:
    async with taskscope.TaskScope(spawn_site=spawn_site):
        yield asyncio.create_task


@asynccontextmanager
async def scope_that_finds_everything() -> AsyncIterator[Spawn]:
    async with taskscope.TaskScope(find=get_args(Find)):
        yield asyncio.create_task


@asynccontextmanager
async def task_group() -> AsyncIterator[Spawn]:
    async with asyncio.TaskGroup() as group:
        yield group.create_task


@asynccontextmanager
async def debug_mode() -> AsyncIterator[Spawn]:
    loop = asyncio.get_running_loop()
    loop.slow_callback_duration = 10  # as pyleak does: otherwise the log is measured too
    loop.set_debug(True)
    await asyncio.sleep(0)  # one part of the debug mode comes into force with the next turn of the loop
    yield asyncio.create_task


@asynccontextmanager
async def pyleak_with_creation_tracking() -> AsyncIterator[Spawn]:
    import pyleak

    async with pyleak.no_task_leaks(action="raise", enable_creation_tracking=True):
        await asyncio.sleep(0)  # as above: it turns the debug mode on
        yield asyncio.create_task


@asynccontextmanager
async def aiomonitor_task_factory() -> AsyncIterator[Spawn]:
    import aiomonitor

    # The whole monitor, with its thread: for every task that ends, the factory's tasks send a message to it.
    monitor = aiomonitor.start_monitor(
        asyncio.get_running_loop(),
        port=_free_port(),
        webui_port=_free_port(),
        console_enabled=False,
        hook_task_factory=True,
    )
    with monitor:
        yield asyncio.create_task


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


BARE = Subject("asyncio", bare)
SITE = Subject("taskscope", scope)
OFF = Subject('taskscope, spawn_site="off"', partial(scope, "off"))
STACK = Subject('taskscope, spawn_site="stack"', partial(scope, "stack"))
EVERYTHING = Subject("taskscope, find: everything", scope_that_finds_everything)
TASK_GROUP = Subject("asyncio.TaskGroup", task_group)
DEBUG_MODE = Subject("asyncio, debug mode", debug_mode, is_slow=True)
AIOMONITOR = Subject("aiomonitor, task factory", aiomonitor_task_factory, package="aiomonitor", is_slow=True)
PYLEAK = Subject("pyleak, creation tracking", pyleak_with_creation_tracking, package="pyleak", is_slow=True)
