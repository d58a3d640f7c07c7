"""Kernels after the micro tests of the Go runtime's own leak detector (testdata/testgoroutineleakprofile/simple.go).

The detector is that of the GOLF paper (ASPLOS 2025). What Go does with a nil channel, a bare future does here.
"""

from __future__ import annotations

import asyncio
import gc
from typing import Final

import taskscope
from kernels.kernel import Kernel, Stuck
from kernels.shims import Chan, Receiving, RWLock, Sending, WaitGroup, give_way, select

# NilRecv, NilSend: what is waited for has no other end at all


async def receive_from_nil() -> None:
    await asyncio.get_running_loop().create_future()


async def nil_recv() -> None:
    asyncio.create_task(receive_from_nil(), name="receiver")  # bug: nobody else knows the future
    await give_way()


async def nil_recv_fixed() -> None:
    async def receive(future: asyncio.Future[None]) -> None:
        await future

    future = asyncio.get_running_loop().create_future()
    receiver = asyncio.create_task(receive(future), name="receiver")
    future.set_result(None)
    await receiver


async def nil_send() -> None:
    async def send() -> None:
        await Chan[int]().send(0)  # bug: nobody else knows the channel

    asyncio.create_task(send(), name="sender")
    await give_way()


async def nil_send_fixed() -> None:
    chan = Chan[int]()
    sender = asyncio.create_task(chan.send(0), name="sender")
    await chan.recv()
    await sender


# SelectNoCases, SelectNoCasesMain: `select {}`, for which asyncio's idiom is an event that nobody sets


async def forever() -> None:
    await asyncio.Event().wait()


async def select_no_cases() -> None:
    asyncio.create_task(forever(), name="selector")
    await give_way()


async def select_no_cases_main() -> None:
    asyncio.create_task(forever(), name="selector")
    await forever()


async def select_no_cases_fixed() -> None:
    stop = asyncio.Event()
    selector = asyncio.create_task(stop.wait(), name="selector")
    stop.set()
    await selector


# ChanRecv, ChanSend, Select


async def chan_recv() -> None:
    asyncio.create_task(Chan[int]().recv(), name="receiver")
    await give_way()


async def chan_recv_fixed() -> None:
    chan = Chan[int]()
    receiver = asyncio.create_task(chan.recv(), name="receiver")
    await chan.send(0)
    await receiver


async def chan_send() -> None:
    asyncio.create_task(Chan[int]().send(0), name="sender")
    await give_way()


async def select_two() -> None:
    first, second = Chan[int](), Chan[int]()

    async def choose() -> None:
        await select(Sending(first, 0), Receiving(second))

    asyncio.create_task(choose(), name="selector")  # bug: nobody at the other end of either
    await give_way()


async def select_two_fixed() -> None:
    first, second = Chan[int](), Chan[int]()

    async def choose() -> None:
        await select(Sending(first, 0), Receiving(second))

    selector = asyncio.create_task(choose(), name="selector")
    await second.send(0)
    await selector


# WaitGroup


async def wait_group() -> None:
    async def wait() -> None:
        group = WaitGroup(1)
        await group.wait()  # bug: no done()

    asyncio.create_task(wait(), name="waiter")
    await give_way()


async def wait_group_fixed() -> None:
    group = WaitGroup(1)
    waiter = asyncio.create_task(group.wait(), name="waiter")
    await give_way()
    group.done()
    await waiter


# MutexStack, MutexHeap: a thousand at once, the second time spawned by tasks that are gone

THOUSAND: Final = 1_000


async def lock_twice() -> None:
    lock = asyncio.Lock()
    await lock.acquire()
    await lock.acquire()  # bug


async def lock_in_turn() -> None:
    lock = asyncio.Lock()
    await lock.acquire()
    lock.release()
    await lock.acquire()


async def mutex_stack() -> None:
    for number in range(THOUSAND):
        asyncio.create_task(lock_twice(), name=f"locker {number}")
    await give_way()


