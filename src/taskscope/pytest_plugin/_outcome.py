"""What a finding does to the test in which it was found."""

from __future__ import annotations

import os
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, final

import pytest

from taskscope._acting import logger
from taskscope._errors import TaskLeakWarning
from taskscope._report import Report, TaskRecord
from taskscope.pytest_plugin._findings import Counts, Finding
from taskscope.pytest_plugin._owners import Owner
from taskscope.pytest_plugin._tests import TestRun

TITLE = "taskscope"

_OUTCOMES = {"raise": "failed", "warn": "warned", "log": "logged", "ignore": "ignored", "summary": "told"}


class Leaked(pytest.fail.Exception):  # type: ignore[misc,name-defined]
    """A test or fixture has left tasks behind. Its message is the report."""

    __module__ = "builtins"  # so that pytest shows its bare name

    def __init__(self, text: str) -> None:
        super().__init__(text, pytrace=False)


@final
class Outcomes:
    """Keeps what is found until the phase in which it was found ends, and acts on it then."""

    def __init__(self, config: pytest.Config) -> None:
        self.counts = Counts()
        # What was found outside of any test's setup, call and teardown.
        self.left_over: list[Finding] = []
        self._worker: str | None = getattr(config, "workerinput", {}).get("workerid")
        self._collected: list[tuple[Owner, Report]] = []
        self._of_phase: list[Finding] = []

    def collect(self, owner: Owner, report: Report) -> None:
        """Takes a report that has anything to tell."""
        self.counts.note(report)
        if report.leaks:
            self._collected.append((owner, report))

    def forget(self, owner: Owner) -> None:
        """Drops what was collected of an owner, which begins anew."""
        self._collected = [(other, report) for other, report in self._collected if other is not owner]

    @contextmanager
    def phase(self, item: pytest.Item, when: str, run: TestRun | None = None) -> Generator[None]:
        """The setup, call or teardown of a test."""
        self._of_phase.clear()
        try:
            yield
        except (KeyboardInterrupt, pytest.exit.Exception):
            self._finish_phase(item, when, run)
            raise
        except BaseException as error:
            failures = self._finish_phase(item, when, run)
            if run is not None and run.ended_early is not None:
                raise Leaked("\n\n".join(failures)) from None
            if failures and not isinstance(error, Leaked):
                item.add_report_section(when, TITLE, "\n\n".join(failures))
            raise
        else:
            failures = self._finish_phase(item, when, run)
            if not failures:
                return
            text = "\n\n".join(failures)
            if run is not None and run.has_failed_by_itself():
                if run.ended_early is not None:
                    run.replace_failure(Leaked(text))
                else:
                    item.add_report_section(when, TITLE, text)
                return
            if when == "setup":  # pytest tears a fixture down here that the next parameters make anew
                self._warn(item, text)
                return
            raise Leaked(text)

    def fail_example(self, item: pytest.Item, run: TestRun) -> None:
        """Raises for what one example of a property test has left."""
        mine = [(owner, report) for owner, report in self._collected if owner is run.owner]
        texts = [found.text for owner, report in mine for found in self._judged(owner, report, item, "call", run)]
        if texts and run.settings.on_leak == "raise":
            raise Leaked("\n\n".join(texts))

    def attach(self, report: Any) -> None:
        """Has a test's report carry what was found in it, to wherever it is read."""
        if not self._of_phase:
            return
        report.taskscope = [finding.to_dict() for finding in self._of_phase]
        for finding in self._of_phase:
            report.user_properties.append((TITLE, finding.text))
        self._of_phase.clear()

    def finish(self, session: pytest.Session) -> None:
        """The end of the session: what was found since the last test."""
        for owner, report in self._collected:
            failed = owner.settings.on_leak == "raise"
            self.left_over.append(self._finding(owner, report, "failed" if failed else "told", "", "end"))
            if failed and session.exitstatus == pytest.ExitCode.OK:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED
        self._collected.clear()

    def _finish_phase(self, item: pytest.Item, when: str, run: TestRun | None) -> list[str]:
        """Acts on all that was collected. The texts of what fails the test are returned."""
        collected, self._collected = self._collected, []
        failures: list[str] = []
        if run is not None and run.ended_early is not None:
            finding = self._finding(run.owner, run.ended_early, "failed", item.nodeid, when)
            self._of_phase.append(finding)
            failures.append(finding.text)
        for owner, report in collected:
            for finding in self._judged(owner, report, item, when, run):
                self._of_phase.append(finding)
                self._act(finding, owner, report, item, failures)
        if run is not None and when == "call":
            failures += run.expected_but_absent()
        return failures

    def _judged(self, owner: Owner, report: Report, item: pytest.Item, when: str, run: TestRun | None) -> list[Finding]:
        """The findings of one report: what the test is expected to leave, and the rest."""
        expected, others = ((), report.leaks) if run is None else run.split(report.leaks)
        found: list[Finding] = []
        if expected:
            found.append(self._finding(owner, _only(report, expected), "expected", item.nodeid, when))
        if others:
            outcome = _OUTCOMES.get(owner.settings.on_leak, "called") if _is_word(owner) else "called"
            found.append(self._finding(owner, _only(report, others), outcome, item.nodeid, when))
        return found

    def _act(self, finding: Finding, owner: Owner, report: Report, item: pytest.Item, failures: list[str]) -> None:
        if finding.outcome == "failed":
            failures.append(finding.text)
        elif finding.outcome == "warned":
            self._warn(item, finding.text)
        elif finding.outcome == "logged":
            logger.error("%s", finding.text, extra={"taskscope_report": finding.report})
        elif finding.outcome == "called":
            owner.settings.on_leak(report)

    def _warn(self, item: pytest.Item, text: str) -> None:
        file, line, _ = item.location
        path = os.path.join(str(item.config.rootpath), file)
        warnings.warn_explicit(TaskLeakWarning(text), TaskLeakWarning, path, (line or 0) + 1)

    def _finding(self, owner: Owner, report: Report, outcome: str, nodeid: str, phase: str) -> Finding:
        return Finding(owner.name, owner.kind, outcome, nodeid, phase, report.to_dict(), report.format(), self._worker)


def _only(report: Report, leaks: tuple[TaskRecord, ...]) -> Report:
    return report if leaks == report.leaks else replace(report, leaks=leaks, survivors=())


def _is_word(owner: Owner) -> bool:
    return isinstance(owner.settings.on_leak, str)
