"""Kernels of asyncio's own: leaks that something could still wake, so that no proof may be given of them."""

from __future__ import annotations

import asyncio
import socket
import threading

from kernels.ending import end
from kernels.kernel import Kernel, Stuck
from kernels.shims import give_way


async def ticker_buggy() -> None:
    async def tick() -> None:
        while True:
            await asyncio.sleep(60)

    asyncio.create_task(tick(), name="ticker")  # the bug: nobody ends it
    await give_way()


async def ticker_fixed() -> None:
    async def tick() -> None:
        while True:
            await asyncio.sleep(60)

    ticker = asyncio.create_task(tick(), name="ticker")
    await give_way()
    await end(ticker)


async def timer_buggy() -> None:
    async def wait_for_alarm() -> None:
        alarm = asyncio.get_running_loop().create_future()
        timer = asyncio.get_running_loop().call_later(60, alarm.set_result, None)
        try:
            await alarm
        finally:
            timer.cancel()

    asyncio.create_task(wait_for_alarm(), name="sleeper")  # the bug: nobody ends it
    await give_way()


async def timer_fixed() -> None:
    async def wait_for_alarm() -> None:
        alarm = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0, alarm.set_result, None)
        await alarm

    await asyncio.create_task(wait_for_alarm(), name="sleeper")


async def timer_over_event_buggy() -> None:
    done = asyncio.Event()
    timer = asyncio.get_running_loop().call_later(60, done.set)
    try:
        await done.wait()  # a minute, of which a watch must not say that it is for ever
    finally:
        timer.cancel()


async def timer_over_event_fixed() -> None:
    done = asyncio.Event()
    asyncio.get_running_loop().call_later(0, done.set)
    await done.wait()


async def _in_thread(stop: threading.Event) -> None:
    try:
        await asyncio.to_thread(stop.wait)
    finally:
        stop.set()  # or the interpreter would wait for the thread


async def thread_buggy() -> None:
    asyncio.create_task(_in_thread(threading.Event()), name="watcher")  # the bug: nobody sets the event
    await give_way()


async def thread_fixed() -> None:
    stop = threading.Event()
    watcher = asyncio.create_task(_in_thread(stop), name="watcher")
    await give_way()
    stop.set()
    await watcher


async def thread_that_wakes_buggy() -> None:
    woken, stop = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def wake_later() -> None:
        if not stop.wait(60):
            loop.call_soon_threadsafe(woken.set)

    thread = threading.Thread(target=wake_later)
    thread.start()
    try:
        await woken.wait()  # a minute, as above
    finally:
        stop.set()
        thread.join()


async def thread_that_wakes_fixed() -> None:
    woken = asyncio.Event()
    loop = asyncio.get_running_loop()
    thread = threading.Thread(target=lambda: loop.call_soon_threadsafe(woken.set))
    thread.start()
    await woken.wait()
    thread.join()


async def _read_lines(ours: socket.socket, theirs: socket.socket) -> None:
    reader, writer = await asyncio.open_connection(sock=ours)
    try:
        while await reader.readline():
            pass
    finally:
        theirs.close()
        writer.close()


async def reader_buggy() -> None:
    reading = asyncio.create_task(_read_lines(*socket.socketpair()), name="monitor")
    await give_way()
    del reading  # the bug: the connection is open at both ends, and nobody closes it


async def reader_fixed() -> None:
    ours, theirs = socket.socketpair()
    reading = asyncio.create_task(_read_lines(ours, theirs), name="monitor")
    theirs.sendall(b"a line\n")
    theirs.close()
    await reading


async def held_by_sleeper_buggy() -> None:
    queue: asyncio.Queue[str] = asyncio.Queue()

    async def consume() -> None:
        await queue.get()

    async def produce() -> None:
        await asyncio.sleep(60)
        await queue.put("late")

    asyncio.create_task(consume(), name="consumer")
    asyncio.create_task(produce(), name="producer")  # the bug: nobody waits for either
    await give_way()


async def held_by_sleeper_fixed() -> None:
    queue: asyncio.Queue[str] = asyncio.Queue()

    async def consume() -> None:
        await queue.get()

    async def produce() -> None:
        await asyncio.sleep(0)
        await queue.put("late")

    async with asyncio.TaskGroup() as group:
        group.create_task(consume(), name="consumer")
        group.create_task(produce(), name="producer")


async def body_joins_sleeper_buggy() -> None:
    await asyncio.create_task(asyncio.sleep(60), name="sleeper")  # a minute, as above


async def body_joins_sleeper_fixed() -> None:
    await asyncio.create_task(asyncio.sleep(0), name="sleeper")


KERNELS = (
    Kernel(
        "asyncio/live/ticker",
        "A task that sleeps and sleeps again.",
        ticker_buggy,
        ticker_fixed,
        leaks=(Stuck("ticker", "sleep", provable=False),),
    ),
    Kernel(
        "asyncio/live/timer",
        "A task waits for a future that a timer of the loop will set.",
        timer_buggy,
        timer_fixed,
        leaks=(Stuck("sleeper", "timer_buggy.<locals>.wait_for_alarm", provable=False),),
    ),
    Kernel(
        "asyncio/live/timer-of-body",
        "The body waits for an event that a timer of the loop will set.",
        timer_over_event_buggy,
        timer_over_event_fixed,
        body=Stuck("", "Event.wait", provable=False),
    ),
    Kernel(
        "asyncio/live/thread",
        "A task waits for a thread that is blocked.",
        thread_buggy,
        thread_fixed,
        leaks=(Stuck("watcher", "to_thread", provable=False),),
    ),
    Kernel(
        "asyncio/live/thread-of-body",
        "The body waits for an event that a thread will set.",
        thread_that_wakes_buggy,
        thread_that_wakes_fixed,
        body=Stuck("", "Event.wait", provable=False),
    ),
    Kernel(
        "asyncio/live/reader",
        "A task reads from a connection on which nothing comes and which nobody closes.",
        reader_buggy,
        reader_fixed,
        leaks=(Stuck("monitor", "StreamReader.readline", provable=False),),
    ),
    Kernel(
        "asyncio/live/held-by-sleeper",
        "A task waits at a queue for one that sleeps.",
        held_by_sleeper_buggy,
        held_by_sleeper_fixed,
        leaks=(Stuck("consumer", "Queue.get", provable=False), Stuck("producer", "sleep", provable=False)),
    ),
    Kernel(
        "asyncio/live/join",
        "The body waits for a task that sleeps.",
        body_joins_sleeper_buggy,
        body_joins_sleeper_fixed,
        leaks=(Stuck("sleeper", "sleep", provable=False),),
        body=Stuck("", "task", provable=False),
    ),
)
