"""Random programs against the proof: a task that was called stuck must never come to an end by itself.

    python tests/random_programs.py --programs 20000 --seed 1 --loop asyncio

Each program has some tasks that wait for something, and some who hold it, in all the places that `holders` knows. When
all wait, the proof is asked for. Then whoever can wake a task does so, in any order. The command prints what came of
it, and for a false proof the smallest program that shows it.
"""

from __future__ import annotations

import argparse
import asyncio
import concurrent.futures
import contextvars
import gc
import logging
import math
import os
import signal
import socket
import sys
import threading
import time
import warnings
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import hypothesis
from holders import HOLDERS, PLACES, VARIABLE, Plain, Wake
from hypothesis import strategies as st

from taskscope._backends import _asyncio
from taskscope._backends._cycles import cancel_here
from taskscope._backends._ownership import all_tasks
from taskscope._diagnosis import reachability
from taskscope._diagnosis.awaitables import UNKNOWN, is_done, waiter_of
from taskscope._diagnosis.later import timers_after
from taskscope._diagnosis.proof import Held, Proof
from taskscope._diagnosis.reachability import prove
from taskscope._host import host_as_held

Wait = Callable[[], Coroutine[Any, Any, Any]]

# In the place of a scope's table, which is asked for nothing else.
ON_ASYNCIO: Any = SimpleNamespace(backend=_asyncio)

FAR = 3600.0
PATIENCE = 20.0

# ------------------------------------------------------------------------------------------ what a program consists of


@dataclass(frozen=True)
class Resource:
    """Something to wait for, and places in which it is put, each into the next."""

    kind: str
    places: tuple[str, ...] = ()


@dataclass(frozen=True)
class Worker:
    """A task: what it waits for and how, what it keeps meanwhile, what it wakes afterwards, who has a view of it.

    joins: the number of an earlier worker that it waits for instead of its resource.
    host: for one that runs the body of a scope, who has come to hold it since the body began. Of several only the first
        is one, and not if it starts eagerly.
    keeps: numbers of resources, each with the number of places in which the resource is when it is kept.
    """

    resource: int
    joins: int | None = None
    ways: tuple[str, ...] = ()
    keeps: tuple[tuple[int, int], ...] = ()
    wakes: tuple[int, ...] = ()
    maker: str = "loop"
    view: str = "nobody"
    host: str | None = None


@dataclass(frozen=True)
class Holding:
    """Somebody outside who holds a resource in so many places, and can wake by it."""

    resource: int
    places: int
    holder: str


@dataclass(frozen=True)
class Program:
    resources: tuple[Resource, ...]
    workers: tuple[Worker, ...]
    holdings: tuple[Holding, ...]
    order: tuple[int, ...] = ()


# ----------------------------------------------------------------------------------------------- what can be waited for


class Signal:
    """A primitive with one way to wait for it, and one to wake those who do."""

    def __init__(self, stack: ExitStack) -> None: ...

    async def wait(self) -> None:
        raise NotImplementedError

    def set(self) -> None:
        raise NotImplementedError


class Event(Signal):
    def __init__(self, stack: ExitStack) -> None:
        self.event = asyncio.Event()

    async def wait(self) -> None:
        await self.event.wait()

    def set(self) -> None:
        self.event.set()


class Future(Signal):
    def __init__(self, stack: ExitStack) -> None:
        self.future = self.make()

    def make(self) -> Any:
        return asyncio.get_running_loop().create_future()

    async def wait(self) -> None:
        await asyncio.wait([self.future])

    def set(self) -> None:
        if not self.future.done():
            self.future.set_result(None)


class AwaitedFuture(Future):
    async def wait(self) -> None:
        await self.future


class PythonFuture(Future):
    def make(self) -> Any:
        return asyncio.futures._PyFuture()  # type: ignore[attr-defined]


class ConcurrentFuture(Future):
    def make(self) -> Any:
        return concurrent.futures.Future()

    async def wait(self) -> None:
        await asyncio.wrap_future(self.future)


