"""The arguments of a scope: whatever cannot be meant is refused at once, in words that help."""

from __future__ import annotations

import asyncio
import enum
import functools
import math
import warnings
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator
from decimal import Decimal
from fractions import Fraction
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest
from conftest import Run
from hypothesis import given
from hypothesis import strategies as st

from taskscope import Ignore, Report, TaskLeakError, TaskScope, TaskScopeError, install, run, scoped
from taskscope._arguments import PolicyArguments, check_policy
from taskscope._policy import TASKS_ONLY

Opener = Callable[..., object]


async def nothing() -> None: ...


def by_scope(**arguments: Any) -> object:
    return TaskScope(**arguments)


def by_scoped(**arguments: Any) -> object:
    return scoped(**arguments)


def by_run(**arguments: Any) -> object:
    return run(nothing(), **arguments)


def by_install(**arguments: Any) -> object:
    loop = asyncio.new_event_loop()
    try:
        installation = install(loop, root="app", **arguments)
        installation.uninstall()
        assert loop.get_task_factory() is None
        return installation
    finally:
        assert loop.get_task_factory() is None, "a refused policy leaves the loop as it was"
        loop.close()


@pytest.fixture(params=[by_scope, by_scoped, by_run, by_install], ids=["TaskScope", "scoped", "run", "install"])
def opened(request: pytest.FixtureRequest) -> Opener:
    """The four ways to give a policy."""
    opener: Opener = request.param
    return opener


class Sayer:
    """A value that is known by its repr."""

    def __repr__(self) -> str:
        return "<a sayer>"


class Hostile:
    """A value that raises at every touch that a check could need."""

    def __repr__(self) -> str:
        raise RuntimeError("repr")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("eq")

    def __bool__(self) -> bool:
        raise RuntimeError("bool")

    __hash__ = None  # type: ignore[assignment]


class LikeNumpy:
    """A number as numpy has them: no int, no float, but it can become one. Comparing it gives no bool."""

    def __float__(self) -> float:
        return 1.0

    def __lt__(self, other: object) -> Any:
        return [False]

    def __eq__(self, other: object) -> Any:
        return Hostile()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return "np.int64(1)"


class Int(int): ...


class Float(float):
    """As numpy's float64 is one."""


RULE = Ignore("Client._read", reason="it stays")

SECONDS = ["grace", "cancel_timeout", "timeout", "watch"]
OF_A_BODY = ["timeout", "watch"]
"""Those that can be None, and are refused for a root scope, which has no body."""

NOT_SECONDS: list[tuple[Any, type[Exception]]] = [
    ("1", TypeError),
    (None, TypeError),
    (True, TypeError),
    (False, TypeError),
    (1j, TypeError),
    (Decimal(1), TypeError),
    (Fraction(1), TypeError),
    ([1], TypeError),
    (LikeNumpy(), TypeError),
    (Hostile(), TypeError),
    (Sayer(), TypeError),
    (math.nan, ValueError),
    (math.inf, ValueError),
    (-math.inf, ValueError),
    (-1, ValueError),
    (-1e-300, ValueError),
    (Float("nan"), ValueError),
    (10**400, ValueError),
    (-(10**400), ValueError),
    (10**5_000, ValueError),
]


@pytest.mark.parametrize("argument", SECONDS)
@pytest.mark.parametrize(("value", "error"), NOT_SECONDS, ids=lambda value: type(value).__name__)
def test_what_is_not_a_number_of_seconds_is_refused(
    opened: Opener, argument: str, value: Any, error: type[Exception]
) -> None:
    if argument in OF_A_BODY and (value is None or opened is by_install):
        return  # allowed, and refused for another reason
    with pytest.raises(error, match=f"^{argument}=.*: must be .*a finite number of seconds >= 0") as caught:
        opened(**{argument: value})
    assert ("None or" in str(caught.value)) == (argument in OF_A_BODY)
    if not isinstance(value, Hostile | int):
        assert repr(value) in str(caught.value)
    if error is TypeError:
        assert str(caught.value).endswith(f"not {type(value).__name__}")


@pytest.mark.parametrize("argument", SECONDS)
@pytest.mark.parametrize("value", [0, 0.0, -0.0, 5, 1e-300, 1e300, 10**300, Int(3), Float(2.5)], ids=type)
def test_every_finite_number_of_seconds_will_do(argument: str, value: Any) -> None:
    if argument == "watch" and not value:
        return  # to look without a pause is not meant
    policy = check_policy(**{argument: value})
    assert getattr(policy, argument) == float(value)
    assert type(getattr(policy, argument)) is float
    TaskScope(**{argument: value})


