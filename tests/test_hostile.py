"""Tasks that do all they can not to end, and a scope that ends all the same, in time and with the right account."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import threading
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

import pytest
from conftest import Run
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from stopwatch import Stopwatch

from taskscope import Report, TaskScope, install
from taskscope._backends._asyncio_clock import _Wait

MARGIN = 0.25
"""Seconds that an exit may take beside its grace and its cancel_timeout."""


class OtherLoop:
    """An event loop that runs in a thread of its own, with the task factory installed."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._close = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self._installation = self._call(lambda: install(self.loop))

    def spawn(self, coro: Any, name: str) -> None:
        self._call(functools.partial(self.loop.create_task, coro, name=name))

    def stop(self) -> None:
        stopped = threading.Event()
        self._stopped = stopped
        self.loop.call_soon_threadsafe(self.loop.stop)
        assert stopped.wait(10)

    def close(self) -> None:
        if self.loop.is_running():
            self.loop.call_soon_threadsafe(self.loop.stop)
        self._close.set()
        self._thread.join()

    _stopped: threading.Event | None = None

    def _run(self) -> None:
        self.loop.run_forever()
        if self._stopped is not None:
            self._stopped.set()
        assert self._close.wait(10)
        self._installation.uninstall()
        self.loop.run_until_complete(end_all_others())
        self.loop.close()

    def _call(self, function: Callable[[], Any]) -> Any:
        """Runs a function in the loop, under the caller's context, and waits for its result."""
        done = threading.Event()
        results: list[Any] = []

        def call() -> None:
            results.append(function())
            done.set()

        self.loop.call_soon_threadsafe(call)
        assert done.wait(10)
        return results[0]


@dataclass
class Stage:
    """What the players of one scope share. When `over` is set they stop to be hostile."""

    host: asyncio.Task[Any]
    audience: asyncio.Task[Any]
    other: OtherLoop
    over: threading.Event = field(default_factory=threading.Event)
    locks: list[asyncio.Lock] = field(default_factory=list)


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


def spawn(coro: Any, name: str) -> asyncio.Task[Any]:
    return asyncio.create_task(coro, name=name)


async def swallow(stage: Stage, times: float) -> None:
    while times > 0 and not stage.over.is_set():
        try:
            await forever()
        except asyncio.CancelledError:
            times -= 1
    if not stage.over.is_set():
        await forever()


async def spin(stage: Stage, times: float) -> None:
    while not stage.over.is_set():
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            times -= 1
            if times < 0:
                raise


def swallows_one(stage: Stage) -> None:
    spawn(swallow(stage, 1), "swallows one")


def swallows_three(stage: Stage) -> None:
    spawn(swallow(stage, 3), "swallows three")


def swallows_all(stage: Stage) -> None:
    spawn(swallow(stage, float("inf")), "swallows all")


def spins(stage: Stage) -> None:
    spawn(spin(stage, 0), "spins")


def spins_and_swallows_one(stage: Stage) -> None:
    spawn(spin(stage, 1), "spins and swallows one")


def spins_and_swallows_all(stage: Stage) -> None:
    spawn(spin(stage, float("inf")), "spins and swallows all")


async def respawn(stage: Stage, copies: int, name: str) -> None:
    try:
        await forever()
    except asyncio.CancelledError:
        if not stage.over.is_set():
            for _ in range(copies):
                spawn(respawn(stage, copies, name), name)
        raise


def respawns_itself(stage: Stage) -> None:
    spawn(respawn(stage, 1, "copy"), "respawns itself")


def multiplies(stage: Stage) -> None:
    spawn(respawn(stage, 2, "one of many"), "multiplies")


def follow(stage: Stage, name: str, predecessor: object) -> None:
    if not stage.over.is_set():
        spawn(forever(), name).add_done_callback(functools.partial(follow, stage, name))


def spawns_from_a_done_callback(stage: Stage) -> None:
    spawn(forever(), "done").add_done_callback(lambda _: spawn(forever(), "successor"))


