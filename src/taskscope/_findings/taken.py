"""Things that were found at the end of one scope, and that another one answers for: found again as they were found."""

from __future__ import annotations

import weakref
from contextlib import suppress
from typing import Any, final

from taskscope._findings.found import Found, Kind
from taskscope._findings.notes import Notes


@final
class Taken:
    """What one search has taken. Held weakly: it is nobody's business how long such a thing lives."""

    def __init__(self) -> None:
        self._things: Notes[tuple[weakref.ref[Any], Kind]] = Notes(lambda note: note[0]() is None)

    def add(self, found: Found, kind: Kind) -> None:
        with suppress(TypeError):  # of a C type that nobody can refer to weakly: it is left alone
            self._things.add((weakref.ref(found.things[0]), kind))

    def found(self) -> list[tuple[Found, Kind]]:
        """Those that are still there."""
        by_kind: dict[Kind, set[int]] = {}
        held = [(thing, kind) for taken, kind in self._things.all() if (thing := taken()) is not None]
        for thing, kind in held:
            by_kind.setdefault(kind, set()).add(id(thing))
        return [(found, kind) for kind, keys in by_kind.items() for found in kind.found() if found.key in keys]
