"""Notes of what was started, dropped when they are of no use any more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, TypeVar, final

T = TypeVar("T")

KEPT: Final = 100
"""Notes that are kept before those that are of no use are dropped."""


@final
class Notes(Generic[T]):
    """At most `KEPT` notes, or twice as many as were of use when that was last looked at.

    is_over: whether a note is of no use any more.
    """

    def __init__(self, is_over: Callable[[T], bool]) -> None:
        self._is_over = is_over
        self._notes: list[T] = []
        self._most = KEPT

    def add(self, note: T) -> None:
        self._notes.append(note)
        if len(self._notes) > self._most:
            self._notes = [each for each in self._notes if not self._is_over(each)]
            self._most = max(KEPT, 2 * len(self._notes))

    def all(self) -> list[T]:
        """The notes as they are now, those among them that are over."""
        return list(self._notes)

    def clear(self) -> None:
        self._notes.clear()
