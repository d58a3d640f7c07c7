"""Tasks that have ended are let go before the garbage collector looks: a test may wait for what comes of that."""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, Final, final

from taskscope._diagnosis import collector
from taskscope._table import tag
from taskscope.pytest_plugin._owners import Owner

_FULL: Final = 2
"""The generation of a full collection, which is what `gc.collect()` makes."""


@final
class LettingGo:
    """asyncio tells of an exception that nobody has retrieved, or of a loop that is open, when that is collected.

    A scope holds some ended tasks, since to let each go at once would cost every spawn a callback. A test that asks
    the collector who holds an exception, or which objects there are, would find them.
    """

    def __init__(self, fixtures: Callable[[], Iterable[Owner]]) -> None:
        """fixtures: the owners that are set up. Those of the code that runs are known by its tag."""
        self._fixtures = fixtures
        self._replaced: dict[str, Callable[..., list[Any]]] = {}

    def start(self) -> None:
        gc.callbacks.append(self._collects)
        for name in collector.__all__:
            self._replaced[name] = search = getattr(gc, name)
            # A partial, and no function: who calls one of Python's is among what the collector shows before 3.14.
            setattr(gc, name, functools.update_wrapper(functools.partial(self._search, search), search))

    def stop(self) -> None:
        with suppress(ValueError):  # a test has cleared the list
            gc.callbacks.remove(self._collects)
        for name, replaced in self._replaced.items():
            if getattr(getattr(gc, name), "__wrapped__", None) is replaced:
                setattr(gc, name, replaced)

    def _search(self, search: Callable[..., list[Any]], /, *args: Any, **kwargs: Any) -> list[Any]:
        self._let_ended_go()
        return [found for found in search(*args, **kwargs) if found is not args and found is not kwargs]

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
