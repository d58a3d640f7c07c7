"""What the pytest plugin has found in a suite, by the place where it was spawned or started."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SHOWN = 5
"""Tests beyond this number are counted only."""


@dataclass
class Place:
    """A place where tasks are spawned, or other things started, that outlive their test or fixture.

    Attributes:
        what: The coroutine function that tasks run, or the sort of thing, and the place.
        leavers: For each the test or fixture that has left it.
        states: What tasks were doing, or things are, with how many there were.
    """

    what: str
    leavers: list[str] = field(default_factory=list[str])
    states: dict[str, int] = field(default_factory=dict[str, int])

    def lines(self, shown: int | None) -> Iterator[str]:
        tests = list(dict.fromkeys(self.leavers))
        yield f"{len(self.leavers):>5} x {self.what}"
        yield f"        {', '.join(f'{number} {state}' for state, number in self.states.items())}"
        for test in tests[:shown]:
            yield f"        in {test}"
        if shown is not None and len(tests) > shown:
            yield f"        and in {len(tests) - shown} more"


def tell_findings(report: Path, roots: Sequence[Path], failed: Collection[str], *, all_tests: bool) -> int:
    """Prints them. Their number is returned.

    report: the file of `--taskscope-report`.
    roots: folders to which files are told relative, the first that has them.
    failed: the tests that fail. What those leave behind says little: they have not come to their end.
    """
    data = json.loads(report.read_text("utf-8"))
    places: dict[str, Place] = {}
    for finding in data["findings"]:
        if finding["report"]["phase"] == "body":
            print(f"the body of {finding['owner']} was ended")
        for leak in finding["report"]["leaks"]:
            _add(places, finding, leak["coroutine"], leak, leak["verdict"], roots, failed)
        for thing in finding["report"]["findings"]:
            _add(places, finding, thing["kind"], thing, thing["what"], roots, failed)
    for place in sorted(places.values(), key=lambda place: -len(place.leavers)):
        print(*place.lines(None if all_tests else SHOWN), sep="\n")
    for name in ("late", "ignored"):
        number = sum(data[name].values())
        print(f"{number} {name}, at {len(data[name])} places" if number else f"none {name}")
    return sum(len(place.leavers) for place in places.values())


def _add(
    places: dict[str, Place],
    finding: dict[str, Any],
    name: str,
    left: dict[str, Any],
    state: str,
    roots: Sequence[Path],
    failed: Collection[str],
) -> None:
    site = left["spawn_site"]
    where = "unknown" if site is None else f"{_relative(site['file'], roots)}:{site['line']} in {site['function']}"
    what = f"{name}, from {where}"
    place = places.setdefault(what, Place(what))
    owner = finding["owner"] if finding["kind"] == "test" else f"{finding['owner']} ({finding['nodeid']})"
    place.leavers.append(left.get("closed_scope") or owner)
    state += f" in {finding['phase']}"
    if finding["nodeid"] in failed:
        state += " of a test that fails"
    place.states[state] = place.states.get(state, 0) + 1


def _relative(file: str, roots: Sequence[Path]) -> str:
    for root in roots:
        if Path(file).is_relative_to(root):
            return str(Path(file).relative_to(root))
    return file
