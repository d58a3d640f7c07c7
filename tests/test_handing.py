"""Who answers for a task: handing it off, taking it over, and groups that hold it already."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import itertools
import re
import threading
import weakref
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import anyio
import pytest
from conftest import Run

from taskscope import Report, TaskLeakError, TaskScope, TaskScopeError, hand_off, install


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


async def turns(number: int = 3) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def until(condition: Callable[[], object]) -> None:
    """Lets the loop turn until something is so. A bound, because a test that hangs tells nothing."""
    for _ in range(100_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never happened")


async def end(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


def quiet(name: str | None = None, **policy: Any) -> TaskScope:
    """A scope that judges at once and only reports."""
    return TaskScope(name, **{"grace": 0, "on_leak": "ignore", **policy})


def leaked(scope: TaskScope) -> set[str]:
    return {record.name for record in scope.report.leaks}


def given_away(scope: TaskScope) -> dict[str, str | None]:
    return {record.name: record.outcome_detail for record in scope.report.transferred}


class Spawner:
    """A task that spawns when it is told to."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.children: list[asyncio.Task[None]] = []

    async def __call__(self) -> None:
        for number in itertools.count():
            await self.go.wait()
            self.go.clear()
            self.children.append(asyncio.create_task(forever(), name=f"child-{number}"))

    async def spawn(self) -> asyncio.Task[None]:
        before = len(self.children)
        self.go.set()
        await until(lambda: len(self.children) > before)
        return self.children[-1]


# To the parent


def test_a_task_handed_off_goes_to_the_parent(run: Run) -> None:
    async def main() -> None:
        async with quiet("outer") as outer:
            async with quiet("inner") as inner:
                task = asyncio.create_task(forever(), name="given")
                asyncio.create_task(forever(), name="kept")
                hand_off(task, reason="the cache outlives requests")
            assert not task.done()
        assert leaked(inner) == {"kept"}
        assert given_away(inner) == {"given": "handed off: the cache outlives requests"}
        assert leaked(outer) == {"given"} and not outer.report.transferred

    run(main)


def test_a_scope_that_only_gave_away_is_clean(run: Run) -> None:
    told: list[Report] = []

    async def main() -> None:
        async with TaskScope("outer", grace=0):
            async with TaskScope("inner", grace=0, on_report=told.append) as inner:
                task = asyncio.create_task(forever(), name="given")
                hand_off(task, reason="why not")
            await end(task)
        assert inner.report.ok and told == [inner.report]

    run(main)


def test_a_task_that_was_given_away_twice_can_still_be_proven_deadlocked(run: Run) -> None:
    async def main() -> None:
        async with quiet("outer") as outer:
            async with quiet("middle") as middle:
                async with quiet("inner") as inner:
                    task = asyncio.create_task(asyncio.Event().wait(), name="given")
                    hand_off(task, reason="x")
                hand_off(task, reason="y")
                del task
        assert given_away(inner) and given_away(middle)
        assert [(leak.name, leak.verdict) for leak in outer.report.leaks] == [("given", "deadlocked")]

    run(main)


def test_the_record_of_a_task_that_was_given_away_says_where_it_came_from(run: Run) -> None:
    async def main() -> None:
        async with quiet("outer", spawn_site="stack") as outer:
            async with quiet("inner", spawn_site="stack") as inner:
                spawner = Spawner()
                parent = asyncio.create_task(spawner(), name="parent")
                task = await spawner.spawn()
                hand_off(task, reason="x")
        (record,) = inner.report.transferred
        (same,) = outer.report.leaks
        for found in (record, same):
            assert found.spawn_site is not None and found.spawn_site.function == "Spawner.__call__"
            assert len(found.spawn_chain) == 1 and found.spawn_stack and found.age is not None
            assert found.stack[-1].function == "forever"
        assert record.outcome is None and same.outcome == "cancelled"
        assert parent.cancelled()

    run(main)


