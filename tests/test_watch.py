"""The watch over a body: ended at once where it is proven stuck, and never where something could still wake it."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, Literal

import anyio
import pytest
import trio
from conftest import Run

import taskscope
from taskscope import DeadlockError, ScopeTimeoutError, TaskScope, scoped

Body = Callable[[], Coroutine[Any, Any, None]]

pytestmark = pytest.mark.holders_are_looked_for

WATCH = 0.01

PATIENCE = 30.0
"""Seconds: a timeout that is never reached, unless something is wrong."""

TIMEOUT = 0.15
"""Seconds: the timeout for bodies that nothing else can end."""


async def hang() -> None:
    await asyncio.Event().wait()


async def watched(body: Body, timeout: float = PATIENCE) -> TaskScope:
    async with TaskScope("watched", grace=0, watch=WATCH, timeout=timeout, on_leak="ignore") as scope:
        await body()
    return scope


async def deadlock(body: Body) -> DeadlockError:
    with pytest.raises(DeadlockError) as caught:
        await watched(body)
    return caught.value


async def until_its_time_is_up(body: Body) -> None:
    """The report on a timeout has looked, too, however little time there was before."""
    with pytest.raises(ScopeTimeoutError) as caught:
        await watched(body, TIMEOUT)
    assert caught.value.report.body is not None
    assert caught.value.report.body.verdict == "blocked"


def test_a_body_that_nothing_can_wake_is_ended_with_its_stack_and_wait_point(run: Run) -> None:
    async def kernel() -> None:
        lock = asyncio.Lock()
        queue: asyncio.Queue[None] = asyncio.Queue()

        async def holder() -> None:
            async with lock:
                await queue.get()

        asyncio.create_task(holder(), name="holder")
        await asyncio.sleep(0)
        async with lock:
            queue.put_nowait(None)

    async def main() -> None:
        report = (await deadlock(kernel)).report
        host = asyncio.current_task()
        assert host is not None and host.cancelling() == 0
        assert report.phase == "body"
        assert report.body is not None and report.body.wait is not None
        assert (report.body.verdict, report.body.wait.primitive) == ("deadlocked", "Lock.acquire")
        assert report.body.wait.detail == "Lock held by task 'holder'"
        assert report.body.stuck_with == ("holder",)
        assert [frame.function.rpartition(".")[2] for frame in report.body.stack if "test_watch" in frame.file][-1] == (
            "kernel"
        )
        assert [(leak.name, leak.verdict, leak.outcome) for leak in report.leaks] == [
            ("holder", "deadlocked", "cancelled")
        ]
        text = str(report)
        assert "could never have gone on" in text
        assert "it can never end: it waits in Lock.acquire (Lock held by task 'holder')" in text

    run(main)


def test_a_body_that_goes_on_is_left_alone(run: Run) -> None:
    async def goes_on() -> None:
        for _ in range(10):
            await asyncio.sleep(WATCH)

    async def main() -> None:
        assert (await watched(goes_on)).report.ok

    run(main)


# Ways to run the body's task, in each of which only its runner and those who wait for it hold it.
async def directly(main: Body) -> None:
    await main()


async def as_a_task(main: Body) -> None:
    await asyncio.create_task(main())


async def as_a_task_that_is_kept(main: Body) -> None:
    task = asyncio.create_task(main())
    await task


async def in_a_group(main: Body) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(main())


async def gathered(main: Body) -> None:
    await asyncio.gather(main())


@pytest.mark.parametrize("how", [directly, as_a_task, as_a_task_that_is_kept, in_a_group, gathered])
def test_however_the_body_is_run(run: Run, loop_kind: str, how: Callable[[Body], Coroutine[Any, Any, None]]) -> None:
    # What starts eagerly is in no group yet: that comes to hold the body later, like somebody who could do anything.
    is_provable = loop_kind != "eager" or how not in (in_a_group, gathered)

    async def main() -> None:
        if is_provable:
            await deadlock(hang)
        else:
            await until_its_time_is_up(hang)

    async def outermost() -> None:
        await how(main)

    run(outermost)


@pytest.mark.parametrize("runner", ["asyncio.run", "anyio.run", "uvloop.run"])
def test_whoever_runs_the_program(runner: str) -> None:
    async def main() -> None:
        await deadlock(hang)

    if runner == "asyncio.run":
        asyncio.run(main())
    elif runner == "anyio.run":
        anyio.run(main)
    else:
        pytest.importorskip("uvloop").run(main())


kept: list[object] = []


# What could still make the body go on. Each is called in the body and keeps what it returns there.
def a_timer_that_cancels_it() -> object:
    task = asyncio.current_task()
    assert task is not None
    return asyncio.get_running_loop().call_later(60, task.cancel)


def somebody_who_keeps_it() -> object:
    kept.append(asyncio.current_task())
    return None


def somebody_who_knows_it_weakly() -> object:
    task = asyncio.current_task()
    assert task is not None
    kept.append(weakref.ref(task))
    return None


def somebody_who_keeps_its_coroutine() -> object:
    task = asyncio.current_task()
    assert task is not None
    kept.append(task.get_coro())
    return None


def somebody_who_knows_its_coroutine_weakly() -> object:
    task = asyncio.current_task()
    assert task is not None
    kept.append(weakref.ref(task.get_coro()))  # type: ignore[type-var]
    return None


def somebody_who_keeps_a_frame() -> object:
    frame = sys._getframe(1)
    while frame.f_code.co_name != "watched" and frame.f_back is not None:
        frame = frame.f_back
    kept.append(frame)
    return None


def an_attribute_of_the_task() -> object:
    vars_of_task: Any = asyncio.current_task()
    vars_of_task.note = "mine"
    return None


@pytest.mark.parametrize(
    "holder",
    [
        a_timer_that_cancels_it,
        somebody_who_keeps_it,
        somebody_who_knows_it_weakly,
        somebody_who_keeps_its_coroutine,
        somebody_who_knows_its_coroutine_weakly,
        somebody_who_keeps_a_frame,
        an_attribute_of_the_task,
    ],
)
@pytest.mark.parametrize("how", [directly, as_a_task])
def test_who_has_come_to_hold_the_body_since_could_end_its_wait(
    run: Run, holder: Callable[[], object], how: Callable[[Body], Coroutine[Any, Any, None]]
) -> None:
    async def body() -> None:
        held = holder()
        await hang()
        del held

    async def main() -> None:
        await until_its_time_is_up(body)

    async def outermost() -> None:
        await how(main)

    try:
        run(outermost)
    finally:
        kept.clear()


@pytest.mark.parametrize("is_kept", [True, False], ids=["kept by another", "its own alone"])
def test_that_the_body_has_its_task_makes_no_room_for_somebody_else(run_asyncio: Run, is_kept: bool) -> None:
    async def main() -> None:
        me = asyncio.current_task()
        with pytest.raises(ScopeTimeoutError if is_kept else DeadlockError):
            async with TaskScope(watch=WATCH, timeout=TIMEOUT if is_kept else PATIENCE):
                if is_kept:
                    kept.append(me)
                await hang()
        del me

    try:
        run_asyncio(main)
    finally:
        kept.clear()


async def under_a_timeout() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(5 * WATCH):
            await hang()


async def under_wait_for() -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(hang(), 5 * WATCH)


async def under_a_cancel_scope_of_anyio() -> None:
    with anyio.move_on_after(5 * WATCH) as cancel_scope:
        await hang()
    assert cancel_scope.cancelled_caught


async def in_a_group_that_fails() -> None:
    async def fails() -> None:
        await asyncio.sleep(5 * WATCH)
        raise KeyError

    with pytest.raises(BaseExceptionGroup):
        async with asyncio.TaskGroup() as group:
            group.create_task(fails())
            await hang()


async def woken_by_a_timer() -> None:
    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(5 * WATCH, future.set_result, None)
    await future


async def woken_by_a_thread() -> None:
    future = asyncio.get_running_loop().create_future()
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, loop.call_soon_threadsafe, future.set_result, None)
    await future


@pytest.mark.parametrize(
    "body",
    [
        under_a_timeout,
        under_wait_for,
        under_a_cancel_scope_of_anyio,
        in_a_group_that_fails,
        woken_by_a_timer,
        woken_by_a_thread,
    ],
)
def test_what_ends_a_wait_inside_the_body_is_waited_for(run: Run, body: Body) -> None:
    async def main() -> None:
        assert (await watched(body)).report.ok

    run(main)


def test_a_timeout_round_the_scope_keeps_working(run: Run) -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(5 * WATCH):
                await watched(hang)
        assert not isinstance(caught.value, ScopeTimeoutError)

    run(main)


class HomeMadeTimeout:
    """Cancels the task that has entered it, as those of many libraries do."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.task = task
        self.handle = asyncio.get_running_loop().call_later(self.seconds, self.task.cancel)

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.handle.cancel()
        if kind is asyncio.CancelledError:
            self.task.uncancel()
            raise TimeoutError


