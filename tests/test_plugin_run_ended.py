"""Bodies that nothing wakes, in tests that end all the same: by what ends the run of the loop, or cancels any task.

Nobody holds them, so they look stuck. That they are not is known by what those do who are alive.
"""

from __future__ import annotations

import sys

import pytest
from plugin.project import Run, run_pytest

WATCH = "taskscope = true\ntaskscope_watch = 0.05"

SUITES = {
    "asyncio": {
        "late.py": """
            import asyncio

            def end_all():
                for task in asyncio.all_tasks():
                    task.cancel()
        """,
        "test_it.py": """
            import asyncio
            import collections.abc
            import gc
            import multiprocessing.pool
            import signal
            import sys
            import threading
            import time
            import weakref

            import pytest

            LATER = 0.4

            async def forever():
                await asyncio.Event().wait()

            async def exit_later():
                await asyncio.sleep(LATER)
                sys.exit(3)

            async def raise_later():
                await asyncio.sleep(LATER)
                raise SystemExit(3)

            def cancel_all():
                for task in asyncio.all_tasks():
                    task.cancel()

            def test_a_task_exits():
                async def main():
                    task = asyncio.create_task(exit_later())
                    await forever()

                with pytest.raises(SystemExit):
                    asyncio.run(main())

            def test_a_task_raises_system_exit():
                async def main():
                    task = asyncio.create_task(raise_later())
                    await forever()

                with pytest.raises(SystemExit):
                    asyncio.run(main())

            def test_a_callback_exits():
                async def main():
                    asyncio.get_running_loop().call_later(LATER, sys.exit, 3)
                    await forever()

                with pytest.raises(SystemExit):
                    asyncio.run(main())

            def test_the_loop_is_stopped():
                async def main():
                    loop = asyncio.get_running_loop()
                    loop.call_later(LATER, loop.stop)
                    await forever()

                with pytest.raises(RuntimeError, match="stopped"):
                    asyncio.run(main())

            def test_a_thread_stops_the_loop():
                async def main():
                    loop = asyncio.get_running_loop()
                    threading.Timer(LATER, lambda: loop.call_soon_threadsafe(loop.stop)).start()
                    await forever()

                with pytest.raises(RuntimeError, match="stopped"):
                    asyncio.run(main())

            def test_a_callback_stops_the_loop_that_runs():
                async def main():
                    asyncio.get_running_loop().call_later(LATER, lambda: asyncio.get_event_loop().stop())
                    await forever()

                with pytest.raises(RuntimeError, match="stopped"):
                    asyncio.run(main())

            def test_an_alarm_raises():
                def handle(*args):
                    raise ZeroDivisionError

                async def main():
                    signal.setitimer(signal.ITIMER_REAL, LATER)
                    await forever()

                old = signal.signal(signal.SIGALRM, handle)
                try:
                    with pytest.raises(ZeroDivisionError):
                        asyncio.run(main())
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
                    signal.signal(signal.SIGALRM, old)

            def cancelled(main):
                with pytest.raises(asyncio.CancelledError):
                    asyncio.run(main())

            def test_it_imports_what_is_not_there_yet():
                async def cancel_later():
                    await asyncio.sleep(LATER)
                    from late import end_all

                    end_all()

                async def main():
                    assert "late" not in sys.modules
                    task = asyncio.create_task(cancel_later())
                    await forever()

                cancelled(main)

            def test_it_imports_what_is_there():
                import late

                async def cancel_later():
                    await asyncio.sleep(LATER)
                    from late import end_all

                    end_all()

                async def main():
                    task = asyncio.create_task(cancel_later())
                    await forever()

                cancelled(main)

            @pytest.mark.parametrize("reference", [weakref.ref, weakref.WeakMethod])
            def test_it_knows_weakly_whom_it_calls(reference):
                class Receiver:
                    def receive(self):
                        cancel_all()

                receiver = Receiver()
                receivers = [reference(receiver.receive if reference is weakref.WeakMethod else cancel_all)]

                async def send_later():
                    await asyncio.sleep(LATER)
                    for receive in receivers:
                        receive()()

                async def main():
                    task = asyncio.create_task(send_later())
                    await forever()

                cancelled(main)

            def test_it_finds_the_event_by_the_collector():
                class Mine(asyncio.Event):
                    pass

                def wake():
                    for found in gc.get_objects():
                        if type(found) is Mine:
                            found.set()

                async def main():
                    asyncio.get_running_loop().call_later(LATER, wake)
                    await Mine().wait()

                asyncio.run(main())

            @pytest.mark.skipif(sys.version_info < (3, 13), reason="frames do not show what they hold")
            def test_a_job_of_an_executor_has_a_callback():
                async def main():
                    job = asyncio.get_running_loop().run_in_executor(None, time.sleep, LATER)
                    job.add_done_callback(lambda _: cancel_all())
                    del job
                    await forever()

                cancelled(main)

            @pytest.mark.skipif(sys.version_info < (3, 13), reason="frames do not show what they hold")
            def test_a_job_of_a_pool_has_a_callback():
                async def main():
                    loop = asyncio.get_running_loop()
                    with multiprocessing.pool.ThreadPool(1) as pool:
                        pool.apply_async(time.sleep, (LATER,), callback=lambda _: loop.call_soon_threadsafe(cancel_all))
                        await forever()

                cancelled(main)

            class Request(collections.abc.Coroutine):
                def __init__(self, coro):
                    self._coro = coro

                def send(self, value):
                    return self._coro.send(value)

                def throw(self, *args):
                    return self._coro.throw(*args)

                def close(self):
                    return self._coro.close()

                def __await__(self):
                    return self._coro.__await__()

            def test_a_runner_runs_an_object():
                async def main():
                    return await asyncio.sleep(0, "result")

                with asyncio.Runner() as runner:
                    assert runner.run(Request(main())) == "result"
        """,
    },
    "trio": {
        "test_it.py": """
            import signal
            import threading

            import pytest
            import trio

            LATER = 0.4

            def test_a_thread_sends_ctrl_c():
                async def main():
                    threading.Timer(LATER, signal.raise_signal, (signal.SIGINT,)).start()
                    await trio.Event().wait()

                with pytest.raises(KeyboardInterrupt):
                    trio.run(main)

            def test_a_system_task_comes_to_the_nursery_by_the_root():
                async def cancel_later():
                    await trio.sleep(LATER)
                    for nursery in trio.lowlevel.current_root_task().child_nurseries:
                        for task in nursery.child_tasks:
                            for inner in task.child_nurseries:
                                inner.cancel_scope.cancel()

                async def main():
                    trio.lowlevel.spawn_system_task(cancel_later)
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(trio.sleep_forever)
                        await trio.Event().wait()

                trio.run(main)
        """,
    },
}

TESTS = [
    (suite, line.split("def ", 1)[1].split("(")[0])
    for suite, files in SUITES.items()
    for line in files["test_it.py"].splitlines()
    if line.strip().startswith("def test_")
]


@pytest.fixture(scope="module", params=SUITES)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    suite: str = request.param
    return run_pytest(tmp_path_factory.mktemp(f"ended-{suite}"), SUITES[suite], ini=WATCH)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_all_end_as_they_do_without_us(run: Run) -> None:
    assert set(run.outcomes().values()) <= {"passed", "skipped"}, run.output


def test_all_of_them_ran(run: Run) -> None:
    ran = {test.partition("[")[0] for test in run.outcomes()}
    assert ran in [{name for suite, name in TESTS if suite == which} for which in SUITES]
