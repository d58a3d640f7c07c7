"""Who owns what is spawned on a loop: by the tag, and where the tag cannot tell, by the task that spawns."""

from __future__ import annotations

import asyncio
import gc
import sys
import weakref
from collections.abc import Callable
from contextvars import Context
from typing import Any, Final, NamedTuple, final

from taskscope._table import NO_SITE, AnyTask, Row, TaskTable, tag

if sys.version_info >= (3, 12):
    current_task = asyncio.tasks.current_task
else:
    # the Python function of 3.11 costs five times this look-up
    current_task: Callable[[asyncio.AbstractEventLoop], AnyTask | None] = vars(asyncio.tasks)["_current_tasks"].get

# From 3.14 on the functions of asyncio, which are in C, see no tasks in pure Python: those keep books of their own.
_current_python_task: Callable[[asyncio.AbstractEventLoop], AnyTask | None] = vars(asyncio.tasks)["_current_tasks"].get
_all_python_tasks: Callable[[], set[AnyTask]] = vars(asyncio.tasks).get("_py_all_tasks", asyncio.tasks.all_tasks)

_isfuture: Final = asyncio.futures.isfuture


def running_loop() -> asyncio.AbstractEventLoop:
    """The same as `asyncio.get_running_loop`, which tests put something else in the place of."""
    loop = asyncio._get_running_loop()
    if loop is None:
        raise RuntimeError("no running event loop")
    return loop


def running_task(loop: asyncio.AbstractEventLoop) -> AnyTask | None:
    """The task that runs on a loop now, also one in pure Python."""
    task = current_task(loop)
    return _current_python_task(loop) if task is None else task


def all_tasks() -> set[AnyTask]:
    """The pending tasks of the running loop, also those in pure Python."""
    found = asyncio.tasks.all_tasks()
    return found | _all_python_tasks() if sys.version_info >= (3, 14) else found


class Owner(NamedTuple):
    """The owner of a spawn.

    Attributes:
        table: The owning scope's table, None when nobody owns the task.
        origin: The spawner's row.
        aside: The task's own context does not name this owner: it has to be noted, for what the task spawns in turn.
        closed: Name of the scope that the context names, where that one is closed.
    """

    table: TaskTable | None
    origin: Row
    aside: bool = False
    closed: str | None = None


NOBODY = Owner(None, NO_SITE)