@pytest.mark.parametrize("levels", [2, 3])
def test_it_can_be_handed_on_outwards_step_by_step(run: Run, levels: int) -> None:
    async def main() -> None:
        async with AsyncExitStack() as stack:
            scopes = [await stack.enter_async_context(quiet(f"level-{number}")) for number in range(levels)]
            task = asyncio.create_task(forever(), name="given")
            for number in range(levels - 1):
                hand_off(task, reason=f"step {number}")
        assert [leaked(scope) for scope in scopes] == [{"given"}, *[set()] * (levels - 1)]
        assert [given_away(scope) for scope in reversed(scopes)] == [
            *[{"given": f"handed off: step {number}"} for number in range(levels - 1)],
            {},
        ]

    run(main)


def test_closed_parents_are_skipped(run: Run) -> None:
    async def main() -> None:
        async with quiet("outer") as outer:
            middle, inner = quiet("middle"), quiet("inner")
            inside, leave = asyncio.Event(), asyncio.Event()

            async def independent() -> None:
                async with inner:
                    inside.set()
                    await leave.wait()

            async with middle:
                runner = asyncio.create_task(independent())
                hand_off(runner, outer, reason="it goes on after middle")
                await inside.wait()
            context = runner.get_coro()
            assert context is not None
            task = asyncio.create_task(forever(), name="given")
            inner.adopt(task)
            hand_off(task, reason="back")
            leave.set()
            await runner
            assert not task.done()
        assert leaked(outer) == {"given"}
        assert given_away(inner) == {"given": "handed off: back"}

    run(main)


# Released


def test_without_a_parent_a_task_is_released_for_good(run: Run) -> None:
    async def main() -> None:
        async with TaskScope("only", grace=0) as scope:
            spawner = Spawner()
            task = asyncio.create_task(spawner(), name="released")
            await asyncio.sleep(0)
            hand_off(task, reason="it lives as long as the program")
            await spawner.spawn()
        assert scope.report.ok
        assert given_away(scope) == {"released": "released for good: it lives as long as the program"}
        child = await spawner.spawn()
        assert not any(made.done() for made in (task, child, *spawner.children))
        await end(task, *spawner.children)

    run(main)


def test_nothing_of_ours_keeps_a_released_task_alive(run: Run) -> None:
    async def main() -> weakref.ref[Any]:
        async with TaskScope(grace=0):
            task = asyncio.create_task(forever())
            await asyncio.sleep(0)
            hand_off(task, reason="x")
        return weakref.ref(task)

    async def outer() -> None:
        reference = await main()
        gc.collect()
        assert reference() is None

    loop_errors: list[Any] = []

    async def quietly() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: loop_errors.append(context["message"]))
        await outer()

    run(quietly)
    # asyncio's own complaint about a pending task that nobody holds
    assert loop_errors == ["Task was destroyed but it is pending!"]


def test_a_released_task_can_be_adopted_again(run: Run) -> None:
    async def main() -> None:
        async with TaskScope("first", grace=0):
            task = asyncio.create_task(forever(), name="wanderer")
            hand_off(task, reason="x")
        async with quiet("second") as second:
            second.adopt(task)
        assert leaked(second) == {"wanderer"} and task.cancelled()

    run(main)


def test_a_task_that_nobody_owns_is_let_be(run: Run) -> None:
    async def main() -> None:
        task = asyncio.create_task(forever(), name="free")
        hand_off(task, reason="a library calls this whether or not there are scopes")
        async with TaskScope(grace=0) as scope:
            hand_off(task, reason="nor is it this scope's")
        assert scope.report == Report(scope.name)
        assert not task.done()
        await end(task)

    run(main)


# To a given scope