@given(st.floats() | st.integers())
def test_seconds_are_accepted_if_and_only_if_they_are_finite_and_not_negative(value: float) -> None:
    try:
        good = math.isfinite(value) and value >= 0
    except OverflowError:
        good = False
    if good:
        TaskScope(grace=value)
        return
    with pytest.raises(ValueError, match=r"^grace="):
        TaskScope(grace=value)


@pytest.mark.parametrize("argument", SECONDS)
def test_the_largest_numbers_work_on_a_loop(run: Run, argument: str) -> None:
    async def main() -> None:
        async with TaskScope(**{argument: 1.7e308}) as scope:  # type: ignore[arg-type]
            task = asyncio.create_task(asyncio.sleep(0))
        assert task.done() and scope.report.ok

    run(main)


@pytest.mark.parametrize("value", [0, 0.0, -0.0, Int(0)])
def test_there_is_a_pause_between_two_looks_at_the_body(value: Any) -> None:
    for opener in (by_scope, by_scoped, by_run):
        with pytest.raises(ValueError, match=r"^watch=-?0.*: must be None or more than 0 seconds"):
            opener(watch=value)


WORDS = [
    ("outer_groups", ["'leak'", "'transfer'"]),
    ("spawn_site", ["'site'", "'stack'", "'off'"]),
]


@pytest.mark.parametrize(("argument", "allowed"), WORDS)
@pytest.mark.parametrize("value", ["", "Leak", "SITE", "leak ", None, True, 1, b"leak", ["leak"], Sayer(), Hostile()])
def test_an_unknown_word_is_refused(opened: Opener, argument: str, allowed: list[str], value: Any) -> None:
    error = ValueError if isinstance(value, str) else TypeError
    with pytest.raises(error, match=f"^{argument}=") as caught:
        opened(**{argument: value})
    assert str(caught.value).endswith(f"must be one of {', '.join(allowed)}")


@pytest.mark.parametrize("value", ["", "Raise", "error", None, True, 1, b"raise", ["log"], (), Sayer(), Hostile()])
def test_an_unknown_reaction_to_leaks_is_refused(opened: Opener, value: Any) -> None:
    error = ValueError if isinstance(value, str) else TypeError
    with pytest.raises(error, match=r"^on_leak=") as caught:
        opened(on_leak=value)
    assert "must be one of 'raise', 'warn', 'log', 'ignore' or a function that takes a Report" in str(caught.value)


@pytest.mark.parametrize("value", ["log", True, 0, (), Sayer(), Hostile()])
def test_an_unknown_receiver_of_reports_is_refused(opened: Opener, value: Any) -> None:
    with pytest.raises(TypeError, match=r"^on_report=.*: must be None or a function that takes a Report"):
        opened(on_report=value)


@pytest.mark.parametrize("value", [0, 1, None, "yes", Sayer(), Hostile()])
def test_scan_is_a_bool(opened: Opener, value: Any) -> None:
    with pytest.raises(TypeError, match=r"^scan=.*: must be True or False"):
        opened(scan=value)


@pytest.mark.parametrize("value", ["tasks", b"tasks", None, 1, True, iter(("tasks",)), Sayer(), Hostile()], ids=type)
def test_what_to_find_comes_in_a_sequence(opened: Opener, value: Any) -> None:
    with pytest.raises(TypeError, match=r"^find=.*: must be a sequence of 'tasks', 'timers', .*"):
        opened(find=value)


@pytest.mark.parametrize("value", [("",), ("Tasks",), ["timer"], ("tasks", "leaks")], ids=str)
def test_what_cannot_be_found_is_refused(opened: Opener, value: Any) -> None:
    with pytest.raises(ValueError, match=r"^find=.*: must be a sequence of 'tasks', 'timers', .*; there is no '\w*'$"):
        opened(find=value)


@pytest.mark.parametrize("value", [(None,), (1,), (b"tasks",), (Hostile(),), ["tasks", Sayer()]], ids=type)
def test_what_to_find_is_words(opened: Opener, value: Any) -> None:
    with pytest.raises(TypeError, match=r"^find=.*: must be a sequence of 'tasks', 'timers', .*; .* is \w+$"):
        opened(find=value)


@pytest.mark.parametrize("value", [(), [], ("tasks",), ["tasks", "tasks"], {"tasks"}], ids=str)
def test_tasks_are_found_whether_they_are_named_or_not(opened: Opener, value: Any) -> None:
    opened(find=value)
    assert check_policy(find=value).find is TASKS_ONLY
    assert check_policy(find=[*value, "timers"]).find == {"tasks", "timers"}


