"""What was found in a run, in lines for the end of it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from taskscope._render.places import within_library
from taskscope._render.words import counted, listed
from taskscope.pytest_plugin._findings import Counts, Finding
from taskscope.pytest_plugin._told_things import how_it_is_there, place_of, what_it_is

SHOWN: Final = 20
"""Spawn sites, late tasks and the like beyond this number are counted but not listed."""
_NAMES: Final = 3

_AT: Final = ", spawned at "

_EXPECTED: Final = "expected"
_XFAILED: Final = "xfailed"
_SAYS_NOTHING: Final = ("ignored", _EXPECTED, _XFAILED)


def leaking(findings: Iterable[Finding]) -> list[Finding]:
    """Those that nobody has said to be expected."""
    return [finding for finding in findings if finding.outcome not in _SAYS_NOTHING]


def summary_lines(
    findings: list[Finding], unblamed: list[Finding], counts: Counts, idle_rules: list[str], folder: Path
) -> list[str]:
    """
    unblamed: those of the findings that fail the run, for they fail no test.
    idle_rules: rules that have matched nothing.
    folder: where pytest was started; files in it are called by their way from there.
    """
    lines = _ended(findings) + _left(leaking(findings), folder)
    if unblamed:
        lines.append(f"No test has failed for {_of_these(unblamed)}: the run fails instead.")
    expected = _tasks(finding for finding in findings if finding.outcome == _EXPECTED)
    if expected:
        lines.append(f"{counted(expected, 'task')} leaked as expected.")
    xfailed = [finding for finding in findings if finding.outcome == _XFAILED and not finding.is_of_body]
    if xfailed:
        who = listed(list(dict.fromkeys(finding.who() for finding in xfailed)), _NAMES)
        lines.append(f"{_all_left(xfailed)} left behind by what was expected to fail: {who}.")
    late = counts.late.total()
    if late:
        lines.append(f"{counted(late, 'task')} ended only after the test had; what they use may be closed by then:")
        lines += _listed(counts.late, folder)
    ignored = counts.ignored.total()
    if ignored:
        lines.append(f"{counted(ignored, 'task')} left alone by rules:")
        lines += _listed(counts.ignored, folder)
    return lines + [f"This rule of taskscope_ignore has matched nothing: {rule}" for rule in idle_rules]


def _ended(findings: list[Finding]) -> list[str]:
    ended = [finding for finding in findings if finding.is_of_body]
    lines = [f"The body of {finding.owner} was ended: {finding.why_ended()}." for finding in ended[:SHOWN]]
    if len(ended) > SHOWN:
        lines.append(f"So were {len(ended) - SHOWN:,} others.")
    return lines


def _left(findings: list[Finding], folder: Path) -> list[str]:
    sites: dict[str, list[str]] = {}
    for finding in findings:
        if finding.is_of_body:
            continue
        for leak in finding.report["leaks"]:
            sites.setdefault(_site(leak, folder), []).append(_leaver(finding, finding.who_left(leak)))
        for thing in finding.things:
            sites.setdefault(_site_of_thing(thing, folder), []).append(_leaver(finding, finding.who()))
    if not sites:
        return []
    leavers = {leaver for found in sites.values() for leaver in found}
    who = "1 test or fixture has" if len(leavers) == 1 else f"{len(leavers):,} tests and fixtures have"
    lines = [f"{who} left {_all_left(findings)} behind:"]
    by_number = sorted(sites.items(), key=lambda entry: -len(entry[1]))
    for site, found in by_number[:SHOWN]:
        lines.append(f"  {len(found):>4} x {site}")
        lines.append(f"         in {listed(list(dict.fromkeys(found)), _NAMES)}")
    if len(by_number) > SHOWN:
        lines.append(f"  and {counted(len(by_number) - SHOWN, 'more place')}, see --taskscope-report")
    return lines


def _leaver(finding: Finding, who: str) -> str:
    return who + (" (which was run again)" if finding.outcome == "rerun" else "")


def _all_left(findings: list[Finding]) -> str:
    tasks, things = _tasks(findings), _things(findings)
    if tasks and things:
        return f"{counted(tasks, 'task')} and {counted(things, 'other thing')}"
    return counted(things, "thing") if things else counted(tasks, "task")


def _of_these(findings: list[Finding]) -> str:
    tasks, things = _tasks(findings), _things(findings)
    if tasks and things:
        return f"{tasks:,} of these tasks and {things:,} of the other things"
    return f"{things:,} of these things" if things else f"{tasks:,} of these tasks"


def _tasks(findings: Iterable[Finding]) -> int:
    return sum(finding.number for finding in findings if not finding.is_of_body)


def _things(findings: Iterable[Finding]) -> int:
    return sum(len(finding.things) for finding in findings if not finding.is_of_body)


def _site_of_thing(thing: dict[str, Any], folder: Path) -> str:
    place = place_of(thing)
    if place is None:
        return f"{what_it_is(thing)}, nobody knows where it was started"
    where = f"{_relative(place['file'], folder)}:{place['line']} in {place['function']}"
    return f"{what_it_is(thing)}, {how_it_is_there(thing)} {where}"


def _site(leak: dict[str, Any], folder: Path) -> str:
    site = leak["spawn_site"]
    if site is None:
        return str(leak["coroutine"])
    return f"{leak['coroutine']}{_AT}{_relative(site['file'], folder)}:{site['line']} in {site['function']}"


def _listed(numbers: Counter[str], folder: Path) -> list[str]:
    lines: list[str] = []
    for what, number in numbers.most_common(SHOWN):
        coroutine, at, site = what.partition(_AT)
        lines.append(f"  {number:>4} x {coroutine}{at}{_relative(site, folder) if at else site}")
    return [*lines, f"  and {len(numbers) - SHOWN} more"] if len(numbers) > SHOWN else lines


def _relative(file: str, folder: Path) -> str:
    """A file called by its way from a folder, or from where Python's own or installed packages are."""
    return within_library(file.removeprefix(f"{folder}{os.sep}"))
