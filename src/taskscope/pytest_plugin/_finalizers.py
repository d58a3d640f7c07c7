"""Functions that a test has called at its end, by `request.addfinalizer`. What they lead to they are to end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, final

import pytest

from taskscope.pytest_plugin._owners import Owner
from taskscope.pytest_plugin._settings import SettingsOfSession

Finalizer = Callable[[], object]


@final
class Finalizers:
    """The owners that stand for such functions: one for each test, class, module or session at whose end there are any.

    None is made before somebody has left something.
    """

    def __init__(self, settings: SettingsOfSession) -> None:
        self._settings = settings
        # Those of what is set up, by the test, class, module or session. It is pytest's own, which has no name for it.
        self._of_nodes: Mapping[Any, tuple[list[Finalizer], object]] = {}
        self._of_torn_down: Mapping[Any, tuple[list[Finalizer], object]] = {}
        # Each with the finalizers that are still to be called.
        self._owners: dict[Any, tuple[Owner, list[Finalizer]]] = {}

    def begin_setup(self, item: pytest.Item) -> None:
        self._of_nodes = item.session._setupstate.stack  # pyright: ignore[reportPrivateUsage]

    def begin_teardown(self) -> None:
        # pytest takes a test off its stack before it calls what is to be called then.
        self._of_torn_down = dict(self._of_nodes)

    def end_teardown(self) -> list[Owner]:
        """The owners whose functions have been called, which are asked for nothing from here on."""
        self._of_torn_down = {}
        return [self._owners.pop(node)[0] for node in list(self._owners) if node not in self._of_nodes]

    def owners(self) -> list[Owner]:
        """Those who may have what somebody has left."""
        from taskscope._findings.callables import name_of

        for node, (finalizers, _) in {**self._of_torn_down, **self._of_nodes}.items():
            users = [] if node in self._owners else _users(finalizers)
            settings = self._settings.of(node) if users else None
            if settings is not None:
                owner = Owner(f"finalizer {name_of(users[-1])}", "finalizer", settings, users[-1])
                self._owners[node] = owner, finalizers
        return self.made()

    def made(self) -> list[Owner]:
        """Those who had been made before."""
        for owner, finalizers in self._owners.values():
            owner.values[:] = [_users(finalizers)]
            owner.is_judged = owner.values == [[]]
        return [owner for owner, _ in self._owners.values()]


def _users(finalizers: list[Finalizer]) -> list[Finalizer]:
    return [finalizer for finalizer in finalizers if not _is_pytests(finalizer)]


def _is_pytests(finalizer: Finalizer) -> bool:
    """Whether it tears down what pytest keeps it for, or one of the fixtures that were set up for that."""
    from taskscope._findings.callables import object_of

    return isinstance(object_of(finalizer), pytest.FixtureDef | pytest.Item | pytest.Collector)
