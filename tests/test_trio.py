"""The scope on Trio: what it finds, whom it cancels, and what it leaves alone."""

from __future__ import annotations

import contextlib
import contextvars
import gc
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import pytest
import trio
import trio.testing

import taskscope
from taskscope import Report, ScopeTimeoutError, TaskLeakError, TaskRecord, TaskScope, TaskScopeError, scoped

T = TypeVar("T")
Main = Callable[[], Awaitable[T]]


async def forever() -> None:
    await trio.sleep_forever()


async def settle() -> None:
    await trio.testing.wait_all_tasks_blocked()


def names(records: tuple[TaskRecord, ...]) -> list[str]:
    return sorted(record.coroutine for record in records)


def only(records: tuple[TaskRecord, ...]) -> TaskRecord:
    (record,) = records
    return record


def instruments_here() -> list[object]:
    runner: Any = trio.lowlevel.current_task()._runner  # type: ignore[attr-defined]
    return list(runner.instruments["_all"])


def test_a_scope_without_leaks_takes_no_turn_and_leaves_nothing() -> None:
    async def main() -> Report:
        before = instruments_here()
        steps = trio.lowlevel.current_task()._schedule_points  # type: ignore[attr-defined]
        async with TaskScope() as scope:
            pass
        assert trio.lowlevel.current_task()._schedule_points == steps  # type: ignore[attr-defined]
        assert instruments_here() == before
        return scope.report

    report = trio.run(main)
    assert report.ok
    assert report.spawned == 0


def test_a_stray_is_found_cancelled_and_described_and_its_siblings_go_on() -> None:
    async def stray() -> None:
        await trio.sleep_forever()

    async def sibling(said: list[str]) -> None:
        await settle()
        said.append("sibling")

    async def main() -> tuple[Report, list[str]]:
        said: list[str] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sibling, said)
            with pytest.raises(TaskLeakError) as caught:
                async with TaskScope("mine", grace=0.01):
                    nursery.start_soon(stray, name="a stray")
            await settle()
            assert not nursery.cancel_scope.cancel_called
        return caught.value.report, said

    report, said = trio.run(main)
    assert said == ["sibling"]
    leak = only(report.leaks)
    assert (leak.name, leak.verdict, leak.outcome) == ("a stray", "deadlocked", "cancelled")
    assert leak.coroutine.endswith("stray")
    assert leak.spawn_site is not None
    assert leak.spawn_site.file == __file__
    assert leak.spawn_site.function.endswith("main")
    assert leak.stack[0].function.endswith("stray")
    assert "a stray" in str(report)
    assert report.spawned == 1


def test_tasks_of_a_nursery_inside_the_scope_are_no_leaks() -> None:
    async def main() -> Report:
        async with TaskScope() as scope, trio.open_nursery() as nursery:
            for _ in range(300):
                nursery.start_soon(trio.lowlevel.checkpoint)
        assert not scope._table.rows
        return scope.report

    report = trio.run(main)
    assert report.ok
    assert report.spawned == 300


def test_a_task_that_ends_in_the_grace_is_late_with_its_outcome() -> None:
    async def ends(release: trio.Event) -> None:
        await release.wait()

    async def fails(release: trio.Event) -> None:
        await release.wait()
        raise OSError("the disk")

    async def lets_go(release: trio.Event) -> None:
        await trio.sleep(0)
        release.set()

    async def main() -> tuple[Report, Report]:
        reports = []
        for kind in (ends, fails):
            release = trio.Event()
            scope = TaskScope(grace=5, on_leak="ignore")
            with contextlib.suppress(BaseExceptionGroup):
                async with trio.open_nursery() as nursery:
                    async with scope:
                        nursery.start_soon(kind, release)
                        nursery.start_soon(lets_go, release)
                        await trio.lowlevel.checkpoint()
            reports.append(scope.report)
        return reports[0], reports[1]

    clean, failed = trio.run(main)
    assert clean.ok
    assert {record.outcome for record in clean.late} == {"finished"}
    assert clean.settled_after < 5
    record = next(record for record in failed.late if record.coroutine.endswith("fails"))
    assert record.outcome == "failed"
    assert record.outcome_detail == "OSError('the disk')"


def test_only_the_strays_that_wait_long_enough_are_leaks() -> None:
    async def main() -> Report:
        scope = TaskScope(grace=0, on_leak="ignore")
        async with trio.open_nursery() as nursery:
            async with scope:
                nursery.start_soon(forever)
                nursery.start_soon(trio.lowlevel.checkpoint)
        return scope.report

    report = trio.run(main)
    assert names(report.leaks) == ["forever"]


