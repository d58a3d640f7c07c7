"""What a test sees the garbage collector find, it finds with the plugin as well."""

from __future__ import annotations

from pathlib import Path

import pytest
from plugin.project import Run, run_pytest

INI = """
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
filterwarnings =
    error::pytest.PytestUnraisableExceptionWarning
markers =
    taskscope
"""

FILES = {
    "conftest.py": """
        import gc

        BEFORE = list(gc.callbacks)

        def pytest_unconfigure():
            print("callbacks left:", [callback for callback in gc.callbacks if callback not in BEFORE])
            print("functions:", gc.get_objects, gc.get_referrers)
    """,
    "test_collected.py": """
        import asyncio
        import gc
        import logging
        import sys
        import warnings
        import weakref
        import pytest

        async def fail():
            await asyncio.sleep(0)
            raise ValueError("nobody asks")

        async def spawn():
            asyncio.create_task(fail())
            for _ in range(5):
                await asyncio.sleep(0)

        async def test_unretrieved_in_an_async_test(caplog):
            await spawn()
            gc.collect()
            assert "never retrieved" in caplog.text

        async def test_unretrieved_in_a_task_of_an_async_test(caplog):
            async def child():
                await spawn()
                gc.collect()
            await asyncio.create_task(child())
            assert "never retrieved" in caplog.text

        def test_unretrieved_in_a_sync_test(caplog):
            async def main():
                await spawn()
                gc.collect()
                assert "never retrieved" in caplog.text
            asyncio.run(main())

        def test_on_another_thread_of_trios():
            import trio

            async def main():
                async with trio.open_nursery() as nursery:
                    for _ in range(100):
                        nursery.start_soon(trio.sleep, 0.05)
                    await trio.sleep(0.01)
                    await trio.to_thread.run_sync(gc.collect)
            trio.run(main)

        @pytest.mark.taskscope(find=["unretrieved"], on_leak="summary")
        def test_unretrieved_beside_another_loop():
            async def fail_later():
                await asyncio.sleep(0.02)
                raise ValueError("nobody asks")

            async def begin():
                asyncio.create_task(fail_later())

            with asyncio.Runner() as runner:
                runner.run(begin())
                with asyncio.Runner() as beside:
                    beside.run(asyncio.sleep(0))
                runner.run(asyncio.sleep(0.05))
                gc.collect()

        @pytest.fixture
        async def value():
            await spawn()
            yield 1

        async def test_unretrieved_of_a_fixture(value, caplog):
            gc.collect()
            assert any("never retrieved" in record.getMessage() for record in caplog.get_records("setup")) or (
                "never retrieved" in caplog.text
            )

        def test_loop_that_nobody_closed():
            async def main():
                await asyncio.create_task(asyncio.sleep(0))

            loop = asyncio.new_event_loop()
            loop.run_until_complete(main())
            seen = weakref.ref(loop)
            del loop
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                gc.collect()
            assert seen() is None

        class Raised(Exception):
            pass

        async def test_what_a_task_raised_is_held_by_nobody():
            async def child():
                raise Raised

            task = asyncio.create_task(child())
            await asyncio.wait([task])
            error = task.exception()
            del task
            assert not any(isinstance(holder, asyncio.Task) for holder in gc.get_referrers(error))

        def test_referrers_are_those_that_python_tells():
            first, second = Raised(), Raised()
            holders = [[first], {"second": second}]
            assert gc.get_referrers(first) == holders[:1]
            assert sorted(map(id, gc.get_referrers(first, second))) == sorted(map(id, holders))
            assert gc.get_referrers() == []

        async def test_a_coroutine_shows_what_it_shows_without_us():
            error = Raised()
            expected = [sys._getframe().f_generator] if sys.version_info >= (3, 14) else []
            assert gc.get_referrers(error) == expected

        async def test_what_has_ended_is_among_no_objects():
            class Made:
                pass

            async def child():
                return Made()

            async def main():
                await asyncio.create_task(child())

            await main()
            await asyncio.sleep(0)
            assert not any(isinstance(thing, Made) for thing in gc.get_objects())
            assert len(gc.get_objects(generation=0)) < len(gc.get_objects())
            with pytest.raises(ValueError):
                gc.get_objects(generation=7)

        async def test_what_is_pending_is_kept():
            task = asyncio.create_task(asyncio.sleep(3600))
            await asyncio.sleep(0)
            gc.collect()
            assert not task.done()
            task.cancel()

    """,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_pytest(
        tmp_path_factory.mktemp("collector"),
        FILES,
        "-s",
        plugins=("asyncio",),
        ini=f"taskscope = true\n{INI}",
    )


@pytest.mark.parametrize(
    "test",
    [
        "test_unretrieved_in_an_async_test",
        "test_unretrieved_in_a_task_of_an_async_test",
        "test_unretrieved_in_a_sync_test",
        "test_unretrieved_of_a_fixture",
        "test_loop_that_nobody_closed",
        "test_on_another_thread_of_trios",
        "test_what_a_task_raised_is_held_by_nobody",
        "test_referrers_are_those_that_python_tells",
        "test_a_coroutine_shows_what_it_shows_without_us",
        "test_what_has_ended_is_among_no_objects",
        "test_what_is_pending_is_kept",
    ],
)
def test_what_has_ended_is_collected_when_a_test_collects(run: Run, test: str) -> None:
    assert run.outcomes()[test] == "passed", run.output


def test_what_is_looked_for_is_found_all_the_same(run: Run) -> None:
    (finding,) = run.findings_of("test_unretrieved_beside_another_loop")
    assert [found["kind"] for found in finding["report"]["findings"]] == ["unretrieved"]


def test_the_collector_is_left_as_it_was(run: Run) -> None:
    assert "callbacks left: []" in run.output
    assert "functions: <built-in function get_objects> <built-in function get_referrers>" in run.output


def test_without_the_plugin_these_tests_pass_too(tmp_path: Path) -> None:
    run = run_pytest(tmp_path, FILES, plugins=("asyncio",), ini=INI, report=False)
    assert set(run.outcomes().values()) == {"passed"}, run.output


GARBAGE = """
import asyncio
import gc
import pytest

async def main():
    await asyncio.create_task(asyncio.sleep(0))

def setup_module():
    gc.collect()
    gc.disable()

@pytest.mark.parametrize("number", range(5))
async def test_async(number):
    await main()

@pytest.mark.parametrize("number", range(5))
def test_sync(number):
    asyncio.run(main())

def test_none_is_left():
    left = [type(thing).__name__ for thing in gc.get_objects() if type(thing).__module__.startswith("taskscope.")]
    gc.enable()
    assert left.count("TestRun") == 1  # this one's
    assert left.count("TaskScope") < 10
"""


def test_nothing_of_ours_is_left_to_the_collector(tmp_path: Path) -> None:
    run = run_pytest(tmp_path, {"test_garbage.py": GARBAGE}, plugins=("asyncio",), ini=f"taskscope = true\n{INI}")
    assert set(run.outcomes().values()) == {"passed"}, run.output