def spawns_from_done_callbacks_without_end(stage: Stage) -> None:
    spawn(forever(), "dynast").add_done_callback(functools.partial(follow, stage, "heir"))


class Unprintable(Exception):
    def __repr__(self) -> NoReturn:
        raise RuntimeError("no repr")

    __str__ = __repr__


class UnprintableForGood(Exception):
    def __repr__(self) -> NoReturn:
        raise asyncio.CancelledError("no repr")

    __str__ = __repr__


def has_a_local_without_repr(stage: Stage) -> None:
    async def main(argument: object) -> None:
        local = [Unprintable(), UnprintableForGood(), argument]
        await forever()
        del local

    spawn(main(Unprintable()), "unprintable local")


def raises_on_cancel(stage: Stage) -> None:
    async def main(error: Exception) -> None:
        try:
            await forever()
        finally:
            raise error

    spawn(main(ValueError("no!")), "raises")
    spawn(main(Unprintable()), "raises something unprintable")
    spawn(main(UnprintableForGood()), "raises something that cancels who prints it")


def returns_on_cancel(stage: Stage) -> None:
    async def main() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await forever()

    spawn(main(), "returns")


def waits_for_a_condition_whose_lock_is_taken(stage: Stage) -> None:
    condition = asyncio.Condition()

    async def wait() -> None:
        async with condition:
            await condition.wait()

    async def hold() -> None:
        async with condition:
            await forever()

    # The waiter comes first: whoever cancels one after the other, and waits for each, waits for good.
    spawn(wait(), "waiter")
    spawn(hold(), "holder")


def waits_for_a_condition_whose_lock_is_lost(stage: Stage) -> None:
    condition = asyncio.Condition(lock := asyncio.Lock())
    stage.locks.append(lock)

    async def wait() -> None:
        async with condition:
            await condition.wait()

    async def lose() -> None:
        await lock.acquire()

    spawn(wait(), "waits for lost lock")
    spawn(lose(), "loses lock")


def shields_an_inner_task(stage: Stage) -> None:
    async def main() -> None:
        await asyncio.shield(spawn(forever(), "shielded"))

    spawn(main(), "shielder")


def shields_one_that_swallows(stage: Stage) -> None:
    async def main() -> None:
        await asyncio.shield(spawn(swallow(stage, float("inf")), "shielded swallower"))

    spawn(main(), "shielder of a swallower")


def gathers(stage: Stage) -> None:
    async def main() -> None:
        await asyncio.gather(spawn(forever(), "gathered"), spawn(swallow(stage, 1), "gathered swallower"))

    spawn(main(), "gatherer")


def holds_a_task_group(stage: Stage) -> None:
    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(swallow(stage, 1), name="member")
            await forever()

    spawn(main(), "group")


def awaits_the_host(stage: Stage) -> None:
    async def main() -> None:
        await stage.host

    spawn(main(), "awaits host")


def gathers_the_host_and_swallows(stage: Stage) -> None:
    async def main() -> None:
        while not stage.over.is_set():
            try:
                await asyncio.gather(stage.host, return_exceptions=True)
            except asyncio.CancelledError:
                continue

    spawn(main(), "gathers host")


def cleans_up_in_a_task(stage: Stage) -> None:
    async def clean_up() -> None:
        for _ in range(3):
            await asyncio.sleep(0)

    async def main() -> None:
        try:
            await forever()
        finally:
            await spawn(clean_up(), "cleaner")

    spawn(main(), "cleaned")


def hangs_in_a_generator(stage: Stage) -> None:
    async def generate() -> AsyncGenerator[None]:
        try:
            yield
            await forever()
        finally:
            await asyncio.sleep(0)

    async def main() -> None:
        async for _ in generate():
            pass

    spawn(main(), "generator")


