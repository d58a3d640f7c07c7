"""Whose a thing is, what is not told, and things that do not end as they are asked to."""

from __future__ import annotations

import asyncio
import gc
import json
import pickle
import signal
import sys
import threading
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from conftest import Run
from findings import EVERYTHING, Case, due, ground_of, numbers
from parity import Column
from test_findings import CELLS

import taskscope
from taskscope import Report, TaskLeakError, TaskScope

QUIET: dict[str, Any] = {"on_leak": "ignore", "grace": 0.02}


def kinds(report: Report) -> list[str]:
    return [finding.kind for finding in report.findings]


# ---------------------------------------------------------------------------------------------------------- whose it is


@pytest.mark.parametrize(("case", "column"), CELLS)
def test_scopes_that_run_side_by_side_do_not_see_each_others(case: Case, column: Column) -> None:
    async def main(library: Any) -> None:
        async with ground_of(column) as ground:
            planted, looked = library.event(), library.event()

            async def plants() -> None:
                async with TaskScope("plants", find=EVERYTHING, **QUIET) as scope:
                    await case.plant(ground)
                    planted.set()
                    await looked.wait()
                assert case.kind in kinds(scope.report)

            async def looks() -> None:
                async with TaskScope("looks", find=EVERYTHING, **QUIET) as scope:
                    await planted.wait()
                assert (scope.report.findings, scope.report.leaks) == ((), ())
                looked.set()

            async with library.group() as group:
                spawn = library.spawner(group)
                spawn(plants)
                spawn(looks)

    column.run(main)


@pytest.mark.parametrize(("case", "column"), CELLS)
def test_what_an_inner_scope_does_not_look_for_falls_to_the_outer(case: Case, column: Column) -> None:
    async def main(library: Any) -> None:
        async with ground_of(column) as ground:
            async with TaskScope("outer", find=("tasks", case.word), **QUIET) as outer:
                async with TaskScope("inner", **QUIET):
                    await case.plant(ground)
            assert case.kind in kinds(outer.report) or (case.word == "unretrieved" and not outer.report.findings)

    column.run(main)


@pytest.mark.parametrize(("case", "column"), CELLS)
def test_what_was_there_before_is_not_told(case: Case, column: Column) -> None:
    async def main(library: Any) -> None:
        async with ground_of(column) as ground:
            if case.word == "generators":
                return  # one that was started before, and whose consumer is the body, is tried below
            await case.plant(ground)
            async with TaskScope("later", find=EVERYTHING, **QUIET) as scope:
                await library.settle()
            assert scope.report.findings == ()

    column.run(main)


# ----------------------------------------------------------------------------------------------------- what is not told


def test_a_timer_that_fires_during_the_grace_is_not_told(run: Run) -> None:
    async def main() -> None:
        called: list[str] = []
        async with TaskScope(find=("timers",), grace=5.0) as scope:
            asyncio.get_running_loop().call_later(0.01, called.append, "called")
        assert called == ["called"] and scope.report.ok

    run(main)


def test_a_thread_that_ends_during_the_grace_is_not_told(run: Run) -> None:
    async def main() -> None:
        go = threading.Event()
        asyncio.get_running_loop().call_later(0.01, go.set)
        async with TaskScope(find=("threads", "executor"), grace=5.0) as scope:
            threading.Thread(target=go.wait).start()
            asyncio.get_running_loop().run_in_executor(None, go.wait)
        assert scope.report.ok

    run(main)


def test_timeouts_and_sleeps_of_pending_tasks_are_told_with_the_tasks_alone(run: Run) -> None:
    async def sleeps() -> None:
        async with asyncio.timeout(60):
            await asyncio.wait_for(asyncio.wait([asyncio.create_task(asyncio.sleep(60))], timeout=50), 40)

    async def main() -> None:
        async with TaskScope(find=EVERYTHING, **QUIET) as scope:
            asyncio.create_task(sleeps())
            await asyncio.sleep(0.001)
        assert {leak.coroutine for leak in scope.report.leaks} >= {"sleep", sleeps.__qualname__}
        assert scope.report.findings == ()

    run(main)


def test_a_generator_that_a_task_iterates_is_told_with_the_task_alone(run: Run) -> None:
    async def endless() -> AsyncGenerator[int]:
        while True:
            yield 1

    async def iterates() -> None:
        async for _ in endless():
            await asyncio.Event().wait()

    async def main() -> None:
        async with TaskScope(find=EVERYTHING, **QUIET) as scope:
            asyncio.create_task(iterates())
            await asyncio.sleep(0.001)
        assert len(scope.report.leaks) == 1
        assert scope.report.findings == ()

    run(main)


