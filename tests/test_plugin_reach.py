"""The walk that looks for who has a task: what it goes through, where it stops, and that it runs nothing."""

from __future__ import annotations

import asyncio
import collections
import contextvars
import functools
import logging
import sys
import types
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from plugin.project import run_pytest

from taskscope.pytest_plugin._reach import ATOMS, OBJECTS, REFERENCES, TURN, first_reaching


class Thing:
    def method(self) -> None: ...


class Handler(logging.Handler):
    def __init__(self, thing: object) -> None:
        super().__init__()
        self.thing = thing


class Logger(logging.Logger):
    def __init__(self, thing: object) -> None:
        super().__init__("logger")
        self.thing = thing


class Name(str):
    def __new__(cls, thing: object) -> Name:
        name = super().__new__(cls, "name")
        name.thing = thing
        return name

    thing: object


class Slotted:
    __slots__ = ("thing",)

    def __init__(self, thing: object) -> None:
        self.thing = thing


def _leads(start: object, thing: object) -> bool:
    return bool(first_reaching([("start", [start])], {"thing": [id(thing)]}))


def _generator(thing: object) -> Iterator[object]:
    yield None
    print(thing)


async def _async_generator(thing: object) -> AsyncIterator[object]:
    yield None
    print(thing)


def _begun(thing: object) -> object:
    generator = _generator(thing)
    next(generator)
    return generator


def _closure(thing: object) -> object:
    return lambda: thing


WAYS: dict[str, Callable[[Thing], object]] = {
    "itself": lambda thing: thing,
    "list": lambda thing: [[thing]],
    "dict": lambda thing: {"key": {"thing": thing}},
    "deque": lambda thing: collections.deque([thing]),
    "attribute": lambda thing: types.SimpleNamespace(thing=thing),
    "slot": Slotted,
    "closure": _closure,
    "default": lambda thing: eval("lambda thing=thing: thing", {"thing": thing}),
    "partial": lambda thing: functools.partial(print, thing),
    "method": lambda thing: thing.method,
    "method of a list": lambda thing: [thing].append,
    "generator": _begun,
    "async generator": _async_generator,
    "weak set": lambda thing: weakref.WeakSet([thing]),
    "weak keys": lambda thing: weakref.WeakKeyDictionary({thing: 1}),
    "weak values": lambda thing: weakref.WeakValueDictionary({1: thing}),
    "exception": lambda thing: ValueError(thing),
    "own kind of handler": Handler,
    "own kind of string": Name,
}


def _module(thing: object) -> types.ModuleType:
    module = types.ModuleType("module")
    vars(module)["thing"] = thing
    return module


def _context(thing: object) -> contextvars.Context:
    context = contextvars.Context()
    context.run(contextvars.ContextVar[object]("thing").set, thing)
    return context


def _stream_handler(thing: Any) -> object:
    handler = logging.StreamHandler[Any]()
    vars(handler)["thing"] = thing
    return handler


STOPS: dict[str, Callable[[Thing], object]] = {
    "module": _module,
    "class": lambda thing: type("Class", (), {"thing": thing})(),
    "context": _context,
    "weak reference": weakref.ref,
    "globals of a function": lambda thing: eval("lambda: thing", {"thing": thing}),
    "frame": lambda thing: sys._getframe(),
    "handler of the library's": _stream_handler,
    "own kind of logger": Logger,
}


@pytest.mark.parametrize("way", WAYS)
def test_ways_that_lead_on(way: str) -> None:
    thing = Thing()
    start = WAYS[way](thing)
    assert _leads([start], thing)
    assert not _leads([start], Thing())


@pytest.mark.parametrize("stop", STOPS)
def test_ways_that_lead_everywhere(stop: str) -> None:
    thing = Thing()
    start = STOPS[stop](thing)
    assert not _leads([start], thing)


async def _forever() -> None:
    await asyncio.Event().wait()


