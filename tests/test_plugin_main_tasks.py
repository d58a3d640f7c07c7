"""Main tasks, which a Runner makes and waits for: whose is what they spawn, and what is on the stack then."""

from __future__ import annotations

from pathlib import Path

import pytest
from plugin.project import Run, run_pytest

RUNNERS = {
    "test_runners.py": """
        import asyncio
        import contextvars
        import pytest

        async def forever():
            await asyncio.Event().wait()

        async def spawn():
            return asyncio.create_task(forever())

        async def end(task):
            task.cancel()
            await asyncio.wait([task])

        @pytest.fixture(scope="session")
        def runner():
            with asyncio.Runner() as runner:
                runner.run(asyncio.sleep(0))
                yield runner

        @pytest.fixture
        def leaking(runner):
            runner.run(spawn())

        @pytest.fixture
        def leaking_elsewhere(runner):
            runner.run(spawn(), context=contextvars.Context())

        @pytest.fixture
        def clean(runner):
            task = runner.run(spawn())
            yield
            runner.run(end(task))

        @pytest.fixture
        def clean_elsewhere(runner):
            context = contextvars.Context()
            task = runner.run(spawn(), context=context)
            yield
            runner.run(end(task), context=context)

        def test_leaking(leaking): pass

        def test_leaking_elsewhere(leaking_elsewhere): pass

        def test_clean(clean): pass

        def test_clean_elsewhere(clean_elsewhere): pass
    """,
    "test_at_the_end.py": """
        import asyncio

        async def forever():
            await asyncio.Event().wait()

        async def generate():
            try:
                yield
            finally:
                asyncio.create_task(forever())

        async def main():
            global generator
            generator = generate()
            await anext(generator)

        def test_spawned_while_its_loop_is_closed():
            asyncio.run(main())
    """,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_pytest(tmp_path_factory.mktemp("main"), RUNNERS, ini="taskscope = true")


@pytest.mark.parametrize("name", ["leaking", "leaking_elsewhere"])
def test_what_a_main_task_spawns_is_whose_has_it_run(run: Run, name: str) -> None:
    phase = run.phase(f"test_{name}", "teardown")
    assert phase.outcome == "failed", run.output
    assert f"fixture {name}" in phase.text


def test_what_is_spawned_while_a_loop_is_closed_is_found(run: Run) -> None:
    phase = run.phase("test_spawned_while_its_loop_is_closed")
    assert phase.outcome == "failed", run.output
    assert "forever" in phase.text


@pytest.mark.parametrize("test", ["test_clean", "test_clean_elsewhere"])
def test_what_is_ended_is_not(run: Run, test: str) -> None:
    assert run.outcomes()[test] == "passed", run.output


STACKS = """
    import asyncio
    import os
    import unittest

    import taskscope

    OURS = os.path.dirname(taskscope.__file__) + os.sep

    def look():
        noted = asyncio.current_task()._source_traceback
        assert noted[-1].name == "run" and not [frame.name for frame in noted if frame.filename.startswith(OURS)]
        assert asyncio.get_running_loop().get_task_factory().__module__.startswith("taskscope.")

    class Case(unittest.IsolatedAsyncioTestCase):
        async def asyncSetUp(self):
            look()

        async def test_case(self):
            look()

        async def asyncTearDown(self):
            look()
"""


def test_main_tasks_are_made_without_us(tmp_path: Path) -> None:
    run = run_pytest(tmp_path, {"test_it.py": STACKS}, ini="taskscope = true")
    assert run.outcomes() == {"test_case": "passed"}, run.output
