"""Random programs on Trio's primitives, nurseries and cancel scopes: no task that is called stuck goes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from taskscope._diagnosis.reachability import FREE_THREADED
from taskscope._diagnosis.trio_reachability import prove_trio

pytestmark = pytest.mark.skipif(FREE_THREADED, reason="nothing is proven where references are not counted exactly")

KINDS = ("event", "lock", "channel", "buffered channel", "semaphore", "parking lot")
LOOK = 5.0
END = 100.0


@dataclass(frozen=True)
class Worker:
    """A task: what it does one after the other, and in what.

    Attributes:
        steps: Each is what is done (`"wait"`, `"signal"`, `"nap"`, `"sleep"`, `"cancel"`) and to which resource.
        last: The resources that it signals in the end, also when it is cancelled.
        keeps: Resources that it has without using them.
        children: In a nursery of its own, beside its steps.
        deadline, shield: Of a cancel scope round it all.
        fails: It raises when its steps are done.
        is_looked_at: Whether the proof is to look at it.
    """

    steps: tuple[tuple[str, int], ...]
    last: tuple[int, ...] = ()
    keeps: tuple[int, ...] = ()
    children: tuple[Worker, ...] = ()
    deadline: float | None = None
    shield: bool = False
    fails: bool = False
    is_looked_at: bool = True


@dataclass
class Figures:
    stuck: int = 0
    moved: int = 0
    cancelled: int = 0


@dataclass
class Course:
    """What has been seen of a program."""

    stuck: set[str] = field(default_factory=set)
    moved: set[str] = field(default_factory=set)
    cancelled: set[str] = field(default_factory=set)
    reason: str | None = None
    is_watched: bool = False


class Failure(Exception):
    pass


def workers(depth: int) -> st.SearchStrategy[Worker]:
    resources = st.integers(0, 3)
    few = st.lists(resources, max_size=1).map(tuple)
    does = st.sampled_from(["wait", "wait", "wait", "signal", "nap", "sleep", "sleep", "cancel"])
    return st.builds(
        Worker,
        steps=st.lists(st.tuples(does, resources), min_size=1, max_size=4).map(tuple),
        last=st.lists(resources, max_size=2).map(tuple),
        keeps=few,
        children=st.just(()) if depth == 0 else st.lists(workers(depth - 1), max_size=2).map(tuple),
        deadline=st.sampled_from([None, None, None, 3.0, 30.0]),
        shield=st.sampled_from([False, False, False, True]),
        fails=st.booleans(),
        is_looked_at=st.sampled_from([True, True, True, False]),
    )


PROGRAMS = st.tuples(
    st.lists(st.sampled_from(KINDS), min_size=4, max_size=4), st.lists(workers(2), min_size=1, max_size=4)
)


def make(kind: str) -> Any:
    if kind == "event":
        return trio.Event()
    if kind == "lock":
        return trio.Lock()
    if kind == "semaphore":
        return trio.Semaphore(0)
    if kind == "parking lot":
        return trio.lowlevel.ParkingLot()
    return trio.open_memory_channel[int](1 if kind.startswith("buffered") else 0)


async def wait(resource: Any) -> None:
    if type(resource) is trio.Event:
        await resource.wait()
    elif type(resource) is trio.lowlevel.ParkingLot:
        await resource.park()
    elif isinstance(resource, tuple):
        await resource[1].receive()
    else:
        await resource.acquire()


def signal(resource: Any) -> None:
    with suppress(trio.WouldBlock, RuntimeError):
        if type(resource) is trio.Event:
            resource.set()
        elif type(resource) is trio.lowlevel.ParkingLot:
            resource.unpark_all()
        elif isinstance(resource, tuple):
            resource[0].send_nowait(1)
        else:
            resource.release()


def names_of(spec: Worker, name: str) -> Iterator[tuple[str, Worker]]:
    yield name, spec
    for number, child in enumerate(spec.children):
        yield from names_of(child, f"{name}.{number}")


def resources_for(spec: Worker, resources: list[Any]) -> dict[int, Any]:
    """A task has what it and its children use, and nothing else."""
    used = {number for _, number in spec.steps}.union(spec.last, spec.keeps)
    found = {number: resources[number] for number in used}
    for child in spec.children:
        found.update(resources_for(child, resources))
    return found


async def work(spec: Worker, name: str, own: dict[int, Any], nursery: trio.Nursery | None, course: Course) -> None:
    cancels = nursery if any(does == "cancel" for does, _ in spec.steps) else None
    del nursery
    try:
        with ExitStack() as stack:
            if spec.deadline is not None or spec.shield:
                seconds = float("inf") if spec.deadline is None else spec.deadline
                stack.enter_context(trio.CancelScope(deadline=trio.current_time() + seconds, shield=spec.shield))
            if spec.children:
                async with trio.open_nursery() as children:
                    for number, child in enumerate(spec.children):
                        mine = {key: own[key] for key in resources_for(child, [0] * 4)}
                        children.start_soon(
                            work, child, f"{name}.{number}", mine, children, course, name=f"{name}.{number}"
                        )
                        del mine
                    del children
                    await take_steps(spec, name, own, cancels, course)
            else:
                await take_steps(spec, name, own, cancels, course)
            note(course.moved, name, course)
        if spec.fails:
            raise Failure
    except trio.Cancelled:
        note(course.cancelled, name, course)
        raise
    finally:
        for number in spec.last:
            signal(own[number])


async def take_steps(
    spec: Worker, name: str, own: dict[int, Any], nursery: trio.Nursery | None, course: Course
) -> None:
    for does, number in spec.steps:
        if does == "wait":
            with suppress(
                trio.BrokenResourceError, RuntimeError
            ):  # a lock whose owner has ended, or that it has itself
                await wait(own[number])
        elif does == "signal":
            signal(own[number])
        elif does == "cancel" and nursery is not None:
            nursery.cancel_scope.cancel()
        else:
            await trio.sleep(1 if does == "nap" else 20)
        note(course.moved, name, course)


def note(names: set[str], name: str, course: Course) -> None:
    if course.is_watched:
        names.add(name)


def run_program(kinds: list[str], specs: list[Worker]) -> Course:
    course = Course()
    looked_at = {
        name for number, spec in enumerate(specs) for name, one in names_of(spec, str(number)) if one.is_looked_at
    }

    async def look() -> None:
        await trio.sleep(LOOK)
        runner: Any = trio.lowlevel.current_task()._runner  # type: ignore[attr-defined]
        proof = prove_trio([task for task in runner.tasks if task.name in looked_at])
        course.stuck.update(task.name for task in runner.tasks if id(task) in proof.stuck)
        course.reason = proof.reason
        course.is_watched = True
        await trio.sleep(END)
        course.is_watched = False
        shields = [status._scope for task in runner.tasks for status in statuses(task)]
        for scope in shields:
            scope.shield = False
        del shields
        runner.main_task.parent_nursery.cancel_scope.cancel()

    async def main() -> None:
        trio.lowlevel.spawn_system_task(look)
        resources = [make(kind) for kind in kinds]
        async with trio.open_nursery() as nursery:
            for number, spec in enumerate(specs):
                mine = resources_for(spec, resources)
                nursery.start_soon(work, spec, str(number), mine, nursery, course, name=str(number))
                del mine
            del resources, nursery

    try:
        trio.run(main, clock=MockClock(autojump_threshold=0))
    except BaseException as error:
        if isinstance(error, BaseExceptionGroup):
            rest = error.split((trio.Cancelled, Failure))[1]
            if rest is not None:
                raise rest from None
        elif not isinstance(error, (trio.Cancelled, Failure)):
            raise
    return course


def statuses(task: Any) -> Iterator[Any]:
    status = task._cancel_status
    while status is not None:
        yield status
        status = status._parent


def test_no_random_program_has_a_task_that_is_called_stuck_and_goes_on() -> None:
    figures = Figures()

    @settings(max_examples=400, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(PROGRAMS)
    def search(program: tuple[list[str], list[Worker]]) -> None:
        kinds, specs = program
        course = run_program(kinds, specs)
        assert course.reason is None
        assert not course.stuck & course.moved
        if not any(one.fails for spec in specs for _, one in names_of(spec, "")):
            assert not course.stuck & course.cancelled
        figures.stuck += len(course.stuck)
        figures.moved += len(course.moved)
        figures.cancelled += len(course.cancelled)

    search()
    assert figures.stuck > 30 and figures.moved > 50 and figures.cancelled > 20
