"""Who else may have what a test or fixture leaves: noted when that begins, and asked only where there is anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, final

from taskscope._table import AnyTask, TaskTable
from taskscope.pytest_plugin._owners import Owner

if TYPE_CHECKING:
    from taskscope._findings.found import Found
    from taskscope._findings.search import Taker
    from taskscope.pytest_plugin._claiming import Claiming


@final
class ClaimsOf:
    """Those of given owners, as `Claiming` finds them.

    owners: gives them, also those that a test has asked for in its body.
    values: arguments of the test by the name of the fixture, where they are not the values that pytest knows.
    instance: of the test's class, if it has one.
    """

    def __init__(
        self,
        owners: Callable[[], Iterable[Owner]],
        values: Mapping[str, object] | None = None,
        instance: object | None = None,
    ) -> None:
        self._owners = owners
        self._values = values
        self._instance = instance

    def tasks(self, tasks: list[AnyTask]) -> Mapping[AnyTask, tuple[TaskTable, str]]:
        """As `Claims` of a scope has it."""
        return self._claiming().tasks(tasks)

    def things(self, found: list[Found]) -> Mapping[int, Taker]:
        """As `ClaimsThings` has it."""
        return self._claiming().things(found)

    def _claiming(self) -> Claiming:
        from taskscope.pytest_plugin._claiming import Claiming

        return Claiming(self._owners(), self._values or {}, self._instance)
