"""Random orders of spawn, use, end and close, against a model that says who has to be accused, and nobody else."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from closings import closed_in_use, columns
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from parity import Column, Library

from taskscope import TaskScope, closing, guard

RESOURCES = 2
TASKS = 4

Step = tuple[Any, ...]


class Resource:
    """Closed at once, or after a while, and tells some of its users to end as it is."""

    def __init__(self, library: Library, name: str) -> None:
        self.library = library
        self.name = name
        self.tells: list[Any] = []

    def close(self) -> None:
        for bell in self.tells:
            bell.end()


class SlowResource(Resource):
    async def aclose(self) -> None:
        await self.library.settle()


class Bell:
    """Wakes one task, to use what it holds or to end."""

    def __init__(self, library: Library) -> None:
        self.library = library
        self.is_over = False
        self.event = library.event()

    def use(self) -> None:
        self.event.set()

    def end(self) -> None:
        self.is_over = True
        self.event.set()

    async def until_over(self) -> None:
        while not self.is_over:
            await self.event.wait()
            self.event = self.library.event()


class Holder:
    def __init__(self, resource: object) -> None:
        self._resource = resource

    def method(self) -> object:
        return self._resource

    async def run(self, bell: Bell) -> None:
        await bell.until_over()


async def in_variable(resource: object, bell: Bell) -> None:
    await bell.until_over()
    assert resource is not None


async def never_again(resource: object, bell: Bell) -> None:
    await bell.until_over()


async def in_attribute(resource: object, bell: Bell) -> None:
    holder = Holder(resource)
    del resource
    await bell.until_over()
    assert holder is not None


async def in_partial(resource: object, bell: Bell) -> None:
    call = functools.partial(print, resource)
    del resource
    await bell.until_over()
    assert call is not None


async def in_method(resource: object, bell: Bell) -> None:
    call = Holder(resource).method
    del resource
    await bell.until_over()
    assert call is not None


async def in_closure(resource: object, bell: Bell) -> None:
    def call() -> object:
        return made["it"]

    made = {"it": [resource]}
    del resource
    await bell.until_over()
    assert call is not None


async def in_caller(resource: object, bell: Bell) -> None:
    await not_at_all(None, bell)
    assert resource is not None


async def not_at_all(resource: object, bell: Bell) -> None:
    del resource
    await bell.until_over()


WAYS = [in_variable, in_attribute, in_partial, in_method, in_closure, in_caller, never_again, not_at_all]

tasks = st.integers(0, TASKS - 1)
resources = st.integers(0, RESOURCES - 1)
steps = st.one_of(
    st.tuples(st.just("spawn"), tasks, st.sampled_from(WAYS), resources),
    st.tuples(st.just("use"), tasks),
    st.tuples(st.just("end"), tasks),
    st.tuples(st.just("told by"), tasks, resources),
    st.tuples(st.just("settle")),
    st.tuples(st.just("close"), resources, st.sampled_from(["closing", "guard", "in a child"])),
)
kinds = st.lists(st.booleans(), min_size=RESOURCES, max_size=RESOURCES)
programs = st.tuples(kinds, st.lists(steps, min_size=4, max_size=14))


class Model:
    """Who is pending, who holds what, and who must be accused.

    A task that is told to end has ended as soon as the others have had their turn. One that a closing tells to end is
    not accused of holding the resource; one that was told before, or by another, and has not ended, is.
    """

    def __init__(self, is_slow: list[bool]) -> None:
        self.is_slow = is_slow
        self.holds: dict[int, int | None] = {}
        self.told: set[int] = set()
        self.woken: set[int] = set()
        self.excused: set[tuple[int, int]] = set()
        self.tells: dict[int, list[int]] = {number: [] for number in range(RESOURCES)}
        self.accused: set[tuple[str, str]] = set()

    def settle(self) -> None:
        for task in self.told:
            self.holds.pop(task, None)
            for tells in self.tells.values():
                while task in tells:
                    tells.remove(task)
        self.told.clear()
        self.woken.clear()

    def close(self, resource: int) -> None:
        if self.is_slow[resource]:
            self.settle()
        else:
            for task in self.tells[resource]:
                if task in self.holds and task not in self.told and task not in self.woken:
                    self.excused.add((task, resource))
            self.told.update(task for task in self.tells[resource] if task in self.holds)
        for task, held in self.holds.items():
            if held == resource and (task, resource) not in self.excused:
                self.accused.add((f"task {task}", f"test_closing_orders.{_kind(self.is_slow[resource])} '{resource}'"))


def _kind(is_slow: bool) -> str:
    return "SlowResource" if is_slow else "Resource"


async def accused_in(library: Library, program: Any) -> tuple[set[tuple[str, str]], set[tuple[str, str]], str]:
    """Who was accused, and who has to be."""
    is_slow, steps = program
    model = Model(is_slow)
    things = [(SlowResource if slow else Resource)(library, str(number)) for number, slow in enumerate(is_slow)]
    bells: dict[int, Bell] = {}
    scope = TaskScope("orders", grace=10.0, on_leak="ignore")
    async with library.group() as group:
        spawn = library.spawner(group)
        async with scope:
            for what, *arguments in steps:
                await _do(what, arguments, library, spawn, model, things, bells)
            for bell in bells.values():
                bell.end()
            await library.settle()
    found = closed_in_use(scope.report)
    pairs = [(finding.task.name, finding.what) for finding in found if finding.task is not None]
    assert len(set(pairs)) == len(pairs), "told twice"
    return set(pairs), model.accused, str(scope.report)


async def _do(
    what: str,
    arguments: list[Any],
    library: Library,
    spawn: Callable[..., None],
    model: Model,
    things: list[Any],
    bells: dict[int, Bell],
) -> None:
    if what == "settle":
        await library.settle()
        model.settle()
    elif what == "spawn":
        number, way, resource = arguments
        if number in bells:
            return
        bells[number] = Bell(library)
        spawn(way, things[resource], bells[number], name=f"task {number}")
        await library.settle()
        model.settle()
        model.holds[number] = None if way in (never_again, not_at_all) else resource
    elif what in ("use", "end") and arguments[0] in model.holds:
        [number] = arguments
        getattr(bells[number], what)()
        (model.told if what == "end" else model.woken).add(number)
    elif what == "told by" and arguments[0] in model.holds:
        number, resource = arguments
        things[resource].tells.append(bells[number])
        model.tells[resource].append(number)
    elif what == "close":
        number, how = arguments
        await _close(how, things[number], str(number), library, spawn)
        if how == "in a child":
            model.settle()
        model.close(number)
        if how == "in a child":
            await library.settle()
            model.settle()


async def _close(how: str, thing: Any, name: str, library: Library, spawn: Callable[..., None]) -> None:
    if how == "guard":
        guard(thing, name)
        await (thing.aclose() if hasattr(thing, "aclose") else _nothing(thing.close()))
    elif how == "closing":
        async with closing(thing, name):
            pass
    else:

        async def child() -> None:
            await library.settle()
            async with closing(thing, name):
                pass

        async def parent() -> None:
            held = thing
            async with library.group() as group:
                library.spawner(group)(child, name="child")
            over.set()
            assert held is not None

        over = library.event()
        spawn(parent, name="parent")
        await over.wait()


async def _nothing(result: object) -> None:
    pass


@columns()
@settings(max_examples=200, print_blob=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(program=programs)
def test_accused_are_those_who_hold_what_has_been_closed_and_nobody_else(column: Column, program: Any) -> None:
    async def main(library: Library) -> Any:
        return await accused_in(library, program)

    found, expected, report = column.run(main)
    assert found == expected, report
