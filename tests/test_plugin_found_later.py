"""What is found when the test that has spawned it is over: that one is named, and no other is blamed."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
from plugin.ownership.helpers import ON_ASYNCIO
from plugin.project import Run, run_pytest

_TESTS = """
import taskscope

@pytest.fixture(scope="session")
async def client_of_session():
    yield Client()

@pytest.fixture(scope="session", params=["a", "b"])
async def parametrised(request):
    yield Client()

async def test_asks(client_of_session):
    client_of_session.ask()

async def test_next_to_ask(client_of_session):
    assert client_of_session.reader

async def test_parametrised(parametrised):
    parametrised.ask()

late = {}

def spawn_later(who, turns=10):
    if turns:
        asyncio.get_running_loop().call_soon(spawn_later, who, turns - 1)
    else:
        late[who] = asyncio.create_task(forever())  # spawned here

async def test_spawns_late():
    spawn_later("test")

async def test_next_to_late_one():
    while "test" not in late:
        await asyncio.sleep(0)

@pytest.fixture
async def never_closed():
    yield
    spawn_later("fixture")

async def test_never_closed(never_closed):
    pass

async def test_next_to_never_closed():
    while "fixture" not in late:
        await asyncio.sleep(0)

@pytest.fixture
async def handing_off():
    taskscope.hand_off(asyncio.create_task(forever()), reason="lives as long as the process")

async def test_hands_off(handing_off):
    taskscope.hand_off(asyncio.create_task(forever()), reason="lives as long as the process")

async def test_cleans_up():
    task = asyncio.create_task(forever())
    await end(task)
"""

_ON_ANYIO = """
import pytest

@pytest.fixture(scope="session")
def anyio_backend():
    return "asyncio"

@pytest.fixture(scope="session", autouse=True)
async def one_loop_for_all(anyio_backend):
    yield
"""

RUNNERS = {
    "pytest-asyncio": (
        ("pytest_asyncio.plugin",),
        "asyncio_mode = auto\nasyncio_default_fixture_loop_scope = session\nasyncio_default_test_loop_scope = session",
        "",
    ),
    "anyio": (("anyio.pytest_plugin",), "anyio_mode = auto", _ON_ANYIO),
}


@functools.cache
def _run(runner: str, folder: Path) -> Run:
    folder.mkdir()
    plugins, ini, conftest = RUNNERS[runner]
    files = {"test_it.py": ON_ASYNCIO + _TESTS, "conftest.py": conftest}
    return run_pytest(folder, files, plugins=plugins, ini=f"taskscope = true\ntaskscope_grace = 0.05\n{ini}")


@pytest.fixture(params=RUNNERS)
def result(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return _run(request.param, tmp_path_factory.getbasetemp() / f"later-{request.param}")


def _of_owner(result: Run, owner: str) -> list[dict[str, Any]]:
    assert result.report is not None, result.output
    return [found for found in result.report["findings"] if found["owner"] == owner]


def _spawners(findings: list[dict[str, Any]]) -> list[str | None]:
    return [leak["closed_scope"] for found in findings for leak in found["report"]["leaks"]]


def test_no_test_is_blamed(result: Run) -> None:
    in_call = {nodeid: phase.outcome for (nodeid, when), phase in result.phases.items() if when != "teardown"}
    assert set(in_call.values()) == {"passed"}, result.output
    assert result.report is not None
    owners = {found["owner"] for found in result.report["findings"]}
    assert owners == {"fixture client_of_session", "fixture parametrised", "event loop"}


def test_the_test_that_has_spawned_it_is_named(result: Run) -> None:
    [found] = _of_owner(result, "fixture client_of_session")
    assert _spawners([found]) == ["test_it.py::test_asks"]
    assert found["phase"] == "teardown"
    assert "test_it.py::test_asks" in found["text"]
    assert "# spawned here" in found["text"]


def test_a_fixture_that_is_torn_down_in_the_setup_of_the_next_test(result: Run) -> None:
    found = _of_owner(result, "fixture parametrised")
    assert _spawners(found) == ["test_it.py::test_parametrised[a]", "test_it.py::test_parametrised[b]"]
    assert found[0]["nodeid"] == "test_it.py::test_parametrised[a]"
    assert result.phase("test_parametrised[b]", "setup").outcome == "passed"


def test_what_is_spawned_when_its_test_or_fixture_is_over(result: Run) -> None:
    found = _of_owner(result, "event loop")
    assert {found["kind"] for found in found} == {"loop"}
    assert sorted(map(str, _spawners(found))) == ["fixture never_closed", "test_it.py::test_spawns_late"]
    assert "# spawned here" in found[0]["text"]
