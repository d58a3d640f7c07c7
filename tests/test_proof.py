"""The proof that nothing can wake a task: never where something can, and wherever nothing can."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import ctypes
import functools
import gc
import itertools
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import tracemalloc
import types
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import pytest
from conftest import Run
from holders import HOLDERS, PLACES, Hold, Plain, Wake, with_closure
from multidict import CIMultiDict

from taskscope._backends._cycles import cancel_here
from taskscope._diagnosis import opaque, reachability, subgraph
from taskscope._diagnosis.awaitables import UNKNOWN, is_done, waiter_of
from taskscope._diagnosis.opaque import is_transparent
from taskscope._diagnosis.proof import Proof
from taskscope._diagnosis.reachability import prove

Tasks = list["asyncio.Task[Any]"]
Plant = Callable[[Tasks, ExitStack], Coroutine[Any, Any, Wake]]
"""Fills a list with blocked tasks, which nobody else holds, and gives what wakes them."""

LONG = 3600.0
PATIENCE = 20.0


def is_blocked(task: asyncio.Task[Any]) -> bool:
    waiter = waiter_of(task)
    return waiter is not None and waiter is not UNKNOWN and not is_done(waiter)


async def until_blocked(tasks: Tasks) -> None:
    while not all(map(is_blocked, tasks)):
        await asyncio.sleep(0)


def proof_of(tasks: Tasks) -> Proof:
    """The proof for those of the tasks that wait for something."""
    waiting = list(filter(is_blocked, tasks))
    return prove(waiting, [tasks])


def names_of_stuck(tasks: Tasks) -> set[str]:
    proof = proof_of(tasks)
    assert proof.reason is None
    return {task.get_name() for task in tasks if id(task) in proof.stuck}


async def end(tasks: Tasks) -> None:
    for task in tasks:
        cancel_here(task)
    while tasks:
        await asyncio.wait([tasks.pop()], timeout=PATIENCE)


def proven_from_nearby(tasks: Tasks) -> list[tuple[int, int]]:
    """Of how many objects that are looked at, whatever they are and beyond, it took to prove that any task is stuck."""
    found: list[tuple[int, int]] = []
    for widely, further in itertools.product((0, 1, 2, 3, 5, 8, 13, 21, 34), (0, 8, 50)):
        with patch.multiple(reachability, NEARBY_LIMIT=further, OWN_OBJECTS=0):
            found += [(widely, further)] if prove(tasks, widely=widely).stuck else []
    return found


async def check_live(plant: Plant) -> None:
    """The task counts as live, and it is: it ends by itself."""
    tasks: Tasks = []
    with ExitStack() as stack:
        wake = await plant(tasks, stack)
        assert tasks
        assert not proof_of(tasks).stuck
        assert proven_from_nearby(tasks) == []
        wake()
        await asyncio.wait(tasks, timeout=PATIENCE)
        assert all(task.done() and not task.cancelled() for task in tasks)
        for task in tasks:
            await task


async def check_stuck(plant: Plant) -> None:
    """The same without the one who could wake the task: it is proven that it is stuck, and it is."""
    tasks: Tasks = []
    with ExitStack() as stack:
        wake = await plant(tasks, stack)
    del wake
    gc.collect()
    assert not any(task.done() for task in tasks)
    proof = proof_of(tasks)
    assert proof.reason is None
    assert set(proof.stuck) == set(map(id, tasks))
    await end(tasks)


# ------------------------------------------------------------------------------------- who holds what a task waits for


def waiting_for(hold: Hold) -> Plant:
    async def plant(tasks: Tasks, stack: ExitStack) -> Wake:
        wakes: list[Wake] = []

        async def wait() -> None:
            event = asyncio.Event()
            wakes.append(hold(event, stack))
            await event.wait()

        tasks.append(asyncio.create_task(wait()))
        await until_blocked(tasks)
        return wakes.pop()

    return plant


@pytest.fixture(params=HOLDERS)
def hold(request: pytest.FixtureRequest) -> Hold:
    return HOLDERS[request.param]


def test_a_task_is_live_while_someone_holds_what_it_waits_for(run: Run, hold: Hold) -> None:
    run(lambda: check_live(waiting_for(hold)))


def test_a_task_is_stuck_when_nobody_holds_what_it_waits_for(run: Run, hold: Hold) -> None:
    run(lambda: check_stuck(waiting_for(hold)))


# ----------------------------------------------------------------------------------- who holds the task, or part of it


PLANTS: dict[str, Plant] = {}


def plant(function: Plant) -> Plant:
    PLANTS[function.__name__.replace("_", " ")] = function
    return function


async def wait_for_own_event() -> None:
    event = asyncio.Event()
    await event.wait()


async def wait_with(kept: Any) -> None:
    await wait_for_own_event()


async def wait_for_kept(event: asyncio.Event, kept: Any) -> None:
    await event.wait()


async def spawned(tasks: Tasks, coroutine: Coroutine[Any, Any, Any], **options: Any) -> None:
    tasks.append(asyncio.get_running_loop().create_task(coroutine, **options))
    del coroutine, options
    await until_blocked(tasks)


@plant
async def attribute_of_the_task(tasks: Tasks, stack: ExitStack) -> Wake:
    class WithInbox(asyncio.Task[Any]):
        inbox: asyncio.Queue[int]

    async def wait() -> None:
        task: Any = asyncio.current_task()
        task.inbox = asyncio.Queue()
        await task.inbox.get()

    task = WithInbox(wait())
    tasks.append(task)
    await asyncio.sleep(0)
    return lambda: task.inbox.put_nowait(1)


@plant
async def method_of_a_task_of_a_subclass(tasks: Tasks, stack: ExitStack) -> Wake:
    class Waking(asyncio.Task[Any]):
        def __init__(self, coroutine: Coroutine[Any, Any, None]) -> None:
            self.event = asyncio.Event()
            super().__init__(coroutine)

        def wake(self) -> None:
            self.event.set()

    async def wait() -> None:
        task: Any = asyncio.current_task()
        await task.event.wait()

    tasks.append(Waking(wait()))
    await asyncio.sleep(0)
    wake: Wake = tasks[0].wake  # type: ignore[attr-defined]
    return wake


@plant
async def coroutine_of_the_task(tasks: Tasks, stack: ExitStack) -> Wake:
    await spawned(tasks, wait_for_own_event())
    coroutine: Any = tasks[0].get_coro()
    return lambda: coroutine.cr_frame.f_locals["event"].set()


@plant
async def task_itself(tasks: Tasks, stack: ExitStack) -> Wake:
    await spawned(tasks, wait_for_own_event())
    task: Any = tasks[0]
    return lambda: task.get_coro().cr_frame.f_locals["event"].set()


def leave_frame(box: list[Any]) -> None:
    box.append(sys._getframe(1))


def leave_traceback(box: list[Any]) -> None:
    try:
        raise ValueError
    except ValueError as error:
        box.append(error)


@plant
async def frame_of_its_coroutine(tasks: Tasks, stack: ExitStack) -> Wake:
    frames: list[types.FrameType] = []

    async def wait() -> None:
        event = asyncio.Event()
        leave_frame(frames)
        await event.wait()

    await spawned(tasks, wait())
    frame = frames.pop()
    return lambda: frame.f_locals["event"].set()


@plant
async def frame_of_a_generator_that_it_awaits(tasks: Tasks, stack: ExitStack) -> Wake:
    frames: list[types.FrameType] = []

    class Awaitable:
        def __await__(self) -> Generator[Any, None, None]:
            event = asyncio.Event()
            leave_frame(frames)
            yield from event.wait().__await__()

    async def wait() -> None:
        await Awaitable()

    await spawned(tasks, wait())
    frame = frames.pop()
    return lambda: frame.f_locals["event"].set()


@plant
async def traceback_of_an_exception_that_it_caught(tasks: Tasks, stack: ExitStack) -> Wake:
    errors: list[BaseException] = []

    async def wait() -> None:
        event = asyncio.Event()
        try:
            raise ValueError
        except ValueError as error:
            errors.append(error)
        await event.wait()

    await spawned(tasks, wait())
    error: Any = errors.pop()
    return lambda: error.__traceback__.tb_frame.f_locals["event"].set()


@plant
async def exception_that_passed_through_its_generator(tasks: Tasks, stack: ExitStack) -> Wake:
    errors: list[BaseException] = []

    def generator() -> Iterator[asyncio.Event]:
        event = asyncio.Event()
        try:
            raise ValueError
        except ValueError as error:
            errors.append(error)
        yield event

    async def wait() -> None:
        kept = generator()
        await next(kept).wait()
        del kept

    await spawned(tasks, wait())
    error: Any = errors.pop()
    return lambda: error.__traceback__.tb_frame.f_locals["event"].set()


@plant
async def variables_of_its_frame(tasks: Tasks, stack: ExitStack) -> Wake:
    variables: list[Any] = []

    async def wait() -> None:
        event = asyncio.Event()
        variables.append(sys._getframe().f_locals)
        await event.wait()

    await spawned(tasks, wait())
    found = variables.pop()
    return lambda: found["event"].set()


@plant
async def dict_of_an_object_that_it_holds(tasks: Tasks, stack: ExitStack) -> Wake:
    dicts: list[dict[str, Any]] = []

    async def wait() -> None:
        kept = Plain()
        dicts.append(vars(kept))
        kept.event = asyncio.Event()
        await kept.event.wait()

    await spawned(tasks, wait())
    found = dicts.pop()
    return lambda: found["event"].set()


@plant
async def iterator_over_the_dict_of_an_object_that_it_holds(tasks: Tasks, stack: ExitStack) -> Wake:
    iterators: list[Iterator[Any]] = []

    async def wait() -> None:
        kept = Plain(asyncio.Event())
        iterators.append(iter(vars(kept).values()))
        await kept.event.wait()

    await spawned(tasks, wait())
    iterator = iterators.pop()
    return lambda: next(iterator).set()


@plant
async def dict_of_the_primitive_itself(tasks: Tasks, stack: ExitStack) -> Wake:
    dicts: list[dict[str, Any]] = []

    async def wait() -> None:
        event = asyncio.Event()
        dicts.append(vars(event))
        await event.wait()

    await spawned(tasks, wait())
    found = dicts.pop()
    return lambda: found["_waiters"][0].set_result(True)


@plant
async def context_given_to_the_task(tasks: Tasks, stack: ExitStack) -> Wake:
    inbox: contextvars.ContextVar[asyncio.Event] = contextvars.ContextVar("inbox")

    async def wait() -> None:
        inbox.set(asyncio.Event())
        await inbox.get().wait()

    context = contextvars.Context()
    await spawned(tasks, wait(), context=context)
    return lambda: context[inbox].set()


@plant
async def context_in_which_it_was_spawned(tasks: Tasks, stack: ExitStack) -> Wake:
    inbox: contextvars.ContextVar[asyncio.Event] = contextvars.ContextVar("inbox")

    async def wait() -> None:
        await inbox.get().wait()

    def spawn() -> None:
        inbox.set(asyncio.Event())
        tasks.append(asyncio.create_task(wait()))

    context = contextvars.Context()
    context.run(spawn)
    await until_blocked(tasks)
    return lambda: context[inbox].set()


@plant
async def async_generator_in_which_it_waits(tasks: Tasks, stack: ExitStack) -> Wake:
    generators: list[Any] = []

    async def numbers() -> AsyncIterator[int]:
        event = asyncio.Event()
        await event.wait()
        yield 1

    async def wait() -> None:
        generator = numbers()
        generators.append(generator)
        async for _ in generator:
            pass

    await spawned(tasks, wait())
    generator = generators.pop()
    return lambda: generator.ag_frame.f_locals["event"].set()


@plant
async def future_that_it_waits_for(tasks: Tasks, stack: ExitStack) -> Wake:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def wait(waited: list[Any]) -> None:
        await waited.pop()

    await spawned(tasks, wait([future]))
    return lambda: future.set_result(None)


@plant
async def function_held_weakly(tasks: Tasks, stack: ExitStack) -> Wake:
    receivers: list[Any] = []

    async def wait() -> None:
        event = asyncio.Event()

        def receiver() -> None:
            event.set()

        receivers.append(weakref.ref(receiver))
        await event.wait()

    await spawned(tasks, wait())
    receiver = receivers.pop()
    return lambda: receiver()()


@plant
async def weak_reference_to_the_coroutine(tasks: Tasks, stack: ExitStack) -> Wake:
    await spawned(tasks, wait_for_own_event())
    reference: Any = weakref.ref(tasks[0].get_coro())  # type: ignore[arg-type]
    return lambda: reference().cr_frame.f_locals["event"].set()


@plant
async def weak_reference_to_the_task(tasks: Tasks, stack: ExitStack) -> Wake:
    await spawned(tasks, wait_for_own_event())
    reference: Any = weakref.ref(tasks[0])
    return lambda: reference().get_coro().cr_frame.f_locals["event"].set()


@plant
async def one_who_cancels_another_task(tasks: Tasks, stack: ExitStack) -> Wake:
    async def work() -> None:
        try:
            await asyncio.Queue[int]().get()
        except asyncio.CancelledError:
            return

    async def join(task: list[asyncio.Task[Any]]) -> None:
        await asyncio.wait([task.pop()])

    worker = asyncio.create_task(work())
    tasks.append(worker)
    await spawned(tasks, join([worker]))
    return worker.cancel


@plant
async def one_who_cancels_a_task_that_sets_an_event(tasks: Tasks, stack: ExitStack) -> Wake:
    async def work(event: asyncio.Event) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            event.set()

    async def wait(event: asyncio.Event) -> None:
        await event.wait()

    event = asyncio.Event()
    worker = asyncio.create_task(work(event))
    tasks.append(worker)
    await spawned(tasks, wait(event))
    return worker.cancel


class PlainLoopTask:
    """Makes tasks of asyncio's Python code, whatever the loop's task factory is."""

    @staticmethod
    def make(coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.tasks._PyTask(coroutine, loop=asyncio.get_running_loop())  # type: ignore[attr-defined]


@plant
async def holder_of_the_event_of_a_python_task(tasks: Tasks, stack: ExitStack) -> Wake:
    events: list[asyncio.Event] = []

    async def wait() -> None:
        event = asyncio.Event()
        events.append(event)
        await event.wait()

    tasks.append(PlainLoopTask.make(wait()))
    await until_blocked(tasks)
    event = events.pop()
    return lambda: event.set()


@plant
async def python_future_that_it_waits_for(tasks: Tasks, stack: ExitStack) -> Wake:
    futures: list[Any] = []

    async def wait() -> None:
        future = asyncio.futures._PyFuture()  # type: ignore[attr-defined]
        futures.append(future)
        await future

    await spawned(tasks, wait())
    future = futures.pop()
    return lambda: future.set_result(None)


@plant
async def concurrent_future(tasks: Tasks, stack: ExitStack) -> Wake:
    futures: list[concurrent.futures.Future[int]] = []

    async def wait() -> None:
        future: concurrent.futures.Future[int] = concurrent.futures.Future()
        futures.append(future)
        await asyncio.wrap_future(future)

    await spawned(tasks, wait())
    future = futures.pop()
    return lambda: future.set_result(1)


@plant
async def gathered_future(tasks: Tasks, stack: ExitStack) -> Wake:
    events: list[asyncio.Event] = []

    async def child() -> None:
        event = asyncio.Event()
        events.append(event)
        await event.wait()

    async def wait() -> None:
        await asyncio.gather(child(), asyncio.shield(asyncio.create_task(child())))

    await spawned(tasks, wait())
    while len(events) < 2:
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    found = events[:]
    events.clear()
    return lambda: [event.set() for event in found]


@plant
async def child_of_a_task_group(tasks: Tasks, stack: ExitStack) -> Wake:
    events: list[asyncio.Event] = []

    async def child() -> None:
        event = asyncio.Event()
        events.append(event)
        await event.wait()

    async def wait() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(child())

    await spawned(tasks, wait())
    while not events:
        await asyncio.sleep(0)
    event = events.pop()
    return lambda: event.set()


@plant
async def producer_of_a_queue(tasks: Tasks, stack: ExitStack) -> Wake:
    queues: list[asyncio.Queue[int]] = []

    async def wait() -> None:
        queue: asyncio.Queue[int] = asyncio.Queue()
        queues.append(queue)
        await queue.get()

    await spawned(tasks, wait())
    queue = queues.pop()
    return lambda: queue.put_nowait(1)


@plant
async def notifier_of_a_condition(tasks: Tasks, stack: ExitStack) -> Wake:
    conditions: list[asyncio.Condition] = []

    async def wait() -> None:
        condition = asyncio.Condition()
        conditions.append(condition)
        async with condition:
            await condition.wait()

    await spawned(tasks, wait())
    condition = conditions.pop()

    async def notify() -> None:
        async with condition:
            condition.notify_all()

    return lambda: tasks.append(asyncio.create_task(notify()))


@plant
async def releaser_of_a_lock(tasks: Tasks, stack: ExitStack) -> Wake:
    locks: list[asyncio.Lock] = []

    async def wait() -> None:
        lock = asyncio.Lock()
        await lock.acquire()
        locks.append(lock)
        async with lock:
            pass

    await spawned(tasks, wait())
    lock = locks.pop()
    return lock.release


@plant
async def reader_of_a_descriptor(tasks: Tasks, stack: ExitStack) -> Wake:
    near, far = socket.socketpair()
    near.setblocking(False)
    loop = asyncio.get_running_loop()
    stack.callback(near.close)
    stack.callback(far.close)
    stack.callback(loop.remove_reader, near.fileno())

    async def wait(number: int) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().add_reader(number, lambda: future.done() or future.set_result(None))
        await future

    await spawned(tasks, wait(near.fileno()))
    return lambda: far.send(b"x")


@plant
async def handler_of_a_signal_of_the_loop(tasks: Tasks, stack: ExitStack) -> Wake:
    loop = asyncio.get_running_loop()
    stack.callback(loop.remove_signal_handler, signal.SIGUSR2)

    async def wait() -> None:
        event = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, event.set)
        await event.wait()

    await spawned(tasks, wait())
    return lambda: os.kill(os.getpid(), signal.SIGUSR2)


@pytest.fixture(params=PLANTS)
def planted(request: pytest.FixtureRequest) -> Plant:
    return PLANTS[request.param]


def test_a_task_is_live_while_someone_can_come_at_it(run: Run, planted: Plant) -> None:
    run(lambda: check_live(planted))


def test_a_task_is_stuck_when_nobody_can_come_at_it(run: Run, planted: Plant) -> None:
    run(lambda: check_stuck(planted))


# ------------------------------------------------------------------------ who is at work outside of the loop's Python


LIVE: dict[str, Plant] = {}


def live(function: Plant) -> Plant:
    LIVE[function.__name__.replace("_", " ")] = function
    return function


@live
async def socket_read(tasks: Tasks, stack: ExitStack) -> Wake:
    near, far = socket.socketpair()
    stack.callback(far.close)
    reader, writer = await asyncio.open_connection(sock=near)
    stack.callback(writer.close)

    async def wait(readers: list[asyncio.StreamReader]) -> None:
        await readers.pop().read(1)

    box = [reader]
    del reader
    await spawned(tasks, wait(box))
    return lambda: far.send(b"x")


@live
async def socket_read_of_the_loop(tasks: Tasks, stack: ExitStack) -> Wake:
    near, far = socket.socketpair()
    near.setblocking(False)
    stack.callback(near.close)
    stack.callback(far.close)

    async def wait(near: socket.socket) -> None:
        await asyncio.get_running_loop().sock_recv(near, 1)

    await spawned(tasks, wait(near))
    return lambda: far.send(b"x")


@live
async def connection_to_a_server(tasks: Tasks, stack: ExitStack) -> Wake:
    go = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await go.wait()
        writer.write(b"x\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1")
    stack.callback(server.close)
    host, port = server.sockets[0].getsockname()
    connected = asyncio.Event()

    async def wait() -> None:
        reader, writer = await asyncio.open_connection(host, port)
        connected.set()
        try:
            await reader.readline()
        finally:
            writer.close()

    tasks.append(asyncio.create_task(wait()))
    await connected.wait()
    await until_blocked(tasks)
    return go.set


@live
async def process(tasks: Tasks, stack: ExitStack) -> Wake:
    pids: list[int] = []

    async def wait() -> None:
        process = await asyncio.create_subprocess_exec("cat", stdin=asyncio.subprocess.PIPE)
        pids.append(process.pid)
        await process.wait()

    tasks.append(asyncio.create_task(wait()))
    while not pids:
        await asyncio.sleep(0)
    await until_blocked(tasks)
    return lambda: os.kill(pids[0], signal.SIGKILL)


@live
async def thread_of_a_pool(tasks: Tasks, stack: ExitStack) -> Wake:
    go = threading.Event()

    async def wait() -> None:
        await asyncio.get_running_loop().run_in_executor(None, go.wait)

    await spawned(tasks, wait())
    return go.set


@live
async def job_that_waits_for_a_thread_of_a_pool(tasks: Tasks, stack: ExitStack) -> Wake:
    go = threading.Event()
    pool = stack.enter_context(concurrent.futures.ThreadPoolExecutor(1))
    stack.callback(go.set)
    pool.submit(go.wait)

    async def wait() -> None:
        await asyncio.get_running_loop().run_in_executor(pool, int)

    await spawned(tasks, wait())
    return go.set


@live
async def call_in_a_thread(tasks: Tasks, stack: ExitStack) -> Wake:
    go = threading.Event()

    async def wait() -> None:
        await asyncio.to_thread(go.wait)

    await spawned(tasks, wait())
    return go.set


@live
async def coroutine_on_the_loop_of_another_thread(tasks: Tasks, stack: ExitStack) -> Wake:
    other = asyncio.new_event_loop()
    thread = threading.Thread(target=other.run_forever)
    thread.start()
    stack.callback(other.close)
    stack.callback(thread.join)
    stack.callback(other.call_soon_threadsafe, other.stop)
    go: list[asyncio.Event] = []

    async def elsewhere() -> None:
        event = asyncio.Event()
        go.append(event)
        await event.wait()

    async def wait() -> None:
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(elsewhere(), other))

    await spawned(tasks, wait())
    while not go:
        await asyncio.sleep(0)
    return lambda: other.call_soon_threadsafe(go[0].set)


@live
async def timeout_that_is_far_away(tasks: Tasks, stack: ExitStack) -> Wake:
    scopes: list[asyncio.Timeout] = []

    async def wait() -> None:
        try:
            async with asyncio.timeout(LONG) as scope:
                scopes.append(scope)
                await asyncio.Event().wait()
        except TimeoutError:
            return

    await spawned(tasks, wait())
    scope = scopes.pop()
    return lambda: scope.reschedule(0)


@live
async def callback_of_c_code(tasks: Tasks, stack: ExitStack) -> Wake:
    addresses: list[Any] = []
    kind = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)

    class Client:
        def __init__(self) -> None:
            self.event, self.loop = asyncio.Event(), asyncio.get_running_loop()
            self.callback = kind(self.called)  # whoever passes a callback to C keeps it alive

        def called(self, _: object) -> int:
            self.loop.call_soon_threadsafe(self.event.set)
            return 0

    async def wait() -> None:
        client = Client()
        addresses.append(ctypes.cast(client.callback, ctypes.c_void_p).value)
        await client.event.wait()

    await spawned(tasks, wait())
    address = addresses.pop()
    return lambda: run_in_a_thread_of_c(address)


def run_in_a_thread_of_c(address: int) -> None:
    library, thread = ctypes.CDLL(None), ctypes.c_ulong()
    library.pthread_create(ctypes.byref(thread), None, ctypes.c_void_p(address), None)
    with_the_lock_released = ctypes.CDLL(None).pthread_join
    with_the_lock_released(thread, None)


@live
async def object_whose_address_c_code_may_have(tasks: Tasks, stack: ExitStack) -> Wake:
    keys: list[Any] = []

    class Client:
        def __init__(self) -> None:
            self.event = asyncio.Event()
            self.user_data = ctypes.py_object(self)

    async def wait() -> None:
        client = Client()
        keys.append(id(client))
        await client.event.wait()

    await spawned(tasks, wait())
    address = keys.pop()
    return lambda: ctypes.cast(address, ctypes.py_object).value.event.set()


@live
async def object_of_a_foreign_c_type(tasks: Tasks, stack: ExitStack) -> Wake:
    """Nobody can tell what such code remembers. Here it is the test that remembers what the type might."""
    addresses: list[int] = []

    async def wait() -> None:
        kept: Any = CIMultiDict()
        event = asyncio.Event()
        kept["event"] = event
        addresses.append(id(event))
        await event.wait()
        del kept

    await spawned(tasks, wait())
    address = addresses.pop()
    return lambda: ctypes.cast(address, ctypes.py_object).value.set()


@live
async def death_of_an_object(tasks: Tasks, stack: ExitStack) -> Wake:
    watched = [Plain()]

    async def wait() -> None:
        event = asyncio.Event()
        reference = weakref.ref(watched[0], lambda _: event.set())
        await event.wait()
        del reference

    await spawned(tasks, wait())
    return watched.clear


@live
async def task_that_is_about_to_run(tasks: Tasks, stack: ExitStack) -> Wake:
    async def wait(event: asyncio.Event) -> None:
        await event.wait()

    async def set_it(event: asyncio.Event) -> None:
        await asyncio.sleep(0)
        event.set()

    event = asyncio.Event()
    await spawned(tasks, wait(event))
    tasks.append(asyncio.create_task(set_it(event)))
    return lambda: None


@live
async def future_that_is_done_already(tasks: Tasks, stack: ExitStack) -> Wake:
    futures: list[asyncio.Future[None]] = []

    async def wait() -> None:
        futures.append(asyncio.get_running_loop().create_future())
        await futures[0]

    await spawned(tasks, wait())
    futures.pop().set_result(None)
    return lambda: None


@live
async def borrowed_reference_on_the_stack_of_a_generator(tasks: Tasks, stack: ExitStack) -> Wake:
    """Since 3.14 the second of two references in one generator may not be counted."""
    futures: list[asyncio.Future[None]] = []

    class Awaitable:
        def __await__(self) -> Generator[Any, None, Any]:
            future: Any = asyncio.get_running_loop().create_future()
            futures.append(future)
            future._asyncio_future_blocking = True
            return max(future, (yield future), key=lambda it: 0 if it is None else 1)

    async def wait() -> None:
        await Awaitable()

    await spawned(tasks, wait())
    future = futures.pop()
    return lambda: future.set_result(None)


@live
async def step_of_an_async_generator(tasks: Tasks, stack: ExitStack) -> Wake:
    steps: list[Any] = []

    async def events() -> AsyncIterator[asyncio.Event]:
        event = asyncio.Event()
        yield event
        yield event

    async def wait() -> None:
        generator = events()
        event = await anext(generator)
        steps.append(anext(generator))
        del generator
        await event.wait()

    await spawned(tasks, wait())
    step = steps.pop()

    def wake() -> None:
        with pytest.raises(StopIteration) as stop:
            step.send(None)
        stop.value.value.set()

    return wake


@pytest.fixture(params=LIVE)
def lively(request: pytest.FixtureRequest) -> Plant:
    return LIVE[request.param]


def test_a_task_is_live_while_someone_works_for_it(run: Run, lively: Plant) -> None:
    run(lambda: check_live(lively))


def test_the_end_of_the_interpreter_can_wake_a_task() -> None:
    program = """
        import asyncio, atexit, threading
        from taskscope._diagnosis.reachability import prove

        loop = asyncio.new_event_loop()
        tasks, proofs, ready, ended = [], [], threading.Event(), threading.Event()

        async def wait(held):
            event = asyncio.Event()
            if held:
                atexit.register(loop.call_soon_threadsafe, event.set)
            await event.wait()
            print("woken")
            ended.set()

        async def main():
            for held in (True, False):
                tasks.append(loop.create_task(wait(held)))
            await asyncio.sleep(0)
            proof = prove(tasks)
            print("stuck", [id(task) in proof.stuck for task in tasks])
            ready.set()

        def run():
            asyncio.set_event_loop(loop)
            loop.create_task(main())
            loop.run_forever()

        atexit.register(ended.wait, 20)  # what is registered first is called last
        threading.Thread(target=run, daemon=True).start()
        ready.wait()
    """
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stdout.splitlines() == ["stuck [True, False]", "woken"] or ended.stdout.splitlines() == [
        "stuck [False, True]",
        "woken",
    ]


# ----------------------------------------------------------------------------------------------- what can be proven


async def lost_future() -> None:
    await asyncio.get_running_loop().create_future()


async def lost_python_future() -> None:
    await asyncio.futures._PyFuture()  # type: ignore[attr-defined]


async def lost_concurrent_future() -> None:
    await asyncio.wrap_future(concurrent.futures.Future[None]())


async def put() -> None:
    queue: asyncio.Queue[int] = asyncio.Queue(1)
    for number in range(2):
        await queue.put(number)


async def get() -> None:
    await asyncio.PriorityQueue[int]().get()


async def join() -> None:
    queue: asyncio.Queue[int] = asyncio.Queue()
    queue.put_nowait(1)
    await queue.join()


async def same_lock_twice() -> None:
    lock = asyncio.Lock()
    async with lock, lock:
        pass


async def semaphore() -> None:
    permits = asyncio.BoundedSemaphore(1)
    async with permits, permits:
        pass


async def condition() -> None:
    condition = asyncio.Condition()
    async with condition:
        await condition.wait_for(lambda: False)


async def barrier() -> None:
    await asyncio.Barrier(2).wait()


async def gather() -> None:
    await asyncio.gather(wait_for_own_event(), lost_future())


async def wait_for_any() -> None:
    await asyncio.wait({asyncio.create_task(lost_future())}, return_when="FIRST_COMPLETED")


async def as_completed() -> None:
    for each in asyncio.as_completed([lost_future(), wait_for_own_event()]):
        await each


async def shield() -> None:
    await asyncio.shield(lost_future())


async def wait_for() -> None:
    await asyncio.wait_for(lost_future(), None)


async def task_group() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(lost_future())
        group.create_task(wait_for_own_event())


async def own_task() -> None:
    async def wait_for_the_other() -> None:
        await other

    other = asyncio.current_task()
    await asyncio.create_task(wait_for_the_other())


async def async_generator() -> None:
    async def numbers() -> AsyncIterator[int]:
        await lost_future()
        yield 1

    async for _ in numbers():
        pass


async def awaitable() -> None:
    class Awaitable:
        def __await__(self) -> Generator[Any, None, None]:
            yield from lost_future().__await__()

    await Awaitable()


async def wrapped() -> None:
    await functools.partial(functools.wraps(lost_future)(lost_future))()


async def deep() -> None:
    async def level(left: int) -> None:
        await (level(left - 1) if left else lost_future())

    await level(50)


async def inside_an_except_clause() -> None:
    try:
        raise ValueError
    except ValueError:
        await lost_future()


async def with_its_own_exception() -> None:
    kept = None
    try:
        raise ValueError
    except ValueError as error:
        kept = error
    await lost_future()
    del kept


async def with_much_around() -> None:
    kept: list[Any] = [{"key": {1, 2, 3}}, [object() for _ in range(50)], Plain(Plain(Plain())), lambda: kept]
    event = asyncio.Event()
    kept.append(event)
    await event.wait()


async def with_an_object_and_its_dict() -> None:
    kept = Plain(asyncio.Event())
    attributes = vars(kept)
    await attributes["event"].wait()
    del kept


async def with_its_own_frame() -> None:
    event, frame = asyncio.Event(), sys._getframe()
    await event.wait()
    del frame


async def with_a_thread_that_was_never_started() -> None:
    event = asyncio.Event()
    kept = concurrent.futures.Future[None]()
    kept.add_done_callback(lambda _: event.set())
    await event.wait()


async def with_a_timer_that_was_cancelled() -> None:
    event = asyncio.Event()
    kept = asyncio.get_running_loop().call_later(LONG, event.set)
    kept.cancel()
    del kept
    await event.wait()


async def with_sixteen_variables_in_its_context() -> None:
    event = asyncio.Event()
    for number in range(40):
        contextvars.ContextVar[Any](f"{number}").set(event)
    await event.wait()


STUCK = (
    lost_future,
    lost_python_future,
    lost_concurrent_future,
    wait_for_own_event,
    put,
    get,
    join,
    same_lock_twice,
    semaphore,
    condition,
    barrier,
    gather,
    wait_for_any,
    as_completed,
    shield,
    wait_for,
    task_group,
    own_task,
    async_generator,
    awaitable,
    wrapped,
    deep,
    inside_an_except_clause,
    with_its_own_exception,
    with_much_around,
    with_an_object_and_its_dict,
    with_its_own_frame,
    with_a_thread_that_was_never_started,
    with_sixteen_variables_in_its_context,
)


@pytest.fixture(params=STUCK, ids=lambda coroutine: coroutine.__name__)
def hanging(request: pytest.FixtureRequest) -> Callable[[], Coroutine[Any, Any, None]]:
    made: Callable[[], Coroutine[Any, Any, None]] = request.param
    return made


async def let_all_block() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_a_task_that_nothing_can_wake_is_proven(run: Run, hanging: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        tasks: Tasks = []
        await spawned(tasks, hanging())
        await let_all_block()
        proof = proof_of(tasks)
        assert set(proof.stuck) == set(map(id, tasks)) and proof.reason is None
        await end(tasks)

    run(main)


NEEDS_CURRENT_TASK = (wait_for, task_group, own_task)
"""Since 3.14 a task of asyncio's Python code is not found by `asyncio.current_task()`, and these fail in it."""


