"""Deadlocks are proven beside thousands of tests, to all of which a test's own leads by way of pytest."""

from __future__ import annotations

from pathlib import Path

import pytest
from plugin.project import run_pytest
from plugin.runners import Runner, all_runners

RUNNERS = {runner.name: runner for runner in all_runners()}

MANY = """
import pytest

@pytest.mark.parametrize("number", range(3_000))
def test_many(number):
    pass
"""


def project(runner: Runner, arguments: str) -> dict[str, str]:
    hang = runner.test_function("test_hang", arguments, "await hang()")
    leak = runner.test_function("test_leak", arguments, "await spawn()")
    return {"test_many.py": MANY, "test_it.py": runner.module(hang + leak), "conftest.py": runner.conftest}


@pytest.mark.parametrize("name", RUNNERS)
def test_a_deadlock_is_proven_beside_thousands_of_tests(name: str, tmp_path: Path) -> None:
    check(RUNNERS[name], "", tmp_path)


@pytest.mark.parametrize("name", [name for name, runner in RUNNERS.items() if "asyncio" in name and not runner.call])
def test_also_where_the_test_holds_what_leads_to_them(name: str, tmp_path: Path) -> None:
    check(RUNNERS[name], "request", tmp_path)


def check(runner: Runner, arguments: str, folder: Path) -> None:
    run = run_pytest(
        folder,
        project(runner, arguments),
        "-k",
        "hang or leak",
        plugins=runner.plugins,
        ini=f"taskscope = true\n{runner.ini}",
    )
    assert run.outcomes() == {"test_hang": "failed", "test_leak": "failed"}, run.output
    assert "could never have gone on" in run.phase("test_hang").text
    if "trio" not in runner.name:  # where Trio itself runs what a test can leave, and can end it
        assert "deadlocked" in run.phase("test_leak").text
