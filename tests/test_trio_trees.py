"""Random trees of nurseries under a scope: exactly the strays are cancelled, and what became of each is told."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taskscope import Report, TaskScope

GRACE = 1.0
CANCEL_TIMEOUT = 10.0

# What a task does beside its children: seconds until it ends by itself, and seconds that it takes once it is cancelled.
# What catches its cancellation ends without an error.
ACTS = {
    "ends at once": (0.0, 0.0),
    "ends in the grace": (0.5, 0.0),
    "sleeps long": (1000.0, 0.0),
    "waits for ever": (math.inf, 0.0),
    "cleans up": (math.inf, 3.0),
    "cleans up for too long": (math.inf, 30.0),
    "catches its cancellation": (math.inf, 0.0),
}


@dataclass(frozen=True)
class Node:
    """A task: what it does, whether it does so in a shielded scope, and whom it spawns into which nursery."""

    act: str
    is_shielded: bool
    children: tuple[Node, ...]
    escapees: tuple[Node, ...]


@dataclass
class Fate:
    """What has to be reported of a task: when it ends without us, when it ends, and whether it is cancelled."""

    by_itself: float
    ends: float
    is_cancelled: bool


def nodes(depth: int) -> st.SearchStrategy[Node]:
    below = st.lists(nodes(depth - 1), max_size=2).map(tuple) if depth else st.just(())
    acts = st.sampled_from(sorted(ACTS))
    return st.builds(Node, acts, st.sampled_from([False, False, False, True]), below, below)


def named(nodes: tuple[Node, ...], prefix: str) -> Iterator[tuple[str, Node]]:
    for number, node in enumerate(nodes):
        yield f"{prefix}{number}", node


@dataclass
class Stage:
    """Where the tasks of one program are spawned, and what at the end lets those go that no cancel reaches."""

    nursery: trio.Nursery
    over: trio.Event


async def act(node: Node, stage: Stage) -> None:
    by_itself, cleaning = ACTS[node.act]
    try:
        with trio.move_on_after(by_itself):
            await stage.over.wait()
    except trio.Cancelled:
        with trio.CancelScope(shield=True):
            await trio.sleep(cleaning)
        if node.act != "catches its cancellation":
            raise


async def perform(node: Node, name: str, stage: Stage) -> None:
    for name_of_escapee, escapee in named(node.escapees, f"{name}/"):
        stage.nursery.start_soon(perform, escapee, name_of_escapee, stage, name=name_of_escapee)
    with trio.CancelScope(shield=node.is_shielded):
        async with trio.open_nursery() as own:
            for name_of_child, child in named(node.children, f"{name}."):
                own.start_soon(perform, child, name_of_child, stage, name=name_of_child)
            await act(node, stage)


def fates(node: Node, name: str, is_reached: bool, found: dict[str, Fate]) -> Fate:
    """The fates of a task and all that it spawns.

    is_reached: whether a cancel of the stray above, if not of the task itself, gets to it.
    """
    for name_of_escapee, escapee in named(node.escapees, f"{name}/"):
        fates(escapee, name_of_escapee, True, found)
    reached = is_reached and not node.is_shielded
    below = [fates(child, name_of_child, reached, found) for name_of_child, child in named(node.children, f"{name}.")]
    by_itself, cleaning = ACTS[node.act]
    raises = False
    ends = by_itself
    if reached and by_itself > GRACE:
        ends = GRACE + cleaning
        raises = node.act != "catches its cancellation"
    fate = Fate(
        max([by_itself, *(child.by_itself for child in below)]),
        max([ends, *(child.ends for child in below)]),
        raises or (reached and any(child.is_cancelled for child in below)),
    )
    found[name] = fate
    return fate


def expected_of(fate: Fate) -> str:
    if fate.ends > GRACE + CANCEL_TIMEOUT:
        return "survived"
    return "cancelled" if fate.is_cancelled else "finished"


async def sibling(seconds: float, finished: list[float]) -> None:
    await trio.sleep(seconds)
    finished.append(seconds)


async def program(strays: tuple[Node, ...], siblings: list[float]) -> tuple[Report, list[float]]:
    finished: list[float] = []
    scope = TaskScope(grace=GRACE, cancel_timeout=CANCEL_TIMEOUT, on_leak="ignore")
    async with trio.open_nursery() as nursery:
        stage = Stage(nursery, trio.Event())
        for seconds in siblings:
            nursery.start_soon(sibling, seconds, finished)
        async with scope:
            for name, node in named(strays, ""):
                nursery.start_soon(perform, node, name, stage, name=name)
        for seconds in siblings:
            nursery.start_soon(sibling, seconds, finished)
        await trio.sleep(100)
        assert not nursery.cancel_scope.cancel_called
        stage.over.set()
    return scope.report, finished


def check(strays: tuple[Node, ...], siblings: list[float]) -> None:
    report, finished = trio.run(program, strays, siblings, clock=trio.testing.MockClock(autojump_threshold=0))
    assert sorted(finished) == sorted(siblings * 2)
    found: dict[str, Fate] = {}
    for name, node in named(strays, ""):
        fates(node, name, True, found)
    wanted = {name: expected_of(fate) for name, fate in found.items() if fate.by_itself > GRACE}
    assert {record.name: record.outcome for record in report.leaks} == wanted
    assert {record.name for record in report.survivors} == {name for name, what in wanted.items() if what == "survived"}
    late = {name for name, fate in found.items() if 0 < fate.by_itself <= GRACE}
    assert {record.name for record in report.late} >= late
    assert {record.outcome for record in report.late} <= {"finished"}
    assert report.tracking_lost is None


trees = given(
    st.lists(nodes(2), min_size=1, max_size=3).map(tuple), st.lists(st.sampled_from([0.2, 1.5, 20.0]), max_size=2)
)


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@trees
def test_exactly_the_strays_of_a_random_tree_are_cancelled(strays: tuple[Node, ...], siblings: list[float]) -> None:
    check(strays, siblings)


@pytest.mark.parametrize("what", sorted(ACTS))
@pytest.mark.parametrize("is_shielded", [False, True])
def test_each_act_alone(what: str, is_shielded: bool) -> None:
    check((Node(what, is_shielded, (), ()),), [1.5])


if __name__ == "__main__":
    settings(max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)(
        trees(check)
    )()
    print("10,000 trees: in all of them exactly the strays were cancelled")
