"""Where a scope looks ahead, as the pytest plugin's do, no grace is spent on what can only end after it."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import Run
from parity import ASYNCIO, THERE, TRIO, Column, Library
from plugin.project import run_pytest

from taskscope import Report, TaskScope
from taskscope._policy import DEFAULT_POLICY

LONG = 60.0
SHORT = 0.1
FAR = 10_000.0
NEAR = 0.02

Body = Callable[[Library], Awaitable[None]]


@pytest.fixture(params=THERE, ids=lambda column: column.name)
def column(request: pytest.FixtureRequest) -> Column:
    column: Column = request.param
    return column


def looking_ahead(grace: float) -> TaskScope:
    policy = DEFAULT_POLICY._replace(grace=grace, on_leak="ignore", looks_ahead=True)
    return TaskScope._of(policy, "mine", (looking_ahead.__code__, -1))


async def outlived(library: Library, scope: TaskScope, *bodies: Body) -> Report:
    """Runs a scope in which some tasks are spawned that it does not wait for."""

    async def body(of_task: Body) -> None:
        await of_task(library)

    if library is ASYNCIO:
        async with scope:
            for of_task in bodies:
                asyncio.create_task(body(of_task))
            await library.settle()
        return scope.report
    async with library.group() as group:
        async with scope:
            for of_task in bodies:
                library.spawner(group)(body, of_task)
            await library.settle()
        group.cancel_scope.cancel()
    return scope.report


# What cannot end in time


async def sleeps(library: Library) -> None:
    await library.sleep(FAR)


async def sleeps_in_a_loop(library: Library) -> None:
    while True:
        await library.sleep(FAR)


async def waits_for_nobody_with_a_timeout(library: Library) -> None:
    async with library.move_on_after(FAR):
        await library.event().wait()


async def waits_for_one_that_sleeps(library: Library) -> None:
    async with library.group() as group:
        library.spawner(group)(library.sleep, FAR)


CANNOT_END: tuple[Body, ...] = (
    sleeps,
    sleeps_in_a_loop,
    waits_for_nobody_with_a_timeout,
    waits_for_one_that_sleeps,
)


@pytest.mark.parametrize("body", CANNOT_END)
def test_no_grace_is_spent_on_what_ends_after_it(column: Column, body: Body) -> None:
    """Not so where that is not to be seen: uvloop has its timers in C, and Trio can cancel whatever is in a nursery."""
    is_seen = column.library is not TRIO and column.name not in ("uvloop", "AnyIO/Trio")
    grace = LONG if is_seen else SHORT
    report: Report = column.run(lambda library: outlived(library, looking_ahead(grace), body, sleeps))
    assert len(report.leaks) == report.spawned >= 2 and not report.late
    assert report.settled_after < LONG / 2 if is_seen else report.settled_after >= 0.9 * SHORT
    assert {leak.outcome for leak in report.leaks} == {"cancelled"}
    assert "deadlocked" not in {leak.verdict for leak in report.leaks}, "it would have ended at last"


def test_unless_it_is_not_told_to(column: Column) -> None:
    scope = TaskScope(grace=SHORT, on_leak="ignore")
    report: Report = column.run(lambda library: outlived(library, scope, sleeps))
    assert len(report.leaks) == 1 and report.settled_after >= 0.9 * SHORT


# What can


async def sleeps_a_little(library: Library) -> None:
    await library.sleep(NEAR)


async def is_woken_by_another(library: Library) -> None:
    event = library.event()

    async def wake() -> None:
        await library.sleep(NEAR)
        event.set()

    async with library.group() as group:
        library.spawner(group)(wake)
        async with library.move_on_after(FAR):
            await event.wait()


async def waits_for_a_thread(library: Library) -> None:
    async with library.move_on_after(FAR):
        await library.in_thread(time.sleep, NEAR)


@pytest.mark.parametrize("body", [sleeps_a_little, is_woken_by_another, waits_for_a_thread])
def test_what_can_end_in_time_has_it(column: Column, body: Body) -> None:
    report: Report = column.run(lambda library: outlived(library, looking_ahead(LONG), body))
    assert report.ok and len(report.late) >= 1
    assert report.settled_after < LONG / 2


def test_nor_is_anybody_cut_short_who_is_not_alone_in_that(column: Column) -> None:
    report: Report = column.run(lambda library: outlived(library, looking_ahead(2 * NEAR), sleeps, sleeps_a_little))
    assert len(report.leaks) == len(report.late) == 1


@pytest.mark.parametrize("what", ["event", "task"])
def test_somebody_outside_can_wake_or_end_it(column: Column, what: str) -> None:
    """Whoever has the event, or the task, could use it any time."""

    async def main(library: Library) -> Report:
        event = library.event()
        held: list[Any] = []

        async def wait(library: Library) -> None:
            if what == "task":
                held.append(asyncio.current_task())
                await sleeps(library)
            async with library.move_on_after(FAR):
                await event.wait()

        async def outside() -> None:
            await started.wait()
            await library.sleep(NEAR)
            if what == "event":
                event.set()
            elif library is ASYNCIO:
                held[0].cancel()
            else:
                held[0].cancel_scope.cancel()

        async def in_scope(library: Library) -> None:
            if what == "event" or library is ASYNCIO:
                await wait(library)
                return
            async with library.group() as group:
                held.append(group)
                await sleeps(library)

        started = library.event()
        async with library.group() as group:
            library.spawner(group)(outside)
            started.set()
            return await outlived(library, looking_ahead(LONG), in_scope)

    report: Report = column.run(main)
    assert report.ok and len(report.late) == 1
    assert report.settled_after < LONG / 2


def test_what_anybody_can_reach_is_waited_for(column: Column, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(library: Library) -> Report:
        event = library.event()
        monkeypatch.setattr(sys, "_of_a_program", event, raising=False)

        async def wait(library: Library) -> None:
            async with library.move_on_after(FAR):
                await event.wait()

        return await outlived(library, looking_ahead(SHORT), wait)

    report: Report = column.run(main)
    assert len(report.leaks) == 1 and report.settled_after >= 0.9 * SHORT


# What cannot be said beside it


def test_who_is_stuck_for_good_is_still_told_to_be(run_asyncio: Run) -> None:
    async def waits_for_nobody(library: Library) -> None:
        await library.event().wait()

    report = run_asyncio(lambda: outlived(ASYNCIO, looking_ahead(LONG), sleeps, waits_for_nobody))
    assert report.settled_after < LONG / 2
    assert sorted(str(leak.verdict) for leak in report.leaks) == ["deadlocked", "sleeping"]


def test_what_was_foreseen_of_an_earlier_wait_is_forgotten(run_asyncio: Run) -> None:
    """A task that has left its timeout and is stuck since is not one that a timer will wake."""

    async def main() -> Report:
        event = asyncio.Event()

        async def wait(library: Library) -> None:
            async with asyncio.timeout(FAR):
                await event.wait()
            await asyncio.Event().wait()

        async def keeps_the_grace(library: Library) -> None:
            await asyncio.sleep(SHORT)
            event.set()
            await asyncio.sleep(SHORT)

        return await outlived(ASYNCIO, looking_ahead(3 * SHORT), wait, keeps_the_grace)

    report = run_asyncio(main)
    assert [leak.verdict for leak in report.leaks] == ["deadlocked"] and len(report.late) == 1


# Who can end it without holding it


def test_a_group_is_cancelled_by_one_of_its_tasks(run_asyncio: Run) -> None:
    async def main() -> Report:
        groups: list[asyncio.TaskGroup] = []
        go = asyncio.Event()

        async def fail() -> None:
            await go.wait()
            await asyncio.sleep(NEAR)
            raise ValueError

        async def serve() -> None:
            with suppress(BaseExceptionGroup):
                async with asyncio.TaskGroup() as group:
                    groups.append(group)
                    group.create_task(fail())

        service = asyncio.create_task(serve())
        await asyncio.sleep(0)
        async with looking_ahead(LONG) as scope:
            groups.pop().create_task(asyncio.sleep(FAR))
            await asyncio.sleep(0)
            go.set()
        await service
        return scope.report

    report = run_asyncio(main)
    assert report.ok and len(report.late) == 1 and report.settled_after < LONG / 2


def test_somebody_calls_timers_before_they_are_due(run_asyncio: Run) -> None:
    """As the tests of Home Assistant do, to have time pass."""

    async def main() -> Report:
        loop: Any = asyncio.get_running_loop()

        async def fire() -> None:
            await asyncio.sleep(NEAR)
            for timer in list(loop._scheduled):
                if timer.when() > loop.time() + FAR / 2:
                    timer._run()
                    timer.cancel()

        firing = asyncio.create_task(fire())
        report = await outlived(ASYNCIO, looking_ahead(LONG), sleeps)
        await firing
        return report

    report = run_asyncio(main)
    assert report.ok and len(report.late) == 1 and report.settled_after < LONG / 2


# Clocks that cannot be relied upon


class ClockOfItsOwn(asyncio.SelectorEventLoop):
    def time(self) -> float:
        return super().time()


def test_on_a_clock_that_may_jump_nothing_is_foreseen() -> None:
    with asyncio.Runner(loop_factory=ClockOfItsOwn) as runner:
        report = runner.run(outlived(ASYNCIO, looking_ahead(SHORT), sleeps))
    assert len(report.leaks) == 1 and report.settled_after >= 0.9 * SHORT


@pytest.mark.parametrize("what", ["time.monotonic", "BaseEventLoop.time", "a clock that stands still"])
def test_nor_on_one_that_a_test_has_in_its_hands(run_asyncio: Run, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    ahead = [0.0]
    real, real_of_loop = time.monotonic, asyncio.BaseEventLoop.time
    frozen = real()

    async def main() -> Report:
        async with looking_ahead(LONG) as scope:
            asyncio.create_task(asyncio.sleep(FAR))
            await asyncio.sleep(0)
            if what == "time.monotonic":
                monkeypatch.setattr(time, "monotonic", lambda: real() + ahead[0])
            elif what == "BaseEventLoop.time":
                monkeypatch.setattr(asyncio.BaseEventLoop, "time", lambda loop: real_of_loop(loop) + ahead[0])
            else:
                monkeypatch.setattr(time, "monotonic", lambda: frozen + ahead[0])
            threading.Timer(NEAR, lambda: ahead.__setitem__(0, 2 * FAR)).start()
        return scope.report

    report = run_asyncio(main)
    assert report.ok and len(report.late) == 1


# The plugin


def test_a_suite_is_not_held_up_by_what_sleeps(tmp_path: Path) -> None:
    files = {
        "test_leaks.py": """
            import asyncio
            import pytest

            async def forever():
                while True:
                    await asyncio.sleep(25)

            @pytest.mark.parametrize("number", range(3))
            def test_leak(number):
                async def main():
                    asyncio.create_task(forever())
                    await asyncio.sleep(0)
                asyncio.run(main())

            @pytest.fixture
            def loop():
                loop = asyncio.new_event_loop()
                yield loop
                loop.close()

            def test_leak_on_a_loop_of_its_own(loop):
                async def main():
                    asyncio.create_task(forever())
                    await asyncio.sleep(0)
                loop.run_until_complete(main())
        """,
    }
    run = run_pytest(tmp_path, files, ini="taskscope = true\ntaskscope_grace = 20")
    assert set(run.outcomes().values()) == {"failed"} and len(run.outcomes()) == 4, run.output
    assert run.report is not None
    assert all(found["report"]["settled_after"] < 10 for found in run.report["findings"])
