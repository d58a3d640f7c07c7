"""Kernels of asyncio's own: cancellation that is swallowed, kept off, forgotten or stuck in its own cleanup."""

from __future__ import annotations

import asyncio
import sys

from kernels.ending import end
from kernels.kernel import Kernel, Stuck
from kernels.shims import give_way


async def _fetch(replies: asyncio.Queue[str]) -> str | None:
    for _ in range(2):
        try:
            return await replies.get()
        except asyncio.CancelledError:  # the bug: a cancellation is taken for a lost connection, and tried again
            continue
    return None


async def _fetch_or_end(replies: asyncio.Queue[str]) -> str:
    return await replies.get()


async def swallowed_buggy() -> None:
    fetch = asyncio.create_task(_fetch(asyncio.Queue()), name="fetch")
    await give_way()
    fetch.cancel()
    await give_way()


async def swallowed_fixed() -> None:
    fetch = asyncio.create_task(_fetch_or_end(asyncio.Queue()), name="fetch")
    await give_way()
    await end(fetch)


async def swallowed_and_awaited_buggy() -> None:
    fetch = asyncio.create_task(_fetch(asyncio.Queue()), name="fetch")
    await give_way()
    fetch.cancel()
    await fetch


async def swallowed_in_wait_for_buggy() -> None:
    fetch = asyncio.create_task(_fetch(asyncio.Queue()), name="fetch")
    await asyncio.wait_for(fetch, 0.01)  # the bug is in what it waits for: when the time is over, it waits on


async def swallowed_in_wait_for_fixed() -> None:
    fetch = asyncio.create_task(_fetch_or_end(asyncio.Queue()), name="fetch")
    try:
        await asyncio.wait_for(fetch, 0.01)
    except TimeoutError:
        return


async def wait_for_without_end_buggy() -> None:
    ready = asyncio.Event()
    await asyncio.wait_for(ready.wait(), timeout=None)  # the bug: the time limit was never configured


async def wait_for_without_end_fixed() -> None:
    ready = asyncio.Event()
    try:
        await asyncio.wait_for(ready.wait(), timeout=0.01)
    except TimeoutError:
        return


async def condition_buggy() -> None:
    changed = asyncio.Condition()
    seen = asyncio.Event()

    async def watcher() -> None:
        async with changed:
            await changed.wait()
        seen.set()

    async def changer() -> None:
        async with changed:
            changed.notify()
            await seen.wait()  # the bug: the watcher cannot see it before the lock is free again

    asyncio.create_task(watcher(), name="watcher")
    await give_way()
    asyncio.create_task(changer(), name="changer")
    await give_way()


async def condition_fixed() -> None:
    changed = asyncio.Condition()
    seen = asyncio.Event()

    async def watcher() -> None:
        async with changed:
            await changed.wait()
        seen.set()

    async def changer() -> None:
        async with changed:
            changed.notify()
        await seen.wait()

    tasks = [asyncio.create_task(watcher(), name="watcher")]
    await give_way()
    tasks.append(asyncio.create_task(changer(), name="changer"))
    await asyncio.gather(*tasks)


async def shield_and_time_out_buggy() -> None:
    fetch = asyncio.create_task(_fetch_or_end(asyncio.Queue()), name="fetch")
    try:
        await asyncio.wait_for(asyncio.shield(fetch), 0.01)
    except TimeoutError:
        return  # the bug: the shield has kept the task alive, and nobody waits for it any more


async def shield_and_time_out_fixed() -> None:
    fetch = asyncio.create_task(_fetch_or_end(asyncio.Queue()), name="fetch")
    try:
        await asyncio.wait_for(asyncio.shield(fetch), 0.01)
    except TimeoutError:
        await end(fetch)


async def shield_and_cancel_buggy() -> None:
    replies: asyncio.Queue[str] = asyncio.Queue()

    async def request() -> str:
        fetch = asyncio.create_task(_fetch_or_end(replies), name="fetch")
        return await asyncio.shield(fetch)  # the bug: cancelled here, it leaves the shielded task to nobody

    asking = asyncio.create_task(request(), name="request")
    await give_way()
    await end(asking)


