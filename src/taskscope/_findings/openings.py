"""Who has opened which transport: an event loop of asyncio's keeps a dictionary in which each enters itself.

What a loop watches would tell it too, by the context of the call, but not of a transport whose reading is paused, as
all of AnyIO's are that nobody reads from; and wrongly of one whose reading somebody else has resumed.
"""

from __future__ import annotations

import asyncio
import sys
import weakref
from contextlib import suppress
from typing import Any, Final, final

from taskscope._diagnosis.awaitables import field_of
from taskscope._findings.loop_methods import LoopMethod
from taskscope._findings.owners import Origin, origin_here
from taskscope._table import TaskTable

_FIELD: Final = "_transports"
_MAKERS_OF_PIPES: Final = ("_make_read_pipe_transport", "_make_write_pipe_transport")


@final
class Openings:
    """The transports that one loop opens while any scope asks for that."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)
        self._users = 0
        self._noted: weakref.WeakKeyDictionary[Any, Origin] = weakref.WeakKeyDictionary()
        self._dictionary: Any = None
        # Pipes are not in that dictionary.
        self._makers = [LoopMethod(loop, name) for name in _MAKERS_OF_PIPES]

    def acquire(self) -> None:
        self._users += 1
        loop = self._loop()
        dictionary: Any = None if loop is None else field_of(loop, _FIELD)
        if self._dictionary is None and _is_plain(dictionary):
            # Not another in its place: to copy it takes time, and somebody else may have it.
            dictionary.openings = self
            dictionary.__class__ = _Noting
            self._dictionary = dictionary
            for maker in self._makers:
                maker.put(self._note_made)

    def release(self) -> None:
        self._users -= 1
        if self._users:
            return
        self._noted.clear()
        for maker in self._makers:
            maker.take()
        if self._dictionary is not None:
            self._dictionary.__class__ = _Plain
            del self._dictionary.openings
            self._dictionary = None

    def is_noting(self) -> bool:
        return self._dictionary is not None

    def opened_under(self, table: TaskTable) -> list[tuple[Any, Origin]]:
        noted = list(self._noted.items())
        return [(transport, origin) for transport, origin in noted if table.is_meant_by(origin.owner)]

    def note(self, transport: Any) -> None:
        origin = origin_here(sys._getframe(2)) if self._users else None  # pyright: ignore[reportPrivateUsage]
        if origin is not None:
            self._noted[transport] = origin

    def _note_made(self, transport: Any, *arguments: Any) -> None:
        self.note(transport)


_Plain: Final = weakref.WeakValueDictionary


@final
class _Noting(weakref.WeakValueDictionary[int, Any]):
    """What a loop's dictionary is made an instance of for the time being."""

    openings: Openings

    def __setitem__(self, descriptor: int, transport: Any) -> None:
        super().__setitem__(descriptor, transport)
        with suppress(Exception):  # that a note fails is no reason for a connection to fail
            self.openings.note(transport)


def _is_plain(dictionary: object) -> bool:
    return type(dictionary) is _Plain


_by_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Openings] = weakref.WeakKeyDictionary()


def openings_of(loop: asyncio.AbstractEventLoop) -> Openings:
    return _by_loop.get(loop) or _by_loop.setdefault(loop, Openings(loop))
