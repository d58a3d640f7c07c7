"""Who was there before the body of a scope and can end it: then it is not called stuck."""

from __future__ import annotations

import asyncio
import functools
import gc
import signal
import sys
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from conftest import Run
from test_watch import WATCH, Body, deadlock, hang, until_its_time_is_up

from taskscope import DeadlockError, ScopeTimeoutError, TaskScope
from taskscope._diagnosis import strangers

pytestmark = pytest.mark.holders_are_looked_for

LATER = 60

kept: Any = SimpleNamespace()
registry: dict[str, Any] = {}


@pytest.fixture(autouse=True)
def nothing_is_kept() -> Iterator[None]:
    yield
    for thread in getattr(kept, "threads", ()):
        thread.cancel()
    vars(kept).clear()
    registry.clear()


def this_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


async def cancel_later(task: asyncio.Task[Any]) -> None:
    await asyncio.sleep(LATER)
    task.cancel()


# Each is called by the task that will run the body. What it returns is kept there until the body has ended.
def a_timer() -> object:
    asyncio.get_running_loop().call_later(LATER, this_task().cancel)
    return None


def a_timer_of_a_function() -> object:
    task = this_task()
    asyncio.get_running_loop().call_later(LATER, lambda: task.cancel())
    return None


def a_timer_of_partials() -> object:
    call = functools.partial(functools.partial(asyncio.Task.cancel, this_task()), msg="too late")
    asyncio.get_running_loop().call_later(LATER, call)
    return None


def a_timer_with_a_list() -> object:
    asyncio.get_running_loop().call_later(LATER, lambda tasks: [task.cancel() for task in tasks], [this_task()])
    return None


def a_timer_that_is_kept() -> object:
    return asyncio.get_running_loop().call_later(LATER, this_task().cancel)


def a_task_that_has_not_begun() -> object:
    return asyncio.create_task(cancel_later(this_task()))


def a_task_that_is_kept_elsewhere() -> object:
    kept.dog = asyncio.create_task(cancel_later(this_task()))
    return None


def a_thread() -> object:
    thread = threading.Timer(LATER, asyncio.get_running_loop().call_soon_threadsafe, [this_task().cancel])
    thread.start()
    kept.threads = [thread]
    return None


def an_attribute() -> object:
    kept.task = this_task()
    return None


def a_registry() -> object:
    registry["task"] = this_task()
    return None


def a_registry_by_task() -> object:
    kept.deadlines = {this_task(): LATER}
    return None


def a_weak_set() -> object:
    kept.tasks = weakref.WeakSet([this_task()])
    return None


def a_weak_reference_with_a_callback() -> object:
    kept.reference = weakref.ref(this_task(), lambda _: None)
    return None


def an_attribute_of_another_task() -> object:
    other: Any = asyncio.create_task(hang())
    other.victim = this_task()
    return other


def what_is_called_when_another_task_ends() -> object:
    other = asyncio.create_task(hang())
    other.add_done_callback(functools.partial(asyncio.Task.cancel, this_task()))
    return other


def an_attribute_of_an_object_of_its_own() -> object:
    return SimpleNamespace(task=this_task())


def a_global_variable() -> object:
    globals()["task_of_all"] = this_task()
    return None


def a_future() -> object:
    future: asyncio.Future[asyncio.Task[Any]] = asyncio.get_running_loop().create_future()
    future.set_result(this_task())
    return future


def a_generator() -> object:
    def keeping(task: asyncio.Task[Any]) -> Iterator[None]:
        yield
        task.cancel()

    generator = keeping(this_task())
    next(generator)
    kept.generator = generator
    return None


BEFORE = [
    a_timer,
    a_timer_of_a_function,
    a_timer_of_partials,
    a_timer_with_a_list,
    a_timer_that_is_kept,
    a_task_that_has_not_begun,
    a_task_that_is_kept_elsewhere,
    a_thread,
    an_attribute,
    a_registry,
    a_registry_by_task,
    a_weak_set,
    a_weak_reference_with_a_callback,
    an_attribute_of_another_task,
    what_is_called_when_another_task_ends,
    an_attribute_of_an_object_of_its_own,
    a_global_variable,
    a_future,
    a_generator,
]


async def in_this_task(body: Body) -> None:
    await body()


async def in_a_task_that_is_awaited(body: Body) -> None:
    await asyncio.create_task(body())


async def in_a_group(body: Body) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(body())


async def beside_others_in_a_group(body: Body) -> None:
    async with asyncio.TaskGroup() as group:
        others = [group.create_task(hang()) for _ in range(2)]
        await group.create_task(body())
        for other in others:
            other.cancel()


async def beside_others_in_a_group_of_anyio(body: Body) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(hang)
        async with anyio.create_task_group() as inner:
            inner.start_soon(body)
        group.cancel_scope.cancel()


async def in_a_group_of_anyio(body: Body) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(body)


async def gathered(body: Body) -> None:
    await asyncio.gather(body(), body())


async def waited_for(body: Body) -> None:
    done, _ = await asyncio.wait([asyncio.create_task(body())])
    await done.pop()


