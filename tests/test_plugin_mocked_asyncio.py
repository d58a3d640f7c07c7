"""Tests put mocks in the place of asyncio's functions and classes. What is found, and how it is told, is as without."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from plugin.project import run_pytest

import taskscope

SOURCES = Path(taskscope.__file__).parent

# Where no test runs, or the name is looked up before any does.
_ELSEWHERE = {"cli.py", "_site.py", "_table.py", "_anyio_backends.py"}

_TESTS = """
    import asyncio
    import pytest

    NAMES = [name for name in sorted(vars(asyncio)) if name[0] != "_" and callable(getattr(asyncio, name))]
    WAYS = [{}, {"return_value": None}, {"side_effect": RuntimeError("mocked")}]
    Event, run, sleep = asyncio.Event, asyncio.run, asyncio.sleep

    # What another fixture of pytest-asyncio's calls itself, and what is not there then.
    NAMES.remove("set_event_loop_policy")

    async def forever():
        await Event().wait()

    @pytest.fixture(params=range(len(WAYS)), ids=["mock", "none", "raises"])
    def way(request):
        return WAYS[request.param]

    @pytest.fixture(params=[CHOSEN])
    def name(request):
        return request.param

    async def test_leak(name, way, mocker):
        loop = asyncio.get_running_loop()
        mocker.patch(f"asyncio.{name}", **way)
        loop.create_task(forever())

    async def test_clean(name, way, mocker):
        loop = asyncio.get_running_loop()
        mocker.patch(f"asyncio.{name}", **way)
        await loop.create_task(sleep(0))

    def test_sync(name, way, mocker):
        if name in ("run", "Runner"):
            pytest.skip("what this test calls itself")
        mocker.patch(f"asyncio.{name}", **way)
        run(sleep(0))
"""


def _run(folder: Path, chosen: str) -> dict[str, str]:
    run = run_pytest(
        folder,
        {"test_it.py": _TESTS.replace("CHOSEN", chosen)},
        plugins=("pytest_asyncio.plugin", "anyio.pytest_plugin", "pytest_mock"),
        ini="taskscope = true\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function",
    )
    outcomes = run.outcomes()
    assert "Traceback" not in run.output and "taskscope/" not in run.output, run.output
    for test, outcome in outcomes.items():
        if test.startswith("test_leak"):
            assert outcome == "failed" and "1 task outlived scope" in run.phase(test).text, run.output
    return outcomes


def test_all_names(tmp_path: Path) -> None:
    outcomes = _run(tmp_path, "*NAMES")
    assert len(outcomes) > 500
    assert {outcomes[test] for test in outcomes if test.startswith("test_clean")} == {"passed"}
    assert {outcomes[test] for test in outcomes if test.startswith("test_sync")} == {"passed", "skipped"}


@pytest.mark.parametrize(
    "name", ["AbstractEventLoop", "Event", "Future", "Runner", "Task", "TaskGroup", "current_task"]
)
def test_what_is_loaded_with_the_first_leak(tmp_path: Path, name: str) -> None:
    outcomes = _run(tmp_path, f'"{name}"')
    assert set(outcomes.values()) <= {"failed", "passed", "skipped"}


def _names_of_the_package(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text("utf-8"))
    not_run: set[int] = set()
    for node in ast.walk(tree):
        for annotation in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if annotation is not None:
                not_run.update(map(id, ast.walk(annotation)))
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or not isinstance(node.value, ast.Name) or id(node) in not_run:
            continue
        if node.value.id == "asyncio" and not node.attr.startswith("_"):
            yield node.attr


@pytest.mark.parametrize("path", sorted(SOURCES.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCES)))
def test_no_name_is_looked_up_where_a_mock_can_be(path: Path) -> None:
    """In the package asyncio, that is, and not in its module that defines it."""
    if path.name in _ELSEWHERE or "_demo" in path.parts:
        return
    names = set(_names_of_the_package(path))
    modules = {name for name in names if (Path(ast.__file__).parent / "asyncio" / f"{name}.py").exists()}
    assert names - modules <= {"SelectorEventLoop"}, f"{path} takes {names - modules} from asyncio"