def test_the_same_task_of_asyncios_python_code_is_proven(
    run_asyncio: Run, hanging: Callable[[], Coroutine[Any, Any, None]]
) -> None:
    if sys.version_info >= (3, 14) and hanging in NEEDS_CURRENT_TASK:
        pytest.skip("not possible in such a task")

    async def main() -> None:
        tasks: Tasks = [PlainLoopTask.make(hanging())]
        await let_all_block()
        assert set(proof_of(tasks).stuck) == set(map(id, tasks))
        await end(tasks)

    run_asyncio(main)


def test_tasks_that_wait_for_each_other_are_proven_together(run: Run) -> None:
    async def take(mine: asyncio.Lock, other: asyncio.Lock, both: asyncio.Barrier) -> None:
        async with mine:
            await both.wait()
            async with other:
                pass

    async def main() -> None:
        tasks: Tasks = []
        locks = [asyncio.Lock() for _ in range(5)]
        both = asyncio.Barrier(5)
        for one, two in itertools.pairwise([*locks, locks[0]]):
            tasks.append(asyncio.create_task(take(one, two, both), name=f"{len(tasks)}"))
        del locks, one, two, both
        await let_all_block()
        assert names_of_stuck(tasks) == {f"{number}" for number in range(5)}
        await end(tasks)

    run(main)