class Get(Signal):
    def __init__(self, stack: ExitStack) -> None:
        self.queue: asyncio.Queue[int] = asyncio.Queue()

    async def wait(self) -> None:
        await self.queue.get()

    def set(self) -> None:
        for _ in range(10):
            self.queue.put_nowait(1)


class Put(Signal):
    def __init__(self, stack: ExitStack) -> None:
        self.queue: asyncio.Queue[int] = asyncio.Queue(1)
        self.queue.put_nowait(1)

    async def wait(self) -> None:
        await self.queue.put(1)

    def set(self) -> None:
        while not self.queue.empty():
            self.queue.get_nowait()


class Join(Signal):
    def __init__(self, stack: ExitStack) -> None:
        self.queue: asyncio.Queue[int] = asyncio.Queue()
        self.queue.put_nowait(1)

    async def wait(self) -> None:
        await self.queue.join()

    def set(self) -> None:
        while not self.queue.empty():
            self.queue.get_nowait()
            self.queue.task_done()


class Lock(Signal):
    def __init__(self, stack: ExitStack) -> None:
        self.lock = asyncio.Lock()
        with suppress(StopIteration):
            self.lock.acquire().send(None)

    async def wait(self) -> None:
        async with self.lock:
            pass

    def set(self) -> None:
        if self.lock.locked():
            self.lock.release()


class Semaphore(Signal):
    def __init__(self, stack: ExitStack) -> None:
        self.semaphore = asyncio.Semaphore(0)

    async def wait(self) -> None:
        async with self.semaphore:
            pass

    def set(self) -> None:
        self.semaphore.release()


class Condition(Signal):
    def __init__(self, stack: ExitStack) -> None:
        self.condition = asyncio.Condition()

    async def wait(self) -> None:
        async with self.condition:
            await self.condition.wait()

    async def notify(self) -> None:
        async with self.condition:
            self.condition.notify_all()

    def set(self) -> None:
        asyncio.get_running_loop().create_task(self.notify())


class Barrier(Signal):
    def __init__(self, stack: ExitStack) -> None:
        self.barrier = asyncio.Barrier(2)

    async def wait(self) -> None:
        await self.barrier.wait()

    def set(self) -> None:
        asyncio.get_running_loop().create_task(self.barrier.wait())


class Sleep(Signal):
    async def wait(self) -> None:
        await asyncio.sleep(FAR)

    def set(self) -> None: ...


class TimedEvent(Event):
    async def wait(self) -> None:
        asyncio.get_running_loop().call_later(FAR, self.event.set)
        await self.event.wait()


class Socket(Signal):
    def __init__(self, stack: ExitStack) -> None:
        self.near, self.far = socket.socketpair()
        for end in (self.near, self.far):
            end.setblocking(False)
            stack.callback(end.close)

    async def wait(self) -> None:
        await asyncio.get_running_loop().sock_recv(self.near, 1)

    def set(self) -> None:
        with suppress(OSError):
            self.far.send(b"x")


class Thread(Signal):
    def __init__(self, stack: ExitStack) -> None:
        self.go = threading.Event()
        stack.callback(self.go.set)

    async def wait(self) -> None:
        await asyncio.get_running_loop().run_in_executor(POOL, self.go.wait)

    def set(self) -> None:
        self.go.set()


class Process(Signal):
    def __init__(self, stack: ExitStack) -> None:
        self.pids: set[int] = set()

    async def wait(self) -> None:
        process = await asyncio.create_subprocess_exec("sleep", str(FAR))
        self.pids.add(process.pid)
        try:
            await process.wait()
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            while process.returncode is None:  # or the loop would be closed too early
                with suppress(asyncio.CancelledError):
                    await process.wait()
            self.pids.discard(process.pid)  # it may be that of another process now

    def set(self) -> None:
        for pid in self.pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


POOL = concurrent.futures.ThreadPoolExecutor(64)

ORDINARY: tuple[type[Signal], ...] = (
    *(Event, Future, AwaitedFuture, PythonFuture, ConcurrentFuture),
    *(Get, Put, Join, Lock, Semaphore, Condition, Barrier),
)
BY_NATURE: tuple[type[Signal], ...] = (Sleep, TimedEvent, Socket, Thread)
"""Kinds by which a task waits for something that is at work already. No proof can be expected."""

