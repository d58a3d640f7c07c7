"""Whose a thing is that is no task: told by a context, or by who runs."""

from __future__ import annotations

import weakref
from contextvars import Context
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any, Final, final

from taskscope._backends._here import backend_here
from taskscope._frames import frame_at
from taskscope._report import Frame
from taskscope._site import is_library_frame, user_frame
from taskscope._table import TaskTable, tag

Site = tuple[CodeType, int] | None

# Beside the event loops, what starts threads and processes for others.
_STARTERS: Final = frozenset({"threading", "concurrent", "subprocess", "multiprocessing", "outcome"})


def is_tagged(context: Context | None, table: TaskTable) -> bool:
    """Whether a context carries a scope's tag, or that of a closed scope inside it."""
    return context is not None and table.is_meant_by(context.get(tag))


def owner_here() -> TaskTable | None:
    """The table of the scope that the running code starts things for, in a loop or in a thread; None outside of any."""
    from taskscope._scope import current_scope

    scope = current_scope()
    return None if scope is None else scope._table  # pyright: ignore[reportPrivateUsage]


def site_of_caller(frame: FrameType | None) -> Site:
    """The nearest place in a user's code, as it can be kept. None where only libraries are on the stack."""
    found = user_frame(frame)
    while found is not None and str(found.f_globals.get("__name__")).partition(".")[0] in _STARTERS:
        found = user_frame(found.f_back)
    if found is None or is_library_frame(found):
        return None
    return found.f_code, found.f_lasti


@final
@dataclass(frozen=True, slots=True, eq=False)
class Origin:
    """Who has started a thing, for which scope, and where.

    task: the task that has, weakly. None where none ran.
    """

    owner: TaskTable
    site: Site
    task: weakref.ref[Any] | None

    @property
    def place(self) -> Frame | None:
        return None if self.site is None else frame_at(*self.site)


def origin_here(frame: FrameType, owner: TaskTable | None = None) -> Origin | None:
    """That of what the running code starts. None outside of any scope.

    frame: the innermost one that can be a user's.
    owner: whose it is where that cannot be told here.
    """
    owner = owner_here() or owner
    if owner is None:
        return None
    task = _running_task()
    return Origin(owner, site_of_caller(frame), None if task is None else weakref.ref(task))


def _running_task() -> Any:
    try:
        return backend_here().current_task()
    except RuntimeError:  # in a thread
        return None
