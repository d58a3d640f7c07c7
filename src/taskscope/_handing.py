"""Who answers for a task: handing it off, and taking it over."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from taskscope._backends._backend import Backend
from taskscope._backends._here import backend_of_task
from taskscope._diagnosis.safely import safe_repr
from taskscope._off import is_off
from taskscope._table import NO_SITE, AnyTask, Row, note_weak_book

if TYPE_CHECKING:
    import trio.lowlevel

    from taskscope._scope import TaskScope

    Task = AnyTask | trio.lowlevel.Task


def hand_off(task: Task, to: TaskScope | None = None, *, reason: str) -> None:
    """Passes the responsibility for a task, and for what it spawns from now on, to another scope.

    The scope that gives it away lists it under `report.transferred`, with the reason, if it is still pending then. A
    task that has ended is let be, and so is one that no open scope owns when `to` is None: libraries can call this
    whether or not their users use scopes.

    Args:
        task: The task, of asyncio or Trio.
        to: Who takes it. None: the parent of the scope that owns it; where that has no parent the task is released, and
            no scope looks after it any more.
        reason: Why it outlives its scope, for the reader of reports.

    Raises:
        TypeError: `task` is not a task, `to` is not a TaskScope, or `reason` is not a string.
        ValueError: `reason` is empty.
        TaskScopeError: `to` is not open.
    """
    from taskscope._scope import TaskScope

    backend = backend_for(task)
    if to is not None and not isinstance(to, TaskScope):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"to={safe_repr(to)}: must be None or a TaskScope")
    if not isinstance(reason, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"reason={safe_repr(reason)}: must be a string")
    if not reason.strip():
        raise ValueError(f"reason={reason!r}: must say why the task outlives its scope")
    given: Any = task
    if is_off() or backend.is_done(given):
        return
    tracking = backend.tracking_of_task(given)
    giver = tracking.table_of(given)
    if to is not None and giver is not None and to is giver.scope:
        return
    row = NO_SITE if giver is None else giver.rows.get(given, NO_SITE)
    if to is not None:
        to.adopt(task)
    elif giver is not None:
        tracking.move(given, giver, giver.open_ancestor())
    if giver is not None and giver.scope is not None:
        taker = "released for good" if to is None and giver.open_ancestor() is None else "handed off"
        _remember(giver.scope, given, f"{taker}: {reason}", row)


def backend_for(task: Any) -> Backend:
    """The backend that a task belongs to.

    Raises:
        TypeError: It is no task.
    """
    backend = backend_of_task(task)
    if backend is None:
        kind = type(task).__name__
        raise TypeError(f"task={safe_repr(task)}: must be a task, not {kind}; asyncio.create_task(...) makes one")
    return backend


def _remember(scope: TaskScope, task: AnyTask, reason: str, row: Row) -> None:
    if scope._handed_off is None:  # pyright: ignore[reportPrivateUsage]
        handed_off = scope._handed_off = weakref.WeakKeyDictionary()  # pyright: ignore[reportPrivateUsage]
        note_weak_book(handed_off)
    scope._handed_off[task] = (reason, row)  # pyright: ignore[reportPrivateUsage]
