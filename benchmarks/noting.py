"""What it costs, while a scope is open, that it notes who starts what: each kind of start, beside the same in a scope
that looks for tasks only.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

import taskscope
from benchmarks.effort import Effort
from benchmarks.figures import Row
from benchmarks.finding import SUBJECTS, TASKS, compared_with_tasks, label, on_asyncio, per_time
from taskscope._policy import Find

EVERYTHING: Final = "everything"


async def threads(times: int) -> None:
    for _ in range(times):
        thread = threading.Thread(target=_nothing)
        thread.start()
        thread.join()


async def executor(times: int) -> None:
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as pool:
        for _ in range(times):
            await loop.run_in_executor(pool, _nothing)


async def generators(times: int) -> None:
    for _ in range(times):
        async with aclosing(_one()) as generator:
            await anext(generator)


async def transports(times: int) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(times):
        ours, theirs = socket.socketpair()
        with theirs:
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
            transport.close()
            await asyncio.sleep(0)


def _nothing() -> None:
    pass


async def _one() -> AsyncGenerator[None]:
    yield


@dataclass(frozen=True)
class Noting:
    """One benchmark: one way to start a thing, and the word of `find` that has it noted."""

    name: str
    word: str
    start: Callable[[int], Awaitable[None]]

    def run(self, effort: Effort) -> list[Row]:
        subjects = [TASKS, self.word, EVERYTHING]
        rows = {subject: Row(self.name, label(subject), "us") for subject in subjects}
        return compared_with_tasks(rows, effort, on_asyncio, self._measure)

    async def _measure(self, order: list[str], seconds: float) -> dict[str, float]:
        return {subject: await self._within(SUBJECTS[subject], seconds) for subject in order}

    async def _within(self, find: Sequence[Find], seconds: float) -> float:
        async with taskscope.TaskScope(find=find):
            return await per_time(self.start, seconds)


def benchmarks() -> list[Noting]:
    return [
        Noting("find: start and join a thread", "threads", threads),
        Noting("find: run_in_executor, and wait for it", "executor", executor),
        Noting("find: first step of an async generator, and close it", "generators", generators),
        Noting("find: open a connection, and close it", "transports", transports),
    ]
