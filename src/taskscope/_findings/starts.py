"""Who starts threads and processes: noted by the methods that start them, while any scope asks for that.

Python does not tell of such starts in another way that could be taken back, and what runs does not know its context.
"""

from __future__ import annotations

import functools
import sys
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, final

from taskscope._findings.notes import Notes
from taskscope._findings.owners import Origin, origin_here
from taskscope._findings.workers import is_worker
from taskscope._table import TaskTable


@final
class Starts:
    """The starts by one method of one class."""

    def __init__(self, kind: type, method: str) -> None:
        self._kind = kind
        self._method = method
        self._users = 0
        self._notes: Notes[tuple[weakref.ref[Any], Origin]] = Notes(lambda note: note[0]() is None)
        self._replaced: Callable[..., Any] | None = None
        self._noting: Callable[..., Any] | None = None
        self._lock = threading.RLock()  # a finalizer that starts a thread can run at any place

    def acquire(self) -> None:
        with self._lock:
            self._users += 1
            current = vars(self._kind)[self._method]
            if self._users == 1 and current is not self._noting:
                self._replaced = current
                self._noting = self._noting_starts(current)
                setattr(self._kind, self._method, self._noting)

    def release(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users:
                return
            self._notes.clear()
            if vars(self._kind)[self._method] is self._noting:
                setattr(self._kind, self._method, self._replaced)
                self._noting = self._replaced = None
            # Otherwise somebody calls ours from theirs: theirs stays, and ours passes everything through.

    def is_noting(self) -> bool:
        """Whether nobody has replaced the method meanwhile."""
        return vars(self._kind)[self._method] is self._noting

    def started_under(self, table: TaskTable) -> list[tuple[Any, Origin]]:
        """What was started under a scope's tag, and is still referred to."""
        with self._lock:
            notes = self._notes.all()
        alive = [(started(), origin) for started, origin in notes]
        return [(each, origin) for each, origin in alive if each is not None and table.is_meant_by(origin.owner)]

    def owner_of(self, started: object) -> TaskTable | None:
        """Under whose tag something was started, None where that is not known."""
        with self._lock:
            return next((origin.owner for known, origin in self._notes.all() if known() is started), None)

    def _noting_starts(self, start: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(start)
        def noting(started: Any, *args: Any, **kwargs: Any) -> Any:
            # Before it starts, for what it starts in turn can be quicker than this is.
            if self._users:
                with suppress(Exception):  # that a note fails is no reason for the start to fail
                    self._note(started)
            return start(started, *args, **kwargs)

        return noting

    def _note(self, started: Any) -> None:
        origin = origin_here(sys._getframe(2), _owner_of_running_thread())  # pyright: ignore[reportPrivateUsage]
        if origin is None:
            return
        with self._lock:
            self._notes.add((weakref.ref(started), origin))


def _owner_of_running_thread() -> TaskTable | None:
    """Whose what a thread of a scope's starts is. A worker of a pool works for many."""
    thread = threading.current_thread()
    return None if is_worker(thread) else THREADS.owner_of(thread)


THREADS: Final = Starts(threading.Thread, "start")
"""Starts of threads."""