def test_a_group_leads_to_its_tasks_and_not_to_who_waits_for_it() -> None:
    async def main() -> None:
        event = asyncio.Event()
        waiting = asyncio.create_task(event.wait())
        async with asyncio.TaskGroup() as group:
            child = group.create_task(_forever())
            gathered = asyncio.gather(_forever())
            future = asyncio.get_running_loop().create_future()
            joining = asyncio.create_task(asyncio.wait([child, future]))
            await asyncio.sleep(0)
            [member] = gathered._children  # type: ignore[attr-defined]
            assert _leads(group, child)
            assert _leads(gathered, member)
            assert _leads([child], child)
            for start in (group, gathered, child, future, event, member):
                assert not _leads(start, joining)
                assert not _leads(start, waiting)
                assert not _leads(start, asyncio.current_task())
            for task in (child, waiting, joining, gathered):
                task.cancel()
            await asyncio.gather(gathered, waiting, joining, return_exceptions=True)

    asyncio.run(main())


@pytest.mark.parametrize("base", [asyncio.Future, asyncio.futures._PyFuture])  # type: ignore[attr-defined]
def test_own_kind_of_future_leads_to_what_it_has_and_not_to_who_waits_for_it(base: Any) -> None:
    class Job(base):  # type: ignore[misc]
        thing: object

    async def main() -> None:
        job = Job()
        job.thing = thing = Thing()
        waiting = [asyncio.create_task(asyncio.wait([job])) for _ in range(3)]
        await asyncio.sleep(0)
        assert _leads([job], thing)
        assert not any(_leads([job], each) for each in waiting)
        job.set_result(None)
        await asyncio.wait(waiting)

    asyncio.run(main())


def _chain(length: int, end: object) -> object:
    for _ in range(length):
        end = [end]
    return end


def test_a_walk_is_bounded() -> None:
    thing = Thing()
    assert _leads(_chain(OBJECTS - 10, thing), thing)
    assert not _leads(_chain(OBJECTS + 10, thing), thing)
    around: list[object] = [[index] for index in range(OBJECTS)]
    assert not _leads([*around, thing, *around], thing)
    back: list[object] = []
    back += [back] * (OBJECTS * REFERENCES)
    assert _leads([*back[:OBJECTS], thing, *back[:OBJECTS]], thing)
    assert not _leads([*back, thing, *back], thing)
    numbers: list[object] = list(range(OBJECTS * REFERENCES))
    assert _leads([*numbers, thing, *numbers], thing)
    assert not _leads([*numbers * ATOMS, thing, *numbers * ATOMS], thing)


def test_what_a_value_has_beside_its_tasks_does_not_use_a_walk_up() -> None:
    thing = Thing()
    cache = {index: {"id": index} for index in range(25_000)}
    assert _leads(types.SimpleNamespace(cache=cache, rows=list(range(300_000)), things=[[thing]]), thing)


def test_each_source_has_a_bound_of_its_own() -> None:
    thing = Thing()
    large = [[index] for index in range(2 * OBJECTS)]
    deep = _chain(OBJECTS - 10, thing)
    assert first_reaching([("large", [large]), ("deep", [deep])], {thing: [id(thing)]}) == {thing: "deep"}


def test_the_nearest_has_it() -> None:
    thing = Thing()
    deep = _chain(2 * TURN, thing)
    near = [thing]
    assert first_reaching([("deep", [deep]), ("near", [near])], {thing: [id(thing)]}) == {thing: "near"}
    assert first_reaching([("deep", [deep]), ("near", [near])], {thing: [id(thing)]}, {id(near)}) == {thing: "deep"}


def test_what_else_stands_for_a_target_is_asked_for_only_where_that_is_not_near() -> None:
    near, far, absent, stand_in, ahead = Thing(), Thing(), Thing(), Thing(), Thing()
    asked: list[Thing] = []
    others = {far: [id(stand_in)], absent: [id(ahead)]}

    def further(target: Thing) -> list[int]:
        asked.append(target)
        return others[target]

    targets = {thing: [id(thing)] for thing in (near, far, absent)}
    sources = [("one", [near]), ("other", [stand_in, _chain(2 * TURN, ahead)])]
    # One has been come to already when it is asked for, the other has not.
    assert first_reaching(sources, targets, (), further) == {near: "one", far: "other", absent: "other"}
    assert asked == [far, absent]
    assert first_reaching(sources, targets, {id(stand_in), id(ahead)}, further) == {near: "one"}