@pytest.mark.parametrize("number", [1, 60, 95])
def test_who_holds_the_body_beside_a_lot_of_things_can_end_it(run_asyncio: Run, number: int) -> None:
    async def worker(things: list[list[Any]], wake: asyncio.Future[None]) -> None:
        await wake

    async def main() -> None:
        wake = asyncio.get_running_loop().create_future()
        with pytest.raises(TimeoutError):
            async with HomeMadeTimeout(0.3), TaskScope(watch=WATCH):
                for _ in range(number):
                    asyncio.create_task(worker([[] for _ in range(30)], wake))
                try:
                    await asyncio.get_running_loop().create_future()
                finally:
                    wake.set_result(None)

    run_asyncio(main)


def test_what_a_body_waits_for_from_outside_can_come(run: Run) -> None:
    async def main() -> None:
        event = asyncio.Event()

        async def outside() -> None:
            await asyncio.sleep(5 * WATCH)
            event.set()

        async def body() -> None:
            await event.wait()

        other = asyncio.create_task(outside())
        assert (await watched(body)).report.ok
        await other

    run(main)


def test_a_decorated_function_and_a_generator_are_watched_too(run: Run) -> None:
    @scoped(watch=WATCH, timeout=PATIENCE, on_leak="ignore")
    async def function() -> None:
        await hang()

    @scoped(watch=WATCH, timeout=PATIENCE, on_leak="ignore")
    async def generator() -> AsyncGenerator[int, None]:
        yield 1
        await hang()

    async def main() -> None:
        with pytest.raises(DeadlockError):
            await function()
        with pytest.raises(DeadlockError):
            async for _ in generator():
                await asyncio.sleep(3 * WATCH)  # between two steps there is nobody to watch

    run(main)


