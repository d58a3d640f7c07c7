"""Seeing what is spawned in a run of Trio's: an instrument that knows every task by the tag in its context."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterable
from contextlib import suppress
from contextvars import Context
from typing import Any, Final, final

import trio
from trio._core import _run  # pyright: ignore[reportPrivateUsage]
from trio.lowlevel import RunVar

from taskscope._backends._budget import Budget
from taskscope._backends._ownership import NOBODY, Owner
from taskscope._site import note_site
from taskscope._table import FEW, NO_SITE, Row, TaskTable, tag

run_module: Final = _run

# Where `trio.lowlevel.current_task` looks, which takes three times as long.
run_context: Any = _run.GLOBAL_RUN_CONTEXT

# From the hook to the caller of `Nursery.start_soon`, by way of `Instruments.call` and `Runner.spawn_impl`.
_DEPTH = 4


@final
class TrioTracking(trio.abc.Instrument):
    """What taskscope keeps for one run of Trio's, and the instrument by which it sees what is spawned there."""

    def __init__(self) -> None:
        self.installation: Any = None
        self.losses = 0
        self.budget = Budget()
        self.timed_bodies: set[Any] = set()
        self.looks = Budget()
        self.closings_missed = 0
        self.guards: list[Any] | None = None
        self.root: TaskTable | None = None
        self._users = 0
        task: Any = trio.lowlevel.current_task()
        self._runner = task._runner
        # Tasks that belong to another table than their context names.
        self._moved: weakref.WeakKeyDictionary[Any, TaskTable | None] = weakref.WeakKeyDictionary()
        self._ends: _Ends | None = None

    def __dir__(self) -> Iterable[str]:
        # Trio looks through all names to find the hooks among them, at the beginning of every scope that is alone.
        return ("task_spawned",)

    def acquire(self) -> None:
        if not self.is_on_loop():
            if self._users:
                self.losses += 1
            trio.lowlevel.add_instrument(self)
        self._users += 1

    def release(self) -> None:
        self._users -= 1
        if not self._users:
            if self._ends is not None:
                self._ends.stop()
                self._ends = None
            with suppress(KeyError, RuntimeError):  # removed by somebody else, or the run is over
                trio.lowlevel.remove_instrument(self)

    def is_on_loop(self) -> bool:
        return self in self._runner.instruments.get("task_spawned", ())

    def call_soon(self, callback: Callable[[], object]) -> None:
        self._runner.entry_queue.run_sync_soon(callback)

    def loss(self) -> str:
        return (
            "the instrument that sees what is spawned was removed while the scope was open, by somebody's "
            "remove_instrument() or by Trio, which removes one that raises"
        )

    def drop_ended(self, table: TaskTable) -> None:
        """Has the tasks of a table dropped as they end, as long as it is a large one."""
        if self._ends is None or not self._ends.tables:
            self._ends = _Ends()
        self._ends.tables.add(table)

    def owner_of_spawn(self) -> Owner:
        return self._owner(_tag_in(trio.lowlevel.current_task().context), trio.lowlevel.current_task())

    def owner_of_scope(self, host: Any) -> Owner:
        return self._owner(_tag_in(host.context), host)

    def table_of(self, task: Any) -> TaskTable | None:
        table = self._moved[task] if task in self._moved else _tag_in(task.context) or self.root
        for first in (table, self.root):
            walk = first
            while walk is not None:
                if task in walk.rows:
                    return walk
                walk = walk.parent
        return None

    def move(self, task: Any, source: TaskTable | None, target: TaskTable | None) -> None:
        row = None if source is None else source.take(task)
        self._moved[task] = target
        if source is not None:
            source.note_given_away(task)
        if target is not None:
            target.put(task, row or NO_SITE)

    def is_moved(self, task: Any) -> bool:
        return task in self._moved

    def is_starting(self) -> bool:
        return False

    def task_spawned(self, task: Any) -> None:
        # This is the hot path: each line of it is paid by every spawn.
        table: Any = task.context.get(tag)
        parent = getattr(run_context, "task", None)
        if table is None:
            self._record_untagged(task, parent)
            return
        rows = table.rows
        origin = table.host_row if parent is table.host else rows.get(parent)
        if origin is None:
            self._record_unusual(task, table, parent)
            return
        if table.note is not None:
            rows[task] = table.note(sys._getframe(1), origin)  # pyright: ignore[reportPrivateUsage]
        else:
            frame = sys._getframe(_DEPTH)  # pyright: ignore[reportPrivateUsage]
            row = table.last_row
            if row[0] is not frame.f_code or row[1] != frame.f_lasti or row[2] is not origin:
                row = table.last_row = note_site(frame, origin)
            rows[task] = row
        if len(rows) > table.threshold:
            table.tidy(task)

    def _owner(self, table: TaskTable | None, parent: Any) -> Owner:
        if parent in self._moved:
            table = self._moved[parent]
            if table is None:
                return NOBODY
        closed: str | None = None
        if table is not None and table.closed:
            closed = table.name
            table = table.open_ancestor()
        table = table or self.root
        if table is None or table.closed:
            return NOBODY
        row = table.host_row if parent is table.host else table.rows.get(parent, NO_SITE)
        return Owner(table, row, closed=closed)

    def _record_unusual(self, task: Any, table: TaskTable, parent: Any) -> None:
        """Records a task that was not spawned by one of its scope's: by a callback, say, or one that has been moved."""
        if table.backend.name != "trio":
            self._record_untagged(task, parent)
        else:
            self._record(task, self._owner(table, parent), in_context=table)

    def _record_untagged(self, task: Any, parent: Any) -> None:
        """Records a task whose context names no scope: that of the spawner has been put aside, or there is none."""
        nursery = task.parent_nursery
        if parent is None or nursery is None or nursery.parent_task is self._runner.init_task:
            return  # a system task is nobody's, unless it was given a scope's context
        self._record(task, self._owner(_tag_in(parent.context), parent), in_context=None)

    def _record(self, task: Any, owner: Owner, in_context: TaskTable | None) -> None:
        """in_context: the table that the task's own context names."""
        table = owner.table
        if table is not (in_context or self.root) and owner.closed is None:
            self._moved[task] = table
        if table is None:
            return
        note = table.note or note_site
        row = note(sys._getframe(2), owner.origin)  # pyright: ignore[reportPrivateUsage]
        rows: dict[Any, Row] = table.rows
        if owner.closed is not None:
            table.inherit(task, row, owner.closed)
            return
        rows[task] = row
        if len(rows) > table.threshold:
            table.tidy(task)


