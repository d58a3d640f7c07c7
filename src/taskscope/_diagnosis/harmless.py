"""Which tasks stay stuck, if only harmless cancel scopes are left out of account."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

H = TypeVar("H")

_ROUNDS: Final = 10


def stay_stuck(
    tasks: list[Any], judge: Callable[[Iterable[Any]], H], left: Callable[[list[Any], H], list[Any]]
) -> list[Any]:
    """The tasks that nothing can wake, if those cancel scopes are harmless that are so for these tasks.

    Which are not can only be told of tasks that are stuck: at first every one is harmless, for it is for no tasks.

    judge: tells the harmless ones, given some tasks.
    left: those of some tasks that nothing can wake, given which cancel scopes are harmless.
    """
    found, harmless = tasks, judge(())
    for _ in range(_ROUNDS):
        still = left(found, harmless)
        if len(still) == len(found) and found is not tasks:
            return found
        found, harmless = still, judge(still)
    return []
