"""What a leak does to the test in which it is found: every `on_leak`, every way in which a test can end."""

from __future__ import annotations

import functools
import re
import textwrap
from pathlib import Path

import pytest
from plugin.outcomes_project import EXPECTED, HELPERS, OUTCOMES
from plugin.project import Run, run_pytest

ASYNCIO = ("pytest_asyncio.plugin",)
INI = "asyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n"


@functools.cache
def _run(folder: Path, *arguments: str) -> Run:
    folder.mkdir()
    return run_pytest(folder, {"test_it.py": HELPERS + OUTCOMES}, *arguments, plugins=ASYNCIO, ini=INI)


@pytest.fixture
def on(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return _run(tmp_path_factory.getbasetemp() / "outcomes-on", "--taskscope", "-rA")


@pytest.fixture
def strict(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """With all warnings errors."""
    return _run(tmp_path_factory.getbasetemp() / "outcomes-strict", "--taskscope", "-W", "error")


@pytest.fixture
def report_only(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return _run(
        tmp_path_factory.getbasetemp() / "outcomes-report-only",
        "--taskscope",
        "--taskscope-on-leak=summary",
        "--taskscope-timeout=0",
        "-k",
        "not deadlock and not timeout",
    )


@pytest.fixture
def off(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.getbasetemp() / "outcomes-off"
    return _run_off(folder)


@functools.cache
def _run_off(folder: Path) -> Run:
    folder.mkdir()
    files = {"test_it.py": HELPERS + OUTCOMES}
    chosen = ("-k", "not deadlock and not timeout")
    return run_pytest(folder, files, *chosen, plugins=ASYNCIO, ini=INI, report=False)


def _became(run: Run, test: str) -> list[str]:
    return [finding["outcome"] for finding in run.findings_of(test)]


@pytest.mark.parametrize("test", EXPECTED)
def test_outcomes(test: str, on: Run) -> None:
    assert (on.outcomes()[test], _became(on, test)) == EXPECTED[test]
    assert "INTERNALERROR" not in on.output


def test_all_tests_of_the_project_are_expected(on: Run) -> None:
    assert on.outcomes().keys() == EXPECTED.keys()


@pytest.mark.parametrize("test", EXPECTED)
def test_outcomes_where_warnings_are_errors(test: str, strict: Run) -> None:
    outcome, became = EXPECTED[test]
    if test == "test_warn":
        outcome = "failed"
    assert (strict.outcomes()[test], _became(strict, test)) == (outcome, became)


OWN_FAILURES = [test for test in EXPECTED if test.endswith(("_fail", "_fails"))]


@pytest.mark.parametrize("test", OWN_FAILURES)
@pytest.mark.parametrize("which", ["on", "strict"])
def test_own_failure_is_never_masked(test: str, which: str, request: pytest.FixtureRequest) -> None:
    run: Run = request.getfixturevalue(which)
    phase = run.phase(test)
    assert "KeyError: 'my own'" in phase.text
    told = "\n".join(phase.sections.values())
    if test == "test_expected_and_fail":
        assert "marked to leak forever, and has not" in told
        return
    if test == "test_function_raises_and_fail":
        assert "LookupError: not forever" in told
        return
    if test == "test_warn_and_fail" and which == "on":
        assert not told, "it is in the warnings summary"
        return
    assert ("taskscope: the body of scope" if "timeout" in test else "1 task outlived scope") in told


def test_failure_is_the_report_and_no_traceback(on: Run, strict: Run) -> None:
    for run, test in ((on, "test_raise"), (on, "test_xfail_raises_other"), (strict, "test_warn")):
        text = run.phase(test).text
        assert text.lstrip().startswith("taskscope: 1 task outlived scope"), text
        assert not re.search(r"\.py:\d", text)
        assert "--full-trace" not in run.output


def test_warning_is_in_the_summary_of_warnings(on: Run) -> None:
    warnings = on.output.partition("= warnings summary =")[2].partition("\n=")[0]
    assert "TaskLeakWarning: taskscope: 1 task outlived scope 'test_it.py::test_warn'" in warnings
    line = next(
        number for number, text in enumerate((HELPERS + OUTCOMES).splitlines(), 1) if "async def test_warn():" in text
    )
    assert f"test_it.py:{line - 1}" in warnings or f"test_it.py:{line}" in warnings
    assert "test_raise" not in warnings


def test_log_has_the_report(on: Run) -> None:
    phase = on.phase("test_log")
    assert "1 task outlived scope 'test_it.py::test_log'" in phase.sections["Captured log call"]


def test_error_of_the_users_function_has_its_traceback(on: Run) -> None:
    text = on.phase("test_function_raises").text
    assert "LookupError: not forever" in text
    assert 'raise LookupError(f"not {report.leaks[0].coroutine}")' in text
    assert "_outcome.py" not in text


def test_what_is_absent_or_too_much_is_named(on: Run) -> None:
    assert "marked to leak other, and has not" in on.phase("test_expected_one_is_absent").text
    text = on.phase("test_expected_and_another").text
    assert "1 task outlived" in text
    assert "other" in text
    assert "forever" not in text.partition("spawned at")[0]


def test_hangs_say_why(on: Run) -> None:
    assert "could never have gone on" in on.phase("test_deadlock").text
    assert "could never have gone on" in on.phase("test_timeout").text
    assert "was still running when its time was" in on.phase("test_timeout_of_sleep").text
    assert "await asyncio.sleep(60)" in on.phase("test_timeout_of_sleep").text
    printed = on.phase("test_timeout_and_no_watch").sections["Captured stdout call"]
    assert float(printed.removeprefix("after ")) >= 0.6, "with a watch it would have been ended before its timeout"


def test_report_only_changes_nothing(report_only: Run, off: Run) -> None:
    """Neither does a marker that says a test has leaks, where it has none."""
    assert report_only.outcomes() == off.outcomes()
    assert "TaskLeakWarning" not in report_only.output


def test_report_only_tells_all(report_only: Run) -> None:
    for test in ("test_raise", "test_fail", "test_warn", "test_leak_of_a_sleeper", "test_case_fails"):
        assert _became(report_only, test) == ["told"]
        assert report_only.findings_of(test)[0]["report"]["leaks"][0]["outcome"] is None, "it is not cancelled"


STOPS = {
    "interrupt": "spawn()\n    signal.raise_signal(signal.SIGINT)\n    await asyncio.sleep(60)",
    "interrupt in body": "spawn()\n    raise KeyboardInterrupt",
    "exit": "spawn()\n    pytest.exit('enough')",
    "exitfirst": "spawn()",
    "maxfail": "spawn()",
}


@pytest.mark.parametrize("how", STOPS)
def test_runs_that_end_early(how: str, tmp_path: Path) -> None:
    test = f"import signal\n{HELPERS}\nasync def test_a():\n    {STOPS[how]}\n\nasync def test_b():\n    pass\n"
    arguments = {"exitfirst": ("-x",), "maxfail": ("--maxfail=1",)}.get(how, ())
    run = run_pytest(
        tmp_path, {"test_it.py": textwrap.dedent(test)}, "--taskscope", *arguments, plugins=ASYNCIO, ini=INI
    )
    assert run.code == {"exitfirst": 1, "maxfail": 1}.get(how, 2), run.output
    assert "test_b" not in run.outcomes()
    assert [finding["outcome"] for finding in run.findings_of("test_a")] == ["failed"], run.output
    assert "1 test or fixture has left 1 task behind" in run.output
    assert "INTERNALERROR" not in run.output


def test_a_fixture_can_give_its_test_a_marker(tmp_path: Path) -> None:
    tests = """
        import asyncio
        import pytest

        @pytest.fixture
        def before():
            return None

        @pytest.fixture
        def let_be(before, request):
            request.node.add_marker(pytest.mark.taskscope(False))

        @pytest.fixture
        def expecting(before, request):
            request.node.add_marker(pytest.mark.taskscope_leaks("sleep"))

        @pytest.fixture
        def told_otherwise(let_be, request):
            request.node.own_markers[:] = [pytest.mark.taskscope(grace=0).mark]

        @pytest.fixture
        def module_let_be(before, request):
            request.node.parent.add_marker(pytest.mark.taskscope(False))

        class NoTruth:
            def __eq__(self, other):
                raise ValueError("not one truth")

        @pytest.fixture
        def replaced(request):
            request.node.own_markers[:] = [pytest.mark.other(NoTruth()).mark]

        async def leak():
            asyncio.create_task(asyncio.sleep(3600))

        async def test_plain(before):
            await leak()

        async def test_let_be(let_be):
            await leak()

        async def test_expecting(expecting):
            await leak()

        async def test_told_otherwise(told_otherwise):
            await leak()

        @pytest.mark.other(NoTruth())
        async def test_other_marker(replaced, before):
            await leak()

        async def test_module_let_be(module_let_be):
            await leak()
    """
    run = run_pytest(tmp_path, {"test_it.py": tests}, "--taskscope", plugins=ASYNCIO, ini=INI)
    assert run.outcomes() == {
        "test_plain": "failed",
        "test_let_be": "passed",
        "test_expecting": "passed",
        "test_told_otherwise": "failed",
        "test_other_marker": "failed",
        "test_module_let_be": "passed",
    }
