"""Whether what is alive names `asyncio.all_tasks`, by which any task can be cancelled that nobody holds.

asyncio knows its tasks weakly, and that leads nowhere for the proof: or nothing could ever be proven. But the usual
shutdown of a program asks it for all of them. So code is read for who asks: that which is alive, and what it calls, as
far as its names tell. It is read from the nearest on, and not without end.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import sys
import types
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Final, cast, final

from taskscope._diagnosis.awaitables import done_callbacks, is_future, is_task
from taskscope._diagnosis.opaque import class_of, module_of
from taskscope._diagnosis.own_fields import own_fields, own_values

FUNCTIONS: Final = 500
"""Pieces of code that are read. A program has thousands, and a proof that reads them all would come too late."""

OBJECTS: Final = 50_000
"""Objects that are looked at on the way to code."""

ALIKE: Final = 100
"""Coroutines of one function that are looked into. A server has thousands that differ only in whom they serve."""

COLLECTED: Final = 1_000
"""Things that are looked at in a collection of a user's."""

NAMES: Final = frozenset({"all_tasks", "_all_tasks", "_scheduled_tasks", "_eager_tasks"})

Names = frozenset[str]

# They name all tasks themselves, to run them or when a program ends, or lead to who does: nothing would be proven.
_LIBRARIES: Final = sys.stdlib_module_names | {
    "_pytest", "anyio", "pluggy", "pytest", "pytest_asyncio", "pytest_trio", "taskscope", "trio", "uvloop", "xdist",
}  # fmt: skip

# Libraries whose objects call what they hold: handles, transports, threads, futures of executors.
_CALLERS: Final = frozenset({"asyncio", "concurrent", "selectors", "threading", "uvloop", "functools"})

_GENERATORS: Final = frozenset(map(id, (types.CoroutineType, types.GeneratorType, types.AsyncGeneratorType)))
_SEQUENCES: Final = (list, tuple, set, frozenset, deque)
_LEAD_NOWHERE: Final = frozenset(
    map(id, (types.NoneType, bool, int, float, complex, str, bytes, types.CodeType, types.FrameType))
)

_mro: Final[Callable[[type], tuple[type, ...]]] = type.__dict__["__mro__"].__get__
_namespace_of_class: Final[Callable[[type], Any]] = type.__dict__["__dict__"].__get__
_namespace_of_module: Final = vars(types.ModuleType)["__dict__"].__get__


def names_all_tasks(alive: Iterable[object]) -> bool:
    """Whether any of these things, or what they call, names that which knows all tasks.

    alive: functions, coroutines, handles, threads, and whatever else can lead to code that will run.
    """
    return _Search(alive).finds_it()


def is_library(namespace: dict[str, Any]) -> bool:
    """Whether code with these globals is no user's. The demo's programs stand for a user's, though they lie in here."""
    module: object = namespace.get("__name__")
    return type(module) is str and _is_library(module)


def _is_library(module: str) -> bool:
    return module.partition(".")[0] in _LIBRARIES and not module.startswith("taskscope._demo")