class TestStart:
    def test_one_that_has_started_is_a_stray_like_any_other(self) -> None:
        async def service(task_status: trio.TaskStatus[int]) -> None:
            task_status.started(7)
            await trio.sleep_forever()

        async def main() -> Report:
            scope = TaskScope(grace=0.01, on_leak="ignore")
            async with trio.open_nursery() as nursery:
                async with scope:
                    assert await nursery.start(service) == 7
            return scope.report

        leak = only(trio.run(main).leaks)
        assert leak.outcome == "cancelled"
        assert leak.spawn_site is not None
        assert leak.spawn_site.function.endswith("main")

    def test_one_that_never_starts_is_ended_with_the_task_that_waits_for_it(self) -> None:
        seen: list[BaseException] = []

        async def never_starts(task_status: trio.TaskStatus[None]) -> None:
            await trio.sleep_forever()

        async def starter(nursery: trio.Nursery) -> None:
            try:
                await nursery.start(never_starts)
            except BaseException as error:
                seen.append(error)
                raise

        async def main() -> Report:
            scope = TaskScope(grace=0.01, on_leak="ignore")
            async with trio.open_nursery() as nursery:
                async with scope:
                    nursery.start_soon(starter, nursery)
                    await settle()
            return scope.report

        report = trio.run(main)
        assert {record.outcome for record in report.leaks} == {"cancelled"}
        assert [name.rpartition(".")[2] for name in names(report.leaks)] == ["never_starts", "starter"]
        assert [type(error) for error in seen] == [trio.Cancelled]

    def test_one_that_starts_while_it_is_being_cancelled_ends_all_the_same(self) -> None:
        async def starts_late(task_status: trio.TaskStatus[None]) -> None:
            with trio.CancelScope(shield=True):
                await settle()
            task_status.started()
            await trio.sleep_forever()

        async def starter(nursery: trio.Nursery) -> None:
            await nursery.start(starts_late)

        async def main() -> Report:
            scope = TaskScope(grace=0, on_leak="ignore")
            async with trio.open_nursery() as nursery:
                async with scope:
                    nursery.start_soon(starter, nursery)
                    await settle()
            return scope.report

        assert {record.outcome for record in trio.run(main).leaks} == {"cancelled"}

    def test_one_that_moves_over_during_the_grace_is_found_where_it_is(self) -> None:
        async def starts_in_the_grace(task_status: trio.TaskStatus[None]) -> None:
            await trio.sleep(0.01)
            task_status.started()
            await trio.sleep_forever()

        async def starter(nursery: trio.Nursery) -> None:
            await nursery.start(starts_in_the_grace)

        async def main() -> Report:
            scope = TaskScope(grace=0.1, on_leak="ignore")
            async with trio.open_nursery() as nursery:
                async with scope:
                    nursery.start_soon(starter, nursery)
            return scope.report

        report = trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
        assert only(report.leaks).coroutine.endswith("starts_in_the_grace")
        assert only(report.leaks).outcome == "cancelled"
        assert only(report.late).coroutine.endswith("starter")


class TestNurseriesOfStrays:
    def test_the_children_of_a_stray_are_listed_and_ended_with_it(self) -> None:
        cleaned: list[str] = []

        async def child() -> None:
            try:
                await trio.sleep_forever()
            finally:
                cleaned.append("child")

        async def parent() -> None:
            async with trio.open_nursery() as own:
                own.start_soon(child)
            cleaned.append("never")

        async def main() -> Report:
            scope = TaskScope(grace=0.01, on_leak="ignore")
            async with trio.open_nursery() as nursery:
                async with scope:
                    nursery.start_soon(parent)
                    await settle()
            return scope.report

        report = trio.run(main)
        by_name = {record.coroutine.rpartition(".")[2]: record for record in report.leaks}
        assert set(by_name) == {"parent", "child"}
        assert {record.outcome for record in report.leaks} == {"cancelled"}
        assert {record.verdict for record in report.leaks} == {"deadlocked"}
        assert by_name["parent"].wait is not None and len(by_name["parent"].wait.awaited) == 1
        assert by_name["child"].spawn_site is not None
        assert by_name["child"].spawn_site.function.endswith("parent")
        assert cleaned == ["child"]

    def test_a_shield_keeps_a_stray_and_its_children(self) -> None:
        async def child(over: trio.Event) -> None:
            await over.wait()

        async def parent(over: trio.Event) -> None:
            with trio.CancelScope(shield=True):
                async with trio.open_nursery() as own:
                    own.start_soon(child, over)

        async def main() -> Report:
            over = trio.Event()
            scope = TaskScope(grace=0.01, cancel_timeout=0.05, on_leak="ignore")
            async with trio.open_nursery() as nursery:
                async with scope:
                    nursery.start_soon(parent, over)
                    await settle()
                over.set()
            return scope.report

        report = trio.run(main)
        assert len(report.survivors) == 2
        details = {record.coroutine.rpartition(".")[2]: str(record.outcome_detail) for record in report.leaks}
        assert "shielded cancel scope" in details["parent"]
        assert "parent" in details["child"]

    def test_what_survives_by_a_shield_is_cancelled_once_it_leaves_that(self) -> None:
        went_on: list[str] = []

        async def stray(over: trio.Event) -> None:
            with trio.CancelScope(shield=True):
                await over.wait()
            await trio.sleep(0)
            went_on.append("stray")

        async def main() -> Report:
            over = trio.Event()
            scope = TaskScope(grace=0, cancel_timeout=0, on_leak="ignore")
            async with trio.open_nursery() as nursery:
                async with scope:
                    nursery.start_soon(stray, over)
                    await settle()
                over.set()
            return scope.report

        assert len(trio.run(main).survivors) == 1
        assert went_on == []


