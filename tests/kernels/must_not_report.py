"""Controls after those of the GOLF artifact (ASPLOS 2025), and the leaks that no search of its kind can prove.

The controls are right and must stay silent, though most of their tasks wait for each other much of the time; in some
all wait for one thing that only a timer, a thread or a socket brings. The others are leaks, but what they wait for is
held by something that lives on: they must be found, and must not be called deadlocked.
"""

from __future__ import annotations

import asyncio
import contextvars
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, Final

import anyio

from kernels.ending import end
from kernels.kernel import Kernel, Stuck
from kernels.shims import Chan, Closed, Once, Receiving, RWLock, WaitGroup, give_way, select

A_WHILE: Final = 0.05
"""Seconds, a few times as long as a watch lets pass between two looks."""

# contention


async def contention() -> None:
    lock, total = asyncio.Lock(), 0

    async def add() -> None:
        nonlocal total
        for _ in range(10):
            async with lock:
                seen = total
                await asyncio.sleep(0)
                total = seen + 1

    await asyncio.gather(*(add() for _ in range(20)))
    assert total == 200


async def contention_for_slots() -> None:
    slots = asyncio.Semaphore(2)

    async def download() -> None:
        async with slots:
            await asyncio.sleep(A_WHILE / 5)

    async with asyncio.TaskGroup() as group:
        for _ in range(10):
            group.create_task(download())


async def contention_of_readers_and_writers() -> None:
    lock = RWLock()

    async def read() -> None:
        async with lock.reading():
            await asyncio.sleep(0)

    async def write() -> None:
        async with lock.writing():
            await asyncio.sleep(0)

    await asyncio.gather(*(work() for _ in range(10) for work in (read, read, write)))


# creation


async def creation() -> None:
    async def grow(depth: int) -> None:
        if depth:
            await asyncio.gather(grow(depth - 1), grow(depth - 1))

    await grow(7)


async def creation_from_everywhere() -> None:
    spawned: list[asyncio.Task[None]] = []

    def spawn() -> None:
        spawned.append(asyncio.create_task(asyncio.sleep(0)))

    loop = asyncio.get_running_loop()
    spawn()
    spawned[0].add_done_callback(lambda _: spawn())
    loop.call_soon(spawn)
    contextvars.Context().run(spawn)
    await asyncio.to_thread(lambda: asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result())
    await give_way()
    await asyncio.gather(*spawned)


# signal


async def signal() -> None:
    stop = asyncio.Event()
    workers = [asyncio.create_task(stop.wait()) for _ in range(5)]
    await give_way()
    stop.set()
    await asyncio.gather(*workers)


async def signal_from_thread() -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    timer = threading.Timer(A_WHILE, lambda: loop.call_soon_threadsafe(stop.set))
    timer.start()
    await asyncio.gather(*(stop.wait() for _ in range(5)))
    timer.join()


async def signal_over_socket() -> None:
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    timer = threading.Timer(A_WHILE, theirs.sendall, (b"a line\n",))
    timer.start()
    reading = asyncio.create_task(reader.readline())
    assert await asyncio.shield(reading) == b"a line\n"
    timer.join()
    theirs.close()
    writer.close()
    await writer.wait_closed()


# timer


async def timer() -> None:
    done = asyncio.Event()
    asyncio.get_running_loop().call_later(A_WHILE, done.set)
    waiting = [asyncio.create_task(done.wait()) for _ in range(3)]
    await asyncio.wait(waiting)


async def timer_of_future() -> None:
    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(A_WHILE, future.set_result, "late")

    async def join(other: Awaitable[str]) -> str:
        return await other

    last: Awaitable[str] = future
    for _ in range(5):
        last = asyncio.create_task(join(last))
    assert await last == "late"


async def timeout_of_what_is_stuck() -> None:
    async def wait_in_vain() -> None:
        try:
            async with asyncio.timeout(A_WHILE):
                await asyncio.Event().wait()
        except TimeoutError:
            return

    await asyncio.create_task(wait_in_vain())


async def wait_for_what_is_stuck() -> None:
    lock = asyncio.Lock()
    async with lock:
        try:
            await asyncio.wait_for(lock.acquire(), A_WHILE)
        except TimeoutError:
            return


async def timeout_in_body() -> None:
    try:
        async with asyncio.timeout(A_WHILE):
            await asyncio.Event().wait()
    except TimeoutError:
        return


