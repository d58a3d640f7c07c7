"""What stays the same of a fixture whenever it is set up. Most are set up for every test, and never have anything."""

from __future__ import annotations

from typing import Any, final

import pytest

from taskscope._table import TaskTable
from taskscope.pytest_plugin._functions import is_surely_sync
from taskscope.pytest_plugin._owners import Owner, name_of_fixture
from taskscope.pytest_plugin._settings import Settings


@final
class KnownFixture:
    """A fixture with the function that its definition has.

    Attributes:
        function: That function.
        is_sync: Whether it is surely a plain one.
        wrapped: What is run in the function's place where it is no plain one. None before it is needed.
    """

    __slots__ = ("_heir", "_name", "_spare", "function", "is_sync", "wrapped")

    def __init__(self, fixturedef: Any, heir: TaskTable) -> None:
        """heir: who answers for what is spawned in the context of its setup when it has been torn down."""
        self.function = fixturedef.func
        self.is_sync = is_surely_sync(self.function)
        self.wrapped: Any = None
        self._heir = heir
        self._name = name_of_fixture(fixturedef.argname)
        # Who it was when it was torn down last, if nothing was ever his.
        self._spare: Owner | None = None

    def owner(self, settings: Settings, node: pytest.Item | pytest.Collector) -> Owner:
        """Who it is from a setup on, for a test or a collection of tests."""
        owner, self._spare = self._spare, None
        if owner is None or owner.settings is not settings:
            owner = Owner(self._name, "fixture", settings, self.function)
            owner.function = self.function
            if self.is_sync:
                owner.prepare(self._heir)
        owner.node = node
        return owner

    def keep(self, owner: Owner) -> None:
        """Takes an owner that nobody knows any more, for the next setup."""
        owner.forget()
        self._spare = owner
