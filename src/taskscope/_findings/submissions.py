"""What is given to executors through a loop: noted by `run_in_executor`, while any scope asks for that.

Once its future is cancelled, by a timeout for instance, nothing leads from work to who has given it: it has no context.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import sys
import weakref
from contextvars import Context
from dataclasses import dataclass
from typing import Any, Final, final

from taskscope._findings.owners import Site, owner_here, site_of_caller
from taskscope._table import NO_SITE, TaskTable

KEPT: Final = 100
"""Submissions that are noted before those that are over are dropped."""

_METHOD: Final = "run_in_executor"


@final
@dataclass(frozen=True, eq=False)
class Submission:
    future: concurrent.futures.Future[Any]
    function: Any
    owner: TaskTable
    site: Site


@final
class Submissions:
    """What one loop gives to executors. The loop has our method in the place of its own, as an attribute."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)
        self._users = 0
        self._given: list[Submission] = []
        self._most = KEPT
        self._noting: Any = None
        self._before: Any = None

    def acquire(self) -> None:
        self._users += 1
        attributes = self._attributes()
        if self._users > 1 or (self._noting is not None and attributes.get(_METHOD) is self._noting):
            return
        self._before = attributes.get(_METHOD)
        self._noting = attributes[_METHOD] = self._noting_submissions()

    def release(self) -> None:
        self._users -= 1
        if self._users:
            return
        self._given.clear()
        attributes = self._attributes()
        if attributes.get(_METHOD) is not self._noting:
            return  # somebody calls ours from theirs: theirs stays, and ours passes everything through
        if self._before is None:
            del attributes[_METHOD]
        else:
            attributes[_METHOD] = self._before
        self._noting = self._before = None

    def is_there(self) -> bool:
        return self._attributes().get(_METHOD) is self._noting

    def unfinished(self, table: TaskTable) -> list[Submission]:
        given = list(self._given)
        return [each for each in given if not each.future.done() and table.is_meant_by(each.owner)]

    def _attributes(self) -> dict[str, Any]:
        loop = self._loop()
        return {} if loop is None else vars(loop)

    def _noting_submissions(self) -> Any:
        run_in_executor = getattr(self._loop(), _METHOD)

        @functools.wraps(run_in_executor)
        def noting(executor: Any, func: Any, *args: Any) -> Any:
            future = run_in_executor(executor, func, *args)
            if self._users:
                self._note(future, func)
            return future

        return noting

    def _note(self, waited_for: Any, function: Any) -> None:
        owner, future = owner_here(), _future_behind(waited_for)
        if owner is None or future is None:
            return
        site = site_of_caller(sys._getframe(2)) or _site_of_running_task(owner)  # pyright: ignore[reportPrivateUsage]
        self._given.append(Submission(future, _given_by_user(function), owner, site))
        if len(self._given) > self._most:
            self._given = [each for each in self._given if not each.future.done()]
            self._most = max(KEPT, 2 * len(self._given))


def _future_behind(waited_for: Any) -> Any:
    """The executor's future behind the one that asyncio makes to wait for it, which keeps it for a cancel."""
    for callback, _ in getattr(waited_for, "_callbacks", None) or ():
        for cell in getattr(callback, "__closure__", None) or ():
            held: Any = cell.cell_contents
            if issubclass(type(held), concurrent.futures.Future):
                return held
    return None


def _site_of_running_task(owner: TaskTable) -> Site:
    """Where the running task was spawned, for one that consists of nothing but `to_thread`."""
    task = owner.backend.current_task()
    code, offset = (owner.rows.get(task, NO_SITE) if task is not None else NO_SITE)[:2]
    return None if code is None else (code, offset)


def _given_by_user(function: Any) -> Any:
    """What is to be called: `asyncio.to_thread` has it called in a context."""
    in_context: Any = getattr(function, "func", None)
    arguments: Any = getattr(function, "args", ())
    return arguments[0] if arguments and type(getattr(in_context, "__self__", None)) is Context else function


_by_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Submissions] = weakref.WeakKeyDictionary()


def submissions_of(loop: asyncio.AbstractEventLoop) -> Submissions:
    found = _by_loop.get(loop)
    if found is None:
        found = _by_loop[loop] = Submissions(loop)
    return found