async def timeout_of_anyio_in_body() -> None:
    with anyio.move_on_after(A_WHILE):
        await asyncio.Event().wait()


async def timeout_of_task_group_in_body() -> None:
    try:
        async with asyncio.timeout(A_WHILE), asyncio.TaskGroup() as group:
            group.create_task(asyncio.Event().wait())
    except TimeoutError:
        return


async def cancel_later() -> None:
    waiting = asyncio.create_task(asyncio.Event().wait())
    asyncio.get_running_loop().call_later(A_WHILE, waiting.cancel)
    await asyncio.wait([waiting])


# simple


async def simple_cond() -> None:
    changed, value = asyncio.Condition(), 0

    async def wait() -> None:
        async with changed:
            await changed.wait_for(lambda: value == 3)

    waiting = [asyncio.create_task(wait()) for _ in range(3)]
    while value < 3:
        await asyncio.sleep(0)
        async with changed:
            value += 1
            changed.notify_all()
    await asyncio.gather(*waiting)


async def simple_contended_close() -> None:
    chan = Chan[int]()

    async def send() -> None:
        try:
            await chan.send(0)
        except Closed:
            return

    senders = [asyncio.create_task(send()) for _ in range(3)]
    await chan.recv()
    chan.close()
    await asyncio.gather(*senders)


async def simple_mutex() -> None:
    lock = asyncio.Lock()
    await lock.acquire()

    async def run() -> None:
        async with lock:
            return

    running = asyncio.create_task(run())
    await give_way()
    lock.release()
    await running


async def simple_no_blocks() -> None:
    async def run() -> None:
        return

    for _ in range(10):
        await asyncio.create_task(run())


async def simple_wait_group() -> None:
    group = WaitGroup()

    async def run() -> None:
        await asyncio.sleep(0)
        group.done()

    group.add(5)
    running = [asyncio.create_task(run()) for _ in range(5)]
    await group.wait()
    await asyncio.gather(*running)


async def simple_once() -> None:
    once, done = Once(), 0

    async def work() -> None:
        nonlocal done
        await asyncio.sleep(0)
        done += 1

    await asyncio.gather(*(once.do(work) for _ in range(5)))
    assert done == 1


# corner cases


async def corner_case_defer() -> None:
    chan = Chan[str]()

    async def run() -> None:
        try:
            await asyncio.sleep(0)
            raise ValueError("panic")
        except ValueError:
            return
        finally:
            await chan.send("deferred")

    running = asyncio.create_task(run())
    assert await chan.recv() == "deferred"
    await running


async def corner_case_bouncing_callback() -> None:
    chan = Chan[int]()

    def passed_on(times: int) -> Callable[[], Any]:
        async def run() -> None:
            if times:
                await asyncio.create_task(passed_on(times - 1)())
            else:
                await chan.send(0)

        return run

    running = asyncio.create_task(passed_on(5)())
    await chan.recv()
    await running


async def corner_case_chan_in_closure() -> None:
    def start() -> asyncio.Task[None]:
        chan = Chan[int]()  # afterwards only the closures have it, one of them in a timer

        async def run() -> None:
            async for _ in chan:
                pass

        def release() -> None:
            chan.close()

        asyncio.get_running_loop().call_later(A_WHILE, release)
        return asyncio.create_task(run())

    await start()


# beyond Go


async def pipeline() -> None:
    first: asyncio.Queue[int | None] = asyncio.Queue(1)
    second: asyncio.Queue[int | None] = asyncio.Queue(1)

    async def double() -> None:
        while (number := await first.get()) is not None:
            await second.put(2 * number)
        await second.put(None)

    async def feed() -> None:
        for number in range(20):
            await first.put(number)
        await first.put(None)

    async with asyncio.TaskGroup() as group:
        group.create_task(double())
        group.create_task(feed())
        total = 0
        while (number := await second.get()) is not None:
            total += number
    assert total == 380


async def workers_with_join() -> None:
    jobs: asyncio.Queue[int] = asyncio.Queue()

    async def work() -> None:
        while True:
            await jobs.get()
            await asyncio.sleep(0)
            jobs.task_done()

    workers = [asyncio.create_task(work()) for _ in range(3)]
    for job in range(10):
        jobs.put_nowait(job)
    await jobs.join()
    await end(*workers)


