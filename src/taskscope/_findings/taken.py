"""Things that were found at the end of one scope, and that another one answers for: found again as they were found."""

from __future__ import annotations

import weakref
from contextlib import suppress
from typing import Any, Final, final

from taskscope._findings.found import Found, Kind

KEPT: Final = 100
"""Things that are kept in mind before those that are gone are dropped."""


@final
class Taken:
    """What one search has taken. Held weakly: it is nobody's business how long such a thing lives."""

    def __init__(self) -> None:
        self._things: list[tuple[weakref.ref[Any], Kind]] = []
        self._most = KEPT

    def add(self, found: Found, kind: Kind) -> None:
        with suppress(TypeError):  # of a C type that nobody can refer to weakly: it is left alone
            self._things.append((weakref.ref(found.things[0]), kind))
        if len(self._things) > self._most:
            self._things = [entry for entry in self._things if entry[0]() is not None]
            self._most = max(KEPT, 2 * len(self._things))

    def found(self) -> list[tuple[Found, Kind]]:
        """Those that are still there."""
        by_kind: dict[Kind, set[int]] = {}
        held = [(thing, kind) for taken, kind in self._things if (thing := taken()) is not None]
        for thing, kind in held:
            by_kind.setdefault(kind, set()).add(id(thing))
        return [(found, kind) for kind, keys in by_kind.items() for found in kind.found() if found.key in keys]
