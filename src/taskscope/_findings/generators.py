"""Asynchronous generators that were started and never closed.

Python calls a hook when one is started: that is when it can be told whose it is. asyncio and Trio have a hook of their
own there, which is called as well.
"""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from types import MethodType
from typing import Any, final

from taskscope._diagnosis.awaitables import fields
from taskscope._diagnosis.safely import safely
from taskscope._diagnosis.stack import task_chain
from taskscope._findings.found import Found, Looking
from taskscope._findings.notes import Notes
from taskscope._findings.owners import Origin, origin_here
from taskscope._frames import frame_at
from taskscope._policy import Policy
from taskscope._report import Finding
from taskscope._table import TaskTable

Started = AsyncGenerator[Any, Any]
Hook = Callable[[Started], None]


@final
class Generators(Looking):
    def __init__(self, table: TaskTable, policy: Policy) -> None:
        super().__init__(table, policy)
        self._notes: _Notes | None = None
        self._closing: weakref.WeakSet[Started] = weakref.WeakSet()

    def begin(self) -> None:
        self._notes = _notes_of_this_thread()
        self._notes.acquire()

    def resume(self) -> None:
        if self._notes is not None:
            self._notes.put_hook()

    def finish(self) -> None:
        if self._notes is not None:
            self._notes.release()

    def found(self) -> list[Found]:
        if self._notes is None:
            return []
        mine = [
            (generator, origin)
            for generator, origin in self._notes.started_under(self.table)
            if not generator.ag_running or generator in self._closing
        ]
        if not mine:
            return []
        in_use = _ids_in_frames_of_tasks(self.table)
        # What one of them iterates is closed, or let go, when that one is closed.
        in_use |= {id(held) for generator, _ in mine for held in gc.get_referents(generator)}
        return [
            self._found(generator, origin)
            for generator, origin in mine
            if id(generator) not in in_use or generator in self._closing
        ]

    def _found(self, generator: Any, origin: Origin) -> Found:
        frame = generator.ag_frame
        name = safely(lambda: generator.__qualname__, "<unknown>")

        async def close() -> None:
            self._closing.add(generator)
            await generator.aclose()

        stack = (frame_at(frame.f_code, frame.f_lasti),)
        finding = Finding("generator", name, spawn_site=origin.place, stack=stack)
        return Found(finding, (generator,), close=close, origin=origin)

    def coverage(self) -> tuple[str, ...]:
        if self._notes is None or self._notes.is_hook_there():
            return ()
        return ("asynchronous generators were not all seen: the hook that sees them start was replaced",)


@final
class _Notes:
    """Who has started which generator in one thread, while any scope there asks for that."""

    def __init__(self) -> None:
        self._users = 0
        self._started: Notes[tuple[weakref.ref[Started], Origin]] = Notes(lambda note: _frame_of(note[0]()) is None)
        self._before: Hook | None = None
        # Kept, for each time that a method is asked for it is another object.
        self._hook: Hook = self._note

    def acquire(self) -> None:
        self._users += 1
        self.put_hook()

    def put_hook(self) -> None:
        """Puts the hook in its place. A loop has its own there while it runs, and leaves none of ours when it stops."""
        before = sys.get_asyncgen_hooks().firstiter
        if before is not self._hook:
            self._before = before
            sys.set_asyncgen_hooks(firstiter=self._hook)

    def release(self) -> None:
        self._users -= 1
        if self._users:
            return
        self._started.clear()
        if self.is_hook_there():
            sys.set_asyncgen_hooks(firstiter=self._before)
            self._before = None
        # Otherwise somebody calls ours from theirs, or an event loop has put its own in the place of it.

    def is_hook_there(self) -> bool:
        return sys.get_asyncgen_hooks().firstiter is self._hook

    def started_under(self, table: TaskTable) -> list[tuple[Any, Origin]]:
        """The generators that were started under a scope's tag and have not ended."""
        alive = [(generator(), origin) for generator, origin in self._started.all()]
        return [
            (generator, origin)
            for generator, origin in alive
            if _frame_of(generator) is not None and table.is_meant_by(origin.owner)
        ]

    def _note(self, generator: Started) -> None:
        if self._users:
            with suppress(Exception):  # that a note fails is no reason for the generator to fail
                origin = origin_here(sys._getframe(1))  # pyright: ignore[reportPrivateUsage]
                if origin is not None:
                    self._started.add((weakref.ref(generator), origin))
        if self._before is not None:
            self._before(generator)


_of_thread = threading.local()


def _notes_of_this_thread() -> _Notes:
    notes: _Notes | None = getattr(_of_thread, "notes", None)
    if notes is None:
        notes = _of_thread.notes = _Notes()
    return notes


def _frame_of(generator: Any) -> Any:
    """A generator's frame, None of one that has ended. (Cython's have none, and are not found.)"""
    return getattr(generator, "ag_frame", None)


def _ids_in_frames_of_tasks(table: TaskTable) -> set[int]:
    """What stands in other tasks' frames, or is held by that: a generator among it is told with its task, if at all.

    An `async with` block keeps the method by which its context manager is left, and that one has the generator.
    """
    others = (task for task in table.backend.all_tasks() if task is not table.backend.current_task())
    holders = (link.holder for task in others for link in task_chain(task).links)
    held = [ref for holder in holders for ref in gc.get_referents(holder)]
    held += [method.__self__ for method in held if type(method) is MethodType]
    return {id(thing) for ref in held for thing in (ref, *fields(ref).values())}