def test_a_task_can_be_given_to_any_open_scope(run: Run) -> None:
    async def main() -> None:
        async with quiet("outer") as outer, quiet("other") as other, quiet("inner") as inner:
            task = asyncio.create_task(forever(), name="to outer")
            hand_off(task, outer, reason="x")
            own = asyncio.create_task(forever(), name="to other")
            hand_off(own, to=other, reason="y")
        assert (leaked(outer), leaked(other), leaked(inner)) == ({"to outer"}, {"to other"}, set())
        assert given_away(inner) == {"to outer": "handed off: x", "to other": "handed off: y"}

    run(main)


def test_a_task_can_be_given_to_a_scope_inside_which_then_ends_it(run: Run) -> None:
    async def main() -> None:
        async with TaskScope("outer", grace=0) as outer:
            task = asyncio.create_task(forever(), name="given")
            async with quiet("inner") as inner:
                hand_off(task, inner, reason="it serves the inner one")
            assert task.cancelled()
        assert leaked(inner) == {"given"} and outer.report.ok

    run(main)


def test_a_task_that_is_free_can_be_given_to_a_scope(run: Run) -> None:
    async def main() -> None:
        task = asyncio.create_task(forever(), name="free")
        async with quiet() as scope:
            hand_off(task, scope, reason="x")
        assert leaked(scope) == {"free"} and not scope.report.transferred

    run(main)


def test_giving_a_task_to_the_scope_that_has_it_changes_nothing(run: Run) -> None:
    async def main() -> None:
        async with quiet() as scope:
            task = asyncio.create_task(forever(), name="own")
            hand_off(task, scope, reason="x")
            scope.adopt(task)
            scope.adopt(task)
        assert leaked(scope) == {"own"}
        assert scope.report.transferred == () and scope.report.spawned == 1
        assert scope.report.leaks[0].spawn_site is not None

    run(main)


def test_a_task_that_comes_back_is_not_said_to_be_elsewhere(run: Run) -> None:
    async def main() -> None:
        async with quiet("outer") as outer:
            async with quiet("inner") as inner:
                adopted, returned = (asyncio.create_task(forever(), name=name) for name in ("adopted", "returned"))
                hand_off(adopted, reason="x")
                inner.adopt(adopted)
                hand_off(returned, outer, reason="x")
                hand_off(returned, inner, reason="y")
            assert adopted.done() and returned.done()
        assert leaked(inner) == {"adopted", "returned"} and not inner.report.transferred
        assert outer.report.leaks == ()
        assert given_away(outer) == {}  # it ended before the outer scope did

    run(main)


def test_a_task_that_a_child_hands_back_is_the_parents_again(run: Run) -> None:
    async def main() -> None:
        async with quiet("outer") as outer:
            task = asyncio.create_task(forever(), name="lent")
            async with quiet("inner") as inner:
                hand_off(task, inner, reason="lent")
                hand_off(task, reason="returned")
        assert leaked(outer) == {"lent"} and not outer.report.transferred
        assert given_away(inner) == {"lent": "handed off: returned"}

    run(main)


@pytest.mark.parametrize("state", ["closed", "never entered"])
def test_a_scope_that_is_not_open_takes_nothing_and_nothing_changes(run: Run, state: str) -> None:
    async def main() -> None:
        other = quiet("other")
        if state == "closed":
            async with other:
                pass
        async with quiet("owner") as owner:
            task = asyncio.create_task(forever(), name="mine")
            attempts: list[Callable[[], None]] = [lambda: hand_off(task, other, reason="x"), lambda: other.adopt(task)]
            for attempt in attempts:
                with pytest.raises(TaskScopeError, match="scope 'other' is not open: it cannot adopt a task"):
                    attempt()
        assert leaked(owner) == {"mine"} and not owner.report.transferred

    run(main)


def test_a_scope_that_is_ending_takes_a_task_and_waits_for_it(run: Run) -> None:
    async def main() -> None:
        gate = asyncio.Event()
        task = asyncio.create_task(gate.wait(), name="from outside")

        async def helper(scope: TaskScope) -> None:
            await turns()
            scope.adopt(task)
            asyncio.get_running_loop().call_later(0.01, gate.set)

        async with TaskScope("ending", grace=10) as scope:
            asyncio.create_task(helper(scope), name="helper")
        assert task.done()
        assert {record.name for record in scope.report.late} == {"helper", "from outside"}

    run(main)


