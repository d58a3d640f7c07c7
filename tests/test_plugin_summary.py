"""What the pytest plugin tells at the end of a run: in the terminal, as JSON, in JUnit's XML and to GitHub."""

from __future__ import annotations

import functools
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
from plugin.project import Run, run_pytest

FILES = {
    "conftest.py": """
        import asyncio
        import pytest_asyncio
        import pytest

        async def kept():
            await asyncio.Event().wait()

        @pytest_asyncio.fixture(scope="session", loop_scope="session")
        async def service():
            asyncio.create_task(kept())  # by the session
            yield
        """,
    "tests/test_it.py": """
        import asyncio
        import pytest

        async def often():
            await asyncio.Event().wait()

        async def seldom():
            await asyncio.Event().wait()

        async def late():
            await asyncio.sleep(0.02)

        async def meant_to_stay():
            await asyncio.Event().wait()

        def spawn(function):
            return asyncio.create_task(function())

        def spawn_often():
            return asyncio.create_task(often())  # often

        @pytest.mark.parametrize("number", range(5))
        async def test_often(number):
            spawn_often()

        async def test_seldom():
            asyncio.create_task(seldom())  # seldom

        async def test_late():
            asyncio.create_task(late())

        async def test_ignored():
            spawn(meant_to_stay)

        @pytest.mark.taskscope_leaks("seldom")
        async def test_expected():
            spawn(seldom)

        @pytest.mark.taskscope(on_leak="warn")
        async def test_warned():
            asyncio.create_task(seldom())

        async def test_fails_and_leaks():
            asyncio.create_task(seldom())
            assert 0

        async def test_skips():
            asyncio.create_task(seldom())
            pytest.skip("not today")

        @pytest.mark.xfail
        async def test_xfail():
            spawn(seldom)

        async def test_hang():
            await asyncio.Event().wait()

        async def test_strange_name():
            async def colon():
                await asyncio.Event().wait()
            colon.__qualname__ = "100%: a,b\\nc"
            asyncio.create_task(colon())

        def test_with_service(service):
            pass

        async def test_clean():
            pass
        """,
}
INI = """
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
taskscope = true
testpaths = tests
taskscope_ignore =
    coroutine=meant_to_* -- it is meant to
    coroutine=nobody_has_it -- there was one once
"""
ASYNCIO = ("pytest_asyncio.plugin",)


def _line(text: str, file: str = "tests/test_it.py") -> int:
    return next(n for n, line in enumerate(FILES[file].splitlines(), 1) if text in line)


@functools.cache
def _run(folder: Path, *arguments: str, plugins: tuple[str, ...] = ASYNCIO, github: bool = False) -> Run:
    folder.mkdir()
    variables = {"GITHUB_ACTIONS": "true", "GITHUB_WORKSPACE": str(folder)} if github else {}
    return run_pytest(folder, FILES, "--junitxml=junit.xml", *arguments, plugins=plugins, ini=INI, variables=variables)


@pytest.fixture
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.getbasetemp()


@pytest.fixture
def full(base: Path) -> Run:
    return _run(base / "summary-full", github=True)


@pytest.fixture
def part(base: Path) -> Run:
    return _run(base / "summary-part", "-k", "often")


@pytest.fixture
def distributed(base: Path) -> Run:
    return _run(base / "summary-xdist", "-n2", plugins=(*ASYNCIO, "xdist.plugin", "xdist.looponfail"), github=True)


def _summary(run: Run) -> list[str]:
    lines = run.output.splitlines()
    begin = next(number for number, line in enumerate(lines) if line.strip("= ") == "taskscope" and line[0] == "=")
    end = next(number for number in range(begin + 1, len(lines)) if lines[number].startswith("==="))
    return lines[begin + 1 : end]


@pytest.mark.parametrize("which", ["full", "distributed"])
def test_leaks_are_grouped_by_place_most_frequent_first(which: str, request: pytest.FixtureRequest) -> None:
    summary = _summary(request.getfixturevalue(which))
    ended, head, first, names, *others = summary
    assert ended == "The body of tests/test_it.py::test_hang was ended: it was deadlocked."
    assert head == "11 tests and fixtures have left 11 tasks behind:"
    assert first == f"     5 x often, spawned at tests/test_it.py:{_line('# often')} in spawn_often"
    assert names.startswith("         in tests/test_it.py::test_often[")
    assert names.endswith(" and 2 more")
    assert f"     1 x seldom, spawned at tests/test_it.py:{_line('# seldom')} in test_seldom" in others
    assert "         in tests/test_it.py::test_seldom" in others
    assert f"     1 x kept, spawned at conftest.py:{_line('# by the session', 'conftest.py')} in service" in others
    assert any(line.startswith("         in fixture service of tests/test_it.py::") for line in others)


@pytest.mark.parametrize("which", ["full", "distributed"])
def test_what_is_no_leak_is_told_apart(which: str, request: pytest.FixtureRequest) -> None:
    summary = "\n".join(_summary(request.getfixturevalue(which)))
    late = _line("asyncio.create_task(late())")
    assert "1 task leaked as expected." in summary
    assert "1 task left behind by what was expected to fail: tests/test_it.py::test_xfail." in summary
    assert (
        "1 task ended only after the test had; what they use may be closed by then:\n"
        f"     1 x late, spawned at tests/test_it.py:{late}" in summary
    )
    assert "1 task left alone by rules:\n     1 x coroutine='meant_to_*'" in summary
    assert "This rule of taskscope_ignore has matched nothing: coroutine='nobody_has_it'" in summary


