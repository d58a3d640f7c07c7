"""What a test has left, or a test that hangs, is proven deadlocked beside thousands of tests.

To all of these it leads by way of pytest.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from plugin.project import run_pytest
from plugin.runners import Runner, all_runners

RUNNERS = {runner.name: runner for runner in all_runners()}

MANY = """
import pytest

@pytest.mark.parametrize("number", range(2_000))
def test_many(number):
    pass
"""


# The fixture runs in the task of the test, with AnyIO's plugin.
ENDED = """
import asyncio

import pytest

pytestmark = pytest.mark.anyio

@pytest.fixture
async def ended():
    task = asyncio.current_task()
    asyncio.get_running_loop().call_later(1, task.cancel)
    yield
    task.uncancel()

@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_ended(anyio_backend, ended, request):
    with pytest.raises(asyncio.CancelledError):
        await asyncio.Event().wait()
"""


def project(runner: Runner, arguments: str, line: str = "await spawn()") -> dict[str, str]:
    leak = runner.test_function("test_leak", arguments, line)
    return {"test_many.py": MANY, "test_it.py": runner.module(leak), "conftest.py": runner.conftest}


@pytest.mark.parametrize("arguments", ["", "request"], ids=["", "holding what leads to them"])
@pytest.mark.parametrize("name", [name for name, runner in RUNNERS.items() if "asyncio" in runner.helpers])
def test_a_deadlock_is_proven_beside_thousands_of_tests(name: str, arguments: str, tmp_path: Path) -> None:
    runner = RUNNERS[name]
    files, ini = project(runner, arguments), f"taskscope = true\n{runner.ini}"
    run = run_pytest(tmp_path, files, "-k", "leak", plugins=runner.plugins, ini=ini)
    assert run.outcomes() == {"test_leak": "failed"}, run.output
    assert "deadlocked" in run.phase("test_leak").text


@pytest.mark.parametrize("name", RUNNERS)
def test_so_is_a_test_that_hangs(name: str, tmp_path: Path) -> None:
    runner = RUNNERS[name]
    files, ini = project(runner, "request", "await hang()"), f"taskscope = true\n{runner.ini}"
    run = run_pytest(tmp_path, files, "-k", "leak", plugins=runner.plugins, ini=ini)
    assert run.outcomes() == {"test_leak": "failed"}, run.output
    assert "was ended: it was deadlocked" in run.output


def test_a_fixture_that_can_end_the_test_is_found_among_thousands(tmp_path: Path) -> None:
    files, plugins = {"test_many.py": MANY, "test_it.py": ENDED}, ("anyio.pytest_plugin",)
    run = run_pytest(tmp_path, files, "-k", "ended", plugins=plugins, ini="taskscope = true")
    assert run.outcomes() == {"test_ended[asyncio]": "passed"}, run.output