# What cannot be handed


@pytest.mark.parametrize("finished", ["finished", "failed", "cancelled"])
def test_a_task_that_has_ended_is_let_be(run: Run, finished: str) -> None:
    async def fail() -> None:
        raise ValueError

    async def main() -> None:
        async with TaskScope("outer", grace=0) as outer, TaskScope("inner", grace=0) as inner:
            task: asyncio.Task[None] = asyncio.create_task(fail() if finished == "failed" else turns(1))
            if finished == "cancelled":
                task.cancel()
            await asyncio.wait([task])
            hand_off(task, reason="x")
            hand_off(task, outer, reason="x")
            outer.adopt(task)
            assert task.cancelled() or task.exception() is None or finished == "failed"
        for scope in (inner, outer):
            assert scope.report.ok and not scope.report.transferred
        assert (inner.report.spawned, outer.report.spawned) == (1, 0)

    run(main)


def test_a_task_that_was_given_away_and_ended_is_not_told(run: Run) -> None:
    async def main() -> None:
        async with TaskScope("outer", grace=0) as outer:
            async with TaskScope("inner", grace=0) as inner:
                task = asyncio.create_task(turns())
                hand_off(task, reason="x")
                await task
            assert inner.report.ok and not inner.report.transferred
        assert outer.report.ok

    run(main)


class HostileRepr:
    def __repr__(self) -> str:
        raise RuntimeError("repr")


@pytest.mark.parametrize("value", [None, 1, "task", object(), HostileRepr()])
def test_only_tasks_can_be_handed(run_asyncio: Run, value: Any) -> None:
    async def main() -> None:
        async with TaskScope() as scope:
            attempts: list[Callable[[], None]] = [lambda: hand_off(value, reason="x"), lambda: scope.adopt(value)]
            for attempt in attempts:
                with pytest.raises(TypeError, match=r"^task=.*: must be a task, not .*create_task"):
                    attempt()

    run_asyncio(main)


def test_a_future_and_a_coroutine_are_no_tasks(run: Run) -> None:
    async def main() -> None:
        future: Any = asyncio.get_running_loop().create_future()
        coroutine: Any = forever()
        async with TaskScope() as scope:
            values: list[Any] = [future, coroutine, forever, asyncio.gather(return_exceptions=True)]
            for value in values:
                with pytest.raises(TypeError, match="must be a task"):
                    hand_off(value, reason="x")
                with pytest.raises(TypeError, match="must be a task"):
                    scope.adopt(value)
        coroutine.close()

    run(main)


def test_a_reason_is_required(run: Run) -> None:
    async def main() -> None:
        async with quiet() as scope:
            task: Any = asyncio.create_task(forever(), name="mine")
            with pytest.raises(TypeError, match="reason"):
                hand_off(task)  # type: ignore[call-arg]
            with pytest.raises(TypeError, match="positional"):
                hand_off(task, None, "why")  # type: ignore[call-arg]
            for blank in ("", " ", "\n\t"):
                with pytest.raises(ValueError, match=r"^reason=.*: must say why the task outlives its scope"):
                    hand_off(task, reason=blank)
            for wrong in (None, 1, b"why", ["why"], HostileRepr()):
                with pytest.raises(TypeError, match=r"^reason=.*: must be a string"):
                    hand_off(task, reason=wrong)  # type: ignore[arg-type]
            for taker in ("outer", 1, TaskScope, HostileRepr()):
                with pytest.raises(TypeError, match=r"^to=.*: must be None or a TaskScope"):
                    hand_off(task, taker, reason="x")  # type: ignore[arg-type]
        assert leaked(scope) == {"mine"}

    run(main)