def test_rules_are_idle_only_in_a_full_run(full: Run, part: Run, base: Path) -> None:
    assert full.report is not None and part.report is not None
    assert full.report["rules_that_never_matched"] == ["coroutine='nobody_has_it'"]
    assert part.report["rules_that_never_matched"] == []
    assert "has matched nothing" not in part.output
    for name, arguments in {
        "file": ("tests/test_it.py",),
        "stopped": ("-x",),
        "collected": ("--collect-only",),
    }.items():
        run = _run(base / f"summary-{name}", *arguments)
        assert "has matched nothing" not in run.output


def _without_worker(findings: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return sorted(
        (found["owner"], found["kind"], found["outcome"], found["phase"], len(found["report"]["leaks"]))
        for found in findings
    )


def test_report_as_json(full: Run) -> None:
    report = full.report
    assert report is not None
    assert report["format_version"] == 1
    assert report.keys() == {"format_version", "findings", "late", "ignored", "rules_that_never_matched"}
    by_outcome: dict[str, int] = {}
    for found in report["findings"]:
        by_outcome[found["outcome"]] = by_outcome.get(found["outcome"], 0) + 1
        assert found["worker"] is None
        assert found["report"]["format_version"] == 1
        assert found["text"]
    assert by_outcome == {"failed": 10, "expected": 1, "warned": 1, "told": 1, "xfailed": 1}


def test_workers_reports_are_merged(full: Run, distributed: Run) -> None:
    assert full.report is not None and distributed.report is not None
    assert _without_worker(distributed.report["findings"]) == _without_worker(full.report["findings"])
    assert {found["worker"] for found in distributed.report["findings"]} <= {"gw0", "gw1"}
    for key in ("late", "ignored", "rules_that_never_matched"):
        assert list(distributed.report[key]) == [
            what.replace("summary-full", "summary-xdist") for what in full.report[key]
        ]
    # The session's fixture is one of each worker's, and torn down after another test there.
    assert sorted(phase.outcome for phase in distributed.phases.values()) == sorted(
        phase.outcome for phase in full.phases.values()
    )


@pytest.mark.parametrize("which", ["full", "distributed"])
def test_junit_has_the_reports(which: str, base: Path, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue(which)
    folder = base / {"full": "summary-full", "distributed": "summary-xdist"}[which]
    cases = {case.get("name"): case for case in ElementTree.parse(folder / "junit.xml").iter("testcase")}
    failure = cases["test_seldom"].find("failure")
    assert failure is not None
    assert "1 task outlived scope" in f"{failure.text}{failure.get('message')}"
    assert _properties(cases["test_seldom"]) == []
    for name in ("test_warned", "test_skips", "test_xfail", "test_expected", "test_fails_and_leaks"):
        found = _properties(cases[name])
        assert len(found) == 1, name
        assert found[0].startswith("taskscope: 1 task outlived scope"), name
    assert _properties(cases["test_clean"]) == []


def _properties(case: ElementTree.Element) -> list[str]:
    return [found.get("value", "") for found in case.iter("property") if found.get("name") == "taskscope"]


@pytest.mark.parametrize("which", ["full", "distributed"])
def test_annotations_on_github(which: str, request: pytest.FixtureRequest) -> None:
    run: Run = request.getfixturevalue(which)
    lines = [line for line in run.output.splitlines() if line.startswith("::")]
    hang = _line("async def test_hang") + 1
    assert (
        f"::error file=tests/test_it.py,line={hang},title=taskscope::"
        "tests/test_it.py::test_hang was ended: it was deadlocked"
    ) in lines
    often = [line for line in lines if "often" in line]
    assert len(often) == 1, "one for each place"
    assert often[0].startswith(
        f"::error file=tests/test_it.py,line={_line('# often')},title=taskscope::"
        "often was left behind by tests/test_it.py::test_often["
    )
    assert often[0].endswith(" and 4 more")
    strange = _line("asyncio.create_task(colon())")
    assert (
        f"::error file=tests/test_it.py,line={strange},title=taskscope::"
        "100%25: a,b%0Ac was left behind by tests/test_it.py::test_strange_name"
    ) in lines
    warned = [line for line in lines if line.startswith("::warning")]
    assert {line.rpartition("::")[2] for line in warned} == {"test_warned", "test_skips"}
    assert not any("expected" in line or "xfail" in line for line in lines)


def test_no_annotations_elsewhere(part: Run) -> None:
    assert "\n::" not in part.output


def test_nothing_is_told_of_a_clean_run(tmp_path: Path) -> None:
    run = _run(tmp_path / "clean", "-k", "test_clean", github=True)
    assert run.code == 0
    assert " taskscope ===" not in run.output
    assert "\n::" not in run.output
    assert run.report == {
        "format_version": 1,
        "findings": [],
        "late": {},
        "ignored": {},
        "rules_that_never_matched": [],
    }
