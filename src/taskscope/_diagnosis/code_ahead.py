"""What code can go on to from an object that it has, as far as its names tell: functions that it calls, and their like.

Nobody's code is run for that, and nothing is walked through that a library keeps to itself.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import sys
import threading
import types
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Final, cast

from taskscope._diagnosis.awaitables import done_callbacks, is_future, is_task
from taskscope._diagnosis.opaque import class_of, module_of
from taskscope._diagnosis.own_fields import own_fields, own_values
from taskscope._imports import Import, imported_by, imports_of

# The folders of installed packages are called so.
_INSTALLED: Final = ("site-packages", "dist-packages")

LARGEST: Final = 50_000
"""Things that are looked at in a collection of a loop's or a library's."""

COLLECTED: Final = 1_000
"""The same in one that a user's code only names."""

Names = frozenset[str]

# They name all tasks themselves, to run them or when a program ends, or lead to who does: nothing would be proven.
_LIBRARIES: Final = sys.stdlib_module_names | {
    "_pytest", "anyio", "execnet", "pluggy", "pytest", "pytest_asyncio", "pytest_trio", "taskscope", "trio", "uvloop",
    "xdist",
}  # fmt: skip

# Libraries whose objects call what they hold: handles, transports, threads, futures of executors.
_CALLERS: Final = frozenset(
    {"asyncio", "concurrent", "functools", "multiprocessing", "selectors", "threading", "uvloop"}
)

_SEQUENCES: Final = (list, tuple, set, frozenset, deque)

_mro: Final[Callable[[type], tuple[type, ...]]] = type.__dict__["__mro__"].__get__
_namespace_of_class: Final[Callable[[type], Any]] = type.__dict__["__dict__"].__get__
_namespace_of_module: Final = vars(types.ModuleType)["__dict__"].__get__


def is_library(namespace: dict[str, Any]) -> bool:
    """Whether code with these globals is no user's. The demo's programs stand for a user's, though they lie in here."""
    return _is_library(module_in(namespace))


def module_in(namespace: dict[str, Any]) -> str:
    """The name of the module that has these globals, empty where they say nothing."""
    module: object = namespace.get("__name__")
    return module if type(module) is str else ""


def _is_library(module: str) -> bool:
    return module.partition(".")[0] in _LIBRARIES and not module.startswith("taskscope._demo")


def had_by(function: types.FunctionType, names: Iterable[str]) -> Iterator[object]:
    """What a function has in hand when it is called: its globals, shared variables and defaults."""
    namespace = function.__globals__
    yield from (namespace[name] for name in names if name in namespace)
    if not is_library(namespace):
        yield from imported_by(function)
    yield from function.__closure__ or ()
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()
    yield function.__dict__.get("__wrapped__")


def imports_more(function: types.FunctionType) -> bool:
    """Whether a function imports, when it is called, what is not there yet. Nobody knows what that does.

    Those of installed packages count for nothing: what they import so is what they need themselves.
    """
    file = function.__code__.co_filename
    return not any(folder in file for folder in _INSTALLED) and any(_is_new(made) for made in imports_of(function))


def _is_new(made: Import) -> bool:
    if _is_library(made.module):
        return False
    module: object = sys.modules.get(made.module)
    if not issubclass(class_of(module), types.ModuleType):
        return True
    namespace = _namespace_of_module(module)
    return any(name not in namespace and name != "*" for name in made.names)


def led_to(thing: Any, kind: type[Any], names: Names | None) -> Iterable[object]:
    """What code comes to from an object by its names; None for those of a library, which can call whatever it has."""
    if kind is types.CellType:
        return gc.get_referents(thing)
    if kind is functools.partial:
        return [thing.func, *thing.args, *thing.keywords.values()]
    if issubclass(kind, (types.BuiltinMethodType, types.MethodWrapperType)):
        return [thing.__self__]
    if issubclass(kind, weakref.WeakMethod):
        return [cast("Any", weakref.WeakMethod).__call__(thing)]
    if issubclass(kind, weakref.ReferenceType):
        return [cast("Any", weakref.ReferenceType).__call__(thing)]
    if issubclass(kind, dict):
        return _first(cast("Any", dict).values(thing), names)
    for base in _SEQUENCES:
        if issubclass(kind, base):
            return _first(cast("Any", base).__iter__(thing), names)
    if issubclass(kind, types.ModuleType):
        namespace = _namespace_of_module(thing)
        return [] if is_library(namespace) else [namespace[name] for name in names or () if name in namespace]
    if issubclass(kind, type):
        return _methods(thing, names)
    return _led_to_by_object(thing, kind, names)


def _led_to_by_object(thing: Any, kind: type[Any], names: Names | None) -> Iterable[object]:
    if kind is asyncio.events.TimerHandle or kind is asyncio.events.Handle:
        return [thing._callback, *(thing._args or ())]  # there can be very many of them
    if is_future(thing):
        return [] if is_task(thing) else done_callbacks(thing)  # tasks that are alive are looked at as such
    if issubclass(kind, asyncio.events.AbstractEventLoop):
        return []
    module = module_of(kind) or ""
    if not _is_library(module):
        fields = [value for name, value in own_fields(thing) if name in names] if names is not None else []
        if issubclass(kind, (threading.Thread, asyncio.events.Handle)):
            fields = own_values(thing)
        methods = (each for each in _methods(kind, names) if each.__name__ != "__init__")
        return [*fields, *(types.MethodType(each, thing) for each in methods)]
    if names is not None or module.partition(".")[0] not in _CALLERS:
        return []
    return gc.get_referents(thing) if module.startswith("uvloop") else own_values(thing)


def _first(things: Iterable[object], names: Names | None) -> list[object]:
    """What is in a collection: of a loop's or library's own all, of one that code only names what there is use in."""
    try:
        return list(islice(things, LARGEST if names is None else COLLECTED))
    except RuntimeError:  # another thread has changed it meanwhile
        return []


def _methods(kind: type[Any], names: Names | None) -> list[Any]:
    """The functions that a user's class has under some names, and those that Python calls by itself."""
    found: list[Any] = []
    known: set[str] = set()
    for base in _mro(kind):
        if _is_library(module_of(base) or ""):
            continue
        namespace = list(_namespace_of_class(base).items())
        called = [(name, value) for name, value in namespace if names is None or name in names or _is_special(name)]
        # what a method replaces is called only by way of `super()`
        found += [value for name, value in called if name not in known or names is None or "super" in names]
        known.update(name for name, _ in called)
    return [function for function in map(_plain, found) if class_of(function) is types.FunctionType]


def _is_special(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def _plain(value: Any) -> Any:
    if class_of(value) is property:
        return value.fget
    return value.__func__ if class_of(value) in (staticmethod, classmethod) else value
