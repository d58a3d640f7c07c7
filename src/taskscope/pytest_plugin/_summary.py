"""All that was found in a run: at its end in the terminal, as JSON, and as annotations on GitHub."""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any, final

import pytest

from taskscope._render.words import counted
from taskscope.pytest_plugin._findings import Counts, Finding
from taskscope.pytest_plugin._options import ignore_lines
from taskscope.pytest_plugin._outcome import Outcomes
from taskscope.pytest_plugin._settings import rule_of_line

FORMAT_VERSION = 1
SHOWN = 20
"""Spawn sites, late tasks and the like beyond this number are counted but not listed."""

_FROM_WORKER = "taskscope"


@final
class Summary:
    """Gathers findings from the reports of tests, which come from workers too, where pytest-xdist has them."""

    def __init__(self, config: pytest.Config, outcomes: Outcomes) -> None:
        self._config = config
        self._outcomes = outcomes
        self._findings: list[Finding] = []
        self._counts = Counts()
        self._is_worker = hasattr(config, "workerinput")
        self._rules = [str(rule_of_line(line)) for line in ignore_lines(config)]
        self._was_deselected = False

    def pytest_deselected(self) -> None:
        self._was_deselected = True

    def pytest_runtest_logreport(self, report: Any) -> None:
        found: list[dict[str, Any]] = getattr(report, "taskscope", [])
        self._findings += [Finding(**finding) for finding in found]

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self) -> Generator[None, Any, Any]:
        result = yield
        self._findings += self._outcomes.left_over
        self._counts.add(self._outcomes.counts.to_dict())
        output = getattr(self._config, "workeroutput", None)
        if output is not None:
            left_over = [finding.to_dict() for finding in self._outcomes.left_over]
            output[_FROM_WORKER] = {"left_over": left_over, "counts": self._counts.to_dict()}
            return result
        file = self._config.getoption("--taskscope-report")
        if file is not None:
            Path(file).write_text(json.dumps(self._to_dict(), indent=2), "utf-8")
        return result

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        sent = getattr(node, "workeroutput", {}).get(_FROM_WORKER)
        if sent is not None:
            self._findings += [Finding(**finding) for finding in sent["left_over"]]
            self._counts.add(sent["counts"])

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self._is_worker:
            return
        lines = self._lines()
        if lines:
            terminalreporter.section("taskscope")
            for line in lines:
                terminalreporter.line(line)
        if os.environ.get("GITHUB_ACTIONS") == "true":
            for line in self._annotations():
                terminalreporter.line(line)

    def _to_dict(self) -> dict[str, Any]:
        return {
            "format_version": FORMAT_VERSION,
            "findings": [finding.to_dict() for finding in self._findings],
            **self._counts.to_dict(),
            "rules_that_never_matched": self._idle_rules(),
        }

    def _leaking(self) -> list[Finding]:
        return [finding for finding in self._findings if finding.outcome not in ("ignored", "expected")]

    def _lines(self) -> list[str]:
        lines: list[str] = []
        leaking = self._leaking()
        if leaking:
            lines += self._leak_lines(leaking)
        expected = sum(_tasks(finding) for finding in self._findings if finding.outcome == "expected")
        if expected:
            lines.append(f"{counted(expected, 'task')} leaked as expected.")
        late = sum(self._counts.late.values())
        if late:
            lines.append(f"{counted(late, 'task')} ended only after the test had; what they use may be closed by then:")
            lines += _listed(self._counts.late)
        ignored = sum(self._counts.ignored.values())
        if ignored:
            lines.append(f"{counted(ignored, 'task')} left alone by rules:")
            lines += _listed(self._counts.ignored)
        for rule in self._idle_rules():
            lines.append(f"This rule of taskscope_ignore has matched nothing: {rule}")
        return lines

    def _leak_lines(self, findings: list[Finding]) -> list[str]:
        ended = [finding for finding in findings if finding.report["phase"] == "body"]
        lines = [f"The body of {finding.owner} was ended: {_why_ended(finding)}." for finding in ended[:SHOWN]]
        if len(ended) > SHOWN:
            lines.append(f"So were {len(ended) - SHOWN:,} others.")
        findings = [finding for finding in findings if finding.report["phase"] != "body"]
        owners = {finding.owner for finding in findings}
        number = sum(map(_tasks, findings))
        who = "1 test or fixture has" if len(owners) == 1 else f"{len(owners):,} tests and fixtures have"
        if findings:
            lines.append(f"{who} left {counted(number, 'task')} behind:")
        sites: dict[str, list[str]] = {}
        for finding in findings:
            for leak in finding.report["leaks"]:
                sites.setdefault(_site(leak), []).append(_leaver(finding, leak))
        by_number = sorted(sites.items(), key=lambda entry: -len(entry[1]))
        for site, leavers in by_number[:SHOWN]:
            lines.append(f"  {len(leavers):>4} x {site}")
            names = list(dict.fromkeys(leavers))
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            lines.append(f"         in {', '.join(names[:3])}{more}")
        if len(by_number) > SHOWN:
            lines.append(f"  and {counted(len(by_number) - SHOWN, 'more place')}, see --taskscope-report")
        return lines

    def _idle_rules(self) -> list[str]:
        """Rules of the user's that matched nothing in a run of all tests."""
        option = self._config.option
        is_full = not (
            self._was_deselected
            or option.keyword
            or option.markexpr
            or getattr(option, "lf", False)
            or self._config.args_source == self._config.ArgsSource.ARGS
        )
        return [rule for rule in self._rules if rule not in self._counts.ignored] if is_full else []

    def _annotations(self) -> list[str]:
        lines: list[str] = []
        for finding in self._leaking():
            level = "error" if finding.outcome == "failed" else "warning"
            for leak in finding.report["leaks"]:
                site: dict[str, Any] = leak["spawn_site"] or {"file": "", "line": 1}
                message = f"{leak['coroutine']} was left behind by {_leaver(finding, leak)}"
                lines.append(f"::{level} file={_relative(site['file'])},line={site['line']}::{_escaped(message)}")
        return lines


def _why_ended(finding: Finding) -> str:
    body = finding.report["body"]
    return "it was deadlocked" if body is not None and body["verdict"] == "deadlocked" else "its time was up"


def _leaver(finding: Finding, leak: dict[str, Any]) -> str:
    """Who has left a task: the test that spawned it, where it was found later than at that test's end."""
    if leak["closed_scope"] is not None:
        return str(leak["closed_scope"])
    return f"{finding.owner} of {finding.nodeid}" if finding.kind == "fixture" else finding.owner


def _tasks(finding: Finding) -> int:
    return len(finding.report["leaks"]) + int(finding.report["leaks_omitted"])


def _site(leak: dict[str, Any]) -> str:
    site = leak["spawn_site"]
    if site is None:
        return str(leak["coroutine"])
    return f"{leak['coroutine']}, spawned at {_relative(site['file'])}:{site['line']} in {site['function']}"


def _listed(numbers: dict[str, int]) -> list[str]:
    by_number = sorted(numbers.items(), key=lambda entry: -entry[1])
    lines = [f"  {number:>4} x {what}" for what, number in by_number[:SHOWN]]
    return [*lines, f"  and {len(by_number) - SHOWN} more"] if len(by_number) > SHOWN else lines


def _relative(file: str) -> str:
    try:
        relative = os.path.relpath(file)
    except ValueError:  # on another drive
        return file
    return file if relative.startswith("..") else relative


def _escaped(message: str) -> str:
    return message.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
