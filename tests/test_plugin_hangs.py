"""A test that hangs in what a fixture has, or its own instance, is proven to; one that is woken after a while never."""

from __future__ import annotations

import functools
import importlib.util
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from plugin.hangs import ON_ASYNCIO, ON_TRIO
from plugin.project import Run, run_pytest

from taskscope._diagnosis.reachability import FREE_THREADED

_INI = "taskscope = true\ntaskscope_watch = 0.05\n"

_ANYIO = """
import pytest

@pytest.fixture
def anyio_backend():
    return {backend}
"""

# What pytest's functions hold, and how often, can be seen since 3.13.
_CAN_BE_SEEN = sys.version_info >= (3, 13) and not FREE_THREADED


@dataclass(frozen=True)
class Suite:
    """Programs in one file, run by one plugin.

    Attributes:
        can_be_proven: Whether it can be told there who holds what fixtures have. On uvloop it cannot, nor where C code
            has called AnyIO's runner.
    """

    programs: str
    plugin: str
    ini: str
    conftest: str = ""
    can_be_proven: bool = True

    def names(self, *, hangs: bool) -> list[str]:
        names = re.findall(r"def (test_\w+)", self.programs)
        return [name for name in names if name.startswith("test_hangs") is hangs]


def _anyio(programs: str, backend: str, *, can_be_proven: bool = True) -> Suite:
    conftest = _ANYIO.format(backend=backend)
    return Suite(programs, "anyio.pytest_plugin", "anyio_mode = auto", conftest, can_be_proven)


SUITES = {
    "pytest-asyncio": Suite(ON_ASYNCIO, "pytest_asyncio.plugin", "asyncio_mode = auto"),
    "anyio": _anyio(ON_ASYNCIO, '"asyncio"'),
    "pytest-trio": Suite(ON_TRIO, "pytest_trio.plugin", "trio_mode = true"),
    "anyio trio": _anyio(ON_TRIO, '"trio"', can_be_proven=False),
}
if importlib.util.find_spec("uvloop") is not None:
    SUITES["anyio uvloop"] = _anyio(ON_ASYNCIO, '("asyncio", {"use_uvloop": True})', can_be_proven=False)

HANGING = [(name, test) for name, suite in SUITES.items() if suite.can_be_proven for test in suite.names(hangs=True)]
WOKEN = [(name, test) for name, suite in SUITES.items() for test in suite.names(hangs=False)]

if sys.version_info >= (3, 14):  # of two variables that have a function one may have borrowed it from the other
    HANGING.remove(("pytest-asyncio", "test_hangs_in_instance"))


@functools.cache
def _run(name: str, folder: Path) -> Run:
    suite = SUITES[name]
    folder.mkdir()
    files = {"test_it.py": suite.programs, "conftest.py": suite.conftest}
    # Those of which nobody would know that they hang are left out, or they would.
    endless = [test for test in suite.names(hangs=True) if not _CAN_BE_SEEN or (name, test) not in HANGING]
    without = ("-k", f"not ({' or '.join(endless)})") if endless else ()
    return run_pytest(folder, files, *without, plugins=(suite.plugin,), ini=_INI + suite.ini)


@pytest.fixture
def result(suite: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return _run(suite, tmp_path_factory.getbasetemp() / f"hangs-{suite.replace(' ', '-')}")


@pytest.mark.skipif(not _CAN_BE_SEEN, reason="frames do not show what they hold, or it cannot be counted")
@pytest.mark.parametrize(("suite", "test"), HANGING)
def test_a_hang_in_what_a_fixture_has_is_proven(test: str, result: Run) -> None:
    test = f"{test}[1]" if test == "test_hangs_beside_others" else test
    assert "could never have gone on" in " ".join(result.phase(test).text.split()), result.output


@pytest.mark.parametrize(("suite", "test"), WOKEN)
def test_what_is_woken_later_is_let_alone(test: str, result: Run) -> None:
    assert result.outcomes()[test] == "passed", result.output
