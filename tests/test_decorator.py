"""`scoped`: a fresh scope round every call, and a function that is otherwise what it was."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import inspect
import pickle
import sys
import types
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Generator
from typing import Any

import anyio
import pytest
from conftest import Run
from hypothesis import example, given
from hypothesis import strategies as st

from taskscope import Report, ScopeTimeoutError, TaskLeakError, TaskScope, current_scope, scoped


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


async def until(condition: Callable[[], object]) -> None:
    """Lets the loop turn until something is so. A bound, because a test that hangs tells nothing."""
    for _ in range(10_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never happened")


class Reports:
    """Collects reports, as an `on_leak` or `on_report` that does not raise."""

    def __init__(self) -> None:
        self.all: list[Report] = []

    def __call__(self, report: Report) -> None:
        self.all.append(report)

    @property
    def leaks(self) -> list[str]:
        return [record.name for report in self.all for record in report.leaks]


def mark(function: Any) -> Any:
    function.mark = "kept"
    return function


# Functions and their signatures


async def no_parameters() -> tuple[()]:
    return ()


async def positional_only(a: int, b: int = 2, /) -> tuple[int, int]:
    return a, b


async def keyword_only(*, a: int, func: int = 2, name: str = "n", policy: object = None) -> tuple[Any, ...]:
    return a, func, name, policy


async def variable(*args: int, **kwargs: int) -> tuple[Any, ...]:
    return args, kwargs


async def everything(a: int, /, b: int, *rest: int, c: int, d: int = 4, **others: int) -> tuple[Any, ...]:
    """What it does."""
    return a, b, rest, c, d, others


async def named_like_ours(self: int, args: int, kwargs: int, scope: int) -> tuple[int, ...]:
    return self, args, kwargs, scope


CALLS: list[tuple[Callable[..., Coroutine[Any, Any, Any]], tuple[Any, ...], dict[str, Any]]] = [
    (no_parameters, (), {}),
    (positional_only, (1,), {}),
    (positional_only, (1, 3), {}),
    (keyword_only, (), {"a": 1}),
    (keyword_only, (), {"a": 1, "func": 3, "name": "x", "policy": 4}),
    (variable, (), {}),
    (variable, (1, 2), {"func": 1, "self": 2, "args": 3, "kwargs": 4, "name": 5, "grace": 6}),
    (everything, (1, 2, 3, 4), {"c": 5, "e": 6}),
    (named_like_ours, (1, 2, 3), {"scope": 4}),
    (named_like_ours, (), {"self": 1, "args": 2, "kwargs": 3, "scope": 4}),
]


@pytest.mark.parametrize(("function", "args", "kwargs"), CALLS)
@pytest.mark.parametrize("options", [None, {}, {"grace": 0.5, "name": "x"}])
def test_arguments_and_results_pass_through(
    run_asyncio: Run,
    function: Callable[..., Coroutine[Any, Any, Any]],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    options: dict[str, Any] | None,
) -> None:
    decorated: Any = scoped(function) if options is None else scoped(**options)(function)

    async def main() -> None:
        assert await decorated(*args, **kwargs) == await function(*args, **kwargs)

    run_asyncio(main)


@pytest.mark.parametrize("function", dict.fromkeys(call[0] for call in CALLS))
def test_a_function_looks_as_it_did(function: Callable[..., Any]) -> None:
    decorated = scoped(mark(function))
    assert inspect.iscoroutinefunction(decorated)
    assert inspect.signature(decorated) == inspect.signature(function)
    for attribute in ("__name__", "__qualname__", "__module__", "__doc__", "__annotations__", "mark"):
        assert getattr(decorated, attribute) == getattr(function, attribute)
    assert inspect.unwrap(decorated) is function


def test_a_decorated_function_can_be_pickled_by_name() -> None:
    assert pickle.loads(pickle.dumps(decorated_at_module_level)) is decorated_at_module_level


@scoped
async def decorated_at_module_level() -> None: ...


@pytest.mark.parametrize("order", ["mark outside", "mark inside"])
def test_pytest_markers_are_kept(order: str) -> None:
    async def test() -> None: ...

    marker = pytest.mark.parametrize("x", [1])
    decorated: Any = marker(scoped(test)) if order == "mark outside" else scoped(marker(test))
    assert [mark.name for mark in decorated.pytestmark] == ["parametrize"]


def test_wrong_arguments_raise_what_they_raised(run_asyncio: Run) -> None:
    decorated: Any = scoped(positional_only)

    async def main() -> None:
        with pytest.raises(TypeError, match="positional"):
            await decorated(a=1)

    run_asyncio(main)


def test_each_call_has_a_scope_of_its_own_and_is_named_after_the_function(run: Run) -> None:
    scopes: list[TaskScope | None] = []

    @scoped
    async def function() -> None:
        scopes.append(current_scope())

    @scoped(name="mine")
    async def named() -> None:
        scopes.append(current_scope())

    async def main() -> None:
        for call in (function, function, named):
            await call()
        assert current_scope() is None

    run(main)
    assert len({id(scope) for scope in scopes}) == 3
    first, second, third = scopes
    assert first is not None and second is not None and third is not None
    assert first.name == second.name == function.__qualname__
    assert third.name == "mine"


def test_a_leak_is_found_and_a_clean_call_is_silent(run: Run) -> None:
    @scoped(grace=0)
    async def function(leaks: bool) -> str:
        task = asyncio.create_task(forever(), name="left")
        await asyncio.sleep(0)
        if not leaks:
            task.cancel()
            await asyncio.wait([task])
        return "done"

    async def main() -> None:
        assert await function(False) == "done"
        with pytest.raises(TaskLeakError) as caught:
            await function(True)
        report = caught.value.report
        assert [record.name for record in report.leaks] == ["left"]
        site = report.leaks[0].spawn_site
        assert site is not None and site.function.endswith("function")

    run(main)


def test_concurrent_calls_do_not_see_each_other(run: Run) -> None:
    reports = Reports()

    @scoped(grace=0, on_leak=reports)
    async def function(name: str, barrier: asyncio.Barrier) -> None:
        asyncio.create_task(forever(), name=name)
        await barrier.wait()

    async def main() -> None:
        barrier = asyncio.Barrier(10)
        async with asyncio.TaskGroup() as group:
            for number in range(10):
                group.create_task(function(f"task-{number}", barrier))

    run(main)
    assert sorted(reports.leaks) == sorted(f"task-{number}" for number in range(10))
    assert all(len(report.leaks) == 1 for report in reports.all)


def test_a_recursive_call_opens_a_scope_in_the_scope(run: Run) -> None:
    reports = Reports()

    @scoped(grace=0, on_leak=reports)
    async def function(depth: int) -> int:
        outer = current_scope()
        asyncio.create_task(forever(), name=f"depth-{depth}")
        deeper = await function(depth - 1) if depth else 0
        assert current_scope() is outer
        return deeper + 1

    async def main() -> None:
        assert await function(3) == 4

    run(main)
    assert [[record.name for record in report.leaks] for report in reports.all] == [
        ["depth-0"],
        ["depth-1"],
        ["depth-2"],
        ["depth-3"],
    ]


def test_an_exception_of_the_function_is_the_one_that_leaves(run: Run) -> None:
    class OwnError(Exception): ...

    error = OwnError("x")

    @scoped(grace=0)
    async def function() -> None:
        asyncio.create_task(forever(), name="left")
        raise error

    async def main() -> None:
        with pytest.raises(OwnError) as caught:
            await function()
        assert caught.value is error
        assert "left" in "".join(error.__notes__)

    run(main)


# Methods


class Methods:
    @scoped
    async def method(self, x: int) -> tuple[Any, int]:
        return self, x

    @scoped
    @classmethod
    async def scoped_class(cls, x: int) -> tuple[Any, int]:
        return cls, x

    @classmethod
    @scoped
    async def class_scoped(cls, x: int) -> tuple[Any, int]:
        return cls, x

    @scoped
    @staticmethod
    async def scoped_static(x: int) -> tuple[Any, int]:
        return None, x

    @staticmethod
    @scoped
    async def static_scoped(x: int) -> tuple[Any, int]:
        return None, x

    @scoped(grace=0)
    async def generator(self, x: int) -> AsyncIterator[tuple[Any, int]]:
        yield self, x

    @scoped(grace=0)
    @classmethod
    async def class_generator(cls, x: int) -> AsyncIterator[tuple[Any, int]]:
        yield cls, x

    @scoped(grace=0)
    @staticmethod
    async def static_generator(x: int) -> AsyncIterator[tuple[Any, int]]:
        yield None, x


class Sub(Methods): ...


@pytest.mark.parametrize("name", ["method", "scoped_class", "class_scoped", "scoped_static", "static_scoped"])
def test_methods_of_every_kind_in_both_orders(run_asyncio: Run, name: str) -> None:
    instance = Sub()
    expected = instance if name == "method" else Sub if "class" in name else None
    bound: Any = getattr(instance, name)

    async def main() -> None:
        assert await bound(1) == (expected, 1)
        assert await bound(x=1) == (expected, 1)
        if name != "method":
            assert await getattr(Sub, name)(1) == (expected, 1)

    run_asyncio(main)
    assert inspect.iscoroutinefunction(bound)
    assert list(inspect.signature(bound).parameters) == ["x"]
    assert bound.__qualname__ == f"Methods.{name}"


@pytest.mark.parametrize("name", ["generator", "class_generator", "static_generator"])
def test_generator_methods_of_every_kind(run_asyncio: Run, name: str) -> None:
    instance = Sub()
    expected = {"generator": instance, "class_generator": Sub, "static_generator": None}[name]
    bound: Any = getattr(instance, name)

    async def main() -> None:
        assert [item async for item in bound(1)] == [(expected, 1)]

    run_asyncio(main)
    assert inspect.isasyncgenfunction(bound)
    assert list(inspect.signature(bound).parameters) == ["x"]


@pytest.mark.parametrize("kind", ["method", "classmethod", "staticmethod"])
def test_a_plain_method_is_refused_whatever_its_kind(kind: str) -> None:
    def plain(*args: object) -> None: ...

    kinds: dict[str, Any] = {
        "method": lambda function: function,
        "classmethod": classmethod,
        "staticmethod": staticmethod,
    }
    method = kinds[kind](plain)
    with pytest.raises(TypeError, match="async def"):
        scoped(method)


def test_a_bound_method_can_be_decorated(run_asyncio: Run) -> None:
    class Counter:
        async def own(self, x: int) -> tuple[Any, int]:
            return self, x

    counter = Counter()
    decorated = scoped(counter.own)

    async def main() -> None:
        assert await decorated(1) == (counter, 1)

    run_asyncio(main)
    assert list(inspect.signature(decorated).parameters) == ["x"]


# Other things that can be called


def test_a_partial_can_be_decorated(run_asyncio: Run) -> None:
    decorated: Any = scoped(functools.partial(everything, 1, c=3))

    async def main() -> None:
        assert await decorated(2) == (1, 2, (), 3, 4, {})

    run_asyncio(main)
    assert inspect.signature(decorated) == inspect.signature(functools.partial(everything, 1, c=3))
    assert inspect.iscoroutinefunction(decorated)


def test_so_can_a_function_that_was_decorated_otherwise(run: Run) -> None:
    def logged(function: Any) -> Any:
        @functools.wraps(function)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            calls.append((args, kwargs))
            return await function(*args, **kwargs)

        return wrapper

    async def function(x: int, *, leak: bool = False) -> int:
        if leak:
            asyncio.create_task(forever(), name="left")
        return x

    calls: list[Any] = []
    decorated: Any = scoped(grace=0)(logged(logged(function)))

    async def main() -> None:
        assert await decorated(1) == 1
        with pytest.raises(TaskLeakError):
            await decorated(1, leak=True)

    run(main)
    assert len(calls) == 4
    assert inspect.signature(decorated) == inspect.signature(function)


def test_scoped_twice_is_a_scope_in_a_scope(run: Run) -> None:
    inner, outer = Reports(), Reports()

    @scoped(grace=0, name="outer", on_leak=outer)
    @scoped(grace=0, name="inner", on_leak=inner)
    async def function() -> None:
        asyncio.create_task(forever(), name="left")

    run(function)
    assert inner.leaks == ["left"]
    assert not outer.all


class AsyncCall:
    async def __call__(self) -> None: ...


class OneClass:
    async def method(self) -> None: ...


def sync_generator() -> Generator[None, None, None]:
    yield


@types.coroutine
def generator_coroutine() -> Generator[None, None, None]:
    yield


@contextlib.asynccontextmanager
async def context_manager() -> AsyncIterator[None]:
    yield


@pytest.mark.parametrize(
    ("wrong", "advice"),
    [
        (lambda: None, "async with TaskScope"),
        (len, "async with TaskScope"),
        (functools.partial(len, "x"), "async with TaskScope"),
        (sync_generator, "async with TaskScope"),
        (generator_coroutine, "async with TaskScope"),
        (context_manager, "async with TaskScope"),
        (OneClass, "decorate the class's async methods"),
        (int, "decorate the class's async methods"),
        (AsyncCall(), r"__call__"),
        (property(lambda self: None), "decorates functions, not property"),
        (1.0, r"@scoped\(grace=1.0\)"),
        ("name", r"@scoped\(grace=1.0\)"),
        ({}, r"@scoped\(grace=1.0\)"),
        (NotImplemented, r"@scoped\(grace=1.0\)"),
    ],
)
@pytest.mark.parametrize("options", [None, {}, {"grace": 1.0}])
def test_what_is_not_async_is_refused_with_a_word_on_what_to_do(
    wrong: Any, advice: str, options: dict[str, Any] | None
) -> None:
    with pytest.raises(TypeError, match=advice) as caught:
        scoped(wrong) if options is None else scoped(**options)(wrong)
    assert str(caught.value).startswith("func=")


def test_a_coroutine_that_was_called_by_mistake_is_refused() -> None:
    coroutine: Any = no_parameters()
    with pytest.raises(TypeError, match="decorates functions, not coroutine"):
        scoped(coroutine)
    coroutine.close()


def test_the_call_method_of_a_callable_object_can_be_decorated(run_asyncio: Run) -> None:
    run_asyncio(scoped(AsyncCall().__call__))


# Generators: side by side with the undecorated one


class SomeError(Exception): ...


def a_body(items: int, stubborn: int, raising: bool, hooks: list[Any]) -> Callable[[], AsyncGenerator[Any, Any]]:
    """A generator function that logs what reaches it, gives way between steps and survives some exceptions."""

    async def body() -> AsyncGenerator[Any, Any]:
        patience = stubborn
        number = 0
        try:
            while number < items:
                await asyncio.sleep(0)
                try:
                    hooks.append(("got", (yield number)))
                except BaseException as error:
                    hooks.append(("caught", type(error), type(error.__context__)))
                    if patience <= 0:
                        raise
                    patience -= 1
                number += 1
            if raising:
                raise SomeError("end")
        finally:
            hooks.append("finally")
            await asyncio.sleep(0)
            hooks.append("finished")

    return body


Step = tuple[str, Any]

steps = st.one_of(
    st.just(("anext", None)),
    st.tuples(st.just("asend"), st.sampled_from([None, 1, "x"])),
    st.tuples(
        st.just("athrow"),
        st.sampled_from(
            [
                SomeError,
                KeyError,
                GeneratorExit,
                StopAsyncIteration,
                StopIteration,
                asyncio.CancelledError,
                RuntimeError,
            ]
        ),
    ),
    st.just(("aclose", None)),
)


async def outcome_of(generator: AsyncGenerator[Any, Any], step: Step) -> tuple[Any, ...]:
    """What a step comes to, in a form that can be compared."""
    kind, argument = step
    call: Awaitable[Any]
    try:
        if kind == "anext":
            call = anext(generator)
        elif kind == "asend":
            call = generator.asend(argument)
        elif kind == "athrow":
            call = generator.athrow(argument("thrown"))
        else:
            call = generator.aclose()
        return "value", await call
    except BaseException as error:
        return "raised", type(error), str(error), type(error.__cause__)


@given(
    st.integers(0, 4),
    st.integers(0, 3),
    st.booleans(),
    st.lists(steps, max_size=8),
)
@example(3, 1, False, [("anext", None), ("athrow", GeneratorExit), ("anext", None), ("anext", None)])
@example(3, 1, False, [("anext", None), ("aclose", None), ("anext", None)])
@example(3, 0, False, [("athrow", SomeError), ("anext", None)])
@example(2, 3, True, [("anext", None), ("athrow", StopAsyncIteration), ("athrow", StopIteration), ("anext", None)])
def test_any_sequence_of_steps_does_what_it_does_without_us(
    items: int, stubborn: int, raising: bool, sequence: list[Step]
) -> None:
    async def main(decorate: Callable[[Any], Any]) -> list[Any]:
        log: list[Any] = []
        generator = decorate(a_body(items, stubborn, raising, log))()
        for step in sequence:
            log.append(await outcome_of(generator, step))
            assert current_scope() is None
        return list(log)  # what comes later is the destruction of a generator that has not ended

    def trace(decorate: Callable[[Any], Any]) -> list[Any]:
        with pytest.MonkeyPatch.context() as patch, asyncio.Runner() as runner:
            # a generator that ignores being closed is in the end destroyed, and complains, with us and without us
            patch.setattr(sys, "unraisablehook", lambda error: None)
            runner.get_loop().set_exception_handler(lambda loop, context: None)
            log = runner.run(main(decorate))
            gc.collect()
            return log

    assert trace(scoped) == trace(lambda function: function)


def test_items_and_what_is_sent_pass_through_as_they_are(run: Run) -> None:
    sent = object()
    got: list[object] = []

    @scoped
    async def generator(item: object) -> AsyncGenerator[object, object]:
        got.append((yield item))

    async def main() -> None:
        item = object()
        steps = generator(item)
        assert await anext(steps) is item
        with pytest.raises(StopAsyncIteration):
            await steps.asend(sent)
        assert got == [sent]

    run(main)


def test_a_generator_function_looks_as_it_did() -> None:
    async def generator(a: int, /, *b: int, c: int = 1) -> AsyncIterator[int]:
        """What it does."""
        yield a

    decorated = scoped(mark(generator))
    assert inspect.isasyncgenfunction(decorated)
    assert inspect.signature(decorated) == inspect.signature(generator)
    assert (decorated.__name__, decorated.__doc__, decorated.mark) == ("generator", "What it does.", "kept")


# Generators: the scope


def test_the_scope_spans_the_iteration_and_is_never_left_with_the_consumer(run: Run) -> None:
    scopes: list[TaskScope | None] = []

    @scoped(grace=0)
    async def generator() -> AsyncIterator[int]:
        for number in range(3):
            await asyncio.sleep(0)
            scopes.append(current_scope())
            yield number

    async def main() -> None:
        async with TaskScope("consumer", grace=0) as consumer:
            async for _ in generator():
                assert current_scope() is consumer
            assert current_scope() is consumer

    run(main)
    assert len({id(scope) for scope in scopes}) == 1
    assert scopes[0] is not None and scopes[0].name.endswith("generator")


def test_what_the_consumer_spawns_between_steps_is_the_consumers(run: Run) -> None:
    @scoped(grace=0)
    async def generator() -> AsyncIterator[int]:
        for number in range(3):
            yield number

    async def main() -> None:
        spawned: list[asyncio.Task[None]] = []
        async with TaskScope("consumer", grace=0, on_leak="ignore") as consumer:
            async for number in generator():
                spawned.append(asyncio.create_task(forever(), name=f"consumer-{number}"))
                await asyncio.sleep(0)
            assert not any(task.done() for task in spawned)
        assert {record.name for record in consumer.report.leaks} == {f"consumer-{number}" for number in range(3)}

    run(main)


def test_a_leak_is_reported_when_the_generator_is_exhausted_and_not_before(run: Run) -> None:
    @scoped(grace=0)
    async def generator(leaks: bool) -> AsyncIterator[int]:
        task = asyncio.create_task(forever(), name="left")
        yield 1
        assert not task.done()
        yield 2
        if not leaks:
            task.cancel()
            await asyncio.wait([task])

    async def main() -> None:
        assert [item async for item in generator(False)] == [1, 2]
        steps = generator(True)
        assert [await anext(steps), await anext(steps)] == [1, 2]
        with pytest.raises(TaskLeakError) as caught:
            await anext(steps)
        assert [record.name for record in caught.value.report.leaks] == ["left"]

    run(main)


def test_an_exception_thrown_in_closes_the_scope_and_is_not_masked(run: Run) -> None:
    reports = Reports()

    @scoped(grace=0, on_leak="ignore", on_report=reports)
    async def generator() -> AsyncGenerator[int, None]:
        asyncio.create_task(forever(), name="left")
        yield 1

    async def main() -> None:
        steps = generator()
        await anext(steps)
        error = SomeError()
        with pytest.raises(SomeError) as caught:
            await steps.athrow(error)
        assert caught.value is error

    run(main)
    assert reports.leaks == ["left"]


def test_a_thrown_exception_that_the_generator_handles_does_not_end_the_scope(run: Run) -> None:
    reports = Reports()

    @scoped(grace=0, on_leak=reports)
    async def generator() -> AsyncGenerator[int, None]:
        task = asyncio.create_task(forever(), name="left")
        try:
            yield 1
        except SomeError:
            assert not task.done()
            yield 2
        assert not task.done()

    async def main() -> None:
        steps = generator()
        await anext(steps)
        assert await steps.athrow(SomeError()) == 2
        assert not reports.all
        with pytest.raises(StopAsyncIteration):
            await anext(steps)

    run(main)
    assert reports.leaks == ["left"]


def test_aclose_ends_the_scope_with_all_that_an_end_does(run: Run) -> None:
    @scoped(grace=0)
    async def generator() -> AsyncGenerator[int, None]:
        asyncio.create_task(forever(), name="left")
        yield 1

    async def main() -> None:
        steps = generator()
        await anext(steps)
        with pytest.raises(TaskLeakError) as caught:
            await steps.aclose()
        assert [record.outcome for record in caught.value.report.leaks] == ["cancelled"]
        await steps.aclose()  # closed already

    run(main)


def test_a_generator_can_be_closed_and_stepped_from_other_tasks(run: Run) -> None:
    reports = Reports()
    scopes: list[TaskScope | None] = []

    @scoped(grace=0, on_leak=reports)
    async def generator() -> AsyncGenerator[int, None]:
        try:
            for number in range(5):
                scopes.append(current_scope())
                asyncio.create_task(forever(), name=f"left-{number}")
                await asyncio.sleep(0)
                yield number
        finally:
            scopes.append(current_scope())
            await asyncio.sleep(0)

    async def main() -> None:
        steps = generator()

        async def step() -> int:
            item = await anext(steps)
            assert current_scope() is None
            return item

        assert await asyncio.create_task(step()) == 0
        assert await step() == 1
        assert await asyncio.create_task(step()) == 2
        await asyncio.create_task(close(steps))
        assert current_scope() is None

    async def close(steps: AsyncGenerator[int, None]) -> None:
        await steps.aclose()
        assert current_scope() is None

    run(main)
    assert reports.leaks == ["left-0", "left-1", "left-2"]
    assert len(scopes) == 4 and len({id(scope) for scope in scopes}) == 1


def test_breaking_out_of_a_loop_ends_the_scope_when_the_loop_closes_the_generator(run: Run) -> None:
    reports = Reports()

    @scoped(grace=0, on_leak=reports)
    async def generator() -> AsyncIterator[int]:
        asyncio.create_task(forever(), name="left")
        yield 1
        yield 2

    async def main() -> None:
        async for _ in generator():
            break
        gc.collect()
        await until(lambda: reports.all)
        assert current_scope() is None

    run(main)
    assert reports.leaks == ["left"]


def test_so_does_shutdown_asyncgens_even_where_closing_takes_turns(run: Run) -> None:
    reports = Reports()
    errors: list[dict[str, Any]] = []
    order: list[str] = []

    def a_generator(label: str) -> Callable[[], AsyncGenerator[int, None]]:
        @scoped(grace=0, on_leak=reports)
        async def generator() -> AsyncGenerator[int, None]:
            asyncio.create_task(forever(), name=f"left-{label}")
            try:
                yield 1
            finally:
                scope = current_scope()
                for _ in range(5):
                    await asyncio.sleep(0)
                assert scope is not None and current_scope() is scope
                order.append(label)

        return generator

    alive: list[AsyncGenerator[int, None]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: errors.append(context))
        # several, as the loop closes them in the order of a set
        for number in range(8):
            steps = a_generator(str(number))()
            await anext(steps)
            alive.append(steps)
        await asyncio.get_running_loop().shutdown_asyncgens()

    run(main)
    assert errors == []
    assert sorted(order) == [str(number) for number in range(8)]
    assert sorted(reports.leaks) == [f"left-{number}" for number in range(8)]


def test_the_hooks_for_generators_are_as_they_were(run: Run) -> None:
    @scoped
    async def generator() -> AsyncIterator[int]:
        seen.append(sys.get_asyncgen_hooks())
        yield 1

    seen: list[Any] = []

    async def main() -> None:
        before = sys.get_asyncgen_hooks()
        async for _ in generator():
            assert sys.get_asyncgen_hooks() == before
        assert seen == [before]
        assert sys.get_asyncgen_hooks() == before

    run(main)


def test_a_generator_in_a_reference_cycle_is_closed_by_the_collector(run: Run) -> None:
    reports = Reports()

    @scoped(grace=0, on_leak=reports)
    async def generator(box: list[Any]) -> AsyncIterator[int]:
        asyncio.create_task(forever(), name="left")
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            box.clear()

    async def main() -> None:
        box: list[Any] = []
        steps = generator(box)
        box.append(steps)
        await anext(steps)
        del steps, box
        gc.collect()
        await until(lambda: reports.all)

    run(main)
    assert reports.leaks == ["left"]


def test_a_generator_that_is_collected_in_somebody_elses_scope_is_told_there_and_not_accused(run: Run) -> None:
    released = asyncio.Event()

    async def generator() -> AsyncGenerator[int, None]:
        try:
            yield 1
        finally:
            await released.wait()
            ended.append(True)

    ended: list[bool] = []

    async def main() -> None:
        steps = generator()
        await anext(steps)
        circle: list[Any] = [steps]
        circle.append(circle)
        del steps, circle
        async with TaskScope("innocent", grace=0.01) as scope:
            gc.collect()
            await asyncio.sleep(0)
        assert scope.report.ok and not scope.report.late
        assert ["collector" in (record.outcome_detail or "") for record in scope.report.ignored] == [True]
        released.set()
        await until(lambda: ended)

        # who closes a generator in a task of his own answers for that task
        released.clear()
        steps = generator()
        await anext(steps)
        async with TaskScope(grace=0, on_leak="ignore") as scope:
            closing: Any = steps.aclose()
            asyncio.create_task(closing, name="closing")
            await asyncio.sleep(0)
        assert [record.name for record in scope.report.leaks] == ["closing"]

    run(main)


def test_a_generator_that_is_collected_is_closed_before_the_scope_ends(run: Run) -> None:
    ended: list[bool] = []

    async def generator() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            for _ in range(5):
                await asyncio.sleep(0)
            ended.append(True)

    async def main() -> None:
        async with TaskScope() as scope:
            async for _ in generator():
                break
            gc.collect()
            await asyncio.sleep(0)
        assert ended
        assert scope.report.ok and not scope.report.ignored

    run(main)


def test_nothing_keeps_a_generator_or_what_was_thrown_into_it_alive(run_asyncio: Run) -> None:
    class Heavy: ...

    class OwnError(Exception): ...

    def a_generator(decorate: Callable[[Any], Any]) -> Any:
        async def generator(heavy: Heavy) -> AsyncGenerator[int, None]:
            yield 1

        return decorate(generator)

    async def thrown_into(generator: Any) -> tuple[weakref.ref[Any], weakref.ref[Any]]:
        heavy = Heavy()
        steps = generator(heavy)
        await anext(steps)
        error = OwnError()
        references = weakref.ref(heavy), weakref.ref(error)
        try:
            with contextlib.suppress(OwnError):
                await steps.athrow(error)
        finally:
            del error  # or this very frame, which the traceback holds, would keep it
        return references

    async def main() -> None:
        gc.disable()
        try:
            for decorate in (lambda function: function, scoped):
                heavy, error = await thrown_into(a_generator(decorate))
                assert error() is None and heavy() is None, decorate
        finally:
            gc.enable()

    run_asyncio(main)


def test_a_generator_that_is_never_started_has_no_scope(run: Run) -> None:
    started: list[int] = []

    @scoped(grace=0, timeout=0)
    async def generator() -> AsyncGenerator[int, None]:
        started.append(1)
        yield 1

    async def main() -> None:
        generator()
        steps = generator()
        await steps.aclose()
        with pytest.raises(SomeError):
            await generator().athrow(SomeError())
        assert not started

    run(main)


def test_a_step_that_is_cancelled_ends_the_scope(run: Run) -> None:
    reports = Reports()

    @scoped(grace=0, on_leak="ignore", on_report=reports)
    async def generator() -> AsyncGenerator[int, None]:
        asyncio.create_task(forever(), name="left")
        yield 1
        await forever()

    async def main() -> None:
        steps = generator()
        await anext(steps)

        async def step() -> None:
            await anext(steps)

        task = asyncio.create_task(step())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert current_scope() is None

    run(main)
    assert reports.leaks == ["left"]


@pytest.mark.parametrize("decorate", [scoped, lambda function: function], ids=["scoped", "plain"])
def test_a_consumer_that_is_destroyed_in_the_middle_of_a_step_does_no_harm(
    decorate: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    unraisable: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda error: unraisable.append((error.exc_value, error.object)))

    async def generator() -> AsyncGenerator[int, None]:
        yield 1
        await forever()

    async def consumer(steps: AsyncGenerator[int, None]) -> None:
        async for _ in steps:
            pass

    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda loop, context: None)

    async def main() -> None:
        task = loop.create_task(consumer(decorate(generator)()))
        tasks.append(task)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    tasks: list[asyncio.Task[None]] = []
    loop.run_until_complete(main())
    tasks.pop().get_coro().close()  # type: ignore[union-attr]
    gc.collect()
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
    gc.collect()
    assert unraisable == []


def test_iterations_that_take_turns_keep_their_tasks_apart(run: Run) -> None:
    reports = Reports()

    @scoped(grace=0, on_leak=reports)
    async def generator(label: str) -> AsyncIterator[int]:
        for number in range(3):
            asyncio.create_task(forever(), name=f"{label}-{number}")
            await asyncio.sleep(0)
            yield number

    async def main() -> None:
        one, other = generator("a"), generator("b")
        for _ in range(3):
            await anext(one)
            await anext(other)
        for steps in (other, one):
            with pytest.raises(StopAsyncIteration):
                await anext(steps)

    run(main)
    assert [[record.name for record in report.leaks] for report in reports.all] == [
        ["b-0", "b-1", "b-2"],
        ["a-0", "a-1", "a-2"],
    ]


def test_a_scope_in_the_generator_and_a_generator_in_the_generator(run: Run) -> None:
    inner, outer = Reports(), Reports()

    @scoped(grace=0, on_leak=inner)
    async def leaf() -> AsyncIterator[int]:
        asyncio.create_task(forever(), name="of-leaf")
        for number in range(3):
            await asyncio.sleep(0)
            yield number

    @scoped(grace=0, on_leak=outer)
    async def branch() -> AsyncIterator[int]:
        asyncio.create_task(forever(), name="of-branch")
        async for number in leaf():
            yield number

    async def main() -> None:
        assert [number async for number in branch()] == [0, 1, 2]

    run(main)
    assert (inner.leaks, outer.leaks) == (["of-leaf"], ["of-branch"])


def test_it_can_be_stepped_under_an_anyio_group(run: Run) -> None:
    reports = Reports()

    @scoped(grace=0, on_leak=reports)
    async def generator() -> AsyncIterator[int]:
        for number in range(3):
            asyncio.create_task(forever(), name=f"left-{number}")
            await anyio.lowlevel.checkpoint()
            yield number

    async def main() -> None:
        async with anyio.create_task_group() as group:

            async def consume() -> None:
                async for _ in generator():
                    await anyio.lowlevel.checkpoint()

            group.start_soon(consume)

    run(main)
    assert reports.leaks == ["left-0", "left-1", "left-2"]


# Generators: timeout


def test_a_timeout_during_a_step_ends_the_iteration(run: Run) -> None:
    ended: list[str] = []

    @scoped(grace=0, timeout=0.01)
    async def generator() -> AsyncIterator[int]:
        try:
            asyncio.create_task(forever(), name="left")
            yield 1
            await forever()
        finally:
            ended.append("finally")

    async def main() -> None:
        steps = generator()
        assert await anext(steps) == 1
        with pytest.raises(ScopeTimeoutError) as caught:
            await anext(steps)
        assert ended == ["finally"]
        report = caught.value.report
        assert report.phase == "body" and report.body is not None
        assert [record.name for record in report.leaks] == ["left"]
        task = asyncio.current_task()
        assert task is not None and task.cancelling() == 0
        with pytest.raises(StopAsyncIteration):
            await anext(steps)

    run(main)


def test_a_timeout_between_steps_ends_the_iteration_at_the_next_one_and_spares_the_consumer(run: Run) -> None:
    ended: list[TaskScope | None] = []

    @scoped(grace=0, timeout=0.01)
    async def generator() -> AsyncGenerator[int, None]:
        try:
            yield 1
            yield 2
        finally:
            ended.append(current_scope())
            await asyncio.sleep(0)
            ended.append(current_scope())

    async def main() -> None:
        steps = generator()
        await anext(steps)
        scope_timed_out = asyncio.Event()
        asyncio.get_running_loop().call_later(0.02, scope_timed_out.set)
        await scope_timed_out.wait()
        with pytest.raises(ScopeTimeoutError) as caught:
            await anext(steps)
        # the generator's own clean-up has run, and has run in the scope
        assert len(ended) == 2 and ended[0] is ended[1] is not None
        assert caught.value.report.phase == "body"
        with pytest.raises(StopAsyncIteration):
            await anext(steps)

    run(main)


def test_a_generator_that_is_closed_after_its_timeout_cleans_up_too(run: Run) -> None:
    ended: list[str] = []

    @scoped(grace=0, timeout=0.005)
    async def generator() -> AsyncGenerator[int, None]:
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            ended.append("finally")

    async def main() -> None:
        steps = generator()
        await anext(steps)
        over = asyncio.Event()
        asyncio.get_running_loop().call_later(0.01, over.set)
        await over.wait()
        with pytest.raises(ScopeTimeoutError):
            await steps.aclose()
        assert ended == ["finally"]

    run(main)


def test_a_generator_that_is_in_time_is_left_alone_and_leaves_no_timer(run: Run) -> None:
    @scoped(grace=0, timeout=1000)
    async def generator() -> AsyncIterator[int]:
        yield 1
        await asyncio.sleep(0)
        yield 2

    async def main() -> None:
        assert [item async for item in generator()] == [1, 2]
        timers = getattr(asyncio.get_running_loop(), "_scheduled", [])
        assert all(timer.cancelled() for timer in timers)

    run(main)


# Switched off


def test_switched_off_a_decorated_function_and_generator_do_what_they_did(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKSCOPE", "off")
    tasks: list[asyncio.Task[None]] = []

    @scoped(grace=0, timeout=0)
    async def function() -> int:
        await asyncio.sleep(0)
        tasks.append(asyncio.create_task(forever()))
        return 1

    @scoped(grace=0, timeout=0)
    async def generator() -> AsyncGenerator[int, int]:
        tasks.append(asyncio.create_task(forever()))
        assert (yield 1) == 5

    async def main() -> None:
        assert await function() == 1
        steps = generator()
        assert await anext(steps) == 1
        with pytest.raises(StopAsyncIteration):
            await steps.asend(5)
        await asyncio.sleep(0)
        assert not any(task.done() for task in tasks)
        for task in tasks:
            task.cancel()

    run(main)
