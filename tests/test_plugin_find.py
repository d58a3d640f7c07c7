"""What tests and fixtures leave beside tasks: who is told to have left it, and who is not."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
from dataclasses import dataclass
from pathlib import Path

import pytest
from plugin.find_project import INNOCENT, SYNC, TOLD
from plugin.project import Run, run_pytest
from plugin.things import ON_ASYNCIO, ON_TRIO, Cell, cells, module

INI = """
taskscope = true
taskscope_grace = 0.05
taskscope_end_processes = true
taskscope_find = timers, generators, executor, threads, processes, servers, transports, unretrieved
"""


@dataclass(frozen=True)
class Suite:
    """Cells in one file, run by one plugin.

    Attributes:
        mark: The mark of all tests. None: they need none.
    """

    cells: list[Cell]
    plugins: tuple[str, ...] = ()
    ini: str = ""
    conftest: str = ""
    as_methods: bool = False
    mark: str | None = None


def _anyio(backend: str, things: tuple[str, ...]) -> Suite:
    conftest = f"""
        import pytest

        @pytest.fixture(scope="session")
        def anyio_backend():
            return {backend}
        """
    all_cells = cells(things, ("function", "session"))
    return Suite(all_cells, ("anyio.pytest_plugin",), conftest=conftest, mark="anyio")


# Those of before 1.0 make plain functions of coroutine functions before anybody sees them.
_FIXTURES_ARE_SYNC = importlib.metadata.version("pytest-asyncio").startswith("0.")


def _pytest_asyncio(loop_scope: str) -> Suite:
    all_cells = cells(ON_ASYNCIO, ("function",) if loop_scope == "function" else ("function", "session"))
    return Suite(
        [
            cell
            for cell in all_cells
            if not _FIXTURES_ARE_SYNC
            or cell.twin == "clean"
            or cell.scope is None
            or cell.kind in ("thread", "process")
        ],
        ("pytest_asyncio.plugin",),
        f"asyncio_mode = auto\nasyncio_default_fixture_loop_scope = {loop_scope}\n"
        f"asyncio_default_test_loop_scope = {loop_scope}",
    )


def _pytest_trio() -> Suite:
    """Its fixtures are set up side by side in one context, so that nobody can tell which has made what."""
    all_cells = cells(ON_TRIO, ("function",))
    told = [cell for cell in all_cells if cell.way == "in_test" or cell.twin == "clean"]
    return Suite(told, ("pytest_trio.plugin",), "trio_mode = true")


def _suites() -> dict[str, Suite]:
    suites = {
        "pytest-asyncio": _pytest_asyncio("function"),
        "pytest-asyncio, session loop": _pytest_asyncio("session"),
        "anyio": _anyio('"asyncio"', ON_ASYNCIO),
        "anyio trio": _anyio('"trio"', ON_TRIO),
        "pytest-trio": _pytest_trio(),
        "unittest": Suite(cells(ON_ASYNCIO, (None,)), as_methods=True),
    }
    if importlib.util.find_spec("uvloop") is not None:
        suites["anyio uvloop"] = _anyio('("asyncio", {"use_uvloop": True})', ON_ASYNCIO)
    return suites


SUITES = _suites()


@functools.cache
def _run(name: str, folder: Path) -> Run:
    suite = SUITES[name]
    folder.mkdir()
    tests = module(suite.cells, as_methods=suite.as_methods)
    if suite.mark is not None:
        tests += f"\npytestmark = pytest.mark.{suite.mark}\n"
    files = {"test_it.py": tests, "conftest.py": suite.conftest}
    return run_pytest(folder, files, plugins=suite.plugins, ini=INI + suite.ini)


@pytest.fixture
def result(suite: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return _run(suite, tmp_path_factory.getbasetemp() / f"find-{suite.replace(' ', '-')}")


def _params(twin: str) -> list[object]:
    return [
        pytest.param(name, cell, id=f"{name}-{cell.name}")
        for name, suite in SUITES.items()
        for cell in suite.cells
        if cell.twin == twin
    ]


@pytest.mark.parametrize(("suite", "cell"), _params("clean"))
def test_nobody_is_accused_of_what_is_ended_in_time(cell: Cell, result: Run) -> None:
    assert result.phase(f"test_{cell.name}").outcome == "passed", result.output
    assert result.report is not None
    assert not [found for found in result.report["findings"] if found["owner"].endswith(cell.owner)]


@pytest.mark.parametrize(("suite", "cell"), _params("leak"))
def test_who_is_to_end_it_is_told(cell: Cell, result: Run) -> None:
    assert result.report is not None, result.output
    [found] = [found for found in result.report["findings"] if found["owner"].endswith(cell.owner)]
    assert found["outcome"] == "failed"
    assert not found["report"]["leaks"]
    assert not found["report"]["coverage"]
    assert [thing["kind"] for thing in found["report"]["findings"]] == [cell.kind]
    if cell.scope is None:
        assert (found["nodeid"].endswith(cell.owner), found["phase"]) == (True, "call")
        assert result.phase(f"test_{cell.name}").outcome == "failed"
    else:
        assert (found["kind"], found["phase"]) == ("fixture", "teardown")
        assert result.phases[found["nodeid"], "teardown"].outcome == "failed"
        assert result.phase(f"test_{cell.name}").outcome == "passed"


ON_SESSION_LOOP = """
asyncio_mode = auto
asyncio_default_fixture_loop_scope = session
asyncio_default_test_loop_scope = session
"""
ASYNCIO = ("pytest_asyncio.plugin",)


def _kinds(run: Run, test: str) -> list[str]:
    return [thing["kind"] for found in run.findings_of(test) for thing in found["report"]["findings"]]


def test_functions_that_are_no_coroutines(tmp_path: Path) -> None:
    run = run_pytest(tmp_path, {"test_it.py": SYNC}, ini=INI)
    assert run.report is not None, run.output
    found = {found["owner"].removeprefix("test_it.py::"): found for found in run.report["findings"]}
    assert {owner: [thing["kind"] for thing in each["report"]["findings"]] for owner, each in found.items()} == {
        "test_thread_leak": ["thread"],
        "fixture made_leak": ["thread"],
        "fixture lazy_leak": ["thread"],
        "test_run_leak": ["timer"],
        "test_unretrieved_leak": ["unretrieved"],
        "test_property_leak": ["thread"],
        "Case::test_case_leak": ["thread"],
    }
    for test, phase in run.phases.items():
        leaks = test[1] == "call" and test[0].endswith("_leak") and "made" not in test[0] and "lazy" not in test[0]
        assert test[1] != "call" or phase.outcome == ("failed" if leaks else "passed"), test


@pytest.fixture
def told(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return _run_told(tmp_path_factory.getbasetemp() / "find-told")


@functools.cache
def _run_told(folder: Path, *arguments: str) -> Run:
    folder.mkdir()
    ini = INI + ON_SESSION_LOOP
    return run_pytest(
        folder, {"test_it.py": TOLD}, *arguments, plugins=ASYNCIO, ini=ini, variables={"GITHUB_ACTIONS": "true"}
    )


def test_what_becomes_of_tests_that_leave_things(told: Run) -> None:
    outcomes = told.outcomes()
    assert {test for test, outcome in outcomes.items() if outcome == "passed"} == {
        "test_expected_task",
        "test_nothing_is_looked_for",
        "test_warned",
    }
    became = {test: [found["outcome"] for found in told.findings_of(test)] for test in outcomes}
    assert became["test_expected_task_and_timer"] == ["expected", "failed"]
    assert became["test_task_and_timer"] == ["failed"]
    assert became["test_warned"] == ["warned"]
    assert _kinds(told, "test_expected_task_and_timer") == ["timer"]
    assert _kinds(told, "test_property") == ["timer"]
    phase = told.phase("test_fails_and_leaves")
    assert "assert 0" in phase.text
    assert "1 timer did" in "\n".join(phase.sections.values())


def test_things_are_counted_by_sort_and_place(told: Run) -> None:
    line = next(number for number, text in enumerate(TOLD.splitlines(), 1) if "def ring" in text)
    spawned = next(number for number, text in enumerate(TOLD.splitlines(), 1) if "# spawned here" in text)
    assert "tests and fixtures have left 1 task and 11 other things behind:" in told.output
    assert f"   8 x Timer, defined at test_it.py:{line} in ring" in told.output
    where = f"spawned at test_it.py:{spawned} in test_failed_task"
    assert f"   1 x Exception that nobody has retrieved, {where}" in told.output
    assert "   2 x Server, nobody knows where it was started" in told.output
    assert "::error title=taskscope::Server was left behind by test_it.py::test_server[0] and 1 more" in told.output
    place = f"file=test_it.py,line={line},title=taskscope"
    assert f"::error {place}::Timer was left behind by test_it.py::test_timer[0] and 6 more" in told.output
    assert f"::warning {place}::Timer was left behind by test_it.py::test_warned" in told.output


def test_report_only_ends_nothing(tmp_path: Path) -> None:
    test = """
        import asyncio
        import subprocess
        import sys

        kept = []

        def ring():
            pass

        async def test_leaves():
            loop = asyncio.get_running_loop()
            kept.append(loop.call_later(60, ring))
            kept.append(await asyncio.start_server(print, "127.0.0.1", 0))
            kept.append(subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE))

        async def test_all_is_there():
            timer, server, process = kept
            assert not timer.cancelled()
            assert server.is_serving()
            assert process.poll() is None
            timer.cancel()
            server.close()
            process.communicate()
        """
    run = run_pytest(
        tmp_path, {"test_it.py": test}, "--taskscope-on-leak=summary", plugins=ASYNCIO, ini=INI + ON_SESSION_LOOP
    )
    assert run.code == 0, run.output
    assert sorted(_kinds(run, "test_leaves")) == ["process", "server", "timer"]
    [found] = run.findings_of("test_leaves")
    assert found["outcome"] == "told"
    assert [thing["outcome"] for thing in found["report"]["findings"]] == [None, None, None]


@pytest.mark.parametrize("how", ["alone", "timeout by a thread", "timeout of functions only", "workers"])
def test_what_serves_a_loop_a_library_or_pytest_is_nobodys(how: str, tmp_path: Path) -> None:
    plugins = {"alone": (), "workers": ("xdist.plugin",)}.get(how, ("pytest_timeout",))
    for plugin in plugins:
        pytest.importorskip(plugin)
    ini = {"timeout by a thread": "timeout = 60\ntimeout_method = thread\n"}.get(how, "")
    if how == "timeout of functions only":
        ini = "timeout = 60\ntimeout_method = thread\ntimeout_func_only = true\n"
    run = run_pytest(
        tmp_path,
        {"test_it.py": INNOCENT},
        *(("-n1",) if how == "workers" else ()),
        plugins=(*ASYNCIO, *plugins),
        ini=INI + ON_SESSION_LOOP + ini,
    )
    assert run.code == 0, run.output
    assert run.report is not None
    assert run.report["findings"] == []


def test_clients_and_servers_of_pytest_aiohttp(tmp_path: Path) -> None:
    test = """
        import aiohttp.web
        import pytest

        async def hello(request):
            return aiohttp.web.Response(text="hello")

        def app():
            app = aiohttp.web.Application()
            app.router.add_get("/", hello)
            return app

        @pytest.fixture
        async def client(aiohttp_client):
            return await aiohttp_client(app())

        async def test_client_made_by_a_fixture(client):
            response = await client.get("/")
            assert await response.text() == "hello"

        async def test_client_made_by_the_test(aiohttp_client):
            client = await aiohttp_client(app())
            response = await client.get("/")
            assert await response.text() == "hello"

        async def test_leak():
            runner = aiohttp.web.AppRunner(app())
            await runner.setup()
            await aiohttp.web.TCPSite(runner, "127.0.0.1", 0).start()
        """
    run = run_pytest(
        tmp_path,
        {"test_it.py": test},
        plugins=(*ASYNCIO, "pytest_aiohttp.plugin"),
        ini=INI + "asyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n",
    )
    assert run.outcomes() == {
        "test_client_made_by_a_fixture": "passed",
        "test_client_made_by_the_test": "passed",
        "test_leak": "failed",
    }, run.output
    assert _kinds(run, "test_leak") == ["server"]
