"""Kernels of asyncio's own: locks, queues, barriers and events of which one half of the protocol is missing."""

from __future__ import annotations

import asyncio
import sys

from kernels.ending import end
from kernels.kernel import Kernel, Stuck
from kernels.shims import give_way


async def _party(barrier: asyncio.Barrier) -> None:
    await barrier.wait()


async def barrier_buggy() -> None:
    barrier = asyncio.Barrier(3)
    for number in range(2):  # the bug: a party is missing
        asyncio.create_task(_party(barrier), name=f"party {number}")
    await give_way()


async def barrier_fixed() -> None:
    barrier = asyncio.Barrier(3)
    async with asyncio.TaskGroup() as group:
        for number in range(3):
            group.create_task(_party(barrier), name=f"party {number}")


async def barrier_of_body_buggy() -> None:
    barrier = asyncio.Barrier(3)
    asyncio.create_task(_party(barrier), name="party")
    await barrier.wait()


async def semaphore_buggy() -> None:
    slots = asyncio.Semaphore(1)

    async def download(size: int) -> None:
        await slots.acquire()
        if not size:
            return  # the bug: the slot is not given back
        slots.release()

    for number, size in enumerate((0, 10, 20)):
        asyncio.create_task(download(size), name=f"download {number}")
    await give_way()


async def semaphore_fixed() -> None:
    slots = asyncio.Semaphore(1)

    async def download(size: int) -> None:
        async with slots:
            if not size:
                return

    async with asyncio.TaskGroup() as group:
        for number, size in enumerate((0, 10, 20)):
            group.create_task(download(size), name=f"download {number}")


async def join_buggy() -> None:
    jobs: asyncio.Queue[int] = asyncio.Queue()

    async def worker() -> None:
        while True:
            await jobs.get()  # the bug: no task_done()

    working = asyncio.create_task(worker(), name="worker")
    for job in range(3):
        jobs.put_nowait(job)
    await jobs.join()
    await end(working)


async def join_fixed() -> None:
    jobs: asyncio.Queue[int] = asyncio.Queue()

    async def worker() -> None:
        while True:
            await jobs.get()
            jobs.task_done()

    working = asyncio.create_task(worker(), name="worker")
    for job in range(3):
        jobs.put_nowait(job)
    await jobs.join()
    await end(working)


async def nested_lock_buggy() -> None:
    lock = asyncio.Lock()

    async def save() -> None:
        async with lock:  # the bug: asyncio's locks are not reentrant
            return

    async with lock:
        await save()


async def nested_lock_fixed() -> None:
    lock = asyncio.Lock()

    async def save_locked() -> None:
        return

    async with lock:
        await save_locked()


class _Service:
    def __init__(self) -> None:
        self.ready = asyncio.Event()

    async def use(self) -> None:
        await self.ready.wait()

    def restart(self) -> None:
        self.ready = asyncio.Event()

    def restart_in_place(self) -> None:
        self.ready.clear()


async def event_lost_buggy() -> None:
    service = _Service()
    service.ready.set()
    service.restart()  # the bug: the event that was set is thrown away before anybody has waited for it
    asyncio.create_task(service.use(), name="user")
    await give_way()


async def event_lost_fixed() -> None:
    service = _Service()
    service.restart_in_place()
    using = asyncio.create_task(service.use(), name="user")
    service.ready.set()
    await using


async def event_replaced_buggy() -> None:
    service = _Service()
    asyncio.create_task(service.use(), name="user")
    await give_way()
    service.restart()  # the bug: who waits already waits on the old event
    service.ready.set()
    await give_way()


async def event_replaced_fixed() -> None:
    service = _Service()
    using = asyncio.create_task(service.use(), name="user")
    await give_way()
    service.restart_in_place()
    service.ready.set()
    await using


async def _consume(queue: asyncio.Queue[str | None]) -> None:
    while await queue.get() is not None:
        pass


