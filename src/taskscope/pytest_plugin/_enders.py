"""The functions by which fixtures and test cases end what they have, with what is at hand there."""

from __future__ import annotations

import functools
import gc
import types
import unittest
from collections.abc import Iterator
from typing import Any, Final, cast

from taskscope._diagnosis.awaitables import fields
from taskscope._diagnosis.opaque import class_of
from taskscope.pytest_plugin._named import Call, is_followed, unwrapped
from taskscope.pytest_plugin._traces import class_in, contents_of

_OF_CASE: Final = ("asyncTearDown", "tearDown")

# By these a function comes from what pytest hands it to the test's class.
_WAYS_TO_CLASS: Final = frozenset({"cls", "instance"})

_PARTS: Final = 100
"""Finalizers that are looked at."""

_GENERATORS: Final = (types.GeneratorType, types.AsyncGeneratorType)

_mro: Final = type.__dict__["__mro__"].__get__
_name: Final = type.__dict__["__name__"].__get__
_namespace: Final = type.__dict__["__dict__"].__get__


def enders_of_fixture(function: object, test_class: type | None, values: list[object]) -> Iterator[Call]:
    """A fixture's function; its finalizers; and the functions of xunit's style that a fixture of pytest's own calls.

    test_class: of the test for which it was set up.
    values: its value, its finalizers and its steps.
    """
    things = list(_at_hand(values))
    for each in _functions(function):
        classes = [] if test_class is None or not _knows(each, test_class) else [test_class]
        yield each, [*things, *classes]
    for value in values:
        yield from ((finalizer, things) for finalizer in _first_parts(value))
    for cleanup in class_cleanups(function, test_class):
        yield from _cleanup(cleanup, test_class)


def enders_of_case(case: unittest.TestCase) -> Iterator[Call]:
    """What unittest calls at the end of a case: its methods, and its cleanups so far."""
    for base in _mro(class_of(case)):
        yield from ((_namespace(base)[name], [case]) for name in _OF_CASE if name in _namespace(base))
    for cleanup in _entries(fields(case).get("_cleanups")):
        yield from _cleanup(cleanup, case)


def class_cleanups(function: object, test_class: type | None) -> list[Any]:
    """Those of a case's class, where it is a fixture of pytest's own that has them called."""
    if test_class is None or not issubclass(test_class, unittest.TestCase) or not _is_pytests(function):
        return []
    return _entries(_namespace(test_class).get("_class_cleanups"))


def _cleanup(cleanup: Any, thing: object) -> Iterator[Call]:
    """As unittest keeps it: a function with its arguments."""
    if type(cleanup) is tuple and len(cleanup) == 3:  # pyright: ignore[reportUnknownArgumentType]
        function, args, kwargs = cast("tuple[object, tuple[object, ...], dict[str, object]]", cleanup)
        yield function, [thing, *args, *kwargs.values()]


def _entries(cleanups: object) -> list[Any]:
    return list(cleanups) if type(cleanups) is list else []  # pyright: ignore[reportUnknownArgumentType]


def _functions(function: object) -> list[object]:
    """A fixture's function, or those that one of pytest's own has in its closure."""
    plain, _ = unwrapped(function)
    if not _is_pytests(plain):
        return [function]
    return [contents_of(cell) for cell in plain.__closure__ or ()]


def _is_pytests(function: object) -> bool:
    plain, _ = unwrapped(function)
    return type(plain) is types.FunctionType and str(plain.__globals__.get("__name__")).startswith("_pytest.")


def _knows(function: object, test_class: type) -> bool:
    """Whether a function is one of a test's class, or asks for that."""
    plain, _ = unwrapped(function)
    if not is_followed(plain):
        return False
    names = {_name(base) for base in _mro(test_class)}
    return class_in(plain.__code__.co_qualname) in names or not _WAYS_TO_CLASS.isdisjoint(plain.__code__.co_names)


def _at_hand(values: list[object]) -> Iterator[object]:
    """A fixture's value, and what its function has in variables while it waits for the teardown."""
    for value in values:
        yield value
        for part in _first_parts(value):
            parts = (*part.args, *part.keywords.values()) if type(part) is functools.partial else (part,)
            for each in parts:
                if class_of(each) in _GENERATORS:
                    yield from gc.get_referents(each)


def _first_parts(value: object) -> list[Any]:
    """Of a list, as finalizers are in, what is in it, and else the value."""
    return value[:_PARTS] if type(value) is list else [value]  # pyright: ignore[reportUnknownVariableType]
