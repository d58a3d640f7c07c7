"""What the synchronous `setUp` of an asynchronous test case spawns, before anything has been run in its loop."""

from __future__ import annotations

import pytest
from plugin.project import Run, run_pytest

CASES = {
    "test_cases.py": """
        import asyncio
        import unittest

        async def forever():
            await asyncio.get_running_loop().create_future()

        async def end(task):
            task.cancel()
            await asyncio.wait([task])

        def spawn():
            return asyncio.get_event_loop().create_task(forever())

        class Leaks(unittest.IsolatedAsyncioTestCase):
            def setUp(self):
                self.task = spawn()

            async def test_leaks(self): pass

        class FailsAndLeaks(unittest.IsolatedAsyncioTestCase):
            def setUp(self):
                self.task = spawn()
                raise ValueError("of the setUp")

            async def test_fails_and_leaks(self): pass

        class HasAFactory(unittest.IsolatedAsyncioTestCase):
            def setUp(self):
                asyncio.get_event_loop().set_task_factory(self.make)
                self.made = []

            def make(self, loop, coro, **kwargs):
                self.made.append(coro.__name__)
                return asyncio.Task(coro, loop=loop, **kwargs)

            async def asyncSetUp(self):
                self.task = asyncio.create_task(forever())

            async def test_leaks_beside_a_factory(self):
                assert "forever" in self.made

        class Cancels(unittest.IsolatedAsyncioTestCase):
            def setUp(self):
                self.task = spawn()

            def tearDown(self):
                self.task.cancel()

            async def test_cancels(self): pass

        class Ends(unittest.IsolatedAsyncioTestCase):
            def setUp(self):
                self.task = spawn()

            async def asyncTearDown(self):
                await end(self.task)

            async def test_ends(self): pass

        class CleansUp(unittest.IsolatedAsyncioTestCase):
            def setUp(self):
                self.addAsyncCleanup(end, spawn())

            async def test_cleans_up(self): pass

        class Runs(unittest.IsolatedAsyncioTestCase):
            def setUp(self):
                asyncio.get_event_loop().run_until_complete(asyncio.sleep(0))

            async def test_runs(self): pass
    """,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_pytest(tmp_path_factory.mktemp("set_up"), CASES, ini="taskscope = true")


@pytest.mark.parametrize("test", ["leaks", "leaks_beside_a_factory"])
def test_it_is_the_cases(run: Run, test: str) -> None:
    phase = run.phase(f"test_{test}")
    assert phase.outcome == "failed", run.output
    assert "1 task outlived scope" in phase.text and f"::test_{test}" in phase.text


def test_it_says_where_it_was_spawned(run: Run) -> None:
    phase = run.phase("test_leaks")
    assert "in spawn" in phase.text, run.output


def test_a_failure_of_the_set_up_stays_what_it_is(run: Run) -> None:
    phase = run.phase("test_fails_and_leaks")
    assert phase.outcome == "failed"
    assert "of the setUp" in phase.text
    assert "1 task outlived scope" in run.output.partition("test_fails_and_leaks")[2]


@pytest.mark.parametrize("test", ["cancels", "ends", "cleans_up", "runs"])
def test_what_is_ended_is_not_told(run: Run, test: str) -> None:
    assert run.outcomes()[f"test_{test}"] == "passed", run.output