KINDS = {kind.__name__: kind for kind in (*ORDINARY, *BY_NATURE, Process)}

# -------------------------------------------------------------------------------------------------- ways to wait for it


async def nested(wait: Wait) -> None:
    async def deeper(left: int) -> None:
        await (deeper(left - 1) if left else wait())

    await deeper(3)


class Awaitable:
    def __init__(self, wait: Wait) -> None:
        self.wait = wait

    def __await__(self) -> Generator[Any, None, None]:
        yield from self.wait().__await__()


async def awaitable(wait: Wait) -> None:
    await Awaitable(wait)


async def async_generator(wait: Wait) -> None:
    async def steps() -> AsyncIterator[int]:
        await wait()
        yield 1

    async for _ in steps():
        pass


async def gathered(wait: Wait) -> None:
    await asyncio.gather(wait(), asyncio.sleep(0))


async def shielded(wait: Wait) -> None:
    await asyncio.shield(wait())


async def waited_for(wait: Wait) -> None:
    await asyncio.wait({asyncio.create_task(wait())})


async def waited_for_without_limit(wait: Wait) -> None:
    await asyncio.wait_for(wait(), None)


async def completed(wait: Wait) -> None:
    for each in asyncio.as_completed([wait(), asyncio.sleep(0)]):
        await each


async def grouped(wait: Wait) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(wait())


async def in_an_except_clause(wait: Wait) -> None:
    try:
        raise ValueError
    except ValueError:
        await wait()


async def under_a_cancelled_timeout(wait: Wait) -> None:
    async with asyncio.timeout(FAR) as scope:
        scope.reschedule(None)
        await wait()


async def with_a_dict_of_its_own(wait: Wait) -> None:
    kept = Plain(wait)
    attributes = vars(kept)
    await attributes["event"]()
    del kept


async def with_two_names(wait: Wait) -> None:
    other = [wait]
    again = other
    await again[0]()
    del other


WAYS = {
    way.__name__: way
    for way in (
        *(nested, awaitable, async_generator, gathered, shielded, waited_for, waited_for_without_limit, completed),
        *(grouped, in_an_except_clause, under_a_cancelled_timeout, with_a_dict_of_its_own, with_two_names),
    )
}

# ---------------------------------------------------------------------------------------------------- the tasks at work


class WithAttribute(asyncio.Task[Any]):
    signal: Any


async def work(
    signal: Signal,
    joined: list[Any],
    kept: list[Any],
    wakes: list[Any],
    wait: Wait,
    box: list[Any],
    held: list[Held] | None,
) -> None:
    if held is not None:
        held.append(as_held())
    try:
        raise ValueError
    except ValueError as error:
        box.append(error)
    del box
    try:
        await wait()
    finally:
        for each in wakes:
            each.set()


def as_held() -> Held:
    """How the running task is held: from one level further in, as that of `TaskScope.__aenter__`."""
    return host_as_held(ON_ASYNCIO)


async def in_a_group(coroutine: list[Coroutine[Any, Any, Any]]) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(coroutine.pop())


def start(maker: str, coroutine: Coroutine[Any, Any, Any], signal: Signal) -> asyncio.Task[Any]:
    loop = asyncio.get_running_loop()
    if maker == "python":
        made: asyncio.Task[Any] = asyncio.tasks._PyTask(coroutine, loop=loop)  # type: ignore[attr-defined]
        return made
    if maker == "attribute":
        task = WithAttribute(coroutine, loop=loop)
        task.signal = signal
        return task
    if maker == "context":
        context = contextvars.Context()
        context.run(VARIABLE.set, signal)
        return loop.create_task(coroutine, context=context)
    if maker == "group":
        return loop.create_task(in_a_group([coroutine]))
    if maker == "eager" and sys.version_info >= (3, 12):
        return asyncio.Task(coroutine, loop=loop, eager_start=True)
    return loop.create_task(coroutine)


MAKERS = ("loop", "python", "attribute", "context", "group", "eager")
MAKERS_OF_HOSTS = ("loop", "python", "context")

