"""What leaves a scope whose body raises, or that is cancelled at any moment: just what would leave without it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import json
import logging
import signal
import subprocess
import sys
import textwrap
import threading
import warnings
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, NoReturn

import anyio
import pytest
from conftest import Run

from taskscope import Report, ScopeTimeoutError, TaskLeakError, TaskLeakWarning, TaskScope

LONG = 30.0
"""Seconds that nothing here really takes."""


class Planned(Exception):
    """What a body raises on purpose."""


async def forever() -> None:
    await asyncio.sleep(1_000)  # not on a future that nobody has: a grace that is proven to be in vain is cut short


def swallow_until(release: asyncio.Event) -> Coroutine[Any, Any, None]:
    """Swallows cancellations until it is released, or its spawner has ended: a test that fails is not to hang."""
    spawner = host()

    async def stubborn() -> None:
        while not (release.is_set() or spawner.done()):
            with contextlib.suppress(asyncio.CancelledError):
                await release.wait()

    return stubborn()


def host() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


def notes(error: BaseException) -> str:
    return "\n".join(getattr(error, "__notes__", ()))


def leak(name: str = "leak") -> asyncio.Task[None]:
    return asyncio.create_task(forever(), name=name)


async def ready(turns: int = 3) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)


class Handler(logging.Handler):
    """Keeps the records of the logger `taskscope`."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def texts(self) -> list[str]:
        return [record.getMessage() for record in self.records]


@pytest.fixture
def log() -> Iterator[Handler]:
    handler = Handler()
    logger = logging.getLogger("taskscope")
    logger.addHandler(handler)
    try:
        yield handler
    finally:
        logger.removeHandler(handler)


@pytest.mark.parametrize("on_leak", ["raise", "warn", "log"])
def test_what_the_body_raises_leaves_with_a_note_and_a_log_record(run: Run, log: Handler, on_leak: Any) -> None:
    error = Planned("mine")

    async def main() -> None:
        with pytest.raises(Planned) as caught:
            async with TaskScope("my scope", grace=0, on_leak=on_leak):
                leak("left behind")
                await ready()
                raise error
        assert caught.value is error
        assert error.__cause__ is None and error.__context__ is None
        assert "left behind" in notes(error) and "forever" in notes(error)
        assert host().cancelling() == 0

    run(main)
    assert len(getattr(error, "__notes__", ())) == 1
    [record] = log.records
    assert record.levelno == logging.ERROR
    assert "left behind" in record.getMessage()


def test_what_the_body_raises_leaves_alone_when_nothing_leaks(run: Run, log: Handler) -> None:
    error = Planned("mine")

    async def main() -> None:
        with pytest.raises(Planned):
            async with TaskScope(grace=LONG):
                asyncio.create_task(ready())
                raise error

    run(main)
    assert not hasattr(error, "__notes__")
    assert not log.records


def test_with_ignore_neither_note_nor_record_is_made(run: Run, log: Handler) -> None:
    error = Planned("mine")

    async def main() -> None:
        with pytest.raises(Planned):
            async with TaskScope(grace=0, on_leak="ignore") as scope:
                task = leak()
                await ready()
                raise error
        assert len(scope.report.leaks) == 1
        assert task.cancelled()

    run(main)
    assert not hasattr(error, "__notes__")
    assert not log.records


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    number: int


class Stubborn(Exception):
    def add_note(self, note: str) -> NoReturn:
        raise RuntimeError("no notes here")


def with_spoilt_notes() -> Exception:
    error = Planned("mine")
    error.__notes__ = "not a list"  # type: ignore[assignment]
    return error


@pytest.mark.parametrize("make", [lambda: Frozen(1), lambda: Stubborn("mine"), with_spoilt_notes])
def test_an_exception_that_takes_no_note_is_not_masked_and_the_leak_is_logged(
    run: Run, log: Handler, make: Callable[[], Exception]
) -> None:
    error = make()

    async def main() -> None:
        async with TaskScope(grace=0):
            leak("left behind")
            await ready()
            raise error

    with pytest.raises(type(error)) as caught:
        run(main)
    assert caught.value is error
    assert "left behind" in log.texts[0]


def test_a_log_handler_that_raises_masks_nothing(run: Run) -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> NoReturn:
            raise RuntimeError("disk full")

    handler = Broken()
    logging.getLogger("taskscope").addHandler(handler)
    error = Planned("mine")

    async def main() -> None:
        async with TaskScope(grace=0):
            leak("left behind")
            await ready()
            raise error

    try:
        with pytest.raises(Planned) as caught:
            run(main)
    finally:
        logging.getLogger("taskscope").removeHandler(handler)
    assert caught.value is error
    assert "left behind" in notes(error)