def test_a_task_in_cancel_scopes_of_its_own_is_cancelled_from_outside_of_them() -> None:
    said: list[str] = []

    async def stray() -> None:
        with trio.move_on_after(1000):
            with trio.CancelScope():
                await trio.sleep_forever()
        said.append("went on")
        await trio.sleep(0)
        said.append("and on")

    async def main() -> Report:
        scope = TaskScope(grace=0.01, on_leak="ignore")
        async with trio.open_nursery() as nursery:
            async with scope:
                nursery.start_soon(stray)
                await settle()
        return scope.report

    assert only(trio.run(main).leaks).outcome == "cancelled"
    assert said == []


def test_how_cancelled_tasks_end_is_told() -> None:
    async def fails() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise OSError("while closing")

    async def swallows() -> None:
        with contextlib.suppress(trio.Cancelled):
            await trio.sleep_forever()

    async def groups() -> None:
        async with trio.open_nursery() as own:
            own.start_soon(forever)
            own.start_soon(forever)

    async def never_begins() -> None:
        raise AssertionError("it has begun")

    async def main() -> Report:
        scope = TaskScope(grace=0, on_leak="ignore")
        with contextlib.suppress(BaseExceptionGroup):
            async with trio.open_nursery() as nursery:
                async with scope:
                    for kind in (fails, swallows, groups):
                        nursery.start_soon(kind)
                    await settle()
        return scope.report

    # On a clock on which a busy machine loses no time: what takes long to end is cancelled once more.
    report = trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    outcomes = {record.coroutine.rpartition(".")[2]: (record.outcome, record.outcome_detail) for record in report.leaks}
    assert outcomes["fails"] == ("failed", "OSError('while closing')")
    assert outcomes["swallows"] == ("finished", "it caught the cancellation and returned")
    assert outcomes["groups"] == ("cancelled", None)
    assert outcomes["forever"] == ("cancelled", None)


def test_what_dying_tasks_spawn_without_end_does_not_keep_the_scope() -> None:
    begun = 0

    async def respawns(nursery: trio.Nursery) -> None:
        nonlocal begun
        begun += 1
        try:
            await trio.sleep_forever()
        finally:
            nursery.start_soon(respawns, nursery)

    async def main() -> Report:
        scope = TaskScope(grace=0, cancel_timeout=0.05, on_leak="ignore")
        async with trio.open_nursery() as nursery:
            async with scope:
                nursery.start_soon(respawns, nursery)
                await settle()
            await settle()
            assert not nursery.child_tasks
        return scope.report

    report = trio.run(main)
    assert 1 < begun < report.spawned  # the last ones have died before they began


def test_a_system_task_with_the_context_of_a_scope_belongs_to_it() -> None:
    async def main() -> Report:
        scope = TaskScope(grace=0.01, on_leak="ignore")
        async with scope:
            trio.lowlevel.spawn_system_task(forever, context=contextvars.copy_context())
            trio.lowlevel.spawn_system_task(forever, name="of nobody")
            await settle()
        return scope.report

    leak = only(trio.run(main).leaks)
    assert leak.outcome == "cancelled"
    assert leak.name != "of nobody"


def test_the_tag_travels_through_threads() -> None:
    async def main() -> Report:
        scope = TaskScope(grace=0.01, on_leak="ignore")
        async with trio.open_nursery() as nursery:
            async with scope:
                await trio.to_thread.run_sync(lambda: trio.from_thread.run_sync(nursery.start_soon, forever))
        return scope.report

    assert only(trio.run(main).leaks).outcome == "cancelled"


