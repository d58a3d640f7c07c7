"""The task factory beside those of others: chained, wrapped, replaced, and given back."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import logging
import os
import socket
import sys
import traceback
import warnings
import weakref
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import Mock

import anyio
import anyio.abc
import pytest
from conftest import Run

from taskscope import Installation, TaskScope, hand_off, install

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it imports a deprecated name
    import aiomonitor
    from aiomonitor.task import TracedTask

Coro = Coroutine[Any, Any, Any]
Factory = Callable[..., Any]

needs_eager = pytest.mark.skipif(sys.version_info < (3, 12), reason="there are no eager tasks before Python 3.12")


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


async def nothing() -> None:
    pass


def quiet(name: str | None = None, **policy: object) -> TaskScope:
    """A scope that judges at once and only reports."""
    return TaskScope(name, **{"grace": 0, "on_leak": "ignore", **policy})  # type: ignore[arg-type]


def names(scope: TaskScope) -> set[str]:
    return {record.name for record in scope.report.leaks}


async def turns(count: int = 3) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


class Recording:
    """A user's factory: notes what it is called with and makes an ordinary task of what the loop understands."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def __call__(self, loop: asyncio.AbstractEventLoop, coro: Coro, **kwargs: Any) -> asyncio.Task[Any]:
        self.calls.append(kwargs)
        known = {key: value for key, value in kwargs.items() if key in {"name", "context"}}
        return asyncio.Task(coro, loop=loop, **known)

    def bound(self, loop: asyncio.AbstractEventLoop, coro: Coro, **kwargs: Any) -> asyncio.Task[Any]:
        return self(loop, coro, **kwargs)


class MyTask(asyncio.Task[Any]):
    """A user's task class."""


def plain_function(loop: asyncio.AbstractEventLoop, coro: Coro, **kwargs: Any) -> MyTask:
    return MyTask(coro, loop=loop, **kwargs)


def python_task(loop: asyncio.AbstractEventLoop, coro: Coro, **kwargs: Any) -> Any:
    return asyncio.tasks._PyTask(coro, loop=loop, **kwargs)  # type: ignore[attr-defined]


def with_keyword(loop: asyncio.AbstractEventLoop, coro: Coro, *, cls: type, **kwargs: Any) -> Any:
    return cls(coro, loop=loop, **kwargs)


FACTORIES: dict[str, Callable[[], Factory]] = {
    "function": lambda: plain_function,
    "lambda": lambda: lambda loop, coro, **kwargs: MyTask(coro, loop=loop, **kwargs),
    "instance": Recording,
    "bound method": lambda: Recording().bound,
    "partial": lambda: functools.partial(with_keyword, cls=MyTask),
    "mock": lambda: Mock(wraps=plain_function),
    "Python's own task": lambda: python_task,
}
if sys.version_info >= (3, 12):
    FACTORIES["eager"] = lambda: asyncio.eager_task_factory
    FACTORIES["eager, own class"] = lambda: asyncio.create_eager_task_factory(MyTask)
# From 3.14 on asyncio itself does not know which task runs when one in pure Python starts eagerly inside of one in C.
if (3, 12) <= sys.version_info < (3, 14):
    FACTORIES["eager, Python's own task"] = lambda: asyncio.create_eager_task_factory(
        asyncio.tasks._PyTask  # type: ignore[attr-defined]
    )


@pytest.fixture
def uncollected() -> Iterator[None]:
    """asyncio holds tasks weakly: one that we have not seen, and nobody refers to, can vanish at any time."""
    gc.disable()
    yield
    gc.enable()


@pytest.fixture(params=FACTORIES)
def theirs(request: pytest.FixtureRequest) -> Factory:
    return FACTORIES[request.param]()


async def parent(all_there: asyncio.Event) -> None:
    asyncio.create_task(child(all_there), name="child")
    await forever()


async def child(all_there: asyncio.Event) -> None:
    asyncio.create_task(forever(), name="grandchild")
    all_there.set()
    await forever()


def test_a_factory_is_chained_and_comes_back_when_the_last_scope_has_closed(run_asyncio: Run, theirs: Factory) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(theirs)
        async with quiet("outer") as outer:
            ours = loop.get_task_factory()
            assert ours is not theirs
            async with quiet("inner") as inner:
                assert loop.get_task_factory() is ours
                all_there = asyncio.Event()
                asyncio.create_task(parent(all_there), name="parent")
                await all_there.wait()
            assert loop.get_task_factory() is ours
        assert loop.get_task_factory() is theirs
        assert names(inner) == {"parent", "child", "grandchild"}
        assert outer.report.ok and outer.report.spawned == 0
        youngest = next(record for record in inner.report.leaks if record.name == "grandchild")
        assert youngest.spawn_site is not None and youngest.spawn_site.function == "child"
        spawners = [frame.function.rpartition(".")[2] for frame in youngest.spawn_chain]
        assert spawners == ["parent", "main"]
        assert youngest.stack[0].function == "forever"

    run_asyncio(main)


def test_their_task_is_what_the_spawner_gets(run_asyncio: Run, theirs: Factory) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(theirs)
        without = type(asyncio.create_task(nothing()))
        async with TaskScope():
            task = asyncio.create_task(nothing(), name="mine")
            assert type(task) is without
            assert task.get_name() == "mine"
            await task
        await turns()

    run_asyncio(main)