def test_only_pools_of_threads_that_are_not_shut_down_are_told(run: Run) -> None:
    async def main() -> None:
        async with TaskScope(find=("threads",), **QUIET) as scope:
            with ThreadPoolExecutor(1) as pool:
                await asyncio.get_running_loop().run_in_executor(pool, int)
            await asyncio.to_thread(int)
        assert scope.report.ok
        with ThreadPoolExecutor(1) as outer:
            async with TaskScope(find=("threads",), **QUIET) as scope:
                await asyncio.get_running_loop().run_in_executor(outer, int)  # whose worker is the pool's
        assert scope.report.ok
        async with TaskScope(find=("threads",), **QUIET) as scope:
            pool = ThreadPoolExecutor(1, thread_name_prefix="mine")
            await asyncio.get_running_loop().run_in_executor(pool, int)
        (finding,) = scope.report.findings
        assert finding.what == "thread 'mine_0'"
        assert finding.spawn_site is not None and finding.spawn_site.function.endswith("main")
        pool.shutdown()

    run(main)


def test_threads_that_threads_start_are_told_too(run: Run) -> None:
    async def main() -> None:
        go = threading.Event()

        def starts() -> None:
            threading.Thread(target=go.wait, name="grandchild").start()
            go.wait()

        async with TaskScope(find=("threads",), **QUIET) as scope:
            await asyncio.to_thread(threading.Thread(target=starts, name="child").start)
            while threading.active_count() < 3 or not any(each.name == "grandchild" for each in threading.enumerate()):
                await asyncio.sleep(0)
        go.set()
        assert {finding.what for finding in scope.report.findings} == {"thread 'child'", "thread 'grandchild'"}

    run(main)


# -------------------------------------------------------------------------------------------------------- stubborn ones


def test_a_generator_that_does_not_let_itself_be_closed_is_bounded(run: Run) -> None:
    release = []

    async def stubborn() -> AsyncGenerator[int]:
        try:
            yield 1
        finally:
            while not release:
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    continue

    async def main() -> None:
        generator = stubborn()
        try:
            async with TaskScope(find=("generators",), cancel_timeout=0.05, **QUIET) as scope:
                await anext(generator)
        finally:
            release.append(True)
        (finding,) = scope.report.findings
        assert finding.outcome == "survived"
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
            await asyncio.wait([task])

    run(main)


def test_what_closing_a_generator_raises_is_told(run: Run) -> None:
    async def fails() -> AsyncGenerator[int]:
        try:
            yield 1
        finally:
            raise OSError("no space left")

    async def main() -> None:
        generator = fails()
        async with TaskScope(find=("generators",), **QUIET) as scope:
            await anext(generator)
        (finding,) = scope.report.findings
        assert (finding.outcome, finding.detail) == ("closed", "closing it failed: OSError: no space left")

    run(main)


IGNORES_TERMINATION = (
    "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); sys.stdin.read()"
)


@pytest.mark.parametrize(
    ("program", "outcome", "code"),
    [
        ("print('ready', flush=True); import sys; sys.stdin.read()", "terminated", -signal.SIGTERM),
        (IGNORES_TERMINATION, "killed", -signal.SIGKILL),
    ],
)
def test_processes_are_terminated_where_that_is_asked_for(run: Run, program: str, outcome: str, code: int) -> None:
    async def main() -> None:
        policy = {**QUIET, "cancel_timeout": 0.4}
        async with TaskScope(find=("processes",), end_processes=True, **policy) as scope:
            process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdin=-1, stdout=-1)
            assert process.stdout is not None
            await process.stdout.readline()
        (finding,) = scope.report.findings
        assert finding.outcome == outcome
        assert await process.wait() == code  # which the loop has not been robbed of

    run(main)


# ------------------------------------------------------------------------------------------ what a scope does with them


def test_findings_raise_as_leaks_do_and_are_plain_data(run: Run) -> None:
    async def main() -> None:
        with pytest.raises(TaskLeakError, match="no task outlived scope 'mine', but 1 timer did") as caught:
            async with TaskScope("mine", find=("timers",), grace=0):
                asyncio.get_running_loop().call_later(60, due)
        report = caught.value.report
        assert pickle.loads(pickle.dumps(report)) == report
        (finding,) = json.loads(report.to_json())["findings"]
        assert (finding["kind"], finding["outcome"]) == ("timer", "cancelled")
        assert finding["stack"][0]["function"] == "due"

    run(main)


def test_the_bodys_own_error_gets_the_findings_as_a_note(run: Run) -> None:
    async def main() -> None:
        with pytest.raises(KeyError) as caught:
            async with TaskScope("mine", find=("timers",), grace=0):
                asyncio.get_running_loop().call_later(60, due)
                raise KeyError("mine")
        assert any("due, to be called in" in note for note in caught.value.__notes__)

    run(main)


