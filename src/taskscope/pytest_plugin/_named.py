"""The global things that a fixture's function names: it can end in its teardown what they lead to."""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Iterator
from typing import Any, Final

from taskscope._diagnosis.opaque import class_of

_FUNCTIONS: Final = 100
"""Functions that are looked at: the fixture's, those that it calls, and so on."""

_namespace_of_class: Final = type.__dict__["__dict__"].__get__
_namespace_of_module: Final = vars(types.ModuleType)["__dict__"].__get__


def named_by(function: object) -> list[object]:
    """The values of globals that a function's code names, and those that it calls, outside the standard library.

    Of a module it is what the code names of it, of a class what the class has in it: a walk goes through neither.
    """
    found: list[object] = []
    functions = [_plain(function)]
    seen = {id(functions[0])}
    for called in functions:  # which grow meanwhile
        if type(called) is not types.FunctionType or _is_of_library(called):
            continue
        for value in _globals_of(called):
            if id(value) in seen:
                continue
            seen.add(id(value))
            found += with_namespace(value)
            if len(functions) < _FUNCTIONS:
                functions.append(_plain(value))
    return found


def with_namespace(value: object) -> list[object]:
    """A value; with a class what it has in it."""
    return [value, *_namespace_of_class(value).values()] if issubclass(class_of(value), type) else [value]


def _globals_of(function: types.FunctionType) -> list[object]:
    names = set(_names_in(function.__code__))
    values = [function.__globals__[name] for name in names if name in function.__globals__]
    for value in list(values):
        if type(value) is types.ModuleType:
            namespace = _namespace_of_module(value)
            values += [namespace[name] for name in names if name in namespace]
    return values


def _names_in(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if type(constant) is types.CodeType:
            yield from _names_in(constant)


def _is_of_library(function: types.FunctionType) -> bool:
    """Whether it is the standard library's: `asyncio.all_tasks` names the tasks of all."""
    module: object = function.__globals__.get("__name__")
    return type(module) is str and module.partition(".")[0] in sys.stdlib_module_names


def _plain(function: Any) -> Any:
    """The function itself, without what is bound to it and wrapped round it."""
    for _ in range(_FUNCTIONS):
        if type(function) is types.MethodType:
            function = function.__func__
        elif type(function) is functools.partial:
            function = function.func
        elif type(function) is types.FunctionType and "__wrapped__" in function.__dict__:
            function = function.__dict__["__wrapped__"]
        else:
            break
    return function
