"""The table: every runner of async tests, and what a test or fixture can do with the tasks that it starts."""

from __future__ import annotations

import functools
import re
import textwrap
from pathlib import Path

import pytest
from plugin.project import Run, run_pytest
from plugin.runners import Runner, all_runners
from plugin.unittest_project import UNITTEST_FILES

RUNNERS = {runner.name: runner for runner in all_runners()}

CELLS = (
    "clean",
    "leak",
    "hang",
    "fails and leaks",
    "xfail by leak",
    "xfail",
    "skip by mark",
    "skip in body",
    "expected leak",
    "expected leak is absent",
    "next one passes",
)


def _project(runner: Runner) -> dict[str, str]:
    test = runner.test_function
    files = {
        "test_body.py": runner.module(
            "\n".join(
                (
                    runner.fixture_function("made", "function", leaks=False) if runner.scopes else "",
                    test("test_clean", "made" if runner.scopes else "", "task = await spawn()\nawait end(task)"),
                    test("test_leak", "", "await spawn()"),
                    test("test_hang", "", "await hang()"),
                    test("test_fails_and_leaks", "", "await spawn()\nassert 0"),
                    test("test_xfail_by_leak", "", "await spawn()", "@pytest.mark.xfail(strict=True)"),
                    test("test_xfail", "", "assert 0", "@pytest.mark.xfail(strict=True)"),
                    test("test_skip_by_mark", "", "await spawn()", "@pytest.mark.skip"),
                    test("test_skip_in_body", "", 'pytest.skip("not today")'),
                    test("test_expected_leak", "", "await spawn()", '@pytest.mark.taskscope_leaks("forever")'),
                    test("test_expected_leak_is_absent", "", "pass", '@pytest.mark.taskscope_leaks("forever")'),
                    test("test_next_one_passes", "", "pass"),
                )
            )
        ),
        "conftest.py": runner.conftest,
    }
    for scope in runner.scopes:
        files[f"{scope}_scope/__init__.py"] = ""
        files[f"{scope}_scope/test_{scope}.py"] = runner.module(
            runner.fixture_function(f"leaking_{scope}", scope, leaks=True)
            + "class TestInClass:\n"
            + textwrap.indent(test(f"test_{scope}_fixture_leaks", f"self, leaking_{scope}", "pass"), "    ")
        )
    return files


@functools.cache
def _run(name: str, folder: Path) -> Run:
    folder.mkdir()
    runner = RUNNERS.get(name)
    if runner is None:
        return run_pytest(folder, UNITTEST_FILES, ini="taskscope = true")
    return run_pytest(folder, _project(runner), plugins=runner.plugins, ini=f"taskscope = true\n{runner.ini}")


@pytest.fixture
def result(runner: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    # One run has all cells of a runner in it, one after the other on its loops: none must change another.
    folder = tmp_path_factory.getbasetemp() / f"runner-{runner.replace(' ', '-')}"
    return _run(runner, folder)


def _all_runners(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("runner", names or [*RUNNERS, "unittest"])


@_all_runners()
@pytest.mark.parametrize("cell", CELLS)
def test_what_a_test_does(cell: str, result: Run) -> None:
    test = f"test_{cell.replace(' ', '_')}"
    found = result.findings_of(test)
    if cell == "skip by mark":
        assert not found
        assert result.phase(test, "setup" if ("test_body.py::test_skip_by_mark", "setup") in result.phases else "call")
        assert result.outcomes()[test] == "skipped"
        return
    phase = result.phase(test)
    texts = phase.text + "".join(phase.sections.values())
    match cell:
        case "clean" | "next one passes":
            of_test = [finding for finding in found if finding["phase"] == "call"]
            assert (phase.outcome, of_test, phase.sections) == ("passed", [], {})
        case "xfail":
            assert (phase.outcome, found) == ("xfailed", [])
        case "skip in body":
            assert (phase.outcome, found) == ("skipped", [])
        case "leak":
            assert phase.outcome == "failed"
            assert [finding["outcome"] for finding in found] == ["failed"]
            assert "Traceback" not in phase.text
            assert not re.search(r"\.py:\d", phase.text), "no traceback of ours"
            assert_names_leak(phase.text, test)
        case "hang":
            assert phase.outcome == "failed"
            assert "could never have gone on" in phase.text
            assert "in hang" in phase.text
        case "fails and leaks":
            assert phase.outcome == "failed"
            assert "assert 0" in phase.text
            assert_names_leak(texts, test)
        case "xfail by leak":
            assert phase.outcome == "xfailed"
            assert [finding["outcome"] for finding in found] == ["xfailed"]
        case "expected leak":
            assert phase.outcome == "passed"
            assert [finding["outcome"] for finding in found] == ["expected"]
        case "expected leak is absent":
            assert (phase.outcome, found) == ("failed", [])
            assert "marked to leak forever" in phase.text


def assert_names_leak(text: str, owner: str) -> None:
    assert "1 task outlived scope" in text
    assert owner in text
    assert "forever" in text
    assert "# spawned here" in text


@pytest.mark.parametrize(
    ("runner", "scope"), [(runner.name, scope) for runner in RUNNERS.values() for scope in runner.scopes]
)
def test_leak_in_fixture(runner: str, scope: str, result: Run) -> None:
    assert result.phase(f"test_{scope}_fixture_leaks").outcome == "passed"
    assert result.report is not None
    found = [found for found in result.report["findings"] if found["owner"] == f"fixture leaking_{scope}"]
    assert [(finding["kind"], finding["phase"], finding["outcome"]) for finding in found] == [
        ("fixture", "teardown", "failed")
    ]
    # The last test before the fixture is torn down. For a wide scope that is one in another file.
    torn_down = result.phases[found[0]["nodeid"], "teardown"]
    assert torn_down.outcome == "failed"
    assert_names_leak(torn_down.text, f"fixture leaking_{scope}")


@_all_runners("unittest")
def test_leak_in_set_up_of_test_case(runner: str, result: Run) -> None:
    phase = result.phase("test_set_up_leaks")
    assert phase.outcome == "failed"
    assert_names_leak(phase.text, "test_set_up_leaks")
    assert result.outcomes()["test_set_up_and_tear_down"] == "passed"


@_all_runners()
def test_nothing_else_is_told(runner: str, result: Run) -> None:
    assert result.report is not None
    assert not result.report["late"], result.output
    assert not result.report["ignored"], result.output
    assert "Warning" not in result.output
