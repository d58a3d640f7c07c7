"""The things that a function's code names: a fixture can end in its teardown what they lead to."""

from __future__ import annotations

import contextvars
import dis
import functools
import sys
import types
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, final

from taskscope._code import codes_in
from taskscope._diagnosis.awaitables import fields
from taskscope._diagnosis.opaque import class_of, package_of
from taskscope._imports import imported_by
from taskscope.pytest_plugin._mocks import attributes_of_mock, given_in, is_mock
from taskscope.pytest_plugin._reach import LIBRARIES, MACHINERY

Call = tuple[object, Sequence[object]]
"""A function, and the things that it has at hand: its arguments, and what a generator has in its variables."""

_FUNCTIONS: Final = 300
"""Functions that are looked at: the fixture's, those that it calls, and so on."""

_CODES: Final = 2_000
"""Pieces of code of which it is remembered what they name: test after test the same fixtures are asked."""

_THINGS: Final = 100
"""Things of which one function is taken to name attributes."""

_WRAPPINGS: Final = 10
"""Wrappers that are taken off a function, one inside the other."""

# Their functions name what is everybody's: `asyncio.all_tasks` the tasks of all, AnyIO's what it knows of every task.
_NOT_FOLLOWED: Final = sys.stdlib_module_names | MACHINERY | LIBRARIES

# By these a block, or an exit stack, ends what was entered there, and no code names them.
_EXITS: Final = ("__aexit__", "__exit__")
_ENTERING: Final = frozenset({"enter_context", "enter_async_context"})
_LEAVES_BLOCK: Final = dis.opmap["WITH_EXCEPT_START"]

_mro: Final = type.__dict__["__mro__"].__get__
_namespace_of_class: Final = type.__dict__["__dict__"].__get__
_namespace_of_module: Final = vars(types.ModuleType)["__dict__"].__get__


def named_by(calls: Iterable[Call]) -> list[object]:
    """The values that the code of functions names, and of those that they call, outside of libraries' own code.

    These are globals, attributes of modules, also of those that a function imports itself, and attributes of what the
    function has at hand: of the object whose method it is, say, and of the class of that. Of a class, all that it has
    in it. A walk goes through no module and no class.
    """
    naming = _Naming()
    for function, things in calls:
        naming.follow(function, things)
    return naming.found_by_all()


def with_namespace(value: object) -> list[object]:
    """A value; with a class what it and its bases have in them, save for those that are libraries'."""
    if not issubclass(class_of(value), type):
        return [value]
    return [value, *(part for base in _bases(value) for part in _namespace_of_class(base).values())]


def is_followed(function: object) -> bool:
    """Whether it is a function in Python, and no library's that names what is everybody's."""
    if type(function) is not types.FunctionType:
        return False
    module: object = function.__globals__.get("__name__")
    return type(module) is not str or module.partition(".")[0] not in _NOT_FOLLOWED


def unwrapped(function: Any) -> tuple[Any, list[object]]:
    """The function itself, without what is bound to it and wrapped round it, and the things that are bound."""
    bound: list[object] = []
    for _ in range(_WRAPPINGS):
        kind = class_of(function)
        if kind is types.MethodType:
            bound.append(function.__self__)
            function = function.__func__
        elif kind is functools.partial:
            bound += (*function.args, *function.keywords.values())
            function = function.func
        elif kind is classmethod or kind is staticmethod:
            function = function.__func__
        elif kind is property:
            function = function.fget
        elif kind is types.FunctionType and "__wrapped__" in function.__dict__:
            function = function.__dict__["__wrapped__"]
        else:
            break
    return function, bound


@final
class _Naming:
    """Goes from functions to those that they call, and finds what they name on the way."""

    def __init__(self) -> None:
        self._calls: list[tuple[types.FunctionType, list[object]]] = []
        self._known: set[tuple[int, ...]] = set()
        self._found: dict[int, object] = {}

    def follow(self, function: object, things: Sequence[object]) -> None:
        """Has a function looked at that is called where there are these things at hand."""
        called, bound = unwrapped(function)
        at_hand = [*bound, *things]
        key = (id(called), *map(id, at_hand[:_THINGS]))
        if is_followed(called) and len(self._calls) < _FUNCTIONS and key not in self._known:
            self._known.add(key)
            self._calls.append((called, at_hand))

    def found_by_all(self) -> list[object]:
        for function, things in self._calls:  # which grow meanwhile
            self._look_at(function, things)
        return [part for value in self._found.values() for given in given_in(value) for part in with_namespace(given)]

    def _look_at(self, function: types.FunctionType, things: list[object]) -> None:
        names = _names_of(function.__code__)
        values = _globals_of(function, names)
        at_hand = [*things, *values]
        for value in values:
            self._found.setdefault(id(value), value)
            self.follow(value, things)
        for thing in at_hand:  # which grow meanwhile
            for value in _attributes(thing, names):
                self._found.setdefault(id(value), value)
                self.follow(value, [thing])
                if len(at_hand) < _THINGS:
                    at_hand.append(value)


def _globals_of(function: types.FunctionType, names: list[str]) -> list[object]:
    values = [function.__globals__[name] for name in names if name in function.__globals__]
    values += imported_by(function)
    seen: set[int] = set()
    for value in values:  # which grow meanwhile
        if type(value) is types.ModuleType and id(value) not in seen:
            seen.add(id(value))
            namespace = _namespace_of_module(value)
            values += [namespace[name] for name in names if name in namespace]
    variables: list[Any] = [value for value in values if type(value) is contextvars.ContextVar]
    return values + [variable.get(None) for variable in variables]


def _attributes(thing: object, names: list[str]) -> Iterator[object]:
    """Those attributes of a thing, and of its class, that have these names. Nothing of a user's code is called."""
    kind: Any = thing if issubclass(class_of(thing), type) else class_of(thing)
    for base in _bases(kind):
        namespace = _namespace_of_class(base)
        yield from (namespace[name] for name in names if name in namespace)
    if kind is not thing and package_of(kind) not in MACHINERY | LIBRARIES:
        own = fields(thing)
        yield from (own[name] for name in names if name in own)
        if is_mock(kind):
            yield from attributes_of_mock(own, names)


def _bases(kind: Any) -> list[type]:
    """A class and those that it is derived from, save for libraries'."""
    return [base for base in _mro(kind) if package_of(base) not in _NOT_FOLLOWED]


@functools.lru_cache(_CODES)
def _names_of(code: types.CodeType) -> list[str]:
    return list(dict.fromkeys(_names_in(code)))


def _names_in(code: types.CodeType) -> Iterator[str]:
    for each in codes_in(code):
        yield from each.co_names
        if not _ENTERING.isdisjoint(each.co_names) or _LEAVES_BLOCK in each.co_code[::2]:
            yield from _EXITS
