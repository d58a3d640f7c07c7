"""`find_deadlocked`: on demand, all tasks of a loop that are proven stuck, in a scope or not, and no other."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import Run

import taskscope
from taskscope import Report, TaskScope, _finding, find_deadlocked

Made = Callable[[], object]


@pytest.fixture(autouse=True)
def the_collector_waits_until_it_is_called() -> Iterator[None]:
    """Or it may destroy a stuck task before anybody looks for it."""
    gc.disable()
    yield
    gc.enable()


async def put(queue: asyncio.Queue[int]) -> None:
    await queue.put(1)


async def turns() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


def fill_a_queue_that_nobody_reads() -> None:
    queue: asyncio.Queue[int] = asyncio.Queue(1)
    queue.put_nowait(1)
    for number in range(3):
        asyncio.create_task(put(queue), name=f"producer {number}")


def names_in(report: Report) -> list[str]:
    return sorted(record.name for record in report.leaks)


async def end_all() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    if others:
        await asyncio.wait(others)


PRODUCERS = ["producer 0", "producer 1", "producer 2"]


def test_tasks_outside_any_scope_are_found_with_what_they_wait_for(run: Run) -> None:
    async def main() -> None:
        fill_a_queue_that_nobody_reads()
        await turns()
        report = find_deadlocked()
        assert (report.scope, report.phase, report.ok, report.coverage) == ("event loop", "loop", False, ())
        assert names_in(report) == PRODUCERS
        for record in report.leaks:
            assert record.verdict == "deadlocked"
            assert record.wait is not None
            assert (record.wait.primitive, record.wait.detail) == ("Queue.put", "Queue maxsize=1, full")
            assert set(record.stuck_with) <= set(PRODUCERS)
            assert record.stack[-1].function == "Queue.put"
        assert report.spawned == len(asyncio.all_tasks())
        assert "it can never end: it waits in Queue.put (Queue maxsize=1, full)" in str(report)
        await end_all()

    run(main)


def a_queue_that_is_read() -> object:
    queue: asyncio.Queue[int] = asyncio.Queue(1)
    queue.put_nowait(1)
    asyncio.create_task(put(queue))
    return asyncio.get_running_loop().call_later(60, queue.get_nowait)


def a_task_that_is_held() -> object:
    return asyncio.create_task(asyncio.Event().wait())


def an_event_that_is_held() -> object:
    event = asyncio.Event()
    asyncio.create_task(event.wait())
    return event


def one_who_sleeps() -> object:
    asyncio.create_task(asyncio.sleep(60))
    return None


def nobody() -> object:
    return None


@pytest.mark.parametrize(
    "make", [a_queue_that_is_read, a_task_that_is_held, an_event_that_is_held, one_who_sleeps, nobody]
)
def test_tasks_that_could_still_be_woken_are_not(run: Run, make: Made) -> None:
    async def main() -> None:
        held = make()
        await turns()
        report = find_deadlocked()
        assert report.ok and report.leaks == ()
        del held
        await end_all()

    run(main)


def test_a_task_in_a_scope_is_found_with_its_spawn_site_while_the_scope_is_open(run: Run) -> None:
    async def main() -> None:
        async with TaskScope(on_leak="ignore", grace=0) as scope:
            fill_a_queue_that_nobody_reads()
            await turns()
            report = find_deadlocked()
            assert names_in(report) == PRODUCERS
            sites = {record.spawn_site.function for record in report.leaks if record.spawn_site is not None}
            assert sites == {"fill_a_queue_that_nobody_reads"}
        assert sorted(record.name for record in scope.report.leaks) == PRODUCERS

    run(main)


def test_what_was_found_is_found_again_until_it_ends(run: Run) -> None:
    async def main() -> None:
        fill_a_queue_that_nobody_reads()
        await turns()
        for _ in range(3):
            assert names_in(find_deadlocked()) == PRODUCERS
            gc.collect()
            await turns()
        await end_all()
        assert find_deadlocked().ok

    run(main)


def test_the_collector_does_not_wake_by_one_stuck_task_another(run: Run) -> None:
    woken: list[str] = []

    async def wake_at_the_end(event: asyncio.Event) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            event.set()

    async def wait_for(event: asyncio.Event) -> None:
        await event.wait()
        woken.append("went on")

    def spawn() -> None:
        event = asyncio.Event()
        asyncio.create_task(wake_at_the_end(event), name="wakes")
        asyncio.create_task(wait_for(event), name="is woken")

    async def main() -> None:
        spawn()
        await turns()
        assert names_in(find_deadlocked()) == ["is woken", "wakes"]
        gc.collect()
        await turns()
        assert woken == []
        await end_all()

    run(main)


def test_nothing_of_ours_keeps_a_loop_or_changes_its_factory(run_asyncio: Run) -> None:
    loops: list[weakref.ref[asyncio.AbstractEventLoop]] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loops.append(weakref.ref(loop))
        before = loop.get_task_factory()
        fill_a_queue_that_nobody_reads()
        await turns()
        assert not find_deadlocked().ok
        assert loop.get_task_factory() is before

    run_asyncio(main)
    taskscope._backends._factory._last = None
    gc.collect()
    assert loops[0]() is None


def test_a_report_of_very_many_says_how_many_it_leaves_out(run_asyncio: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        fill_a_queue_that_nobody_reads()
        await turns()
        monkeypatch.setattr(_finding, "DESCRIBED_LIMIT", 2)
        report = find_deadlocked()
        assert (len(report.leaks), report.leaks_omitted) == (2, 1)
        await end_all()

    run_asyncio(main)


def test_where_nothing_can_be_proven_the_report_says_why(run_asyncio: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from taskscope._diagnosis import reachability

    async def main() -> None:
        fill_a_queue_that_nobody_reads()
        await turns()
        monkeypatch.setattr(reachability, "FREE_THREADED", True)
        report = find_deadlocked()
        assert report.ok
        assert report.coverage == ("nothing could be proven: reference counts are not exact on this build of Python",)
        await end_all()

    run_asyncio(main)


@pytest.fixture
def loop_in_a_thread() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    asyncio.run_coroutine_threadsafe(end_all(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


async def hang() -> None:
    fill_a_queue_that_nobody_reads()
    await turns()


def test_the_loop_of_another_thread_is_asked_there(loop_in_a_thread: asyncio.AbstractEventLoop) -> None:
    asyncio.run_coroutine_threadsafe(hang(), loop_in_a_thread).result()
    assert names_in(find_deadlocked(loop_in_a_thread)) == PRODUCERS


def test_a_loop_is_asked_from_another_loop(loop_in_a_thread: asyncio.AbstractEventLoop, run_asyncio: Run) -> None:
    async def main() -> None:
        assert find_deadlocked().ok
        assert names_in(find_deadlocked(loop_in_a_thread)) == PRODUCERS

    asyncio.run_coroutine_threadsafe(hang(), loop_in_a_thread).result()
    run_asyncio(main)


def test_what_goes_wrong_in_the_other_thread_is_raised_here(
    loop_in_a_thread: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> Report:
        raise ZeroDivisionError

    monkeypatch.setattr(_finding, "_look", fail)
    with pytest.raises(ZeroDivisionError):
        find_deadlocked(loop_in_a_thread)


def test_a_loop_that_does_not_answer_is_given_up(
    loop_in_a_thread: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_finding, "SECONDS", 0.02)
    over = threading.Event()
    loop_in_a_thread.call_soon_threadsafe(over.wait)
    try:
        with pytest.raises(TimeoutError, match=r"has not answered within 0\.02 seconds"):
            find_deadlocked(loop_in_a_thread)
    finally:
        over.set()


def test_a_loop_that_cannot_be_asked_is_refused_by_name() -> None:
    loop = asyncio.new_event_loop()
    with pytest.raises(RuntimeError, match=r"loop=.*must be running"):
        find_deadlocked(loop)
    loop.close()
    with pytest.raises(RuntimeError, match=r"loop=.*must be running"):
        find_deadlocked(loop)
    with pytest.raises(RuntimeError, match="no running event loop"):
        find_deadlocked()
    anything: Any = 1
    with pytest.raises(TypeError, match="loop=1: must be None or an event loop"):
        find_deadlocked(anything)


def test_switched_off_it_looks_at_nothing(run_asyncio: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKSCOPE", "off")

    async def main() -> None:
        fill_a_queue_that_nobody_reads()
        await turns()
        report = find_deadlocked()
        assert report.ok and report.coverage == ("TASKSCOPE=off: nothing was looked at",)
        await end_all()

    run_asyncio(main)
