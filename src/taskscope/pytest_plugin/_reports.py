"""Has pytest's reports of tests carry what was found in them. A plugin of its own, registered when first needed."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, final

import pytest

from taskscope.pytest_plugin._outcome import TITLE, Leaked, Outcomes


@final
class Reports:
    """Registered with the first phase that fails or has anything to tell: pytest calls it three times for each test."""

    def __init__(self, outcomes: Outcomes) -> None:
        self._outcomes = outcomes

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: Any) -> Generator[None, Any, Any]:
        report = yield
        if call.excinfo is not None and isinstance(call.excinfo.value, Leaked):
            _leave_out_advice(report)
        self._attach(item, report)
        return report

    def _attach(self, item: pytest.Item, report: pytest.TestReport) -> None:
        """Has it carry what was found, to wherever it is read."""
        found = self._outcomes.take_of_phase()
        if not found:
            return
        vars(report)["taskscope"] = [finding.to_dict() for finding in found]
        for finding in found:
            if report.failed and finding.text in report.longreprtext:
                continue
            report.user_properties.append((TITLE, finding.text))
            if report.when != "teardown":
                item.user_properties.append((TITLE, finding.text))  # JUnit's XML has those of the teardown


def _leave_out_advice(report: pytest.TestReport) -> None:
    """Takes off what pytest says below a failure without a traceback: how to see one, which here would be ours."""
    traceback: Any = getattr(report.longrepr, "reprtraceback", None)
    if traceback is not None:
        traceback.extraline = None
