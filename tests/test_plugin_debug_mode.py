"""In debug mode asyncio notes the stack of every task, future and callback: what is ours on it is paid each time."""

from __future__ import annotations

from pathlib import Path

from plugin.project import run_pytest

STACKS = """
    import asyncio
    import os
    import unittest

    import taskscope

    OURS = os.path.dirname(taskscope.__file__) + os.sep

    def ours_on_stack():
        noted = asyncio.get_running_loop().create_future()._source_traceback
        assert noted
        return [frame.name for frame in noted if frame.filename.startswith(OURS)]

    async def spawn():
        noted = asyncio.create_task(asyncio.sleep(0))._source_traceback
        await asyncio.sleep(0)
        return noted

    async def look(at_most):
        noted = await spawn()
        assert noted[-1].name == "create_task" and noted[-2].name == "spawn", noted
        assert len(ours_on_stack()) <= at_most

    async def test_async():
        asyncio.get_running_loop().set_debug(True)
        await look(1)

    def test_sync():
        asyncio.run(look(2), debug=True)

    def test_own_loop():
        loop = asyncio.new_event_loop()
        loop.set_debug(True)
        try:
            loop.run_until_complete(look_without_scope())
        finally:
            loop.close()

    async def look_without_scope():
        assert ours_on_stack() == []

    class TestCase(unittest.IsolatedAsyncioTestCase):
        async def asyncSetUp(self):
            assert ours_on_stack() == []

        async def test_case(self):
            assert len(ours_on_stack()) <= 1
"""


def test_stacks_that_asyncio_notes_have_few_frames_of_ours(tmp_path: Path) -> None:
    run = run_pytest(
        tmp_path,
        {"test_it.py": STACKS},
        plugins=("pytest_asyncio.plugin",),
        ini="taskscope = true\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n",
    )
    assert set(run.outcomes().values()) == {"passed"}, run.output


LET_GO = """
    import asyncio
    import weakref

    HOOK = "_process_events"

    class Result:
        pass

    async def make():
        await asyncio.sleep(0)
        return Result()

    def is_hooked():
        return HOOK in vars(asyncio.get_running_loop())

    def spawn(number=1, debug=True):
        asyncio.get_running_loop().set_debug(debug)
        return [asyncio.create_task(make()) for _ in range(number)]

    async def is_each_let_go(tasks):
        while tasks:
            result = weakref.ref(await tasks[-1])
            tasks.pop()
            await asyncio.sleep(0)  # asyncio itself holds what it has called last
            if result() is not None:
                return False
        return True

    async def test_few():
        tasks = spawn()
        assert not tasks[0]._callbacks and is_hooked()
        assert await is_each_let_go(tasks)

    async def test_that_the_next_test_has_no_hook():
        await asyncio.sleep(0)
        assert not is_hooked()

    async def test_many():
        tasks = spawn(100)
        assert tasks[0]._callbacks and tasks[-1]._callbacks
        await asyncio.sleep(0)
        assert not is_hooked()
        assert await is_each_let_go(tasks)

    async def test_own_hook():
        loop = asyncio.get_running_loop()
        seen = []
        vars(loop)[HOOK] = lambda events: seen.append(1) or type(loop)._process_events(loop, events)
        try:
            tasks = spawn()
            assert tasks[0]._callbacks
            assert await is_each_let_go(tasks)
        finally:
            del vars(loop)[HOOK]
        assert seen

    async def test_without_debug_mode():
        tasks = spawn(debug=False)
        assert tasks[0]._callbacks and not is_hooked()
        assert await is_each_let_go(tasks)

    async def test_leak():
        asyncio.get_running_loop().set_debug(True)
        asyncio.create_task(asyncio.Event().wait(), name="left")
        assert await is_each_let_go(spawn())
"""


def test_tasks_that_have_ended_are_let_go_without_a_callback_of_ours(tmp_path: Path) -> None:
    run = run_pytest(
        tmp_path,
        {"test_it.py": LET_GO},
        plugins=("pytest_asyncio.plugin",),
        ini="""\
taskscope = true
asyncio_mode = auto
asyncio_default_fixture_loop_scope = session
asyncio_default_test_loop_scope = session
""",
    )
    outcomes = run.outcomes()
    assert [test for test, outcome in outcomes.items() if outcome != "passed"] == ["test_leak"], run.output
    assert "name        left" in run.output
