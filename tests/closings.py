"""What the tests of closings have in common: a resource that is a stranger to every library, and who may use it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from parity import THERE, Library

from taskscope import Report, TaskScope
from taskscope._report import Finding


def columns() -> Any:
    """Every kind of loop."""
    there = [pytest.param(column, id=column.name) for column in THERE]
    return pytest.mark.parametrize("column", there)


class Database:
    """Closed by `aclose`, which gives way to others once."""

    def __init__(self, library: Library) -> None:
        self.library = library
        self.is_shut = False

    async def query(self) -> None:
        if self.is_shut:
            raise RuntimeError("the database is closed")
        await self.library.sleep(0)

    async def aclose(self) -> None:
        await self.library.sleep(0)
        self.is_shut = True


class Account:
    """Leads to a database."""

    def __init__(self, database: Any) -> None:
        self.database = database

    async def write_when(self, event: Any) -> None:
        await event.wait()
        with suppress(RuntimeError):
            await self.database.query()


async def report_of(library: Library, body: Callable[[Callable[..., None]], Any], **policy: Any) -> Report:
    """The report of a scope round a body, which gets what spawns into a group from outside."""
    scope = TaskScope("mine", **{"grace": 5.0, "on_leak": "ignore", **policy})
    async with library.group() as group, scope:
        await body(library.spawner(group))
    return scope.report


def accused(report: Report) -> list[str]:
    """The names of the tasks that are accused."""
    return sorted(finding.task.name for finding in closed_in_use(report) if finding.task is not None)


def closed_in_use(report: Report) -> list[Finding]:
    return [finding for finding in report.findings if finding.kind == "closed-in-use"]
