"""Bodies that a scope will end, by its timeout or its watch: whoever waits in one is not stuck for good."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any, Final

from taskscope._table import TaskTable

REASON: Final = "the timeout or the watch of another scope will end one of them"


def will_be_ended(bodies: Iterable[Any], stuck: Container[int], table: TaskTable | None = None) -> bool:
    """Whether a scope will end one of some tasks, which then can wake the others.

    bodies: what ends the bodies of the scopes on a loop.
    stuck: the ids of the tasks.
    table: that of a scope that asks for the sake of its own body. It ends that before its own timeout, and those of
        scopes round it, are up, and leaves it to the scopes in it. None: it is no scope, or its body is over.
    """
    return any(
        _is_round(table, body.table)
        or (body.has_timeout and id(body.host) in stuck and not _is_round(body.table, table))
        for body in list(bodies)
        if body.table is not table
    )


def _is_round(outer: TaskTable | None, inner: TaskTable | None) -> bool:
    while inner is not None and inner is not outer:
        inner = inner.parent
    return inner is not None