def test_one_live_task_keeps_those_alive_that_it_could_wake(run: Run) -> None:
    async def wait(event: asyncio.Event) -> None:
        await event.wait()

    async def sleep(event: asyncio.Event) -> None:
        await asyncio.sleep(LONG)
        event.set()

    async def main() -> None:
        tasks: Tasks = []
        for name in ("kept", "lost"):
            event = asyncio.Event()
            tasks.append(asyncio.create_task(wait(event), name=name))
        tasks.append(asyncio.create_task(sleep(event), name="sleeper"))
        del event
        await until_blocked(tasks)
        assert names_of_stuck(tasks) == {"kept"}
        await end(tasks)

    run(main)


def test_each_stuck_task_is_told_with_those_that_could_wake_it(run: Run) -> None:
    async def wait(event: asyncio.Event) -> None:
        await event.wait()

    async def hold_on(event: asyncio.Event) -> None:
        await lost_future()
        event.set()

    async def main() -> None:
        tasks: Tasks = []
        event = asyncio.Event()
        tasks.append(asyncio.create_task(wait(event)))
        tasks.append(asyncio.create_task(hold_on(event)))
        tasks.append(asyncio.create_task(lost_future()))
        del event
        await until_blocked(tasks)
        waits, holds, alone = map(id, tasks)
        assert proof_of(tasks).stuck == {waits: (holds,), holds: (), alone: ()}
        await end(tasks)

    run(main)