def runs_on_another_loop(stage: Stage) -> None:
    stage.other.spawn(forever(), "elsewhere")
    stage.other.spawn(swallow(stage, 1), "swallows one elsewhere")


def swallows_all_on_another_loop(stage: Stage) -> None:
    stage.other.spawn(swallow(stage, float("inf")), "swallows all elsewhere")


Act = Callable[[Stage], None]

CANCELLED, FINISHED, FAILED, SURVIVED = {"cancelled"}, {"finished"}, {"failed"}, {"survived"}

# What is started, and for each name that is in the report then: what became of the tasks of that name.
ACTS: dict[Act, dict[str, set[str]]] = {
    swallows_one: {"swallows one": CANCELLED},
    swallows_three: {"swallows three": CANCELLED},
    swallows_all: {"swallows all": SURVIVED},
    spins: {"spins": CANCELLED},
    spins_and_swallows_one: {"spins and swallows one": CANCELLED},
    spins_and_swallows_all: {"spins and swallows all": SURVIVED},
    respawns_itself: {"respawns itself": CANCELLED, "copy": CANCELLED | SURVIVED},
    multiplies: {"multiplies": CANCELLED, "one of many": CANCELLED | SURVIVED},
    spawns_from_a_done_callback: {"done": CANCELLED, "successor": CANCELLED},
    spawns_from_done_callbacks_without_end: {"dynast": CANCELLED, "heir": CANCELLED | SURVIVED},
    has_a_local_without_repr: {"unprintable local": CANCELLED},
    raises_on_cancel: {
        "raises": FAILED,
        "raises something unprintable": FAILED,
        "raises something that cancels who prints it": FAILED,
    },
    returns_on_cancel: {"returns": FINISHED},
    waits_for_a_condition_whose_lock_is_taken: {"waiter": CANCELLED, "holder": CANCELLED},
    waits_for_a_condition_whose_lock_is_lost: {"waits for lost lock": SURVIVED},
    shields_an_inner_task: {"shielder": CANCELLED, "shielded": CANCELLED},
    shields_one_that_swallows: {"shielder of a swallower": CANCELLED, "shielded swallower": SURVIVED},
    gathers: {"gatherer": CANCELLED, "gathered": CANCELLED, "gathered swallower": CANCELLED},
    holds_a_task_group: {"group": CANCELLED, "member": CANCELLED},
    # to cancel it is to cancel the host, so there is no way to end it as long as the host lives
    awaits_the_host: {"awaits host": CANCELLED},
    gathers_the_host_and_swallows: {"gathers host": SURVIVED},
    cleans_up_in_a_task: {"cleaned": CANCELLED},
    hangs_in_a_generator: {"generator": CANCELLED},
    runs_on_another_loop: {"elsewhere": CANCELLED, "swallows one elsewhere": CANCELLED},
    swallows_all_on_another_loop: {"swallows all elsewhere": SURVIVED},
}


def expected(acts: list[Act]) -> dict[str, set[str]]:
    return {name: outcomes for act in acts for name, outcomes in ACTS[act].items()}


def outcomes_in(report: Report) -> dict[str, set[str | None]]:
    found: dict[str, set[str | None]] = defaultdict(set)
    for record in report.leaks:
        found[record.name].add(record.outcome)
    return dict(found)


def run_on_stage(run: Run, performance: Callable[[Stage], Coroutine[Any, Any, None]]) -> None:
    """Runs a performance in a task of its own, so that what awaits its host can end when that has ended."""

    async def perform(audience: asyncio.Task[Any] | None) -> None:
        with stage_of_host(audience) as stage:
            await performance(stage)

    async def main() -> None:
        try:
            await asyncio.create_task(perform(asyncio.current_task()))
        finally:
            await end_all_others()

    for attempts_left in (2, 1, 0):
        try:
            run(main)
            break
        except TookTooLong:
            if not attempts_left:
                raise
    gc.collect()  # a complaint about an exception that nobody has seen comes up here and not in another test


