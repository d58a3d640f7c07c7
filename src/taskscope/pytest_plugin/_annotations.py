"""Findings as annotations, which GitHub shows beside the lines that have spawned the tasks or started other things."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from taskscope._render.words import listed
from taskscope.pytest_plugin._findings import Finding
from taskscope.pytest_plugin._told_things import place_of, what_it_is

SHOWN: Final = 10
"""GitHub shows no more of one step."""


def is_on_github() -> bool:
    return os.environ.get("GITHUB_ACTIONS") == "true"


def github_lines(findings: Sequence[Finding], config: pytest.Config) -> list[str]:
    """Lines for the log: one for each test that was ended, and for each place that has left something."""
    lines: list[str] = []
    left: dict[tuple[str, str, str], list[str]] = {}
    for finding in findings:
        level = "error" if finding.outcome == "failed" else "warning"
        if finding.is_of_body:
            message = f"{finding.owner} was ended: {finding.why_ended()}"
            lines.append(_line(level, _place(_of_body(finding), config), message))
            continue
        for leak in finding.report["leaks"]:
            key = level, _place(leak["spawn_site"], config), str(leak["coroutine"])
            left.setdefault(key, []).append(finding.who_left(leak))
        for thing in finding.things:
            key = level, _place(place_of(thing), config), what_it_is(thing)
            left.setdefault(key, []).append(finding.who())
    for (level, place, what), who in left.items():
        lines.append(_line(level, place, f"{what} was left behind by {listed(list(dict.fromkeys(who)), 1)}"))
    return lines[:SHOWN]


def _line(level: str, place: str, message: str) -> str:
    return f"::{level} {place}title=taskscope::{_escaped(message)}"


def _of_body(finding: Finding) -> dict[str, Any] | None:
    body = finding.report["body"]
    return body["stack"][0] if body is not None and body["stack"] else None


def _place(site: dict[str, Any] | None, config: pytest.Config) -> str:
    if site is None:
        return ""
    root = os.environ.get("GITHUB_WORKSPACE") or config.rootpath
    file = Path(site["file"])
    if file.is_relative_to(root):
        file = file.relative_to(root)
    return f"file={_escaped(file.as_posix(), ':,')},line={site['line']},"


def _escaped(text: str, also: str = "") -> str:
    """Text as GitHub's toolkit writes it. In a property also colons and commas have a meaning."""
    for character in "%\r\n" + also:
        text = text.replace(character, f"%{ord(character):02X}")
    return text
