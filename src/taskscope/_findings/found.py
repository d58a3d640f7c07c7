"""A thing that was found at the end of a scope, and what can be done about it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Literal, Protocol, final

from taskscope._findings.owners import Origin
from taskscope._policy import Policy
from taskscope._report import Finding
from taskscope._table import TaskTable

Ended = Literal["cancelled", "closed", "terminated", "killed"]


@final
@dataclass(eq=False)
class Found:
    """A live thing, with its description.

    Attributes:
        finding: What the report will say.
        things: The objects that stand for it. The first is the thing itself: what is found again is known by it.
        end: Asks it to end. None where that is not for a scope to do.
        insist: Asks for the second time, with force.
        close: Ends it, and is to be awaited. None for what is ended by `end`, or not at all.
        ended: What to call its end when it was asked to.
        forced: What to call its end when that took force.
        origin: Who has started it, as far as that was noted. None where only its context tells whose it is.
        lasts: Whether it is known to be there still at a time on the loop's clock, so that nobody need wait for it.
    """

    finding: Finding
    things: tuple[object, ...]
    end: Callable[[], object] | None = None
    insist: Callable[[], object] | None = None
    close: Callable[[], Coroutine[Any, Any, object]] | None = None
    ended: Ended = "closed"
    forced: Ended | None = None
    origin: Origin | None = None
    lasts: Callable[[float], bool] | None = None

    @property
    def key(self) -> int:
        """By what it is known when it is found again, for as long as this is held."""
        return id(self.things[0])


class Kind(Protocol):
    """Looks for one kind of thing, for one scope."""

    def begin(self) -> None:
        """Makes sure that what will be started can be told whose it is. Called when the scope opens, in its host."""
        ...

    def resume(self) -> None:
        """The same where the loop was stopped since, and runs again."""
        ...

    def finish(self) -> None:
        """Leaves everything as it was. Called once, where `begin` was."""
        ...

    def found(self) -> list[Found]:
        """What there is now. Called in the loop of the scope."""
        ...

    def coverage(self) -> tuple[str, ...]:
        """What could not be looked at, in words. Called in the loop of the scope, before `finish`."""
        ...


class Looking:
    """What most kinds have in common: nothing to prepare, and nothing that they cannot see."""

    def __init__(self, table: TaskTable, policy: Policy) -> None:
        self.table = table

    def begin(self) -> None:
        pass

    def resume(self) -> None:
        pass

    def finish(self) -> None:
        pass

    def coverage(self) -> tuple[str, ...]:
        return ()
