"""Kernels of asyncio's own: tasks that come from where one does not look for them, or that nobody holds."""

from __future__ import annotations

import asyncio
import contextvars
import gc
from collections.abc import AsyncIterator
from contextlib import aclosing

from kernels.ending import end
from kernels.kernel import Kernel, Stuck
from kernels.shims import give_way


async def _listen(queue: asyncio.Queue[str] | None = None) -> str:
    return await (queue or asyncio.Queue()).get()


async def no_reference_buggy() -> None:
    asyncio.create_task(_listen(), name="listener")  # the bug: nobody but the loop knows it, and that only weakly
    await give_way()
    gc.collect()


async def no_reference_fixed() -> None:
    listener = asyncio.create_task(_listen(), name="listener")
    await give_way()
    gc.collect()
    await end(listener)


async def done_callback_buggy() -> None:
    job = asyncio.create_task(asyncio.sleep(0), name="job")
    # the bug: what a callback spawns has nobody who could wait for it
    job.add_done_callback(lambda _: asyncio.create_task(_listen(), name="follow-up"))
    await job
    await give_way()


async def done_callback_fixed() -> None:
    queue: asyncio.Queue[str] = asyncio.Queue()
    queue.put_nowait("news")
    await asyncio.create_task(asyncio.sleep(0), name="job")
    await asyncio.create_task(_listen(queue), name="follow-up")


async def call_soon_buggy() -> None:
    # the bug: the same with a callback of the loop
    asyncio.get_running_loop().call_soon(lambda: asyncio.create_task(_listen(), name="follow-up"))
    await give_way()


async def fresh_context_buggy() -> None:
    async def parent() -> None:
        asyncio.create_task(_listen(), name="child")
        await _listen()

    # the bug: started outside of everything that is bound to the context, and forgotten
    asyncio.create_task(parent(), name="parent", context=contextvars.Context())
    await give_way()


async def fresh_context_fixed() -> None:
    async def parent() -> None:
        child = asyncio.create_task(_listen(), name="child")
        try:
            await _listen()
        finally:
            await end(child)

    task = asyncio.create_task(parent(), name="parent", context=contextvars.Context())
    await give_way()
    await end(task)


async def run_in_context_buggy() -> None:
    # the bug: the same by way of Context.run, which the tag does not survive
    contextvars.Context().run(lambda: asyncio.create_task(_listen(), name="listener"))
    await give_way()


async def run_in_context_fixed() -> None:
    listener = contextvars.Context().run(lambda: asyncio.create_task(_listen(), name="listener"))
    await give_way()
    await end(listener)


async def _named_listener() -> str:
    await asyncio.sleep(0)  # an eager factory names a task only after its first step
    task = asyncio.current_task()
    assert task is not None
    task.set_name("listener")
    return await _listen()


async def thread_buggy() -> None:
    def submit(loop: asyncio.AbstractEventLoop) -> None:
        asyncio.run_coroutine_threadsafe(_named_listener(), loop)  # the bug: its future is dropped

    await asyncio.to_thread(submit, asyncio.get_running_loop())
    await give_way()


async def thread_fixed() -> None:
    def submit(loop: asyncio.AbstractEventLoop) -> None:
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result()

    await asyncio.to_thread(submit, asyncio.get_running_loop())


async def _lines(queue: asyncio.Queue[str]) -> AsyncIterator[str]:
    while True:
        yield await queue.get()


async def generator_buggy() -> None:
    queue: asyncio.Queue[str] = asyncio.Queue()

    async def reader() -> None:
        async for _ in _lines(queue):  # the bug: the lines never end, and nobody closes the generator
            pass

    asyncio.create_task(reader(), name="reader")
    await queue.put("a line")
    await give_way()


async def generator_fixed() -> None:
    queue: asyncio.Queue[str] = asyncio.Queue()

    async def reader() -> None:
        async with aclosing(_lines(queue)) as lines:
            async for _ in lines:
                return

    reading = asyncio.create_task(reader(), name="reader")
    await queue.put("a line")
    await reading


class _Table:
    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def rows(self) -> AsyncIterator[int]:
        async with self._lock:
            for number in range(3):
                yield number

    async def write(self) -> None:
        async with self._lock:
            return


async def generator_with_lock_buggy() -> None:
    table = _Table()
    rows = table.rows()
    async for _ in rows:
        break  # the bug: the generator stays suspended inside the lock
    await table.write()


async def generator_with_lock_fixed() -> None:
    table = _Table()
    async with aclosing(table.rows()) as rows:
        async for _ in rows:
            break
    await table.write()


KERNELS = (
    Kernel(
        "asyncio/origin/no-reference",
        "A task that nobody holds waits for what nobody holds: without a scope it is garbage, and vanishes.",
        no_reference_buggy,
        no_reference_fixed,
        leaks=(Stuck("listener", "Queue.get"),),
    ),
    Kernel(
        "asyncio/origin/done-callback",
        "A done-callback spawns a task.",
        done_callback_buggy,
        done_callback_fixed,
        leaks=(Stuck("follow-up", "Queue.get"),),
    ),
    Kernel(
        "asyncio/origin/call-soon",
        "A callback of the loop spawns a task.",
        call_soon_buggy,
        done_callback_fixed,
        leaks=(Stuck("follow-up", "Queue.get"),),
    ),
    Kernel(
        "asyncio/origin/fresh-context",
        "A task in a fresh context spawns another, and both stay.",
        fresh_context_buggy,
        fresh_context_fixed,
        leaks=(Stuck("parent", "Queue.get"), Stuck("child", "Queue.get")),
    ),
    Kernel(
        "asyncio/origin/run-in-context",
        "A task is spawned inside of an empty context.",
        run_in_context_buggy,
        run_in_context_fixed,
        leaks=(Stuck("listener", "Queue.get"),),
    ),
    Kernel(
        "asyncio/origin/thread",
        "A thread of an executor hands a coroutine to the loop and drops what it gets for that.",
        thread_buggy,
        thread_fixed,
        leaks=(Stuck("listener", "Queue.get"),),
    ),
    Kernel(
        "asyncio/generator/waiting",
        "A task waits inside an asynchronous generator that is never closed.",
        generator_buggy,
        generator_fixed,
        leaks=(Stuck("reader", "Queue.get"),),
    ),
    Kernel(
        "asyncio/generator/abandoned",
        "An asynchronous generator that was left half way keeps the lock that its reader needs next.",
        generator_with_lock_buggy,
        generator_with_lock_fixed,
        body=Stuck("", "Lock.acquire"),
    ),
)
