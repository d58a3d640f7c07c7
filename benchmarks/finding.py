"""What it costs that a scope looks for more than tasks: each word of `find` beside none, with nothing to be found.

This is paid when a scope opens and when its body has ended. What it depends on is shown by what others have on the loop
and on the heap.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any, Final, cast, get_args

import trio

import taskscope
from benchmarks.effort import Effort
from benchmarks.figures import Row, ratios, rotated
from taskscope._policy import Find

WORDS: Final[tuple[Find, ...]] = get_args(Find)
TASKS: Final = "tasks"
"""The baseline: who looks for tasks only."""

SUBJECTS: Final[dict[str, Sequence[Find]]] = {
    TASKS: (TASKS,),
    **{word: (TASKS, cast("Find", word)) for word in WORDS if word != TASKS},
    "everything": WORDS,
}

FOREIGN_OBJECTS: Final = 100_000
FOREIGN_TIMERS: Final = 1_000
FOREIGN_TRANSPORTS: Final = 400
"""As many as a process may have files open, where the limit is the usual 1,024 and the rest is needed as well."""

Surroundings = Callable[[], AbstractAsyncContextManager[Any]]
Run = Callable[[Callable[[], Awaitable[dict[str, float]]]], dict[str, float]]

Measure = Callable[[list[str], float], Awaitable[dict[str, float]]]


def nothing() -> AbstractAsyncContextManager[None]:
    return nullcontext()


@asynccontextmanager
async def objects() -> AsyncIterator[None]:
    """What the collector has to look at: lists, each with a thing in it."""
    held = [[object()] for _ in range(FOREIGN_OBJECTS)]
    yield
    held.clear()


@asynccontextmanager
async def timers_and_transports() -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()
    timers = [loop.call_later(3_600, nothing) for _ in range(FOREIGN_TIMERS)]
    with ExitStack() as sockets:
        template = sockets.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        template.bind(("127.0.0.1", 0))
        template.setblocking(False)
        opened = [
            await loop.create_datagram_endpoint(asyncio.DatagramProtocol, sock=template.dup())
            for _ in range(FOREIGN_TRANSPORTS)
        ]
        yield
        for timer in timers:
            timer.cancel()
        for transport, _ in opened:
            transport.close()
        await asyncio.sleep(0)


@dataclass(frozen=True)
class Finding:
    """One benchmark: entering and leaving a scope that stays clean, on one kind of loop and amid one kind of things."""

    name: str
    run_loop: Run
    surroundings: Surroundings = nothing
    package: str | None = None

    def run(self, effort: Effort) -> list[Row]:
        rows = {subject: Row(self.name, label(subject), "us") for subject in SUBJECTS}
        if self.package is not None and find_spec(self.package) is None:
            for row in rows.values():
                row.note = "not installed"
            return list(rows.values())
        return compared_with_tasks(rows, effort, self.run_loop, self._measure)

    async def _measure(self, order: list[str], seconds: float) -> dict[str, float]:
        async with self.surroundings():
            return {subject: await per_time(partial(_enter_and_leave, SUBJECTS[subject]), seconds) for subject in order}


def compared_with_tasks(rows: dict[str, Row], effort: Effort, run_loop: Run, measure: Measure) -> list[Row]:
    """Fills rows with samples, taken in turn, and with their ratios to who looks for tasks only.

    rows: by their subjects.
    measure: takes a sample of each subject, in an order, of about so many seconds.
    """
    for round_number in range(effort.scope_rounds):
        order = rotated(list(rows), round_number)
        for subject, sample in run_loop(partial(measure, order, effort.sample_seconds)).items():
            rows[subject].samples.append(sample)
    for subject, row in rows.items():
        if subject != TASKS:
            row.ratios = ratios(row.samples, rows[TASKS].samples)
    return list(rows.values())


async def per_time(action: Callable[[int], Awaitable[object]], seconds: float) -> float:
    """Microseconds that an action takes once, of as many times as take about so many seconds.

    action: does it a number of times.
    """
    warm_up = 10
    start = time.perf_counter()
    await action(warm_up)
    times = max(warm_up, int(seconds * warm_up / (time.perf_counter() - start)))
    gc.collect()
    start = time.perf_counter()
    await action(times)
    return (time.perf_counter() - start) / times * 1e6


async def _enter_and_leave(find: Sequence[Find], times: int) -> None:
    for _ in range(times):
        async with taskscope.TaskScope(find=find):
            pass


def label(subject: str) -> str:
    return subject if subject == TASKS else f"{TASKS}, {subject}"


def on_asyncio(main: Callable[[], Awaitable[dict[str, float]]]) -> dict[str, float]:
    return asyncio.run(_awaited(main), debug=False)


def on_uvloop(main: Callable[[], Awaitable[dict[str, float]]]) -> dict[str, float]:
    import uvloop

    with asyncio.Runner(debug=False, loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_awaited(main))


def on_trio(main: Callable[[], Awaitable[dict[str, float]]]) -> dict[str, float]:
    return trio.run(main)


async def _awaited(main: Callable[[], Awaitable[dict[str, float]]]) -> dict[str, float]:
    return await main()


def benchmarks() -> list[Finding]:
    what = "find: enter and leave a clean scope"
    amid_objects = f"{FOREIGN_OBJECTS:,} foreign objects"
    amid_others = f"{FOREIGN_TIMERS:,} foreign timers, {FOREIGN_TRANSPORTS} transports"
    uvloop = partial(Finding, run_loop=on_uvloop, package="uvloop")
    return [
        Finding(f"{what}, asyncio", on_asyncio),
        Finding(f"{what}, asyncio, {amid_others}", on_asyncio, timers_and_transports),
        uvloop(f"{what}, uvloop"),
        uvloop(f"{what}, uvloop, {amid_objects}", surroundings=objects),
        uvloop(f"{what}, uvloop, {amid_others}", surroundings=timers_and_transports),
        Finding(f"{what}, Trio", on_trio),
    ]