HELD_SINCE = (
    *("by nobody", "by somebody", "by somebody who cancels", "weakly", "with an attribute"),
    *("by its coroutine", "by its coroutine, weakly", "by its frame"),
)


def held_since(how: str, run: list[asyncio.Task[Any]]) -> Wake | None:
    """What somebody can do who has come to hold the task that runs a body.

    run: the task, where its runner keeps it.
    """
    task: Any = run[0]
    if task.done():
        return None
    if how == "by somebody":
        return lambda: signal_in(task.get_coro().cr_frame).set()
    if how == "by somebody who cancels":
        return lambda: cancel_here(task)
    if how == "weakly":
        weak_task = weakref.ref(task)
        return lambda: signal_in(weak_task().get_coro().cr_frame).set()  # type: ignore[union-attr]
    coroutine = task.get_coro()
    if how == "by its coroutine":
        return lambda: signal_in(coroutine.cr_frame).set()
    if how == "by its coroutine, weakly":
        weak_coroutine = weakref.ref(coroutine)
        return lambda: signal_in(weak_coroutine().cr_frame).set()  # type: ignore[union-attr]
    frame = coroutine.cr_frame
    if how == "by its frame":
        return lambda: signal_in(frame).set()
    if how == "with an attribute":
        task.note = signal_in(task.get_coro().cr_frame)
        return lambda: run[0].note.set()  # type: ignore[attr-defined]
    return None


def signal_in(frame: Any) -> Signal:
    signal: Signal = frame.f_locals["signal"]
    return signal


def context_of(task: asyncio.Task[Any]) -> contextvars.Context:
    return task.get_context()  # type: ignore[attr-defined,no-any-return]


def viewed(view: str, task: Any, coroutine: Any, error: Any) -> Wake:
    """What somebody who has some view of a task can do to wake whoever waits for what the task waits for."""
    frame = coroutine.cr_frame
    if frame is None:
        return lambda: None  # it has ended already
    if view == "task":
        return lambda: signal_in(task.get_coro().cr_frame).set()
    if view == "cancel":
        return lambda: cancel_here(task)
    if view == "coroutine":
        return lambda: signal_in(coroutine.cr_frame).set()
    if view == "frame":
        return lambda: signal_in(frame).set()
    if view == "variables":
        variables = frame.f_locals
        return lambda: variables["signal"].set()
    if view == "traceback":
        return lambda: signal_in(error.__traceback__.tb_frame).set()
    if view == "weak task":
        weak_task = weakref.ref(task)
        return lambda: signal_in(weak_task().get_coro().cr_frame).set()  # type: ignore[union-attr]
    if view == "weak coroutine":
        weak_coroutine = weakref.ref(coroutine)
        return lambda: signal_in(weak_coroutine().cr_frame).set()  # type: ignore[union-attr]
    if view == "attribute" and type(task) is WithAttribute:
        return lambda: task.signal.set()
    if view == "context":
        context = context_of(task)
        return lambda: context[VARIABLE].set()
    return lambda: None


VIEWS = (
    *("task", "cancel", "coroutine", "frame", "variables", "traceback", "weak task", "weak coroutine", "attribute"),
    *(("context",) if sys.version_info >= (3, 12) else ()),
)

# ------------------------------------------------------------------------------------------------------ building it all


class Found:
    """What is at the end of a chain of places: found anew each time."""

    def __init__(self, made: Any, finds: list[Callable[[Any], Any]]) -> None:
        self.made = made
        self.finds = finds

    def set(self) -> None:
        with suppress(Exception):  # there are places from which a thing can be taken only once
            found = self.made
            for find in self.finds:
                found = find(found)
            found.set()


SINGLE = frozenset(
    {
        *("global of a module", "attribute of a module", "attribute of a global class", "attribute of the loop"),
        *("exception handler of the loop", "signal handler", "trace function", "profile function"),
        "callback of the collector",
    }
)
"""Holders of which there is only one in a process."""

PROCESS_WIDE = tuple(sorted(HOLDERS.keys() - PLACES.keys() - {"timer"}))


