"""Does the comparison of other projects' suites see what it is for? Planted regressions, and what must not be one."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).with_name("compat")))

import compare
import plugin_libraries
from libraries import Library
from outcomes import ModuleRun, Outcome, Runner
from packages import Package, Place
from plugin_findings import tell_findings

PLANTED = """
import asyncio, sys, taskscope, trio

def test_clean():
    async def main():
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(0))
    asyncio.run(main())

def test_that_a_scope_breaks():
    async def main():
        assert taskscope.current_scope() is None
    asyncio.run(main())

def test_that_a_scope_breaks_on_trio():
    async def main():
        assert taskscope.current_scope() is None
    trio.run(main)

def test_that_a_factory_breaks():
    async def main():
        assert asyncio.get_running_loop().get_task_factory() is None
    asyncio.run(main())

def test_that_an_instrument_breaks():
    async def main():
        assert "task_spawned" not in trio.lowlevel.current_task()._runner.instruments
    trio.run(main)

def test_that_a_wrapper_breaks():
    async def main():
        assert "compat_injecting" not in sys._getframe(1).f_code.co_filename
    asyncio.run(main())

def test_that_fails_anyway():
    assert False
"""


def test_planted_regressions_are_seen_in_a_suite_that_pytest_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "RERUNS", 0)  # they are tested below, where they cost nothing
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    folder = tmp_path / "planted-1"
    folder.mkdir()
    (folder / "pyproject.toml").write_text("[tool.pytest.ini_options]\n", encoding="utf-8")
    (folder / "test_planted.py").write_text(PLANTED, encoding="utf-8")
    library = Library(
        package=Package("planted", "1", "", ()),
        modules=("test_planted.py",),
        root=lambda place: place.sources / "planted-1",
        options=(),
        left_out={},
        named={"test_planted.py::test_that_a_factory_breaks": "asserts that there is none"},
    )
    suite = library.described(("scope",))
    runner = Runner(2, library.runner(Place(tmp_path, Path(sys.executable))))

    runs = runner.run((mode, "test_planted.py") for mode in ("plain", "scope"))
    found = compare.compare("scope", runs, runner, suite)

    assert sorted(found.regressions) == [
        "test_planted.py::test_that_a_scope_breaks",
        "test_planted.py::test_that_a_scope_breaks_on_trio",
        "test_planted.py::test_that_an_instrument_breaks",  # with any instrument, but nobody has named it
    ]
    assert "AssertionError" in found.regressions["test_planted.py::test_that_a_scope_breaks"].detail
    assert found.named == ["test_planted.py::test_that_a_factory_breaks"]
    assert found.objects == ["test_planted.py::test_that_a_wrapper_breaks"]
    assert found.flaky == []
    assert found.passed_plain == 7  # the process is one
    assert compare.seconds_of_tests("scope", "plain", [runs]) > 0
    assert compare.stale_exceptions([found], suite) == []


PLANTED_FOR_PLUGIN = """
import asyncio

async def forever():
    await asyncio.Event().wait()

def test_clean():
    async def main():
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(0))
    asyncio.run(main())

def test_that_leaks():
    async def main():
        asyncio.create_task(forever())
    asyncio.run(main())

def test_that_leaks_and_fails():
    async def main():
        asyncio.create_task(forever())
        raise ValueError
    asyncio.run(main())

def test_that_a_factory_breaks():
    async def main():
        assert asyncio.get_running_loop().get_task_factory() is None
    asyncio.run(main())

def test_that_leaves_a_timer():
    async def main():
        asyncio.get_running_loop().call_later(60, print)
    asyncio.run(main())

def test_that_the_plugin_breaks(pytestconfig):
    assert not pytestconfig.pluginmanager.hasplugin("taskscope-enforcement")