async def one_by_one(body: Body) -> None:
    tasks = [asyncio.create_task(body())]
    for task in tasks:
        await task


async def in_groups(body: Body) -> None:
    async with AsyncExitStack() as stack:
        outer = await stack.enter_async_context(asyncio.TaskGroup())
        outer.create_task(in_a_group(body))


# In each of these nobody has the body's task but who waits for it to end.
HOW: list[Callable[[Body], Coroutine[Any, Any, None]]] = [
    in_this_task,
    in_a_task_that_is_awaited,
    in_a_group,
    in_a_group_of_anyio,
    beside_others_in_a_group,
    beside_others_in_a_group_of_anyio,
    gathered,
    waited_for,
    one_by_one,
    in_groups,
]


async def it_is_not_proven() -> None:
    await until_its_time_is_up(hang)


async def it_is_proven_stuck() -> None:
    await deadlock(hang)


@pytest.mark.parametrize("before", BEFORE)
def test_who_has_the_task_of_the_body_can_end_it(run: Run, before: Callable[[], object]) -> None:
    async def main() -> None:
        held = before()
        await asyncio.sleep(0)
        await it_is_not_proven()
        del held

    try:
        run(main)
    finally:
        globals().pop("task_of_all", None)


@pytest.mark.parametrize("how", HOW[1:])
@pytest.mark.parametrize("before", [a_timer, a_task_that_is_kept_elsewhere, an_attribute, a_thread, a_weak_set])
def test_so_can_who_has_a_task_that_waits_for_it(
    run_asyncio: Run, before: Callable[[], object], how: Callable[[Body], Awaitable[None]]
) -> None:
    async def main() -> None:
        held = before()
        await asyncio.sleep(0)
        await how(it_is_not_proven)
        del held

    run_asyncio(main)


@pytest.mark.parametrize("how", HOW)
def test_where_nobody_else_has_any_of_them_it_is_proven_stuck(
    run_asyncio: Run, how: Callable[[Body], Awaitable[None]]
) -> None:
    async def main() -> None:
        await how(it_is_proven_stuck)

    run_asyncio(main)


async def asyncio_timeout(body: Body) -> None:
    async with asyncio.timeout(LATER):
        await in_a_group(body)


async def a_cancel_scope_with_a_deadline(body: Body) -> None:
    with anyio.fail_after(LATER):
        await in_a_group_of_anyio(body)


async def a_wait_that_ends(body: Body) -> None:
    task = asyncio.create_task(body())
    await asyncio.wait([task], timeout=LATER)
    task.cancel()


async def wait_for(body: Body) -> None:
    await asyncio.wait_for(body(), LATER)


async def a_task_that_does_something_else(body: Body) -> None:
    task = asyncio.create_task(body())
    await asyncio.sleep(50 * WATCH)
    task.cancel()
    await task


async def a_group_that_is_still_open(body: Body) -> None:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(body())
        await asyncio.sleep(50 * WATCH)
        task.cancel()


async def a_group_of_anyio_that_is_still_open(body: Body) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(body)
        await anyio.sleep(50 * WATCH)
        group.cancel_scope.cancel()


async def a_group_round_one_at_whose_end_is_waited(body: Body) -> None:
    async with anyio.create_task_group() as outer:
        outer.start_soon(body)
        async with anyio.create_task_group() as inner:
            inner.start_soon(asyncio.sleep, 50 * WATCH)
        outer.cancel_scope.cancel()


async def a_group_that_another_task_has(body: Body) -> None:
    async def spoil(group: asyncio.TaskGroup) -> None:
        await asyncio.sleep(LATER)
        group.create_task(fail())

    async def fail() -> None:
        raise ValueError

    async with asyncio.TaskGroup() as group:
        spoiler = asyncio.create_task(spoil(group))
        group.create_task(body())
    spoiler.cancel()


async def a_group_of_a_class_of_somebody(body: Body) -> None:
    class Group(asyncio.TaskGroup):
        def stop(self) -> None:
            for task in self._tasks:  # type: ignore[attr-defined]
                task.cancel()

    async with Group() as group:
        asyncio.get_running_loop().call_later(50 * WATCH, group.stop)
        group.create_task(body())


async def a_wait_for_the_first(body: Body) -> None:
    tasks = [asyncio.create_task(body()), asyncio.create_task(asyncio.sleep(50 * WATCH))]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    await tasks[0]


async def a_loop_that_is_left_at_the_first(body: Body) -> None:
    tasks = [asyncio.create_task(body()), asyncio.create_task(asyncio.sleep(50 * WATCH))]
    for first in asyncio.as_completed(tasks):
        await first
        break
    await tasks[0]


@pytest.mark.parametrize(
    "how",
    [
        asyncio_timeout,
        a_cancel_scope_with_a_deadline,
        a_wait_that_ends,
        wait_for,
        a_task_that_does_something_else,
        a_group_that_is_still_open,
        a_group_of_anyio_that_is_still_open,
        a_group_round_one_at_whose_end_is_waited,
        a_group_that_another_task_has,
        a_group_of_a_class_of_somebody,
        a_wait_for_the_first,
        a_loop_that_is_left_at_the_first,
    ],
)
def test_whoever_waits_for_it_no_longer_than_so_long_can_end_it(
    run_asyncio: Run, how: Callable[[Body], Awaitable[None]]
) -> None:
    async def main() -> None:
        await how(it_is_not_proven)

    run_asyncio(main)


