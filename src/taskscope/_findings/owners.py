"""Whose a thing is that is no task: told by a context, or by who runs."""

from __future__ import annotations

from contextvars import Context
from types import CodeType, FrameType
from typing import Final

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


def place_of(site: Site) -> Frame | None:
    return None if site is None else frame_at(*site)
