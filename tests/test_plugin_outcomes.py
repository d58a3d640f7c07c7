"""What a leak does to the test in which it is found: every `on_leak`, every way in which a test can end."""

from __future__ import annotations

import functools
import re
import textwrap
from pathlib import Path

import pytest
from plugin.project import Run, run_pytest

HELPERS = """
import asyncio
import time
import unittest
import pytest

async def forever():
    await asyncio.Event().wait()

async def other():
    await asyncio.Event().wait()

async def sleeper():
    await asyncio.sleep(60)

class Thing:
    async def method(self):
        await asyncio.Event().wait()

def spawn(function=forever):
    return asyncio.create_task(function())
"""

OUTCOMES = """
told = []

def refuse(report):
    raise LookupError(f"not {report.leaks[0].coroutine}")

def note(report):
    told.append(report.leaks[0].coroutine)

@pytest.mark.taskscope(on_leak="raise")
async def test_raise():
    spawn()

@pytest.mark.taskscope(on_leak="warn")
async def test_warn():
    spawn()

@pytest.mark.taskscope(on_leak="warn")
async def test_warn_and_fail():
    spawn()
    raise KeyError("my own")

@pytest.mark.taskscope(on_leak="log")
async def test_log():
    spawn()

@pytest.mark.taskscope(on_leak="ignore")
async def test_ignore():
    spawn()

@pytest.mark.taskscope(on_leak="summary")
async def test_summary():
    spawn()

@pytest.mark.taskscope(on_leak=note)
async def test_function():
    spawn()

async def test_function_was_called():
    assert told == ["forever"]

@pytest.mark.taskscope(on_leak=refuse)
async def test_function_raises():
    spawn()

@pytest.mark.taskscope(on_leak=refuse)
async def test_function_raises_and_fail():
    spawn()
    raise KeyError("my own")

@pytest.mark.taskscope(False)
async def test_taken_out():
    spawn()

@pytest.mark.taskscope_leaks("forever")
async def test_expected():
    spawn()

@pytest.mark.taskscope_leaks("forever", "other")
async def test_expected_several():
    spawn(), spawn(other)

@pytest.mark.taskscope_leaks("Thing.*", "f?rever")
async def test_expected_globs():
    spawn(), spawn(Thing().method)

@pytest.mark.taskscope_leaks("forever", "other")
async def test_expected_one_is_absent():
    spawn()

@pytest.mark.taskscope_leaks("forever")
@pytest.mark.taskscope_leaks("other", strict=False)
async def test_expected_one_that_need_not_be():
    spawn()

@pytest.mark.taskscope_leaks("forever", strict=False)
async def test_expected_not_strict_and_absent():
    pass

@pytest.mark.taskscope_leaks("forever")
async def test_expected_and_another():
    spawn(), spawn(other)

@pytest.mark.taskscope_leaks("forever")
async def test_expected_and_fail():
    raise KeyError("my own")

@pytest.mark.taskscope_leaks("Forever")
async def test_expected_in_other_letters():
    spawn()

async def test_fail():
    spawn()
    raise KeyError("my own")

async def test_skip():
    spawn()
    pytest.skip("not today")

@pytest.mark.xfail(strict=True)
async def test_xfail_strict():
    spawn()

@pytest.mark.xfail(strict=True)
async def test_xfail_strict_and_clean():
    pass

@pytest.mark.xfail
async def test_xfail_not_strict_and_clean():
    pass

@pytest.mark.xfail(raises=KeyError)
async def test_xfail_raises_other():
    spawn()

@pytest.mark.xfail(raises=KeyError)
async def test_xfail_raises_and_leaks():
    spawn()
    raise KeyError("my own")

async def test_xfail_in_body():
    spawn()
    pytest.xfail("so it is")

@pytest.mark.taskscope(timeout=0.05, watch=None)
async def test_timeout():
    await asyncio.Event().wait()

@pytest.mark.taskscope(timeout=0.05)
async def test_timeout_of_sleep():
    await asyncio.sleep(60)

@pytest.mark.taskscope(timeout=0.05, watch=None)
async def test_timeout_and_fail():
    try:
        await asyncio.Event().wait()
    finally:
        raise KeyError("my own")

@pytest.mark.taskscope(timeout=0.05, watch=None, on_leak="warn")
async def test_timeout_and_warn():
    await asyncio.Event().wait()

async def test_deadlock():
    await asyncio.Event().wait()

@pytest.mark.xfail(strict=True)
async def test_deadlock_xfail():
    await asyncio.Event().wait()

@pytest.mark.taskscope(watch=None, timeout=0.6)
async def test_timeout_and_no_watch():
    began = time.monotonic()
    try:
        await asyncio.Event().wait()
    finally:
        print("after", time.monotonic() - began)

async def test_leak_of_a_sleeper():
    spawn(sleeper)

async def test_clean():
    task = spawn()
    task.cancel()
    await asyncio.wait([task])

class TestCase(unittest.IsolatedAsyncioTestCase):
    async def test_case_fails(self):
        spawn()
        raise KeyError("my own")

    async def test_case_skips(self):
        spawn()
        self.skipTest("not today")

    @pytest.mark.taskscope(timeout=0.05, watch=None)
    async def test_case_timeout_and_fail(self):
        try:
            await asyncio.Event().wait()
        finally:
            raise KeyError("my own")
"""