def test_a_scope_does_not_adopt_the_task_that_it_runs_in(run: Run) -> None:
    async def main() -> None:
        host: Any = asyncio.current_task()
        async with TaskScope("own", grace=0) as scope:
            attempts: list[Callable[[], None]] = [lambda: scope.adopt(host), lambda: hand_off(host, scope, reason="x")]
            for attempt in attempts:
                with pytest.raises(ValueError, match=r"^task=.*: a scope cannot wait for the task that it runs in"):
                    attempt()
        assert scope.report.ok

    run(main)


def test_the_host_of_an_inner_scope_can_be_handed_off_by_the_outer_one(run: Run) -> None:
    async def main() -> None:
        inside, leave = asyncio.Event(), asyncio.Event()
        inner = quiet("inner")

        async def host() -> None:
            async with inner:
                asyncio.create_task(forever(), name="of inner")
                inside.set()
                await leave.wait()

        async with TaskScope("outer", grace=0) as outer:
            task = asyncio.create_task(host(), name="host")
            await inside.wait()
            hand_off(task, reason="x")
        assert outer.report.ok and not task.done()
        leave.set()
        await task
        assert leaked(inner) == {"of inner"}

    run(main)


# Adoption


def test_a_foreign_task_can_be_adopted_with_what_it_spawns_from_now_on(run: Run) -> None:
    async def main() -> None:
        spawner = Spawner()
        async with install():
            task = asyncio.create_task(spawner(), name="foreign")
            before = await spawner.spawn()
            async with quiet() as scope:
                scope.adopt(task)
                await spawner.spawn()
            assert leaked(scope) == {"foreign", "child-1"}
            assert not before.done()
            records = {record.name: record for record in scope.report.leaks}
            assert records["foreign"].spawn_site is None
            child = records["child-1"].spawn_site
            assert child is not None and child.function == "Spawner.__call__"
            await end(before)

    run(main)


def test_the_last_scope_to_adopt_a_task_has_it(run: Run) -> None:
    async def main() -> None:
        spawner = Spawner()
        async with quiet("owner") as owner, quiet("first") as first, quiet("second") as second:
            task = asyncio.create_task(spawner(), name="wanted")
            owner.adopt(task)
            first.adopt(task)
            second.adopt(task)
            first.adopt(task)
            await spawner.spawn()
        assert leaked(first) == {"wanted", "child-0"}
        assert leaked(owner) == set() == leaked(second)

    run(main)


@pytest.mark.parametrize("taker", ["hand_off", "adopt"])
def test_what_a_task_spawned_before_stays_and_what_it_spawns_afterwards_goes_with_it(run: Run, taker: str) -> None:
    async def main() -> None:
        spawner = Spawner()
        async with quiet("outer") as outer:
            async with quiet("inner") as inner:
                task = asyncio.create_task(spawner(), name="parent")
                await spawner.spawn()
                if taker == "adopt":
                    outer.adopt(task)
                else:
                    hand_off(task, reason="x")
                await spawner.spawn()
            await spawner.spawn()
        assert leaked(inner) == {"child-0"}
        assert leaked(outer) == {"parent", "child-1", "child-2"}
        records = {record.name: record for record in outer.report.leaks}
        assert records["child-2"].spawn_chain[0] == records["parent"].spawn_site
        # nothing of the closed scope sticks to it
        assert all(record.closed_scope is None for record in outer.report.leaks)

    run(main)


