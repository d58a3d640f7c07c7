"""Scopes beside other threads and their loops: whose tasks are whose, and how they are ended from afar."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import functools
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest
from conftest import Run
from stopwatch import Stopwatch

from taskscope import Report, TaskLeakError, TaskScope, current_scope, hand_off, install

NewLoop = Callable[[], asyncio.AbstractEventLoop]

PATIENCE = 30
"""Seconds after which a test that waits for another thread fails instead of hanging."""


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


async def nothing() -> None:
    pass


def quiet(name: str | None = None, **policy: object) -> TaskScope:
    """A scope that judges at once and only reports."""
    return TaskScope(name, **{"grace": 0, "on_leak": "ignore", **policy})  # type: ignore[arg-type]


def names(scope: TaskScope) -> set[str]:
    return {record.name for record in scope.report.leaks}


class OtherLoop:
    """A loop that runs in a thread of its own."""

    def __init__(self, new_loop: NewLoop, *, installed: bool = True) -> None:
        self.loop = new_loop()
        self.thread = threading.Thread(target=self._run, name="other loop")
        self.thread.start()
        if installed:
            self.call(self._install)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    async def _install(self) -> None:
        install()

    def call(self, function: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> Any:
        """Runs a coroutine function over there, in a context without a tag, and waits for it in this thread."""
        return contextvars.Context().run(self.submit, function(*args)).result(PATIENCE)

    def submit(self, coro: Coroutine[Any, Any, Any]) -> concurrent.futures.Future[Any]:
        return asyncio.run_coroutine_threadsafe(coro, self.loop)

    def stop(self) -> None:
        if self.thread.is_alive():
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join(PATIENCE)
        assert not self.thread.is_alive()

    def close(self) -> None:
        self.stop()
        if self.loop.is_closed():
            return
        left = asyncio.all_tasks(self.loop)
        for task in left:
            task.cancel()
        self.loop.run_until_complete(asyncio.gather(*left, return_exceptions=True)) if left else None
        self.loop.close()


@pytest.fixture
def other(new_loop: NewLoop) -> Iterator[OtherLoop]:
    other = OtherLoop(new_loop)
    yield other
    other.close()


@pytest.fixture
def bare(new_loop: NewLoop) -> Iterator[OtherLoop]:
    """Another loop, without taskscope on it."""
    other = OtherLoop(new_loop, installed=False)
    yield other
    other.close()


async def named_forever(name: str, started: threading.Event | None = None) -> None:
    """What `run_coroutine_threadsafe` makes a task of cannot be given a name, so it names itself.

    Not in its first step, which an eager task has before the loop gives it a name.
    """
    await asyncio.sleep(0)
    task = asyncio.current_task()
    assert task is not None
    task.set_name(name)
    if started is not None:
        started.set()
    await forever()


async def until_set(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, PATIENCE)


# --- many loops at once


def in_threads(count: int, work: Callable[[int], None]) -> None:
    """Runs `work` in so many threads at once. What one raises is raised here."""
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        for future in [pool.submit(work, number) for number in range(count)]:
            future.result(PATIENCE * 2)


def test_scopes_of_several_loops_at_once_name_their_own_tasks(new_loop: NewLoop) -> None:
    inside = threading.Barrier(4)
    reports: dict[int, Report] = {}

    async def child(number: int) -> None:
        asyncio.create_task(forever(), name=f"grandchild {number}")
        await forever()

    async def main(number: int) -> None:
        bystander = asyncio.create_task(forever())
        async with quiet(f"scope {number}") as scope:
            asyncio.create_task(child(number), name=f"child {number}")
            await asyncio.sleep(0)
            await asyncio.get_running_loop().run_in_executor(None, inside.wait, PATIENCE)
        reports[number] = scope.report
        assert not bystander.done()
        bystander.cancel()

    def work(number: int) -> None:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(main(number))

    in_threads(4, work)
    for number in range(4):
        assert {record.name for record in reports[number].leaks} == {f"child {number}", f"grandchild {number}"}
        assert reports[number].scope == f"scope {number}" and reports[number].spawned == 2
        assert not reports[number].survivors


def test_each_loop_has_its_own_installation_and_root(new_loop: NewLoop) -> None:
    installed = threading.Barrier(4)
    reports: dict[int, Report | None] = {}

    async def main(number: int) -> None:
        installation = install(root=f"app {number}", grace=0, on_leak="ignore")
        await asyncio.get_running_loop().run_in_executor(None, installed.wait, PATIENCE)
        asyncio.create_task(forever(), name=f"leak {number}")
        asyncio.create_task(forever(), name=f"lost {number}", context=contextvars.Context())
        await installation.aclose()
        reports[number] = installation.report

    def work(number: int) -> None:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(main(number))

    in_threads(4, work)
    for number in range(4):
        report = reports[number]
        assert report is not None and report.scope == f"app {number}"
        assert {record.name for record in report.leaks} == {f"leak {number}", f"lost {number}"}


def test_eight_threads_that_spawn_without_end_disturb_nobody(new_loop: NewLoop) -> None:
    """Eight loops, each with scopes that open, leak, sweep and close, and all send tasks to each other's loops."""
    loops: dict[int, asyncio.AbstractEventLoop] = {}
    together = threading.Barrier(8)
    rounds, width = 12, 150

    async def parcel(arrived: list[int]) -> None:
        arrived.append(1)

    async def main(number: int) -> None:
        install()
        loops[number] = asyncio.get_running_loop()
        await asyncio.to_thread(together.wait, PATIENCE)
        for turn in range(rounds):
            async with quiet(f"{number}/{turn}") as scope:
                leaks = [asyncio.create_task(forever(), name=f"{number}/{turn}/{leak}") for leak in range(5)]
                await asyncio.gather(*(nothing() for _ in range(width)))
                arrived: list[int] = []
                neighbour = loops[(number + 1 + turn % 7) % 8]
                sent = [asyncio.run_coroutine_threadsafe(parcel(arrived), neighbour) for _ in range(20)]
                for future in sent:
                    await asyncio.wrap_future(future)
                assert len(arrived) == 20
            assert names(scope) == {f"{number}/{turn}/{leak}" for leak in range(5)}
            assert scope.report.spawned == 5 + width + 20
            assert all(leak.cancelled() for leak in leaks)
        await asyncio.get_running_loop().run_in_executor(None, together.wait, PATIENCE)

    def work(number: int) -> None:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(main(number))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        in_threads(8, work)
    finally:
        sys.setswitchinterval(interval)


