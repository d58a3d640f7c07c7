"""What a finding does to the test in which it was found."""

from __future__ import annotations

import os
import traceback
import warnings
from dataclasses import dataclass, field, replace
from typing import cast, final

import pytest

from taskscope._errors import TaskLeakWarning
from taskscope._logger import logger
from taskscope._report import Report, TaskRecord
from taskscope.pytest_plugin._findings import Counts, Finding
from taskscope.pytest_plugin._owners import Owner
from taskscope.pytest_plugin._tests import TestRun

TITLE = "taskscope"
REPORTS = "taskscope-reports"

_OUTCOMES = {"raise": "failed", "warn": "warned", "log": "logged", "ignore": "ignored", "summary": "told"}


class Leaked(pytest.fail.Exception):  # type: ignore[misc,name-defined]
    """A test or fixture has left something behind. Its message is the report."""

    __module__ = "builtins"  # so that pytest shows its bare name

    def __init__(self, text: str) -> None:
        super().__init__(text, pytrace=False)


class LeakedInExample(Exception):
    """The same for one example of a property test. Hypothesis takes no other exceptions out of a nursery's group."""


@dataclass(slots=True)
class Told:
    """What acting on the findings of a phase has come to.

    Attributes:
        texts: Of what the test fails for.
        errors: What users' functions, and their handlers of logging, have raised.
    """

    texts: list[str] = field(default_factory=list[str])
    errors: list[BaseException] = field(default_factory=list[BaseException])

    def text(self) -> str:
        return "\n\n".join([*self.texts, *("".join(traceback.format_exception(error)) for error in self.errors)])

    def raise_if_any(self) -> None:
        __tracebackhide__ = True
        if len(self.errors) == 1 and not self.texts:
            raise self.errors[0]
        if text := self.text():
            raise Leaked(text)


@final
class Outcomes:
    """Keeps what is found until the phase in which it was found ends, and acts on it then."""

    def __init__(self, config: pytest.Config) -> None:
        self.counts = Counts()
        # What was found outside of any test's setup, call and teardown, or in one that was interrupted.
        self.left_over: list[Finding] = []
        self._worker: str | None = getattr(config, "workerinput", {}).get("workerid")
        self._plugins = config.pluginmanager
        self._collected: list[tuple[Owner, Report]] = []
        self._of_phase: list[Finding] = []

    def collect(self, owner: Owner, report: Report) -> None:
        """Takes a report that has anything to tell."""
        self.counts.note(report)
        if not report.ok:
            self._collected.append((owner, report))

    def phase(self, item: pytest.Item, when: str, run: TestRun | None = None) -> _Phase:
        """The setup, call or teardown of a test, as a context manager. What the test raises is never replaced."""
        return _Phase(self, item, when, run)

    def begin_phase(self) -> None:
        self._of_phase.clear()

    def end_phase(self, item: pytest.Item, when: str, run: TestRun | None) -> None:
        """The phase has raised nothing."""
        __tracebackhide__ = True
        if not self._collected and (run is None or run.is_uneventful()):
            return
        told = self._finish_phase(item, when, run)
        own_failure = None if run is None else run.own_failure()
        if run is not None and own_failure is not None and _is_ours(own_failure, run):
            run.replace_failure(_leaked(told.text(), own_failure))
        elif own_failure is not None and (text := told.text()):
            item.add_report_section(when, TITLE, text)
        elif when == "setup":
            self._tell_in_setup(item, told)
        else:
            told.raise_if_any()

    def end_failed_phase(self, item: pytest.Item, when: str, run: TestRun | None, error: BaseException) -> None:
        __tracebackhide__ = True
        text = self._finish_phase(item, when, run).text()
        if _is_ours(error, run):
            raise _leaked(text, error) from None
        if text:
            item.add_report_section(when, TITLE, text)

    def begin_example(self, run: TestRun) -> None:
        """An example of a property test begins."""
        if run.settings.on_leak == "raise":  # what it fails with is run once more in the end
            self._collected = [(owner, report) for owner, report in self._collected if owner is not run.owner]

    def end_example(self, item: pytest.Item, run: TestRun) -> None:
        """Raises for what the example has left, or keeps one report of each sort where that fails no test."""
        __tracebackhide__ = True
        mine = [report for owner, report in self._collected if owner is run.owner]
        found = [finding for report in mine for finding in self._judged(run.owner, report, item.nodeid, "call", run)]
        texts = [finding.text for finding in found if finding.outcome == "failed"]
        if texts:
            raise LeakedInExample("\n\n".join(texts))
        sorts = {_sort_of(report): report for report in mine}
        kept = {id(report) for report in sorts.values()}
        self._collected = [
            (owner, report) for owner, report in self._collected if owner is not run.owner or id(report) in kept
        ]

    def take_of_phase(self) -> list[Finding]:
        """What was found in the phase that has ended."""
        found, self._of_phase = self._of_phase, []
        return found

    def finish(self) -> None:
        """The end of the session: what was found since the last test, or in one that was interrupted."""
        self.left_over += self.take_of_phase()
        for owner, report in self._collected:
            self.left_over += self._judged(owner, report, "", "end", None)
        self._collected.clear()
        for finding in self.left_over:
            if finding.outcome == "logged":
                _log(finding)

    def _finish_phase(self, item: pytest.Item, when: str, run: TestRun | None) -> Told:
        """Acts on all that was collected."""
        if not self._plugins.has_plugin(REPORTS):
            from taskscope.pytest_plugin._reports import Reports

            self._plugins.register(Reports(self), REPORTS)
        collected, self._collected = self._collected, []
        told = Told()
        if run is not None and run.ended_early is not None:
            finding = self._finding(run.owner, run.ended_early, "failed", item.nodeid, when)
            self._of_phase.append(finding)
            told.texts.append(finding.text)
        for owner, report in collected:
            of, at = item, when
            if when == "setup" and owner.set_up_for is not None:  # not for this test: see `_tell_in_setup`
                of, at = owner.set_up_for, "teardown"
            for finding in self._judged(owner, report, of.nodeid, at, run):
                self._of_phase.append(finding)
                self._act(finding, owner, report, of, at, told)
        if run is not None and when == "call" and run.settings.on_leak != "summary":  # which fails nothing
            told.texts += run.expected_but_absent()
        return told

    def _judged(self, owner: Owner, report: Report, nodeid: str, when: str, run: TestRun | None) -> list[Finding]:
        """The findings of one report: what the test is expected to leave, and the rest, which can be things alone."""
        expected, others = ((), report.leaks) if run is None else run.split(report.leaks)
        found: list[Finding] = []
        if expected:
            only = replace(_only(report, expected), leaks_omitted=0 if others else report.leaks_omitted, findings=())
            found.append(self._finding(owner, only, "expected", nodeid, when))
        if others or report.findings:
            on_leak = owner.settings.on_leak
            outcome = _OUTCOMES[on_leak] if isinstance(on_leak, str) else "called"
            rest = replace(_only(report, others), leaks_omitted=report.leaks_omitted if others else 0)
            found.append(self._finding(owner, rest, outcome, nodeid, when))
        return found

    def _act(self, finding: Finding, owner: Owner, report: Report, item: pytest.Item, when: str, told: Told) -> None:
        __tracebackhide__ = True
        try:
            if finding.outcome == "failed":
                told.texts.append(finding.text)
            elif finding.outcome == "warned":
                _warn(item, finding.text)
            elif finding.outcome == "logged":
                _log(finding)
                item.add_report_section(when, "log", finding.text)  # pytest has let go of the logs of this phase
            elif finding.outcome == "called":
                owner.settings.on_leak(report)
        except TaskLeakWarning:  # the user's filters turn it into an error
            told.texts.append(finding.text)
        except (KeyboardInterrupt, SystemExit, pytest.exit.Exception):
            raise
        except BaseException as error:  # pytest.fail and the like are no Exceptions
            told.errors.append(error)

    def _tell_in_setup(self, item: pytest.Item, told: Told) -> None:
        """What a fixture has left that pytest tears down here, for the next parameters to make it anew.

        The test that is set up has nothing to do with it, so it does not fail.
        """
        text = told.text()
        if not text:
            return
        try:
            _warn(item, text)
        except TaskLeakWarning:
            item.add_report_section("setup", TITLE, text)

    def _finding(self, owner: Owner, report: Report, outcome: str, nodeid: str, phase: str) -> Finding:
        return Finding(owner.name, owner.kind, outcome, nodeid, phase, report.to_dict(), report.format(), self._worker)