"""


def test_what_the_plugin_breaks_and_finds_in_a_suite_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(compare, "RERUNS", 0)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    folder = tmp_path / "planted-1"
    folder.mkdir()
    (folder / "test_planted.py").write_text(PLANTED_FOR_PLUGIN, encoding="utf-8")
    library = plugin_libraries.Library(
        Package("planted", "1", "", ()),
        tests=("test_planted.py",),
        named={"test_planted.py::test_that_a_factory_breaks": "asserts that there is none"},
    )
    suite, report = library.described(), tmp_path / "findings.json"
    runner = Runner(1, library.runner(Place(tmp_path, Path(sys.executable)), report, find="timers"))

    runs = runner.run((mode, "planted") for mode in ("plain", "plugin"))
    found = compare.compare("plugin", runs, runner, suite)

    assert list(found.regressions) == ["test_planted.py::test_that_the_plugin_breaks"]
    assert found.named == ["test_planted.py::test_that_a_factory_breaks"]
    assert found.passed_plain == 6  # the process is one
    failed = {"test_planted.py::test_that_leaks_and_fails"}
    assert tell_findings(report, (folder,), failed, all_tests=False) == 3
    told = capsys.readouterr().out
    assert "1 x forever, from test_planted.py:15 in test_that_leaks.<locals>.main\n" in told
    assert "1 x timer, from unknown\n        1 print, to be called in " in told
    assert "in call of a test that fails\n        in test_planted.py::test_that_leaks_and_fails\n" in told


Results = Mapping[str, list[dict[str, str]]]


def compared(results: Results, **described: Any) -> compare.Comparison:
    """results: for each mode what its runs say, one after the other; the last one's for all further runs."""
    left = {mode: list(runs) for mode, runs in results.items()}

    def run_module(mode: str, module: str, timeout: float) -> ModuleRun:
        runs = left[mode]
        words = runs.pop(0) if len(runs) > 1 else runs[0]
        return ModuleRun({test: Outcome(word) for test, word in words.items()})

    suite = compare.Suite(
        name="suite",
        modules=["m"],
        factory_controls={"scope": "any-factory"},
        wrapper_controls={"scope": "any-wrapper"},
        wrapper="nothing",
        module_of=lambda test: "m",
        part_of=lambda test: "m",
        **{"named": {}} | described,
    )
    runner = Runner(1, run_module)
    return compare.compare("scope", runner.run([("plain", "m"), ("scope", "m")]), runner, suite)


PASSED, FAILED = {"t": "passed"}, {"t": "failed"}
CONTROLS = {"any-factory": [PASSED], "any-wrapper": [PASSED]}


def test_a_test_that_fails_whenever_it_is_run_with_us_is_a_regression() -> None:
    found = compared({"plain": [PASSED], "scope": [FAILED]} | CONTROLS)
    assert list(found.regressions) == ["t"]


@pytest.mark.parametrize("with_us", [{}, {"t": "started"}, {"t": "skipped"}])
def test_a_test_that_does_not_run_or_end_with_us_is_a_regression(with_us: dict[str, str]) -> None:
    found = compared({"plain": [PASSED], "scope": [with_us]} | CONTROLS)
    assert list(found.regressions) == ["t"]


def test_a_test_that_passes_when_it_is_run_again_is_flaky_and_told() -> None:
    found = compared({"plain": [PASSED], "scope": [FAILED, FAILED, PASSED]} | CONTROLS)
    assert (found.flaky, found.regressions) == (["t"], {})


def test_a_test_that_then_fails_without_us_too_is_flaky_and_told() -> None:
    found = compared({"plain": [PASSED, FAILED], "scope": [FAILED]} | CONTROLS)
    assert (found.flaky, found.regressions) == (["t"], {})


def test_a_named_exception_has_to_fail_with_another_factory() -> None:
    results: Results = {"plain": [PASSED], "scope": [FAILED]} | CONTROLS
    named = {"t": "a reason"}
    assert list(compared(results, named=named).regressions) == ["t"]
    assert compared({**results, "any-factory": [FAILED]}, named=named).named == ["t"]
    assert list(compared({**results, "any-factory": [FAILED]}).regressions) == ["t"]


def test_what_fails_without_us_is_not_compared() -> None:
    found = compared({"plain": [{"t": "failed", "u": "passed"}], "scope": [{"t": "passed", "u": "passed"}]} | CONTROLS)
    assert (found.passed_plain, found.passed_with_us, found.regressions) == (1, 1, {})


def test_the_fastest_run_counts_of_what_passes_each_time() -> None:
    def run(**seconds: float) -> ModuleRun:
        return ModuleRun(
            {test: Outcome("passed" if took else "failed", seconds=took) for test, took in seconds.items()}
        )

    rounds = [
        {("plain", "m"): run(t=3.0, u=1.0, v=0), ("scope", "m"): run(t=4.0, u=5.0, v=1.0)},
        {("plain", "m"): run(t=2.0, u=1.0, v=7.0), ("scope", "m"): run(t=6.0, u=4.0, v=1.0)},
    ]
    assert compare.seconds_of_tests("plain", "scope", rounds) == 3.0
    assert compare.seconds_of_tests("scope", "plain", rounds) == 8.0


def test_an_exception_that_nothing_needs_any_more_is_stale() -> None:
    suite = compare.Suite("suite", ["m"], {}, {}, "nothing", {"t": "a reason"}, lambda test: "m", lambda test: "m")
    assert compare.stale_exceptions([compare.Comparison("scope")], suite) == ["t"]
    assert compare.stale_exceptions([compare.Comparison("scope", named=["t[parameter]"])], suite) == []
