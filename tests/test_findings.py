"""What outlives a scope beside tasks: each kind on each kind of loop, planted and seen, ended in time and silent.

The table in the README has a cell for each of these tests.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from findings import CASES, EVERYTHING, Case, ground_of
from parity import COLUMNS, THERE, Column

from taskscope import Finding, Report, TaskScope

README = Path(__file__).parent.parent / "README.md"


def is_on_trio(column: Column) -> bool:
    return column.name in ("AnyIO/Trio", "Trio")


def applies(case: Case, column: Column) -> bool:
    return case.not_on_trio is None or not is_on_trio(column)


def is_started_elsewhere(case: Case, column: Column) -> bool:
    """Whether what starts it is not called by who wants it: uvloop has C code do it, and Trio a thread."""
    return case.word == "processes" and (column.name == "uvloop" or is_on_trio(column))


CELLS = [
    pytest.param(case, column, id=f"{column.name}: {case.word}")
    for case in CASES
    for column in THERE
    if applies(case, column)
]


def report_of(case: Case, column: Column, act: str, **policy: Any) -> Report:
    """The report of a scope in whose body a thing is planted, or ended in time."""
    reports: list[Report] = []

    async def main(library: Any) -> None:
        async with ground_of(column) as ground:
            async with TaskScope("mine", **{"grace": 0.02, "on_leak": "ignore", **policy}) as scope:
                await getattr(case, act)(ground)
            reports.append(scope.report)

    column.run(main)
    return reports[0]


def only(report: Report) -> Finding:
    (finding,) = report.findings
    return finding


@pytest.mark.parametrize(("case", "column"), CELLS)
def test_what_is_left_behind_is_found_and_ended(case: Case, column: Column) -> None:
    report = report_of(case, column, "plant", find=("tasks", case.word))
    finding = only(report)
    assert not report.ok
    assert (finding.kind, finding.outcome) == (case.kind, case.outcome)
    assert case.what in finding.what
    if case.function is not None and not is_started_elsewhere(case, column):
        assert finding.spawn_site is not None
        assert finding.spawn_site.function == case.function
    assert finding.what.split("(")[0].strip() in " ".join(str(report).split())  # on as many lines as it takes


@pytest.mark.parametrize(("case", "column"), CELLS)
def test_what_is_ended_in_time_is_not_told(case: Case, column: Column) -> None:
    report = report_of(case, column, "clean", find=EVERYTHING, on_leak="raise")
    assert report.ok
    assert (report.findings, report.leaks, report.coverage) == ((), (), ())


@pytest.mark.parametrize(("case", "column"), CELLS)
def test_who_does_not_look_for_it_does_not_see_it(case: Case, column: Column) -> None:
    others = tuple(word for word in EVERYTHING if word != case.word)
    report = report_of(case, column, "plant", find=others)
    assert not [finding for finding in report.findings if finding.kind == case.kind]


def table() -> str:
    """The table as the README shows it."""
    names = [column.name for column in COLUMNS]
    lines = ["| `find` | | " + " | ".join(names) + " |", "|---|---|" + ":-:|" * len(names)]
    for case in CASES:
        cells = ["✓" if applies(case, column) else "" for column in COLUMNS]
        lines.append(f"| `{case.word}` | {case.meaning} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def reasons() -> str:
    return "\n".join(f"- `{case.word}`: {case.not_on_trio}." for case in CASES if case.not_on_trio)


def test_the_readme_shows_the_table_that_is_tested_and_why_cells_are_empty() -> None:
    readme = README.read_text("utf-8")
    assert table() in readme
    assert reasons() in readme


def left_of_hooks(loop: asyncio.AbstractEventLoop | None) -> list[object]:
    """All that looking puts somewhere while a scope is open."""
    of_loop = [] if loop is None else [vars(loop).get("run_in_executor"), type(vars(loop).get("_transports"))]
    return [threading.Thread.start, subprocess.Popen.__init__, sys.get_asyncgen_hooks(), *of_loop]


@pytest.mark.parametrize("column", [pytest.param(column, id=column.name) for column in THERE])
def test_everything_is_left_as_it_was(column: Column) -> None:
    async def main(library: Any) -> None:
        loop = None if is_on_trio(column) else asyncio.get_running_loop()
        before = left_of_hooks(loop)
        async with TaskScope(find=EVERYTHING):
            async with TaskScope(find=EVERYTHING):
                assert left_of_hooks(loop) != before
        assert left_of_hooks(loop) == before
        with pytest.raises(KeyError, match="mine"):
            async with TaskScope(find=EVERYTHING):
                raise KeyError("mine")
        assert left_of_hooks(loop) == before

    column.run(main)
