"""The deadlines that can end what a task of Trio's waits for."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

from taskscope._diagnosis.awaitables import UNKNOWN, field_of

_DEEPEST: Final = 10_000


def deadlines_of(task: object) -> Iterator[float]:
    """The deadlines of the cancel scopes round a wait, innermost first, up to one that is shielded."""
    for scope in cancel_scopes(task):
        yield _deadline(scope)
        if field_of(scope, "_shield") is True:
            return


def own_deadline(task: object) -> float:
    """The deadline of the innermost cancel scope that a task is in."""
    return next(deadlines_of(task), math.inf)


def cancel_scopes(task: object) -> Iterator[object]:
    """The cancel scopes that a task is in, innermost first, also those beyond a shield."""
    status = field_of(task, "_cancel_status")
    for _ in range(_DEEPEST):
        if status is None or status is UNKNOWN:
            return
        yield field_of(status, "_scope")
        status = field_of(status, "_parent")


def _deadline(scope: object) -> float:
    deadline = field_of(scope, "_deadline")
    return deadline if type(deadline) is float else math.inf