async def shield_and_cancel_fixed() -> None:
    replies: asyncio.Queue[str] = asyncio.Queue()

    async def request() -> str:
        fetch = asyncio.create_task(_fetch_or_end(replies), name="fetch")
        try:
            return await asyncio.shield(fetch)
        finally:
            await end(fetch)

    asking = asyncio.create_task(request(), name="request")
    await give_way()
    await end(asking)


def _three_mirrors() -> list[asyncio.Task[str]]:
    """Three that are asked, of which only the second answers."""
    replies: list[asyncio.Queue[str]] = [asyncio.Queue() for _ in range(3)]
    replies[1].put_nowait("page")
    return [asyncio.create_task(_fetch_or_end(reply), name=f"mirror {n}") for n, reply in enumerate(replies)]


async def wait_losers_buggy() -> None:
    mirrors = _three_mirrors()
    await asyncio.wait(mirrors, return_when=asyncio.FIRST_COMPLETED)  # the bug: the losers are never cancelled


async def wait_losers_fixed() -> None:
    mirrors = _three_mirrors()
    _, losers = await asyncio.wait(mirrors, return_when=asyncio.FIRST_COMPLETED)
    await end(*losers)


async def as_completed_losers_buggy() -> None:
    for first in asyncio.as_completed(_three_mirrors()):
        await first
        return  # the bug: the losers are never cancelled


async def as_completed_losers_fixed() -> None:
    mirrors = _three_mirrors()
    for first in asyncio.as_completed(mirrors):
        await first
        break
    await end(*mirrors)


async def as_completed_never_buggy() -> None:
    mirrors = _three_mirrors()
    for answer in asyncio.as_completed(mirrors):
        await answer  # the bug: it wants all three, of which two never answer


async def gather_fails_buggy() -> None:
    replies: asyncio.Queue[str] = asyncio.Queue()

    async def fail() -> None:
        await asyncio.sleep(0)
        raise ConnectionError("refused")

    fetch = asyncio.create_task(_fetch_or_end(replies), name="fetch")
    try:
        await asyncio.gather(fetch, asyncio.create_task(fail(), name="fail"))
    except ConnectionError:
        return  # the bug: gather() raises at once and lets the others go on


async def gather_fails_fixed() -> None:
    replies: asyncio.Queue[str] = asyncio.Queue()

    async def fail() -> None:
        await asyncio.sleep(0)
        raise ConnectionError("refused")

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_fetch_or_end(replies), name="fetch")
            group.create_task(fail(), name="fail")
    except* ConnectionError:
        pass


async def _worker_that_logs(log: asyncio.Queue[str]) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        await log.put("worker stopped")  # the bug: the log is full and its reader is gone


async def cleanup_buggy() -> None:
    log: asyncio.Queue[str] = asyncio.Queue(1)
    log.put_nowait("worker started")
    worker = asyncio.create_task(_worker_that_logs(log), name="worker")
    await give_way()
    worker.cancel()
    await asyncio.wait([worker])


async def cleanup_fixed() -> None:
    log: asyncio.Queue[str] = asyncio.Queue()
    log.put_nowait("worker started")
    worker = asyncio.create_task(_worker_that_logs(log), name="worker")
    await give_way()
    await end(worker)


async def cleanup_past_timeout_buggy() -> None:
    log: asyncio.Queue[str] = asyncio.Queue(1)
    log.put_nowait("started")
    async with asyncio.timeout(0.01):
        try:
            await asyncio.Event().wait()
        finally:
            await log.put("stopped")  # the bug: the timeout has fired once and will not fire again


async def cleanup_past_timeout_fixed() -> None:
    log: asyncio.Queue[str] = asyncio.Queue(1)
    log.put_nowait("started")
    try:
        async with asyncio.timeout(0.01):
            try:
                await asyncio.Event().wait()
            finally:
                log.get_nowait()
                await log.put("stopped")
    except TimeoutError:
        return


