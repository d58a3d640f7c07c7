"""What the pytest plugin calls who has left a task, and where that was spawned."""

from __future__ import annotations

import pytest
from plugin.project import Run, run_pytest

XUNIT = """
    import asyncio
    import unittest

    def leak():
        loop = asyncio.new_event_loop()
        async def main():
            loop.task = asyncio.create_task(asyncio.sleep(3_600))
        loop.run_until_complete(main())
        return loop

    def setup_module(module):
        module.loop = leak()

    def teardown_module(module):
        module.loop.close()

    class TestIt:
        @classmethod
        def setup_class(cls):
            cls.loop = leak()

        @classmethod
        def teardown_class(cls):
            cls.loop.close()

        def setup_method(self):
            self.loop = leak()

        def teardown_method(self):
            self.loop.close()

        def test_it(self):
            pass

    class Case(unittest.TestCase):
        @classmethod
        def setUpClass(cls):
            cls.loop = leak()

        @classmethod
        def tearDownClass(cls):
            cls.loop.close()

        def test_it(self):
            pass
    """
OF_LIBRARY = """
    import asyncio

    async def test_from_thread():
        await asyncio.to_thread(
            asyncio.run_coroutine_threadsafe, asyncio.sleep(3_600), asyncio.get_running_loop()
        )
        await asyncio.sleep(0)
    """


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    files = {"test_xunit.py": XUNIT, "test_library.py": OF_LIBRARY}
    return run_pytest(
        tmp_path_factory.mktemp("names"),
        files,
        plugins=("pytest_asyncio.plugin",),
        ini="taskscope = true\nasyncio_mode = auto",
    )


@pytest.mark.parametrize(
    "name", ["setup_module of test_xunit", "setup_class of TestIt", "setup_method of TestIt", "setUpClass of Case"]
)
def test_a_fixture_that_pytest_makes_of_a_function_has_that_ones_name(name: str, run: Run) -> None:
    assert f"scope '{name}'" in run.output
    assert "_xunit_" not in run.output and "_unittest_" not in run.output


def test_files_of_python_are_told_by_their_way_in_it(run: Run) -> None:
    assert "spawned at asyncio/tasks.py:" in run.output