@final
class _Phase:
    """A class, and no function of `contextlib`'s, for that would take three times as long, and each test has three."""

    __slots__ = ("_item", "_outcomes", "_run", "_when")

    def __init__(self, outcomes: Outcomes, item: pytest.Item, when: str, run: TestRun | None) -> None:
        self._outcomes = outcomes
        self._item = item
        self._when = when
        self._run = run

    def __enter__(self) -> None:
        self._outcomes.begin_phase()

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        __tracebackhide__ = True
        if error is None:
            self._outcomes.end_phase(self._item, self._when, self._run)
        else:
            self._outcomes.end_failed_phase(self._item, self._when, self._run, error)


def _sort_of(report: Report) -> object:
    """What reports have in common of which one will do."""
    tasks = tuple((leak.coroutine, leak.spawn_site) for leak in report.leaks)
    return tasks, tuple((thing.kind, thing.spawn_site, thing.stack) for thing in report.findings)


def _warn(item: pytest.Item, text: str) -> None:
    file, line, _ = item.location
    path = os.path.join(str(item.config.rootpath), file)
    warnings.warn_explicit(TaskLeakWarning(text), TaskLeakWarning, path, (line or 0) + 1)


def _log(finding: Finding) -> None:
    logger().error("%s", finding.text, extra={"taskscope_report": finding.report})


def _only(report: Report, leaks: tuple[TaskRecord, ...]) -> Report:
    if leaks == report.leaks:
        return report
    return replace(report, leaks=leaks, survivors=tuple(task for task in report.survivors if task in leaks))


def _is_ours(error: BaseException, run: TestRun | None) -> bool:
    """Whether a test fails only for what was found in it."""
    if isinstance(error, BaseExceptionGroup):
        inner = cast("BaseExceptionGroup[BaseException]", error).exceptions
        return all(_is_ours(found, run) for found in inner)
    return isinstance(error, Leaked | LeakedInExample) or (run is not None and run.has_ended_with(error))


def _leaked(text: str, error: BaseException) -> Leaked:
    """What the test is to fail with, in the place of an error of ours: without a traceback, but with its notes.

    Hypothesis says there with which example it was, and pytest would not show them.
    """
    return Leaked("\n\n".join([text or str(error), *_notes(error)]))


def _notes(error: BaseException) -> list[str]:
    found: list[str] = list(getattr(error, "__notes__", ()))
    if isinstance(error, BaseExceptionGroup):
        for inner in cast("BaseExceptionGroup[BaseException]", error).exceptions:
            found += _notes(inner)
    return found
