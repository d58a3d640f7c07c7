"""Gathers all that was found in a run, also by workers of pytest-xdist, and writes it in the end."""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import Any, final

import pytest

from taskscope.pytest_plugin._findings import Counts, Finding
from taskscope.pytest_plugin._options import REPORT
from taskscope.pytest_plugin._outcome import Outcomes
from taskscope.pytest_plugin._settings import SettingsOfSession
from taskscope.pytest_plugin._values import report_file

FORMAT_VERSION = 1

_FROM_WORKER = "taskscope"


@final
class Summary:
    """Gathers findings from the reports of tests, which come from workers too, where pytest-xdist has them.

    Raises:
        pytest.UsageError: A bad value of an option.
    """

    def __init__(self, config: pytest.Config, settings: SettingsOfSession, outcomes: Outcomes) -> None:
        self._config = config
        self._outcomes = outcomes
        self._findings: list[Finding] = []
        # Those that are failures, and have failed no test: of fixtures that no test had any more, for instance.
        self._unblamed: list[Finding] = []
        self._counts = Counts()
        self._is_worker = hasattr(config, "workerinput")
        self._file = None if self._is_worker else report_file(config)
        self._not_written: OSError | None = None
        self._rules = list(map(str, settings.default.policy.ignore))
        self._was_deselected = False
        self._idle_rules: list[str] = []

    def pytest_deselected(self) -> None:
        self._was_deselected = True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for data in vars(report).get("taskscope", ()):
            finding = Finding(**data)
            if finding.outcome == "failed":
                finding.outcome = _what_became(report)
                if report.passed:
                    self._unblamed.append(finding)
            self._findings.append(finding)

    # Inside of pytest-xdist's, which sends what a worker has found, and of the terminal's, which shows it.
    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, Any, Any]:
        try:
            return (yield)
        finally:
            self._add_left_over(self._outcomes.left_over)
            self._counts.add(self._outcomes.counts.to_dict())
            if self._is_worker:
                self._send(self._config)
            else:
                self._finish(session)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        # Taken out: of a worker that was interrupted, xdist tells twice.
        sent = getattr(node, "workeroutput", {}).pop(_FROM_WORKER, None)
        if sent is not None:
            self._add_left_over([Finding(**finding) for finding in sent["left_over"]])
            self._counts.add(sent["counts"])

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if not self._is_anything_to_tell():
            return
        from taskscope.pytest_plugin._annotations import github_lines, is_on_github
        from taskscope.pytest_plugin._terminal import leaking, summary_lines

        folder = self._config.invocation_params.dir
        lines = summary_lines(self._findings, self._unblamed, self._counts, self._idle_rules, folder)
        if self._not_written is not None:
            lines.append(f"{REPORT}: it could not be written: {self._not_written}")
        if lines:
            terminalreporter.section("taskscope")
        if is_on_github():
            lines += github_lines(leaking(self._findings), self._config)
        for line in lines:
            terminalreporter.line(line)

    def _is_anything_to_tell(self) -> bool:
        counted = self._counts.late or self._counts.ignored
        return bool(self._findings or counted or self._idle_rules or self._not_written)

    def _add_left_over(self, findings: list[Finding]) -> None:
        self._findings += findings
        self._unblamed += [finding for finding in findings if finding.outcome == "failed"]

    def _send(self, config: Any) -> None:
        left_over = [finding.to_dict() for finding in self._outcomes.left_over]
        config.workeroutput[_FROM_WORKER] = {"left_over": left_over, "counts": self._counts.to_dict()}

    def _finish(self, session: pytest.Session) -> None:
        if self._is_full(session):
            self._idle_rules = [rule for rule in self._rules if rule not in self._counts.ignored]
        if self._unblamed and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        if self._file is None:
            return
        data = {
            "format_version": FORMAT_VERSION,
            "findings": [finding.to_dict() for finding in self._findings],
            **self._counts.to_dict(),
            "rules_that_never_matched": self._idle_rules,
        }
        try:
            self._file.write_text(json.dumps(data, indent=2), "utf-8")
        except OSError as error:  # the disk is full, a test has taken the folder away
            self._not_written = error

    def _is_full(self, session: pytest.Session) -> bool:
        """Whether all tests that there are have run, from the first to the last."""
        option = self._config.option
        was_chosen = (
            self._was_deselected
            or option.keyword
            or option.markexpr
            or option.collectonly
            or getattr(option, "lf", False)
            or self._config.args_source == pytest.Config.ArgsSource.ARGS
        )
        was_stopped = session.shouldfail or session.shouldstop
        ran_all = session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
        return ran_all and not was_chosen and not was_stopped


def _what_became(report: pytest.TestReport) -> str:
    """What has become of a finding for which its test was to fail."""
    if report.skipped:
        return "xfailed" if hasattr(report, "wasxfail") else "told"
    return "failed" if report.outcome in ("failed", "passed") else "rerun"  # as pytest-rerunfailures has it