# Before 3.12 wait_for() waits by itself for what it has cancelled, since then it only puts a timeout round an await.
_WAIT_FOR_TASK = "wait_for" if sys.version_info < (3, 12) else "task"

KERNELS = (
    Kernel(
        "asyncio/cancel/swallowed",
        "A task takes a cancellation for an error and tries again; who cancelled it does not wait for it.",
        swallowed_buggy,
        swallowed_fixed,
        leaks=(Stuck("fetch", "Queue.get"),),
    ),
    Kernel(
        "asyncio/cancel/swallowed-and-awaited",
        "A task takes a cancellation for an error and tries again; who cancelled it waits for it for ever.",
        swallowed_and_awaited_buggy,
        swallowed_fixed,
        leaks=(Stuck("fetch", "Queue.get"),),
        body=Stuck("", "task"),
    ),
    Kernel(
        "asyncio/wait_for/swallowed",
        "wait_for() waits, past its timeout, for a task that has swallowed its cancellation.",
        swallowed_in_wait_for_buggy,
        swallowed_in_wait_for_fixed,
        leaks=(Stuck("fetch", "Queue.get"),),
        body=Stuck("", _WAIT_FOR_TASK),
    ),
    Kernel(
        "asyncio/wait_for/no-timeout",
        "wait_for() with timeout=None is no limit at all.",
        wait_for_without_end_buggy,
        wait_for_without_end_fixed,
        body=Stuck("", "Event.wait"),
    ),
    Kernel(
        "asyncio/condition/reacquire",
        "A notified waiter cannot take the condition's lock again, for who notified it waits for it inside the lock.",
        condition_buggy,
        condition_fixed,
        leaks=(Stuck("watcher", "Condition.wait"), Stuck("changer", "Event.wait")),
    ),
    Kernel(
        "asyncio/shield/timeout",
        "A shielded task outlives the timeout round the shield.",
        shield_and_time_out_buggy,
        shield_and_time_out_fixed,
        leaks=(Stuck("fetch", "Queue.get"),),
    ),
    Kernel(
        "asyncio/shield/cancel",
        "A shielded task outlives the task that started it.",
        shield_and_cancel_buggy,
        shield_and_cancel_fixed,
        leaks=(Stuck("fetch", "Queue.get"),),
    ),
    Kernel(
        "asyncio/wait/losers",
        "Of several tasks the first to end is taken, the others are forgotten.",
        wait_losers_buggy,
        wait_losers_fixed,
        leaks=(Stuck("mirror 0", "Queue.get"), Stuck("mirror 2", "Queue.get")),
    ),
    Kernel(
        "asyncio/as_completed/losers",
        "A loop over as_completed() is left after its first result, the other tasks are forgotten.",
        as_completed_losers_buggy,
        as_completed_losers_fixed,
        leaks=(Stuck("mirror 0", "Queue.get"), Stuck("mirror 2", "Queue.get")),
    ),
    Kernel(
        "asyncio/as_completed/never",
        "A loop over as_completed() wants the results of all, some of which never end.",
        as_completed_never_buggy,
        as_completed_losers_fixed,
        leaks=(Stuck("mirror 0", "Queue.get"), Stuck("mirror 2", "Queue.get")),
        body=Stuck("", "as_completed"),
    ),
    Kernel(
        "asyncio/gather/failed",
        "gather() raises the first error while the other tasks run on.",
        gather_fails_buggy,
        gather_fails_fixed,
        leaks=(Stuck("fetch", "Queue.get"),),
    ),
    Kernel(
        "asyncio/cleanup/blocked",
        "A cancelled task blocks in its `finally`, and who cancelled it waits for it.",
        cleanup_buggy,
        cleanup_fixed,
        leaks=(Stuck("worker", "Queue.put"),),
        body=Stuck("", "wait"),
    ),
    Kernel(
        "asyncio/cleanup/past-timeout",
        "What a timeout has cancelled blocks in its `finally`, where no timeout reaches it.",
        cleanup_past_timeout_buggy,
        cleanup_past_timeout_fixed,
        body=Stuck("", "Queue.put"),
    ),
)