async def sentinel_buggy() -> None:
    queue: asyncio.Queue[str | None] = asyncio.Queue()
    for number in range(2):
        asyncio.create_task(_consume(queue), name=f"consumer {number}")
    for item in ("a", "b", None):  # the bug: one sentinel for two consumers
        await queue.put(item)
    await give_way()


async def sentinel_fixed() -> None:
    queue: asyncio.Queue[str | None] = asyncio.Queue()
    async with asyncio.TaskGroup() as group:
        for number in range(2):
            group.create_task(_consume(queue), name=f"consumer {number}")
        for item in ("a", "b", None, None):
            await queue.put(item)


KERNELS: tuple[Kernel, ...] = (
    Kernel(
        "asyncio/barrier/short",
        "A barrier waits for a party that was never started.",
        barrier_buggy,
        barrier_fixed,
        leaks=(Stuck("party 0", "Barrier.wait"), Stuck("party 1", "Barrier.wait")),
    ),
    Kernel(
        "asyncio/barrier/body",
        "The body itself waits at a barrier for a party that was never started.",
        barrier_of_body_buggy,
        barrier_fixed,
        leaks=(Stuck("party", "Barrier.wait"),),
        body=Stuck("", "Barrier.wait"),
    ),
    Kernel(
        "asyncio/semaphore/not-released",
        "An early return keeps the only slot of a semaphore.",
        semaphore_buggy,
        semaphore_fixed,
        leaks=(Stuck("download 1", "Semaphore.acquire"), Stuck("download 2", "Semaphore.acquire")),
    ),
    Kernel(
        "asyncio/queue/join",
        "Queue.join() waits for a task_done() that no worker calls.",
        join_buggy,
        join_fixed,
        leaks=(Stuck("worker", "Queue.get"),),
        body=Stuck("", "Queue.join"),
    ),
    Kernel(
        "asyncio/queue/sentinel",
        "One sentinel is to end two consumers.",
        sentinel_buggy,
        sentinel_fixed,
        leaks=(Stuck("consumer 1", "Queue.get"),),
        also=((Stuck("consumer 0", "Queue.get"),),),
    ),
    Kernel(
        "asyncio/lock/nested",
        "A lock is taken again inside of itself.",
        nested_lock_buggy,
        nested_lock_fixed,
        body=Stuck("", "Lock.acquire"),
    ),
    Kernel(
        "asyncio/event/lost",
        "An event is set, and made anew before somebody waits for it.",
        event_lost_buggy,
        event_lost_fixed,
        leaks=(Stuck("user", "Event.wait"),),
    ),
    Kernel(
        "asyncio/event/replaced",
        "An event is made anew while somebody waits for the old one.",
        event_replaced_buggy,
        event_replaced_fixed,
        leaks=(Stuck("user", "Event.wait"),),
    ),
)

if sys.version_info >= (3, 13):

    async def _consume_until_shut_down(queue: asyncio.Queue[str]) -> None:
        while True:
            try:
                await queue.get()
            except asyncio.QueueShutDown:
                return

    async def shutdown_buggy() -> None:
        queue: asyncio.Queue[str] = asyncio.Queue()
        for number in range(2):
            asyncio.create_task(_consume_until_shut_down(queue), name=f"consumer {number}")
        await queue.put("item")
        await give_way()  # the bug: no shutdown()

    async def shutdown_fixed() -> None:
        queue: asyncio.Queue[str] = asyncio.Queue()
        async with asyncio.TaskGroup() as group:
            for number in range(2):
                group.create_task(_consume_until_shut_down(queue), name=f"consumer {number}")
            await queue.put("item")
            queue.shutdown()

    KERNELS += (
        Kernel(
            "asyncio/queue/shutdown",
            "Consumers run until their queue is shut down, which nobody does.",
            shutdown_buggy,
            shutdown_fixed,
            leaks=(Stuck("consumer 0", "Queue.get"), Stuck("consumer 1", "Queue.get")),
        ),
    )