@final
class _Search:
    """To be dropped when it has its answer: it holds what it has come to."""

    def __init__(self, alive: Iterable[object]) -> None:
        # Objects, each with the names by which the code that has it can go on from there. None: by any.
        self._ahead: list[tuple[Any, Names | None]] = []
        self._seen: set[tuple[int, int]] = set()
        self._read: dict[int, Names] = {}
        self._followed: set[int] = set()
        self._coroutines: Counter[int] = Counter()
        for thing in alive:
            self._add(thing, None)

    def finds_it(self) -> bool:
        for thing, names in self._ahead:  # which grow meanwhile
            if thing is asyncio.all_tasks:
                return True  # under another name, or as a callback
            if class_of(thing) is types.FunctionType:
                if not NAMES.isdisjoint(self._names_of(thing) or ()):
                    return True
                if self._is_like_another(thing):
                    continue
            for value, by in self._steps(thing, class_of(thing), names):
                self._add(value, by)
        return False

    def _add(self, thing: object, names: Names | None) -> None:
        if class_of(thing) is types.CoroutineType:
            thing = self._past_common_ones(thing)
        key = id(thing), id(names)
        if id(class_of(thing)) in _LEAD_NOWHERE or key in self._seen or len(self._ahead) >= OBJECTS:
            return
        self._seen.add(key)
        self._ahead.append((thing, names))

    def _past_common_ones(self, coroutine: Any) -> object:
        """The first coroutine on an await chain of whose kind not many were looked into. None where there is none."""
        while class_of(coroutine) is types.CoroutineType:
            code = id(coroutine.cr_code)
            if self._coroutines[code] < ALIKE:
                self._coroutines[code] += 1
                return coroutine
            coroutine = coroutine.cr_await
        return None

    def _is_like_another(self, function: types.FunctionType) -> bool:
        """Whether a function has nothing that another one with the same code has not led to."""
        if function.__closure__ or function.__defaults__ or function.__kwdefaults__ or function.__dict__:
            return False
        code = id(function.__code__)
        is_known = code in self._followed
        self._followed.add(code)
        return is_known

    def _names_of(self, function: Any) -> Names | None:
        """The names by which a function goes on from what it has. Those of a library's are not asked for."""
        if class_of(function) is not types.FunctionType or is_library(function.__globals__):
            return None
        code = function.__code__
        found = self._read.get(id(code))
        if found is None:
            found = frozenset(names_in(code)) if len(self._read) < FUNCTIONS else frozenset[str]()
            self._read[id(code)] = found
        return found

    def _steps(self, thing: Any, kind: type[Any], names: Names | None) -> Iterator[tuple[object, Names | None]]:
        if kind is types.FunctionType:
            by = self._names_of(thing)
            return ((value, by) for value in _had_by(thing, by or ()))
        if kind is types.MethodType:
            return iter([(thing.__func__, None), (thing.__self__, self._names_of(thing.__func__))])
        if id(kind) in _GENERATORS:
            held = gc.get_referents(thing)  # its function before its variables
            by = next((self._names_of(each) for each in held if class_of(each) is types.FunctionType), None)
            return ((value, by) for value in held)
        return ((value, names) for value in _led_to(thing, kind, names))


def names_in(code: types.CodeType) -> Iterator[str]:
    """The names in a piece of code, in the functions that it makes, and of what it looks for by `getattr`."""
    yield from code.co_names
    for constant in code.co_consts:
        if type(constant) is types.CodeType:
            yield from names_in(constant)
        elif type(constant) is str and constant in NAMES:
            yield constant


def _had_by(function: types.FunctionType, names: Iterable[str]) -> Iterator[object]:
    """What a function has in hand when it is called: its globals, shared variables and defaults."""
    namespace = function.__globals__
    yield from (namespace[name] for name in names if name in namespace)
    yield from function.__closure__ or ()
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()
    yield function.__dict__.get("__wrapped__")


def _led_to(thing: Any, kind: type[Any], names: Names | None) -> Iterable[object]:
    if kind is types.CellType:
        return gc.get_referents(thing)
    if kind is functools.partial:
        return [thing.func, *thing.args, *thing.keywords.values()]
    if issubclass(kind, (types.BuiltinMethodType, types.MethodWrapperType)):
        return [thing.__self__]
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
    if kind is asyncio.TimerHandle or kind is asyncio.Handle:
        return [thing._callback, *(thing._args or ())]  # there can be very many of them
    if is_future(thing):
        return [] if is_task(thing) else done_callbacks(thing)  # tasks that are alive are looked at as such
    if issubclass(kind, asyncio.AbstractEventLoop):
        return []
    module = module_of(kind) or ""
    if not _is_library(module):
        fields = [value for name, value in own_fields(thing) if names is not None and name in names]
        methods = (each for each in _methods(kind, names) if each.__name__ != "__init__")
        return [*fields, *(types.MethodType(each, thing) for each in methods)]
    if names is not None or module.partition(".")[0] not in _CALLERS:
        return []
    return gc.get_referents(thing) if module.startswith("uvloop") else own_values(thing)


def _first(things: Iterable[object], names: Names | None) -> list[object]:
    """What is in a collection: of a loop's or library's own all, of one that code only names what there is use in."""
    try:
        return list(islice(things, OBJECTS if names is None else COLLECTED))
    except RuntimeError:  # another thread has changed it meanwhile
        return []


def _methods(kind: type[Any], names: Names | None) -> list[Any]:
    """The functions that a user's class has under some names, and those that Python calls by itself."""
    found: dict[str, Any] = {}
    for base in _mro(kind):
        if _is_library(module_of(base) or ""):
            continue
        for name, value in list(_namespace_of_class(base).items()):
            is_called = names is None or name in names or (name.startswith("__") and name.endswith("__"))
            if is_called and (name not in found or names is None or "super" in names):
                found[f"{base.__qualname__}.{name}" if name in found else name] = _plain(value)
    return [function for function in found.values() if class_of(function) is types.FunctionType]


def _plain(value: Any) -> Any:
    if class_of(value) is property:
        return value.fget
    return value.__func__ if class_of(value) in (staticmethod, classmethod) else value