def test_without_a_thread_to_be_had_a_summary_is_told(
    run_asyncio: Run, log: Handler, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: threading.Thread) -> NoReturn:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    error = Planned("mine")

    async def main() -> None:
        async with TaskScope("crowded", grace=0):
            leak("left behind")
            await ready()
            raise error

    with pytest.raises(Planned) as caught:
        run_asyncio(main)
    assert caught.value is error
    assert "1 task outlived scope 'crowded'" in notes(error)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_who_wants_to_stop_the_program_gets_no_grace_and_leaves(
    run: Run, log: Handler, kind: type[BaseException]
) -> None:
    error = kind("stop")
    scopes: list[TaskScope] = []

    async def main() -> None:
        async with TaskScope(grace=LONG) as scope:
            scopes.append(scope)
            leak("left behind")
            await ready()
            raise error

    with pytest.raises(kind) as caught:
        run(main)
    assert caught.value is error
    [record] = scopes[0].report.leaks
    assert record.outcome == "cancelled"
    assert scopes[0].report.settled_after < LONG / 2
    assert "left behind" in notes(error) and "left behind" in log.texts[0]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_a_task_that_wants_to_stop_the_program_during_the_grace_does(run: Run, kind: type[BaseException]) -> None:
    left: list[BaseException] = []

    async def stop() -> None:
        await ready()
        raise kind("stop")

    async def main() -> None:
        try:
            async with TaskScope(grace=LONG, on_leak="ignore"):
                asyncio.create_task(stop())
                leak()
        except BaseException as error:
            left.append(error)
            raise

    with pytest.raises(kind):
        run(main)
    assert [type(error) for error in left] == [asyncio.CancelledError]  # the runner cancels what is left


async def cancel_body(task: asyncio.Task[Any], inside: asyncio.Event) -> None:
    await inside.wait()
    task.cancel("from outside")


def test_a_cancelled_body_is_cancelled_with_a_note(run: Run, log: Handler) -> None:
    async def main() -> None:
        inside = asyncio.Event()
        asyncio.create_task(cancel_body(host(), inside))
        with pytest.raises(asyncio.CancelledError) as caught:
            async with TaskScope(grace=0.01):
                leak("left behind")
                inside.set()
                await forever()
        assert caught.value.args == ("from outside",)
        assert "left behind" in notes(caught.value)
        assert host().cancelling() == 1
        host().uncancel()
        await ready()

    run(main)
    assert "left behind" in log.texts[0]


def test_a_cancelled_body_still_gives_its_tasks_their_grace(run: Run) -> None:
    async def main() -> None:
        inside = asyncio.Event()
        asyncio.create_task(cancel_body(host(), inside))
        with pytest.raises(asyncio.CancelledError):
            async with TaskScope(grace=LONG) as scope:
                asyncio.create_task(ready(20), name="nearly done")
                inside.set()
                await forever()
        host().uncancel()
        assert scope.report.ok
        assert [record.name for record in scope.report.late] == ["nearly done"]

    run(main)


def cancel_when_cancelled(victim: asyncio.Task[Any], release: asyncio.Event) -> Coroutine[Any, Any, None]:
    stubborn = swallow_until(release)

    async def main() -> None:
        try:
            await forever()
        except asyncio.CancelledError:
            victim.cancel("meanwhile")
        await stubborn

    return main()


def test_cancelled_during_the_grace_a_scope_cancels_at_once_and_lets_it_propagate(run: Run, log: Handler) -> None:
    async def main() -> None:
        async def cancel_in_grace(task: asyncio.Task[Any]) -> None:
            await ready(5)
            task.cancel("in grace")

        with pytest.raises(asyncio.CancelledError) as caught:
            async with TaskScope(grace=LONG) as scope:
                leak("left behind")
                asyncio.create_task(cancel_in_grace(host()), name="canceller")
        assert caught.value.args == ("in grace",)
        assert "left behind" in notes(caught.value)
        assert host().cancelling() == 1
        host().uncancel()
        assert scope.report.settled_after < LONG / 2
        assert [record.name for record in scope.report.leaks] == ["left behind"]
        await ready()

    run(main)
    assert "left behind" in log.texts[0]