def test_a_timeout_that_never_comes_ends_nothing(run_asyncio: Run) -> None:
    async def main() -> None:
        async with asyncio.timeout(None):
            await it_is_proven_stuck()

    run_asyncio(main)


def cancelling(task: asyncio.Task[Any]) -> Callable[..., object]:
    return lambda *_: task.cancel()


@pytest.mark.skipif(sys.platform == "win32", reason="alarms are one of Unix")
@pytest.mark.parametrize("is_kept", [False, True], ids=["known to nobody else", "kept"])
def test_a_signal_can_end_it(run_asyncio: Run, is_kept: bool) -> None:
    async def main() -> None:
        kept.before = signal.signal(signal.SIGALRM, cancelling(this_task()))
        kept.handlers = [signal.getsignal(signal.SIGALRM)] if is_kept else []
        await it_is_not_proven()

    try:
        run_asyncio(main)
    finally:
        signal.signal(signal.SIGALRM, kept.before)


@pytest.mark.skipif(sys.version_info < (3, 13), reason="a thread does not show its variables before that")
@pytest.mark.parametrize("hold", [lambda task: task, lambda task: [task], lambda task: task.cancel], ids=str)
def test_a_function_that_runs_in_another_thread_can_end_it(run_asyncio: Run, hold: Callable[[Any], object]) -> None:
    go_on = threading.Event()

    def keep(tasks: list[asyncio.Task[Any]]) -> None:
        held = hold(tasks.pop())
        go_on.wait()
        del held

    async def main() -> None:
        tasks = [this_task()]
        thread = threading.Thread(target=keep, args=[tasks])
        thread.start()
        try:
            while tasks:
                await asyncio.sleep(0)
            await it_is_not_proven()
        finally:
            go_on.set()
            thread.join()

    run_asyncio(main)


def test_what_is_frozen_may_hold_it(run_asyncio: Run) -> None:
    async def main() -> None:
        gc.freeze()
        try:
            await it_is_not_proven()
        finally:
            gc.unfreeze()

    run_asyncio(main)


def test_who_is_held_by_a_lot_is_not_looked_into(run_asyncio: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strangers, "HOLDERS", 0)

    async def main() -> None:
        await it_is_not_proven()

    run_asyncio(main)


def test_who_looks_leaves_nothing_that_holds_the_task(run_asyncio: Run) -> None:
    async def main() -> None:
        task = this_task()
        counts: list[int] = []
        for _ in range(2):
            timer = asyncio.get_running_loop().call_later(LATER, task.cancel)
            await it_is_not_proven()
            timer.cancel()
            gc.collect()
            counts.append(sys.getrefcount(task))
        assert counts[0] == counts[1]

    run_asyncio(main)


def test_a_body_that_hangs_with_many_others_is_proven_stuck(run_asyncio: Run) -> None:
    async def main() -> None:
        async def body() -> None:
            event = asyncio.Event()
            for _ in range(3 * strangers.HOLDERS):
                asyncio.create_task(event.wait(), name="of the body")
            await event.wait()

        report = (await deadlock(body)).report
        assert report.spawned == 3 * strangers.HOLDERS

    run_asyncio(main)


def test_a_body_that_many_wait_for_is_not(run_asyncio: Run) -> None:
    async def main() -> None:
        task = asyncio.create_task(it_is_not_proven())

        async def waits() -> None:
            await asyncio.shield(task)

        async with asyncio.TaskGroup() as group:
            for _ in range(2 * strangers.HOLDERS):
                group.create_task(waits())

    run_asyncio(main)


def test_a_scope_inside_with_a_timeout_or_a_watch_of_its_own_ends_it(run: Run) -> None:
    async def main() -> None:
        async with TaskScope(watch=WATCH, timeout=60):
            with pytest.raises(ScopeTimeoutError):
                async with TaskScope(timeout=10 * WATCH):
                    await hang()
            with pytest.raises(DeadlockError):
                async with TaskScope(watch=3 * WATCH):
                    await hang()

    run(main)


def test_a_task_whose_own_scope_ends_it_is_not_stuck(run_asyncio: Run) -> None:
    async def has_its_time() -> None:
        with pytest.raises(ScopeTimeoutError):
            async with TaskScope(timeout=10 * WATCH):
                await hang()

    async def main() -> None:
        async with TaskScope(grace=10, watch=WATCH) as scope:
            task = asyncio.create_task(has_its_time())
            await task
            asyncio.create_task(has_its_time())
        assert scope.report is not None and scope.report.ok

    run_asyncio(main)


def test_a_scope_round_it_with_a_timeout_does_not_wait_for_that(run: Run) -> None:
    async def main() -> None:
        async with TaskScope(timeout=60):
            await deadlock(hang)

    run(main)
