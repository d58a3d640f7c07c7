"""A task that nobody holds can be cancelled by who asks asyncio for all tasks: then nothing is proven."""

from __future__ import annotations

import asyncio
import functools
import gc
import os
import signal
import sys
import threading
import time
from asyncio import all_tasks as tasks_of_loop
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from conftest import Run
from test_watch import WATCH, deadlock

from taskscope import TaskScope, find_deadlocked
from taskscope._proving import prove_all

pytestmark = pytest.mark.holders_are_looked_for

Plan = Callable[[asyncio.AbstractEventLoop], object]
"""Sees to it that something happens on the loop in a while. What it returns is kept meanwhile."""

WHILE = 8 * WATCH
BY_SIGNAL = pytest.mark.skipif(sys.platform == "win32", reason="a signal that a process sends itself is one of Unix")


def cancel_all() -> None:
    for task in asyncio.all_tasks():
        if task.get_name() == "service":
            task.cancel()


def cancel_all_of(loop: asyncio.AbstractEventLoop) -> None:
    loop.call_soon_threadsafe(cancel_all)


def cancel_all_by_another_name() -> None:
    for task in tasks_of_loop():
        if task.get_name() == "service":
            task.cancel()


async def service() -> str:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        return "bye"
    raise AssertionError


async def hosts_a_service() -> str:
    return await asyncio.create_task(service(), name="service")


class Application:
    def __init__(self, stop: Callable[[], None] = cancel_all) -> None:
        self.on_stop = stop

    def stop(self) -> None:
        self.cancel()

    def stop_as_told(self) -> None:
        self.on_stop()

    def cancel(self) -> None:
        cancel_all()

    async def stop_later(self) -> None:
        await asyncio.sleep(WHILE)
        self.stop()


class Stopper(threading.Thread):
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._loop = loop

    def run(self) -> None:
        time.sleep(WHILE)
        self.cancel()

    def cancel(self) -> None:
        cancel_all_of(self._loop)


class Protocol(asyncio.Protocol):
    def data_received(self, data: bytes) -> None:
        cancel_all()


def a_timer(loop: asyncio.AbstractEventLoop) -> object:
    return loop.call_later(WHILE, cancel_all)


def a_timer_with_a_nested_function(loop: asyncio.AbstractEventLoop) -> object:
    def shutdown() -> None:
        def cancel() -> None:
            cancel_all()

        cancel()

    return loop.call_later(WHILE, shutdown)


def a_timer_with_a_closure(loop: asyncio.AbstractEventLoop) -> object:
    def in_a_while(call: Callable[[], None]) -> Callable[[], None]:
        return lambda: call()

    return loop.call_later(WHILE, in_a_while(cancel_all))


def a_timer_with_a_default(loop: asyncio.AbstractEventLoop) -> object:
    def shutdown(*, how: Callable[[], None] = cancel_all) -> None:
        how()

    return loop.call_later(WHILE, shutdown)


def a_timer_with_a_wrapped_function(loop: asyncio.AbstractEventLoop) -> object:
    @contextmanager
    def shutting_down() -> Iterator[None]:
        yield
        cancel_all()

    def shutdown() -> None:
        with shutting_down():
            pass

    return loop.call_later(WHILE, shutdown)


def a_timer_with_a_method(loop: asyncio.AbstractEventLoop) -> object:
    return loop.call_later(WHILE, Application().stop)


def a_timer_with_an_attribute(loop: asyncio.AbstractEventLoop) -> object:
    return loop.call_later(WHILE, Application().stop_as_told)


def a_timer_with_a_partial(loop: asyncio.AbstractEventLoop) -> object:
    return loop.call_later(WHILE, functools.partial(functools.partial(cancel_all)))


def a_timer_with_an_argument(loop: asyncio.AbstractEventLoop) -> object:
    def call(what: Callable[[], None]) -> None:
        what()

    return loop.call_later(WHILE, call, cancel_all)


def a_timer_with_another_name(loop: asyncio.AbstractEventLoop) -> object:
    return loop.call_later(WHILE, cancel_all_by_another_name)


def a_timer_that_makes_a_task(loop: asyncio.AbstractEventLoop) -> object:
    app = Application()
    return loop.call_later(WHILE, lambda: loop.create_task(app.stop_later()))


def a_future_with_a_callback(loop: asyncio.AbstractEventLoop) -> object:
    future = loop.create_future()
    future.add_done_callback(lambda _: cancel_all())
    return loop.call_later(WHILE, future.set_result, None)


def a_task(loop: asyncio.AbstractEventLoop) -> object:
    async def killer() -> None:
        await asyncio.sleep(WHILE)
        cancel_all()

    return loop.create_task(killer())


def a_task_by_a_coroutine_that_it_awaits(loop: asyncio.AbstractEventLoop) -> object:
    app = Application()

    async def lifetime() -> None:
        await app.stop_later()

    return loop.create_task(lifetime())