class Builder:
    def __init__(self, program: Program, stack: ExitStack) -> None:
        self.program = program
        self.stack = stack
        self.chains = [list(self._chain(resource)) for resource in program.resources]
        self.run: list[asyncio.Task[Any]] = []
        self.table: list[asyncio.Task[Any]] = []  # keeps books, as that of a scope
        self.held: list[Held] = []
        self.held_since = "by nobody"

    def _chain(self, resource: Resource) -> Iterator[Found]:
        made: Any = KINDS[resource.kind](self.stack)
        finds: list[Callable[[Any], Any]] = []
        yield Found(made, finds)
        for name in resource.places:
            make, find = PLACES[name]
            with suppress(TypeError, ValueError, AttributeError):  # not everything can be a key, or has methods
                made, finds = make(made), [find, *finds]
                yield Found(made, finds)

    def found(self, resource: int, places: int) -> Found:
        chain = self.chains[resource % len(self.chains)]
        return chain[places % len(chain)]

    def workers(self) -> tuple[list[asyncio.Task[Any]], list[Wake]]:
        tasks: list[asyncio.Task[Any]] = []
        wakes: list[Wake] = []
        for worker in self.program.workers:
            box: list[Any] = []
            signal = self.found(worker.resource, 0).made
            joined = [] if worker.joins is None or not tasks else [tasks[worker.joins % len(tasks)]]
            wait: Wait = partial(asyncio.wait, joined) if joined else signal.wait
            for way in worker.ways:
                wait = partial(WAYS[way], wait)
            kept = [self.found(*each) if each[1] % 2 else self.found(*each).made for each in worker.keeps]
            woken = [self.found(number, 0).made for number in worker.wakes]
            if worker.host is not None and worker.maker in MAKERS_OF_HOSTS and not self.run and not is_eager():
                self.run.append(start(worker.maker, work(signal, joined, kept, woken, wait, box, self.held), signal))
                self.table += self.run
                self.held_since = worker.host
                continue
            coroutine = work(signal, joined, kept, woken, wait, box, None)
            tasks.append(start(worker.maker, coroutine, signal))
            if worker.view != "nobody":
                wakes.append(partial(self.view_later, worker.view, tasks[-1], coroutine, box))
        return tasks, wakes

    @staticmethod
    def view_later(view: str, task: Any, coroutine: Any, box: list[Any]) -> Wake:
        """To be called when the task has begun, and then dropped."""
        return viewed(view, task, coroutine, box.pop() if box else None)

    def holders(self) -> list[Wake]:
        used: set[str] = set()
        wakes: list[Wake] = []
        for holding in self.program.holdings:
            found = self.found(holding.resource, holding.places)
            if holding.holder in used and holding.holder in SINGLE:
                continue
            used.add(holding.holder)
            if holding.holder == "object":
                wakes.append(found.set)
            elif holding.holder == "weak":
                with suppress(TypeError):
                    wakes.append(weakly(weakref.ref(found.made), found.finds))
            else:
                wakes.append(HOLDERS[holding.holder](found, self.stack))
        return wakes


def is_eager() -> bool:
    return asyncio.get_running_loop().get_task_factory() is not None


def weakly(reference: Any, finds: list[Callable[[Any], Any]]) -> Wake:
    return lambda: Found(reference(), finds).set()


# ---------------------------------------------------------------------------------------------------------- running one


class FalseProofError(AssertionError):
    pass


@dataclass
class Figures:
    """What came of the programs so far."""

    programs: int = 0
    tasks: int = 0
    stuck: int = 0
    stuck_for_now: int = 0
    stuck_nearby: int = 0
    woken: int = 0
    cancelled: int = 0
    dead: int = 0
    alone: int = 0
    stuck_alone: int = 0
    hosts: int = 0
    stuck_hosts: int = 0
    not_told: Counter[str] = field(default_factory=Counter)
    false: int = 0

    def __str__(self) -> str:
        share = self.stuck_alone / self.alone if self.alone else 1.0
        return (
            f"{self.programs:,} programs with {self.tasks:,} blocked tasks: {self.woken:,} were woken, "
            f"{self.cancelled:,} cancelled, {self.dead:,} stayed; {self.stuck:,} had been proven stuck, "
            f"{self.stuck_for_now:,} until a timer fires "
            f"({self.stuck_nearby:,} of these from nearby), {self.false:,} of these falsely.\n"
            f"Where nobody outside held anything {self.alone:,} stayed, of which {self.stuck_alone:,} had been proven "
            f"({share:.1%}). Of {self.hosts:,} that ran a body {self.stuck_hosts:,}.\n"
            f"Nothing proven because: {dict(self.not_told) or 'never'}"
        )


