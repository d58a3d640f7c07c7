"""What a search for a proof is given and what it finds: data alone, so that it costs nothing to import."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple


class Held(NamedTuple):
    """How a host is held by its runner.

    Attributes:
        references: References to it beside its own and those of tasks that await it.
        weak_references: Weak references to it, each of which has a callback of its own.
        coroutine_references: References to its coroutine beside its own.
        frames: For each of the coroutines that it was in, outermost first, references to the frame beside the
            coroutine's. The coroutines themselves may be held, too.
        given: How many of these coroutines, the innermost, were there and had not begun.
    """

    references: int
    weak_references: int
    coroutine_references: int
    frames: tuple[int, ...]
    given: int = 0


NOT_HELD: Final = Held(0, 0, 0, ())


class AtRest(NamedTuple):
    """What does nothing for as long as a body runs: what has called the event loop, and waits for that.

    Attributes:
        holders: Objects that hold other ones, and do not use them. By the first of them one comes to all.
        references: How many references such holders have beside these, by the ids of what they are to: the variables of
            functions that run.
        kinds: Classes of the holders. Whoever is alive and has an object of one of these can come to what it holds.
        names: By these code comes to it.
        family: The packages whose functions do nothing either, whatever they have.
        keepers: The classes, by module and name, whose objects do not.
        hooks: With this begin the names of generators that only those at rest have go on.
    """

    holders: list[object]
    references: Mapping[int, int]
    kinds: tuple[type, ...]
    names: frozenset[str]
    family: frozenset[str]
    keepers: frozenset[tuple[str, str]]
    hooks: str


class Resting(NamedTuple):
    """What a search has found at rest, mostly by the ids of the objects.

    Attributes:
        objects: All that nobody who is alive has come to.
        leading: Those of them that lead to a task that is stuck.
        taken: The objects that were taken to be at rest, whoever has them.
    """

    objects: frozenset[int]
    leading: frozenset[int]
    taken: list[object]


class Proof(NamedTuple):
    """What the search found.

    Attributes:
        stuck: The tasks that nothing can wake, by their id, each with the ids of the stuck tasks that could if
            they ran: those from which a way leads to what it waits for.
        visited: How many objects were looked at.
        reason: Why nothing could be proven at all, None where the search came to its end.
        timed: The ids of the tasks to which a way leads from a timer that was not to count.
        resting: What else is at rest, where that was asked for and there is a stuck task.
    """

    stuck: dict[int, tuple[int, ...]]
    visited: int
    reason: str | None = None
    timed: frozenset[int] = frozenset()
    resting: Resting | None = None


def why_it_failed(error: Exception) -> str:
    """The reason of a proof that could not be had for an error in the search for it."""
    return f"the search failed: {type(error).__name__}: {error}"
