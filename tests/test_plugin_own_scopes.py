"""A test of a scope that ends its own body, by a timeout or a watch, is left to that scope."""

from __future__ import annotations

from pathlib import Path

import pytest
from plugin.project import run_pytest
from plugin.runners import Runner, all_runners

RUNNERS = {runner.name: runner for runner in all_runners()}

ENDED = """
from taskscope import DeadlockError, ScopeTimeoutError, TaskScope

async def timed():
    with pytest.raises(ScopeTimeoutError):
        async with TaskScope(timeout=0.3):
            await hang()

async def watched():
    with pytest.raises(DeadlockError):
        async with TaskScope(watch=0.1):
            await hang()
"""


def project(runner: Runner) -> dict[str, str]:
    tests = [runner.test_function(f"test_{name}", "", f"await {name}()") for name in ("timed", "watched")]
    return {"test_it.py": runner.module(ENDED + "".join(tests)), "conftest.py": runner.conftest}


@pytest.mark.parametrize("name", RUNNERS)
def test_who_ends_its_own_body_is_left_to_it(name: str, tmp_path: Path) -> None:
    runner = RUNNERS[name]
    ini = f"taskscope = true\ntaskscope_watch = 0.02\n{runner.ini}"
    run = run_pytest(tmp_path, project(runner), plugins=runner.plugins, ini=ini)
    assert run.outcomes() == {"test_timed": "passed", "test_watched": "passed"}, run.output
