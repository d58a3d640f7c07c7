"""What holds the values of fixtures and does nothing while a test runs: pytest, who has called it, and we ourselves."""

from __future__ import annotations

import inspect
import itertools
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from types import CodeType, FrameType, FunctionType
from typing import Any, Final, NamedTuple

import pytest

from taskscope._diagnosis.folding import is_own
from taskscope._diagnosis.opaque import class_of
from taskscope._diagnosis.proof import AtRest
from taskscope.pytest_plugin._traces import contents_of

_CONTAINERS: Final = (dict, list, tuple)

_SUSPENDABLE: Final = inspect.CO_COROUTINE | inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR

_KINDS: Final = (pytest.Item, pytest.Collector, pytest.FixtureRequest, pytest.FixtureDef, pytest.MonkeyPatch)

_FAMILY: Final = frozenset(
    {
        *("_pytest", "pluggy", "pytest", "taskscope", "xdist"),
        *("pytest_aiohttp", "pytest_asyncio", "pytest_rerunfailures", "pytest_timeout", "pytest_trio"),
    }
)

_KEEPERS: Final = frozenset(
    {
        *(("_pytest.fixtures", "FixtureManager"), ("_pytest.fixtures", "FuncFixtureInfo")),
        *(("_pytest.capture", "CaptureFixture"), ("_pytest.logging", "LogCaptureFixture")),
        *(("_pytest.main", "Session"), ("_pytest.mark.structures", "NodeKeywords"), ("_pytest.runner", "SetupState")),
    }
)

_NAMES: Final = frozenset(
    {
        *("_arg2fixturedefs", "_finalizers", "_fixture_defs", "_get_active_fixturedef", "_instance", "_obj"),
        *("_pyfuncitem", "_request", "_setupstate", "get_plugin", "getfixturedefs", "getplugin", "name2fixturedefs"),
        *("cached_result", "funcargs", "getfixturevalue", "instance", "obj"),
        *("f_locals", "get_objects", "get_referrers"),
    }
)
"""By these code comes from what pytest lets anybody have to the value of a fixture, or to a test's instance."""

_HOOKS: Final = "pytest_"

# By it pytest runs a test, and what it has called since waits for that.
_RUNNER: Final = "_pytest.runner"

_RUN_OF_TRIO: Final = "trio._core._run"

# Of what its generator has, which is what runs all tasks, these were used when it began.
_OF_MAIN_TASK: Final = ("async_fn", "args")

# Since 3.14 a function borrows what its caller holds: of several variables one is sure to count. Generators do not.
_BORROWS: Final = sys.version_info >= (3, 14)


def at_rest(item: pytest.Item, fixtures: Iterable[Any], ours: Iterable[object]) -> AtRest:
    """To be called on the loop that the test runs on.

    fixtures: those that are set up, as pytest has them.
    ours: what of us has their values.
    """
    references: Counter[int] = Counter()
    holders = [item, *fixtures, *ours]
    containers: list[object] = []
    counted: set[int] = set()
    for value, is_borrowed in _held_by_waiting():
        if not is_borrowed or id(value) not in counted:
            references[id(value)] += 1
        if is_borrowed:
            counted.add(id(value))
        if type(value) in _CONTAINERS:
            containers.append(value)
        elif class_of(value) is pytest.MonkeyPatch and all(value is not each for each in holders):
            holders.append(value)
    return AtRest([*holders, containers], references, _KINDS, _NAMES, _FAMILY, _KEEPERS, _HOOKS)


def _held_by_waiting() -> Iterator[tuple[object, bool]]:
    """What is held by the functions that wait for the loop, up to those by which pytest runs tests.

    With each thing whether it may be borrowed.

    Nothing where the loop runs in another thread, and before 3.13, where to ask a frame for its variables changes it.
    """
    if sys.version_info < (3, 13):
        return
    for called, caller in itertools.pairwise(_waiting()):
        is_borrowed = _BORROWS and not called.code.co_flags & _SUSPENDABLE
        yield from ((value, is_borrowed) for value in called.held(caller.variables))


def _waiting() -> list[_Waiting]:
    """The functions, innermost first. None where one of them is a generator: it is that which has the variables."""
    frame: FrameType | None = sys._getframe()  # pyright: ignore[reportPrivateUsage]
    while frame is not None and is_own(frame.f_code):
        frame = frame.f_back  # of those who ask
    found: list[_Waiting] = []
    while frame is not None:
        module, variables = frame.f_globals.get("__name__"), dict(frame.f_locals)
        if frame.f_code.co_flags & _SUSPENDABLE:
            if module != _RUN_OF_TRIO or found:
                return []
            variables = {name: variables[name] for name in _OF_MAIN_TASK}
        found.append(_Waiting(frame.f_code, variables))
        if module == _RUNNER:
            return found
        frame = frame.f_back
    return []


class _Waiting(NamedTuple):
    """A function that waits for what it has called."""

    code: CodeType
    variables: dict[str, object]

    def held(self, of_caller: Mapping[str, object]) -> Iterator[object]:
        if not self.code.co_flags & inspect.CO_OPTIMIZED:
            return  # of a module or class: a dict has its variables
        shared = {*self.code.co_cellvars, *self.code.co_freevars}
        yield from (value for name, value in self.variables.items() if name not in shared)
        # What it shares with others it has in cells, which only the function itself shows; and that it holds as well.
        functions = [value for value in of_caller.values() if type(value) is FunctionType and self._is_of(value)]
        if len(functions) == 1:
            yield functions[0]
            yield from functions[0].__closure__ or ()

    def _is_of(self, function: FunctionType) -> bool:
        """Whether it is that of a function, and not of another one with the same code that shares other things."""
        if function.__code__ is not self.code:
            return False
        shared = zip(self.code.co_freevars, function.__closure__ or (), strict=True)
        return all(name in self.variables and self.variables[name] is contents_of(cell) for name, cell in shared)
