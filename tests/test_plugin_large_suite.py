"""What a test has left is proven deadlocked beside thousands of tests, to all of which it leads by way of pytest."""

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
    leak = runner.test_function("test_leak", arguments, "await spawn()")
    return {"test_many.py": MANY, "test_it.py": runner.module(leak), "conftest.py": runner.conftest}


@pytest.mark.parametrize("arguments", ["", "request"], ids=["", "holding what leads to them"])
@pytest.mark.parametrize("name", [name for name, runner in RUNNERS.items() if "asyncio" in runner.helpers])
def test_a_deadlock_is_proven_beside_thousands_of_tests(name: str, arguments: str, tmp_path: Path) -> None:
    runner = RUNNERS[name]
    files, ini = project(runner, arguments), f"taskscope = true\n{runner.ini}"
    run = run_pytest(tmp_path, files, "-k", "leak", plugins=runner.plugins, ini=ini)
    assert run.outcomes() == {"test_leak": "failed"}, run.output
    assert "deadlocked" in run.phase("test_leak").text