class TookTooLong(AssertionError):
    """A bound was not kept. Once that can be for what else the machine has to do, but not three times in a row."""


def assert_within(seconds: float, since: Stopwatch) -> None:
    took = since.seconds()
    if took > seconds + MARGIN:
        raise TookTooLong(f"{took:.3f} s instead of {seconds} s")


@contextlib.contextmanager
def stage_of_host(audience: asyncio.Task[Any] | None) -> Iterator[Stage]:
    host = asyncio.current_task()
    assert host is not None and audience is not None
    stage = Stage(host, audience, OtherLoop())
    try:
        yield stage
    finally:
        stage.over.set()
        for lock in stage.locks:
            lock.release()
        stage.other.close()


async def end_all_others() -> None:
    """Ends what outlived a scope. Whoever swallowed its cancellations lets go now."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    while others:
        for task in others:
            task.cancel()
        await asyncio.wait(others)
        await asyncio.sleep(0)
        others = asyncio.all_tasks() - {asyncio.current_task()}


async def perform(acts: list[Act], stage: Stage) -> None:
    for act in acts:
        act(stage)
    for _ in range(5):  # all are where they mean to hang
        await asyncio.sleep(0)


def left_of_ours() -> list[object]:
    """Whatever of ours is still at work: waits, callbacks on tasks, timers, threads."""
    loop: Any = asyncio.get_running_loop()
    handles = [*getattr(loop, "_ready", ()), *getattr(loop, "_scheduled", ())]
    callbacks = [handle._callback for handle in handles if not handle.cancelled()]
    for task in asyncio.all_tasks():
        callbacks += [callback for callback, *_ in getattr(task, "_callbacks", None) or ()]
    # What counts the ends of a sample of many tasks has no turn of the loop to wait for, and does nothing any more.
    ours = [callback for callback in callbacks if is_ours(callback) and callback.__name__ != "_sampled_end"]
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("taskscope")]
    return [*ours, *threads]


def is_ours(callback: object) -> bool:
    while isinstance(callback, functools.partial):
        callback = callback.func
    return (getattr(callback, "__module__", None) or "").startswith("taskscope")


def assert_accounts_for(report: Report, acts: list[Act]) -> None:
    found = outcomes_in(report)
    wanted = expected(acts)
    # What a dying task does in another one is a leak, too, where the scope comes to look before it is done.
    assert found.pop("cleaner", FINISHED) <= FINISHED | CANCELLED
    assert found.keys() == wanted.keys()
    for name, outcomes in wanted.items():
        assert found[name] <= outcomes, (name, found[name], [r for r in report.leaks if r.name == name])
    survivors = sorted(record.name for record in report.survivors)
    assert survivors == sorted(record.name for record in report.leaks if record.outcome == "survived")
    assert not report.late or {record.name for record in report.late} == {"loses lock"}


async def play(acts: list[Act], stage: Stage, *, grace: float, cancel_timeout: float) -> None:
    cancelling = stage.host.cancelling()
    scope = TaskScope(grace=grace, cancel_timeout=cancel_timeout, on_leak="ignore")
    async with scope:
        await perform(acts, stage)
        ended = Stopwatch()
    assert_within(grace + cancel_timeout, ended)
    assert_accounts_for(scope.report, acts)
    assert stage.host.cancelling() == cancelling
    assert not left_of_ours()
    await asyncio.sleep(0)  # nor has a cancellation been left that would hit the host now


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)
def test_each_hostile_task_alone_is_accounted_for_in_time(run: Run, act: Act) -> None:
    async def performance(stage: Stage) -> None:
        await play([act], stage, grace=0.05, cancel_timeout=0.3)

    run_on_stage(run, performance)


@pytest.mark.parametrize("order", [1, -1], ids=["in order", "in reverse"])
def test_all_hostile_tasks_together_are_accounted_for_in_time(run: Run, order: int) -> None:
    async def performance(stage: Stage) -> None:
        await play(list(ACTS)[::order], stage, grace=0.1, cancel_timeout=0.5)

    run_on_stage(run, performance)


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)
def test_the_exit_is_bounded_without_any_time_to_cancel(run: Run, act: Act) -> None:
    async def performance(stage: Stage) -> None:
        scope = TaskScope(grace=0, cancel_timeout=0, on_leak="ignore")
        async with scope:
            await perform([act], stage)
            ended = Stopwatch()
        assert_within(0, ended)
        found = outcomes_in(scope.report)
        assert found.keys() - {"cleaner"} == ACTS[act].keys()
        assert all(outcome is not None for outcomes in found.values() for outcome in outcomes)
        assert not left_of_ours()

    run_on_stage(run, performance)


def test_an_end_that_another_thread_tells_too_late_leaves_nothing_behind(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(asyncio.sleep(0))
        wait = _Wait(loop, [task])
        await wait.until(loop.time(), None)
        # As the thread of another loop calls it, where its task has ended just before the wait was given up.
        thread = threading.Thread(target=wait._ended_elsewhere, args=(task,))
        thread.start()
        thread.join()
        assert not left_of_ours()

    run(main)


def test_the_clean_twins_of_the_hostile_are_silent(run: Run) -> None:
    async def performance(stage: Stage) -> None:
        async with TaskScope(grace=5) as scope:
            await perform([swallows_all, spins_and_swallows_all], stage)
            stage.over.set()
            for task in asyncio.all_tasks():
                if "swallows all" in task.get_name():
                    task.cancel()
        assert scope.report.ok
        assert len(scope.report.late) == 2
        assert scope.report.settled_after < 5

    run_on_stage(run, performance)


def test_a_survivor_is_reported_with_the_frame_that_swallowed_the_cancellation(run: Run) -> None:
    async def performance(stage: Stage) -> None:
        async with TaskScope(grace=0, cancel_timeout=0.1, on_leak="ignore") as scope:
            await perform([swallows_all, waits_for_a_condition_whose_lock_is_lost], stage)
        details = {record.name: record.outcome_detail or "" for record in scope.report.survivors}
        assert "swallow" in details["swallows all"] and __file__ in details["swallows all"]
        assert "Condition.wait" in details["waits for lost lock"]

    run_on_stage(run, performance)


def test_a_failure_is_reported_with_its_exception_even_where_that_cannot_be_printed(run: Run) -> None:
    async def performance(stage: Stage) -> None:
        async with TaskScope(grace=0, on_leak="ignore") as scope:
            await perform([raises_on_cancel], stage)
        details = {record.name: record.outcome_detail or "" for record in scope.report.leaks}
        assert details["raises"] == "ValueError('no!')"
        assert "Unprintable" in details["raises something unprintable"]
        assert "UnprintableForGood" in details["raises something that cancels who prints it"]
        assert str(scope.report) and scope.report.to_json()

    run_on_stage(run, performance)


def test_a_task_whose_loop_has_stopped_is_a_survivor_that_says_so(run: Run) -> None:
    async def performance(stage: Stage) -> None:
        async with TaskScope(grace=0, cancel_timeout=0.1, on_leak="ignore") as scope:
            stage.other.spawn(forever(), "stranded")
            stage.other.stop()
            ended = Stopwatch()
        assert_within(0.1, ended)
        [record] = scope.report.survivors
        assert record.name == "stranded"
        assert "not running" in (record.outcome_detail or "")

    run_on_stage(run, performance)


def test_a_task_whose_loop_is_blocked_is_a_survivor(run: Run) -> None:
    async def performance(stage: Stage) -> None:
        blocked, unblock = threading.Event(), threading.Event()

        def block() -> None:
            blocked.set()
            unblock.wait(10)

        async with TaskScope(grace=0, cancel_timeout=0.1, on_leak="ignore") as scope:
            stage.other.spawn(forever(), "behind a blocked loop")
            stage.other.loop.call_soon_threadsafe(block)
            assert blocked.wait(10)
            ended = Stopwatch()
        unblock.set()
        assert_within(0.1, ended)
        assert outcomes_in(scope.report) == {"behind a blocked loop": SURVIVED}

    run_on_stage(run, performance)


def test_what_multiplies_is_cut_off(run: Run) -> None:
    async def performance(stage: Stage) -> None:
        async with TaskScope(grace=0, cancel_timeout=0.2, on_leak="ignore") as scope:
            await perform([multiplies], stage)
        assert scope.report.spawned < 5_000

    run_on_stage(run, performance)


@pytest.mark.parametrize("act", [respawns_itself, multiplies])
def test_what_respawns_for_ever_is_ended_where_tasks_do_not_start_at_once(run_asyncio: Run, act: Act) -> None:
    async def performance(stage: Stage) -> None:
        async with TaskScope(grace=0, cancel_timeout=0.1, on_leak="ignore") as scope:
            await perform([act], stage)
        assert outcomes_in(scope.report) == dict.fromkeys(ACTS[act], CANCELLED)
        assert not scope.report.survivors
        assert asyncio.all_tasks() - {stage.host} == {stage.audience}

    run_on_stage(run_asyncio, performance)


def test_the_host_is_not_cancelled_by_a_leak_that_awaits_it(run: Run) -> None:
    async def performance(stage: Stage) -> None:
        stage.host.cancel()  # somebody has cancelled the host before, and that is still its own affair
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0)
        await play([awaits_the_host, gathers_the_host_and_swallows], stage, grace=0, cancel_timeout=0.1)
        assert stage.host.cancelling() == 1
        stage.host.uncancel()

    run_on_stage(run, performance)


class Planned(Exception):
    """What a body raises on purpose."""


ENDS: dict[str, type[BaseException] | None] = {
    "returns": None,
    "raises": Planned,
    "is cancelled": asyncio.CancelledError,
    "is cancelled at its very end": asyncio.CancelledError,
}


async def end_body(end: str, host: asyncio.Task[Any]) -> None:
    if end == "raises":
        raise Planned
    if end == "is cancelled":
        asyncio.get_running_loop().call_soon(host.cancel)
        await forever()
    if end == "is cancelled at its very end":
        host.cancel()


async def play_with_end(acts: list[Act], stage: Stage, end: str, grace: float, cancel_timeout: float) -> None:
    left: BaseException | None = None
    scope = TaskScope(grace=grace, cancel_timeout=cancel_timeout, on_leak="ignore")
    try:
        async with scope:
            await perform(acts, stage)
            ended = Stopwatch()
            await end_body(end, stage.host)
        await asyncio.sleep(0)
    except BaseException as error:
        left = error
    took = ended.seconds()
    # The bound itself is shown above; many runs on a busy machine get some more time each.
    assert took <= grace + cancel_timeout + 1.0
    wanted = ENDS[end]
    assert type(left) is (type(None) if wanted is None else wanted)
    if wanted is asyncio.CancelledError:
        assert stage.host.uncancel() == 0
    assert stage.host.cancelling() == 0
    assert_accounts_for(scope.report, acts)
    assert not left_of_ours()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(0)


@given(
    acts=st.lists(st.sampled_from(list(ACTS)), max_size=7, unique=True),
    end=st.sampled_from(list(ENDS)),
    grace=st.sampled_from([0, 0.001, 0.02]),
    cancel_timeout=st.sampled_from([0.2, 0.4]),
)
@example(acts=[spawns_from_a_done_callback, awaits_the_host], end="returns", grace=0, cancel_timeout=0.2)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_any_mix_of_tasks_and_ends_is_accounted_for(
    run: Run, acts: list[Act], end: str, grace: float, cancel_timeout: float
) -> None:
    async def performance(stage: Stage) -> None:
        await play_with_end(acts, stage, end, grace, cancel_timeout)

    run_on_stage(run, performance)
