"""Where a scope looks ahead, as the pytest plugin's do, no grace is spent on what can only end after it."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from parity import ASYNCIO, COLUMNS, TRIO, Column, Library
from plugin.project import run_pytest

from taskscope import Report, TaskScope
from taskscope._policy import DEFAULT_POLICY, Policy

LONG = 60.0
SHORT = 0.1
FAR = 10_000.0
NEAR = 0.02

Body = Callable[[Library], Awaitable[None]]


def is_there(column: Column) -> bool:
    if column.name == "eager":
        return sys.version_info >= (3, 12)
    return column.name != "uvloop" or importlib.util.find_spec("uvloop") is not None


@pytest.fixture(params=filter(is_there, COLUMNS), ids=lambda column: column.name)
def column(request: pytest.FixtureRequest) -> Column:
    column: Column = request.param
    return column


def looking_ahead(grace: float, policy: Policy = DEFAULT_POLICY) -> TaskScope:
    policy = policy._replace(grace=grace, on_leak="ignore", looks_ahead=True)
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
    if column.name == "uvloop":
        pytest.skip("its timers are in C: nothing is known of them, and the grace is waited out")
    report: Report = column.run(lambda library: outlived(library, looking_ahead(LONG), body, sleeps))
    assert len(report.leaks) == report.spawned >= 2 and not report.late
    assert report.settled_after < LONG / 2
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
                held.append(_current(library))
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


def _current(library: Library) -> Any:
    return asyncio.current_task()


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


# Clocks that cannot be relied upon


class ClockOfItsOwn(asyncio.SelectorEventLoop):
    def time(self) -> float:
        return super().time()


def test_on_a_clock_that_may_jump_nothing_is_foreseen() -> None:
    with asyncio.Runner(loop_factory=ClockOfItsOwn) as runner:
        report = runner.run(outlived(ASYNCIO, looking_ahead(SHORT), sleeps))
    assert len(report.leaks) == 1 and report.settled_after >= 0.9 * SHORT


def test_nor_where_trios_clock_jumps() -> None:
    import trio.testing

    clock = trio.testing.MockClock(autojump_threshold=0)
    report = trio.run(outlived, TRIO, looking_ahead(LONG), sleeps, clock=clock)
    assert len(report.leaks) == 1 and report.settled_after == pytest.approx(LONG)


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