def test_no_code_of_a_users_is_run() -> None:
    ran: list[str] = []

    class Meta(type):
        def __getattribute__(cls, name: str) -> Any:
            ran.append(name)
            return super().__getattribute__(name)

        def __instancecheck__(cls, instance: object) -> bool:
            ran.append("isinstance")
            return False

        def __subclasscheck__(cls, subclass: type) -> bool:
            ran.append("issubclass")
            return False

    class Hostile(metaclass=Meta):
        def __init__(self, thing: object) -> None:
            self.thing = thing

        def __getattribute__(self, name: str) -> Any:
            ran.append(name)
            return super().__getattribute__(name)

        def __eq__(self, other: object) -> bool:
            ran.append("eq")
            return False

        def __hash__(self) -> int:
            ran.append("hash")
            return 0

    class HostileTask(asyncio.Task[None]):
        @property
        def child_nurseries(self) -> list[object]:
            ran.append("child_nurseries")
            return []

    class HostileGroup(asyncio.TaskGroup):
        def __getattribute__(self, name: str) -> Any:
            ran.append(name)
            return super().__getattribute__(name)

    async def main() -> None:
        thing = Thing()
        task = HostileTask(_forever())
        group = HostileGroup()
        group.things = [thing]  # type: ignore[attr-defined]
        starts = [task, Hostile([thing]), group, Hostile]
        ran.clear()
        assert _leads(starts[1], thing)
        assert _leads(group, thing)
        assert not _leads(starts, object())
        assert not ran
        task.cancel()

    asyncio.run(main())


def test_nothing_is_walked_as_long_as_nothing_is_pending(tmp_path: Path) -> None:
    conftest = """
        from taskscope.pytest_plugin import _claiming, _named

        def walk(*arguments):
            raise AssertionError("there was a walk")

        _claiming.first_reaching = _named.named_by = walk
        """
    tests = """
        import asyncio
        import pytest

        @pytest.fixture
        async def value():
            task = asyncio.create_task(asyncio.sleep(0))
            yield task
            await task

        async def test_clean(value):
            task = asyncio.create_task(asyncio.sleep(0))
            await task

        async def test_leak(value):
            asyncio.create_task(asyncio.Event().wait())
        """
    run = run_pytest(
        tmp_path,
        {"conftest.py": conftest, "test_it.py": tests},
        plugins=("pytest_asyncio.plugin",),
        ini="taskscope = true\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function",
    )
    assert run.outcomes() == {"test_clean": "passed", "test_leak": "failed"}, run.output
    assert "there was a walk" in run.phase("test_leak").text


def test_what_only_a_parameter_leads_to_is_the_tests(tmp_path: Path) -> None:
    tests = """
        import asyncio
        import pytest

        class Box:
            pass

        @pytest.mark.parametrize("box", [Box()], ids=["box"])
        async def test_leak(box):
            box.task = asyncio.create_task(asyncio.Event().wait())

        @pytest.mark.parametrize("box", [Box()], ids=["box"])
        async def test_clean(box):
            box.task = asyncio.create_task(asyncio.sleep(0))
            await box.task
        """
    run = run_pytest(
        tmp_path,
        {"test_it.py": tests},
        plugins=("pytest_asyncio.plugin",),
        ini="taskscope = true\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function",
    )
    assert run.outcomes() == {"test_leak[box]": "failed", "test_clean[box]": "passed"}, run.output


def test_what_the_mocker_leads_to_is_the_tests(tmp_path: Path) -> None:
    tests = """
        import asyncio

        class Client:
            def start(self):
                self.task = asyncio.create_task(asyncio.Event().wait())

            async def stop(self):
                self.task.cancel()
                await asyncio.wait([self.task])

        async def test_leak(mocker):
            client = Client()
            mocker.spy(client, "start")
            client.start()

        async def test_clean(mocker):
            client = Client()
            mocker.spy(client, "start")
            client.start()
            await client.stop()
        """
    run = run_pytest(
        tmp_path,
        {"test_it.py": tests},
        plugins=("pytest_asyncio.plugin", "pytest_mock"),
        ini="taskscope = true\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function",
    )
    assert run.outcomes() == {"test_leak": "failed", "test_clean": "passed"}, run.output
