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
