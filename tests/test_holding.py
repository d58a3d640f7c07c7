"""The walk from a task to what it holds: which ways it goes, by what names, and what it leaves alone."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import sys
import types
import weakref
from collections import deque, namedtuple
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from taskscope._diagnosis.holding import DEPTH, Holding, HoldingSearch, Keeper, tasks_of
from taskscope._diagnosis.steps import OBJECTS


class Thing:
    pass


class Box:
    def __init__(self, held: object = None) -> None:
        self.held = held

    def method(self) -> None:
        pass


class Slots:
    __slots__ = ("held",)

    def __init__(self, held: object) -> None:
        self.held = held


class Dict(dict):  # type: ignore[type-arg]
    def items(self) -> Any:
        raise AssertionError("asked")

    def __iter__(self) -> Any:
        raise AssertionError("asked")


Pair = namedtuple("Pair", "first second")


async def for_ever() -> None:
    await asyncio.Event().wait()


async def holds(it: object) -> None:
    await for_ever()
    assert it is not None


async def holds_no_more(it: object) -> None:
    await for_ever()


async def looked_at(coroutine: Any, *targets: object) -> Holding | None:
    """What is found in a task that runs a coroutine, once it waits."""
    task = asyncio.create_task(coroutine)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    try:
        return HoldingSearch(frozenset(map(id, targets))).holding(task)
    finally:
        task.cancel()
        await asyncio.wait([task])


def in_closure(thing: object) -> Callable[[], object]:
    def call() -> object:
        return thing

    return call


def in_default(thing: object) -> Callable[..., object]:
    def call(value: object = thing, *, other: object = thing) -> object:
        return value

    return call


WAYS: list[tuple[str, Callable[[Any], Any]]] = [
    ("it", lambda thing: thing),
    ("it.held", Box),
    ("it.held", Slots),
    ("it.held.held", lambda thing: Box(Slots(thing))),
    ("it['key']", lambda thing: {"key": thing}),
    ("it[5]", lambda thing: {5: thing}),
    ("it[...]", lambda thing: {(1, 2): thing}),
    ("it['key']", lambda thing: Dict(key=thing)),
    ("it[1]", lambda thing: [None, thing]),
    ("it[1]", lambda thing: (None, thing)),
    ("it[0]", lambda thing: Pair(thing, None)),
    ("it[0]", lambda thing: deque([thing])),
    ("it{...}", lambda thing: {thing}),
    ("it{...}", lambda thing: frozenset([thing])),
    ("it.<closure>.thing", in_closure),
    ("it.__defaults__[0]", in_default),
    ("it.args[0]", lambda thing: functools.partial(print, thing)),
    ("it.keywords['file']", lambda thing: functools.partial(print, file=thing)),
    ("it.func.__self__.held", lambda thing: functools.partial(Box(thing).method)),
    ("it.__self__.held", lambda thing: Box(thing).method),
    ("it.__self__[0]", lambda thing: [thing].append),
]


@pytest.mark.parametrize(("variable", "make"), WAYS, ids=[f"{name} {place}" for place, (name, _) in enumerate(WAYS)])
def test_ways(run: Any, variable: str, make: Callable[[Any], Any]) -> None:
    async def main() -> None:
        thing = Thing()
        found = await looked_at(holds(make(thing)), thing)
        assert found is not None
        assert found.variable == variable
        assert found.frame.function == "holds"
        assert await looked_at(holds(make(Thing())), thing) is None

    run(main)


class Hostile(Box):
    """Whoever asks it anything is told off."""

    def __getattribute__(self, name: str) -> object:
        raise AssertionError(f"asked for {name}")

    def __eq__(self, other: object) -> bool:
        raise AssertionError("compared")

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        raise AssertionError("shown")

    def __len__(self) -> int:
        raise AssertionError("counted")

    def __bool__(self) -> bool:
        raise AssertionError("judged")


class Meta(type):
    def __hash__(cls) -> int:
        raise AssertionError("hashed")

    def __eq__(cls, other: object) -> bool:
        raise AssertionError("compared")

    def __subclasscheck__(cls, subclass: type) -> bool:
        raise AssertionError("compared")


class OfHostileClass(metaclass=Meta):
    def __init__(self, held: object) -> None:
        self.held = held

    @property
    def __class__(self) -> Any:  # type: ignore[override]
        raise AssertionError("asked")


def hostile(held: object) -> object:
    made = object.__new__(Hostile)
    object.__setattr__(made, "held", held)
    return made


@pytest.mark.parametrize("make", [hostile, OfHostileClass])
def test_no_code_of_a_users_is_run(run: Any, make: Callable[[object], object]) -> None:
    async def main() -> None:
        thing = Thing()
        found = await looked_at(holds(make(thing)), thing)
        assert found is not None and found.variable == "it.held"
        target = make(None)
        found = await looked_at(holds(Box(target)), target)
        assert found is not None and found.variable == "it.held"

    run(main)


def chain_of(length: int, thing: object) -> object:
    for _ in range(length):
        thing = Box(thing)
    return thing


def test_the_walk_is_bounded(run: Any) -> None:
    async def main() -> None:
        thing = Thing()
        nearest = await looked_at(holds(chain_of(DEPTH, thing)), thing)
        assert nearest is not None and nearest.variable == "it" + ".held" * DEPTH
        assert await looked_at(holds(chain_of(DEPTH + 1, thing)), thing) is None
        many = [Box() for _ in range(OBJECTS + 10)]
        assert await looked_at(holds([*many, Box(thing)]), thing) is None

    run(main)


def test_what_was_looked_at_in_vain_does_not_hide_it_from_another_task(run: Any) -> None:
    async def main() -> None:
        thing = Thing()
        near = chain_of(2, thing)
        tasks = [asyncio.create_task(holds(it)) for it in (chain_of(3, near), near, Box(near))]
        await asyncio.sleep(0)
        search = HoldingSearch({id(thing)})
        found = [search.holding(task) for task in tasks]
        assert found[0] is None  # too far
        assert found[1] is not None and found[1].variable == "it.held.held"
        assert found[2] is not None and found[2].variable == "it.held.held.held"
        for task in tasks:
            task.cancel()

    run(main)


@pytest.mark.parametrize(
    "make",
    [
        lambda thing: weakref.ref(thing),
        lambda thing: types.ModuleType("module", thing),
        lambda thing: type("Class", (), {"held": thing}),
        lambda thing: contextvars.copy_context(),
        lambda thing: OSError(thing),
    ],
)
def test_ways_that_are_not_gone(run: Any, make: Callable[[object], object]) -> None:
    async def main() -> None:
        thing = Thing()
        assert await looked_at(holds(make(thing)), thing) is None

    run(main)


def test_a_variable_that_is_never_read_again_holds_nothing(run: Any) -> None:
    async def main() -> None:
        thing = Thing()
        assert await looked_at(holds_no_more(thing), thing) is None
        assert await looked_at(holds_no_more(Box(thing)), thing) is None

    run(main)


class Block(Box):
    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, *exc: object) -> None:
        pass


def test_but_what_a_block_has_in_hand_is_held(run: Any) -> None:
    async def in_block(it: object) -> None:
        async with Block(it):
            await for_ever()

    async def in_its_own_block(it: Any) -> None:
        async with it:
            await for_ever()

    async def in_call(it: object) -> None:
        print(it, await for_ever())  # type: ignore[func-returns-value]

    async def in_another_block(it: object) -> None:
        async with Block():
            await for_ever()

    async def main() -> None:
        thing, block = Thing(), Block()
        for coroutine, target in ((in_block(thing), thing), (in_its_own_block(block), block), (in_call(thing), thing)):
            found = await looked_at(coroutine, target)
            assert found is not None and found.variable == "it"
        assert await looked_at(in_another_block(thing), thing) is None

    run(main)


def test_what_another_task_holds_is_not_held(run: Any) -> None:
    async def main() -> None:
        thing = Thing()
        other = asyncio.create_task(holds(thing))
        future = asyncio.get_running_loop().create_future()
        future.held = thing
        assert await looked_at(holds([other, future]), thing) is None
        other.cancel()

    run(main)


async def inner(resource: object) -> None:
    await for_ever()
    assert resource is not None


async def outer(resource: object) -> None:
    await inner(resource)
    assert resource is not None


async def only_outer(resource: object) -> None:
    await for_ever()
    assert resource is not None


def test_the_innermost_frame_of_a_users_is_told(run: Any) -> None:
    async def main() -> None:
        thing = Thing()
        found = await looked_at(outer(thing), thing)
        assert found is not None
        assert (found.frame.function, found.variable) == ("inner", "resource")
        found = await looked_at(only_outer(thing), thing)
        assert found is not None
        assert found.frame.function == "only_outer"

    run(main)


def test_a_frame_of_a_library_is_told_where_there_is_no_other(run: Any) -> None:
    async def main() -> None:
        queue: asyncio.Queue[int] = asyncio.Queue()
        found = await looked_at(queue.get(), queue)
        assert found is not None
        assert (found.frame.function, found.variable) == ("Queue.get", "self")

        async def gets(queue: asyncio.Queue[int]) -> None:
            while await queue.get():
                pass

        found = await looked_at(gets(queue), queue)
        assert found is not None
        assert found.frame.function.endswith("gets")

    run(main)


def test_generators_are_looked_into(run: Any) -> None:
    async def main() -> None:
        async def numbers(thing: object) -> Any:
            await for_ever()
            yield thing

        async def consumes(make: Callable[[object], Any]) -> None:
            async for _ in make(thing):
                pass

        @types.coroutine
        def plain(it: object) -> Any:
            yield from for_ever()
            return it

        thing = Thing()
        found = await looked_at(consumes(numbers), thing)
        assert found is not None and found.variable == "thing"

        async def waits(make: Callable[[object], Awaitable[None]]) -> None:
            await make(thing)

        found = await looked_at(waits(plain), thing)
        assert found is not None and found.variable == "it"

    run(main)


def test_a_task_that_has_not_begun_holds_its_arguments(run_asyncio: Any) -> None:
    async def main() -> None:
        thing = Thing()

        async def closed_over() -> None:
            await holds(thing)

        for coroutine in (holds(thing), closed_over()):
            task = asyncio.create_task(coroutine)
            assert HoldingSearch({id(thing)}).holding(task) is not None
            task.cancel()
            await asyncio.wait([task])

    run_asyncio(main)


def test_nothing_is_left_in_the_frames(run: Any) -> None:
    async def main() -> None:
        async def lets_go(thing: object, event: asyncio.Event) -> None:
            await event.wait()
            assert thing is not None
            del thing
            await for_ever()

        thing, event = Thing(), asyncio.Event()
        alive = weakref.ref(thing)
        task = asyncio.create_task(lets_go(thing, event))
        await asyncio.sleep(0)
        assert HoldingSearch({id(thing)}).holding(task) is not None
        before = sys.getrefcount(thing)
        assert HoldingSearch({id(thing)}).holding(task) is not None
        assert sys.getrefcount(thing) == before
        del thing
        event.set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert alive() is None
        task.cancel()

    run(main)


def test_the_tasks_that_a_thing_keeps_are_its_own(run_asyncio: Any) -> None:
    async def main() -> None:
        own, other = asyncio.create_task(for_ever()), asyncio.create_task(for_ever())
        kept = [Box(own), Box({own}), Box(Box([own]))]
        async with asyncio.TaskGroup() as group:
            child = group.create_task(asyncio.sleep(0))
            assert tasks_of(Box(group)) == {id(child)}
        for thing in kept:
            assert tasks_of(thing) == {id(own)}
        event = asyncio.Event()
        waiting = asyncio.create_task(event.wait())
        await asyncio.sleep(0)
        assert tasks_of(Box(event)) == set()
        for task in (own, other, waiting):
            task.cancel()

    run_asyncio(main)
    gc.collect()


def test_a_way_that_led_too_far_is_not_gone_again_for_the_next_task(run: Any) -> None:
    async def main() -> None:
        thing = Thing()
        many: list[Any] = [Box([number]) for number in range(3 * OBJECTS)]
        tasks = [asyncio.create_task(holds(it)) for it in (many, many, [Box(thing), many])]
        await asyncio.sleep(0)
        search = HoldingSearch({id(thing)})
        assert search.holding(tasks[0]) is None
        left = search._left
        assert search.holding(tasks[1]) is None
        assert left - search._left < 10
        found = search.holding(tasks[2])
        assert found is not None and found.variable == "it[0].held"
        for task in tasks:
            task.cancel()

    run(main)


def test_a_look_takes_no_more_than_its_time(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> Any:
        thing = Thing()
        task = asyncio.create_task(holds(Box(thing)))
        await asyncio.sleep(0)
        found = HoldingSearch({id(thing)})
        monkeypatch.setattr("taskscope._diagnosis.holding.SECONDS", 0.0)
        late = HoldingSearch({id(thing)})
        result = found.holding(task), late.holding(task), late.is_cut_short
        task.cancel()
        return result

    found, late, is_cut_short = run(main)
    assert found is not None
    assert (late, is_cut_short) == (None, True)
    monkeypatch.undo()


def test_who_keeps_a_thing_for_others_can_let_go_of_it() -> None:
    thing, box = Thing(), Box()
    box.held = {"key": [thing]}
    keeper = Keeper([box, box.held, box.held["key"], thing])  # type: ignore[index]
    assert keeper.is_there() and keeper.leads_to({id(thing)})
    box.held.clear()  # type: ignore[attr-defined]
    assert keeper.is_there() and not keeper.leads_to({id(thing)})
    del box
    assert not keeper.is_there()
    assert not Keeper([[thing], thing]).is_there()  # nothing that can be referred to weakly