@pytest.mark.parametrize("value", [0, 1, None, "yes", Sayer(), Hostile()])
def test_ending_processes_is_a_bool(opened: Opener, value: Any) -> None:
    with pytest.raises(TypeError, match=r"^end_processes=.*: must be True or False"):
        opened(find=("processes",), end_processes=value)


def test_processes_are_only_ended_where_they_are_looked_for(opened: Opener) -> None:
    opened(find=("processes",), end_processes=True)
    with pytest.raises(ValueError, match=r'^end_processes=True: needs "processes" in find'):
        opened(end_processes=True)


@pytest.mark.parametrize("value", [None, 1, {RULE}, iter((RULE,)), RULE, Sayer(), Hostile()], ids=type)
def test_ignore_rules_come_in_a_sequence(opened: Opener, value: Any) -> None:
    with pytest.raises(TypeError, match=r"^ignore=.*: must be a sequence of taskscope.Ignore: .*, not \w+$"):
        opened(ignore=value)


@pytest.mark.parametrize("value", [("x",), (None,), (Hostile(),), "rules", ["task=x -- y"]], ids=type)
def test_only_ignore_rules_are_in_it(opened: Opener, value: Any) -> None:
    with pytest.raises(
        TypeError, match=r"^ignore=.*: must be a sequence of taskscope.Ignore: .*; its element 0 is \w+$"
    ):
        opened(ignore=value)
    with pytest.raises(TypeError, match=r"its element 1 is \w+$"):
        opened(ignore=[RULE, *value])


@pytest.mark.parametrize("value", [(), [], (RULE,), [RULE, RULE], deque([RULE])])
def test_every_sequence_of_rules_will_do(opened: Opener, value: Any) -> None:
    opened(ignore=value)
    assert check_policy(ignore=value).ignore == tuple(value)


def test_their_defaults_can_be_given(opened: Opener) -> None:
    opened(watch=None, ignore=(), find=("tasks",))
    opened(find=tuple(["tasks"]))  # equal, and another object  # noqa: C409


# Callables


async def coroutine_function(report: Report) -> None: ...


async def generator_function(report: Report) -> AsyncIterator[None]:
    yield


def sync_generator_function(report: Report) -> Generator[None, None, None]:
    yield


class AsyncCallable:
    async def __call__(self, report: Report) -> None: ...

    async def method(self, report: Report) -> None: ...

    @classmethod
    async def class_method(cls, report: Report) -> None: ...

    @staticmethod
    async def static_method(report: Report) -> None: ...


class AsyncGeneratorCallable:
    async def __call__(self, report: Report) -> AsyncIterator[None]:
        yield


async def two(report: Report, more: int) -> None: ...


@pytest.mark.parametrize("argument", ["on_leak", "on_report"])
@pytest.mark.parametrize(
    "value",
    [
        coroutine_function,
        generator_function,
        AsyncCallable(),
        AsyncCallable().method,
        AsyncCallable.class_method,
        AsyncCallable.static_method,
        AsyncGeneratorCallable(),
        functools.partial(two, more=1),
        functools.partial(functools.partial(two), more=1),
        functools.partial(AsyncCallable()),
        functools.partial(AsyncCallable().method),
        AsyncMock(),
        scoped(coroutine_function),
    ],
    ids=repr,
)
def test_an_async_callable_is_refused_for_nothing_would_await_it(opened: Opener, argument: str, value: Any) -> None:
    with pytest.raises(TypeError, match=f"^{argument}=.*and not async: nothing would await it$"):
        opened(**{argument: value})


@pytest.mark.parametrize("argument", ["on_leak", "on_report"])
def test_a_generator_function_is_refused_for_nothing_would_run_it(opened: Opener, argument: str) -> None:
    with pytest.raises(TypeError, match=f"^{argument}=.*and not a generator: nothing would run it$"):
        opened(**{argument: sync_generator_function})


class Collector:
    def __init__(self, *args: Report) -> None:
        self.reports = list(args)

    def __call__(self, report: Report) -> None:
        self.reports.append(report)


@pytest.mark.parametrize("argument", ["on_leak", "on_report"])
def test_any_sync_callable_will_do(run: Run, argument: str) -> None:
    collector, mock, found = Collector(), Mock(), list[Report]()
    callables: list[Any] = [
        collector,
        collector.reports.append,
        mock,
        found.append,
        functools.partial(lambda more, report: found.append(report), 1),
        Collector,
    ]

    async def main() -> None:
        for callable_ in callables:
            arguments = {"on_leak": "ignore", argument: callable_}
            async with TaskScope(grace=0, **arguments):
                asyncio.create_task(forever())

    run(main)
    assert len(collector.reports) == 2 and len(found) == 2
    mock.assert_called_once()


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


# Names and words that are strings of another class


