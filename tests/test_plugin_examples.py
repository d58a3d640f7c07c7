"""The pytest plugin and Hypothesis: each example has a scope of its own, and the one that leaks is shown."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
from plugin.project import Run, run_pytest
from plugin.strict import HELPERS, INI

HYPOTHESIS = {
    "test_it.py": HELPERS
    + """
import anyio
from hypothesis import example, given, settings, strategies as st

numbers = given(number=st.integers(0, 9))
few = settings(max_examples=4)

@pytest.fixture
def anyio_backend():
    return "asyncio"

@pytest.mark.asyncio
@numbers
async def test_asyncio(number):
    if number > 7:
        spawn()

@pytest.mark.anyio
@numbers
async def test_anyio(number):
    if number > 7:
        spawn()

@numbers
def test_sync(number):
    async def main():
        if number > 7:
            spawn()
    asyncio.run(main())

@pytest.mark.asyncio
@numbers
async def test_hang(number):
    if number > 7:
        await asyncio.Event().wait()

@pytest.mark.asyncio
@numbers
async def test_fails(number):
    assert number <= 7

@pytest.mark.asyncio
@few
@numbers
@example(number=8)
async def test_fails_and_leaks(number):
    spawn()
    assert number <= 7

@pytest.mark.asyncio
@numbers
async def test_clean(number):
    task = spawn()
    task.cancel()
    await asyncio.wait([task])

TASKS = []

@pytest.mark.asyncio
@few
@numbers
@pytest.mark.taskscope_leaks("sleeper")
async def test_each_example_has_a_scope(number):
    assert all(task.done() for task in TASKS)
    TASKS.append(spawn(sleeper))

@pytest.mark.asyncio
@pytest.mark.taskscope(on_leak="warn", grace=0.25)
@few
@numbers
async def test_warn(number):
    spawn(sleeper)
    if number % 2:
        spawn(sleeper)

@pytest.mark.asyncio
@pytest.mark.taskscope(on_leak="summary", grace=0.25)
@few
@numbers
async def test_report_only(number):
    spawn(sleeper)

@pytest.mark.taskscope(on_leak="summary", grace=0.25)
@few
@numbers
def test_report_only_sync(number):
    async def main():
        spawn(sleeper)
    asyncio.run(main())

class TestCase(unittest.TestCase):
    @numbers
    def test_of_case(self, number):
        async def main():
            if number > 7:
                spawn()
        asyncio.run(main())

class TestClass:
    @pytest.mark.asyncio
    @numbers
    async def test_method(self, number):
        if number > 7:
            spawn()
""",
    "test_trio.py": """
import contextvars
import pytest
import trio
from hypothesis import given, strategies as st

async def forever():
    await trio.Event().wait()

@pytest.mark.trio
@given(number=st.integers(0, 9))
async def test_trio(number):
    if number > 7:
        trio.lowlevel.spawn_system_task(forever, context=contextvars.copy_context())

@pytest.mark.trio
@given(number=st.integers(0, 9))
async def test_trio_clean(number):
    await trio.lowlevel.checkpoint()
""",
}


@functools.cache
def _hypothesis(folder: Path) -> Run:
    folder.mkdir()
    plugins = ("pytest_asyncio.plugin", "anyio.pytest_plugin", "pytest_trio.plugin", "_hypothesis_pytestplugin")
    return run_pytest(folder, HYPOTHESIS, plugins=plugins, ini=INI)


@pytest.fixture
def examples(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return _hypothesis(tmp_path_factory.getbasetemp() / "hypothesis")


@pytest.mark.parametrize(
    "test", ["test_asyncio", "test_anyio", "test_sync", "test_hang", "test_of_case", "test_method", "test_trio"]
)
def test_failing_example_is_shown(test: str, examples: Run) -> None:
    phase = examples.phase(test)
    assert phase.outcome == "failed"
    assert ("could never have gone on" if test == "test_hang" else "1 task outlived scope") in phase.text
    assert "number=8" in phase.text, "it is the smallest"
    assert phase.text.lstrip().startswith("taskscope: "), "no traceback of ours"
    assert phase.text.count("taskscope: ") == 1, "of one example, and told once"
    assert [finding["outcome"] for finding in examples.findings_of(test)] == ["failed"]


def test_examples_that_fail_and_leak(examples: Run) -> None:
    text = examples.phase("test_fails").text
    assert "assert 8 <= 7" in text
    assert not examples.findings_of("test_fails")
    phase = examples.phase("test_fails_and_leaks")
    assert "assert 8 <= 7" in phase.text
    assert "1 task outlived scope" in phase.sections["Captured taskscope call"]


@pytest.mark.parametrize("test", ["test_clean", "test_trio_clean"])
def test_clean_examples(test: str, examples: Run) -> None:
    assert examples.phase(test).outcome == "passed"
    assert not examples.findings_of(test)


def test_each_example_has_a_scope_of_its_own(examples: Run) -> None:
    assert examples.phase("test_each_example_has_a_scope").outcome == "passed"


@pytest.mark.parametrize("test", ["test_report_only", "test_report_only_sync", "test_warn"])
def test_the_wait_for_tasks_breaks_no_deadline(test: str, examples: Run) -> None:
    assert examples.phase(test).outcome == "passed"
    outcomes = {finding["outcome"] for finding in examples.findings_of(test)}
    assert outcomes == {"warned" if test == "test_warn" else "told"}
    assert len(examples.findings_of(test)) <= 2, "one of each sort, not one of each example"