def test_what_a_bookkeeper_holds_is_not_alive_because_of_it(run: Run) -> None:
    async def main() -> None:
        tasks: Tasks = []
        ledger: dict[str, Any] = {}
        await spawned(tasks, wait_for_own_event())
        ledger["tasks"] = tuple(tasks)
        assert not prove(tasks).stuck
        assert set(prove(tasks, [ledger]).stuck) == {id(tasks[0])}
        registry = weakref.WeakSet(tasks)
        assert not prove(tasks, [ledger]).stuck
        assert set(prove(tasks, [ledger], [registry]).stuck) == {id(tasks[0])}
        await end(tasks)

    run(main)


def test_tasks_that_only_weak_registries_of_asyncio_know_are_proven(run: Run) -> None:
    async def main() -> None:
        tasks: Tasks = []
        await spawned(tasks, async_generator())
        assert any(task is tasks[0] for task in asyncio.all_tasks())
        assert set(prove(tasks).stuck) == {id(tasks[0])}
        await end(tasks)

    run(main)


# ------------------------------------------------------------------------------------------------ it changes nothing


class Witness:
    """Something in the middle of what is searched, with a finalizer."""

    ended = 0

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.itself = self

    def __del__(self) -> None:
        Witness.ended += 1


def test_the_search_changes_no_reference_count_and_no_weak_reference(run: Run) -> None:
    async def wait(witness: Witness, queue: asyncio.Queue[int]) -> None:
        await queue.get()
        await witness.event.wait()

    async def main() -> None:
        witness, queue, tasks = Witness(), asyncio.Queue[int](), Tasks()
        reference = weakref.ref(witness)
        await spawned(tasks, wait(witness, queue))
        involved: list[Any] = [witness, witness.event, queue, queue._getters, tasks[0], tasks[0].get_coro()]  # type: ignore[attr-defined]
        involved += [waiter_of(tasks[0]), tasks, asyncio.get_running_loop(), Witness, wait, None]

        def state() -> list[Any]:
            counts = [sys.getrefcount(each) for each in involved[:-1]]
            weak = [weakref.getweakrefcount(each) for each in involved]
            return [counts, weak, gc.isenabled(), gc.get_threshold(), gc.get_freeze_count(), Witness.ended]

        before = state()
        proofs = [prove(tasks).stuck for _ in range(3)]
        assert state() == before
        assert proofs == [{}, {}, {}]
        assert reference() is witness
        queue.put_nowait(1)
        witness.event.set()
        await asyncio.wait_for(tasks[0], PATIENCE)

    run(main)


