"""Kernels of asyncio's own: tasks that wait for tasks, up to those that wait for each other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from kernels.ending import end
from kernels.kernel import Body, Kernel, Stuck
from kernels.shims import give_way

Join = Callable[[asyncio.Task[Any]], Awaitable[object]]


async def _work(jobs: asyncio.Queue[str]) -> str:
    return await jobs.get()


async def _done() -> None:
    await asyncio.sleep(0)


async def gather_buggy() -> None:
    jobs: asyncio.Queue[str] = asyncio.Queue()
    await asyncio.gather(
        asyncio.create_task(_done(), name="quick"),
        asyncio.create_task(_work(jobs), name="worker"),  # the bug: nobody gives it a job
    )


async def gather_fixed() -> None:
    jobs: asyncio.Queue[str] = asyncio.Queue()
    jobs.put_nowait("job")
    await asyncio.gather(asyncio.create_task(_done(), name="quick"), asyncio.create_task(_work(jobs), name="worker"))


async def task_group_buggy() -> None:
    jobs: asyncio.Queue[str] = asyncio.Queue()
    async with asyncio.TaskGroup() as group:
        group.create_task(_done(), name="quick")
        group.create_task(_work(jobs), name="worker")  # the bug: nobody gives it a job


async def task_group_fixed() -> None:
    jobs: asyncio.Queue[str] = asyncio.Queue()
    async with asyncio.TaskGroup() as group:
        group.create_task(_work(jobs), name="worker")
        await jobs.put("job")


async def task_group_in_task_buggy() -> None:
    asyncio.create_task(task_group_buggy(), name="supervisor")  # the bug: nobody waits for it either
    await give_way()


async def task_group_in_task_fixed() -> None:
    await asyncio.create_task(task_group_fixed(), name="supervisor")


async def nested_groups_buggy() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(task_group_buggy(), name="supervisor")


async def nested_groups_fixed() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(task_group_fixed(), name="supervisor")


async def chain_buggy() -> None:
    jobs: asyncio.Queue[str] = asyncio.Queue()

    async def joiner(other: asyncio.Task[Any]) -> None:
        await other

    last: asyncio.Task[Any] = asyncio.create_task(_work(jobs), name="worker")  # the bug: nobody gives it a job
    for name in ("second", "first"):
        last = asyncio.create_task(joiner(last), name=name)
    await give_way()


async def chain_fixed() -> None:
    jobs: asyncio.Queue[str] = asyncio.Queue()

    async def joiner(other: asyncio.Task[Any]) -> None:
        await other

    last: asyncio.Task[Any] = asyncio.create_task(_work(jobs), name="worker")
    for name in ("second", "first"):
        last = asyncio.create_task(joiner(last), name=name)
    await jobs.put("job")
    await last


def _by_await(task: asyncio.Task[Any]) -> Awaitable[object]:
    return task


def _by_gather(task: asyncio.Task[Any]) -> Awaitable[object]:
    return asyncio.gather(task, _done(), return_exceptions=True)


def _by_shield(task: asyncio.Task[Any]) -> Awaitable[object]:
    return asyncio.shield(task)


def _by_wait(task: asyncio.Task[Any]) -> Awaitable[object]:
    return asyncio.wait([task])


async def _closing_in_turn(names: Sequence[str], join: Join, *, circle: bool) -> None:
    """Services that close only when the next has closed. In a circle the last waits for the first."""
    services: dict[str, asyncio.Task[None]] = {}

    async def close(after: str | None) -> None:
        await asyncio.sleep(0)  # until all are there
        if after is not None:
            await join(services[after])

    afters = (*names[1:], names[0] if circle else None)
    for name, after in zip(names, afters, strict=True):
        services[name] = asyncio.create_task(close(after), name=name)
    if circle:  # the bug: each waits for the others
        await give_way()
    else:
        await asyncio.gather(*services.values())


def _cycle(name: str, size: int, join: Join, wait: str) -> Kernel:
    names = [f"service {number}" for number in range(size)]

    def in_turn(*, circle: bool) -> Body:
        async def body() -> None:
            await _closing_in_turn(names, join, circle=circle)

        return body

    return Kernel(
        f"asyncio/cycle/{name}",
        f"{size} tasks wait for each other in a circle.",
        in_turn(circle=True),
        in_turn(circle=False),
        leaks=tuple(Stuck(service, wait) for service in names),
    )


async def cycle_with_body_buggy() -> None:
    body = asyncio.current_task()
    assert body is not None

    async def clean_up() -> None:
        await body  # the bug: it is to run when the body has ended, which waits for it

    await asyncio.create_task(clean_up(), name="clean up")


async def cycle_with_body_fixed() -> None:
    served = asyncio.Event()
    cleaning = asyncio.create_task(served.wait(), name="clean up")
    served.set()
    await cleaning


async def cycle_through_lock_buggy() -> None:
    lock = asyncio.Lock()

    async def save() -> None:
        async with lock:
            return

    async with lock:
        await asyncio.create_task(save(), name="save")  # the bug: it waits for a task that needs the lock it holds


async def cycle_through_lock_fixed() -> None:
    lock = asyncio.Lock()

    async def save() -> None:
        async with lock:
            return

    async with lock:
        saving = asyncio.create_task(save(), name="save")
    await saving


class _Client:
    """Sends requests; a task of its own reads the replies and gives each to whom it is for."""

    def __init__(self) -> None:
        self._replies: asyncio.Queue[tuple[int, str] | None] = asyncio.Queue()
        self._waiting: dict[int, asyncio.Future[str]] = {}
        self._reader = asyncio.create_task(self._read(), name="reader")

    async def _read(self) -> None:
        while (reply := await self._replies.get()) is not None:
            number, text = reply
            self._waiting.pop(number).set_result(text)

    async def request(self, number: int, *, lost: bool) -> str:
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._replies.put(None if lost else (number, "reply"))
        return await future  # the bug: the reader has gone without telling those who wait

    async def close(self) -> None:
        await end(self._reader)


async def reader_gone_buggy() -> None:
    client = _Client()
    try:
        await client.request(1, lost=True)
    finally:
        await client.close()


async def reader_gone_fixed() -> None:
    client = _Client()
    try:
        await client.request(1, lost=False)
    finally:
        await client.close()


KERNELS = (
    Kernel(
        "asyncio/gather/stuck-child",
        "gather() waits for all, one of which waits for ever.",
        gather_buggy,
        gather_fixed,
        leaks=(Stuck("worker", "Queue.get"),),
        body=Stuck("", "gather"),
    ),
    Kernel(
        "asyncio/task_group/stuck-child",
        "A task group cannot end: one of its tasks waits for ever.",
        task_group_buggy,
        task_group_fixed,
        leaks=(Stuck("worker", "Queue.get"),),
        body=Stuck("", "TaskGroup.__aexit__"),
    ),
    Kernel(
        "asyncio/task_group/in-task",
        "A task whose task group cannot end is left behind.",
        task_group_in_task_buggy,
        task_group_in_task_fixed,
        leaks=(Stuck("supervisor", "TaskGroup.__aexit__"), Stuck("worker", "Queue.get")),
    ),
    Kernel(
        "asyncio/task_group/nested",
        "A task group cannot end, because one inside it cannot.",
        nested_groups_buggy,
        nested_groups_fixed,
        leaks=(Stuck("supervisor", "TaskGroup.__aexit__"), Stuck("worker", "Queue.get")),
        body=Stuck("", "TaskGroup.__aexit__"),
    ),
    Kernel(
        "asyncio/chain",
        "A task waits for a task that waits for one that never ends.",
        chain_buggy,
        chain_fixed,
        leaks=(Stuck("first", "task"), Stuck("second", "task"), Stuck("worker", "Queue.get")),
    ),
    _cycle("two", 2, _by_await, "task"),
    _cycle("three", 3, _by_await, "task"),
    _cycle("gather", 2, _by_gather, "gather"),
    _cycle("shield", 2, _by_shield, "shield"),
    _cycle("wait", 3, _by_wait, "wait"),
    Kernel(
        "asyncio/cycle/body",
        "The body waits for a task that waits for the body.",
        cycle_with_body_buggy,
        cycle_with_body_fixed,
        leaks=(Stuck("clean up", "task"),),
        body=Stuck("", "task"),
    ),
    Kernel(
        "asyncio/cycle/lock",
        "The body waits, inside a lock, for a task that needs the lock.",
        cycle_through_lock_buggy,
        cycle_through_lock_fixed,
        leaks=(Stuck("save", "Lock.acquire"),),
        body=Stuck("", "task"),
    ),
    Kernel(
        "asyncio/future/reader-gone",
        "A request waits for its reply, but the task that reads replies has ended.",
        reader_gone_buggy,
        reader_gone_fixed,
        body=Stuck("", "_Client.request"),
    ),
)