@pytest.mark.parametrize("on_leak", ["raise", "warn", "log", "ignore"])
def test_cancelled_while_it_cancels_a_scope_goes_on_and_lets_it_propagate(run: Run, on_leak: Any) -> None:
    async def main() -> None:
        release = asyncio.Event()
        with pytest.raises(asyncio.CancelledError) as caught:
            async with TaskScope(grace=0, cancel_timeout=0.1, on_leak=on_leak) as scope:
                asyncio.create_task(cancel_when_cancelled(host(), release), name="stubborn")
                leak("obedient")
                await ready()
        assert caught.value.args == ("meanwhile",)
        assert host().cancelling() == 1
        host().uncancel()
        outcomes = {record.name: record.outcome for record in scope.report.leaks}
        assert outcomes == {"stubborn": "survived", "obedient": "cancelled"}
        assert ("stubborn" in notes(caught.value)) is (on_leak != "ignore")
        release.set()
        await ready()

    run(main)


def test_cancelled_again_and_again_a_scope_ends_in_time_all_the_same(run: Run) -> None:
    async def main() -> None:
        release = asyncio.Event()
        scope = TaskScope(grace=LONG, cancel_timeout=0.1, on_leak="ignore")

        async def body() -> None:
            async with scope:
                asyncio.create_task(swallow_until(release), name="stubborn")
                leak("obedient")
                await ready()

        task = asyncio.create_task(body())
        cancels = 0
        while not task.done():
            await asyncio.sleep(0)
            if cancels < 1_000:
                cancels += task.cancel()
        assert task.cancelled()
        assert scope.report.settled_after < LONG / 2
        outcomes = {record.name: record.outcome for record in scope.report.leaks}
        assert outcomes == {"stubborn": "survived", "obedient": "cancelled"}
        release.set()
        await ready()

    run(main)


@pytest.mark.parametrize("on_leak", ["warn", "log"])
def test_a_cancellation_that_comes_while_the_report_is_rendered_is_not_lost(
    run: Run, on_leak: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancelled = threading.Event()
    render = Report.format

    async def main() -> None:
        loop, task = asyncio.get_running_loop(), host()

        def cancel() -> None:
            task.cancel("while rendering")
            cancelled.set()

        def format(self: Report, color: bool = False) -> str:
            loop.call_soon_threadsafe(cancel)
            assert cancelled.wait(10)
            return render(self, color)

        monkeypatch.setattr(Report, "format", format)
        with pytest.raises(asyncio.CancelledError) as caught, warnings.catch_warnings():
            warnings.simplefilter("ignore", TaskLeakWarning)
            async with TaskScope(grace=0, on_leak=on_leak):
                leak()
                await ready()
        assert caught.value.args == ("while rendering",)
        assert host().cancelling() == 1
        host().uncancel()

    run(main)


@pytest.mark.parametrize("on_leak", ["raise", "warn", "log", "ignore"])
def test_a_body_that_cancels_itself_at_its_very_end_is_cancelled(run: Run, on_leak: Any) -> None:
    async def main() -> None:
        with pytest.raises(asyncio.CancelledError):
            async with TaskScope(grace=0, on_leak=on_leak) as scope:
                leak()
                await ready()
                host().cancel()
        assert host().cancelling() == 1
        host().uncancel()
        assert len(scope.report.leaks) == 1

    run(main)


def test_a_cancellation_beside_an_exception_of_the_body_is_kept_for_later(run: Run) -> None:
    async def main() -> None:
        async def cancel_in_grace(task: asyncio.Task[Any]) -> None:
            await ready(5)
            task.cancel("in grace")

        with pytest.raises(Planned):
            async with TaskScope(grace=LONG) as scope:
                leak()
                asyncio.create_task(cancel_in_grace(host()))
                raise Planned
        assert scope.report.settled_after < LONG / 2
        assert host().cancelling() == 1
        if sys.version_info >= (3, 13):  # before, it would also strike whoever takes it back: asyncio.timeout, say
            with pytest.raises(asyncio.CancelledError, match="in grace"):
                await asyncio.sleep(0)
        host().uncancel()
        await ready()

    run(main)


@pytest.mark.parametrize("when", ["in the body", "in the grace", "while cancelling"])
@pytest.mark.parametrize("raising", [False, True])
def test_a_timeout_round_a_scope_is_a_timeout(run: Run, when: str, raising: bool) -> None:
    async def main() -> None:
        release = asyncio.Event()
        policy: dict[str, Any] = {"grace": LONG if when == "in the grace" else 0, "cancel_timeout": 0.1}
        with pytest.raises(Planned if raising and when != "in the body" else TimeoutError) as caught:
            async with asyncio.timeout(0.01 if when != "while cancelling" else None) as timeout:
                async with TaskScope(**policy) as scope:
                    leak("left behind")
                    asyncio.create_task(swallow_until(release), name="stubborn")
                    await ready()
                    if when == "in the body":
                        await forever()
                    if when == "while cancelling":
                        timeout.reschedule(asyncio.get_running_loop().time() + 0.01)
                    if raising:
                        raise Planned
        assert timeout.expired()
        assert {record.outcome for record in scope.report.leaks} == {"cancelled", "survived"}
        assert scope.report.settled_after < LONG / 2
        told = caught.value if raising and when != "in the body" else caught.value.__cause__
        assert told is not None and "left behind" in notes(told)
        assert host().cancelling() == 0
        release.set()
        await ready()

    run(main)


def test_a_timeout_inside_a_scope_is_a_timeout(run: Run) -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError) as caught:
            async with TaskScope(grace=0):
                leak("left behind")
                async with asyncio.timeout(0.001):
                    await forever()
        assert "left behind" in notes(caught.value)
        assert host().cancelling() == 0

    run(main)


