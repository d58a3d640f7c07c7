"""Loops that tests, test cases and fixtures make for themselves, with no Runner."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from plugin.project import Run, run_pytest

from taskscope.pytest_plugin._loops import Loops

FILES = {
    "test_loops.py": """
        import asyncio
        import unittest
        import pytest

        async def forever():
            await asyncio.Event().wait()

        async def spawn():
            return asyncio.create_task(forever())  # spawned here

        async def end(task):
            task.cancel()
            await asyncio.wait([task])

        def test_leak():
            loop = asyncio.new_event_loop()
            loop.run_until_complete(spawn())
            loop.close()

        def test_leak_on_a_loop_whose_close_was_taken_before():
            loop = asyncio.new_event_loop()
            close = loop.close
            loop.run_until_complete(spawn())
            close()

        def test_clean_on_a_loop_whose_close_was_taken_before():
            loop = asyncio.new_event_loop()
            close = loop.close
            task = loop.run_until_complete(spawn())
            loop.run_until_complete(end(task))
            close()

        class OwnLoop(asyncio.SelectorEventLoop):
            def close(self):
                super().close()

        def test_leak_on_an_own_kind_of_loop():
            loop = OwnLoop()
            close = loop.close
            loop.run_until_complete(spawn())
            close()

        def test_leak_on_a_loop_that_runs_for_ever():
            loop = asyncio.new_event_loop()
            loop.call_soon(lambda: loop.create_task(spawn()))
            loop.call_soon(loop.call_soon, loop.call_soon, loop.stop)
            loop.run_forever()
            loop.close()

        def test_clean():
            loop = asyncio.new_event_loop()
            task = loop.run_until_complete(spawn())
            loop.run_until_complete(end(task))
            loop.close()

        def test_loop_that_is_left_open():
            global left_open
            left_open = asyncio.new_event_loop()
            left_open.run_until_complete(spawn())

        def test_what_is_left_open_can_be_closed():
            left_open.close()
            assert "close" not in vars(left_open)

        class ClosesInCleanup(unittest.TestCase):
            def setUp(self):
                self.loop = asyncio.new_event_loop()
                self.addCleanup(self.loop.close)

            def test_leak_of_a_loop_that_a_cleanup_closes(self):
                self.loop.run_until_complete(spawn())

            def test_clean_on_a_loop_that_a_cleanup_closes(self):
                task = self.loop.run_until_complete(spawn())
                self.loop.run_until_complete(end(task))

        class Case(unittest.TestCase):
            def setUp(self):
                self.loop = asyncio.new_event_loop()
                self.ended = []

            def tearDown(self):
                for task in self.ended:
                    self.loop.run_until_complete(end(task))
                self.loop.close()

            def test_case_leak(self):
                self.loop.run_until_complete(spawn())

            def test_case_clean(self):
                self.ended.append(self.loop.run_until_complete(spawn()))

        @pytest.fixture(scope="module")
        def loop():
            loop = asyncio.new_event_loop()
            yield loop
            loop.close()

        @pytest.fixture(scope="module")
        def server(loop):
            task = loop.run_until_complete(spawn())
            yield task
            loop.run_until_complete(end(task))

        def test_with_loop_of_fixture_clean(loop, server):
            loop.run_until_complete(asyncio.sleep(0))

        def test_with_loop_of_fixture_leak(loop, server):
            loop.run_until_complete(spawn())

        def test_next(loop, server):
            loop.run_until_complete(asyncio.sleep(0))

        class Client:
            def start(self):
                self.task = asyncio.create_task(forever())

            def stop(self):
                self.task.cancel()

        @pytest.fixture
        def client():
            client = Client()
            yield client
            client.stop()

        @pytest.fixture
        def own_loop():
            loop = asyncio.new_event_loop()
            yield loop
            loop.close()

        async def start(client):
            client.start()

        def test_loop_goes_before_its_fixture(client, own_loop):
            own_loop.run_until_complete(start(client))

        def test_loop_goes_after_its_fixture(own_loop, client):
            own_loop.run_until_complete(start(client))
        """,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_pytest(tmp_path_factory.mktemp("loops"), FILES, ini="taskscope = true")


@pytest.mark.parametrize(
    "test",
    [
        "test_leak",
        "test_leak_on_a_loop_whose_close_was_taken_before",
        "test_leak_on_an_own_kind_of_loop",
        "test_leak_on_a_loop_that_runs_for_ever",
        "test_leak_of_a_loop_that_a_cleanup_closes",
        "test_loop_that_is_left_open",
        "test_case_leak",
        "test_with_loop_of_fixture_leak",
    ],
)
def test_what_is_left_on_a_loop_of_its_own_is_told(run: Run, test: str) -> None:
    phase = run.phase(test)
    assert phase.outcome == "failed"
    assert "1 task outlived scope" in phase.text
    assert "# spawned here" in phase.text
    assert [finding["outcome"] for finding in run.findings_of(test)] == ["failed"]


@pytest.mark.parametrize(
    "test",
    [
        "test_clean",
        "test_clean_on_a_loop_whose_close_was_taken_before",
        "test_clean_on_a_loop_that_a_cleanup_closes",
        "test_what_is_left_open_can_be_closed",
        "test_case_clean",
        "test_with_loop_of_fixture_clean",
        "test_next",
    ],
)
def test_what_is_ended_in_time_is_not(run: Run, test: str) -> None:
    assert run.outcomes()[test] == "passed", run.output
    assert run.findings_of(test) == []


def test_why_a_fixture_cannot_end_what_it_has_is_told(run: Run) -> None:
    test = "test_loop_goes_before_its_fixture"
    (finding,) = run.findings_of(test)
    assert finding["owner"] == "fixture client"
    (leak,) = finding["report"]["leaks"]
    why = "its event loop is closed before fixture client is torn down, which is too late to end it"
    assert leak["outcome_detail"] == why
    assert f"cancelled: {why}" in " ".join(run.phase(test, "teardown").text.split())
    assert run.findings_of("test_loop_goes_after_its_fixture") == []


@pytest.mark.parametrize(("ini", "outcome"), [("", "passed"), ("taskscope_ignore_builtin = false", "failed")])
def test_the_task_that_runs_tests_for_an_anyio_inside_of_a_test_is_no_leak(
    tmp_path: Path, ini: str, outcome: str
) -> None:
    inner = """
        import pytest

        @pytest.fixture(params=["asyncio"])
        def anyio_backend(request):
            return request.param

        @pytest.fixture
        async def value(anyio_backend):
            yield 1

        @pytest.mark.anyio
        async def test(value):
            assert value == 1
    """
    files = {
        "conftest.py": "pytest_plugins = 'pytester'",
        "test_pytest.py": f"""
            def test_of_a_plugin(pytester):
                pytester.makepyfile({inner!r})
                pytester.runpytest_inprocess("-p", "anyio").assert_outcomes(passed=1)
        """,
    }
    run = run_pytest(tmp_path, files, ini=f"taskscope = true\n{ini}")
    assert run.outcomes() == {"test_of_a_plugin": outcome}, run.output


def test_a_loop_gets_back_what_it_had_as_its_own_close() -> None:
    loop = asyncio.new_event_loop()
    original = loop.close

    def close() -> None:
        original()

    loop.close = close  # type: ignore[method-assign]
    settings: Any = None
    loops = Loops(settings, lambda loop, owner: None)
    loops.hold(loop)
    assert loop.close is not close
    loops.let_go_of_all()
    assert loop.close is close
    loop.close()
    assert loop.is_closed()