async def mutex_stack_fixed() -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(THOUSAND):
            group.create_task(lock_in_turn())


async def mutex_heap() -> None:
    async def parent(number: int) -> None:
        asyncio.create_task(lock_twice(), name=f"locker {number}")

    for number in range(THOUSAND):
        asyncio.create_task(parent(number), name=f"parent {number}")
    await give_way()


async def mutex_heap_fixed() -> None:
    async def parent() -> None:
        await asyncio.create_task(lock_in_turn())

    async with asyncio.TaskGroup() as group:
        for _ in range(THOUSAND):
            group.create_task(parent())


# RWMutexRLock, RWMutexLock


async def read_while_writing() -> None:
    async def run() -> None:
        lock = RWLock()
        await lock.acquire_write()
        await lock.acquire_read()  # bug: it is the writer itself

    asyncio.create_task(run(), name="reader")
    await give_way()


async def write_while_reading() -> None:
    async def run() -> None:
        lock = RWLock()
        await lock.acquire_read()
        await lock.acquire_write()  # bug: it is a reader itself

    asyncio.create_task(run(), name="writer")
    await give_way()


async def read_and_write_fixed() -> None:
    async def run() -> None:
        lock = RWLock()
        async with lock.reading():
            pass
        async with lock.writing():
            pass

    await asyncio.create_task(run(), name="reader and writer")


# Cond


async def cond() -> None:
    async def wait() -> None:
        condition = asyncio.Condition()
        async with condition:
            await condition.wait()  # bug: nobody else knows it

    asyncio.create_task(wait(), name="waiter")
    await give_way()


async def cond_fixed() -> None:
    condition = asyncio.Condition()

    async def wait() -> None:
        async with condition:
            await condition.wait()

    waiter = asyncio.create_task(wait(), name="waiter")
    await give_way()
    async with condition:
        condition.notify()
    await waiter


# Mixed


async def mixed() -> None:
    async def outer() -> None:
        chan, group = Chan[int](), WaitGroup(1)

        async def inner() -> None:
            await chan.send(0)
            group.done()

        asyncio.create_task(inner(), name="inner")
        await group.wait()  # bug: what it waits for waits for the receive below
        await chan.recv()

    asyncio.create_task(outer(), name="outer")
    await give_way()


async def mixed_fixed() -> None:
    async def outer() -> None:
        chan, group = Chan[int](), WaitGroup(1)

        async def inner() -> None:
            await chan.send(0)
            group.done()

        sending = asyncio.create_task(inner(), name="inner")
        await chan.recv()
        await group.wait()
        await sending

    await asyncio.create_task(outer(), name="outer")


# SpawnGC: a tree of leaks, while the collector and the detector run again and again

DEPTH: Final = 5


async def grow(depth: int, path: str) -> None:
    look_around()
    if depth:
        for branch in "lr":
            asyncio.create_task(grow(depth - 1, path + branch), name=f"node {path}{branch}")
        await Chan[int]().recv()  # bug


def look_around() -> None:
    gc.collect(0)
    scope = taskscope.current_scope()
    if scope is not None:
        scope.snapshot()


def inner_nodes(depth: int, path: str = "") -> list[str]:
    if not depth:
        return []
    return [f"node {path}", *inner_nodes(depth - 1, path + "l"), *inner_nodes(depth - 1, path + "r")]


async def spawn_gc() -> None:
    asyncio.create_task(grow(DEPTH, ""), name="node ")
    await give_way()
    gc.collect()


async def spawn_gc_fixed() -> None:
    async def grow_and_wait(depth: int) -> None:
        look_around()
        if depth:
            await asyncio.gather(grow_and_wait(depth - 1), grow_and_wait(depth - 1))

    await grow_and_wait(DEPTH)


# DaisyChain: a thousand that can all go on, each only when the next has