@pytest.mark.parametrize("in_grace", [False, True])
def test_a_task_group_round_a_scope_aborts_as_ever(run: Run, in_grace: bool) -> None:
    async def fail(go: asyncio.Event) -> None:
        await go.wait()
        await ready()
        raise Planned

    async def main() -> None:
        go = asyncio.Event()
        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as group:
                group.create_task(fail(go))
                async with TaskScope(grace=LONG) as scope:
                    task = leak()
                    go.set()
                    if not in_grace:
                        asyncio.get_running_loop().call_soon(asyncio.get_running_loop().call_soon, task.cancel)
                        await forever()
        assert [type(error) for error in caught.value.exceptions] == [Planned]
        assert scope.report.settled_after < LONG / 2
        assert host().cancelling() == 0
        assert task.cancelled()
        await ready()

    run(main)


def test_a_task_group_that_fails_while_the_body_runs_its_last_line_aborts(run: Run) -> None:
    async def fail() -> None:
        raise Planned

    async def main() -> None:
        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as group:
                async with TaskScope(grace=0, on_leak="log") as scope:
                    leak()
                    await ready()
                    group.create_task(fail())  # an eager one has failed when this line is over
                await forever()
        assert [type(error) for error in caught.value.exceptions] == [Planned]
        assert [record.name for record in scope.report.leaks] == ["leak"]
        assert host().cancelling() == 0

    run(main)


def test_a_leak_fails_the_group_round_the_scope(run: Run) -> None:
    async def main() -> None:
        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as group:
                group.create_task(forever())
                async with TaskScope(grace=0):
                    leak()
        assert [type(error) for error in caught.value.exceptions] == [TaskLeakError]
        assert host().cancelling() == 0

    run(main)


@pytest.mark.parametrize("when", ["before", "in the body", "in the grace", "while cancelling"])
def test_an_anyio_scope_round_a_scope_is_cancelled_as_ever(run: Run, when: str) -> None:
    async def main() -> None:
        release = asyncio.Event()
        reached_end = False
        with anyio.CancelScope() as outer:
            if when == "before":
                outer.cancel()

            async def cancel_on_cancel() -> None:
                try:
                    await forever()
                finally:
                    outer.cancel()

            # While it cancels, a scope is shielded: an error would leave it, and the cancellation strike later.
            policy: dict[str, Any] = {"on_leak": "log" if when == "while cancelling" else "raise"}
            grace = LONG if when == "in the grace" else 0
            async with TaskScope(grace=grace, cancel_timeout=0.1, **policy) as scope:
                leak("left behind")
                asyncio.create_task(swallow_until(release), name="stubborn")
                if when == "while cancelling":
                    asyncio.create_task(cancel_on_cancel(), name="canceller")
                    await ready()
                elif when == "in the grace":
                    asyncio.get_running_loop().call_later(0.01, outer.cancel)
                else:
                    outer.cancel()
                    await forever()
            await anyio.sleep(0)
            reached_end = True
        assert outer.cancelled_caught and not reached_end
        assert host().cancelling() == 0
        outcomes = {record.name: record.outcome for record in scope.report.leaks}
        assert outcomes.pop("canceller", "cancelled") == "cancelled"
        assert outcomes == {"left behind": "cancelled", "stubborn": "survived"}
        assert scope.report.settled_after < LONG / 2
        release.set()
        await ready()

    run(main)