def test_very_many_things_are_all_ended_and_those_not_described_are_counted(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with TaskScope(find=("timers",), **QUIET) as scope:
            timers = [loop.call_later(60, due) for _ in range(1_500)]
        assert all(timer.cancelled() for timer in timers)
        assert len(scope.report.findings) == 1_000
        assert scope.report.coverage == ("500 more things outlived the scope, too many to describe",)
        assert "Timer: 1,000 x due" in str(scope.report)

    run(main)


def test_a_body_that_is_destroyed_has_its_timers_cancelled(run_asyncio: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def body(timers: list[asyncio.TimerHandle]) -> None:
        async with TaskScope("mine", find=("timers",)):
            timers.append(asyncio.get_running_loop().call_later(60, due))
            await asyncio.Event().wait()

    async def main() -> None:
        timers: list[asyncio.TimerHandle] = []
        coroutine = body(timers)
        coroutine.send(None)
        coroutine.close()
        assert timers[0].cancelled()

    run_asyncio(main)
    assert "1 timer" in caplog.text


def test_a_root_scope_looks_for_them_too() -> None:
    reports: list[Report] = []

    async def main() -> None:
        asyncio.get_running_loop().call_later(60, due)

    taskscope.run(main(), find=("timers",), on_leak=reports.append, grace=0)
    assert kinds(reports[0]) == ["timer"]


def test_an_installation_made_before_the_loop_runs_looks_for_them_too() -> None:
    async def main() -> Report:
        generator = numbers()
        await anext(generator)
        asyncio.get_running_loop().run_in_executor(None, go.wait)
        await installation.aclose()
        go.set()
        assert installation.report is not None
        return installation.report

    go = threading.Event()
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        installation = taskscope.install(loop, root="app", find=EVERYTHING, on_leak="ignore", grace=0.01)
        report = runner.run(main())
        assert sorted(kinds(report)) == ["executor", "generator"]
        assert report.coverage == ("timers and servers of tasks that are in no scope but this one were not looked at",)
        assert "run_in_executor" not in vars(loop)


def test_who_replaces_what_we_have_put_there_keeps_it(run_asyncio: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        start = threading.Thread.start
        seen: list[str] = []

        def somebodys(thread: threading.Thread) -> None:
            seen.append(thread.name)
            ours(thread)

        async with TaskScope(find=EVERYTHING, **QUIET) as scope:
            ours = threading.Thread.start
            monkeypatch.setattr(threading.Thread, "start", somebodys)
            thread = threading.Thread(target=int, name="seen")
            thread.start()
            thread.join()
        assert scope.report.ok
        assert scope.report.coverage == (
            "threads were not all seen: threading.Thread.start was replaced while the scope was open",
        )
        assert threading.Thread.start is somebodys
        thread = threading.Thread(target=int, name="later")
        thread.start()
        thread.join()
        assert seen == ["seen", "later"]
        monkeypatch.setattr(threading.Thread, "start", start)

    run_asyncio(main)


def test_nothing_of_ours_is_left_to_the_collector(run: Run) -> None:
    """Suites that look for garbage in circles are not to find ours."""

    async def main() -> None:
        async with TaskScope(find=EVERYTHING, grace=0) as scope:
            await asyncio.gather(asyncio.sleep(0), asyncio.to_thread(int))
        assert scope.report.ok

    run(main)  # has imported what it takes
    gc.collect()
    flags = gc.get_debug()
    try:
        gc.disable()
        gc.set_debug(gc.DEBUG_SAVEALL)
        run(main)
        gc.collect()
        assert [obj for obj in gc.garbage if type(obj).__module__.startswith("taskscope.")] == []
    finally:
        gc.set_debug(flags)
        gc.garbage.clear()
        gc.enable()


def test_nothing_is_kept_of_what_has_ended(run: Run) -> None:
    class Payload:
        pass

    async def main() -> None:
        async with TaskScope(find=EVERYTHING, **QUIET):
            for _ in range(300):
                thread = threading.Thread(target=int, args=())
                thread.payload = Payload()  # type: ignore[attr-defined]
                thread.start()
                thread.join()
                await asyncio.get_running_loop().run_in_executor(None, id, Payload())
                _ = [number async for number in numbers()]
            del thread
            for _ in range(1_000):  # a worker has not let go of its work yet when that is over
                gc.collect()
                if not (kept := sum(type(obj) is Payload for obj in gc.get_objects())):
                    break
                await asyncio.sleep(0.01)  # in which the worker can run, also on a machine that does a lot besides
            assert not kept

    run(main)


@pytest.mark.parametrize(
    ("find", "error", "message"),
    [
        ("timers", TypeError, "find='timers': must be a sequence of 'tasks', 'timers'"),
        (("timer",), ValueError, "there is no 'timer'"),
        ((1,), TypeError, "1 is int"),
        (None, TypeError, "find=None"),
    ],
)
def test_words_that_are_not_known_are_refused(find: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        TaskScope(find=find)


def test_processes_can_only_be_ended_where_they_are_looked_for() -> None:
    with pytest.raises(ValueError, match='end_processes=True: needs "processes" in find'):
        TaskScope(end_processes=True)
    with pytest.raises(TypeError, match="end_processes=1: must be True or False"):
        TaskScope(find=("processes",), end_processes=1)  # type: ignore[arg-type]