async def daisy_chain() -> None:
    async def link(left: Chan[int], right: Chan[int]) -> None:
        await left.send(1 + await right.recv())

    leftmost = left = Chan[int]()
    links: list[asyncio.Task[None]] = []
    for _ in range(THOUSAND):
        right = Chan[int]()
        links.append(asyncio.create_task(link(left, right)))
        left = right
    sender = asyncio.create_task(left.send(1))
    assert await leftmost.recv() == 1 + THOUSAND
    await asyncio.gather(sender, *links)


KERNELS: Final = (
    Kernel(
        "go/NilRecv",
        "A receive from a channel that does not exist.",
        nil_recv,
        nil_recv_fixed,
        leaks=(Stuck("receiver", "receive_from_nil"),),
    ),
    Kernel(
        "go/NilSend",
        "A send to a channel that nobody else knows.",
        nil_send,
        nil_send_fixed,
        leaks=(Stuck("sender", "Chan.send"),),
    ),
    Kernel(
        "go/SelectNoCases",
        "A task waits for ever, on purpose.",
        select_no_cases,
        select_no_cases_fixed,
        leaks=(Stuck("selector", "Event.wait"),),
    ),
    Kernel(
        "go/SelectNoCasesMain",
        "A task waits for ever, on purpose, and so does the body.",
        select_no_cases_main,
        select_no_cases_fixed,
        leaks=(Stuck("selector", "Event.wait"),),
        body=Stuck("", "Event.wait"),
    ),
    Kernel(
        "go/ChanRecv",
        "A receive without a sender.",
        chan_recv,
        chan_recv_fixed,
        leaks=(Stuck("receiver", "Chan.recv"),),
    ),
    Kernel(
        "go/ChanSend",
        "A send without a receiver.",
        chan_send,
        nil_send_fixed,
        leaks=(Stuck("sender", "Chan.send"),),
    ),
    Kernel(
        "go/Select",
        "A choice between a send and a receive, both without another end.",
        select_two,
        select_two_fixed,
        leaks=(Stuck("selector", "select"),),
    ),
    Kernel(
        "go/WaitGroup",
        "A wait for what nobody reports as done.",
        wait_group,
        wait_group_fixed,
        leaks=(Stuck("waiter", "WaitGroup.wait"),),
    ),
    Kernel(
        "go/MutexStack",
        "A thousand tasks each take a lock of their own twice.",
        mutex_stack,
        mutex_stack_fixed,
        leaks=tuple(Stuck(f"locker {number}", "Lock.acquire") for number in range(THOUSAND)),
    ),
    Kernel(
        "go/MutexHeap",
        "A thousand tasks each take a lock of their own twice, and those that spawned them have ended.",
        mutex_heap,
        mutex_heap_fixed,
        leaks=tuple(Stuck(f"locker {number}", "Lock.acquire") for number in range(THOUSAND)),
    ),
    Kernel(
        "go/RWMutexRLock",
        "A writer wants to read as well.",
        read_while_writing,
        read_and_write_fixed,
        leaks=(Stuck("reader", "RWLock.acquire_read"),),
    ),
    Kernel(
        "go/RWMutexLock",
        "A reader wants to write as well.",
        write_while_reading,
        read_and_write_fixed,
        leaks=(Stuck("writer", "RWLock.acquire_write"),),
    ),
    Kernel(
        "go/Cond",
        "A wait for a condition that nobody else knows.",
        cond,
        cond_fixed,
        leaks=(Stuck("waiter", "Condition.wait"),),
    ),
    Kernel(
        "go/Mixed",
        "A task waits for one that waits for what the first does only afterwards.",
        mixed,
        mixed_fixed,
        leaks=(Stuck("outer", "WaitGroup.wait"), Stuck("inner", "Chan.send")),
    ),
    Kernel(
        "go/SpawnGC",
        "A tree of tasks that all receive without a sender, while the collector runs and snapshots are taken.",
        spawn_gc,
        spawn_gc_fixed,
        leaks=tuple(Stuck(name, "Chan.recv") for name in inner_nodes(DEPTH)),
    ),
)

CONTROLS: Final = (("go/DaisyChain", daisy_chain),)