@final
class _Ends(trio.abc.Instrument):
    """Sees the tasks of large tables end. An instrument of its own: it is at work only where it is needed."""

    def __init__(self) -> None:
        self.tables: set[TaskTable] = set()
        trio.lowlevel.add_instrument(self)

    def task_exited(self, task: Any) -> None:
        for table in list(self.tables):
            if table.rows.pop(task, None) is not None:
                table.swept += 1
            if len(table.rows) < FEW:
                self.tables.discard(table)
                table.expect_few()
        if not self.tables:
            self.stop()

    def stop(self) -> None:
        with suppress(KeyError, RuntimeError):
            trio.lowlevel.remove_instrument(self)


_tracking: RunVar[TrioTracking] = RunVar("taskscope")


def running_tracking() -> TrioTracking:
    try:
        return _tracking.get()
    except LookupError:
        tracking = TrioTracking()
        _tracking.set(tracking)
        return tracking


def tracking_of_run(runner: Any) -> TrioTracking | None:
    """The tracking of a run, which can be another thread's; None where it has none."""
    found: TrioTracking | None = runner._locals.get(_tracking)
    return found


def _tag_in(context: Context) -> TaskTable | None:
    """The table that a context names, None where that is none of Trio's."""
    table = context.get(tag)
    return table if table is not None and table.backend.name == "trio" else None
