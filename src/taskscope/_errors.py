"""Errors and the warning that a scope raises. Each carries the report it is about."""

from __future__ import annotations

from typing import final

from taskscope._report import Report


class TaskScopeError(Exception):
    """Base of the errors that taskscope raises by itself."""


class _WithReport(TaskScopeError):
    def __init__(self, report: Report) -> None:
        super().__init__(report)
        self.report = report

    def __str__(self) -> str:
        return self.report.format()


@final
class TaskLeakError(_WithReport):
    """The body of a scope ended and left tasks behind. They have been cancelled; `report` tells which they were."""


@final
class DeadlockError(_WithReport):
    """The body of a scope was proven unable to ever go on. `report` has its stack."""


@final
class ScopeTimeoutError(_WithReport, TimeoutError):
    """The body of a scope was still running after the scope's `timeout` and has been cancelled."""


@final
class TaskLeakWarning(RuntimeWarning):
    """What a scope with `on_leak="warn"` warns with."""