@pytest.mark.parametrize("value", [1, b"name", True, ["name"], Sayer(), Hostile()])
def test_a_name_is_a_string(value: Any) -> None:
    for opener in (by_scope, by_scoped, by_run):
        with pytest.raises(TypeError, match=r"^name=.*: must be None or a string, not "):
            opener(name=value)
    with pytest.raises(TypeError, match=r"^root=.*: must be None or a string, not "):
        install(asyncio.new_event_loop, root=value)  # type: ignore[arg-type]


def test_a_name_is_not_empty() -> None:
    for opener in (by_scope, by_scoped, by_run):
        with pytest.raises(ValueError, match=r"^name='': must be None or a string that is not empty"):
            opener(name="")


def test_members_of_a_string_enum_are_the_words_that_they_are(run: Run) -> None:
    class Word(enum.StrEnum):
        RAISE = "raise"
        STACK = "stack"
        TRANSFER = "transfer"

    async def main() -> None:
        with pytest.raises(TaskLeakError) as caught:
            async with TaskScope(
                grace=0,
                on_leak=Word.RAISE,  # type: ignore[arg-type]
                spawn_site=Word.STACK,  # type: ignore[arg-type]
                outer_groups=Word.TRANSFER,  # type: ignore[arg-type]
            ):
                asyncio.create_task(forever())
        assert caught.value.report.leaks[0].spawn_stack

    run(main)


# Each way in


def test_an_unknown_argument_is_refused_with_those_that_there_are(opened: Opener) -> None:
    with pytest.raises(TypeError, match=r"gracee") as caught:
        opened(gracee=1.0)
    if opened is not by_scope:  # whose message is Python's own
        assert str(caught.value).startswith("gracee=1.0: there is no such argument")
        assert all(argument in str(caught.value) for argument in PolicyArguments.__annotations__)


def test_all_ways_take_the_same_arguments() -> None:
    assert list(PolicyArguments.__annotations__) == [*(TaskScope.__init__.__kwdefaults__ or {})]


def test_the_arguments_of_a_scope_go_by_keyword() -> None:
    with pytest.raises(TypeError, match=r"positional"):
        TaskScope("name", 1.0)  # type: ignore[call-arg]


def test_a_bad_argument_is_refused_before_anything_is_done() -> None:
    started: list[int] = []

    async def main() -> None:
        started.append(1)

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a coroutine that was never awaited
        with pytest.raises(ValueError, match=r"^grace="):
            run(main(), grace=-1)
    assert not started


@pytest.mark.parametrize("value", [nothing, None, 1, lambda: None, Sayer(), Hostile()])
def test_run_takes_a_coroutine(value: Any) -> None:
    with pytest.raises(TypeError, match=r"^main=.*: must be a coroutine, as the call of an `async def` function"):
        run(value)


@pytest.mark.parametrize("value", ["curio", "", None, 1, Sayer(), Hostile()])
def test_run_takes_one_of_two_backends(value: Any) -> None:
    with pytest.raises(ValueError, match=r'^backend=.*: must be "asyncio" or "trio"$'):
        run(nothing(), backend=value)


def test_run_cannot_be_called_where_a_loop_runs(run_asyncio: Run) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match=r"running event loop"):
            run(nothing())

    run_asyncio(main)


@pytest.mark.parametrize("value", [1, "loop", asyncio.new_event_loop, Sayer(), Hostile()])
def test_install_takes_a_loop(value: Any) -> None:
    with pytest.raises(TypeError, match=r"^loop=.*: must be None or an event loop of asyncio, not "):
        install(value)


def test_install_without_a_loop_needs_a_running_one() -> None:
    with pytest.raises(RuntimeError, match=r"running event loop"):
        install()


def test_install_takes_a_policy_for_a_root_scope_only() -> None:
    loop = asyncio.new_event_loop()
    try:
        with pytest.raises(ValueError, match=r"^grace, scan: a policy is the root scope's, so root= must name one"):
            install(loop, grace=1.0, scan=True)
        for argument in OF_A_BODY:
            with pytest.raises(ValueError, match=rf"^{argument}=1\.0: a root scope has no body"):
                install(loop, root="app", **{argument: 1.0})  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"^root=''"):
            install(loop, root="")
        assert loop.get_task_factory() is None
    finally:
        loop.close()


def test_a_loop_has_one_root_scope() -> None:
    loop = asyncio.new_event_loop()
    try:
        installation = install(loop, root="app")
        with pytest.raises(TaskScopeError, match=r"^root='other': the loop has the root scope 'app' already"):
            install(loop, root="other")
        assert install(loop) is installation
        installation.uninstall()
        assert loop.get_task_factory() is None
    finally:
        loop.close()
