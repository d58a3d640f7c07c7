"""A leak in the third of five tests is the third's, whatever runs them, in whatever order, on however many workers."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
from plugin.project import Run, run_pytest
from plugin.runners import Runner, all_runners

RUNNERS = {runner.name: runner for runner in all_runners()}

WAYS = {
    "in random order": (("pytest_randomly",), ()),
    "on two workers": (("xdist.plugin",), ("-n", "2")),
}


UNITTEST = "unittest"


def project(runner: Runner | None) -> dict[str, str]:
    """Five tests, the third of which leaves a task behind. None: methods of an `IsolatedAsyncioTestCase`."""
    if runner is None:
        return {"test_five.py": _test_case()}
    has_session_loop = "session" in runner.scopes
    arguments = "made" if has_session_loop else ""
    parts = [runner.fixture_function("made", "session", leaks=False)] if has_session_loop else []
    for number in range(1, 6):
        lines = "await spawn()" if number == 3 else "task = await spawn()\nawait end(task)"
        parts.append(runner.test_function(f"test_{number}", arguments, lines))
    return {"test_five.py": runner.module("\n".join(parts)), "conftest.py": runner.conftest}


def _test_case() -> str:
    parts = [
        "import asyncio, unittest",
        "async def forever():\n    await asyncio.Event().wait()",
        "class Five(unittest.IsolatedAsyncioTestCase):",
    ]
    for number in range(1, 6):
        ends = [] if number == 3 else ["task.cancel()", "await asyncio.wait([task])"]
        lines = ["task = asyncio.create_task(forever())", *ends]
        parts.append(f"    async def test_{number}(self):\n" + textwrap.indent("\n".join(lines), " " * 8))
    return "\n".join(parts)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", [*RUNNERS, UNITTEST])
def test_the_third_fails_and_the_others_pass(name: str, way: str, tmp_path: Path) -> None:
    runner = RUNNERS.get(name)
    plugins, arguments = WAYS[way]
    of_runner, ini = ((), "") if runner is None else (runner.plugins, runner.ini)
    run = run_pytest(
        tmp_path, project(runner), *arguments, plugins=(*of_runner, *plugins), ini=f"taskscope = true\n{ini}"
    )
    assert run.outcomes() == {
        "test_1": "passed",
        "test_2": "passed",
        "test_3": "failed",
        "test_4": "passed",
        "test_5": "passed",
    }, run.output
    test = "test_five.py::Five::test_3" if runner is None else "test_five.py::test_3"
    check_report(run, test, has_workers=way == "on two workers")


def check_report(run: Run, test: str, *, has_workers: bool) -> None:
    assert run.report is not None, run.output
    [finding] = run.report["findings"]
    assert finding["nodeid"] == finding["owner"] == test
    assert (finding["worker"] in ("gw0", "gw1")) if has_workers else (finding["worker"] is None)
    assert [leak["coroutine"] for leak in finding["report"]["leaks"]] == ["forever"]
    assert test in run.output
    assert "1 test or fixture has left 1 task behind" in run.output
