"""A test that hangs in what a fixture has, or its own instance, is proven to; one that is woken after a while never."""

from __future__ import annotations

import functools
import importlib.util
import re
import sys
from pathlib import Path

import pytest
from plugin.hangs import PROGRAMS
from plugin.project import Run, run_pytest

from taskscope._diagnosis.reachability import FREE_THREADED

_INI = "taskscope = true\ntaskscope_watch = 0.05\n"

_ANYIO = """
import pytest

@pytest.fixture
def anyio_backend():
    return "asyncio", {{"use_uvloop": {uvloop}}}
"""

SUITES = {
    "pytest-asyncio": ("pytest_asyncio.plugin", "asyncio_mode = auto", ""),
    "anyio": ("anyio.pytest_plugin", "anyio_mode = auto", _ANYIO.format(uvloop=False)),
}
if importlib.util.find_spec("uvloop") is not None:
    SUITES["anyio uvloop"] = ("anyio.pytest_plugin", "anyio_mode = auto", _ANYIO.format(uvloop=True))

_NAMES = re.findall(r"async def (test_\w+)", PROGRAMS)
HANGING = [name for name in _NAMES if name.startswith("test_hangs")]
WOKEN = [name for name in _NAMES if name not in HANGING]

# Of two variables that have a function one may have borrowed it from the other, since 3.14.
_NOT_COUNTED = {("pytest-asyncio", "test_hangs_in_instance")} if sys.version_info >= (3, 14) else set()

PROVEN = [
    (suite, test) for suite in SUITES for test in HANGING if "uvloop" not in suite and (suite, test) not in _NOT_COUNTED
]

_SECONDS = 1.0

# Where who holds what cannot be told, as on uvloop, hangs end with their time.
_HAS_TIME = f"""
def pytest_collection_modifyitems(items):
    for item in items:
        if "test_hangs" in item.name:
            item.add_marker(pytest.mark.taskscope(timeout={_SECONDS}))
"""


@functools.cache
def _run(name: str, folder: Path) -> Run:
    plugin, ini, conftest = SUITES[name]
    folder.mkdir()
    files = {"test_it.py": PROGRAMS, "conftest.py": f"import pytest\n{conftest}{_HAS_TIME}"}
    return run_pytest(folder, files, plugins=(plugin,), ini=_INI + ini)


@pytest.fixture
def result(suite: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return _run(suite, tmp_path_factory.getbasetemp() / f"hangs-{suite.replace(' ', '-')}")


@pytest.mark.skipif(
    FREE_THREADED or sys.version_info < (3, 13), reason="frames do not show what they hold, or it cannot be counted"
)
@pytest.mark.parametrize(("suite", "test"), PROVEN)
def test_a_hang_in_what_a_fixture_has_is_proven(test: str, result: Run) -> None:
    test = f"{test}[1]" if test == "test_hangs_beside_others" else test
    assert "could never have gone on" in " ".join(result.phase(test).text.split()), result.output


@pytest.mark.parametrize("test", WOKEN)
@pytest.mark.parametrize("suite", SUITES)
def test_what_is_woken_later_is_let_alone(test: str, result: Run) -> None:
    assert result.outcomes()[test] == "passed", result.output
