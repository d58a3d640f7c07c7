"""Some hundred random programs, none of which has a task that is called stuck when it is not."""

from __future__ import annotations

import pytest
from random_programs import (
    BY_NATURE,
    HELD_SINCE,
    MAKERS_OF_HOSTS,
    VIEWS,
    Figures,
    Holding,
    Program,
    Resource,
    Worker,
    run_program,
    search,
)

LOCK = Resource("Lock", ("attribute",))
EVENT = Resource("Event", ("attribute", "dict of an object"))

# The smallest programs of those that the search has once been wrong about, and some of their kind.
KNOWN = {
    "a frame leads to variables": Program((EVENT,), (Worker(0, view="frame"),), ()),
    "an exception leads to a frame": Program((EVENT,), (Worker(0, view="traceback"),), ()),
    "variables are those of the frame": Program((EVENT,), (Worker(0, view="variables"),), ()),
    "the dict of an object leads to its attributes": Program(
        (EVENT,), (Worker(0, keeps=((0, 2), (0, 3))),), (Holding(0, 2, "object"),)
    ),
    "one who was woken wakes another": Program(
        (Resource("Event"), LOCK), (Worker(1), Worker(0, wakes=(1,))), (Holding(0, 0, "iterator of a list"),)
    ),
    "one who was cancelled wakes another": Program(
        (Resource("Future"), LOCK), (Worker(1), Worker(0, wakes=(1,), view="cancel")), ()
    ),
    "one who waits for a task goes on with it": Program(
        (Resource("Event"),), (Worker(0, view="coroutine"), Worker(0, joins=0)), ()
    ),
    "a body that is woken wakes another": Program(
        (Resource("Event"), Resource("Event")),
        (Worker(0, wakes=(1,), maker="python", host="by nobody"), Worker(1)),
        (Holding(0, 0, "object"),),
    ),
    "what a task keeps is found weakly": Program((EVENT,), (Worker(0, keeps=((0, 1),)),), (Holding(0, 1, "weak set"),)),
}


def figures_of(program: Program, loop_kind: str) -> Figures:
    figures = Figures()
    run_program(program, figures, loop_kind)
    return figures


@pytest.mark.parametrize("name", KNOWN)
def test_a_program_that_once_fooled_the_search_does_not_any_more(loop_kind: str, name: str) -> None:
    figures = figures_of(KNOWN[name], loop_kind)
    assert figures.woken + figures.cancelled == figures.tasks == len(KNOWN[name].workers)


@pytest.mark.parametrize("view", VIEWS)
def test_who_has_a_view_of_a_task_keeps_it_alive(loop_kind: str, view: str) -> None:
    maker = view if view in ("attribute", "context") else "loop"
    held = figures_of(Program((Resource("Event"),), (Worker(0, maker=maker, view=view),), ()), loop_kind)
    lost = figures_of(Program((Resource("Event"),), (Worker(0, maker=maker),), ()), loop_kind)
    assert (held.stuck, lost.stuck) == (0, 1)


@pytest.mark.parametrize("kind", [kind.__name__ for kind in BY_NATURE] + ["Process"])
def test_what_is_at_work_already_keeps_a_task_alive(loop_kind: str, kind: str) -> None:
    figures = figures_of(Program((Resource(kind),), (Worker(0),), ()), loop_kind)
    assert (figures.tasks, figures.stuck) == (1, 0)


def test_no_random_program_has_a_task_that_is_called_stuck_and_goes_on(loop_kind: str) -> None:
    figures = search(500, 7, loop_kind, seconds=50)
    assert figures.woken > 50 and figures.dead > 50
    assert figures.false == 0
    if loop_kind != "uvloop":  # which has its timers in C
        assert figures.stuck_for_now > figures.stuck
        assert figures.stuck_nearby > 10
    # A thread that is about to block can still be at work during the search.
    assert sum(figures.not_told.values()) <= figures.programs // 50


def test_where_nobody_holds_anything_all_tasks_that_stay_are_proven(loop_kind: str) -> None:
    figures = search(200, 8, loop_kind, seconds=30)
    assert figures.alone > 20
    assert figures.stuck_alone == figures.alone


@pytest.mark.parametrize("how", HELD_SINCE)
@pytest.mark.parametrize("maker", MAKERS_OF_HOSTS)
def test_a_body_is_stuck_only_where_nobody_has_come_to_hold_it(loop_kind: str, maker: str, how: str) -> None:
    figures = figures_of(Program((Resource("Event"),), (Worker(0, maker=maker, host=how),), ()), loop_kind)
    # What holds a task that starts eagerly is not known in its first step, so there none is one that runs a body.
    assert figures.hosts == (loop_kind != "eager")
    assert figures.stuck_hosts == (figures.hosts and how == "by nobody")
