"""Which task holds a lock, where that can be told: asyncio's locks do not know their owners."""

from __future__ import annotations

import asyncio
import gc
import sys
import types
from collections.abc import Iterable, Iterator
from typing import Any, Final, cast

from taskscope._diagnosis.awaitables import fields
from taskscope._diagnosis.primitives import referred
from taskscope._diagnosis.stack import Chain, Link
from taskscope._diagnosis.wait_point import WaitPoint

_EXIT: Final[Any] = asyncio.locks.Lock.__aexit__
_IS_BOUND: Final = sys.version_info < (3, 14)  # later ones keep the function and the lock side by side


def lock_at(point: WaitPoint) -> object | None:
    """The lock that a task waits for at a wait point, None where it waits for none."""
    if point.kind == "lock":
        return cast("object | None", referred(point.holder, asyncio.locks.Lock))
    if point.kind == "condition":
        lock: object | None = fields(referred(point.holder, asyncio.locks.Condition)).get("_lock")
        return lock
    return None


def lock_holders(chains: Iterable[tuple[Any, Chain]]) -> dict[int, list[Any]]:
    """For each lock, by its id, the tasks that are inside of an `async with` block of it.

    The frame of such a block keeps the lock's `__aexit__` for later. A task that took the lock by `acquire()` leaves no
    such trace and is not found.
    """
    holders: dict[int, list[Any]] = {}
    for task, chain in chains:
        for lock in _held_in(chain):
            holders.setdefault(id(lock), []).append(task)
    return holders


def _held_in(chain: Chain) -> Iterator[object]:
    let_go: object | None = None  # the lock that a frame further in is still waiting for
    for link in reversed(chain.links):
        locks = _locks_to_leave(link)
        places = [place for place, lock in enumerate(locks) if lock is let_go]
        if places:
            del locks[places[0]]  # only once: it can be held as well, and be entered for the second time
        yield from locks
        if link.code.co_qualname == "_ContextManagerMixin.__aenter__":
            let_go = referred(link.holder, asyncio.locks.Lock)
        elif link.code.co_qualname == "Condition.wait":
            let_go = fields(referred(link.holder, asyncio.locks.Condition)).get("_lock")


def _locks_to_leave(link: Link) -> list[object]:
    if type(link.holder) is types.CodeType:
        return []
    refs = gc.get_referents(link.holder)
    if _IS_BOUND:
        exits = [ref for ref in refs if type(ref) is types.MethodType and ref.__func__ is _EXIT]
        return [ref.__self__ for ref in exits if issubclass(type(ref.__self__), asyncio.locks.Lock)]
    locks = [ref for ref in refs if issubclass(type(ref), asyncio.locks.Lock)]
    # With two locks in one frame it cannot be told whose exit it is.
    return locks if len({*map(id, locks)}) == 1 and any(ref is _EXIT for ref in refs) else []
