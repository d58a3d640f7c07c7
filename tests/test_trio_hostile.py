"""Tasks of Trio's that do all they can not to end, and a scope that ends in time, with the right account of them."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import itertools
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

import pytest
import trio
import trio.lowlevel
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stopwatch import Stopwatch

from taskscope import Report, TaskScope

GRACE = 0.05
CANCEL_TIMEOUT = 0.3
MARGIN = 1.0
"""Seconds that an exit may take beside its grace and its cancel_timeout."""


@dataclass
class Stage:
    """What the tasks of one program share, and what ends those at last that nothing else does."""

    nursery: trio.Nursery
    over: trio.Event = field(default_factory=trio.Event)
    thread_over: threading.Event = field(default_factory=threading.Event)
    siblings: list[str] = field(default_factory=list)


Act = Callable[[Stage], Awaitable[None]]
ACTS: dict[str, tuple[Act, str]] = {}


def ends_as(outcome: str) -> Callable[[Act], Act]:
    def note(act: Act) -> Act:
        ACTS[act.__name__] = act, outcome
        return act

    return note


@ends_as("cancelled")
async def waits(stage: Stage) -> None:
    await trio.sleep_forever()


@ends_as("cancelled")
async def spins(stage: Stage) -> None:
    while True:
        await trio.lowlevel.checkpoint()


@ends_as("finished")
async def swallows_once(stage: Stage) -> None:
    with contextlib.suppress(trio.Cancelled):
        await trio.sleep_forever()


@ends_as("survived")
async def swallows_all(stage: Stage) -> None:
    while not stage.over.is_set():
        with contextlib.suppress(trio.Cancelled):
            await stage.over.wait()


@ends_as("survived")
async def swallows_in_a_nursery(stage: Stage) -> None:
    while not stage.over.is_set():
        with contextlib.suppress(BaseException):
            async with trio.open_nursery() as own:
                own.start_soon(stage.over.wait, name="inner")
                await trio.sleep_forever()


@ends_as("survived")
async def shields_itself(stage: Stage) -> None:
    with trio.CancelScope(shield=True):
        await stage.over.wait()


@ends_as("cancelled")
async def closes_slowly(stage: Stage) -> None:
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await trio.sleep(0.05)


@ends_as("cancelled")
async def has_scopes_of_its_own(stage: Stage) -> None:
    with trio.move_on_after(1000), trio.CancelScope(), trio.fail_after(1000):
        async with trio.open_nursery() as own:
            own.start_soon(trio.sleep_forever, name="inner")
            await trio.sleep_forever()


@ends_as("survived")
async def waits_for_a_thread(stage: Stage) -> None:
    await trio.to_thread.run_sync(stage.thread_over.wait)


@ends_as("cancelled")
async def lets_a_thread_be(stage: Stage) -> None:
    await trio.to_thread.run_sync(stage.thread_over.wait, abandon_on_cancel=True)


@ends_as("cancelled")
async def is_cancelled_from_inside_too(stage: Stage) -> None:
    with trio.CancelScope() as own:
        own.shield = True
        try:
            with trio.CancelScope() as inner:
                inner.cancel()
                await trio.sleep_forever()
        finally:
            own.shield = False
        await trio.sleep_forever()


@ends_as("cancelled")
async def detaches_its_context(stage: Stage) -> None:
    contextvars.Context().run(stage.nursery.start_soon, functools.partial(trio.sleep_forever), name="inner")
    await trio.sleep_forever()


@ends_as("cancelled")
async def respawns(stage: Stage) -> NoReturn:
    try:
        await trio.sleep_forever()
    finally:
        stage.nursery.start_soon(respawns, stage, name="respawns")
    raise AssertionError


async def play(names: list[str]) -> tuple[Report, float, Stage]:
    """Lets hostile tasks loose in a nursery from outside of the scope, beside siblings that are nothing to it."""
    scope = TaskScope(grace=GRACE, cancel_timeout=CANCEL_TIMEOUT, on_leak="ignore")
    async with trio.open_nursery() as nursery:
        stage = Stage(nursery)

        async def sibling(name: str) -> None:
            await trio.lowlevel.checkpoint()
            await stage.over.wait()
            await trio.lowlevel.checkpoint()
            stage.siblings.append(name)

        nursery.start_soon(sibling, "before")
        async with scope:
            for name in names:
                nursery.start_soon(ACTS[name][0], stage, name=name)
            for _ in range(5):
                await trio.lowlevel.checkpoint()
            ended = Stopwatch()
        took = ended.seconds()
        nursery.start_soon(sibling, "after")
        assert not nursery.cancel_scope.cancel_called
        stage.over.set()
        stage.thread_over.set()
    return scope.report, took, stage


def check(names: list[str]) -> None:
    report, took, stage = trio.run(play, names)
    assert took <= GRACE + CANCEL_TIMEOUT + MARGIN
    assert sorted(stage.siblings) == ["after", "before"]
    found: dict[str, set[Any]] = {}
    for record in report.leaks:
        found.setdefault(record.name, set()).add(record.outcome)
    found.pop("inner", None)
    respawned = found.pop("respawns", None)
    assert (respawned is not None) == ("respawns" in names)
    assert respawned is None or respawned <= {"cancelled", "survived"}
    assert found == {name: {ACTS[name][1]} for name in names if name != "respawns"}
    survivors = {record.name for record in report.survivors} - {"inner", "respawns"}
    assert survivors == {name for name in names if ACTS[name][1] == "survived"}
    assert report.tracking_lost is None


@pytest.mark.parametrize("name", ACTS)
def test_each_hostile_task_alone_is_accounted_for_in_time(name: str) -> None:
    check([name])


def test_all_of_them_together_are() -> None:
    check(list(ACTS))


@settings(max_examples=8, suppress_health_check=list(HealthCheck))
@given(st.lists(st.sampled_from(sorted(ACTS)), min_size=2, max_size=20))
def test_any_mix_is(names: list[str]) -> None:
    check(names)


@pytest.mark.parametrize(("grace", "cancel_timeout"), list(itertools.product([0, 0.05], [0, 0.05])))
def test_the_exit_is_bounded_whatever_time_there_is(grace: float, cancel_timeout: float) -> None:
    async def main() -> float:
        async with trio.open_nursery() as nursery:
            stage = Stage(nursery)
            async with TaskScope(grace=grace, cancel_timeout=cancel_timeout, on_leak="ignore"):
                for name, (act, _) in ACTS.items():
                    nursery.start_soon(act, stage, name=name)
                for _ in range(5):
                    await trio.lowlevel.checkpoint()
                ended = Stopwatch()
            took = ended.seconds()
            stage.over.set()
            stage.thread_over.set()
            nursery.cancel_scope.cancel()
        return took

    assert trio.run(main) <= grace + cancel_timeout + MARGIN