def a_callback_of_a_task(loop: asyncio.AbstractEventLoop) -> object:
    task = loop.create_task(asyncio.sleep(WHILE))
    task.add_done_callback(lambda _: cancel_all())
    return task


def a_handler_of_exceptions(loop: asyncio.AbstractEventLoop) -> object:
    def fail() -> None:
        raise ValueError

    loop.set_exception_handler(lambda *_: cancel_all())
    return loop.call_later(WHILE, fail)


def a_signal(loop: asyncio.AbstractEventLoop) -> object:
    loop.add_signal_handler(signal.SIGUSR1, cancel_all)
    timer = threading.Timer(WHILE, os.kill, (os.getpid(), signal.SIGUSR1))
    timer.start()
    return timer


def a_signal_of_pythons_own(loop: asyncio.AbstractEventLoop) -> object:
    def handle(*_: object) -> None:
        cancel_all_of(loop)

    signal.signal(signal.SIGUSR1, handle)
    timer = threading.Timer(WHILE, os.kill, (os.getpid(), signal.SIGUSR1))
    timer.start()
    return timer


def a_reader(loop: asyncio.AbstractEventLoop) -> object:
    reader, writer = os.pipe()

    def read() -> None:
        loop.remove_reader(reader)
        os.close(reader)
        cancel_all()

    def write() -> None:
        os.write(writer, b"x")
        os.close(writer)

    loop.add_reader(reader, read)
    return loop.call_later(WHILE, write)


def a_thread(loop: asyncio.AbstractEventLoop) -> object:
    def stop() -> None:
        time.sleep(WHILE)
        cancel_all_of(loop)

    thread = threading.Thread(target=stop)
    thread.start()
    return thread


def a_timer_thread(loop: asyncio.AbstractEventLoop) -> object:
    timer = threading.Timer(WHILE, loop.call_soon_threadsafe, [cancel_all])
    timer.start()
    return timer


def a_thread_of_a_class(loop: asyncio.AbstractEventLoop) -> object:
    thread = Stopper(loop)
    thread.start()
    return thread


class NamedThread(threading.Thread):
    """One that runs what it is told."""


def a_thread_of_a_class_with_a_target(loop: asyncio.AbstractEventLoop) -> object:
    def stop() -> None:
        time.sleep(WHILE)
        cancel_all_of(loop)

    thread = NamedThread(target=stop)
    thread.start()
    return thread


def a_timer_with_what_super_has(loop: asyncio.AbstractEventLoop) -> object:
    class Inner(Application):
        def cancel(self) -> None:
            super().cancel()

    return loop.call_later(WHILE, Inner().stop)


def a_server(loop: asyncio.AbstractEventLoop) -> object:
    """Whose protocol cancels all when somebody connects and writes."""

    async def serve_and_write() -> None:
        server = await loop.create_server(Protocol, "127.0.0.1", 0)
        await asyncio.sleep(WHILE)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"x")
        await asyncio.sleep(WHILE)
        writer.close()
        server.close()

    return loop.create_task(serve_and_write())


def a_thread_of_an_executor(loop: asyncio.AbstractEventLoop) -> object:
    def stop() -> None:
        time.sleep(WHILE)
        cancel_all_of(loop)

    loop.run_in_executor(None, stop)
    return None


WAKERS: list[Any] = [
    a_timer,
    a_timer_with_a_nested_function,
    a_timer_with_a_closure,
    a_timer_with_a_default,
    a_timer_with_a_wrapped_function,
    a_timer_with_a_method,
    a_timer_with_an_attribute,
    a_timer_with_a_partial,
    a_timer_with_an_argument,
    a_timer_with_another_name,
    a_timer_that_makes_a_task,
    a_future_with_a_callback,
    a_task,
    a_task_by_a_coroutine_that_it_awaits,
    a_callback_of_a_task,
    a_handler_of_exceptions,
    pytest.param(a_signal, marks=BY_SIGNAL),
    pytest.param(a_signal_of_pythons_own, marks=BY_SIGNAL),
    a_reader,
    a_thread,
    a_timer_thread,
    a_thread_of_a_class,
    a_thread_of_a_class_with_a_target,
    a_timer_with_what_super_has,
    a_server,
    a_thread_of_an_executor,
]


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    if sys.platform == "win32":
        yield
        return
    before = signal.getsignal(signal.SIGUSR1)
    yield
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("plan", WAKERS)
def test_a_body_that_is_waited_for_by_name_is_ended_by_who_cancels_all(run: Run, plan: Plan) -> None:
    async def main() -> None:
        async with TaskScope(watch=WATCH, on_leak="ignore"):
            kept = plan(asyncio.get_running_loop())
            assert await hosts_a_service() == "bye"
            del kept

    run(main)


def unrelated() -> None:
    time.monotonic()