def test_eight_loops_that_spawn_for_one_scope_lose_and_invent_nothing(run: Run, new_loop: NewLoop) -> None:
    """One table, written from nine threads: swept, sampled and counted meanwhile."""
    others = [OtherLoop(new_loop) for _ in range(8)]
    count = 400

    async def spawn_many(number: int) -> None:
        for turn in range(count):
            asyncio.create_task(nothing())
            if turn % 100 == 0:
                asyncio.create_task(named_forever(f"{number}/{turn}"))
            if turn % 25 == 0:
                await asyncio.sleep(0)

    async def main() -> None:
        async with quiet(cancel_timeout=PATIENCE) as scope:
            sent = [other.submit(spawn_many(number)) for number, other in enumerate(others)]
            for _ in range(count):
                await asyncio.create_task(nothing())
            for future in sent:
                await asyncio.wrap_future(future)
            for other in others:  # until what they spawned last has had its first step
                await asyncio.wrap_future(other.submit(asyncio.sleep(0)))
            rows = scope._table.rows
            finished = sum(task.done() for task in list(rows))
            assert finished <= max(128, len(rows) - finished) + 8 * 16  # the threads sweep when they next spawn
        expected = {f"{number}/{turn}" for number in range(8) for turn in range(0, count, 100)}
        assert names(scope) == expected
        assert {record.outcome for record in scope.report.leaks} == {"cancelled"}
        assert scope.report.spawned == 8 * (1 + count + len(expected) // 8) + count + 8

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        run(main)
    finally:
        sys.setswitchinterval(interval)
        for other in others:
            other.close()


# --- the tag on its way


def test_the_tag_travels_into_a_thread_to_another_loop_and_back(run: Run, other: OtherLoop) -> None:
    async def there(started: threading.Event) -> str:
        scope = current_scope()
        asyncio.create_task(named_forever("child there", started))
        return "nobody" if scope is None else scope.name

    async def main() -> None:
        home = asyncio.get_running_loop()
        started, back = threading.Event(), threading.Event()

        def in_thread() -> tuple[str, str]:
            scope = current_scope()
            assert scope is not None
            seen = other.submit(there(started)).result(PATIENCE)
            asyncio.run_coroutine_threadsafe(named_forever("sent home", back), home)
            return scope.name, seen

        async with quiet("bystander") as bystander, quiet("mine") as mine:
            assert await asyncio.to_thread(in_thread) == ("mine", "mine")
            await until_set(started)
            await until_set(back)
        assert names(mine) == {"child there", "sent home"}
        assert {record.outcome for record in mine.report.leaks} == {"cancelled"}
        assert bystander.report.ok and bystander.report.spawned == 0
        assert current_scope() is None

    run(main)


def test_a_round_trip_over_two_loops_keeps_the_owner(run: Run, other: OtherLoop) -> None:
    """Home spawns there, there spawns here: by the tag each time, and each time for the same scope."""

    async def there(home: asyncio.AbstractEventLoop, back: threading.Event) -> None:
        asyncio.run_coroutine_threadsafe(named_forever("home again", back), home)
        await named_forever("there")

    async def main() -> None:
        back = threading.Event()
        async with quiet() as scope:
            other.submit(there(asyncio.get_running_loop(), back))
            await until_set(back)
        assert names(scope) == {"there", "home again"}
        assert {record.outcome for record in scope.report.leaks} == {"cancelled"}

    run(main)


def test_what_has_ended_over_there_is_clean(run: Run, other: OtherLoop) -> None:
    async def main() -> None:
        async with TaskScope(grace=PATIENCE) as scope:
            for _ in range(200):
                await asyncio.wrap_future(other.submit(nothing()))
        assert scope.report.ok and scope.report.spawned == 200

    run(main)


def test_tasks_over_there_that_end_in_the_grace_are_late(run: Run, other: OtherLoop) -> None:
    async def main() -> None:
        started = threading.Event()
        release: list[asyncio.Event] = []

        async def there() -> None:
            release.append(asyncio.Event())
            started.set()
            await release[0].wait()

        async with TaskScope(grace=PATIENCE) as scope:
            other.submit(there())
            await until_set(started)
            other.loop.call_soon_threadsafe(release[0].set)
        assert scope.report.ok
        assert [record.outcome for record in scope.report.late] in ([], ["finished"])
        assert scope.report.spawned == 1

    run(main)


def test_what_another_loop_spawns_by_itself_is_nobodys(run: Run, other: OtherLoop) -> None:
    async def spawn() -> asyncio.Task[None]:
        return asyncio.create_task(forever())

    async def main() -> None:
        async with TaskScope(grace=0, scan=True) as scope:
            task = await asyncio.get_running_loop().run_in_executor(None, other.call, spawn)
        assert scope.report.ok and scope.report.spawned == 0
        assert not task.done()

    run(main)


def test_without_taskscope_on_the_other_loop_its_tasks_are_not_seen(run: Run, bare: OtherLoop) -> None:
    async def main() -> None:
        started = threading.Event()
        async with TaskScope(grace=0) as scope:
            future = bare.submit(named_forever("unseen", started))
            await until_set(started)
        assert scope.report.ok and scope.report.spawned == 0
        assert not future.done()

    run(main)


def test_run_in_executor_loses_the_context(run: Run, other: OtherLoop) -> None:
    """As the README states: what such a thread sends to a loop belongs to no scope, or to the root scope there."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        started = threading.Event()

        def in_thread(target: asyncio.AbstractEventLoop, name: str) -> concurrent.futures.Future[None]:
            assert current_scope() is None
            started.clear()
            future = asyncio.run_coroutine_threadsafe(named_forever(name, started), target)
            assert started.wait(PATIENCE)
            return future

        async with TaskScope(grace=0) as scope:
            here = await loop.run_in_executor(None, in_thread, loop, "here")
            there = await loop.run_in_executor(None, in_thread, other.loop, "there")
        assert scope.report.ok and scope.report.spawned == 0
        assert not here.done() and not there.done()
        here.cancel()

        async with install(root="app", grace=0, on_leak="ignore") as installation:
            async with TaskScope(grace=0):
                await loop.run_in_executor(None, in_thread, loop, "of the root")
        assert installation.root is not None and names(installation.root) == {"of the root"}

        # the clean twin: to_thread carries the context
        async with quiet() as scope:
            carried = contextvars.copy_context()
            await loop.run_in_executor(
                None, functools.partial(carried.run, asyncio.run_coroutine_threadsafe, named_forever("carried"), loop)
            )
            await asyncio.sleep(0)  # from 3.14 on, the call that spawns can still be to come
        assert scope.report.spawned == 1

    run(main)


def test_a_scope_that_has_closed_meanwhile_passes_on_what_a_thread_sends(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        closed, started = threading.Event(), threading.Event()
        scopes: list[str] = []

        def in_thread() -> None:
            assert closed.wait(PATIENCE)
            scope = current_scope()
            scopes.append("nobody" if scope is None else scope.name)
            asyncio.run_coroutine_threadsafe(named_forever("after", started), loop)

        async with quiet("outer") as outer:
            async with quiet("inner") as inner:
                context = contextvars.copy_context()
                future = loop.run_in_executor(None, context.run, in_thread)
            closed.set()
            await future
            await until_set(started)
        assert inner.report.ok and names(outer) == {"after"}
        assert outer.report.leaks[0].closed_scope == "inner"
        assert scopes == ["outer"]

    run(main)


# --- ending what is elsewhere


def test_a_task_on_another_loop_is_cancelled_there(run: Run, other: OtherLoop) -> None:
    threads: list[threading.Thread] = []

    async def there(started: threading.Event) -> None:
        started.set()
        try:
            await forever()
        finally:
            threads.append(threading.current_thread())

    async def main() -> None:
        started = threading.Event()
        with pytest.raises(TaskLeakError) as caught:
            async with TaskScope(grace=0.01):
                future = other.submit(there(started))
                await until_set(started)
        report = caught.value.report
        assert [record.outcome for record in report.leaks] == ["cancelled"]
        assert report.leaks[0].stack[-1].function == "forever"
        assert future.cancelled()

    run(main)
    assert threads == [other.thread]


def test_a_task_on_another_loop_that_refuses_to_end_is_a_survivor(run: Run, other: OtherLoop) -> None:
    release: list[asyncio.Event] = []

    async def stubborn(started: threading.Event) -> None:
        release.append(asyncio.Event())
        started.set()
        while not release[0].is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await release[0].wait()

    async def main() -> None:
        started = threading.Event()
        async with quiet(cancel_timeout=0.05) as scope:
            future = other.submit(stubborn(started))
            await until_set(started)
        assert [record.outcome for record in scope.report.survivors] == ["survived"]
        assert "swallowed in" in (scope.report.survivors[0].outcome_detail or "")
        other.loop.call_soon_threadsafe(release[0].set)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wrap_future(future)

    run(main)


def test_a_task_on_another_loop_that_fails_when_cancelled_is_told_so(run: Run, other: OtherLoop) -> None:
    async def fail(started: threading.Event) -> None:
        started.set()
        try:
            await forever()
        except asyncio.CancelledError:
            raise ZeroDivisionError("over there") from None

    async def main() -> None:
        started = threading.Event()
        async with quiet() as scope:
            future = other.submit(fail(started))
            await until_set(started)
        assert [record.outcome for record in scope.report.leaks] == ["failed"]
        assert "over there" in (scope.report.leaks[0].outcome_detail or "")
        with pytest.raises((ZeroDivisionError, asyncio.CancelledError)):
            await asyncio.wrap_future(future)

    run(main)


@pytest.mark.parametrize("closed", [False, True], ids=["stopped", "closed"])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_task_on_a_loop_that_runs_no_longer_survives_and_the_exit_is_bounded(
    run: Run, new_loop: NewLoop, closed: bool
) -> None:
    other = OtherLoop(new_loop)
    tasks: list[asyncio.Task[Any]] = []

    async def there(started: threading.Event) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.append(task)
        await named_forever("stranded", started)

    async def main() -> None:
        started = threading.Event()
        async with quiet(grace=0.05, cancel_timeout=0.1) as scope:
            other.submit(there(started))
            asyncio.create_task(forever(), name="here")
            await until_set(started)
            other.stop()
            if closed:
                other.loop.close()
            began = Stopwatch()
        assert began.seconds() < 0.05 + 0.1 + 0.25
        outcomes = {record.name: record.outcome for record in scope.report.leaks}
        assert outcomes == {"stranded": "survived", "here": "cancelled"}
        assert "event loop is not running" in (scope.report.survivors[0].outcome_detail or "")
        assert str(scope.report)

    run(main)
    if closed:
        # nobody can end it any more: at least let it go without a word
        tasks[0]._log_destroy_pending = False  # type: ignore[attr-defined]
        tasks[0].get_coro().close()  # type: ignore[union-attr]
    other.close()


def test_a_loop_that_stops_while_its_tasks_are_being_cancelled(run: Run, new_loop: NewLoop) -> None:
    other = OtherLoop(new_loop)

    async def there(started: threading.Event) -> None:
        started.set()
        try:
            await forever()
        finally:
            other.loop.stop()
            await forever()

    async def main() -> None:
        started = threading.Event()
        async with quiet(cancel_timeout=0.2) as scope:
            other.submit(there(started))
            await until_set(started)
            began = Stopwatch()
        assert began.seconds() < 0.2 + 0.25
        assert [record.outcome for record in scope.report.survivors] == ["survived"]

    run(main)
    other.close()


def test_nothing_is_left_on_the_other_loop(run: Run, other: OtherLoop) -> None:
    """Neither a callback on its tasks nor a timer."""
    tasks: list[asyncio.Task[Any]] = []

    async def stubborn(started: threading.Event) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.append(task)
        ours = getattr(task, "_callbacks", None)
        before.extend(ours or ())
        started.set()
        while True:
            try:
                await forever()
            except asyncio.CancelledError:
                if released.is_set():
                    raise

    before: list[Any] = []
    released = threading.Event()

    async def callbacks() -> list[Any]:
        return [callback for callback, *_ in getattr(tasks[0], "_callbacks", None) or ()]

    async def main() -> None:
        started = threading.Event()
        async with quiet(cancel_timeout=0.02) as scope:
            other.submit(stubborn(started))
            await until_set(started)
        assert scope.report.survivors
        left = await asyncio.get_running_loop().run_in_executor(None, other.call, callbacks)
        assert not [callback for callback in left if "taskscope" in getattr(callback, "__module__", "")]
        released.set()
        other.loop.call_soon_threadsafe(tasks[0].cancel)

    run(main)


def test_tasks_over_there_can_be_handed_off_and_adopted(run: Run, other: OtherLoop) -> None:
    tasks: dict[str, asyncio.Task[Any]] = {}

    async def there(name: str, started: threading.Event) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks[name] = task
        await named_forever(name, started)

    async def main() -> None:
        async with quiet("outer") as outer:
            async with TaskScope("inner", grace=0) as inner:
                for name in ("handed off", "adopted", "released"):
                    started = threading.Event()
                    other.submit(there(name, started))
                    await until_set(started)
                hand_off(tasks["handed off"], reason="ends with the outer scope")
                outer.adopt(tasks["adopted"])
                hand_off(tasks["released"], outer, reason="first step")
            hand_off(tasks["released"], reason="serves the process")
        assert inner.report.ok
        assert names(outer) == {"handed off", "adopted"}
        assert not tasks["released"].done()

    run(main)


# --- AnyIO


def test_from_thread_carries_the_tag_there_and_back(run: Run) -> None:
    async def main() -> None:
        def in_thread() -> None:
            scope = current_scope()
            assert scope is mine
            anyio.from_thread.run(spawn)
            anyio.from_thread.run_sync(spawn_sync)

        async def spawn() -> None:
            assert current_scope() is mine
            asyncio.create_task(forever(), name="by run")

        def spawn_sync() -> None:
            asyncio.create_task(forever(), name="by run_sync")

        async with quiet("bystander") as bystander, quiet("mine") as mine:
            await anyio.to_thread.run_sync(in_thread)
        assert names(mine) == {"by run", "by run_sync"}
        assert bystander.report.ok and bystander.report.spawned == 0

    run(main)


def test_from_thread_leaves_a_clean_scope_clean(run: Run) -> None:
    async def main() -> None:
        async with TaskScope(grace=PATIENCE) as scope:
            await anyio.to_thread.run_sync(anyio.from_thread.run, nothing)
            await anyio.to_thread.run_sync(anyio.from_thread.run_sync, threading.get_ident)
        assert scope.report.ok

    run(main)


def test_a_portal_works_beside_a_scope_and_its_tasks_have_their_owner(run: Run) -> None:
    async def main() -> None:
        def in_thread(portal: anyio.from_thread.BlockingPortal) -> str:
            portal.start_task_soon(anyio.sleep_forever, name="by the portal")
            return portal.call(result)

        async def result() -> str:
            asyncio.create_task(forever(), name="by its task")
            return "result"

        async with anyio.from_thread.BlockingPortal() as portal:
            async with quiet("mine") as mine:
                assert await anyio.to_thread.run_sync(in_thread, portal) == "result"
            await portal.stop(cancel_remaining=True)
        assert names(mine) == {"by the portal", "by its task"}
        assert not mine.report.survivors

    run(main)


def test_a_portal_of_a_thread_without_a_loop() -> None:
    """Synchronous code that starts a loop in a thread: scopes inside of it work as anywhere."""

    async def leaky() -> set[str]:
        async with quiet() as scope:
            asyncio.create_task(forever(), name="leak")
        return names(scope)

    async def clean() -> bool:
        async with TaskScope(grace=0) as scope:
            await asyncio.create_task(nothing())
        return scope.report.ok

    with anyio.from_thread.start_blocking_portal() as portal:
        assert portal.call(leaky) == {"leak"}
        assert portal.call(clean)


def test_a_portal_started_inside_a_scope_has_a_loop_of_its_own(run: Run) -> None:
    """Its loop has no factory of ours, so what it runs is not this scope's, and is ended by the portal."""

    async def main() -> None:
        def in_thread() -> str:
            with anyio.from_thread.start_blocking_portal() as portal:
                portal.start_task_soon(anyio.sleep_forever)
                name = portal.call(name_of_scope)
                portal.call(portal.stop, True)
            return name

        async def name_of_scope() -> str:
            async with quiet("inside") as scope:
                asyncio.create_task(forever(), name="of the portal")
            return f"{scope.name}: {', '.join(names(scope))}"

        async with TaskScope("mine", grace=0) as mine:
            assert await asyncio.to_thread(in_thread) == "inside: of the portal"
        assert mine.report.ok

    run(main)


# --- the thread without a loop


def test_in_a_thread_the_current_scope_is_the_one_that_its_context_names(run: Run) -> None:
    async def main() -> None:
        assert await asyncio.to_thread(current_scope) is None
        async with TaskScope("outer") as outer:
            assert await asyncio.to_thread(current_scope) is outer
            async with TaskScope("inner") as inner:
                assert await asyncio.to_thread(current_scope) is inner
            assert await asyncio.to_thread(current_scope) is outer
            assert await asyncio.get_running_loop().run_in_executor(None, current_scope) is None

    run(main)


def test_a_thread_can_ask_for_a_snapshot(run: Run) -> None:
    async def main() -> None:
        async with quiet() as scope:
            asyncio.create_task(forever(), name="alive")
            await asyncio.sleep(0)
            report = await asyncio.to_thread(scope.snapshot)
            assert [record.name for record in report.leaks] == ["alive"]
        assert names(scope) == {"alive"}

    run(main)