def test_an_object_that_has_no_dict_yet_gets_none(run: Run) -> None:
    async def wait(kept: Plain) -> None:
        await kept.event.wait()

    async def main() -> None:
        tasks: Tasks = []
        await spawned(tasks, wait(Plain(asyncio.Event())))
        gc.collect()
        before = len(gc.get_objects())
        proof = prove(tasks)
        del proof
        assert len(gc.get_objects()) <= before + 2
        await end(tasks)

    run(main)


def test_what_is_garbage_stays_as_it_is_during_the_search(run: Run) -> None:
    async def main() -> None:
        tasks: Tasks = []
        await spawned(tasks, wait_for_own_event())
        gc.collect()
        ended = Witness.ended
        Witness()  # a cycle, which only a collection ends
        threshold = gc.get_threshold()
        gc.set_threshold(1)
        try:
            gc.disable()
            proof = prove(tasks)
            assert Witness.ended == ended
        finally:
            gc.set_threshold(*threshold)
            gc.enable()
        assert proof.stuck
        gc.collect()
        assert Witness.ended == ended + 1
        await end(tasks)

    run(main)


@pytest.mark.parametrize("collecting", [True, False])
def test_the_collector_is_left_as_it_was(run_asyncio: Run, collecting: bool) -> None:
    async def main() -> None:
        tasks: Tasks = []
        await spawned(tasks, wait_for_own_event())
        (gc.enable if collecting else gc.disable)()
        try:
            assert prove(tasks).stuck
            assert gc.isenabled() is collecting
        finally:
            gc.enable()
        await end(tasks)

    run_asyncio(main)