def test_in_a_cancelled_anyio_scope_the_host_is_not_cancelled_in_every_turn(run: Run) -> None:
    async def main() -> None:
        release = asyncio.Event()
        with anyio.CancelScope() as outer:
            outer.cancel()
            async with TaskScope(grace=0.05, cancel_timeout=0.05, on_leak="ignore") as scope:
                asyncio.create_task(swallow_until(release), name="stubborn")
                with contextlib.suppress(asyncio.CancelledError):
                    await ready()
                before = host().cancelling()
            assert host().cancelling() - before <= 1
        assert len(scope.report.survivors) == 1
        assert host().cancelling() == 0
        release.set()
        await ready()

    run(main)


def test_an_anyio_cancellation_beside_an_exception_of_the_body_does_not_strike_outside(run: Run) -> None:
    async def main() -> None:
        with pytest.raises(Planned):
            with anyio.CancelScope() as outer:
                async with TaskScope(grace=LONG) as scope:
                    leak()
                    asyncio.get_running_loop().call_later(0.01, outer.cancel)
                    raise Planned
        assert scope.report.settled_after < LONG / 2
        assert host().cancelling() == 0
        await ready()

    run(main)


def test_in_a_cancelled_anyio_scope_the_grace_is_due_all_the_same(run: Run) -> None:
    async def main() -> None:
        with anyio.CancelScope() as outer:
            async with TaskScope(grace=LONG) as scope:
                asyncio.create_task(asyncio.sleep(0.01), name="nearly done")
                outer.cancel()
        assert scope.report.ok
        assert [record.name for record in scope.report.late] == ["nearly done"]
        assert scope.report.late[0].outcome == "finished"
        assert host().cancelling() == 0

    run(main)


def test_an_anyio_scope_inside_a_scope_ends_alone(run: Run) -> None:
    async def main() -> None:
        async with TaskScope(grace=0) as scope:
            with anyio.move_on_after(0.001) as inner:
                await anyio.sleep_forever()
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.sleep_forever)
                group.cancel_scope.cancel()
        assert inner.cancelled_caught
        assert scope.report.ok
        assert host().cancelling() == 0

    run(main)


def test_anyio_fail_after_round_a_scope_fails(run: Run) -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            with anyio.fail_after(0.01):
                async with TaskScope(grace=LONG) as scope:
                    leak()
        assert scope.report.settled_after < LONG / 2
        assert host().cancelling() == 0
        await ready()

    run(main)


def test_the_timeout_of_a_scope_ends_its_body(run: Run) -> None:
    async def main() -> None:
        with pytest.raises(ScopeTimeoutError) as caught:
            async with TaskScope(timeout=0.01, grace=0):
                leak("left behind")
                await forever()
        error = caught.value
        assert isinstance(error, TimeoutError)
        assert isinstance(error.__cause__, asyncio.CancelledError)
        assert error.report.phase == "body" and error.report.body is not None
        assert any(frame.function == "forever" for frame in error.report.body.stack)
        assert [(record.name, record.outcome) for record in error.report.leaks] == [("left behind", "cancelled")]
        assert host().cancelling() == 0
        await ready()

    run(main)


def test_a_body_that_is_done_in_time_is_none_of_the_timeouts_business(run: Run) -> None:
    async def main() -> None:
        async with TaskScope(timeout=LONG) as scope:
            await ready()
        assert scope.report.phase == "exit" and scope.report.body is None
        with pytest.raises(Planned):
            async with TaskScope(timeout=LONG):
                raise Planned
        assert host().cancelling() == 0

    run(main)


def test_a_timeout_does_not_strike_in_the_grace(run: Run) -> None:
    async def main() -> None:
        async with TaskScope(timeout=0.02, grace=LONG) as scope:
            asyncio.create_task(asyncio.sleep(0.05), name="longer than the timeout")
        assert scope.report.ok and scope.report.phase == "exit"
        assert len(scope.report.late) == 1
        assert host().cancelling() == 0

    run(main)


def test_a_body_that_raises_something_else_when_it_times_out_raises_that(run: Run) -> None:
    async def main() -> None:
        with pytest.raises(Planned):
            async with TaskScope(timeout=0.01) as scope:
                try:
                    await forever()
                finally:
                    raise Planned
        assert scope.report.phase == "body"
        assert host().cancelling() == 0

    run(main)


def test_cancelled_from_outside_as_well_a_timed_out_scope_is_cancelled(run: Run) -> None:
    async def main() -> None:
        async def body() -> None:
            try:
                async with TaskScope(timeout=0.01):
                    try:
                        await forever()
                    finally:
                        timed_out.set()
                        await forever()
            finally:
                counts.append(host().cancelling())

        counts: list[int] = []
        timed_out = asyncio.Event()
        task = asyncio.create_task(body())
        await timed_out.wait()
        task.cancel("from outside")
        with pytest.raises(asyncio.CancelledError):
            await task
        assert counts == [1]

    run(main)


