"""Whose task it is: a fixture's that is to end it, or the test's that has spawned it."""

from __future__ import annotations

import functools
import importlib.util
from dataclasses import dataclass
from pathlib import Path

import pytest
from plugin.ownership.finalized import FINALIZED
from plugin.ownership.held import HELD
from plugin.ownership.helpers import ON_ASYNCIO as HELPERS_ON_ASYNCIO
from plugin.ownership.helpers import ON_TRIO as HELPERS_ON_TRIO
from plugin.ownership.named import NAMED
from plugin.ownership.on_trio import ON_TRIO
from plugin.ownership.own import OWN
from plugin.ownership.program import Program
from plugin.ownership.started import STARTED
from plugin.ownership.without_plugin import WITHOUT_PLUGIN
from plugin.project import Run, run_pytest

_ANYIO_BACKEND = """
import pytest

@pytest.fixture(scope="session")
def anyio_backend():
    return {backend}
"""


ON_ASYNCIO = (*STARTED, *HELD, *NAMED, *OWN, *FINALIZED)


@dataclass(frozen=True)
class Suite:
    """Programs in one file, run by one plugin.

    Attributes:
        torn_down_in: The phase in which their fixtures are torn down. pytest-trio runs them in one go with the test.
    """

    programs: tuple[Program, ...]
    plugins: tuple[str, ...]
    ini: str
    helpers: str = HELPERS_ON_ASYNCIO
    conftest: str = ""
    torn_down_in: str = "teardown"


def _pytest_asyncio(loop_scope: str) -> Suite:
    return Suite(
        tuple(program for program in ON_ASYNCIO if loop_scope != "function" or not program.needs_wide_loop),
        ("pytest_asyncio.plugin",),
        f"asyncio_mode = auto\nasyncio_default_fixture_loop_scope = {loop_scope}\n"
        f"asyncio_default_test_loop_scope = {loop_scope}",
    )


def _anyio(backend: str, programs: tuple[Program, ...], helpers: str = HELPERS_ON_ASYNCIO) -> Suite:
    conftest = _ANYIO_BACKEND.format(backend=backend)
    return Suite(programs, ("anyio.pytest_plugin",), "anyio_mode = auto", helpers, conftest)


def _suites() -> dict[str, Suite]:
    suites = {
        "pytest-asyncio": _pytest_asyncio("function"),
        "pytest-asyncio, session loop": _pytest_asyncio("session"),
        "anyio": _anyio('"asyncio"', ON_ASYNCIO),
        "anyio trio": _anyio('"trio"', ON_TRIO, HELPERS_ON_TRIO),
        "pytest-trio": Suite(
            ON_TRIO, ("pytest_trio.plugin",), "trio_mode = true", HELPERS_ON_TRIO, torn_down_in="call"
        ),
        "none": Suite(WITHOUT_PLUGIN, (), ""),
    }
    if importlib.util.find_spec("uvloop") is not None:
        suites["anyio uvloop"] = _anyio('("asyncio", {"use_uvloop": True})', ON_ASYNCIO)
    return suites


SUITES = _suites()


@functools.cache
def _run(name: str, folder: Path) -> Run:
    suite = SUITES[name]
    folder.mkdir()
    tests = suite.helpers + "".join(program.whole for program in suite.programs)
    ini = f"taskscope = true\ntaskscope_grace = 0.05\n{suite.ini}"
    return run_pytest(folder, {"test_it.py": tests, "conftest.py": suite.conftest}, plugins=suite.plugins, ini=ini)


@pytest.fixture
def result(suite: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return _run(suite, tmp_path_factory.getbasetemp() / f"ownership-{suite.replace(' ', '-')}")


_CLEAN = [
    pytest.param(name, program, id=f"{name}-{program.name}")
    for name, suite in SUITES.items()
    for program in suite.programs
]
_LEAKING = [param for param in _CLEAN if param.values[1].has_twin]  # type: ignore[union-attr]


@pytest.mark.parametrize(("suite", "program"), _CLEAN)
def test_nobody_is_accused_of_what_is_ended_in_time(program: Program, result: Run) -> None:
    test = f"test_{program.name}_clean"
    assert result.outcomes()[test] == "passed", result.output
    mine = [found for found in result.findings_of(test) if f"{program.name}_clean" in found["text"]]
    assert not mine


@pytest.mark.parametrize(("suite", "program"), _LEAKING)
def test_who_is_to_end_it_is_told_and_who_has_spawned_it(suite: str, program: Program, result: Run) -> None:
    test = f"test_{program.name}_leak"
    assert result.report is not None, result.output
    mine = [found for found in result.report["findings"] if found["owner"].endswith(program.owner_of_leak)]
    assert [found["outcome"] for found in mine] == ["failed"], result.output
    assert "# spawned here" in mine[0]["text"]
    if program.owner.startswith("test"):
        assert mine[0]["phase"] == "call"
        assert result.phase(test).outcome == "failed"
        return
    phase = SUITES[suite].torn_down_in
    kind = "finalizer" if program.owner.startswith("finalizer") else "fixture"
    assert (mine[0]["kind"], mine[0]["phase"]) == (kind, phase)
    # In the last test before the fixture is torn down, whichever that is.
    assert result.phases[mine[0]["nodeid"], phase].outcome == "failed"
    assert phase == "call" or result.phase(test).outcome == "passed"
    for leak in mine[0]["report"]["leaks"]:
        assert (leak["closed_scope"] or "").endswith(f"::{test}") is program.spawner
