"""Who has opened which transport: an event loop of asyncio's keeps a dictionary in which each enters itself.

What a loop watches tells it as well, by the context of the call, but not of a transport whose reading is paused, as all
of AnyIO's are that nobody reads from.
"""

from __future__ import annotations

import asyncio
import sys
import weakref
from typing import Any, Final, final

from taskscope._diagnosis.awaitables import field_of
from taskscope._findings.owners import Site, owner_here, site_of_caller
from taskscope._table import TaskTable

_FIELD: Final = "_transports"


@final
class Openings:
    """The transports that one loop opens while any scope asks for that."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)
        self._users = 0
        self._noted: weakref.WeakKeyDictionary[Any, tuple[TaskTable, Site]] = weakref.WeakKeyDictionary()
        self._dictionary: Any = None

    def acquire(self) -> None:
        self._users += 1
        loop = self._loop()
        dictionary: Any = None if loop is None else field_of(loop, _FIELD)
        if self._dictionary is None and _is_plain(dictionary):
            # Not another in its place: to copy it takes time, and somebody else may have it.
            dictionary.openings = self
            dictionary.__class__ = _Noting
            self._dictionary = dictionary

    def release(self) -> None:
        self._users -= 1
        if self._users:
            return
        self._noted.clear()
        if self._dictionary is not None:
            self._dictionary.__class__ = _Plain
            del self._dictionary.openings
            self._dictionary = None

    def opened_under(self, table: TaskTable) -> list[Any]:
        return [transport for transport, (owner, _) in list(self._noted.items()) if table.is_meant_by(owner)]

    def site_of(self, transport: Any) -> Site:
        """Where a transport was opened, None where that is not known."""
        noted = self._noted.get(transport)
        return None if noted is None else noted[1]

    def note(self, transport: Any) -> None:
        owner = owner_here() if self._users else None
        if owner is not None:
            site = site_of_caller(sys._getframe(2))  # pyright: ignore[reportPrivateUsage]
            self._noted[transport] = (owner, site)


_Plain: Final = weakref.WeakValueDictionary


@final
class _Noting(weakref.WeakValueDictionary[int, Any]):
    """What a loop's dictionary is made an instance of for the time being."""

    openings: Openings

    def __setitem__(self, descriptor: int, transport: Any) -> None:
        super().__setitem__(descriptor, transport)
        self.openings.note(transport)


def _is_plain(dictionary: object) -> bool:
    return type(dictionary) is _Plain


_by_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Openings] = weakref.WeakKeyDictionary()


def openings_of(loop: asyncio.AbstractEventLoop) -> Openings:
    found = _by_loop.get(loop)
    if found is None:
        found = _by_loop[loop] = Openings(loop)
    return found