async def barrier() -> None:
    parties = asyncio.Barrier(4)
    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(parties.wait())
        await asyncio.sleep(A_WHILE)
        await parties.wait()


async def shielded() -> None:
    stop = asyncio.Event()
    inner = asyncio.create_task(stop.wait())
    outer = asyncio.shield(inner)
    outer.cancel()
    stop.set()
    await inner


async def as_completed() -> None:
    tasks = [asyncio.create_task(asyncio.sleep(delay / 100, delay)) for delay in (3, 1, 2)]
    for result in asyncio.as_completed(tasks):
        await result


async def generators() -> None:
    async def numbers() -> AsyncIterator[int]:
        lock = asyncio.Lock()
        number = 0
        while True:
            async with lock:
                yield number
            number += 1

    async def first_three() -> list[int]:
        found = []
        async with aclosing(numbers()) as source:  # type: ignore[type-var]
            async for number in source:
                found.append(number)
                if number == 2:
                    break
        return found

    assert await asyncio.create_task(first_three()) == [0, 1, 2]


async def select_with_stop() -> None:
    jobs, stop = Chan[int](), Chan[None]()

    async def work() -> int:
        done = 0
        while True:
            chosen, _ = await select(Receiving(jobs), Receiving(stop))
            if chosen == 1:
                return done
            done += 1

    worker = asyncio.create_task(work())
    for job in range(5):
        await jobs.send(job)
    stop.close()
    assert await worker == 5


async def cancelled_group() -> None:
    async def fail() -> None:
        await asyncio.sleep(0)
        raise ValueError("no")

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.Event().wait())
            group.create_task(fail())
    except* ValueError:
        pass


async def thread() -> None:
    release = threading.Event()
    waiting = asyncio.create_task(asyncio.to_thread(release.wait))
    asyncio.get_running_loop().call_later(A_WHILE, release.set)
    await waiting


async def double_put() -> None:
    answers: asyncio.Queue[str] = asyncio.Queue(1)

    async def answer() -> None:
        await answers.put("error")
        await answers.put("result")  # one too many, but the queue has room for it once the first has been taken

    answering = asyncio.create_task(answer())
    await answers.get()
    await answering


# global: what lives on is a module's


class _Held:
    """What the kernels below keep in a global of this module until they are run again."""

    thing: Any = None


async def global_chan() -> None:
    _Held.thing = Chan[int]()
    asyncio.create_task(_Held.thing.recv(), name="receiver")  # bug
    await give_way()


async def global_chan_fixed() -> None:
    _Held.thing = Chan[int]()
    receiver = asyncio.create_task(_Held.thing.recv(), name="receiver")
    await _Held.thing.send(0)
    await receiver


async def lock_twice(lock: asyncio.Lock) -> None:
    await lock.acquire()
    await lock.acquire()  # bug


async def global_mutex() -> None:
    _Held.thing = asyncio.Lock()
    asyncio.create_task(lock_twice(_Held.thing), name="locker")
    await give_way()


async def global_mutex_fixed() -> None:
    _Held.thing = asyncio.Lock()
    locker = asyncio.create_task(lock_twice(_Held.thing), name="locker")
    await give_way()
    _Held.thing.release()
    await locker


async def global_rwmutex() -> None:
    _Held.thing = RWLock()
    await _Held.thing.acquire_read()  # bug: it is not given back
    asyncio.create_task(_Held.thing.acquire_write(), name="writer")
    await give_way()


async def global_rwmutex_fixed() -> None:
    _Held.thing = RWLock()
    async with _Held.thing.reading():
        writer = asyncio.create_task(_Held.thing.acquire_write(), name="writer")
        await give_way()
    await writer


async def global_wait_group() -> None:
    _Held.thing = WaitGroup(1)
    asyncio.create_task(_Held.thing.wait(), name="waiter")  # bug: no done()
    await give_way()


async def global_wait_group_fixed() -> None:
    _Held.thing = WaitGroup(1)
    waiter = asyncio.create_task(_Held.thing.wait(), name="waiter")
    await give_way()
    _Held.thing.done()
    await waiter


async def global_of_body() -> None:
    _Held.thing = asyncio.Event()
    await _Held.thing.wait()  # bug: nobody sets it, though anybody could


async def global_of_body_fixed() -> None:
    _Held.thing = asyncio.Event()
    asyncio.get_running_loop().call_soon(_Held.thing.set)
    await _Held.thing.wait()


