"""What stays the same of a fixture whenever it is set up. Most are set up for every test, and never have anything."""

from __future__ import annotations

from typing import Any, final

import pytest

from taskscope._table import TaskTable
from taskscope.pytest_plugin._owners import Owner, name_of_fixture
from taskscope.pytest_plugin._settings import Settings


@final
class KnownFixture:
    """A fixture with the function that its definition has.

    Attributes:
        function: That function.
        wrapped: What is run in the function's place: the very function where it is no asynchronous one.
    """

    __slots__ = ("_heir", "_name", "_spare", "function", "wrapped")

    def __init__(self, name: str, function: Any, wrapped: Any, heir: TaskTable) -> None:
        """heir: who answers for what is spawned in the context of its setup when it has been torn down."""
        self.function = function
        self.wrapped = wrapped
        self._heir = heir
        self._name = name_of_fixture(name)
        # Who it was when it was torn down last, if nothing was ever its own.
        self._spare: Owner | None = None

    def owner(self, settings: Settings, node: pytest.Item | pytest.Collector, item: pytest.Item | None) -> Owner:
        """Who it is from a setup on, for a test or a collection of tests.

        item: the test that has asked for it.
        """
        owner, self._spare = self._spare, None
        if owner is None or owner.settings is not settings:
            owner = Owner(self._name, "fixture", settings, self.function)
            owner.function = self.function
            if self.wrapped is self.function:  # what others are tagged with, the contexts of their tasks lead to
                owner.prepare(self._heir)
        owner.node = node
        owner.set_up_for = item
        return owner

    def keep(self, owner: Owner) -> None:
        """Takes an owner that nobody knows any more, for the next setup."""
        owner.forget()
        self._spare = owner