class JumpingLoop(asyncio.SelectorEventLoop):
    """A loop on which it is suddenly later."""

    ahead = 0.0

    def time(self) -> float:
        return super().time() + self.ahead


def is_blocked(task: asyncio.Task[Any]) -> bool:
    waiter = waiter_of(task)
    return waiter is not None and waiter is not UNKNOWN and not is_done(waiter)


async def turns(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


def others() -> list[asyncio.Task[Any]]:
    return [task for task in all_tasks() if task is not asyncio.current_task()]


def check_searches_nearby(search: Callable[..., Proof], later: Any, stuck: Iterable[int]) -> None:
    """Raises where a search that looks at little proves what one does not that looks at all."""
    for widely, further in ((0, 0), (0, 1_000), (5, 10), (20, 0), (40, 1_000)):
        with patch.multiple(reachability, NEARBY_LIMIT=further, OWN_OBJECTS=0):
            nearby = set(search(later=later, widely=widely).stuck)
        # A thread can have let go of something in between.
        if not nearby <= set(stuck) and not nearby <= set(search(later=later).stuck):
            raise FalseProofError(f"nearby ({widely}, {further}) more was proven than there is")


async def run(program: Program, figures: Figures) -> None:
    with ExitStack() as stack:
        gc.disable()  # so that all of the program's objects are young when it comes to collecting
        builder = Builder(program, stack)
        tasks, wakes = builder.workers()
        wakes += builder.holders()
        builder.chains.clear()  # from here on only the program itself holds anything
        await turns(12)
        wakes += since(builder)
        wakes = [wake() if type(wake) is partial and wake.func is Builder.view_later else wake for wake in wakes]
        while any(resource.kind == "Process" for resource in program.resources) and not all(map(is_blocked, others())):
            await asyncio.sleep(0.001)
        await turns(2)
        gc.collect(0)  # what lies about unused would be a missed proof
        gc.enable()
        tasks.clear()
        tasks += filter(is_blocked, others())
        host, held = (id(builder.run[0]), builder.held[0]) if builder.held else (None, None)
        proof = prove(tasks, [builder.table], host=host, held=held)
        loop = asyncio.get_running_loop()
        later = timers_after(loop, loop.time() + FAR / 2)
        for_now = prove(tasks, [builder.table], host=host, held=held, later=later)
        if for_now.timed & set(proof.stuck):
            raise FalseProofError("a timer leads to what is stuck for good")
        if host is None:
            search_again = partial(prove, tasks, [builder.table])
            figures.stuck_nearby += len(search_again(later=later, widely=20).stuck)
            check_searches_nearby(search_again, None, proof.stuck)
            check_searches_nearby(search_again, later, for_now.stuck)
        figures.hosts += host is not None
        figures.stuck_hosts += host in proof.stuck
        await fire(program, wakes)
        judge_for_now(set(for_now.stuck), tasks, figures)
        await jump(program)
        try:
            judge(program, proof.reason, set(proof.stuck), tasks, figures)
        finally:
            wakes.clear()
            tasks.clear()
            await end()


def since(builder: Builder) -> list[Wake]:
    wake = held_since(builder.held_since, builder.run) if builder.held else None
    return [] if wake is None else [wake]


async def fire(program: Program, wakes: list[Wake]) -> None:
    for number in program.order:
        if wakes:
            await wake_one(wakes.pop(number % len(wakes)))
    while wakes:
        await wake_one(wakes.pop())
    await settle(program)


async def jump(program: Program) -> None:
    """Has the timers fire, where the loop can be told to."""
    loop = asyncio.get_running_loop()
    if isinstance(loop, JumpingLoop):
        loop.ahead += 2 * FAR
        await settle(program)


async def settle(program: Program) -> None:
    is_slow = any(resource.kind in ("Thread", "Process", "Socket") for resource in program.resources)
    is_slow |= any("thread" in holding.holder for holding in program.holdings)
    for _ in range(3):
        await (asyncio.sleep(0.002) if is_slow else turns(4))
        await turns(12)


async def wake_one(wake: Wake) -> None:
    with suppress(Exception):  # whoever comes too late has done his part
        wake()
    del wake
    await turns(3)


def judge_for_now(stuck: set[int], tasks: list[asyncio.Task[Any]], figures: Figures) -> None:
    """Judges what was said to be stuck until the timers fire, which they have not done yet."""
    for task in tasks:
        if id(task) not in stuck:
            continue
        figures.stuck_for_now += 1
        if task.done():
            figures.false += 1
            raise FalseProofError(f"{task!r} had been proven stuck until a timer fires, and ended before that")


def judge(
    program: Program, reason: str | None, stuck: set[int], tasks: list[asyncio.Task[Any]], figures: Figures
) -> None:
    is_alone = not is_held(program)
    figures.programs += 1
    figures.tasks += len(tasks)
    figures.stuck += len(stuck)
    if reason is not None:
        figures.not_told[reason] += 1
    for task in tasks:
        if not task.done():
            figures.dead += 1
            figures.alone += is_alone
            figures.stuck_alone += is_alone and id(task) in stuck
            continue
        figures.cancelled += task.cancelled()
        figures.woken += not task.cancelled()
        if id(task) in stuck:
            figures.false += 1
            raise FalseProofError(f"{task!r} had been proven stuck, and ended before anybody ended all tasks")


THROUGH_WHAT_LIVES = frozenset(
    {
        *("attribute of a class", "attribute of a metaclass", "constant of a code object"),
        *("method of a class", "method of an object of a local class", "module that nobody imported"),
    }
)
"""Classes, modules and code count as alive, and so does what they hold."""

if sys.version_info >= (3, 15):
    # Once that code is warm, such a generator holds the list that it goes through twice. One of two references from a
    # generator can be borrowed, and is not believed: somebody else could have the list.
    THROUGH_WHAT_LIVES |= {"generator expression"}


def is_held(program: Program) -> bool:
    """Whether anything outside of the tasks has to do with what they wait for."""
    at_work = {"Process", *(kind.__name__ for kind in BY_NATURE)}
    return (
        bool(program.holdings)
        or any(worker.view != "nobody" or worker.host not in (None, "by nobody") for worker in program.workers)
        or any(resource.kind in at_work for resource in program.resources)
        or any(THROUGH_WHAT_LIVES.intersection(resource.places) for resource in program.resources)
    )


async def end() -> None:
    """Ends all tasks, however often they must be cancelled for that."""
    deadline = time.monotonic() + PATIENCE
    while left := others():
        for task in left:
            cancel_here(task)
        await asyncio.wait(left, timeout=0.05)
        assert time.monotonic() < deadline, left


def run_program(program: Program, figures: Figures, loop: str = "asyncio") -> None:
    with asyncio.Runner(loop_factory=factory(loop)) as runner:
        runner.run(run(program, figures))


def factory(loop: str) -> Callable[[], asyncio.AbstractEventLoop]:
    if loop == "uvloop":
        import uvloop

        return uvloop.new_event_loop

    def make() -> asyncio.AbstractEventLoop:
        made = JumpingLoop()
        if loop == "eager":
            made.set_task_factory(asyncio.eager_task_factory)
        return made

    return make


# --------------------------------------------------------------------------------------------------- drawing at random


@st.composite
def programs(draw: st.DrawFn) -> Program:
    numbers = st.integers(0, 5)
    kinds = st.sampled_from([*[kind.__name__ for kind in ORDINARY] * 3, *[kind.__name__ for kind in BY_NATURE]])
    resources = draw(
        st.lists(
            st.builds(Resource, kinds, st.lists(st.sampled_from(sorted(PLACES)), max_size=3).map(tuple)),
            min_size=1,
            max_size=5,
        )
    )
    if draw(st.integers(0, 99)) == 99:
        resources.append(Resource("Process"))
    view = st.one_of(st.just("nobody"), st.just("nobody"), st.sampled_from(VIEWS))
    workers = st.builds(
        Worker,
        resource=numbers,
        joins=st.one_of(st.none(), st.none(), st.none(), numbers),
        ways=st.lists(st.sampled_from(sorted(WAYS)), max_size=2).map(tuple),
        keeps=st.lists(st.tuples(numbers, numbers), max_size=3).map(tuple),
        wakes=st.lists(numbers, max_size=2).map(tuple),
        maker=st.sampled_from(MAKERS),
        view=view,
        host=st.one_of(st.none(), st.none(), st.sampled_from(HELD_SINCE)),
    )
    holder = st.one_of(
        st.sampled_from(("object", "weak")), st.sampled_from(PROCESS_WIDE), st.sampled_from(sorted(PLACES))
    )
    holdings = st.lists(st.builds(Holding, numbers, numbers, holder), max_size=2)
    return Program(
        tuple(resources),
        tuple(draw(st.lists(workers, min_size=1, max_size=6))),
        tuple(draw(holdings)),
        tuple(draw(st.lists(numbers, max_size=4))),
    )


def without_holders(program: Program) -> Program:
    """The same tasks, none of which anybody can wake."""
    at_work = {"Process", *(kind.__name__ for kind in BY_NATURE)}

    def of_tasks_only(resource: Resource) -> Resource:
        places = tuple(place for place in resource.places if place not in THROUGH_WHAT_LIVES)
        return Resource("Event" if resource.kind in at_work else resource.kind, places)

    return Program(
        tuple(map(of_tasks_only, program.resources)),
        tuple(replace(worker, view="nobody", host=worker.host and "by nobody") for worker in program.workers),
        (),
        program.order,
    )


def search(number: int, seed: int, loop: str, seconds: float = math.inf) -> Figures:
    """Runs so many programs, or as many as the time allows. Raises for a false proof, with the smallest program."""
    figures = Figures()
    deadline = time.monotonic() + seconds
    logger = logging.getLogger("asyncio")
    disabled, logger.disabled = logger.disabled, True
    gc.collect()
    gc.freeze()  # or each collection would go through all of hypothesis
    try:
        with warnings.catch_warnings():
            # Coroutines that are cancelled before they begin: that is the programs' own business.
            warnings.simplefilter("ignore")
            for batch in range(math.ceil(number / BATCH)):
                if time.monotonic() < deadline:
                    run_batch(min(BATCH, number - batch * BATCH), f"{seed}/{batch}", loop, figures, deadline)
    finally:
        gc.unfreeze()
        gc.enable()
        logger.disabled = disabled
    return figures


BATCH = 500
"""Programs that are drawn in one go: hypothesis keeps something of each."""


def run_batch(number: int, seed: str, loop: str, figures: Figures, deadline: float) -> None:
    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=number,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate, hypothesis.Phase.shrink],
    )
    @hypothesis.given(programs())
    def each(program: Program) -> None:
        if time.monotonic() < deadline or figures.false:
            run_program(program, figures, loop)
            if figures.programs % 4 == 0:
                run_program(without_holders(program), figures, loop)

    each()


def main(arguments: Iterable[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--programs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--loop", choices=("asyncio", "eager", "uvloop"), default="asyncio")
    parser.add_argument(
        "--seconds", type=float, default=math.inf, help="stop after that time, however many programs were run"
    )
    options = parser.parse_args(None if arguments is None else list(arguments))
    started = time.monotonic()
    figures = search(options.programs, options.seed, options.loop, options.seconds)
    version = ".".join(map(str, sys.version_info[:3]))
    print(f"Python {version}, {options.loop}, seed {options.seed}, {time.monotonic() - started:.0f} s")
    print(figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