# resource-on-stack: what lives on is a frame that has the object but will not use it again


async def resource_on_stack() -> None:
    chan = Chan[int]()

    async def sleep_on_it(chan: Chan[int]) -> None:
        await asyncio.sleep(60)

    asyncio.create_task(chan.recv(), name="receiver")
    asyncio.create_task(sleep_on_it(chan), name="sleeper")  # bug: it sleeps instead of sending
    await give_way()


async def resource_on_stack_fixed() -> None:
    chan = Chan[int]()

    async def send(chan: Chan[int]) -> None:
        await chan.send(0)

    async with asyncio.TaskGroup() as group:
        group.create_task(chan.recv(), name="receiver")
        group.create_task(send(chan), name="sender")


KERNELS: Final = (
    Kernel(
        "golf/global/chan",
        "A receive without a sender from a channel that a module keeps (NoLeakGlobal in Go's own tests).",
        global_chan,
        global_chan_fixed,
        leaks=(Stuck("receiver", "Chan.recv", provable=False),),
    ),
    Kernel(
        "golf/global/mutex",
        "A lock that a module keeps is taken twice.",
        global_mutex,
        global_mutex_fixed,
        leaks=(Stuck("locker", "Lock.acquire", provable=False),),
    ),
    Kernel(
        "golf/global/rwmutex",
        "A read lock that a module keeps is not given back.",
        global_rwmutex,
        global_rwmutex_fixed,
        leaks=(Stuck("writer", "RWLock.acquire_write", provable=False),),
    ),
    Kernel(
        "golf/global/waitgroup",
        "A wait group that a module keeps is not counted down.",
        global_wait_group,
        global_wait_group_fixed,
        leaks=(Stuck("waiter", "WaitGroup.wait", provable=False),),
    ),
    Kernel(
        "golf/global/body",
        "The body waits for an event that a module keeps.",
        global_of_body,
        global_of_body_fixed,
        body=Stuck("", "Event.wait", provable=False),
    ),
    Kernel(
        "golf/resource-on-stack",
        "A receive without a sender from a channel that a task has, which sleeps.",
        resource_on_stack,
        resource_on_stack_fixed,
        leaks=(Stuck("receiver", "Chan.recv", provable=False), Stuck("sleeper", "sleep", provable=False)),
    ),
)

CONTROLS: Final = (
    ("golf/contention", contention),
    ("golf/contention/slots", contention_for_slots),
    ("golf/contention/readers-and-writers", contention_of_readers_and_writers),
    ("golf/creation", creation),
    ("golf/creation/everywhere", creation_from_everywhere),
    ("golf/signal", signal),
    ("golf/signal/thread", signal_from_thread),
    ("golf/signal/socket", signal_over_socket),
    ("golf/timer", timer),
    ("golf/timer/future", timer_of_future),
    ("golf/timer/timeout", timeout_of_what_is_stuck),
    ("golf/timer/wait_for", wait_for_what_is_stuck),
    ("golf/timer/timeout-in-body", timeout_in_body),
    ("golf/timer/timeout-in-body/anyio", timeout_of_anyio_in_body),
    ("golf/timer/timeout-in-body/group", timeout_of_task_group_in_body),
    ("golf/timer/cancel", cancel_later),
    ("golf/simple/cond", simple_cond),
    ("golf/simple/contended-close", simple_contended_close),
    ("golf/simple/mutex", simple_mutex),
    ("golf/simple/no-blocks", simple_no_blocks),
    ("golf/simple/waitgroup", simple_wait_group),
    ("golf/simple/once", simple_once),
    ("golf/corner-cases/defer", corner_case_defer),
    ("golf/corner-cases/bouncing-callback", corner_case_bouncing_callback),
    ("golf/corner-cases/chan-in-closure", corner_case_chan_in_closure),
    ("asyncio/right/pipeline", pipeline),
    ("asyncio/right/join", workers_with_join),
    ("asyncio/right/barrier", barrier),
    ("asyncio/right/shield", shielded),
    ("asyncio/right/as_completed", as_completed),
    ("asyncio/right/generators", generators),
    ("asyncio/right/select", select_with_stop),
    ("asyncio/right/cancelled-group", cancelled_group),
    ("asyncio/right/thread", thread),
    ("uber/DoubleSend/queue", double_put),
)
