"""Await chains, walked in tasks that are really stuck, and what must come of the tasks afterwards."""

from __future__ import annotations

import asyncio
import functools
import gc
import itertools
import linecache
import socket
import sys
import threading
import types
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

import taskscope._diagnosis
from taskscope._backends._ownership import running_task
from taskscope._diagnosis.stack import KEPT, Chain, await_chain, shown_frames, task_chain

PACKAGE = Path(taskscope._diagnosis.__file__).parent.parent

Run = Callable[[Coroutine[Any, Any, None]], None]


def pure_python_loop() -> asyncio.AbstractEventLoop:
    """A loop whose tasks and futures are those that asyncio has beside its C code."""
    loop: Any = asyncio.new_event_loop()
    loop.set_task_factory(lambda loop, coro, **kwargs: asyncio.tasks._PyTask(coro, loop=loop, **kwargs))
    loop.create_future = functools.partial(asyncio.futures._PyFuture, loop=loop)
    return loop


@pytest.fixture(params=["c", "python", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    loops = {"c": asyncio.new_event_loop, "python": pure_python_loop}
    if request.param == "uvloop":
        loops["uvloop"] = pytest.importorskip("uvloop").new_event_loop

    def run(main: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=loops[request.param]) as runner:
            runner.run(main)

    return run


class Gate:
    """Where a coroutine gets stuck: it tells that it got there, and waits to be let through."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.reached = loop.create_future()
        self.opened = loop.create_future()

    async def wait(self) -> str:
        self.reached.set_result(None)
        return await self.opened


async def stuck(coro: Coroutine[Any, Any, Any], gate: Gate) -> asyncio.Task[Any]:
    task = asyncio.create_task(coro)
    await gate.reached
    return task


def functions(chain: Chain) -> list[str]:
    return [link.frame.function.removeprefix("shapes.<locals>.") for link in chain.links]


def lines(chain: Chain) -> list[str]:
    return [linecache.getline(link.frame.file, link.frame.line).strip() for link in chain.links]


def assert_whole(chain: Chain, end: object) -> None:
    assert chain.note is None
    assert chain.omitted == 0
    assert chain.end is end


# ------------------------------------------------------------------------------------------------ shapes of chains


class ByGenerator:
    def __init__(self, gate: Gate) -> None:
        self.gate = gate

    def __await__(self) -> Generator[Any, None, str]:
        return (yield from self.gate.wait().__await__())


class ByWrapper(ByGenerator):
    def __await__(self) -> Generator[Any, None, str]:
        return self.gate.wait().__await__()


class Steps:
    """An iterator of its own, as a proxy for a coroutine has."""

    def __init__(self, coro: Coroutine[Any, Any, str]) -> None:
        self.inner = coro
        self.steps = coro.__await__()

    def __await__(self) -> Iterator[Any]:
        return self

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return next(self.steps)


class SlottedSteps(Steps):
    __slots__ = ("inner", "steps")


class StepsInPlumbing:
    """`__await__` returns an iterator of the standard library, with the coroutine somewhere inside it."""

    def __init__(self, build: Callable[[Coroutine[Any, Any, str]], Iterator[Any]], gate: Gate) -> None:
        self.build = build
        self.gate = gate

    def __await__(self) -> Iterator[Any]:
        return self.build(self.gate.wait())


async def awaits(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def logged(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def wrapper(*args: Any) -> Any:
        return await function(*args)

    return wrapper


async def generates(gate: Gate) -> AsyncGenerator[str, None]:
    yield await gate.wait()


async def generates_again(gate: Gate) -> AsyncGenerator[str, None]:
    async for value in generates(gate):
        yield value


async def clears_up(gate: Gate) -> AsyncGenerator[str, None]:
    try:
        yield "first"
    except KeyError:
        yield await gate.wait()
    finally:
        if not gate.reached.done():
            await gate.wait()


async def loops_over(generator: AsyncIterator[str]) -> str:
    async for value in generator:
        return value
    return "nothing"


async def collects(generator: AsyncIterator[str]) -> str:
    return "".join([value async for value in generator])


async def sends(gate: Gate) -> str:
    generator = generates(gate)
    return await generator.asend(None)  # type: ignore[arg-type]


async def throws(gate: Gate) -> str:
    generator = clears_up(gate)
    await anext(generator)
    return await generator.athrow(KeyError("look into the except clause"))


async def closes(gate: Gate) -> str:
    generator = clears_up(gate)
    await anext(generator)
    await generator.aclose()
    return "through"


async def takes_next(gate: Gate) -> str:
    return await anext(generates(gate))


async def takes_next_or(gate: Gate) -> str:
    return await anext(generates(gate), "default")


@types.coroutine
def by_yield_from(gate: Gate) -> Generator[Any, None, str]:
    return (yield from gate.wait().__await__())


@types.coroutine
def by_bare_yield(gate: Gate) -> Generator[Any, None, str]:
    gate.reached.set_result(None)
    gate.opened._asyncio_future_blocking = True
    yield gate.opened
    return gate.opened.result()


@asynccontextmanager
async def room(gate: Gate | None = None) -> AsyncIterator[str]:
    yield "entered" if gate is None else await gate.wait()


async def enters(gate: Gate) -> str:
    async with room(gate) as word:
        return word


async def stays(gate: Gate) -> str:
    async with room():
        return await gate.wait()


ENTER = "_AsyncGeneratorContextManager.__aenter__"
COLLECT = ["collects", "collects.<locals>.<listcomp>"] if sys.version_info < (3, 12) else ["collects"]

SHAPES: dict[str, tuple[Callable[[Gate], Coroutine[Any, Any, str]], list[str]]] = {
    "coroutine": (lambda gate: gate.wait(), ["Gate.wait"]),
    "coroutines": (lambda gate: awaits(awaits(gate.wait())), ["awaits", "awaits", "Gate.wait"]),
    "types.coroutine": (lambda gate: awaits(by_yield_from(gate)), ["awaits", "by_yield_from", "Gate.wait"]),
    "bare yield": (lambda gate: awaits(by_bare_yield(gate)), ["awaits", "by_bare_yield"]),
    "async for": (lambda gate: loops_over(generates(gate)), ["loops_over", "generates", "Gate.wait"]),
    "async for, twice": (
        lambda gate: loops_over(generates_again(gate)),
        ["loops_over", "generates_again", "generates", "Gate.wait"],
    ),
    "comprehension": (lambda gate: collects(generates(gate)), [*COLLECT, "generates", "Gate.wait"]),
    "asend": (sends, ["sends", "generates", "Gate.wait"]),
    "athrow": (throws, ["throws", "clears_up", "Gate.wait"]),
    "aclose": (closes, ["closes", "clears_up", "Gate.wait"]),
    "anext": (takes_next, ["takes_next", "generates", "Gate.wait"]),
    "anext with default": (takes_next_or, ["takes_next_or", "generates", "Gate.wait"]),
    "__await__ generator": (
        lambda gate: awaits(ByGenerator(gate)),
        ["awaits", "ByGenerator.__await__", "Gate.wait"],
    ),
    "__await__ wrapper": (lambda gate: awaits(ByWrapper(gate)), ["awaits", "Gate.wait"]),
    "__await__ iterator": (lambda gate: awaits(Steps(gate.wait())), ["awaits", "Gate.wait"]),
    "__await__ iterator with slots": (lambda gate: awaits(SlottedSteps(gate.wait())), ["awaits", "Gate.wait"]),
    "__await__ chain": (
        lambda gate: awaits(StepsInPlumbing(lambda coro: itertools.chain((), coro.__await__()), gate)),
        ["awaits", "Gate.wait"],
    ),
    "__await__ map": (
        lambda gate: awaits(StepsInPlumbing(lambda coro: map(coro.send, itertools.repeat(None)), gate)),
        ["awaits", "Gate.wait"],
    ),
    "__await__ partial": (
        lambda gate: awaits(StepsInPlumbing(lambda coro: iter(functools.partial(coro.send, None), object()), gate)),
        ["awaits", "Gate.wait"],
    ),
    "functools.wraps": (lambda gate: logged(awaits)(gate.wait()), ["logged.<locals>.wrapper", "awaits", "Gate.wait"]),
    "functools.partial": (lambda gate: functools.partial(awaits, gate.wait())(), ["awaits", "Gate.wait"]),
    "entering a context manager": (enters, ["enters", ENTER, "room", "Gate.wait"]),
    "inside a context manager": (stays, ["stays", "Gate.wait"]),
}


LOSES_RESULT = ("__await__ chain", "__await__ partial")


@pytest.mark.parametrize("shape", SHAPES)
def test_the_whole_chain_is_found_and_the_task_goes_on_as_if_nobody_had_looked(run: Run, shape: str) -> None:
    make, expected = SHAPES[shape]

    async def main() -> None:
        gate = Gate()
        task = await stuck(make(gate), gate)
        chain = task_chain(task)

        assert functions(chain) == expected
        assert_whole(chain, gate.opened)

        gate.opened.set_result("through")
        assert await task == (None if shape in LOSES_RESULT else "through")

    run(main())


def test_each_link_has_the_line_at_which_it_awaits_and_the_object_it_belongs_to(run: Run) -> None:
    async def main() -> None:
        gate = Gate()
        task = await stuck(loops_over(generates(gate)), gate)
        chain = task_chain(task)

        assert lines(chain) == [
            "async for value in generator:",
            "yield await gate.wait()",
            "return await self.opened",
        ]
        assert [link.frame.file for link in chain.links] == [__file__] * 3
        assert [link.code for link in chain.links] == [
            loops_over.__code__,
            generates.__code__,
            Gate.wait.__code__,
        ]
        assert chain.links[0].holder is task.get_coro()
        assert type(chain.links[1].holder) is types.AsyncGeneratorType

        again = task_chain(task)
        assert [link.holder for link in again.links] == [link.holder for link in chain.links]
        gate.opened.set_result("through")
        await task

    run(main())


def test_a_chain_ends_in_the_task_or_group_of_tasks_that_is_awaited(run: Run) -> None:
    async def main() -> None:
        gate = Gate()
        inner = await stuck(gate.wait(), gate)
        gathered = asyncio.gather(inner)
        joining = asyncio.create_task(awaits(inner))
        gathering = asyncio.create_task(awaits(gathered))
        await turn()

        assert_whole(task_chain(joining), inner)
        assert_whole(task_chain(gathering), gathered)
        gate.opened.set_result("through")
        assert await joining == "through"
        assert await gathering == ["through"]

    run(main())


async def turn() -> None:
    """A turn of the loop, in which every task takes the step that it is ready for."""
    turned = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(turned.set_result, None)
    await turned


# ------------------------------------------------------------------------------------- not started, ended, running


def test_a_task_that_has_not_started_shows_where_it_will(run: Run) -> None:
    async def main() -> None:
        gate = Gate()
        task = asyncio.create_task(gate.wait())
        chain = task_chain(task)

        assert functions(chain) == ["Gate.wait"]
        assert lines(chain) == ["async def wait(self) -> str:"]
        assert_whole(chain, None)
        gate.opened.set_result("through")
        assert await task == "through"

    run(main())


async def gives_way(gate: Gate) -> str:
    gate.reached.set_result(None)
    return await asyncio.sleep(0, "result")


def test_a_task_that_has_given_way_awaits_nothing(run: Run) -> None:
    async def main() -> None:
        gate = Gate()
        task = await stuck(gives_way(gate), gate)
        chain = task_chain(task)

        assert functions(chain) == ["gives_way", "sleep", "__sleep0"]
        assert_whole(chain, None)
        assert await task == "result"

    run(main())


@pytest.mark.parametrize("make", [awaits, loops_over], ids=["coroutine", "closed"])
def test_what_has_ended_has_no_frames_and_the_chain_says_so(make: Callable[[Any], Coroutine[Any, Any, Any]]) -> None:
    coro = make(asyncio.sleep(0) if make is awaits else None)
    if make is awaits:
        coro.send(None)
        with pytest.raises(StopIteration):
            coro.send(None)
    coro.close()
    chain = await_chain(coro)

    assert chain.links == ()
    assert chain.note == "the coroutine has ended"


def test_a_task_that_has_ended_has_an_empty_chain(run: Run) -> None:
    async def main() -> None:
        task = asyncio.create_task(asyncio.sleep(0))
        await task
        chain = task_chain(task)

        assert chain.links == ()
        assert chain.note == "the task has ended"

    run(main())


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
def test_a_task_that_started_eagerly_and_ended_at_once_has_an_empty_chain() -> None:
    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        task = asyncio.create_task(asyncio.sleep(0))
        ended = asyncio.create_task(nothing())

        assert functions(task_chain(task)) == ["sleep", "__sleep0"]
        assert task_chain(ended).links == ()
        assert task_chain(ended).note == "the task has ended"
        await task

    asyncio.run(main())


async def nothing() -> None:
    pass


def looks_at(task: asyncio.Task[Any]) -> Chain:
    return task_chain(task)


async def looks_at_itself() -> Chain:
    task = running_task(asyncio.get_running_loop())
    assert task is not None
    return looks_at(task)


async def yields_a_look() -> AsyncGenerator[Chain, None]:
    yield await looks_at_itself()


def test_the_running_task_is_shown_down_to_where_it_looks_at_itself(run: Run) -> None:
    async def main() -> None:
        chain = await asyncio.create_task(awaits(looks_at_itself()))
        assert functions(chain) == ["awaits", "looks_at_itself", "looks_at"]
        assert lines(chain) == ["return await awaitable", "return looks_at(task)", "return task_chain(task)"]
        assert_whole(chain, None)

        chain = await asyncio.create_task(loops_over(yields_a_look()))  # type: ignore[arg-type]
        assert functions(chain) == ["loops_over", "yields_a_look", "looks_at_itself", "looks_at"]

    run(main())


def test_the_chain_of_a_running_generator_goes_on_from_it(run: Run) -> None:
    async def looks_at_its_generator() -> AsyncGenerator[Chain, None]:
        yield await_chain(generator)

    async def main() -> None:
        nonlocal generator
        generator = looks_at_its_generator()
        chain = await anext(generator)
        assert [link.code for link in chain.links] == [generator.ag_code]
        assert_whole(chain, None)
        await generator.aclose()

    generator: Any = None
    run(main())


def test_a_task_that_runs_in_another_thread_is_shown_as_far_as_can_be_seen() -> None:
    inside = threading.Event()
    leave = threading.Event()
    tasks: list[asyncio.Task[Any]] = []

    async def blocks_its_thread() -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.append(task)
        inside.set()
        leave.wait()

    async def main() -> None:
        await awaits(blocks_its_thread())

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    inside.wait()
    chain = task_chain(tasks[0])
    leave.set()
    thread.join()

    assert [link.code for link in chain.links] == [main.__code__]
    assert chain.note == "it is running, in another thread or greenlet: what it calls is not shown"


# --------------------------------------------------------------------------------------------- what cannot be seen


class Trap(type):
    """A class all of whose own attributes are traps."""

    def __getattribute__(cls, name: str) -> Any:
        sprung.append(f"type.{name}")
        return super().__getattribute__(name)

    def __hash__(cls) -> int:
        sprung.append("type.__hash__")
        return 1

    def __eq__(cls, other: object) -> bool:
        sprung.append("type.__eq__")
        return False

    def __subclasscheck__(cls, subclass: type) -> bool:
        sprung.append("type.__subclasscheck__")
        return True


sprung: list[str] = []


class Hostile(metaclass=Trap):
    """An iterator that awaits a future, and notices whoever looks at it in any other way than awaiting it."""

    def __init__(self, gate: Gate) -> None:
        self.steps = iter((gate.opened,))
        self.gate = gate

    def __getattribute__(self, name: str) -> Any:
        sprung.append(name)
        return super().__getattribute__(name)

    @property
    def __class__(self) -> Any:
        sprung.append("__class__")
        return types.CoroutineType

    @__class__.setter
    def __class__(self, value: type) -> None:
        raise AssertionError(value)

    @property
    def cr_await(self) -> Any:
        raise AssertionError("cr_await")

    @property
    def cr_frame(self) -> Any:
        raise AssertionError("cr_frame")

    def __repr__(self) -> str:
        raise AssertionError("__repr__")

    def __hash__(self) -> int:
        raise AssertionError("__hash__")

    def __eq__(self, other: object) -> bool:
        raise AssertionError("__eq__")

    def __bool__(self) -> bool:
        raise AssertionError("__bool__")

    def __len__(self) -> int:
        raise AssertionError("__len__")

    def __await__(self) -> Iterator[Any]:
        return self

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        for future in self.steps:
            future._asyncio_future_blocking = True
            self.gate.reached.set_result(None)
            return future
        raise StopIteration("through")


def test_an_awaitable_that_defends_itself_is_left_alone_and_the_chain_says_where_it_ends(run: Run) -> None:
    async def main() -> None:
        gate = Gate()
        hostile = Hostile(gate)
        task = await stuck(awaits(hostile), gate)
        sprung.clear()
        chain = task_chain(task)
        assert sprung == []

        assert functions(chain) == ["awaits"]
        assert chain.end is hostile
        assert chain.note == "what Hostile awaits in turn cannot be seen"
        assert repr(chain)
        gate.opened.set_result(None)
        assert await task == "through"

    run(main())


def test_a_task_of_a_hostile_class_has_an_empty_chain() -> None:
    sprung.clear()
    hostile: Any = Hostile.__new__(Hostile)
    sprung.clear()
    chain = task_chain(hostile)

    assert sprung == []
    assert chain.links == ()
    assert chain.note == "Hostile does not show its coroutine"


def test_of_two_coroutines_in_one_awaitable_neither_is_taken_for_what_it_awaits(run: Run) -> None:
    async def main() -> None:
        gate, other = Gate(), Gate()
        steps = Steps(gate.wait())
        steps.other = other.wait()  # type: ignore[attr-defined]
        steps.other.send(None)  # type: ignore[attr-defined]
        task = await stuck(awaits(steps), gate)
        chain = task_chain(task)

        assert functions(chain) == ["awaits"]
        assert chain.end is steps
        assert chain.note == "what Steps awaits in turn cannot be seen"

        del steps.other  # type: ignore[attr-defined]
        assert functions(task_chain(task)) == ["awaits", "Gate.wait"]
        gate.opened.set_result("through")
        assert await task == "through"

    run(main())


class Misleading(Hostile):
    """Awaits a future, and holds nothing that awaits but a coroutine with which it has nothing to do."""

    def __init__(self, gate: Gate, coro: object) -> None:
        super().__init__(gate)
        self.coro = coro


def test_a_coroutine_that_an_awaitable_only_holds_is_not_shown_as_awaited(run: Run) -> None:
    async def main() -> None:
        gate, other = Gate(), Gate()
        elsewhere = await stuck(other.wait(), other)
        misleading = Misleading(gate, elsewhere.get_coro())
        task = await stuck(awaits(misleading), gate)
        chain = task_chain(task)

        assert functions(chain) == ["awaits"]
        assert chain.end is misleading
        assert chain.note == "what Misleading awaits in turn cannot be seen"
        for opened in (gate.opened, other.opened):
            opened.set_result("through")
        assert await task == await elsewhere == "through"

    run(main())


def test_without_a_task_to_confirm_it_a_guess_is_called_a_guess(run: Run) -> None:
    async def main() -> None:
        gate = Gate()
        task = await stuck(awaits(Steps(gate.wait())), gate)
        chain = await_chain(task.get_coro())

        assert functions(chain) == ["awaits", "Gate.wait"]
        assert chain.end is gate.opened
        assert chain.note == "what Steps awaits is a guess: the one thing it holds that can be awaited"
        assert task_chain(task).note is None
        gate.opened.set_result("through")
        await task

    run(main())


class Compiled:
    """Has the fields of a coroutine of compiled code, as C code defines them: slots."""

    __slots__ = ("__weakref__", "cr_await", "cr_code")


def test_a_coroutine_without_frame_or_code_is_passed_and_named(run: Run) -> None:
    async def main() -> None:
        gate = Gate()
        inner = await stuck(gate.wait(), gate)
        compiled = Compiled()
        compiled.cr_await = inner.get_coro()
        compiled.cr_code = None
        chain = await_chain(compiled)

        assert functions(chain) == ["Gate.wait"]
        assert chain.end is gate.opened
        assert chain.note == "a frame is missing: Compiled is compiled code"

        compiled.cr_code = awaits.__code__
        chain = await_chain(compiled)
        assert functions(chain) == ["awaits", "Gate.wait"]
        assert chain.links[0].frame.line == 0
        assert chain.note == "awaits is compiled code: its line is not known"
        gate.opened.set_result("through")
        await inner

    run(main())


def test_a_coroutine_of_uvloop_is_shown_without_a_line() -> None:
    uvloop = pytest.importorskip("uvloop")

    async def receives(sock: socket.socket) -> bytes:
        return await asyncio.get_running_loop().sock_recv(sock, 1)

    async def main() -> None:
        near, far = socket.socketpair()
        with near, far:
            near.setblocking(False)
            task = asyncio.create_task(receives(near))
            await turn()
            chain = task_chain(task)

            assert chain.links[0].code is receives.__code__
            assert functions(chain)[1:] == ["Loop.sock_recv"]
            assert chain.links[1].frame.line == 0
            assert chain.note == "Loop.sock_recv is compiled code: its line is not known"
            assert asyncio.isfuture(chain.end)
            far.send(b"x")
            assert await task == b"x"

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def test_an_awaitable_that_awaits_itself_ends_the_chain() -> None:
    snake = Compiled()
    snake.cr_await = snake
    snake.cr_code = awaits.__code__
    chain = await_chain(snake)

    assert functions(chain) == ["awaits"]
    assert chain.note is not None
    assert "the chain ends in a circle: Compiled awaits itself" in chain.note


@pytest.mark.parametrize("thing", [object(), 1, "text", asyncio, Gate, lambda: None, None, [], NotImplemented])
def test_what_is_no_awaitable_has_no_frames(thing: object) -> None:
    assert await_chain(thing).links == ()
    assert task_chain(thing).links == ()  # type: ignore[arg-type]
    assert task_chain(thing).note == f"{type(thing).__qualname__} does not show its coroutine"  # type: ignore[arg-type]


class TaskOfAnotherMake:
    def __init__(self, coro: object) -> None:
        self.coro = coro

    def get_coro(self) -> object:
        if self.coro is None:
            raise LookupError
        return self.coro


def test_a_task_of_another_make_is_asked_for_its_coroutine(run: Run) -> None:
    async def main() -> None:
        gate = Gate()
        task = await stuck(awaits(gate.wait()), gate)
        other: Any = TaskOfAnotherMake(task.get_coro())
        assert functions(task_chain(other)) == ["awaits", "Gate.wait"]
        assert_whole(task_chain(other), gate.opened)

        other.coro = None
        assert task_chain(other).links == ()
        assert task_chain(other).note == "TaskOfAnotherMake could not be read (LookupError)"
        gate.opened.set_result("through")
        await task

    run(main())


# ---------------------------------------------------------------------------------------------------- long chains


def nested(depth: int, gate: Gate) -> Coroutine[Any, Any, Any]:
    coro: Coroutine[Any, Any, Any] = gate.wait()
    for _ in range(depth - 1):
        coro = awaits(coro)
    return coro


def test_a_chain_of_twice_the_kept_frames_is_whole_and_of_one_more_is_not(run: Run) -> None:
    async def main() -> None:
        gate = Gate()
        task = await stuck(nested(2 * KEPT + 1, gate), gate)
        whole = await_chain(task.get_coro().cr_await)  # type: ignore[union-attr]
        assert len(whole.links) == 2 * KEPT
        assert_whole(whole, gate.opened)

        chain = task_chain(task)
        assert len(chain.links) == 2 * KEPT
        assert chain.omitted == 1
        assert chain.note == "1 frame is left out between the first 50 and the last 50"
        gate.opened.set_result("through")
        assert await task == "through"

    run(main())


def test_five_thousand_awaits_leave_both_ends_and_a_count() -> None:
    async def main() -> None:
        gate = Gate()
        task = await stuck(nested(5_000, gate), gate)
        chain = task_chain(task)

        assert chain.links[0].holder is task.get_coro()
        assert functions(chain) == ["awaits"] * (2 * KEPT - 1) + ["Gate.wait"]
        assert chain.end is gate.opened
        assert chain.omitted == 5_000 - 2 * KEPT
        assert chain.note == "4,900 frames are left out between the first 50 and the last 50"
        gate.opened.set_result("through")
        results.append(await task)

    def run() -> None:
        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(20_000)
        try:
            asyncio.run(main())
        finally:
            sys.setrecursionlimit(limit)

    results: list[str] = []
    before = threading.stack_size(256 * 1024 * 1024)
    try:
        thread = threading.Thread(target=run)
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join()
    assert results == ["through"]


# ----------------------------------------------------------------------------------------- looking changes nothing


class Local:
    pass


async def holds(local: Local, generator: AsyncIterator[str]) -> str:
    async for value in generator:
        return value
    return repr(local)


def test_looking_leaves_every_reference_count_as_it_was(run: Run) -> None:
    async def main() -> None:
        gate = Gate()
        local = Local()
        generator = generates(gate)
        steps = Steps(holds(local, generator))
        task = await stuck(awaits(steps), gate)
        things = (task, task.get_coro(), steps, steps.inner, local, generator, gate, gate.opened)

        before = [sys.getrefcount(thing) for thing in things]
        frames = shown_frames(task_chain(task))
        assert [sys.getrefcount(thing) for thing in things] == before
        assert len(frames) == 4

        gate.opened.set_result("through")
        assert await task == "through"
        await generator.aclose()

    run(main())


def test_looking_keeps_nothing_alive(run: Run) -> None:
    async def main() -> None:
        gate = Gate()
        local = Local()
        local_alive = weakref.ref(local)
        task = await stuck(holds(local, generates(gate)), gate)
        task_chain(task)
        task_alive = weakref.ref(task)
        gate.opened.set_result("through")
        await task
        await turn()
        gc.disable()
        try:
            del task, local
            assert local_alive() is None
            assert task_alive() is None
        finally:
            gc.enable()

    run(main())


# ----------------------------------------------------------------------------------------------------- what is shown


def test_the_frame_that_anyio_puts_round_a_task_is_folded_away() -> None:
    async def child(gate: Gate) -> None:
        await gate.wait()

    async def starts(gate: Gate, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        task_status.started()
        await gate.wait()

    async def main() -> None:
        gates = Gate(), Gate()
        before = asyncio.all_tasks()
        async with anyio.create_task_group() as group:
            group.start_soon(child, gates[0])
            await group.start(starts, gates[1])
            await gates[0].reached
            await gates[1].reached
            tasks = asyncio.all_tasks() - before
            shown = sorted([frame.function.rpartition(".")[2] for frame in shown_frames(task_chain(t))] for t in tasks)
            assert shown == [["child", "wait"], ["starts", "wait"]]
            for gate in gates:
                gate.opened.set_result("through")

    asyncio.run(main())


def coroutine_in(file: Path) -> Coroutine[Any, Any, Any]:
    """A coroutine whose code claims to come from a file."""
    namespace: dict[str, Any] = {}
    exec(compile("async def inside(coro):\n    return await coro", str(file), "exec"), namespace)
    return namespace["inside"](gate_free())


async def gate_free() -> None:
    await asyncio.get_running_loop().create_future()


def shown_of(coro: Coroutine[Any, Any, Any]) -> list[str]:
    async def main() -> list[str]:
        task = asyncio.create_task(coro)
        await turn()
        shown = [frame.function for frame in shown_frames(task_chain(task))]
        task.cancel()
        await asyncio.wait([task])
        return shown

    return asyncio.run(main())


def test_frames_of_the_package_are_folded_away_but_not_those_of_the_demo_or_of_a_user() -> None:
    assert shown_of(coroutine_in(PACKAGE / "_decorator.py")) == ["gate_free"]
    assert shown_of(coroutine_in(PACKAGE / "_demo" / "fan_out.py")) == ["inside", "gate_free"]
    assert shown_of(coroutine_in(PACKAGE.parent / "app.py")) == ["inside", "gate_free"]
    assert shown_of(coroutine_in(PACKAGE.parent / "taskscope_user" / "app.py")) == ["inside", "gate_free"]


def test_a_function_of_a_user_named_like_anyios_is_shown() -> None:
    class TaskHandle:
        async def _run_coro(self) -> None:
            await gate_free()

    TaskHandle._run_coro.__code__ = TaskHandle._run_coro.__code__.replace(co_qualname="TaskHandle._run_coro")
    assert shown_of(TaskHandle()._run_coro()) == ["TaskHandle._run_coro", "gate_free"]


def test_where_there_is_nothing_but_internals_they_are_shown() -> None:
    coro = coroutine_in(PACKAGE / "_scope.py")
    try:
        assert [frame.function for frame in shown_frames(await_chain(coro))] == ["inside"]
    finally:
        coro.cr_frame.f_locals["coro"].close()  # type: ignore[attr-defined]
        coro.close()