def test_a_timeout_inside_a_timeout_of_asyncio_is_the_scopes(run: Run) -> None:
    async def main() -> None:
        async with asyncio.timeout(LONG) as outer:
            with pytest.raises(ScopeTimeoutError):
                async with TaskScope(timeout=0.01):
                    await forever()
        assert not outer.expired()
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(0.01):
                async with TaskScope(timeout=LONG):
                    await forever()
        assert type(caught.value) is TimeoutError
        assert host().cancelling() == 0

    run(main)


async def abandon(scope: TaskScope, *, leaking: bool) -> None:
    """Opens a scope in a coroutine and closes that coroutine in the middle of the body."""

    async def body() -> None:
        async with scope:
            if leaking:
                leak("left behind")
            await asyncio.get_running_loop().create_future()

    coro = body()
    coro.send(None)
    await ready()
    coro.close()


def test_a_coroutine_that_is_closed_in_a_scope_cancels_without_waiting(run: Run, log: Handler) -> None:
    async def main() -> None:
        scope = TaskScope("closed", grace=LONG)
        before = asyncio.all_tasks()
        await abandon(scope, leaking=True)
        [task] = asyncio.all_tasks() - before
        assert [record.name for record in scope.report.leaks] == ["left behind"]
        assert not task.done()
        await ready()
        assert task.cancelled()
        assert host().cancelling() == 0

    run(main)
    assert len(log.records) == 1 and "closed" in log.texts[0]


@pytest.mark.parametrize("timeout", [None, LONG])
def test_a_coroutine_that_is_closed_in_a_clean_scope_closes_in_silence(
    run: Run, log: Handler, timeout: float | None
) -> None:
    async def main() -> None:
        scope = TaskScope(timeout=timeout)
        await abandon(scope, leaking=False)
        assert scope.report.ok and not scope.report.leaks

    run(main)
    assert not log.records


def test_a_closed_coroutine_is_reported_as_the_policy_says(run: Run, log: Handler) -> None:
    async def main() -> None:
        reports: list[Report] = []
        leaks: list[Report] = []
        await abandon(TaskScope(on_leak="ignore", on_report=reports.append), leaking=True)
        assert [record.name for record in reports[0].leaks] == ["left behind"]
        assert not log.records
        await abandon(TaskScope(on_leak=leaks.append), leaking=True)
        assert [record.name for record in leaks[0].leaks] == ["left behind"]

    run(main)


def test_a_coroutine_closed_after_its_loop_harms_nobody(run: Run, log: Handler) -> None:
    coros: list[Coroutine[Any, Any, None]] = []

    async def body() -> None:
        async with TaskScope("too late"):
            leak("left behind")
            await asyncio.get_running_loop().create_future()

    async def main() -> None:
        coros.append(body())
        coros[0].send(None)

    run(main)
    coros.pop().close()
    gc.collect()


def fail(report: Report) -> NoReturn:
    raise Planned(f"a callback failed on {report.scope}")


class Unprintable(Exception):
    def __str__(self) -> NoReturn:
        raise RuntimeError("no words")


def fail_unprintably(report: Report) -> NoReturn:
    raise Unprintable


@pytest.mark.parametrize("argument", ["on_leak", "on_report"])
@pytest.mark.parametrize("callback", [fail, fail_unprintably])
def test_a_callback_that_raises_hides_no_exception_of_the_body(
    run: Run, log: Handler, argument: str, callback: Callable[[Report], None]
) -> None:
    error = ZeroDivisionError("mine")

    async def main() -> None:
        async with TaskScope(grace=0, **{argument: callback}):  # type: ignore[arg-type]
            leak("left behind")
            await ready()
            raise error

    with pytest.raises(ZeroDivisionError) as caught:
        run(main)
    assert caught.value is error
    assert "left behind" in notes(error)
    assert "Planned" in notes(error) or "Unprintable" in notes(error)
    assert any(record.exc_info and isinstance(record.exc_info[1], Exception) for record in log.records)


def test_a_callback_that_raises_hides_no_cancellation(run: Run) -> None:
    async def main() -> None:
        with pytest.raises(asyncio.CancelledError) as caught:
            async with TaskScope(grace=LONG, on_leak=fail, on_report=fail):
                leak()
                asyncio.get_running_loop().call_later(0.01, host().cancel)
        assert notes(caught.value).count("Planned") == 2
        assert host().cancelling() == 1
        host().uncancel()

    run(main)


