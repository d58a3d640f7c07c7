"""Tasks that have ended are let go before the garbage collector looks: a test may wait for what comes of that."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Final, final

from taskscope._table import tag
from taskscope.pytest_plugin._owners import Owner

_FULL: Final = 2
"""The generation of a full collection, which is what `gc.collect()` makes."""


@final
class LettingGo:
    """Those of Trio's, with their contexts, and those of asyncio's that ended in the turn in which their loop stopped.

    All others are let go when they end.
    """

    def __init__(self, fixtures: Callable[[], Iterable[Owner]]) -> None:
        """fixtures: the owners that are set up. Those of the code that runs are known by its tag."""
        self._fixtures = fixtures

    def start(self) -> None:
        gc.callbacks.append(self._collects)

    def stop(self) -> None:
        with suppress(ValueError):  # a test has cleared the list
            gc.callbacks.remove(self._collects)

    def _collects(self, phase: str, info: Mapping[str, int]) -> None:
        if phase == "start" and info["generation"] == _FULL:
            self._let_ended_go()

    def _let_ended_go(self) -> None:
        table = tag.get(None)
        while table is not None:
            table.let_ended_go()
            table = table.parent
        for owner in list(self._fixtures()):
            for table in owner.tables():
                table.let_ended_go()