def test_a_thread_that_is_waited_for_in_vain_is_told_of() -> None:
    async def works(over: threading.Event) -> None:
        await trio.to_thread.run_sync(over.wait)

    async def main() -> Report:
        over = threading.Event()
        scope = TaskScope(grace=0, cancel_timeout=0.05, on_leak="ignore")
        async with trio.open_nursery() as nursery:
            async with scope:
                nursery.start_soon(works, over)
                await settle()
            over.set()
        return scope.report

    leak = only(trio.run(main).leaks)
    assert leak.outcome == "survived"
    assert leak.wait is not None
    assert leak.wait.kind == "thread"


def test_a_context_that_was_put_aside_does_not_hide_a_stray() -> None:
    async def parent(nursery: trio.Nursery) -> None:
        nursery.start_soon(forever, name="grandchild")
        await trio.sleep_forever()

    async def main() -> Report:
        scope = TaskScope(grace=0.01, on_leak="ignore")
        async with trio.open_nursery() as nursery:
            async with scope:
                contextvars.Context().run(nursery.start_soon, parent, nursery)
                await settle()
        return scope.report

    report = trio.run(main)
    assert len(report.leaks) == 2
    assert "grandchild" in {record.name for record in report.leaks}


def test_concurrent_scopes_do_not_see_each_others_tasks() -> None:
    async def one(nursery: trio.Nursery, scope: TaskScope, leaks: int) -> None:
        async with scope:
            for _ in range(leaks):
                nursery.start_soon(forever)
            await settle()

    async def main() -> list[Report]:
        scopes = [TaskScope(str(number), grace=0.01, on_leak="ignore") for number in range(20)]
        async with trio.open_nursery() as nursery:
            async with trio.open_nursery() as runs:
                for number, scope in enumerate(scopes):
                    runs.start_soon(one, nursery, scope, number)
        return [scope.report for scope in scopes]

    assert [len(report.leaks) for report in trio.run(main)] == list(range(20))


def test_the_innermost_open_scope_owns_and_a_closed_one_passes_on() -> None:
    async def spawner(nursery: trio.Nursery, go: trio.Event) -> None:
        with trio.CancelScope(shield=True):
            await go.wait()
            nursery.start_soon(forever, name="from a closed scope")

    async def main() -> tuple[Report, Report]:
        go = trio.Event()
        outer = TaskScope("outer", grace=0.01, on_leak="ignore")
        inner = TaskScope("inner", grace=0, cancel_timeout=0, on_leak="ignore")
        async with trio.open_nursery() as nursery:
            async with outer:
                async with inner:
                    nursery.start_soon(spawner, nursery, go)
                    await settle()
                go.set()
                await settle()
        return outer.report, inner.report

    outer, inner = trio.run(main)
    assert names(inner.survivors)[0].endswith("spawner")
    leak = only(outer.leaks)
    assert (leak.name, leak.closed_scope) == ("from a closed scope", "inner")


def test_a_nursery_opened_inside_and_closed_outside_is_no_excuse() -> None:
    async def main() -> Report:
        scope = TaskScope(grace=0.01, on_leak="ignore", outer_groups="transfer")
        async with contextlib.AsyncExitStack() as stack:
            async with scope:
                nursery = await stack.enter_async_context(trio.open_nursery())
                nursery.start_soon(forever)
                await settle()
        return scope.report

    report = trio.run(main)
    assert only(report.leaks).outcome == "cancelled"
    assert not report.transferred


def test_tasks_in_an_outer_nursery_are_transferred_with_their_children_where_that_is_the_policy() -> None:
    async def parent() -> None:
        async with trio.open_nursery() as own:
            own.start_soon(forever)

    async def main() -> Report:
        scope = TaskScope(grace=0.01, outer_groups="transfer")
        async with trio.open_nursery() as nursery:
            async with scope:
                nursery.start_soon(parent)
                await settle()
            assert len(nursery.child_tasks) == 1
            nursery.cancel_scope.cancel()
        return scope.report

    report = trio.run(main)
    assert report.ok
    assert len(report.transferred) == 2
    assert all("nursery" in str(record.owner) for record in report.transferred)


