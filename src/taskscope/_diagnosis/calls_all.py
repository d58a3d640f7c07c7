"""Whether what is alive names `asyncio.all_tasks`, by which any task can be cancelled that nobody holds.

asyncio knows its tasks weakly, and that leads nowhere for the proof: or nothing could ever be proven. But the usual
shutdown of a program asks it for all of them. So code is read for who asks: that which is alive, and what it calls, as
far as its names tell. It is read from the nearest on, and not without end. Who imports what is not there yet may ask.

So it is with Ctrl-C, which a runner answers by cancelling its main task: that somebody could press it counts for
nothing, but a test of that has something alive that sends it. And so it is with what ends the run of a loop, and with
that the body in it: `sys.exit` in a task or callback, which the loop lets through, and the loop's `stop`.
"""

from __future__ import annotations

import _thread
import asyncio
import gc
import os
import signal
import sys
import types
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Final, final

from taskscope._code import codes_in
from taskscope._diagnosis.code_ahead import Names, had_by, imports_more, is_library, led_to, module_in
from taskscope._diagnosis.opaque import class_of

FUNCTIONS: Final = 500
"""Pieces of code that are read. A program has thousands, and a proof that reads them all would come too late."""

OBJECTS: Final = 50_000
"""Objects that are looked at on the way to code."""

ALIKE: Final = 100
"""Coroutines of one function that are looked into. A server has thousands that differ only in whom they serve."""

NAMES: Final = frozenset(
    {
        *("all_tasks", "_all_tasks", "_scheduled_tasks", "_eager_tasks", "get_objects", "get_referrers"),
        *("raise_signal", "pthread_kill", "interrupt_main"),
    }
)

ENDING_THE_RUN: Final = frozenset({"SystemExit", "KeyboardInterrupt", "exit", "_exit"})
"""Names by which the run of a loop is ended, whatever its main task waits for. With them its `stop` counts as well."""

BY_TIMERS: Final = NAMES | {"_scheduled"}
"""The same, with that by which somebody comes to a loop's timers: to call them before they are due, say."""

ENDERS: Final = frozenset({"pytest_timeout"})
"""Modules all of whose doing is to end a test that has had its time."""

# Who only names the first may mean a process, and who only the other may just handle it.
_TOGETHER: Final = frozenset({"kill", "SIGINT"})

# Under another name, or as callbacks.
_CALLBACKS: Final = frozenset(map(id, (asyncio.tasks.all_tasks, os.kill, signal.raise_signal, _thread.interrupt_main)))
_ENDING_CALLBACKS: Final = frozenset(map(id, (sys.exit, os._exit, asyncio.base_events.BaseEventLoop.stop)))

# Of a loop: much else can be stopped.
_STOP: Final = "stop"
_GETTING_THE_LOOP: Final = frozenset({"get_running_loop", "get_event_loop"})

_GENERATORS: Final = frozenset(map(id, (types.CoroutineType, types.GeneratorType, types.AsyncGeneratorType)))
_LEAD_NOWHERE: Final = frozenset(
    map(id, (types.NoneType, bool, int, float, complex, str, bytes, types.CodeType, types.FrameType))
)


def can_cancel_any(alive: Iterable[object], names: Names = NAMES, kinds: tuple[type, ...] = ()) -> bool:
    """Whether any of these things, or what they call, names that which knows all tasks, or sends Ctrl-C.

    alive: functions, coroutines, handles, threads, and whatever else can lead to code that will run.
    kinds: who has an object of one of these classes counts as well.
    """
    return _Search(alive, names, kinds).finds_it()


@final
class _Search:
    """To be dropped when it has its answer: it holds what it has come to."""

    def __init__(self, alive: Iterable[object], names: Names, kinds: tuple[type, ...]) -> None:
        self._looked_for = names
        self._kinds = kinds
        self._counts_ends = names >= ENDING_THE_RUN
        self._callbacks = _CALLBACKS | _ENDING_CALLBACKS if self._counts_ends else _CALLBACKS
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
            if id(thing) in self._callbacks or (self._kinds and issubclass(class_of(thing), self._kinds)):
                return True
            if self._stops(names) and issubclass(class_of(thing), asyncio.events.AbstractEventLoop):
                return True
            if class_of(thing) is types.FunctionType:
                if module_in(thing.__globals__) in ENDERS:
                    continue
                found = self._names_of(thing) or frozenset[str]()
                if not self._looked_for.isdisjoint(found) or found >= _TOGETHER:
                    return True
                if self._counts_ends and found and imports_more(thing):
                    return True
                if self._stops(found) and not found.isdisjoint(_GETTING_THE_LOOP):
                    return True
                if self._is_like_another(thing):
                    continue
            for value, by in self._steps(thing, class_of(thing), names):
                self._add(value, by)
        return False

    def _stops(self, names: Names | None) -> bool:
        """Whether code with these names stops the loop, if it has one."""
        return self._counts_ends and names is not None and _STOP in names

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
            found = frozenset(_names_in(code, self._looked_for)) if len(self._read) < FUNCTIONS else frozenset[str]()
            self._read[id(code)] = found
        return found

    def _steps(self, thing: Any, kind: type[Any], names: Names | None) -> Iterator[tuple[object, Names | None]]:
        if kind is types.FunctionType:
            by = self._names_of(thing)
            return ((value, by) for value in had_by(thing, by or ()))
        if kind is types.MethodType:
            return iter([(thing.__func__, None), (thing.__self__, self._names_of(thing.__func__))])
        if id(kind) in _GENERATORS:
            held = gc.get_referents(thing)  # its function before its variables
            by = next((self._names_of(each) for each in held if class_of(each) is types.FunctionType), None)
            return ((value, by) for value in held)
        return ((value, names) for value in led_to(thing, kind, names))


def _names_in(code: types.CodeType, looked_for: Names) -> Iterator[str]:
    """The names in a piece of code, in the functions that it makes, and of what it looks for by `getattr`."""
    for each in codes_in(code):
        yield from each.co_names
        yield from (constant for constant in each.co_consts if type(constant) is str and constant in looked_for)
