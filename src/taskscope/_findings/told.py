"""Which things a scope has told of. What it could not end is there for the scopes round it too, and is not theirs.

As with tasks that survive their scope, nobody fails for such a thing twice.
"""

from __future__ import annotations

import weakref
from contextlib import suppress
from typing import Any

_told: dict[int, weakref.ref[Any]] = {}


def note_told(thing: object) -> None:
    key = id(thing)
    with suppress(TypeError):  # of a C type that nobody can refer to weakly
        _told[key] = weakref.ref(thing, lambda _: _told.pop(key, None))


def is_told(thing: object) -> bool:
    known = _told.get(id(thing))
    return known is not None and known() is thing