def test_a_callback_that_raises_hides_no_leak(run: Run) -> None:
    async def main() -> None:
        with pytest.raises(TaskLeakError) as caught:
            async with TaskScope(grace=0, on_report=fail):
                leak("left behind")
        assert "Planned" in notes(caught.value)
        with pytest.raises(ScopeTimeoutError) as timed_out:
            async with TaskScope(timeout=0.01, on_report=fail):
                await forever()
        assert "Planned" in notes(timed_out.value)

    run(main)


def test_a_callback_that_raises_alone_is_what_leaves(run: Run) -> None:
    async def main() -> None:
        with pytest.raises(Planned):
            async with TaskScope("mine", grace=0, on_leak=fail) as scope:
                leak("left behind")
        assert [record.name for record in scope.report.leaks] == ["left behind"]
        with pytest.raises(Planned):
            async with TaskScope("mine", on_report=fail):
                asyncio.create_task(ready(), name="late")

    run(main)


def test_an_outcome_of_pytest_in_a_callback_is_kept_as_well(run: Run) -> None:
    def judge(report: Report) -> None:
        pytest.fail(f"{len(report.leaks)} left")

    async def main() -> None:
        async with TaskScope(grace=0, on_leak=judge):
            leak()

    with pytest.raises(pytest.fail.Exception, match="1 left"):
        run(main)


def test_callbacks_are_called_once_and_only_with_something_to_tell(run: Run) -> None:
    async def main() -> None:
        leaks: list[Report] = []
        reports: list[Report] = []
        policy: dict[str, Any] = {"on_leak": leaks.append, "on_report": reports.append}
        async with TaskScope(**policy):
            await asyncio.create_task(ready())
        assert not leaks and not reports
        async with TaskScope(**policy) as late:
            asyncio.create_task(ready())
        assert not leaks and reports == [late.report]
        async with TaskScope(grace=0, **policy) as leaking:
            leak()
        assert leaks == [leaking.report] and reports == [late.report, leaking.report]

    run(main)


def test_raise_raises(run: Run) -> None:
    async def main() -> None:
        with pytest.raises(TaskLeakError) as caught:
            async with TaskScope(grace=0) as scope:
                leak("left behind")
        assert caught.value.report is scope.report
        assert "left behind" in str(caught.value)
        assert caught.value.__context__ is None and caught.value.__cause__ is None

    run(main)


def test_warn_warns_at_the_line_that_opens_the_scope(run: Run) -> None:
    async def main() -> None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default")
            for _ in range(2):
                async with TaskScope(grace=0, on_leak="warn"):
                    leak("left behind")
        assert [warning.category for warning in caught] == [TaskLeakWarning] * 2
        assert {warning.filename for warning in caught} == {__file__}
        line = test_warn_warns_at_the_line_that_opens_the_scope.__code__.co_firstlineno + 5
        assert {warning.lineno for warning in caught} == {line}
        assert "left behind" in str(caught[0].message)

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default")
            async with TaskScope(on_leak="warn"):
                await asyncio.create_task(ready())
        assert not caught

    run(main)


def test_a_warning_that_is_turned_into_an_error_is_raised(run: Run) -> None:
    async def main() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error", TaskLeakWarning)
            with pytest.raises(TaskLeakWarning, match="left behind"):
                async with TaskScope(grace=0, on_leak="warn") as scope:
                    leak("left behind")
        assert len(scope.report.leaks) == 1
        assert host().cancelling() == 0

    run(main)


def test_a_warning_that_is_turned_into_an_error_hides_nothing(run: Run) -> None:
    async def main() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(Planned) as caught:
                async with TaskScope(grace=0, on_leak="warn"):
                    leak("left behind")
                    raise Planned
            assert "left behind" in notes(caught.value)
            with pytest.raises(ScopeTimeoutError) as timed_out:
                async with TaskScope(grace=0, on_leak="warn", timeout=0.01):
                    leak("left behind")
                    await forever()
            assert "TaskLeakWarning" in notes(timed_out.value)

    run(main)


def test_log_logs_the_report_with_its_data(run: Run, log: Handler) -> None:
    async def main() -> Report:
        async with TaskScope("logged", grace=0, on_leak="log") as scope:
            leak("left behind")
        return scope.report

    report = run(main)
    [record] = log.records
    assert (record.name, record.levelno, record.exc_info) == ("taskscope", logging.ERROR, None)
    assert record.getMessage() == str(report)
    data = record.__dict__["taskscope_report"]
    assert data == report.to_dict()
    assert json.loads(json.dumps(data))["leaks"][0]["name"] == "left behind"