def test_the_collector_is_left_as_it_was_when_the_search_is_interrupted(
    run_asyncio: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    async def main() -> None:
        tasks: Tasks = []
        await spawned(tasks, wait_for_own_event())
        with monkeypatch.context() as patched:
            patched.setattr(subgraph, "_at_one_moment", interrupted)
            with pytest.raises(KeyboardInterrupt):
                prove(tasks)
        assert gc.isenabled()
        await end(tasks)

    run_asyncio(main)


def test_tasks_that_were_looked_at_go_on_as_before(run: Run) -> None:
    async def serve(requests: asyncio.Queue[int], answers: asyncio.Queue[int]) -> None:
        while True:
            await answers.put(await requests.get() + 1)

    async def main() -> None:
        requests, answers, tasks = asyncio.Queue[int](), asyncio.Queue[int](), Tasks()
        await spawned(tasks, serve(requests, answers))
        for number in range(20):
            assert not prove(tasks).stuck
            requests.put_nowait(number)
            assert await answers.get() == number + 1
            await until_blocked(tasks)
        await end(tasks)

    run(main)


def test_a_stuck_task_can_be_cancelled_as_before(run: Run) -> None:
    async def main() -> None:
        tasks: Tasks = []
        await spawned(tasks, wait_for_own_event())
        assert prove(tasks).stuck
        tasks[0].cancel("because")
        with pytest.raises(asyncio.CancelledError):
            await tasks[0]

    run(main)


# -------------------------------------------------------------------------------------------- nothing of a user's runs


class Touched(Exception):
    """Raised by whatever must not be called, and noted, for the search could catch it."""

    noted = 0


def hostile(*arguments: object, **keywords: object) -> Any:
    Touched.noted += 1
    raise Touched


@pytest.fixture(autouse=True)
def nothing_is_touched() -> Iterator[None]:
    Touched.noted = 0
    yield
    assert not Touched.noted


SPECIAL = [
    *("__getattribute__", "__getattr__", "__setattr__", "__delattr__", "__dir__", "__get__"),
    *("__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__", "__hash__", "__bool__", "__index__", "__int__"),
    *(
        "__len__",
        "__length_hint__",
        "__iter__",
        "__next__",
        "__reversed__",
        "__contains__",
        "__getitem__",
        "__setitem__",
    ),
    *("__missing__", "__call__", "__enter__", "__exit__", "__await__", "__aiter__", "__anext__", "__float__"),
    *("__repr__", "__str__", "__format__", "__sizeof__", "__reduce__", "__reduce_ex__", "__copy__", "__deepcopy__"),
    *("__instancecheck__", "__subclasscheck__"),
]


def hostile_class(name: str, *bases: type, metaclass: type = type, **more: Any) -> Any:
    methods: dict[str, Any] = dict.fromkeys(SPECIAL, hostile)
    methods["__class__"] = property(hostile)
    return metaclass(name, bases, {**methods, **more})


HostileMeta: Any = hostile_class("HostileMeta", type, __dict__=property(hostile), __module__=property(hostile))


def hostile_objects() -> list[Any]:
    classes = [hostile_class("Hostile"), hostile_class("HostileList", list), hostile_class("HostileDict", dict)]
    classes += [hostile_class("HostileSlots", __slots__=("slot",)), hostile_class("HostileTuple", tuple)]
    classes += [hostile_class("HostileSet", set), hostile_class("HostileStr", str), hostile_class("HostileInt", int)]
    classes += [hostile_class("HostileProperty", __dict__=property(hostile), __weakref__=property(hostile))]
    with_metaclass = type.__call__(type, "OfHostileMeta", (), {})
    made = [object.__new__(kind) if kind.__mro__[1] is object else kind.__mro__[1].__new__(kind) for kind in classes]
    of_hostile_metaclass = type.__new__(HostileMeta, "OfHostile", (), {})
    return [*made, with_metaclass(), of_hostile_metaclass, object.__new__(of_hostile_metaclass)]


def test_nothing_of_a_hostile_object_is_called(run: Run) -> None:
    async def wait(kept: list[Any]) -> None:
        kept.append(asyncio.Event())
        await kept[-1].wait()

    async def main() -> None:
        tasks: Tasks = []
        await spawned(tasks, wait(hostile_objects()))
        proof = prove(tasks)
        assert set(proof.stuck) == {id(tasks[0])} and proof.reason is None
        await end(tasks)

    run(main)


def test_a_hostile_object_can_keep_a_task_alive(run: Run) -> None:
    async def wait(kept: list[Any]) -> None:
        event = asyncio.Event()
        list.append(kept, event)
        await event.wait()

    async def main() -> None:
        tasks: Tasks = []
        held = hostile_class("HostileList", list)()
        await spawned(tasks, wait(held))
        assert prove(tasks).stuck == {}
        list.pop(held).set()
        await asyncio.wait_for(tasks[0], PATIENCE)

    run(main)


def test_nothing_of_a_hostile_module_is_called(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class HostileModule(types.ModuleType):
        def __getattribute__(self, name: str) -> Any:
            return hostile()

    class OfNoFile:
        __module__ = "hostile_module"

    monkeypatch.setitem(sys.modules, "hostile_module", HostileModule("hostile_module"))
    monkeypatch.setitem(sys.modules, "not_a_module", hostile_class("Hostile")())

    async def wait(kept: Any) -> None:
        await lost_future()

    async def main() -> None:
        tasks: Tasks = []
        await spawned(tasks, wait(OfNoFile()))
        assert prove(tasks).reason is None
        await end(tasks)

    run(main)


def test_nothing_of_a_hostile_task_or_future_is_called(run_asyncio: Run) -> None:
    class HostileFuture(asyncio.Future[None]):
        _fut_waiter = _callbacks = property(hostile)  # type: ignore[assignment]

        def __getattr__(self, name: str) -> Any:
            return hostile()

        def done(self) -> bool:
            return hostile()

    class HostileTask(asyncio.Task[None]):
        def get_coro(self) -> Any:
            return hostile()

        def done(self) -> bool:
            return hostile()

        def __eq__(self, other: object) -> bool:
            return hostile()

        def __hash__(self) -> int:
            return id(self)

    async def wait() -> None:
        await HostileFuture()

    async def main() -> None:
        tasks: Tasks = [HostileTask(wait(), loop=asyncio.get_running_loop())]
        await asyncio.sleep(0)
        assert set(prove(tasks).stuck) == {id(tasks[0])}
        asyncio.Future.cancel(waiter_of(tasks[0]))  # type: ignore[arg-type]
        await asyncio.sleep(0)

    run_asyncio(main)


def test_nothing_of_a_hostile_loop_is_called() -> None:
    class HostileLoop(asyncio.SelectorEventLoop):
        armed = False

        def __getattribute__(self, name: str) -> Any:
            if type(self).armed:
                return hostile()
            return super().__getattribute__(name)

    async def main() -> None:
        tasks: Tasks = []
        await spawned(tasks, wait_for_own_event())
        HostileLoop.armed = True
        try:
            proof = prove(tasks)
        finally:
            HostileLoop.armed = False
        assert set(proof.stuck) == {id(tasks[0])}
        await end(tasks)

    with asyncio.Runner(loop_factory=HostileLoop) as runner:
        runner.run(main())


# ------------------------------------------------------------------------------------------------ whom it can judge


def test_objects_of_python_are_known_by_their_references() -> None:
    for kind in (
        Plain,
        list,
        dict,
        asyncio.Task,
        asyncio.Event,
        functools.partial,
        types.CoroutineType,
        contextvars.Context,
    ):
        assert is_transparent(kind), kind
    assert is_transparent(type("Local", (dict, Plain), {"__slots__": ("slot",)}))


def test_objects_of_foreign_c_code_and_what_is_derived_from_them_are_not() -> None:
    class Derived(CIMultiDict[Any]):
        pass

    class WithPointer(ctypes.Structure):
        pass

    capsule = type(ctypes.pythonapi and __import__("_datetime").datetime_CAPI)
    for kind in (CIMultiDict, Derived, ctypes.py_object, ctypes.CFUNCTYPE(None), WithPointer, capsule):
        assert not is_transparent(kind), kind


@pytest.mark.parametrize("said", ["multidict", "builtins"])
def test_a_c_class_is_known_as_such_whatever_module_it_says_it_is_from(
    monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    original = opaque.module_of
    monkeypatch.setattr(opaque, "module_of", lambda kind: said if kind is CIMultiDict else original(kind))
    assert not is_transparent(CIMultiDict)


def test_a_class_that_says_it_is_from_a_module_without_a_file_is_not_known() -> None:
    assert not is_transparent(type("Local", (), {"__module__": "no_such_module"}))
    assert not is_transparent(type("Local", (), {"__module__": 7}))


def test_a_foreign_c_object_that_does_not_lead_to_the_task_is_no_obstacle(run: Run) -> None:
    async def wait() -> None:
        kept = CIMultiDict(name="value")
        await wait_for_own_event()
        del kept

    async def main() -> None:
        tasks: Tasks = []
        await spawned(tasks, wait())
        assert prove(tasks).stuck
        await end(tasks)

    run(main)


def test_nothing_is_proven_where_reference_counts_are_not_exact(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        tasks: Tasks = []
        await spawned(tasks, wait_for_own_event())
        assert prove(tasks).stuck
        with monkeypatch.context() as patched:
            patched.setattr(reachability, "FREE_THREADED", True)
            proof = prove(tasks)
        assert proof.stuck == {} and proof.visited == 0
        assert proof.reason == "reference counts are not exact on this build of Python"
        await end(tasks)

    run(main)


def test_nothing_is_proven_where_dicts_of_objects_cannot_be_seen(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        tasks: Tasks = []
        await spawned(tasks, wait_for_own_event())
        with monkeypatch.context() as patched:
            patched.setattr(reachability, "DICTS_CAN_BE_SEEN", False)
            proof = prove(tasks)
        assert proof.stuck == {} and proof.reason
        assert prove(tasks).stuck
        await end(tasks)

    run(main)


def nested(depth: int, innermost: object = None) -> list[Any]:
    made: list[Any] = [innermost]
    for _ in range(depth):
        made = [made]
    return made


@pytest.mark.parametrize("large", [lambda: dict.fromkeys(range(200_000)), lambda: [[] for _ in range(30_000)]])
def test_with_too_much_to_look_at_nothing_is_proven(run: Run, large: Callable[[], Any]) -> None:
    async def main() -> None:
        tasks: Tasks = []
        await spawned(tasks, wait_with(large()))
        proof = prove(tasks)
        assert proof.stuck == {} and proof.reason is not None and "more than" in proof.reason
        assert proof.visited <= reachability.limit_for(1, None)
        await end(tasks)

    run(main)


def test_of_what_is_too_large_no_list_is_made(run: Run) -> None:
    async def main() -> None:
        tasks: Tasks = []
        await spawned(tasks, wait_with([0] * 2_000_000))
        prove(tasks)  # what it imports and keeps is there now
        tracemalloc.start()
        try:
            assert not prove(tasks).stuck
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 8_000_000  # bytes; the list has twice as many
        await end(tasks)

    run(main)


def test_with_too_much_behind_each_other_nothing_is_proven(run: Run) -> None:
    async def main() -> None:
        tasks: Tasks = []
        event = asyncio.Event()
        kept = nested(reachability.VISITED_LIMIT + 1_000, event)
        await spawned(tasks, wait_for_kept(event, kept))
        del event
        proof = prove(tasks)
        assert proof.stuck == {} and proof.reason is not None and "more than" in proof.reason
        while type(kept[0]) is list:  # piece by piece, or its end would go too deep
            kept = kept.pop()
        kept.clear()
        assert prove(tasks).stuck == {id(tasks[0]): ()}
        await end(tasks)

    run(main)


@pytest.mark.parametrize("behind", [[], [[] for _ in range(9_000)]], ids=["each other", "one"])
def test_what_lies_far_away_and_is_not_in_its_way_is_not_looked_at(run: Run, behind: list[Any]) -> None:
    async def main() -> None:
        tasks: Tasks = []
        kept = nested(reachability.VISITED_LIMIT + 1_000, behind)
        await spawned(tasks, wait_with(kept))
        proof = prove(tasks)
        assert proof.stuck == {id(tasks[0]): ()}
        assert proof.visited < 3 * reachability.NEARBY_LIMIT
        await end(tasks)
        while kept and kept is not behind:
            kept = kept.pop()

    run(main)


def test_the_more_tasks_the_more_is_looked_at_and_no_more_than_that(run: Run) -> None:
    async def main() -> None:
        visited = []
        for number in (10, 1_000):
            tasks: Tasks = [asyncio.create_task(put()) for _ in range(number)]
            await until_blocked(tasks)
            proof = prove(tasks)
            assert len(proof.stuck) == number
            visited.append(proof.visited / number)
            await end(tasks)
        assert visited[1] <= visited[0] < 30

    run(main)


def test_with_just_not_too_much_it_is(run: Run) -> None:
    async def main() -> None:
        tasks: Tasks = []
        await spawned(tasks, wait_with([[] for _ in range(reachability.VISITED_LIMIT - 100)]))
        assert prove(tasks).stuck
        await end(tasks)

    run(main)


def test_objects_elsewhere_are_not_looked_at(run: Run) -> None:
    async def main() -> None:
        tasks: Tasks = []
        await spawned(tasks, wait_for_own_event())
        small = prove(tasks).visited
        elsewhere = [[] for _ in range(300_000)]  # type: ignore[var-annotated]
        assert prove(tasks).visited == small < 40
        del elsewhere
        await end(tasks)

    run(main)


# ------------------------------------------------------------------------------------------ what all of it stands on


def references_seen(root: object, to: object) -> int:
    """How often the collector is told of an object by all that another one leads to."""
    seen = 0
    known, todo = {id(to), id(root)}, [root]
    while todo:
        refs = gc.get_referents(todo.pop())
        seen += sum(ref is to for ref in refs)
        new = {id(ref): ref for ref in refs if id(ref) not in known and not issubclass(type(ref), NOT_WALKED)}
        new = {key: ref for key, ref in new.items() if "__builtins__" not in (ref if type(ref) is dict else ())}
        known.update(new)
        todo += new.values()
    return seen


NOT_WALKED = (type, types.ModuleType, types.CodeType, asyncio.AbstractEventLoop, str, int)


@pytest.mark.parametrize("place", PLACES)
def test_no_place_shows_a_reference_that_it_does_not_count(run_asyncio: Run, place: str) -> None:
    async def main() -> None:
        make, _ = PLACES[place]
        event = asyncio.Event()
        before = sys.getrefcount(event)
        made = make(event)
        assert references_seen(made, event) <= sys.getrefcount(event) - before

    run_asyncio(main)


@types.coroutine
def pause() -> Generator[Any, Any, None]:
    yield


async def steps(x: Any) -> AsyncIterator[Any]:
    await pause()
    yield x


async def await_in_a_call(x: Any) -> Any:
    return max(x, await pause(), key=id)


async def await_in_a_tuple(x: Any) -> Any:
    return (x, [x, {x: x, 1: await pause()}])


async def await_in_a_method_call(x: Any) -> Any:
    return x.set(x, *[x], await pause())


async def await_in_a_comparison(x: Any) -> Any:
    return x == (await pause()) == x


async def await_in_a_subscript(x: Any) -> Any:
    return x[x : await pause()]


async def await_in_a_string(x: Any) -> Any:
    return f"{x}{await pause()}"


async def await_in_a_loop(x: Any) -> None:
    for each in (x, x):
        print(each, x, await pause())


async def await_in_a_comprehension(x: Any) -> Any:
    y = x
    return [y, *[(each, x) async for each in steps(y)]]


async def await_in_a_default(x: Any) -> Any:
    return lambda y=x, *, z=(await pause()): x  # noqa: B008 - it is what is tried


async def await_in_a_handler(x: Any) -> Any:
    try:
        raise ValueError(x)
    except ValueError as error:
        return (error, x, await pause())


@pytest.mark.parametrize(
    "function",
    [
        *(await_in_a_call, await_in_a_tuple, await_in_a_method_call, await_in_a_comparison, await_in_a_subscript),
        *(await_in_a_string, await_in_a_loop, await_in_a_comprehension, await_in_a_default, await_in_a_handler),
    ],
    ids=lambda function: function.__name__,
)
def test_no_coroutine_at_an_await_shows_a_reference_that_it_does_not_count(function: Callable[[Any], Any]) -> None:
    x = Plain()
    before = sys.getrefcount(x)
    coroutine = function(x)
    coroutine.send(None)
    assert 0 < references_seen(coroutine, x) <= sys.getrefcount(x) - before
    coroutine.close()


# ------------------------------------------------------------------------------------- others who run during the search


class Mover:
    """A thread that moves an event between containers all the time, and never lets go of it."""

    def __init__(self, move: Callable[[list[Any], list[Any]], None], one: list[Any], two: list[Any]) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(move, one, two))
        self._thread.start()

    def _run(self, move: Callable[[list[Any], list[Any]], None], one: list[Any], two: list[Any]) -> None:
        while not self._stop.is_set():
            move(one, two)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


def between_lists(one: list[Any], two: list[Any]) -> None:
    two.append(one.pop())
    one.append(two.pop())


def through_attributes(one: list[Any], two: list[Any]) -> None:
    box = Plain(one.pop())
    two.append(box)
    del box
    one.append(two.pop().event)


def through_a_weak_reference(one: list[Any], two: list[Any]) -> None:
    two.append(weakref.ref(one[0]))
    two.append(two.pop()())
    two.pop()


def through_a_closure(one: list[Any], two: list[Any]) -> None:
    two.append(with_closure(one.pop()))
    one.append(two.pop()())


@pytest.mark.parametrize("move", [between_lists, through_attributes, through_a_weak_reference, through_a_closure])
def test_a_thread_that_moves_references_about_never_makes_a_live_task_look_stuck(
    run: Run, move: Callable[[list[Any], list[Any]], None]
) -> None:
    """The task holds one of the lists and its event itself; what it cannot see is the thread."""

    async def wait(mine: list[Any], event: asyncio.Event) -> None:
        await event.wait()
        del mine

    async def main() -> None:
        tasks: Tasks = []
        one: list[Any] = [asyncio.Event()]
        two: list[Any] = []
        await spawned(tasks, wait(one, one[0]))
        mover = Mover(move, one, two)
        del one, two
        try:
            for _ in range(400):
                assert not prove(tasks).stuck
        finally:
            mover.stop()
        del mover
        gc.collect()
        assert prove(tasks).stuck
        await end(tasks)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        run(main)
    finally:
        sys.setswitchinterval(interval)


Kept = dict[str, Any]
"""What a task has as its variables, by their names, and its coroutine."""


def move_over(lists: list[list[Any]]) -> list[Any]:
    lists[1].append(lists[0].pop())
    return lists[1]


# What the only holder has before something happens, and what he then has instead.
EXCHANGES: dict[str, tuple[Callable[[Kept], Any], Callable[[Any], Any]]] = {
    "a list, then what was in it": (lambda kept: kept["first"], list.pop),
    "two lists, then what was in one is in the other": (lambda kept: [kept["first"], kept["second"]], move_over),
    "the event, then a weak reference": (lambda kept: kept["event"], weakref.ref),
    "a weak reference, then the event": (lambda kept: weakref.ref(kept["event"]), lambda reference: reference()),
    "an object, then its dict": (lambda kept: kept["plain"], vars),
    "the dict of an object, then its value": (lambda kept: vars(kept["plain"]), lambda found: found["event"]),
    "the coroutine, then its frame": (lambda kept: kept["coroutine"], lambda coroutine: coroutine.cr_frame),
}


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_a_live_task_is_not_called_stuck_whenever_its_holder_takes_one_thing_for_another(
    run_asyncio: Run, exchange: str
) -> None:
    """What other threads and signal handlers can do, done before one line of the search after another."""
    before, after = EXCHANGES[exchange]

    async def wait(first: list[Any], second: list[Any], plain: Plain) -> None:
        event = asyncio.Event()
        first.append(event)
        plain.event = event
        await event.wait()
        del second

    async def search(line: int) -> bool:
        tasks: Tasks = []
        kept: Kept = {"first": [], "second": [], "plain": Plain()}
        await spawned(tasks, wait(**kept))
        box = [before({**kept, "event": kept["plain"].event, "coroutine": tasks[0].get_coro()})]
        del kept

        def happen() -> None:
            box.append(after(box.pop()))

        with at_line(line, happen) as happened:
            assert not prove(tasks).stuck
        if happened:
            assert not prove(tasks).stuck
            box.clear()
            assert prove(tasks).stuck
        await end(tasks)
        return bool(happened)

    async def main() -> None:
        lines = range(1, 100_000, 17)
        for line in lines:
            if not await search(line):
                break
        assert line > 300

    run_asyncio(main)


@contextmanager
def at_line(line: int, happen: Callable[[], None]) -> Iterator[list[bool]]:
    """Calls a function before a line of the search is run. The list that it gives is not empty once it has."""
    happened: list[bool] = []
    left = line

    def trace(frame: types.FrameType, what: str, argument: object) -> Any:
        nonlocal left
        if frame.f_code.co_filename not in (reachability.__file__, subgraph.__file__):
            return None
        left -= 1
        if left == 0:
            happen()
            happened.append(True)
        return trace

    traced = sys.gettrace()
    sys.settrace(trace)
    try:
        yield happened
    finally:
        sys.settrace(traced)


def test_a_search_in_another_thread_than_the_loops_is_as_careful(run: Run) -> None:
    async def main() -> None:
        tasks: Tasks = []
        event = asyncio.Event()

        async def wait(events: list[asyncio.Event]) -> None:
            await events[0].wait()

        await spawned(tasks, wait([event]))
        await spawned(tasks, wait_for_own_event())
        stuck = await asyncio.to_thread(lambda: [id(task) in prove(tasks).stuck for task in tasks])
        assert stuck[0] is False
        event.set()
        await tasks[0]
        await end(tasks)

    run(main)


def test_a_search_from_a_task_that_the_blocked_ones_wait_for(run: Run) -> None:
    async def wait(other: list[asyncio.Task[Any]]) -> None:
        await asyncio.wait(other)

    async def main() -> None:
        tasks: Tasks = []
        current = asyncio.current_task()
        assert current is not None
        await spawned(tasks, wait([current]))
        await spawned(tasks, wait_for_own_event())
        proof = prove(tasks)
        assert proof.reason is None
        assert set(proof.stuck) == {id(tasks[1])}
        await end(tasks)

    run(main)
