"""The end of a scope: its grace, what is noted before anything is cancelled, how it cancels, and what it leaves."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import functools
import gc
import linecache
import logging
import os
import selectors
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Coroutine, Generator, Iterator
from typing import Any, NoReturn

import pytest
from conftest import Run

from taskscope import Report, TaskLeakError, TaskLeakWarning, TaskScope, hand_off, install
from taskscope._report import DESCRIBED_LIMIT

LONG = 30.0
"""Seconds that nothing here really takes."""


async def forever() -> None:
    await asyncio.sleep(1_000)  # not on a future that nobody has: a grace that is proven to be in vain is cut short


async def ready(turns: int = 3) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)


def swallow_until(release: asyncio.Event) -> Coroutine[Any, Any, None]:
    """Swallows cancellations until it is released, or its spawner has ended: a test that fails is not to hang."""
    spawner = asyncio.current_task()
    assert spawner is not None

    async def stubborn() -> None:
        while not (release.is_set() or spawner.done()):
            with contextlib.suppress(asyncio.CancelledError):
                await release.wait()

    return stubborn()


def spawn(coro: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
    return asyncio.create_task(coro, name=name)


def quiet(name: str | None = None, **policy: object) -> TaskScope:
    """A scope that judges at once and only reports."""
    return TaskScope(name, **{"grace": 0, "on_leak": "ignore", **policy})  # type: ignore[arg-type]


def outcomes(report: Report) -> dict[str, str | None]:
    return {record.name: record.outcome for record in report.leaks}


def late(report: Report) -> dict[str, str | None]:
    return {record.name: record.outcome for record in report.late}


POLICIES: list[dict[str, Any]] = [{}, {"timeout": LONG}, {"scan": True}, {"spawn_site": "stack"}, {"grace": LONG}]


@pytest.mark.parametrize("policy", POLICIES, ids=str)
@pytest.mark.parametrize("error", [None, ZeroDivisionError, asyncio.CancelledError, KeyboardInterrupt])
def test_with_nothing_pending_the_exit_takes_no_turn_of_the_loop(
    run: Run, policy: dict[str, Any], error: type[BaseException] | None
) -> None:
    async def main() -> None:
        ran = False

        def note() -> None:
            nonlocal ran
            ran = True

        with contextlib.nullcontext() if error is None else pytest.raises(error):
            async with TaskScope(**policy):
                await asyncio.gather(ready(), asyncio.create_task(ready()))
                asyncio.get_running_loop().call_soon(note)
                if error is not None:
                    raise error
        assert not ran
        await ready()
        assert ran

    run(main)


def test_with_something_pending_it_does(run: Run) -> None:
    async def main() -> None:
        ran = asyncio.Event()
        async with TaskScope():
            spawn(ready(), "late")
            asyncio.get_running_loop().call_soon(ran.set)
        assert ran.is_set()

    run(main)


def test_what_ends_in_the_grace_is_late_and_the_grace_ends_with_it(run: Run) -> None:
    async def main() -> None:
        async def fail() -> None:
            await asyncio.sleep(0.01)
            raise ValueError("too late")

        async with TaskScope(grace=LONG) as scope:
            spawn(asyncio.sleep(0.01), "finishes")
            failing = spawn(fail(), "fails")
            spawn(asyncio.sleep(LONG), "is cancelled").cancel()
        report = scope.report
        assert report.ok and report.settled_after < LONG / 2
        assert late(report) == {"finishes": "finished", "fails": "failed", "is cancelled": "cancelled"}
        [detail] = [record.outcome_detail for record in report.late if record.name == "fails"]
        assert detail == "ValueError('too late')"
        assert report.spawned == 3
        assert isinstance(failing.exception(), ValueError)

    run(main)


def test_asyncio_still_complains_about_a_late_exception_that_nobody_has_seen(run: Run) -> None:
    async def main() -> None:
        complaints: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))

        async def fail() -> None:
            await ready()
            raise ValueError("too late")

        async with TaskScope() as scope:
            spawn(fail(), "fails")
        assert late(scope.report) == {"fails": "failed"}
        gc.collect()
        assert [str(context["exception"]) for context in complaints] == ["too late"]

    run(main)


def test_what_is_pending_when_the_grace_is_over_is_a_leak(run: Run) -> None:
    async def main() -> None:
        started = time.monotonic()
        with pytest.raises(TaskLeakError) as caught:
            async with TaskScope("mine", grace=0.05) as scope:
                task = spawn(forever(), "leak")
                spawn(asyncio.sleep(0.001), "late")
        assert time.monotonic() - started >= 0.04
        assert scope.report is caught.value.report
        assert scope.report.scope == "mine" and scope.report.phase == "exit" and not scope.report.ok
        assert outcomes(scope.report) == {"leak": "cancelled"}
        assert late(scope.report) == {"late": "finished"}
        assert scope.report.settled_after >= 0.04
        assert task.cancelled()

    run(main)


def test_without_grace_what_is_ready_to_end_still_ends(run: Run) -> None:
    async def main() -> None:
        async with TaskScope(grace=0) as scope:
            spawn(ready(10), "nearly done")
            future = asyncio.get_running_loop().create_future()
            spawn(asyncio.wait_for(future, LONG), "woken")
            await ready()
            future.set_result(None)
        assert scope.report.ok
        assert late(scope.report) == {"nearly done": "finished", "woken": "finished"}

    run(main)


def test_what_is_ready_for_ever_is_a_leak_all_the_same(run: Run) -> None:
    async def main() -> None:
        async with quiet() as scope:
            spawn(ready(10_000_000), "busy")
        assert outcomes(scope.report) == {"busy": "cancelled"}

    run(main)


def test_what_is_spawned_in_the_grace_joins_in(run: Run) -> None:
    async def main() -> None:
        async def parent() -> None:
            await ready()
            spawn(asyncio.sleep(0.02), "outlives its parent")
            spawn(forever(), "leak")

        async with quiet(grace=0.2) as scope:
            spawn(parent(), "parent")
        assert late(scope.report) == {"parent": "finished", "outlives its parent": "finished"}
        assert outcomes(scope.report) == {"leak": "cancelled"}

    run(main)


def test_stacks_are_taken_before_anything_is_cancelled(run: Run) -> None:
    async def clean_up() -> None:
        await ready()

    async def hang(other: asyncio.Task[Any] | None) -> None:
        try:
            await (forever() if other is None else other)
        finally:
            await clean_up()

    async def main() -> None:
        async with quiet() as scope:
            first = spawn(hang(None), "0")
            for number in range(1, 4):
                first = spawn(hang(first), str(number))
        assert outcomes(scope.report) == dict.fromkeys("0123", "cancelled")
        for record in scope.report.leaks:
            functions = [frame.function.rpartition(".")[2] for frame in record.stack]
            assert functions[0] == "hang" and "clean_up" not in functions
            assert record.verdict != "runnable"
            assert record.spawn_site is not None and record.spawn_site.function == "spawn"

    run(main)


def test_all_are_cancelled_at_once(run: Run) -> None:
    async def main() -> None:
        cancelled = 0

        async def wait_for_the_others() -> None:
            nonlocal cancelled
            try:
                await forever()
            finally:
                cancelled += 1
                if cancelled == 5:
                    everybody.set()
                await everybody.wait()

        everybody = asyncio.Event()
        async with quiet(cancel_timeout=LONG) as scope:
            for number in range(5):
                spawn(wait_for_the_others(), str(number))
            await ready()
        assert set(outcomes(scope.report).values()) == {"cancelled"}
        assert scope.report.settled_after < LONG / 2

    run(main)


def test_who_is_busy_cleaning_up_is_not_cancelled_again(run: Run) -> None:
    async def main() -> None:
        cancels: list[BaseException] = []

        async def clean_up() -> None:
            for _ in range(3):
                try:
                    await asyncio.sleep(0.02)
                except asyncio.CancelledError as error:
                    cancels.append(error)

        async def careful() -> None:
            try:
                await forever()
            finally:
                await clean_up()

        async with quiet(cancel_timeout=LONG) as scope:
            spawn(careful(), "careful")
            await ready()
        assert outcomes(scope.report) == {"careful": "cancelled"}
        assert scope.report.leaks[0].outcome_detail is None
        assert not cancels

    run(main)


def test_who_swallowed_a_cancellation_is_cancelled_again_and_the_report_says_so(run: Run) -> None:
    async def main() -> None:
        async def swallow_twice() -> None:
            for _ in range(2):
                while True:
                    try:
                        await forever()
                    except asyncio.CancelledError:
                        break
            await forever()

        async with quiet() as scope:
            spawn(swallow_twice(), "stubborn")
            await ready()
        [record] = scope.report.leaks
        assert (record.outcome, record.outcome_detail) == ("cancelled", "after 3 cancels")

    run(main)


def test_what_a_dying_task_spawns_is_cancelled_too(run: Run) -> None:
    async def main() -> None:
        async def parent() -> None:
            try:
                await forever()
            finally:
                spawn(forever(), "farewell")

        async with quiet() as scope:
            spawn(parent(), "parent")
            await ready()
        assert outcomes(scope.report) == {"parent": "cancelled", "farewell": "cancelled"}

    run(main)


def test_a_task_that_a_dying_one_needs_to_clean_up_may_end(run: Run) -> None:
    async def main() -> None:
        closed = False

        async def close() -> None:
            nonlocal closed
            await asyncio.sleep(0.05)
            closed = True

        async def client() -> None:
            try:
                await forever()
            finally:
                await spawn(close(), "closes")

        async with quiet(cancel_timeout=LONG) as scope:
            spawn(client(), "client")
            await ready()
        assert closed
        assert outcomes(scope.report) == {"client": "cancelled", "closes": "finished"}

    run(main)


def test_a_survivor_is_a_leak_that_did_not_end_in_time(run: Run) -> None:
    async def main() -> None:
        release = asyncio.Event()
        with pytest.raises(TaskLeakError) as caught:
            async with TaskScope(grace=0, cancel_timeout=0.05):
                task = spawn(swallow_until(release), "stubborn")
                spawn(forever(), "obedient")
                await ready()
        report = caught.value.report
        assert outcomes(report) == {"stubborn": "survived", "obedient": "cancelled"}
        [survivor] = report.survivors
        assert survivor in report.leaks
        assert "swallow_until" in (survivor.outcome_detail or "")
        assert "survived" in str(caught.value)
        assert not task.done()
        release.set()
        await task

    run(main)


def test_very_many_leaks_are_all_cancelled_and_the_number_of_those_left_out_is_told(run: Run) -> None:
    async def main() -> None:
        async with quiet() as scope:
            tasks = [spawn(forever(), str(number)) for number in range(DESCRIBED_LIMIT + 7)]
            await ready()
        assert all(task.cancelled() for task in tasks)
        assert len(scope.report.leaks) == DESCRIBED_LIMIT
        assert scope.report.leaks_omitted == 7
        assert scope.report.spawned == DESCRIBED_LIMIT + 7
        assert not scope.report.ok

    run(main)


def test_a_report_is_the_same_on_every_look_and_there_is_none_before(run: Run) -> None:
    async def main() -> None:
        scope = quiet("mine")
        async with scope:
            spawn(forever(), "leak")
            with pytest.raises(Exception, match="has not ended"):
                _ = scope.report
        assert scope.report is scope.report

    run(main)


# What it leaves.


def is_ours(callback: object) -> bool:
    while isinstance(callback, functools.partial):
        callback = callback.func
    return (getattr(callback, "__module__", None) or "").startswith("taskscope")


def left_of_ours() -> list[object]:
    """Whatever of ours is still at work on the running loop: callbacks on tasks, timers, threads."""
    loop: Any = asyncio.get_running_loop()
    handles = [*getattr(loop, "_ready", ()), *getattr(loop, "_scheduled", ())]
    callbacks = [handle._callback for handle in handles if not handle.cancelled()]
    for task in asyncio.all_tasks():
        callbacks += [callback for callback, *_ in getattr(task, "_callbacks", None) or ()]
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("taskscope")]
    return [*filter(is_ours, callbacks), *threads]


async def leave_nothing(scope: TaskScope, release: asyncio.Event) -> None:
    async with scope:
        spawn(swallow_until(release), "stubborn")
        spawn(forever(), "obedient")
        spawn(ready(), "late")
        await ready(1)


@pytest.mark.parametrize("on_leak", ["raise", "warn", "log", "ignore", lambda report: None])
@pytest.mark.parametrize("grace", [0, 0.02])
def test_a_closed_scope_leaves_no_task_timer_thread_or_callback(run: Run, on_leak: Any, grace: float) -> None:
    async def main() -> None:
        release = asyncio.Event()
        before = asyncio.all_tasks()
        outsider = spawn(forever(), "outsider")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TaskLeakWarning)
            with contextlib.suppress(TaskLeakError):
                await leave_nothing(TaskScope(grace=grace, cancel_timeout=0.05, on_leak=on_leak), release)
        assert not left_of_ours()
        assert {task.get_name() for task in asyncio.all_tasks() - before} == {"stubborn", "outsider"}
        release.set()
        outsider.cancel()
        await ready()

    run(main)


def test_an_open_scope_that_waits_is_seen_by_the_same_look(run: Run) -> None:
    async def main() -> None:
        seen: list[object] = []

        async def look() -> None:
            await ready(5)
            seen.extend(left_of_ours())

        async with TaskScope(grace=LONG):
            spawn(look(), "look")
        assert seen

    run(main)


def test_what_hands_a_scope_on_is_not_kept_alive_by_it(run: Run) -> None:
    async def main() -> None:
        async with TaskScope("outer", grace=LONG) as outer:
            async with TaskScope("inner", grace=0) as inner:
                task = spawn(ready(20), "given away")
                hand_off(task, reason="meant to")
            assert [record.name for record in inner.report.transferred] == ["given away"]
        assert late(outer.report) == {"given away": "finished"}
        assert not left_of_ours()

    run(main)


def loop_settings() -> dict[str, object]:
    loop = asyncio.get_running_loop()
    return {
        "debug": loop.get_debug(),
        "handler": loop.get_exception_handler(),
        "factory": loop.get_task_factory(),
        "slow": loop.slow_callback_duration,
        "filters": list(warnings.filters),
        "hooks": tuple(sys.get_asyncgen_hooks()),
        "trace": sys.get_coroutine_origin_tracking_depth(),
        "logging": (logging.getLogger("taskscope").handlers[:], logging.getLogger("taskscope").level),
    }


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("on_leak", ["raise", "warn", "log"])
def test_the_loop_and_the_interpreter_are_left_as_they_were(run: Run, debug: bool, on_leak: Any) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_debug(debug)
        await ready()
        loop.slow_callback_duration = 10.0
        before = loop_settings()
        inside: list[dict[str, object]] = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TaskLeakWarning)
            expected = {**before, "filters": list(warnings.filters)}
            with contextlib.suppress(TaskLeakError, ZeroDivisionError):
                async with TaskScope(grace=0.01, on_leak=on_leak):
                    spawn(forever(), "leak")
                    inside.append(loop_settings())
                    if on_leak == "log":
                        raise ZeroDivisionError
        assert loop_settings() == before
        assert {**inside[0], "factory": None} == {**expected, "factory": None}
        loop.set_debug(False)

    run(main)


# Clocks, and functions that tests replace.


class Turn:
    """A turn of the loop, without any help of asyncio's."""

    def __await__(self) -> Generator[None, None, None]:
        yield