class TestHandingOver:
    def test_a_task_can_be_handed_off_and_adopted(self) -> None:
        async def main() -> tuple[Report, Report]:
            tasks: list[trio.lowlevel.Task] = []

            async def service() -> None:
                tasks.append(trio.lowlevel.current_task())
                await trio.sleep_forever()

            giver = TaskScope("giver", grace=0.01)
            taker = TaskScope("taker", grace=0.01, on_leak="ignore")
            async with trio.open_nursery() as nursery:
                async with taker:
                    async with giver:
                        nursery.start_soon(service)
                        await settle()
                        taskscope.hand_off(tasks[0], taker, reason="it serves all")
            return giver.report, taker.report

        giver, taker = trio.run(main)
        assert giver.ok
        assert only(giver.transferred).outcome_detail == "handed off: it serves all"
        assert only(taker.leaks).outcome == "cancelled"

    def test_what_a_handed_off_task_spawns_goes_where_it_went(self) -> None:
        async def main() -> tuple[Report, Report]:
            tasks: list[trio.lowlevel.Task] = []
            go = trio.Event()

            async def service(nursery: trio.Nursery) -> None:
                tasks.append(trio.lowlevel.current_task())
                await go.wait()
                nursery.start_soon(forever, name="child")
                await trio.sleep_forever()

            giver = TaskScope("giver", grace=0.01)
            taker = TaskScope("taker", grace=0.01, on_leak="ignore")
            async with trio.open_nursery() as nursery:
                async with taker:
                    async with giver:
                        nursery.start_soon(service, nursery)
                        await settle()
                        taker.adopt(tasks[0])
                        go.set()
                        await settle()
            return giver.report, taker.report

        giver, taker = trio.run(main)
        assert giver.ok
        assert "child" in {record.name for record in taker.leaks}
        assert len(taker.leaks) == 2


class TestLosingTrack:
    def test_a_removed_instrument_is_told_of_and_what_can_be_is_recovered(self) -> None:
        async def main() -> Report:
            scope = TaskScope(grace=0.01, on_leak="ignore")
            async with trio.open_nursery() as nursery:
                async with scope:
                    nursery.start_soon(forever, name="seen")
                    tracking: Any = scope._tracking
                    trio.lowlevel.remove_instrument(tracking)
                    nursery.start_soon(forever, name="unseen")
                    await settle()
            return scope.report

        report = trio.run(main)
        assert report.tracking_lost is not None
        assert "instrument" in report.tracking_lost
        assert "1 task of this scope" in report.tracking_lost
        assert {record.name for record in report.leaks} == {"seen", "unseen"}
        assert {record.outcome for record in report.leaks} == {"cancelled"}

    def test_an_instrument_that_was_off_for_a_time_is_told_of_too(self) -> None:
        async def main() -> Report:
            scope = TaskScope(grace=0.01, on_leak="ignore")
            async with trio.open_nursery() as nursery:
                async with scope:
                    tracking: Any = scope._tracking
                    trio.lowlevel.remove_instrument(tracking)
                    nursery.start_soon(forever)
                    async with TaskScope():
                        pass
            return scope.report

        report = trio.run(main)
        assert report.tracking_lost is not None
        assert len(report.leaks) == 1


class TestClocks:
    def test_a_grace_of_30_seconds_costs_no_real_time_on_a_clock_that_jumps(self) -> None:
        async def main() -> tuple[Report, float]:
            scope = TaskScope(grace=30, on_leak="ignore")
            async with trio.open_nursery() as nursery:
                async with scope:
                    nursery.start_soon(forever)
                    nursery.start_soon(trio.sleep, 20)
                return scope.report, trio.current_time()

        clock = trio.testing.MockClock(autojump_threshold=0)
        report, _ = trio.run(main, clock=clock, instruments=())
        assert names(report.leaks) == ["forever"]
        assert names(report.late) == ["sleep"]

    def test_a_clock_that_stands_still_does_not_keep_the_scope(self) -> None:
        async def main() -> Report:
            scope = TaskScope(grace=0.05, cancel_timeout=0.05, on_leak="log")
            async with trio.open_nursery() as nursery:
                async with scope:
                    nursery.start_soon(forever)
            return scope.report

        report = trio.run(main, clock=trio.testing.MockClock())
        assert only(report.leaks).outcome == "cancelled"

    def test_a_jump_is_no_leak_of_a_task_that_waits_for_a_thread(self) -> None:
        async def works() -> None:
            await trio.to_thread.run_sync(threading.Event().wait, 0.02)

        async def main() -> Report:
            scope = TaskScope(grace=1)
            async with trio.open_nursery() as nursery:
                async with scope:
                    nursery.start_soon(works)
                    await trio.lowlevel.checkpoint()
            return scope.report

        report = trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
        assert report.ok
        assert len(report.late) == 1


