"""A leak in the third of five tests is the third's, whatever runs them, in whatever order, on however many workers."""

from __future__ import annotations

from pathlib import Path

import pytest
from plugin.project import Run, run_pytest
from plugin.runners import Runner, all_runners

RUNNERS = {runner.name: runner for runner in all_runners()}

WAYS = {
    "in random order": (("pytest_randomly",), ()),
    "on two workers": (("xdist.plugin",), ("-n", "2")),
}


def project(runner: Runner) -> dict[str, str]:
    has_session_loop = "session" in runner.scopes
    arguments = "made" if has_session_loop else ""
    parts = [runner.fixture_function("made", "session", leaks=False)] if has_session_loop else []
    for number in range(1, 6):
        lines = "await spawn()" if number == 3 else "task = await spawn()\nawait end(task)"
        parts.append(runner.test_function(f"test_{number}", arguments, lines))
    return {"test_five.py": runner.module("\n".join(parts)), "conftest.py": runner.conftest}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", RUNNERS)
def test_the_third_fails_and_the_others_pass(name: str, way: str, tmp_path: Path) -> None:
    runner = RUNNERS[name]
    plugins, arguments = WAYS[way]
    run = run_pytest(
        tmp_path,
        project(runner),
        *arguments,
        plugins=(*runner.plugins, *plugins),
        ini=f"taskscope = true\n{runner.ini}",
    )
    assert run.outcomes() == {
        "test_1": "passed",
        "test_2": "passed",
        "test_3": "failed",
        "test_4": "passed",
        "test_5": "passed",
    }, run.output
    check_report(run, has_workers=way == "on two workers")


def check_report(run: Run, *, has_workers: bool) -> None:
    assert run.report is not None, run.output
    [finding] = run.report["findings"]
    assert finding["nodeid"] == finding["owner"] == "test_five.py::test_3"
    assert (finding["worker"] in ("gw0", "gw1")) if has_workers else (finding["worker"] is None)
    assert [leak["coroutine"] for leak in finding["report"]["leaks"]] == ["forever"]
    assert "test_five.py::test_3" in run.output
    assert "1 test or fixture has left 1 task behind" in run.output