@final
class Ownership:
    """The owners on one loop."""

    __slots__ = ("aside", "root", "starting")

    def __init__(self) -> None:
        # Owner of the tasks that spawn outside of any scope.
        self.root: TaskTable | None = None
        # Tasks whose context names another owner than theirs, or none.
        self.aside: weakref.WeakKeyDictionary[AnyTask, TaskTable | None] = weakref.WeakKeyDictionary()
        # Tasks that may take their first step before the factory has them, innermost last: their own rows.
        self.starting: list[Owner] = []

    def of_spawn(self, loop: asyncio.AbstractEventLoop) -> Owner:
        """The owner of what the running code spawns now."""
        return self._of_parent(_of_asyncio(tag.get(None)), running_task(loop))

    def _of_parent(self, table: TaskTable | None, parent: AnyTask | None) -> Owner:
        if parent is None:
            return self._by_tag(table, None)
        if table is not None:
            row = table.host_row if parent is table.host else table.rows.get(parent)
            if row is not None:
                return Owner(table, row)
        if parent in self.aside:
            owner = self.aside[parent]
            if owner is not None and owner.closed:
                return self._by_tag(owner, parent)._replace(aside=True)
            return Owner(owner, NO_SITE if owner is None else owner.rows.get(parent, NO_SITE), aside=True)
        if self.starting:
            return self.starting[-1]
        if table is None:
            return self._of_lost_context(parent)
        return self._by_tag(_without_hosts_of_context(table, parent), parent)

    def of_scope(self, host: AnyTask | None) -> Owner:
        """The owner of a scope that `host` opens: who would own a task that it spawns there.

        A task's own code runs in the task's own context, so the tag is not lost here.
        """
        tagged = _of_asyncio(tag.get(None))
        table = tagged or self.root
        if len(self.aside) or self.starting or (table is not None and table.closed):
            return self._of_parent(tagged, host)
        if table is None:
            return NOBODY
        row = table.host_row if host is table.host else table.rows.get(host)  # type: ignore[arg-type]
        return self._of_parent(tagged, host) if row is None else Owner(table, row)

    def of_task(self, task: AnyTask) -> TaskTable | None:
        """The table that holds a task, None when no open scope does."""
        owner = self.aside.get(task) or _tag_of(task) or self.root
        for table in (owner, self.root):
            while table is not None:
                if task in table.rows:
                    return table
                table = table.parent
        return self.starting[-1].table if self._is_starting(task) else None

    def take_starting(self, task: AnyTask) -> Row | None:
        """Lets go of a task in its first step, before the factory has it. None where the task is none such."""
        if not self._is_starting(task):
            return None
        owner = self.starting[-1]
        self.starting[-1] = owner._replace(table=None)  # another object: the factory sees that the task has gone
        if owner.table is not None:
            owner.table.swept += 1
        return owner.origin

    def move(self, task: AnyTask, source: TaskTable | None, target: TaskTable | None) -> None:
        row = None if source is None else source.take(task) or self.take_starting(task)
        self.aside[task] = target  # its context goes on naming the scope in which it was spawned
        if source is not None:
            source.note_given_away(task)
        if target is not None:
            target.put(task, row or NO_SITE)

    def _is_starting(self, task: AnyTask) -> bool:
        return bool(self.starting) and task not in self.aside and task is running_task(task.get_loop())

    def _of_lost_context(self, parent: AnyTask) -> Owner:
        table = _tag_of(parent)
        if table is None:
            return self._by_tag(None, parent)
        row = table.host_row if parent is table.host else table.rows.get(parent)
        if row is not None:
            return Owner(table, row, aside=True)
        return self._by_tag(table, parent)._replace(aside=True)

    def _by_tag(self, table: TaskTable | None, parent: AnyTask | None) -> Owner:
        closed: str | None = None
        if table is not None and table.closed:
            closed = table.name
            table = table.open_ancestor()
        table = table or self.root
        if table is None or table.closed:
            return NOBODY
        return Owner(table, NO_SITE if parent is None else table.rows.get(parent, NO_SITE), closed=closed)

    def record(self, task: AnyTask, owner: Owner, row: Row) -> None:
        if not _isfuture(task):
            return  # a user's factory may return what it likes; what is no future cannot be waited for
        table = owner.table
        if owner.aside:
            self.aside[task] = table
        if table is None:
            return
        if task.done():
            table.swept += 1  # started eagerly and over already: counted, not recorded
            for told in table.lets_go:
                told((task,), {task: row})
            return
        if owner.closed is not None:
            table.inherit(task, row, owner.closed)
            return
        table.rows[task] = row
        if len(table.rows) > table.threshold:
            table.tidy(task)


def task_context(task: AnyTask | None) -> Context | None:
    """The context that a task runs in, None where that cannot be told."""
    get_context = getattr(task, "get_context", None)
    if get_context is not None:
        return get_context()  # type: ignore[no-any-return]
    context = getattr(task, "_context", None)
    if type(context) is Context:
        return context
    # Before 3.12 a C task shows its context to the collector only, and as the first of its contexts.
    return next((found for found in gc.get_referents(task) if type(found) is Context), None)


def _tag_of(task: AnyTask) -> TaskTable | None:
    context = task_context(task)
    return None if context is None else _of_asyncio(context.get(tag))


def _of_asyncio(table: TaskTable | None) -> TaskTable | None:
    """A table that a context names; None where it is Trio's, whose context went to a thread that runs asyncio."""
    return None if table is None or table.backend.name != "asyncio" else table


def _without_hosts_of_context(table: TaskTable, task: AnyTask) -> TaskTable | None:
    """The innermost scope, outwards from `table`, that was not opened by another task in this task's very context."""
    walk: TaskTable | None = table
    while walk is not None:
        nearest = walk.open_ancestor() if walk.closed else walk
        if nearest is None or not _share_context(task, nearest.host):
            break
        walk = nearest.shadowed
    return walk


def _share_context(task: AnyTask, host: Any) -> bool:
    """Whether a task runs in the very context of a scope's host, and so carries a tag that was never meant for it."""
    if host is None or task is host:
        return False
    context = task_context(task)
    return context is not None and context is task_context(host)