class TestTheBody:
    def test_an_exception_of_the_body_is_not_masked(self) -> None:
        async def main() -> None:
            async with trio.open_nursery() as nursery:
                with pytest.raises(ValueError, match="the body's") as caught:
                    async with TaskScope(grace=0.01):
                        nursery.start_soon(forever)
                        raise ValueError("the body's")
                assert "outlived scope" in "".join(caught.value.__notes__)

        trio.run(main)

    def test_a_timeout_ends_the_body_and_tells_where_it_was(self) -> None:
        async def main() -> Report:
            with pytest.raises(ScopeTimeoutError) as caught:
                async with TaskScope(timeout=0.05):
                    await trio.sleep_forever()
            await settle()
            return caught.value.report

        report = trio.run(main)
        assert report.phase == "body"
        assert report.body is not None
        assert report.body.stack[-1].function.endswith(("main", "sleep_forever"))

    def test_a_timeout_ends_a_nursery_in_the_body(self) -> None:
        async def main() -> Report:
            with pytest.raises(ScopeTimeoutError) as caught:
                async with TaskScope(timeout=0.05), trio.open_nursery() as nursery:
                    nursery.start_soon(forever)
            return caught.value.report

        report = trio.run(main)
        assert only(report.leaks).outcome == "cancelled"
        assert report.body is not None
        assert report.body.verdict == "deadlocked"

    def test_what_the_body_raises_besides_leaves(self) -> None:
        async def main() -> None:
            with pytest.raises(BaseExceptionGroup) as caught:
                async with TaskScope(timeout=0.05, on_leak="ignore"), trio.open_nursery() as nursery:
                    nursery.start_soon(fails)
            assert caught.group_contains(OSError)
            assert not caught.group_contains(trio.Cancelled)

        async def fails() -> None:
            try:
                await trio.sleep_forever()
            finally:
                raise OSError("mine")

        trio.run(main)

    def test_a_timeout_that_is_not_needed_leaves_no_task(self) -> None:
        async def main() -> None:
            before = trio.lowlevel.current_statistics().tasks_living
            async with TaskScope(timeout=5):
                await trio.sleep(0)
            await settle()
            assert trio.lowlevel.current_statistics().tasks_living == before

        trio.run(main)

    def test_a_cancel_scope_round_the_scope_works_as_ever(self) -> None:
        async def main() -> Report:
            scope = TaskScope(grace=30, on_leak="raise")
            async with trio.open_nursery() as nursery:
                with trio.CancelScope() as outer:
                    async with scope:
                        nursery.start_soon(forever)
                        outer.cancel()
                        await trio.sleep_forever()
                assert outer.cancelled_caught
            return scope.report

        assert len(trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0)).leaks) == 1

    def test_a_cancel_in_the_grace_ends_it_and_propagates(self) -> None:
        async def main() -> tuple[Report, float]:
            scope = TaskScope(grace=1000)
            async with trio.open_nursery() as nursery:
                with trio.move_on_after(1) as outer:
                    async with scope:
                        nursery.start_soon(trio.sleep, 10_000)
                assert outer.cancelled_caught
                return scope.report, trio.current_time()

        start = trio.testing.MockClock(autojump_threshold=0)
        report, _ = trio.run(main, clock=start)
        assert report.settled_after < 10
        assert only(report.leaks).outcome == "cancelled"

    def test_a_scope_in_a_cancelled_cancel_scope_still_waits(self) -> None:
        async def quick() -> None:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.01)

        async def main() -> Report:
            scope = TaskScope(grace=1)
            async with trio.open_nursery() as nursery:
                with trio.CancelScope() as outer:
                    async with scope:
                        nursery.start_soon(quick)
                        await settle()
                        outer.cancel()
            return scope.report

        report = trio.run(main)
        assert report.ok
        assert len(report.late) == 1

    def test_a_failing_sibling_ends_the_scope_and_nothing_is_lost(self) -> None:
        async def fails() -> None:
            raise OSError("sibling")

        async def main() -> Report:
            scope = TaskScope(grace=30)
            with pytest.RaisesGroup(OSError):
                async with trio.open_nursery() as nursery:
                    async with scope:
                        nursery.start_soon(forever)
                        nursery.start_soon(fails)
                        await trio.sleep_forever()
            return scope.report

        trio.run(main)