# Each with its outcome and what became of what was found in it.
EXPECTED = {
    "test_raise": ("failed", ["failed"]),
    "test_warn": ("passed", ["warned"]),
    "test_warn_and_fail": ("failed", ["warned"]),
    "test_log": ("passed", ["logged"]),
    "test_ignore": ("passed", ["ignored"]),
    "test_summary": ("passed", ["told"]),
    "test_function": ("passed", ["called"]),
    "test_function_was_called": ("passed", []),
    "test_function_raises": ("failed", ["called"]),
    "test_function_raises_and_fail": ("failed", ["called"]),
    "test_taken_out": ("passed", []),
    "test_expected": ("passed", ["expected"]),
    "test_expected_several": ("passed", ["expected"]),
    "test_expected_globs": ("passed", ["expected"]),
    "test_expected_one_is_absent": ("failed", ["expected"]),
    "test_expected_one_that_need_not_be": ("passed", ["expected"]),
    "test_expected_not_strict_and_absent": ("passed", []),
    "test_expected_and_another": ("failed", ["expected", "failed"]),
    "test_expected_and_fail": ("failed", []),
    "test_expected_in_other_letters": ("failed", ["failed"]),
    "test_fail": ("failed", ["failed"]),
    "test_skip": ("skipped", ["told"]),
    "test_xfail_strict": ("xfailed", ["xfailed"]),
    "test_xfail_strict_and_clean": ("failed", []),
    "test_xfail_not_strict_and_clean": ("xpassed", []),
    "test_xfail_raises_other": ("failed", ["failed"]),
    "test_xfail_raises_and_leaks": ("xfailed", ["xfailed"]),
    "test_xfail_in_body": ("xfailed", ["xfailed"]),
    "test_timeout": ("failed", ["failed"]),
    "test_timeout_of_sleep": ("failed", ["failed"]),
    "test_timeout_and_fail": ("failed", ["failed"]),
    "test_timeout_and_warn": ("failed", ["failed"]),
    "test_deadlock": ("failed", ["failed"]),
    "test_deadlock_xfail": ("xfailed", ["xfailed"]),
    "test_timeout_and_no_watch": ("failed", ["failed"]),
    "test_leak_of_a_sleeper": ("failed", ["failed"]),
    "test_clean": ("passed", []),
    "test_case_fails": ("failed", ["failed"]),
    "test_case_skips": ("skipped", ["told"]),
    "test_case_timeout_and_fail": ("failed", ["failed"]),
}

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
    """But for markers that say otherwise: none of these fails for a leak."""
    found = report_only.outcomes()
    mine = {test for test in found if "expected" in test}
    assert {test: outcome for test, outcome in found.items() if test not in mine} == {
        test: outcome for test, outcome in off.outcomes().items() if test not in mine
    }
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