async def bare_turns() -> None:
    for _ in range(3):
        await Turn()


def refuse(*args: object, **kwargs: object) -> NoReturn:
    raise AssertionError("nothing of ours may use this")


@pytest.mark.parametrize("on_leak", ["raise", "log"])
def test_an_exit_uses_nothing_that_tests_replace(run: Run, on_leak: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        release = asyncio.Event()
        caught = pytest.raises(TaskLeakError) if on_leak == "raise" else contextlib.nullcontext()
        with monkeypatch.context() as patch, caught:
            async with TaskScope(grace=0.02, cancel_timeout=0.05, on_leak=on_leak) as scope:
                spawn(swallow_until(release), "stubborn")
                spawn(forever(), "obedient")
                spawn(bare_turns(), "late")
                await ready(1)
                for name in (
                    "sleep",
                    "wait",
                    "wait_for",
                    "gather",
                    "shield",
                    "create_task",
                    "ensure_future",
                    "timeout",
                    "get_running_loop",
                    "Task",
                    "TaskGroup",
                ):
                    patch.setattr(asyncio, name, refuse)
                    if hasattr(asyncio.tasks, name):
                        patch.setattr(asyncio.tasks, name, refuse)
                patch.setattr(time, "sleep", refuse)
                if hasattr(loop, "__dict__"):
                    patch.setattr(loop, "call_at", refuse)
        assert outcomes(scope.report) == {"stubborn": "survived", "obedient": "cancelled"}
        assert late(scope.report) == {"late": "finished"}
        release.set()
        await ready()

    run(main)


@contextlib.contextmanager
def frozen(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """All clocks of `time` stand still, as under freezegun."""
    with monkeypatch.context() as patch:
        for name in ("time", "monotonic", "perf_counter"):
            now = getattr(time, name)()
            patch.setattr(time, name, lambda now=now: now)
        yield


def in_time(seconds: float) -> Callable[[], None]:
    """Returns what shows that no more than so much real time has passed; nothing that can be frozen is asked."""
    stopped, over = threading.Event(), threading.Event()

    def watch() -> None:
        if not stopped.wait(seconds):
            over.set()

    thread = threading.Thread(target=watch)
    thread.start()

    def check() -> None:
        stopped.set()
        thread.join()
        assert not over.is_set()

    return check


def test_a_frozen_clock_makes_no_leak_and_no_exit_without_end(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        release = asyncio.Event()
        loop = asyncio.get_running_loop()
        check = in_time(0.1 + 0.2 + 2.0)
        with frozen(monkeypatch):
            async with quiet(grace=0.1, cancel_timeout=0.2) as scope:
                spawn(swallow_until(release), "stubborn")
                spawn(forever(), "obedient")
                done = loop.create_future()
                spawn(asyncio.wait_for(done, None), "late")
                await ready()
                timer = threading.Timer(0.02, loop.call_soon_threadsafe, [done.set_result, None])
                timer.start()
        check()
        timer.join()
        assert outcomes(scope.report) == {"stubborn": "survived", "obedient": "cancelled"}
        assert late(scope.report) == {"late": "finished"}
        assert not left_of_ours()
        release.set()
        await ready()

    run(main)


def test_under_a_frozen_clock_a_leak_is_told_with_its_source(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        check = in_time(5.0)
        with frozen(monkeypatch), pytest.raises(ZeroDivisionError) as caught:
            async with TaskScope(grace=0.02):
                spawn(forever(), "leak")
                await ready()
                raise ZeroDivisionError
        check()
        assert "return asyncio.create_task(coro, name=name)" in caught.value.__notes__[0]
        assert not left_of_ours()

    run(main)


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Time passes only where the loop would wait: it jumps to the next timer then, as looptime's and aiotools' do."""

    def __init__(self) -> None:
        self.now = 1_000.0
        super().__init__(JumpingSelector(self))

    def time(self) -> float:
        return self.now


class JumpingSelector(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    def __init__(self, loop: VirtualTimeLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            return super().select(None)
        found = super().select(0)
        if not found and timeout > 0:
            self._loop.now += timeout
        return found


def run_in_virtual_time(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(main())


def test_in_virtual_time_nobody_looks_at_a_body() -> None:
    """Each look would be a time to jump to, and a body that sleeps long would take long."""

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        async with TaskScope(watch=0.25, timeout=10_000):
            await asyncio.sleep(3600)
            assert [timer.when() for timer in loop._scheduled] == [11_000.0], "its timeout alone"

    run_in_virtual_time(main)


def test_in_virtual_time_the_grace_goes_by_the_loops_clock() -> None:
    async def main() -> None:
        async def many_steps() -> None:
            for _ in range(10):
                await asyncio.sleep(300)

        check = in_time(5.0)
        loop = asyncio.get_running_loop()
        started = loop.time()
        async with TaskScope(grace=3600) as scope:
            spawn(many_steps(), "late")
        assert late(scope.report) == {"late": "finished"}
        assert loop.time() - started == pytest.approx(3000)
        async with quiet(grace=3600, cancel_timeout=3600) as leaking:
            spawn(asyncio.sleep(3700), "leak")
        assert outcomes(leaking.report) == {"leak": "cancelled"}
        # on a machine that stalls the clock is helped on, for as long as a first look takes
        assert leaking.report.settled_after == pytest.approx(3600, abs=0.01)
        check()
        assert not left_of_ours()

    run_in_virtual_time(main)


def test_a_jump_of_the_clock_is_no_reason_to_accuse_what_waits_for_a_thread() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        async with TaskScope(grace=0.2) as scope:
            spawn(asyncio.wait_for(done, None), "waits for a thread")
            await ready()
            thread = threading.Timer(0.05, loop.call_soon_threadsafe, [done.set_result, None])
            thread.start()
        thread.join()
        assert late(scope.report) == {"waits for a thread": "finished"}

    run_in_virtual_time(main)


def test_a_jump_of_the_clock_is_no_reason_to_accuse_what_waits_for_a_socket() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        here, there = socket.socketpair()
        with here, there:
            here.setblocking(False)
            async with TaskScope(grace=0.2) as scope:
                spawn(loop.sock_recv(here, 1), "reads")
                await ready()
                timer = threading.Timer(0.05, there.send, [b"x"])
                timer.start()
            timer.join()
        assert late(scope.report) == {"reads": "finished"}

    run_in_virtual_time(main)


def test_in_virtual_time_other_timers_do_not_go_off_while_ours_are_waited_for() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        went_off: list[float] = []
        timer = loop.call_later(100, lambda: went_off.append(loop.time()))
        with pytest.raises(ZeroDivisionError) as caught:
            async with TaskScope(grace=0.2):
                future = loop.create_future()
                spawn(asyncio.wait_for(future, None), "leak")
                await ready()
                raise ZeroDivisionError
        assert "leak" in caught.value.__notes__[0]
        assert not went_off
        timer.cancel()
        assert not left_of_ours()

    run_in_virtual_time(main)


def test_a_clock_that_jumps_past_the_deadline_lets_end_what_could(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        offset = 0.0
        real = time.monotonic

        async def jump() -> None:
            nonlocal offset
            await ready()
            offset = 1_000.0

        with monkeypatch.context() as patch:
            patch.setattr(time, "monotonic", lambda: real() + offset)
            async with TaskScope(grace=5) as scope:
                spawn(asyncio.sleep(0.1), "sleeps")
                spawn(asyncio.wait_for(loop.create_future(), 0.1), "times out")
                spawn(jump(), "jumps")
        assert scope.report.ok
        assert late(scope.report) == {"sleeps": "finished", "times out": "failed", "jumps": "finished"}

    run(main)
    gc.collect()


def test_a_loop_that_is_blocked_past_the_deadline_lets_end_what_could(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        here, there = socket.socketpair()

        async def block() -> None:
            await ready()
            there.send(b"x")
            time.sleep(0.2)

        async def read() -> None:
            assert await loop.sock_recv(here, 1) == b"x"
            await ready(5)

        with here, there:
            here.setblocking(False)
            async with TaskScope(grace=0.1) as scope:
                spawn(block(), "blocks")
                spawn(read(), "reads")
                spawn(asyncio.sleep(0.05), "sleeps")
                spawn(asyncio.to_thread(time.sleep, 0.01), "works")
        assert scope.report.ok
        assert late(scope.report) == dict.fromkeys(["blocks", "reads", "sleeps", "works"], "finished")

    run(main)


# Nothing of ours blocks the loop.


class FileWatch:
    """Notes which threads look at files while it is on, and how."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.by_loop: list[str] = []
        self.elsewhere: list[str] = []
        self._loop_thread = threading.get_ident()
        for module, name in [(os, "stat"), (os, "getcwd"), (builtins, "open"), (linecache, "updatecache")]:
            patch.setattr(module, name, self._noting(getattr(module, name), name))

    def _noting(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        @functools.wraps(function)
        def noting(*args: Any, **kwargs: Any) -> Any:
            here = threading.get_ident() == self._loop_thread
            (self.by_loop if here else self.elsewhere).append(name)
            return function(*args, **kwargs)

        return noting


ENDS: dict[str, dict[str, Any]] = {
    "log": {"on_leak": "log"},
    "warn": {"on_leak": "warn"},
    "note": {"on_leak": "raise"},
}


@pytest.mark.parametrize("end", ENDS)
def test_source_lines_are_read_off_the_loop(run: Run, end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> tuple[FileWatch, str]:
        told: list[str] = []
        handler = logging.Handler()
        handler.emit = lambda record: told.append(record.getMessage())  # type: ignore[method-assign]
        logger = logging.getLogger("taskscope")
        logger.addHandler(handler)
        linecache.clearcache()
        try:
            with warnings.catch_warnings(), monkeypatch.context() as patch:
                warnings.simplefilter("always", TaskLeakWarning)
                patch.setattr(
                    warnings, "showwarning", lambda *args: told.append(warnings.formatwarning(*args[:4], line=None))
                )
                watch = FileWatch(patch)
                with contextlib.suppress(ZeroDivisionError):
                    async with TaskScope(grace=0, **ENDS[end]):
                        spawn(forever(), "leak")
                        await ready()
                        if end == "note":
                            raise ZeroDivisionError
        finally:
            logger.removeHandler(handler)
        return watch, told[0]

    watch, told = run(main)
    assert "return asyncio.create_task(coro, name=name)" in told
    assert "updatecache" in watch.elsewhere
    assert not watch.by_loop


def test_a_report_that_takes_too_long_to_make_is_told_in_short(
    run_asyncio: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()

    def format(self: Report, color: bool = False) -> str:
        release.wait(10)
        return "the whole story"

    async def main() -> None:
        monkeypatch.setattr(Report, "format", format)
        with pytest.raises(ZeroDivisionError) as caught:
            async with TaskScope("mine", grace=0):
                spawn(forever(), "leak")
                await ready()
                raise ZeroDivisionError
        assert caught.value.__notes__ == ["taskscope: 1 task outlived scope 'mine' and was cancelled. Left: forever."]
        release.set()

    run_asyncio(main)


def test_with_install_and_a_root_scope_the_same_rules_hold(run: Run) -> None:
    async def main() -> None:
        ran = False

        def note() -> None:
            nonlocal ran
            ran = True

        async with install(root="app", grace=LONG) as clean:
            await asyncio.create_task(ready())
            asyncio.get_running_loop().call_soon(note)
        assert not ran
        assert clean.report is not None and clean.report.ok
        async with install(root="app", grace=LONG, on_leak="ignore") as installation:
            spawn(ready(), "late")
        assert installation.report is not None
        assert late(installation.report) == {"late": "finished"}
        assert not left_of_ours()

    run(main)