class TestDecorator:
    def test_a_decorated_function_is_a_scope(self) -> None:
        @scoped(grace=0.01)
        async def leaks(nursery: trio.Nursery) -> None:
            nursery.start_soon(forever)

        async def main() -> None:
            async with trio.open_nursery() as nursery:
                with pytest.raises(TaskLeakError, match="forever"):
                    await leaks(nursery)

        trio.run(main)

    def test_a_scope_round_an_iteration(self) -> None:
        @scoped(grace=0.01, on_leak="ignore", on_report=lambda report: reports.append(report))
        async def numbers(nursery: trio.Nursery) -> AsyncGenerator[int, None]:
            yield 1
            nursery.start_soon(forever, name="of the generator")
            yield 2

        reports: list[Report] = []

        async def main() -> list[int]:
            seen = []
            async with trio.open_nursery() as nursery:
                async for number in numbers(nursery):
                    seen.append(number)
                    nursery.start_soon(forever, name="of the consumer")
                nursery.cancel_scope.cancel()
            return seen

        assert trio.run(main) == [1, 2]
        assert [record.name for record in reports[0].leaks] == ["of the generator"]

    def test_a_timeout_in_a_step(self) -> None:
        @scoped(timeout=0.05)
        async def numbers() -> AsyncGenerator[int, None]:
            yield 1
            await trio.sleep_forever()

        async def main() -> None:
            with pytest.raises(ScopeTimeoutError):
                async for _ in numbers():
                    pass

        trio.run(main)


class TestProgram:
    def test_run_runs_trio_with_a_root_scope(self) -> None:
        async def main() -> str:
            trio.lowlevel.spawn_system_task(forever, context=contextvars.copy_context())
            return "done"

        with pytest.raises(TaskLeakError, match="forever"):
            taskscope.run(main(), backend="trio", grace=0.01)

    def test_run_returns_what_the_program_returns(self) -> None:
        async def main() -> str:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep, 0)
            return "done"

        assert taskscope.run(main(), backend="trio") == "done"

    def test_run_is_refused_inside_of_trio(self) -> None:
        async def main() -> None:
            with pytest.raises(RuntimeError, match="cannot be called from a running event loop"):
                taskscope.run(forever(), backend="trio")

        trio.run(main)
        gc.collect()

    def test_an_installation_with_a_root_owns_what_no_scope_does(self) -> None:
        async def main() -> tuple[Report | None, Report]:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(forever, name="before")
                installation = taskscope.install(root="app", grace=0.01, on_leak="ignore")
                assert taskscope.install() is installation
                with pytest.raises(TaskScopeError, match="has the root scope 'app' already"):
                    taskscope.install(root="other")
                nursery.start_soon(forever, name="after")
                async with TaskScope(grace=0.01, on_leak="ignore") as scope:
                    nursery.start_soon(forever, name="of a scope")
                await installation.aclose()
                nursery.cancel_scope.cancel()
            return installation.report, scope.report

        before = 0
        report, of_scope = trio.run(main)
        assert before == 0
        assert report is not None
        assert [record.name for record in report.leaks] == ["after"]
        assert [record.name for record in of_scope.leaks] == ["of a scope"]

    def test_whoever_waits_for_the_one_who_judges_is_not_waited_for(self) -> None:
        async def main() -> Report | None:
            installation = taskscope.install(root="app", grace=5, on_leak="ignore")

            async def judge() -> None:
                await installation.aclose()

            async def between() -> None:
                async with trio.open_nursery() as own:
                    own.start_soon(judge)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(between)
            return installation.report

        report = trio.run(main)
        assert report is not None
        assert report.ok

    def test_install_wants_a_loop_that_runs(self) -> None:
        with pytest.raises(RuntimeError, match="needs a running event loop"):
            taskscope.install()


def test_snapshot_tells_what_is_alive_and_changes_nothing() -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            async with TaskScope() as scope:
                assert taskscope.current_scope() is scope
                nursery.start_soon(forever)
                await settle()
                snapshot = scope.snapshot()
                assert names(snapshot.leaks) == ["forever"]
                assert len(nursery.child_tasks) == 1
                nursery.cancel_scope.cancel()
        assert taskscope.current_scope() is None

    trio.run(main)