def test_so_it_is_with_grandchildren_and_with_scopes_that_the_task_opens(run: Run) -> None:
    async def main() -> None:
        spawners = [Spawner(), Spawner()]
        own = quiet("of the task")
        opened = asyncio.Event()

        async def task_body() -> None:
            await opened.wait()
            asyncio.create_task(spawners[0](), name="grandparent")
            async with own:
                asyncio.create_task(spawners[1](), name="in own scope")
                await spawners[1].spawn()
            await forever()

        async with quiet("outer") as outer:
            async with quiet("inner") as inner:
                task = asyncio.create_task(task_body(), name="task")
                await asyncio.sleep(0)
                hand_off(task, reason="x")
            opened.set()
            await until(lambda: own.snapshot().spawned == 2)
            await spawners[0].spawn()
            await until(lambda: spawners[1].children and spawners[1].children[0].done())
        assert inner.report.ok
        assert leaked(own) == {"in own scope", "child-0"}
        assert leaked(outer) == {"task", "grandparent", "child-0"}

    run(main)


def test_when_the_taker_closes_what_the_task_spawns_goes_to_the_takers_ancestor(run: Run) -> None:
    async def main() -> None:
        release, spawned = asyncio.Event(), asyncio.Event()

        async def stubborn() -> None:
            while not release.is_set():
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    continue
            asyncio.create_task(forever(), name="late child")
            spawned.set()

        async with quiet("outermost") as outermost:
            async with quiet("taker", cancel_timeout=0.02) as taker:
                async with quiet("inner"):
                    task = asyncio.create_task(stubborn(), name="stubborn")
                    await asyncio.sleep(0)
                    hand_off(task, reason="x")
            release.set()
            await spawned.wait()
        assert leaked(taker) == {"stubborn"}
        assert leaked(outermost) == {"late child"}
        assert outermost.report.leaks[0].closed_scope == "taker"

    run(main)


def test_a_task_spawned_in_an_empty_context_can_be_handed_off_too(run: Run) -> None:
    async def main() -> None:
        spawner = Spawner()
        async with quiet("outer") as outer:
            async with quiet("inner") as inner:
                task = asyncio.create_task(spawner(), name="lost", context=contextvars.Context())
                await spawner.spawn()
                hand_off(task, reason="x")
                await spawner.spawn()
            await spawner.spawn()
        assert leaked(inner) == {"child-0"}
        assert leaked(outer) == {"lost", "child-1", "child-2"}

    run(main)


def test_a_task_can_hand_itself_off_even_in_its_first_step(run: Run) -> None:
    async def independent() -> None:
        task: Any = asyncio.current_task()
        hand_off(task, reason="it knows best")
        asyncio.create_task(forever(), name="child")
        await forever()

    async def main() -> None:
        async with quiet("outer") as outer:
            async with quiet("inner") as inner:
                task = asyncio.create_task(independent(), name="independent")
                await turns()
            assert not task.done()
        assert (leaked(inner), leaked(outer)) == (set(), {"independent", "child"})
        assert given_away(inner) == {"independent": "handed off: it knows best"}

    run(main)


def test_a_task_that_is_handed_off_while_its_scope_ends_is_not_cancelled(run: Run) -> None:
    async def main() -> None:
        async with quiet("outer") as outer:
            async with TaskScope("inner", grace=0.05) as inner:

                async def leaving() -> None:
                    await turns(5)
                    task: Any = asyncio.current_task()
                    hand_off(task, reason="late, but said")
                    await forever()

                task = asyncio.create_task(leaving(), name="leaving")
            assert not task.done()
        assert inner.report.ok and given_away(inner) == {"leaving": "handed off: late, but said"}
        assert leaked(outer) == {"leaving"}

    run(main)


def test_the_root_scope_takes_and_gives_like_any_other(run: Run) -> None:
    async def main() -> None:
        installation = install(root="app", grace=0, on_leak="ignore")
        async with quiet("request") as request:
            task = asyncio.create_task(forever(), name="from request")
            hand_off(task, reason="a background job")
        background = asyncio.create_task(forever(), name="background")
        released = asyncio.create_task(forever(), name="released")
        hand_off(released, reason="the program's own")
        async with quiet("adopter") as adopter:
            adopter.adopt(background)
        await installation.aclose()
        root = installation.root
        assert root is not None
        assert given_away(request) == {"from request": "handed off: a background job"}
        assert leaked(adopter) == {"background"}
        assert leaked(root) == {"from request"}
        assert given_away(root) == {"released": "released for good: the program's own"}
        assert not released.done()
        await end(released)

    run(main)