def test_a_scope_is_clean_with_any_factory(run_asyncio: Run, theirs: Factory) -> None:
    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(theirs)
        async with TaskScope(grace=0) as scope:
            async with asyncio.TaskGroup() as group:
                for _ in range(3):
                    group.create_task(turns())
            assert await asyncio.gather(*(asyncio.sleep(0, number) for number in range(3))) == [0, 1, 2]
        assert scope.report.ok and scope.report.spawned == 6
        assert scope.report.tracking_lost is None

    run_asyncio(main)


def test_install_and_uninstall_give_back_the_very_object(run_asyncio: Run, theirs: Factory) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(theirs)
        installation = install()
        async with quiet() as scope:
            asyncio.create_task(forever(), name="leak")
        assert names(scope) == {"leak"}
        assert loop.get_task_factory() is not theirs
        installation.uninstall()
        assert loop.get_task_factory() is theirs

    run_asyncio(main)


def test_without_a_factory_there_is_none_again(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        before = loop.get_task_factory()
        for _ in range(3):
            async with TaskScope():
                assert loop.get_task_factory() is not before
            assert loop.get_task_factory() is before
        installation = install()
        installation.uninstall()
        assert loop.get_task_factory() is before

    run(main)


# --- aiomonitor


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def monitored() -> Iterator[None]:
    """aiomonitor as people start it, with its thread and its task factory."""
    monitor = aiomonitor.start_monitor(
        asyncio.get_running_loop(),
        port=free_port(),
        webui_port=free_port(),
        console_enabled=False,
        hook_task_factory=True,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what its web server has to say about itself
        with monitor:
            yield


@pytest.mark.filterwarnings("ignore")
def test_the_factory_of_aiomonitor_is_chained_and_comes_back(run_asyncio: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with monitored():
            its_factory = loop.get_task_factory()
            async with install():
                async with quiet() as scope:
                    all_there = asyncio.Event()
                    task = asyncio.create_task(parent(all_there), name="parent")
                    await all_there.wait()
                    assert isinstance(task, TracedTask)
                async with TaskScope(grace=0) as clean:
                    await asyncio.create_task(nothing())
            assert loop.get_task_factory() is its_factory
            assert names(scope) == {"parent", "child", "grandchild"}
            assert {record.outcome for record in scope.report.leaks} == {"cancelled"}
            assert clean.report.ok and clean.report.spawned == 1
            await turns()

    run_asyncio(main)


@pytest.mark.filterwarnings("ignore")
def test_aiomonitor_started_inside_a_scope_keeps_our_factory_but_does_not_call_it(run_asyncio: Run) -> None:
    """It remembers what it replaces in order to give it back, which is not the same as chaining."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        before = loop.get_task_factory()
        async with quiet() as scope:
            asyncio.create_task(forever(), name="before")
            monitor = monitored()
            monitor.__enter__()
            asyncio.create_task(forever(), name="meanwhile")
        try:
            assert names(scope) == {"before", "meanwhile"}
            assert scope.report.tracking_lost is not None
            await turns()
        finally:
            monitor.__exit__(None, None, None)
        # what it gives back is ours, which passes everything through until a scope needs it and takes it off
        await asyncio.create_task(nothing())
        async with TaskScope(grace=0) as clean:
            await asyncio.create_task(nothing())
        assert clean.report.spawned == 1
        assert loop.get_task_factory() is before

    run_asyncio(main)


# --- eager tasks


@needs_eager
def test_eager_tasks_that_finish_at_once_are_counted_and_not_recorded(run_asyncio: Run) -> None:
    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        async with TaskScope(grace=0) as scope:
            for _ in range(500):
                asyncio.create_task(nothing())
            assert scope.snapshot().leaks == ()
            assert scope.snapshot().spawned == 500
            assert len(scope._table.rows) == 0
            waits = asyncio.create_task(turns())
            assert [record.name for record in scope.snapshot().leaks] == [waits.get_name()]
            await waits
        assert scope.report.spawned == 501

    run_asyncio(main)


@needs_eager
def test_an_eager_task_that_fails_at_once_is_counted_and_its_exception_kept(run_asyncio: Run) -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        async with TaskScope(grace=0) as scope:
            with pytest.raises(ZeroDivisionError):
                await asyncio.create_task(fail())
        assert scope.report.ok and scope.report.spawned == 1

    run_asyncio(main)


@needs_eager
def test_what_eager_tasks_spawn_in_their_first_step_has_its_owner_and_its_spawn_chain(run_asyncio: Run) -> None:
    async def dynasty(left: int) -> None:
        if left:
            asyncio.create_task(dynasty(left - 1), name=f"left-{left - 1}")
        await forever()

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        async with quiet("bystander") as bystander, quiet() as scope:
            asyncio.create_task(dynasty(5), name="left-5")  # and without a turn of the loop all are there
        assert names(scope) == {f"left-{left}" for left in range(6)}
        for record in scope.report.leaks:
            spawners = [frame.function.rpartition(".")[2] for frame in record.spawn_chain]
            assert spawners == (["dynasty"] * (4 - int(record.name[5:])) + ["main"])[: len(spawners)]
            assert len(spawners) == 5 - int(record.name[5:])
        assert bystander.report.ok and bystander.report.spawned == 0

    run_asyncio(main)


@needs_eager
def test_a_short_eager_parent_passes_its_place_on(run_asyncio: Run) -> None:
    async def spawn() -> None:
        asyncio.create_task(forever(), name="child", context=contextvars.Context())

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        async with quiet() as scope:
            asyncio.create_task(spawn(), context=contextvars.Context())
        assert names(scope) == {"child"}
        assert scope.report.spawned == 2
        assert [frame.function.rpartition(".")[2] for frame in scope.report.leaks[0].spawn_chain] == ["main"]

    run_asyncio(main)


@needs_eager
def test_a_scope_opened_in_the_first_step_of_an_eager_task_works_as_anywhere(run_asyncio: Run) -> None:
    inner_scopes: list[TaskScope] = []

    async def host() -> None:
        async with quiet("inner") as inner:
            inner_scopes.append(inner)
            asyncio.create_task(forever(), name="inside")
        asyncio.create_task(forever(), name="after")
        await forever()

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        async with quiet("outer") as outer:
            asyncio.create_task(host(), name="host")
            while not outer.snapshot().spawned or not any(r.name == "after" for r in outer.snapshot().leaks):
                await asyncio.sleep(0)
        assert names(inner_scopes[0]) == {"inside"}
        assert names(outer) == {"host", "after"}

    run_asyncio(main)


@needs_eager
def test_an_exception_of_the_constructor_of_eager_tasks_leaves_nothing_behind(run_asyncio: Run) -> None:
    def construct(coro: Coro, **kwargs: Any) -> asyncio.Task[Any]:
        if not allowed:
            coro.close()
            raise ZeroDivisionError
        return asyncio.Task(coro, **kwargs)

    allowed: list[bool] = []

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(asyncio.create_eager_task_factory(construct))
        async with quiet() as scope:
            with pytest.raises(ZeroDivisionError):
                asyncio.create_task(forever(), name="never")
            allowed.append(True)
            asyncio.create_task(forever(), name="leak")
        assert names(scope) == {"leak"}
        assert scope.report.leaks[0].spawn_chain == ()
        assert scope.report.spawned == 1

    run_asyncio(main)


@needs_eager
@pytest.mark.parametrize("how", ["released", "to another scope", "adopted"])
def test_an_eager_task_can_be_handed_off_in_its_own_first_step(run_asyncio: Run, how: str) -> None:
    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)

        async def daemon() -> None:
            me = asyncio.current_task()
            assert me is not None
            if how == "adopted":
                taker.adopt(me)
            else:
                hand_off(me, taker if how == "to another scope" else None, reason="serves the whole process")
            asyncio.create_task(forever(), name="child")
            await forever()

        taker = quiet("taker")
        opened, leave = asyncio.Event(), asyncio.Event()

        async def take() -> None:
            async with taker:
                opened.set()
                await leave.wait()

        taking = asyncio.create_task(take())
        await opened.wait()
        async with quiet("giver") as giver:
            task = asyncio.create_task(daemon(), name="daemon")
            asyncio.create_task(forever(), name="own")
        assert names(giver) == {"own"}
        assert not task.done()
        leave.set()
        await taking
        if how == "released":
            assert taker.report.ok and not task.done()
            for left in asyncio.all_tasks() - {asyncio.current_task()}:
                left.cancel()
        else:
            assert names(taker) == {"daemon", "child"}
        await turns()

    run_asyncio(main)


@needs_eager
def test_task_groups_of_anyio_work_under_an_eager_factory(run_asyncio: Run) -> None:
    """AnyIO has to recognise the factory: its tasks must not start before it knows them."""

    async def nested(done: list[str]) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 0)
            with anyio.CancelScope() as cancelled:
                cancelled.cancel()
                await anyio.sleep_forever()
        done.append("nested")

    async def service(*, task_status: anyio.abc.TaskStatus[str]) -> None:
        task_status.started("ready")
        await anyio.sleep_forever()

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        done: list[str] = []
        async with TaskScope(grace=0) as scope, anyio.create_task_group() as group:
            group.start_soon(nested, done)
            assert await group.start(service) == "ready"
            with anyio.fail_after(5):
                while not done:
                    await anyio.sleep(0)
            group.cancel_scope.cancel()
        assert done == ["nested"]
        assert scope.report.ok and scope.report.spawned == 3

    run_asyncio(main)


@needs_eager
@pytest.mark.parametrize("construct", [asyncio.Task, MyTask])
def test_an_eager_factory_stays_recognisable_to_anyio(run_asyncio: Run, construct: Callable[..., Any]) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(asyncio.create_eager_task_factory(construct))
        async with quiet() as scope:
            factory: Any = loop.get_task_factory()
            assert factory.__code__ is asyncio.eager_task_factory.__code__
            lazily = factory.__closure__[0].cell_contents(forever(), loop=loop, name="lazily")
            assert type(lazily) is construct
        assert names(scope) == {"lazily"}

    run_asyncio(main)


# --- keyword arguments


def test_made_up_keyword_arguments_reach_their_factory_untouched(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        theirs = Recording()
        loop.set_task_factory(theirs)
        made_up = object()
        async with quiet() as scope:
            ours: Any = loop.get_task_factory()
            ours(loop, forever(), name="made up", made_up=made_up, eager_start=False)
            ours(loop, forever())
            context = contextvars.copy_context()
            ours(loop, forever(), name=None, context=context)
        assert theirs.calls[0] == {"name": "made up", "made_up": made_up, "eager_start": False}
        assert theirs.calls[0]["made_up"] is made_up
        assert theirs.calls[1] == {}
        assert theirs.calls[2] == {"name": None, "context": context} and theirs.calls[2]["context"] is context
        assert scope.report.spawned == len(scope.report.leaks) == 3

    run(main)


@pytest.mark.skipif(sys.version_info < (3, 13, 3), reason="the loop passes arguments on since Python 3.13.3")
def test_made_up_keyword_arguments_pass_through_create_task(run_asyncio: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        theirs = Recording()
        loop.set_task_factory(theirs)
        async with quiet() as scope:
            loop.create_task(forever(), name="made up", made_up=1)  # type: ignore[call-arg]
        assert theirs.calls == [{"name": "made up", "made_up": 1}]
        assert names(scope) == {"made up"}

    run_asyncio(main)


def test_without_another_factory_a_made_up_argument_is_refused_as_asyncio_refuses_it(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(None)
        coros = [forever(), forever()]
        with pytest.raises(TypeError) as without:
            asyncio.Task(coros[0], loop=loop, made_up=1)  # type: ignore[call-arg]
        async with TaskScope(grace=0) as scope:
            ours: Any = loop.get_task_factory()
            with pytest.raises(TypeError) as within:
                ours(loop, coros[1], made_up=1)
        assert str(within.value) == str(without.value)
        assert scope.report.spawned == 0
        for coro in coros:
            coro.close()

    run(main)


@needs_eager
@pytest.mark.parametrize("eager_start", [True, False])
def test_eager_start_does_what_it_does_without_us(run: Run, eager_start: bool) -> None:
    async def spawner() -> None:
        asyncio.create_task(forever(), name="child")
        started.append("spawner")
        await forever()

    started: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(None)
        async with quiet() as scope:
            ours: Any = loop.get_task_factory()
            ours(loop, spawner(), name="spawner", eager_start=eager_start)
            ours(loop, nothing(), eager_start=eager_start)
            assert started == (["spawner"] if eager_start else [])
            await turns()
        assert names(scope) == {"spawner", "child"}
        assert scope.report.spawned == 3
        young = next(record for record in scope.report.leaks if record.name == "child")
        assert [frame.function.rpartition(".")[2] for frame in young.spawn_chain] == ["main"]

    run(main)


def test_a_context_argument_reaches_the_task(run_asyncio: Run, theirs: Factory) -> None:
    async def main() -> None:
        variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
        context = contextvars.Context()
        context.run(variable.set, "given")
        asyncio.get_running_loop().set_task_factory(theirs)

        async def read() -> str:
            return variable.get()

        async with TaskScope(grace=0) as scope:
            assert await asyncio.create_task(read(), context=context) == "given"
            assert await asyncio.create_task(read()) == "unset"
        assert scope.report.spawned == 2
        assert list(context) == [variable]

    run_asyncio(main)


def test_names_are_read_when_the_report_is_made(run: Run) -> None:
    async def main() -> None:
        async with quiet() as scope:
            loop = asyncio.get_running_loop()
            loop.create_task(forever(), name="given")
            asyncio.create_task(forever()).set_name("set")
            task = asyncio.create_task(forever(), name="first")
            await asyncio.sleep(0)
            task.set_name("second")
        assert names(scope) == {"given", "set", "second"}

    run(main)


# --- wrapped or replaced while a scope is open


def through_a_closure(theirs: Factory) -> Factory:
    return lambda loop, coro, **kwargs: theirs(loop, coro, **kwargs)


def through_functools_wraps(theirs: Factory) -> Factory:
    @functools.wraps(theirs)
    def factory(loop: asyncio.AbstractEventLoop, coro: Coro, **kwargs: Any) -> Any:
        return theirs(loop, coro, **kwargs)

    return factory


def through_a_partial(theirs: Factory) -> Factory:
    def factory(inner: Factory, loop: asyncio.AbstractEventLoop, coro: Coro, **kwargs: Any) -> Any:
        return inner(loop, coro, **kwargs)

    return functools.partial(factory, theirs)


def through_a_default(theirs: Factory) -> Factory:
    def factory(loop: asyncio.AbstractEventLoop, coro: Coro, *, inner: Factory = theirs, **kwargs: Any) -> Any:
        return inner(loop, coro, **kwargs)

    return factory


class Wrapper:
    def __init__(self, theirs: Factory) -> None:
        self.inner = theirs

    def __call__(self, loop: asyncio.AbstractEventLoop, coro: Coro, **kwargs: Any) -> Any:
        return self.make(loop, coro, **kwargs)

    def make(self, loop: asyncio.AbstractEventLoop, coro: Coro, **kwargs: Any) -> Any:
        return self.inner(loop, coro, **kwargs)


class SlottedWrapper:
    __slots__ = ("inner",)

    def __init__(self, theirs: Factory) -> None:
        self.inner = theirs

    def __call__(self, loop: asyncio.AbstractEventLoop, coro: Coro, **kwargs: Any) -> Any:
        return self.inner(loop, coro, **kwargs)


module_level: Factory


def global_factory(loop: asyncio.AbstractEventLoop, coro: Coro, **kwargs: Any) -> Any:
    return module_level(loop, coro, **kwargs)


def through_a_global(theirs: Factory) -> Factory:
    global module_level
    module_level = theirs
    return global_factory


WRAPPERS: dict[str, Callable[[Factory], Factory]] = {
    "closure": through_a_closure,
    "functools.wraps": through_functools_wraps,
    "partial": through_a_partial,
    "default": through_a_default,
    "instance": Wrapper,
    "slots": SlottedWrapper,
    "method": lambda theirs: Wrapper(theirs).make,
    "global": through_a_global,
    "mock": lambda theirs: Mock(wraps=theirs),
    "twice": lambda theirs: through_a_closure(Wrapper(theirs)),
}


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS.keys())
def test_who_wraps_ours_stays_and_nothing_is_lost(run: Run, wrap: Callable[[Factory], Factory]) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with quiet("outer") as outer:
            ours: Any = loop.get_task_factory()
            wrapped = wrap(ours)
            loop.set_task_factory(wrapped)
            async with quiet("inner") as inner:
                assert loop.get_task_factory() is wrapped
                asyncio.create_task(forever(), name="inside")
            asyncio.create_task(forever(), name="outside")
        assert loop.get_task_factory() is wrapped
        assert inner.report.tracking_lost is None and outer.report.tracking_lost is None
        assert names(inner) == {"inside"} and names(outer) == {"outside"}

        # with no scope open, ours passes everything through
        free = asyncio.create_task(forever(), name="free")
        await turns()
        async with quiet("later") as later:
            asyncio.create_task(forever(), name="later")
        assert names(later) == {"later"} and later.report.tracking_lost is None
        assert loop.get_task_factory() is wrapped
        assert not free.done()
        free.cancel()

    run(main)


@pytest.mark.parametrize("wrap", [through_a_closure, through_functools_wraps, through_a_partial, SlottedWrapper])
def test_a_wrapper_is_not_taken_for_the_spawner(run_asyncio: Run, wrap: Callable[[Factory], Factory]) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with quiet() as scope:
            ours: Any = loop.get_task_factory()
            loop.set_task_factory(wrap(ours))
            asyncio.create_task(forever())
            loop.create_task(forever())
        sites = [record.spawn_site for record in scope.report.leaks]
        assert [site and site.function.rpartition(".")[2] for site in sites] == ["main", "main"]

    run_asyncio(main)


def test_a_wrapper_that_is_taken_off_again_brings_ours_back_and_then_theirs(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        before = loop.get_task_factory()
        async with quiet() as scope:
            ours = loop.get_task_factory()
            assert ours is not None
            loop.set_task_factory(through_a_closure(ours))
            asyncio.create_task(forever(), name="one")
            loop.set_task_factory(ours)
            asyncio.create_task(forever(), name="two")
        assert names(scope) == {"one", "two"}
        assert scope.report.tracking_lost is None
        assert loop.get_task_factory() is before

    run(main)


def test_a_wrapper_taken_off_after_the_scope_leaves_ours_only_until_the_next_scope(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        before = loop.get_task_factory()
        async with TaskScope():
            ours = loop.get_task_factory()
            assert ours is not None
            loop.set_task_factory(through_a_closure(ours))
        loop.set_task_factory(ours)
        await asyncio.create_task(nothing())
        async with quiet() as scope:
            asyncio.create_task(forever(), name="leak")
        assert names(scope) == {"leak"}
        assert loop.get_task_factory() is before

    run(main)


class Replacement:
    """A factory that remembers the one before it, to give it back, and never calls it."""

    def __init__(self, before: Factory | None) -> None:
        self.before = before

    def make(self, loop: asyncio.AbstractEventLoop, coro: Coro, **kwargs: Any) -> asyncio.Task[Any]:
        return MyTask(coro, loop=loop, **kwargs)

    __call__ = make


REPLACEMENTS: dict[str, Callable[[Factory | None], Factory | None]] = {
    "none": lambda before: None,
    "function": lambda before: plain_function,
    "remembers": lambda before: Replacement(before),
    "bound method that remembers": lambda before: Replacement(before).make,
}


@pytest.fixture(params=REPLACEMENTS)
def replace(request: pytest.FixtureRequest) -> Callable[[Factory | None], Factory | None]:
    return REPLACEMENTS[request.param]


Replace = Callable[[Factory | None], Factory | None]


@pytest.mark.usefixtures("uncollected")
def test_a_replaced_factory_is_told_and_its_tasks_are_recovered(
    run: Run, replace: Replace, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        bystander = asyncio.create_task(forever(), name="bystander")
        async with quiet("mine") as scope:
            asyncio.create_task(forever(), name="seen")
            replacement = replace(loop.get_task_factory())
            loop.set_task_factory(replacement)
            all_there = asyncio.Event()
            asyncio.create_task(parent(all_there), name="parent")
            await all_there.wait()
        assert loop.get_task_factory() is replacement
        assert names(scope) == {"seen", "parent", "child", "grandchild"}
        assert {record.outcome for record in scope.report.leaks} == {"cancelled"}
        assert scope.report.tracking_lost is not None
        assert "replaced" in scope.report.tracking_lost and "3 tasks" in scope.report.tracking_lost
        assert not bystander.done()
        bystander.cancel()

    with caplog.at_level(logging.WARNING, "taskscope"):
        run(main)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "'mine'" in caplog.records[0].getMessage()


@pytest.mark.usefixtures("uncollected")
@needs_eager
def test_so_is_one_that_an_eager_factory_has_replaced(run_asyncio: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with quiet() as scope:
            loop.set_task_factory(asyncio.eager_task_factory)
            asyncio.create_task(parent(asyncio.Event()), name="parent")
            asyncio.create_task(nothing())
        assert loop.get_task_factory() is asyncio.eager_task_factory
        assert names(scope) == {"parent", "child", "grandchild"}
        assert "3 tasks" in (scope.report.tracking_lost or "")

    run_asyncio(main)


def test_a_replaced_factory_is_told_of_a_clean_scope_too(run: Run, replace: Replace) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        told: list[str | None] = []
        async with TaskScope(grace=0, on_report=lambda report: told.append(report.tracking_lost)) as scope:
            loop.set_task_factory(replace(loop.get_task_factory()))
            await asyncio.create_task(nothing())
        assert scope.report.ok
        assert told == [scope.report.tracking_lost] and told[0] is not None
        assert "no other task" in told[0]

        async with TaskScope(grace=0, on_report=lambda report: told.append("again")) as later:
            await asyncio.create_task(nothing())
        assert later.report.tracking_lost is None
        assert len(told) == 1

    run(main)


@pytest.mark.usefixtures("uncollected")
def test_a_scope_opened_after_the_loss_is_whole_and_the_outer_one_still_tells(run: Run, replace: Replace) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with quiet("outer") as outer:
            replacement = replace(loop.get_task_factory())
            loop.set_task_factory(replacement)
            asyncio.create_task(forever(), name="unseen")
            async with quiet("inner") as inner:
                asyncio.create_task(forever(), name="inside")
            asyncio.create_task(forever(), name="seen-again")
        assert names(inner) == {"inside"} and inner.report.tracking_lost is None
        assert names(outer) == {"unseen", "seen-again"} and outer.report.tracking_lost is not None
        assert "taken off again" in outer.report.tracking_lost
        assert loop.get_task_factory() is replacement

    run(main)


def test_a_user_who_puts_back_an_old_factory_of_ours_gets_his_own_back(run: Run) -> None:
    """Chained over A, replaced by B, chained over B; then B's owner restores what it had found."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        first, second = Recording(), Recording()
        loop.set_task_factory(first)
        async with quiet():
            over_first = loop.get_task_factory()
            loop.set_task_factory(second)
            async with quiet():
                over_second = loop.get_task_factory()
        assert over_first is not over_second
        assert loop.get_task_factory() is second
        loop.set_task_factory(over_first)
        async with quiet() as scope:
            asyncio.create_task(forever(), name="leak")
        assert names(scope) == {"leak"}
        assert loop.get_task_factory() is first

    run(main)


def test_a_wrapper_that_copies_our_attributes_is_not_mistaken_for_ours(run: Run) -> None:
    """`functools.wraps` copies everything: also what a factory of ours is known by."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with TaskScope():
            ours = loop.get_task_factory()
            assert ours is not None

            @functools.wraps(ours)
            def theirs(loop: asyncio.AbstractEventLoop, coro: Coro, **kwargs: Any) -> MyTask:
                return MyTask(coro, loop=loop, **kwargs)

        loop.set_task_factory(theirs)
        async with quiet() as scope:
            task = asyncio.create_task(forever(), name="leak")
            assert type(task) is MyTask
        assert names(scope) == {"leak"} and scope.report.tracking_lost is None
        assert loop.get_task_factory() is theirs

    run(main)


def test_the_factory_of_another_loop_is_chained_like_anybodys(run: Run) -> None:
    async def of_a_loop_with_root() -> Any:
        install(root="other", grace=0, on_leak="ignore")
        return asyncio.get_running_loop().get_task_factory()

    others: list[Any] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(others[0])
        asyncio.create_task(nothing())
        async with quiet() as scope:
            asyncio.create_task(forever(), name="leak")
            asyncio.create_task(forever(), name="aside", context=contextvars.Context())
        assert names(scope) == {"leak", "aside"} and scope.report.spawned == 2
        assert loop.get_task_factory() is others[0]
        await turns()

    others.append(run(of_a_loop_with_root))
    run(main)


# --- factories that misbehave


def test_a_factory_that_raises_raises_through_us_and_leaves_nothing_behind(run: Run) -> None:
    class Refused(Exception):
        pass

    def refuse(loop: asyncio.AbstractEventLoop, coro: Coro, **kwargs: Any) -> asyncio.Task[Any]:
        if refusing:
            coro.close()
            raise Refused
        return asyncio.Task(coro, loop=loop, **kwargs)

    refusing = [True]

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(refuse)
        async with quiet() as scope:
            for context in (None, contextvars.Context()):
                with pytest.raises(Refused):
                    asyncio.create_task(forever(), context=context)
            assert scope.snapshot().spawned == 0
            refusing.clear()
            asyncio.create_task(forever(), name="leak")
        assert names(scope) == {"leak"} and scope.report.spawned == 1

    run(main)


class NoTask:
    """What some test doubles return in the place of a task."""

    def set_name(self, name: str) -> None:
        pass


@contextmanager
def factory_set(factory: Factory) -> Iterator[None]:
    """Only for a while: a runner closes its loop with tasks too, and those are to be real ones."""
    loop = asyncio.get_running_loop()
    before = loop.get_task_factory()
    loop.set_task_factory(factory)
    try:
        yield
        assert loop.get_task_factory() is factory
    finally:
        loop.set_task_factory(before)


@pytest.mark.parametrize("result", [None, "text", NoTask])
def test_a_factory_that_makes_no_task_is_left_to_it(run: Run, result: Any) -> None:
    made = result() if isinstance(result, type) else result

    def factory(loop: asyncio.AbstractEventLoop, coro: Coro, **kwargs: Any) -> Any:
        coro.close()
        return made

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with factory_set(factory):
            async with TaskScope(grace=0) as scope:
                ours: Any = loop.get_task_factory()
                assert ours(loop, forever()) is made
                assert ours(loop, forever(), context=contextvars.Context()) is made
        assert scope.report.ok and scope.report.spawned == 0

    run(main)


class NamedFuture(asyncio.Future[Any]):
    def set_name(self, name: str) -> None:
        pass


def test_a_factory_that_makes_a_future_that_is_no_task(run: Run) -> None:
    def factory(loop: asyncio.AbstractEventLoop, coro: Coro, **kwargs: Any) -> Any:
        coro.close()
        return NamedFuture(loop=loop)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with factory_set(factory):
            async with quiet() as scope:
                blocked: Any = loop.create_task(forever())
                ended: Any = loop.create_task(forever())
                ended.set_result(None)
        assert len(scope.report.leaks) == 1 and scope.report.leaks[0].outcome == "cancelled"
        assert blocked.cancelled()
        assert scope.report.spawned == 2
        assert str(scope.report)

    run(main)


def test_a_future_of_theirs_that_ends_in_the_grace_is_late(run: Run) -> None:
    def factory(loop: asyncio.AbstractEventLoop, coro: Coro, **kwargs: Any) -> Any:
        coro.close()
        return NamedFuture(loop=loop)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with factory_set(factory):
            async with TaskScope(grace=5) as scope:
                future: Any = loop.create_task(forever())
                loop.call_soon(future.set_result, None)
        assert scope.report.ok and len(scope.report.late) == 1

    run(main)


def test_a_factory_that_returns_one_task_twice_has_it_reported_once(run: Run) -> None:
    shared: list[asyncio.Task[Any]] = []

    def factory(loop: asyncio.AbstractEventLoop, coro: Coro, **kwargs: Any) -> Any:
        if shared:
            coro.close()
        else:
            shared.append(asyncio.Task(coro, loop=loop, **kwargs))
        return shared[0]

    async def main() -> None:
        with factory_set(factory):
            async with quiet() as scope:
                assert asyncio.create_task(forever()) is asyncio.create_task(forever())
        assert len(scope.report.leaks) == 1

    run(main)


def test_a_factory_that_spawns_a_helper_of_its_own(run: Run) -> None:
    """For each task another one, made through the loop: the helper belongs to who spawned the task."""

    def factory(loop: asyncio.AbstractEventLoop, coro: Coro, **kwargs: Any) -> asyncio.Task[Any]:
        if not busy:
            busy.append(True)
            loop.create_task(forever(), name="helper")
            busy.clear()
        return asyncio.Task(coro, loop=loop, **kwargs)

    busy: list[bool] = []

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(factory)
        async with quiet("outer") as outer, quiet("inner") as inner:
            asyncio.create_task(forever(), name="task")
        assert names(inner) == {"helper", "task"}
        assert outer.report.ok

    run(main)


def test_scopes_in_tasks_in_pure_python_end_like_any_other(run: Run) -> None:
    async def body() -> TaskScope:
        async with quiet() as scope:
            all_there = asyncio.Event()
            asyncio.create_task(parent(all_there), name="parent")
            await all_there.wait()
        return scope

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(python_task)
        scope = await asyncio.create_task(body())
        assert names(scope) == {"parent", "child", "grandchild"}
        youngest = next(record for record in scope.report.leaks if record.name == "grandchild")
        assert [frame.function for frame in youngest.spawn_chain] == ["parent", body.__qualname__]

    run(main)


def test_who_waits_in_pure_python_for_the_end_of_the_root_scope_is_not_waited_for(run: Run) -> None:
    async def ends(installation: Installation) -> None:
        asyncio.create_task(forever(), name="left")
        await asyncio.sleep(0)
        await installation.aclose()

    async def waits(installation: Installation) -> None:
        await asyncio.create_task(ends(installation))

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(python_task)
        installation = install(root="root", grace=0, on_leak="ignore")
        await asyncio.create_task(waits(installation))
        assert installation.report is not None
        assert [record.name for record in installation.report.leaks] == ["left"]

    run(main)


@pytest.mark.usefixtures("uncollected")
def test_tasks_in_pure_python_are_tracked_through_lost_contexts_and_recovered(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(python_task)
        async with quiet() as scope:
            all_there = asyncio.Event()
            asyncio.create_task(parent(all_there), name="parent", context=contextvars.Context())
            await all_there.wait()
            loop.set_task_factory(python_task)
            contextvars.Context().run(lambda: loop.create_task(nothing()))
            asyncio.create_task(forever(), name="recovered")
        assert names(scope) == {"parent", "child", "grandchild", "recovered"}
        assert scope.report.tracking_lost is not None

    run(main)


# --- debug mode


def creation_frames(task: Any) -> list[tuple[str, str]]:
    """Functions and source lines of the creation traceback that asyncio keeps in debug mode, from the spawner on."""
    frames = [(frame.name, frame.line or "") for frame in task._source_traceback]
    start = next(number for number, (name, _) in enumerate(frames) if name == "spawn_here")
    return frames[start:]


def spawn_here(context: contextvars.Context | None) -> asyncio.Task[None]:
    return asyncio.create_task(nothing(), name="mine", context=context)


@pytest.mark.parametrize("context", [None, contextvars.Context()], ids=["plain", "context"])
def test_creation_tracebacks_in_debug_mode_are_as_without_us(run: Run, context: contextvars.Context | None) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_debug(True)
        without = spawn_here(context)
        async with TaskScope():
            within = spawn_here(context)
            assert loop.get_debug() is True
            await within
        await without
        loop.set_debug(False)
        assert creation_frames(within) == creation_frames(without)

    run(main)


def test_creation_tracebacks_with_a_users_factory_are_as_without_us(run_asyncio: Run, theirs: Factory) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_debug(True)
        loop.set_task_factory(theirs)
        without = spawn_here(None)
        async with TaskScope():
            within = spawn_here(None)
            await within
        await without
        loop.set_debug(False)
        assert creation_frames(within) == creation_frames(without)

    run_asyncio(main)


@pytest.mark.parametrize("debug", [True, False])
def test_debug_mode_and_the_exception_handler_are_left_alone(run: Run, debug: bool) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_debug(debug)
        handler: Callable[[asyncio.AbstractEventLoop, dict[str, Any]], None] = lambda loop, context: None  # noqa: E731
        loop.set_exception_handler(handler)
        filters, hooks = list(warnings.filters), sys.get_asyncgen_hooks()
        async with install(root="app", grace=0, on_leak="ignore"):
            async with quiet() as scope:
                asyncio.create_task(forever(), name="leak")
            assert loop.get_debug() is debug and loop.get_exception_handler() is handler
        assert names(scope) == {"leak"}
        assert loop.get_debug() is debug and loop.get_exception_handler() is handler
        assert list(warnings.filters) == filters and sys.get_asyncgen_hooks() == hooks
        loop.set_debug(False)

    run(main)


def test_an_exception_that_nobody_retrieved_is_told_as_without_us(run: Run) -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    async def main() -> None:
        loop = asyncio.get_running_loop()
        told: list[str] = []
        loop.set_exception_handler(lambda loop, context: told.append(context["message"]))
        async with TaskScope():
            asyncio.create_task(fail())
            await turns()
        gc.collect()
        assert told == ["Task exception was never retrieved"]

    run(main)


def test_a_users_traceback_shows_one_frame_of_ours_at_most_for_a_spawn(run: Run) -> None:
    """A wrong argument to `create_task` raises what asyncio raises."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(None)
        with pytest.raises(TypeError) as without:
            asyncio.create_task("no coroutine")  # type: ignore[arg-type]
        async with TaskScope():
            with pytest.raises(TypeError) as within:
                asyncio.create_task("no coroutine")  # type: ignore[arg-type]
        assert str(within.value) == str(without.value)
        ours = [frame for frame in traceback.extract_tb(within.tb) if "taskscope" in frame.filename]
        assert len([frame for frame in ours if frame.filename.endswith(os.path.join("_backends", "_factory.py"))]) <= 1

    run(main)


@pytest.mark.parametrize("replaced", [None, lambda loop, coro, **kwargs: asyncio.Task(coro, loop=loop, **kwargs)])
def test_a_loop_leaves_nothing_to_the_collector(replaced: Any) -> None:
    gc.collect()
    gc.disable()
    try:
        loop = asyncio.new_event_loop()
        loop.set_task_factory(replaced)
        installation = install(loop)
        ours = weakref.ref(loop.get_task_factory())
        assert ours() is not replaced
        loop.run_until_complete(asyncio.sleep(0))
        installation.uninstall()
        loop.close()
        del loop, installation
        install(other := asyncio.new_event_loop()).uninstall()  # the last loop's things are kept at hand
        other.close()
        assert ours() is None
    finally:
        gc.enable()