def test_nothing_is_done_with_the_switch_off(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> Report:
        scope = TaskScope()
        async with trio.open_nursery() as nursery:
            async with scope:
                nursery.start_soon(forever)
                assert instruments_here() == []
            nursery.cancel_scope.cancel()
        return scope.report

    monkeypatch.setenv("TASKSCOPE", "off")
    assert trio.run(main).ok


def test_a_guest_of_asyncio_has_scopes_of_its_own() -> None:
    import asyncio

    async def guest() -> Report:
        scope = TaskScope("of trio", grace=0.01, on_leak="ignore")
        async with trio.open_nursery() as nursery:
            async with scope:
                nursery.start_soon(forever)
        return scope.report

    async def host() -> tuple[Report, Report]:
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        async with TaskScope("of asyncio") as scope:
            trio.lowlevel.start_guest_run(
                guest,
                run_sync_soon_threadsafe=asyncio.get_running_loop().call_soon_threadsafe,
                done_callback=done.set_result,
            )
            report = (await done).unwrap()
        return report, scope.report

    of_trio, of_asyncio = asyncio.run(host())
    assert names(of_trio.leaks) == ["forever"]
    assert of_asyncio.ok


def test_another_threads_run_can_be_cancelled_through_its_own_loop() -> None:
    ready, ended = threading.Event(), threading.Event()

    async def other() -> None:
        taskscope.install()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(forever, name="in the other run")
            await settle()
            ready.set()
        ended.set()

    async def main() -> Report:
        scope = TaskScope(grace=0.01, on_leak="ignore")
        async with scope:
            context = contextvars.copy_context()
            thread = threading.Thread(target=context.run, args=(trio.run, other))
            thread.start()
            await trio.to_thread.run_sync(ready.wait)
        await trio.to_thread.run_sync(thread.join)
        return scope.report

    report = trio.run(main)
    assert ended.is_set()
    assert [record.name for record in report.leaks] == ["in the other run"]
    assert only(report.leaks).outcome == "cancelled"


@contextlib.asynccontextmanager
async def helper() -> AsyncIterator[trio.Nursery]:
    async with trio.open_nursery() as nursery:
        yield nursery
        nursery.cancel_scope.cancel()


def test_a_scope_inside_of_a_fixture_like_context_manager() -> None:
    async def main() -> Report:
        async with helper() as nursery:
            async with TaskScope(grace=0.01, on_leak="ignore") as scope:
                nursery.start_soon(forever)
                await settle()
        return scope.report

    leak = only(trio.run(main).leaks)
    assert "nursery" in str(leak.owner)
    assert "helper" in str(leak.owner)


class TestTheTable:
    def test_finished_tasks_do_not_pile_up(self) -> None:
        async def main() -> tuple[int, Report]:
            most = 0
            async with trio.open_nursery() as nursery:
                async with TaskScope() as scope:
                    for _ in range(50):
                        for _ in range(50):
                            nursery.start_soon(trio.lowlevel.checkpoint)
                        while nursery.child_tasks:
                            await trio.lowlevel.cancel_shielded_checkpoint()
                        most = max(most, len(scope._table.rows))
            return most, scope.report

        most, report = trio.run(main)
        assert most <= 128
        assert report.spawned == 2_500

    def test_nor_do_those_of_many_that_end_without_another_spawn(self) -> None:
        async def main() -> tuple[list[int], Report]:
            counts = []
            async with trio.open_nursery() as nursery:
                async with TaskScope() as scope:
                    for _ in range(2):
                        for _ in range(1_000):
                            nursery.start_soon(trio.sleep, 0.01)
                        counts.append(len(scope._table.rows))
                        while nursery.child_tasks:
                            await trio.sleep(0.001)
                        counts.append(len(scope._table.rows))
                        assert len(instruments_here()) == 1
            assert not instruments_here()
            return counts, scope.report

        counts, report = trio.run(main)
        assert counts[0] >= 1_000
        assert max(counts[1::2]) <= 128
        assert report.ok
        assert report.spawned == 2_000


def test_a_clock_that_stands_is_not_moved_by_looks_at_the_body() -> None:
    async def main() -> float:
        async with TaskScope(watch=0.01):
            await trio.to_thread.run_sync(time.sleep, 0.05)
            return trio.current_time()

    assert trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0)) == 0


@pytest.mark.parametrize("limits", [{"watch": 0.25}, {"timeout": 60.0}])
@pytest.mark.parametrize("outer_is_cancelled", [False, True])
def test_what_a_body_has_opened_may_be_closed_after_it(limits: dict[str, float], outer_is_cancelled: bool) -> None:
    """As by a fixture, which AnyIO runs in the task of the test."""

    async def main() -> None:
        outer, inner = trio.CancelScope(), trio.CancelScope()
        with outer:
            async with TaskScope(**limits):  # type: ignore[arg-type]
                manager = trio.open_nursery()
                nursery = await manager.__aenter__()
                inner.__enter__()
            if outer_is_cancelled:
                outer.cancel()
            inner.__exit__(None, None, None)
            nursery.start_soon(trio.lowlevel.checkpoint)
            await manager.__aexit__(None, None, None)
            await trio.lowlevel.checkpoint()
        assert outer.cancelled_caught == outer_is_cancelled
        assert trio.lowlevel.current_task()._cancel_status.children == frozenset()

    trio.run(main)