def test_switched_off_handing_does_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKSCOPE", "off")

    async def main() -> None:
        async with TaskScope(grace=0) as scope:
            task = asyncio.create_task(forever())
            hand_off(task, reason="x")
            hand_off(task, scope, reason="x")
            scope.adopt(task)
            with pytest.raises(TypeError):
                scope.adopt(1)  # type: ignore[arg-type]
        assert not task.done() and scope.report.ok
        await end(task)

    run(main)


# Another loop


@pytest.fixture
def other_loop() -> Any:
    """A loop that runs in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_a_task_of_another_loop_can_be_adopted_and_is_cancelled_there(
    run: Run, other_loop: asyncio.AbstractEventLoop
) -> None:
    tasks: list[asyncio.Task[None]] = []
    ended_in: list[int] = []

    async def remote() -> None:
        task: Any = asyncio.current_task()
        task.set_name("remote")
        tasks.append(task)
        try:
            await forever()
        finally:
            ended_in.append(threading.get_ident())

    async def main() -> None:
        future = asyncio.run_coroutine_threadsafe(remote(), other_loop)
        await until(lambda: tasks)
        async with quiet() as scope:
            scope.adopt(tasks[0])
        assert leaked(scope) == {"remote"}
        assert scope.report.leaks[0].outcome == "cancelled"
        assert future.cancelled()

    run(main)
    assert ended_in and ended_in[0] != threading.get_ident()


def test_a_task_of_another_loop_can_be_handed_off_and_is_left_alone(
    run: Run, other_loop: asyncio.AbstractEventLoop
) -> None:
    tasks: list[asyncio.Task[None]] = []

    async def remote() -> None:
        task: Any = asyncio.current_task()
        tasks.append(task)
        await forever()

    async def main() -> None:
        installed: asyncio.Future[Any] = asyncio.wrap_future(
            asyncio.run_coroutine_threadsafe(call(lambda: install(other_loop)), other_loop)
        )
        installation = await installed
        async with TaskScope(grace=0) as scope:
            future = asyncio.run_coroutine_threadsafe(remote(), other_loop)
            await until(lambda: tasks)
            hand_off(tasks[0], reason="the other loop ends it")
        assert scope.report.ok and list(given_away(scope).values()) == ["released for good: the other loop ends it"]
        assert not future.done()
        other_loop.call_soon_threadsafe(tasks[0].cancel)
        await until(future.done)
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(call(installation.uninstall), other_loop))

    async def call(function: Callable[[], Any]) -> Any:
        return function()

    run(main)


# Task groups that hold a task


Spawn = Callable[[str], object]
Holding = Callable[[Callable[[Spawn], Awaitable[None]]], Awaitable[None]]


async def in_task_group(body: Callable[[Spawn], Awaitable[None]]) -> None:
    async with asyncio.TaskGroup() as group:
        tasks: list[asyncio.Task[None]] = []
        await body(lambda name: tasks.append(group.create_task(forever(), name=name)))
        for task in tasks:
            task.cancel()


async def in_anyio_group(body: Callable[[Spawn], Awaitable[None]]) -> None:
    async with anyio.create_task_group() as group:
        await body(lambda name: group.start_soon(forever, name=name))
        group.cancel_scope.cancel()


@pytest.fixture(params=[in_task_group, in_anyio_group], ids=["TaskGroup", "AnyIO"])
def holding(request: pytest.FixtureRequest) -> Holding:
    """Runs a body with a function that spawns into a group round it."""
    opened: Holding = request.param
    return opened


@pytest.mark.parametrize("outer_groups", ["leak", "transfer"])
def test_a_task_in_a_group_opened_outside(run: Run, holding: Holding, outer_groups: str) -> None:
    async def main() -> None:
        scope = quiet(outer_groups=outer_groups)

        async def body(spawn: Spawn) -> None:
            async with scope:
                spawn("in the group")
                asyncio.create_task(forever(), name="alone")
                await turns()

        await holding(body)
        if outer_groups == "leak":
            assert leaked(scope) == {"in the group", "alone"} and not scope.report.transferred
            owners = {record.name: record.owner for record in scope.report.leaks}
        else:
            assert leaked(scope) == {"alone"}
            assert given_away(scope) == {"in the group": None}
            owners = {record.name: record.owner for record in (*scope.report.leaks, *scope.report.transferred)}
            assert scope.report.transferred[0].outcome is None
            assert scope.report.transferred[0].spawn_site is not None
        assert owners["alone"] is None
        assert re.search("roup opened .*by task", owners["in the group"] or "")

    run(main)


def test_a_task_left_to_its_group_is_not_touched_and_not_waited_for(run: Run) -> None:
    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            async with TaskScope(grace=1_000, outer_groups="transfer") as scope:
                task = group.create_task(forever(), name="held")
                await asyncio.sleep(0)
            assert not task.done() and task.cancelling() == 0
            assert scope.report.ok and given_away(scope) == {"held": None}
            assert scope.report.settled_after < 100
            task.cancel()

    run(main)


@pytest.mark.parametrize("outer_groups", ["leak", "transfer"])
def test_a_group_opened_inside_by_a_task_that_is_left_is_part_of_the_leak(
    run: Run, holding: Holding, outer_groups: str
) -> None:
    async def main() -> None:
        async def opener() -> None:
            async def body(spawn: Spawn) -> None:
                spawn("held")
                await forever()

            await holding(body)

        async with quiet(outer_groups=outer_groups) as scope:
            asyncio.create_task(opener(), name="opener")
            await turns()
        assert leaked(scope) == {"opener", "held"} and not scope.report.transferred
        assert all(record.outcome == "cancelled" for record in scope.report.leaks)

    run(main)


def test_a_group_opened_and_closed_inside_is_clean(run: Run, holding: Holding) -> None:
    async def main() -> None:
        async def body(spawn: Spawn) -> None:
            spawn("held")
            await turns()

        async with TaskScope(grace=0, outer_groups="transfer") as scope:
            await holding(body)
        assert scope.report == Report(scope.name, spawned=1)

    run(main)


def test_what_a_held_task_spawned_is_not_held(run: Run, holding: Holding) -> None:
    async def main() -> None:
        scope = quiet(outer_groups="transfer")

        async def body(spawn: Spawn) -> None:
            async with scope:
                asyncio.create_task(forever(), name="loose")
                spawn("held")
                await turns()

        async with quiet("outer") as outer:
            await holding(body)
        assert leaked(scope) == {"loose"} and set(given_away(scope)) == {"held"}
        assert outer.report.ok

    run(main)


def test_a_leak_in_an_outer_group_does_not_end_the_group(run: Run) -> None:
    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            other = group.create_task(turns(20), name="other")
            with pytest.raises(TaskLeakError) as caught:
                async with TaskScope(grace=0):
                    group.create_task(forever(), name="leaked")
            assert [record.name for record in caught.value.report.leaks] == ["leaked"]
        assert other.done() and not other.cancelled()

    run(main)


@pytest.mark.parametrize("outer_groups", ["leak", "transfer"])
def test_a_task_in_an_outer_group_that_ends_in_time_is_no_leak(run: Run, holding: Holding, outer_groups: str) -> None:
    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            async with TaskScope(grace=10, outer_groups=outer_groups) as scope:  # type: ignore[arg-type]
                group.create_task(turns(5), name="short")
        assert scope.report.ok
        if outer_groups == "leak":
            assert [record.name for record in scope.report.late] == ["short"]
        else:
            assert set(given_away(scope)) == {"short"} and not scope.report.late

    run(main)