class Unrelated:
    def __init__(self, stop: Callable[[], None]) -> None:
        self.on_stop = stop

    def stop(self) -> None:
        unrelated()

    def stop_as_told(self) -> None:
        self.on_stop()

    def cancel_all_tasks(self) -> None:
        cancel_all()

    def kill(self) -> None:
        self.process.kill()  # type: ignore[attr-defined]

    def handle_ctrl_c(self) -> None:
        signal.signal(signal.SIGINT, lambda *_: None)

    async def stop_later(self) -> None:
        await asyncio.sleep(60)
        self.stop()


def timers_of_other_things(loop: asyncio.AbstractEventLoop) -> object:
    app = Unrelated(unrelated)
    methods = [app.stop, app.stop_as_told, app.kill, app.handle_ctrl_c]
    timers = [unrelated, *methods, functools.partial(unrelated), lambda: unrelated()]
    return [loop.call_later(60, call) for call in timers]


def a_task_of_other_things(loop: asyncio.AbstractEventLoop) -> object:
    return loop.create_task(Unrelated(unrelated).stop_later())


def threads_of_other_things(loop: asyncio.AbstractEventLoop) -> object:
    timer = threading.Timer(WHILE, unrelated)
    timer.start()
    return timer


@pytest.mark.parametrize("plan", [timers_of_other_things, a_task_of_other_things, threads_of_other_things])
def test_what_names_something_else_keeps_nobody_from_being_proven_stuck(run: Run, plan: Plan) -> None:
    async def body() -> None:
        kept = plan(asyncio.get_running_loop())
        await hosts_a_service()
        del kept

    async def main() -> None:
        report = (await deadlock(body)).report
        assert report.body is not None and report.body.verdict == "deadlocked"
        (leak,) = (leak for leak in report.leaks if leak.name == "service")
        assert leak.verdict == "deadlocked"

    run(main)


def test_that_the_stuck_task_itself_names_all_tasks_helps_nobody(run: Run) -> None:
    async def body() -> None:
        await asyncio.Event().wait()
        cancel_all()

    async def main() -> None:
        await deadlock(body)

    run(main)


def test_a_timer_that_was_cancelled_does_not_count(run_asyncio: Run) -> None:
    async def body() -> None:
        asyncio.get_running_loop().call_later(60, cancel_all).cancel()
        await asyncio.Event().wait()

    async def main() -> None:
        await deadlock(body)

    run_asyncio(main)


def test_the_report_says_why_nothing_is_proven(run: Run) -> None:
    async def main() -> None:
        asyncio.create_task(service(), name="service")
        await asyncio.sleep(0)
        timer = asyncio.get_running_loop().call_later(60, cancel_all)
        report = find_deadlocked()
        assert report.leaks == ()
        assert "names asyncio.all_tasks" in "".join(report.coverage)
        timer.cancel()
        (leak,) = find_deadlocked().leaks
        assert leak.name == "service"

    run(main)


def test_a_look_at_what_is_alive_holds_nothing_afterwards(run: Run) -> None:
    """Or the next proof would find somebody who could wake the tasks."""

    async def main() -> None:
        timers = timers_of_other_things(asyncio.get_running_loop())
        thread = threads_of_other_things(asyncio.get_running_loop())
        asyncio.create_task(service())
        await asyncio.sleep(0)
        for _ in range(3):
            _, stuck, _ = prove_all([])
            assert len(stuck) == 1
            stuck.clear()
        del timers, thread

    gc.disable()
    try:
        run(main)
    finally:
        gc.enable()


def test_a_host_that_counts_all_tasks_once_its_scope_is_over_does_not_count(run: Run) -> None:
    async def main() -> None:
        async with TaskScope(on_leak="ignore") as scope:
            asyncio.create_task(service(), name="service")
        assert [leak.verdict for leak in scope.report.leaks] == ["deadlocked"]
        assert len(asyncio.all_tasks()) == 1

    run(main)


def send_ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)


def kill_own_process() -> None:
    os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def ctrl_c_is_heard() -> Iterator[None]:
    """What a shell runs in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@BY_SIGNAL
@pytest.mark.usefixtures("ctrl_c_is_heard")
@pytest.mark.parametrize("by_thread", [True, False], ids=["thread", "timer"])
@pytest.mark.parametrize(
    ("send", "arguments"), [(send_ctrl_c, ()), (kill_own_process, ()), (os.kill, (os.getpid(), signal.SIGINT))]
)
def test_a_body_that_waits_for_ctrl_c_is_ended_by_that(
    send: Callable[..., None], arguments: tuple[Any, ...], by_thread: bool
) -> None:
    ended: list[str] = []

    async def main() -> None:
        timer = threading.Timer(WHILE, send, arguments) if by_thread else None
        if timer is None:
            asyncio.get_running_loop().call_later(WHILE, send, *arguments)
        else:
            timer.start()
        try:
            async with TaskScope(watch=WATCH):
                ended.append(await service())
        finally:
            if timer is not None:
                timer.join()

    asyncio.run(main())
    assert ended == ["bye"]
