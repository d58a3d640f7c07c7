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
from dataclasses import dataclass, replace
from typing import Any, final

from taskscope._findings.callables import object_of
from taskscope._findings.loop_methods import LoopMethod
from taskscope._findings.notes import Notes
from taskscope._findings.owners import Origin, Site, origin_here
from taskscope._table import NO_SITE, TaskTable


@final
@dataclass(frozen=True, eq=False)
class Submission:
    future: concurrent.futures.Future[Any]
    function: Any
    origin: Origin


@final
class Submissions:
    """What one loop gives to executors, noted by its method for that."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._users = 0
        self._given: Notes[Submission] = Notes(lambda given: given.future.done())
        self._method = LoopMethod(loop, "run_in_executor")

    def acquire(self) -> None:
        self._users += 1
        if self._users == 1:
            self._method.put(self._note)

    def release(self) -> None:
        self._users -= 1
        if not self._users:
            self._given.clear()
            self._method.take()

    def is_there(self) -> bool:
        return self._method.is_there()

    def unfinished(self, table: TaskTable) -> list[Submission]:
        given = self._given.all()
        return [each for each in given if not each.future.done() and table.is_meant_by(each.origin.owner)]

    def _note(self, waited_for: Any, executor: Any, function: Any, *args: Any) -> None:
        origin, future = origin_here(sys._getframe(2)), _future_behind(waited_for)  # pyright: ignore[reportPrivateUsage]
        if origin is None or future is None:
            return
        if origin.site is None:
            origin = replace(origin, site=_site_of_running_task(origin.owner))
        self._given.add(Submission(future, _given_by_user(function), origin))


def _future_behind(waited_for: Any) -> Any:
    """The executor's future behind the one that asyncio makes to wait for it, which keeps it for a cancel."""
    for callback, _ in getattr(waited_for, "_callbacks", None) or ():
        for cell in getattr(callback, "__closure__", None) or ():
            held = _content(cell)
            if issubclass(type(held), concurrent.futures.Future):
                return held
    return None


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # it is empty
        return None


def _site_of_running_task(owner: TaskTable) -> Site:
    """Where the running task was spawned, for one that consists of nothing but `to_thread`."""
    task = owner.backend.current_task()
    code, offset = (owner.rows.get(task, NO_SITE) if task is not None else NO_SITE)[:2]
    return None if code is None else (code, offset)


def _given_by_user(function: Any) -> Any:
    """What is to be called: `asyncio.to_thread` has it called in a context."""
    if functools.partial not in type(function).__mro__:
        return function
    in_context, arguments = function.func, function.args
    return arguments[0] if arguments and type(object_of(in_context)) is Context else function


_by_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Submissions] = weakref.WeakKeyDictionary()


def submissions_of(loop: asyncio.AbstractEventLoop) -> Submissions:
    return _by_loop.get(loop) or _by_loop.setdefault(loop, Submissions(loop))
