"""How long it takes to prove that tasks are deadlocked, and that nothing but them and what they hold is looked at."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from benchmarks.effort import Effort
from benchmarks.figures import Goal, Row, ratios, rotated
from taskscope._diagnosis.proof import Proof
from taskscope._diagnosis.reachability import prove

Tasks = list[asyncio.Task[Any]]

# Makes what tasks run, and lets go of all that they share.
Kernel = Callable[[], Callable[[], Coroutine[Any, Any, None]]]

GOALS = {10: 2.0, 1_000: 60.0, 10_000: 600.0}
HELD_GOAL = 50.0
# "The same" beside a large heap, within what caches and a busy machine make of it.
HEAP_GOAL = 1.15

HEAP = 2_000_000
ENTRIES = 200_000


async def _get_of_its_own() -> None:
    queue: asyncio.Queue[None] = asyncio.Queue()
    await queue.get()


async def _put(queue: asyncio.Queue[int]) -> None:
    await queue.put(1)


async def _wait_with(held: object) -> None:
    await asyncio.Event().wait()


def _one_queue() -> Callable[[], Coroutine[Any, Any, None]]:
    queue: asyncio.Queue[int] = asyncio.Queue(1)
    queue.put_nowait(1)
    return lambda: _put(queue)


def _a_queue_each() -> Callable[[], Coroutine[Any, Any, None]]:
    return _get_of_its_own


def _a_large_dict() -> Callable[[], Coroutine[Any, Any, None]]:
    held = {number: str(number) for number in range(ENTRIES)}
    return lambda: _wait_with(held)


@dataclass(frozen=True)
class Proving:
    """One benchmark: the tasks are blocked and nothing else refers to what they wait for."""

    waits: str
    kernel: Kernel

    @property
    def name(self) -> str:
        return f"prove that tasks are deadlocked, {self.waits}"

    def run(self, effort: Effort) -> list[Row]:
        rows = {number: Row(self.name, "", "ms", goal=Goal(goal, "samples")) for number, goal in GOALS.items()}
        for round_number in range(effort.proof_rounds):
            for number in rotated(list(GOALS), round_number):
                taken, proof = _measure(self.kernel, number)
                assert len(proof.stuck) == number, proof
                rows[number].subject = f"{number:,} tasks, {proof.visited:,} objects"
                rows[number].samples.append(taken)
        return list(rows.values())


@dataclass(frozen=True)
class BesideALargeHeap:
    """The same proof with and without millions of other objects in the process."""

    name: str = "prove that tasks are deadlocked, beside a large heap"

    def run(self, effort: Effort) -> list[Row]:
        bare = Row(self.name, "1,000 tasks", "ms")
        beside = Row(self.name, f"beside {HEAP:,} objects", "ms", goal=Goal(HEAP_GOAL, "ratios"))
        for _ in range(effort.proof_rounds):
            bare.samples.append(_measure(_one_queue, 1_000)[0])
            heap = [[number] for number in range(HEAP)]
            beside.samples.append(_measure(_one_queue, 1_000)[0])
            del heap
        beside.ratios = ratios(beside.samples, bare.samples)
        return [bare, beside]


@dataclass(frozen=True)
class WithLargeHoldings:
    """A task that holds more than the search looks at: it has to say so soon."""

    name: str = "give up on a proof"

    def run(self, effort: Effort) -> list[Row]:
        row = Row(self.name, f"1 task that holds a dict of {ENTRIES:,}", "ms", goal=Goal(HELD_GOAL, "samples"))
        for _ in range(effort.proof_rounds):
            taken, proof = _measure(_a_large_dict, 1)
            assert proof.reason is not None, proof
            row.samples.append(taken)
        return [row]


def _measure(kernel: Kernel, number: int) -> tuple[float, Proof]:
    with asyncio.Runner(debug=False, loop_factory=asyncio.new_event_loop) as runner:
        return runner.run(_prove(kernel, number))


async def _prove(kernel: Kernel, number: int) -> tuple[float, Proof]:
    tasks = await _blocked(kernel, number)
    gc.collect()
    start = time.perf_counter()
    proof = prove(tasks)
    taken = (time.perf_counter() - start) * 1e3
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    return taken, proof


async def _blocked(kernel: Kernel, number: int) -> Tasks:
    body = kernel()  # in a frame that is gone when the proof is asked for
    tasks = [asyncio.create_task(body()) for _ in range(number)]
    await asyncio.sleep(0)
    return tasks


def benchmarks() -> list[Proving | BesideALargeHeap | WithLargeHoldings]:
    return [
        Proving("a queue each", _a_queue_each),
        Proving("one queue for all", _one_queue),
        BesideALargeHeap(),
        WithLargeHoldings(),
    ]