def test_log_is_silent_about_a_clean_scope(run: Run, log: Handler) -> None:
    async def main() -> None:
        async with TaskScope(on_leak="log"):
            asyncio.create_task(ready())

    run(main)
    assert not log.records


def test_percent_signs_in_names_break_no_log(run: Run, log: Handler) -> None:
    async def main() -> None:
        async with TaskScope("100%s %d", grace=0, on_leak="log"):
            leak("50%(name)s")

    run(main)
    assert "100%s %d" in log.texts[0] and "50%(name)s" in log.texts[0]


def test_ignore_cancels_and_keeps_quiet(run: Run, log: Handler) -> None:
    async def main() -> None:
        async with TaskScope(grace=0, on_leak="ignore") as scope:
            task = leak()
        assert task.cancelled()
        assert not scope.report.ok

    run(main)
    assert not log.records


def test_an_exception_that_leaves_nested_scopes_has_a_note_from_each_that_leaked(run: Run) -> None:
    async def main() -> None:
        with pytest.raises(Planned) as caught:
            async with TaskScope("outer", grace=0):
                leak("of outer")
                async with TaskScope("middle", grace=0):
                    async with TaskScope("inner", grace=0):
                        leak("of inner")
                        await ready()
                        raise Planned
        inner, outer = caught.value.__notes__
        assert "of inner" in inner and "of outer" in outer

    run(main)


CTRL_C = """
    import asyncio, logging, os, signal, sys, threading
    from taskscope import TaskScope

    logging.basicConfig(stream=sys.stdout, format="%(message)s")

    async def leak():
        await asyncio.sleep(1_000)

    async def stubborn():
        while True:
            try:
                await leak()
            except asyncio.CancelledError:
                if over:
                    raise

    def interrupt():
        os.kill(os.getpid(), signal.SIGINT)

    over = False

    async def main(where):
        global over
        try:
            async with TaskScope(grace=30.0 if where == "grace" else 0, cancel_timeout=0.5) as scope:
                asyncio.create_task(leak(), name="left behind")
                if where == "cancelling":
                    asyncio.create_task(stubborn(), name="stubborn")
                await asyncio.sleep(0)
                if where == "sync":
                    interrupt()
                    return
                asyncio.get_running_loop().call_later(0.05, interrupt)
                if where == "body":
                    await leak()
        finally:
            over = True
            print("settled", scope.report.settled_after < 10)
            print("outcomes", sorted(record.outcome for record in scope.report.leaks))
            print("cancelling", asyncio.current_task().cancelling())

    try:
        LOOP
    except KeyboardInterrupt:
        print("interrupted")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sends a SIGINT to itself")
@pytest.mark.parametrize("where", ["body", "sync", "grace", "cancelling"])
def test_a_real_ctrl_c_interrupts_the_program_as_ever(loop_kind: str, where: str) -> None:
    loops = {
        "asyncio": "asyncio.run(main({!r}))",
        "uvloop": "import uvloop; uvloop.run(main({!r}))",
        "eager": (
            "runner = asyncio.Runner(); runner.get_loop().set_task_factory(asyncio.eager_task_factory)\n"
            "    with runner: runner.run(main({!r}))"
        ),
    }
    program = textwrap.dedent(CTRL_C).replace("    LOOP", "    " + textwrap.dedent(loops[loop_kind].format(where)))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[-1] == "interrupted"
    assert "settled True" in lines
    assert "cancelling 1" in lines
    survived = "['cancelled', 'survived']" if where == "cancelling" else "['cancelled']"
    assert f"outcomes {survived}" in lines
    assert any("left behind" in line for line in lines)


LEFT_TO_THE_INTERPRETER = """
import asyncio
from taskscope import TaskScope

async def body():
    async with TaskScope():
        asyncio.create_task(asyncio.sleep(1000))
        await asyncio.Event().wait()

loop = asyncio.new_event_loop()
task = loop.create_task(body())
loop.run_until_complete(asyncio.sleep(0))
"""


def test_a_body_that_the_interpreter_destroys_at_its_end_does_no_harm() -> None:
    done = subprocess.run([sys.executable, "-c", LEFT_TO_THE_INTERPRETER], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert "Task was destroyed but it is pending!" in done.stderr, "asyncio tells of it"
    assert "Exception ignored" not in done.stderr
    assert "taskscope" not in done.stderr