def test_a_scope_leaves_no_timer_of_its_watch_behind(run_asyncio: Run) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        await watched(lambda: asyncio.sleep(0))
        await deadlock(hang)
        assert [timer for timer in loop._scheduled if not timer.cancelled()] == []

    run_asyncio(main)


def test_looking_takes_little_of_the_time(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a look that took long the next one is so far off that both take at most a hundredth of the time."""
    from taskscope import _proving, _watch
    from taskscope._diagnosis.proof import Held, Proof

    looks: list[float] = []
    clock = [0.0]

    def prove_with_host(table: object, held: Held) -> Proof:
        looks.append(asyncio.get_running_loop().time())
        clock[0] += 0.01  # a proof that takes 10 ms must be followed by a second without any
        return Proof({}, 0)

    monkeypatch.setattr(_proving, "prove_with_host", prove_with_host)
    monkeypatch.setattr(_watch, "thread_time", lambda: clock[0])

    async def main() -> None:
        with pytest.raises(ScopeTimeoutError):
            await watched(hang, TIMEOUT)
        assert len(looks) == 2, "the second is that of the timeout"

    run(main)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
def test_an_eager_body_is_watched_from_its_first_step() -> None:
    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        with pytest.raises(DeadlockError):
            await asyncio.create_task(watched(hang))

    asyncio.run(main())


async def hang_on_trio() -> None:
    await trio.Event().wait()


@pytest.mark.parametrize(("backend", "body"), [("asyncio", hang), ("trio", hang_on_trio)])
def test_the_program_itself_is_watched(backend: Literal["asyncio", "trio"], body: Body) -> None:
    """Though whoever runs it has its coroutine."""
    with pytest.raises(DeadlockError):
        taskscope.run(body(), backend=backend, watch=WATCH, timeout=PATIENCE)


def test_a_program_whose_coroutine_can_be_woken_is_not_called_stuck() -> None:
    async def main(waker: asyncio.Event) -> None:
        asyncio.get_running_loop().call_later(5 * WATCH, waker.set)
        await waker.wait()

    taskscope.run(main(asyncio.Event()), watch=WATCH)


def test_the_strays_of_an_earlier_scope_do_not_keep_a_body_on_trio_from_being_proven_stuck() -> None:
    async def main() -> None:
        async with TaskScope(on_leak="ignore", grace=0):
            trio.lowlevel.spawn_system_task(hang_on_trio, context=contextvars.copy_context())
        await watched(hang_on_trio)

    with pytest.raises(DeadlockError):
        trio.run(main)


KEPT: list[BaseException] = []


async def fails() -> None:
    raise ValueError


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_traceback_of_what_was_over_when_the_body_began_does_not_keep_it_from_being_proven_stuck(
    backend: Literal["asyncio", "trio"],
) -> None:
    event = asyncio.Event if backend == "asyncio" else trio.Event

    async def main() -> None:
        try:
            await fails()
        except ValueError as error:
            KEPT.append(error)  # and with it the frame of this function
        async with TaskScope(watch=WATCH, timeout=PATIENCE):
            await event().wait()

    with pytest.raises(DeadlockError):
        anyio.run(main, backend=backend)
    KEPT.clear()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_who_has_come_to_hold_a_frame_of_the_body_since_could_wake_it(backend: Literal["asyncio", "trio"]) -> None:
    kept: list[BaseException] = []
    new_event: Any = asyncio.Event if backend == "asyncio" else trio.Event

    async def main() -> None:
        async with TaskScope(watch=WATCH):
            event = new_event()
            try:
                await fails()
            except ValueError as error:
                kept.append(error)
            await event.wait()

    async def wake() -> None:
        await anyio.sleep(10 * WATCH)
        traceback = kept[0].__traceback__
        assert traceback is not None
        traceback.tb_frame.f_locals["event"].set()

    async def both() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(main)
            group.start_soon(wake)

    anyio.run(both, backend=backend)
