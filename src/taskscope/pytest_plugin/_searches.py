"""What an owner has beside tasks: looked for on each loop on which it has run, and outside of any."""

from __future__ import annotations

import asyncio
from collections.abc import Set
from typing import TYPE_CHECKING, Final, final

from taskscope._backends import _asyncio
from taskscope._backends._here import backend_here
from taskscope._backends._ownership import running_loop
from taskscope._policy import TASKS_ONLY, Find, Policy
from taskscope._table import TaskTable
from taskscope.pytest_plugin._settings import Settings

if TYPE_CHECKING:
    from taskscope._findings.found import Found, Kind
    from taskscope._findings.search import Search

WITHOUT_LOOP: Final[frozenset[Find]] = frozenset({"threads", "processes"})
"""What can be started, and looked for, where no loop runs."""

_OUTSIDE: Final = "outside"


def looking_only_for(policy: Policy, words: Set[Find]) -> Policy:
    """A policy by which, of what is looked for, only so much is."""
    if policy.find is TASKS_ONLY:
        return policy
    found = policy.find & words | TASKS_ONLY
    return policy._replace(find=TASKS_ONLY if found == TASKS_ONLY else found)


def looking_not_for(policy: Policy, words: Set[Find]) -> Policy:
    return looking_only_for(policy, policy.find - words)


@final
class Searches:
    """The searches of one owner. With `find` at its default there is none."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._by_run: dict[object, Search] = {}

    def begin(self, table: TaskTable) -> None:
        """Begins to see what is started on the running loop, or run of Trio's, unless that is so already.

        table: of whom it is to be.
        """
        run = _run_here()
        begun = self._by_run.get(run)
        if begun is not None:
            begun.resume()
            return
        policy = self._settings.policy
        # What needs no loop is looked for once.
        self._begin(run, table, looking_not_for(policy, WITHOUT_LOOP) if _OUTSIDE in self._by_run else policy)

    def begin_outside(self, table: TaskTable) -> None:
        """The same where no loop runs, for what needs none."""
        if _OUTSIDE not in self._by_run:
            self._begin(_OUTSIDE, table, looking_only_for(self._settings.policy, WITHOUT_LOOP))

    def _begin(self, run: object, table: TaskTable, policy: Policy) -> None:
        if policy.find is TASKS_ONLY:
            return
        from taskscope._findings.search import Search

        search = Search(table, policy)
        search.begin()
        self._by_run[run] = search

    def pop_here(self) -> Search | None:
        """Takes out the search on the running loop, for whoever judges what it finds and finishes it then."""
        search = self._by_run.pop(_run_here(), None)
        if search is not None:
            search.resume()
        return search

    def pop_outside(self) -> Search | None:
        return self._by_run.pop(_OUTSIDE, None)

    def are_any(self) -> bool:
        return bool(self._by_run)

    def loops(self) -> list[asyncio.AbstractEventLoop]:
        """The loops of asyncio's with a search that nobody has taken out."""
        return [run for run in self._by_run if isinstance(run, asyncio.events.AbstractEventLoop)]

    def take(self, found: Found, kind: Kind) -> None:
        """Has the first search take a thing that looks for such. Where none does, it is left alone."""
        for search in self._by_run.values():
            if search.looks_for(kind):
                search.take(found, kind)
                return

    def finish(self) -> None:
        for search in self._by_run.values():
            search.finish()
        self._by_run.clear()


def _run_here() -> object:
    backend = backend_here()
    return running_loop() if backend is _asyncio else backend.running_tracking()
