"""Tables that are looked at once in every turn of a loop, for tasks of theirs that have ended.

That is for debug mode, in which asyncio notes the stack for each callback before it calls it. On a stack like a test's
that takes some 35 µs, which a callback of ours would cost each task; a look takes half a microsecond.
"""

from __future__ import annotations

import asyncio
import weakref
from asyncio import base_events
from collections.abc import Callable
from contextvars import Context
from operator import methodcaller
from typing import Any, Final, final

from taskscope._diagnosis.awaitables import fields
from taskscope._diagnosis.opaque import class_of
from taskscope._table import AnyTask, TaskTable

# What asyncio's own loops call in each turn, before any code of a user's runs there.
_HOOK: Final = "_process_events"
_TURN: Final = "_run_once"

_is_done: Final[Callable[[AnyTask], bool]] = methodcaller("done")


@final
class Turns:
    """Those of one loop. With the first table its hook is put in its place, with the last one it goes."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)
        self._tables: list[TaskTable] = []
        self._hook: Callable[[Any], None] | None = None

    def add(self, table: TaskTable) -> bool:
        """Looks at a table from now on, for as long as that is open and wants it. False where the loop cannot do so."""
        if table in self._tables:
            return True
        if self._hook is None and not self._start():
            return False
        self._tables.append(table)
        return True

    def stop(self) -> None:
        self._tables.clear()
        loop: Any = self._loop()
        if self._hook is not None and fields(loop).get(_HOOK) is self._hook:
            delattr(loop, _HOOK)
        self._hook = None

    def _start(self) -> bool:
        loop: Any = self._loop()
        if not has_turns_of_asyncio(loop) or _HOOK in fields(loop):
            return False

        def process_events(events: Any) -> None:
            # Through the class: a bound method would be a cycle, and leave the loop to the garbage collector.
            loop: Any = self._loop()
            kind: Any = class_of(loop)
            kind._process_events(loop, events)
            self._look()

        self._hook = process_events
        setattr(loop, _HOOK, process_events)
        return True

    def _look(self) -> None:
        for table in [*self._tables]:
            if table.closed or not table.is_seen_each_turn:
                self._tables.remove(table)
            elif table.rows and _is_any_done([*table.rows]):
                Context().run(table.let_ended_go)  # as a callback: what a finalizer spawns then is nobody's
        if not self._tables:
            self.stop()


def _is_any_done(tasks: list[AnyTask]) -> bool:
    try:
        return any(map(_is_done, tasks))
    except Exception:  # of a class of a user's, and this is no place to raise
        return False


def has_turns_of_asyncio(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether its turns are asyncio's own, and not a test's, or a plugin's which has time pass at once."""
    turn: Any = getattr(getattr(class_of(loop), _TURN, None), "__code__", None)
    return turn is not None and turn.co_filename == base_events.__file__ and _TURN not in fields(loop)
