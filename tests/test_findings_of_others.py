"""What is somebody else's is never told, and never ended; and looks that fail, or come in the way of a program."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import Any
from unittest import mock

import anyio.to_process
import pytest
from conftest import Run
from findings import EVERYTHING, due, numbers
from test_findings_hostile import QUIET, kinds

import taskscope
from taskscope import TaskScope

# ----------------------------------------------------------------------------------------- what was opened by others


@asynccontextmanager
async def pair() -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter, asyncio.StreamWriter]]:
    """A connection to a server: its reader and writer, and the writer at the other end."""
    accepted: asyncio.Future[asyncio.StreamWriter] = asyncio.get_running_loop().create_future()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set_result(writer)

    async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1], limit=1_000)
        other = await accepted
        try:
            yield reader, writer, other
        finally:
            for each in (writer, other):
                each.transport.abort()
                with suppress(OSError):
                    await each.wait_closed()


def test_a_connection_is_of_who_has_opened_it_and_not_of_who_reads_from_it(run: Run) -> None:
    async def main() -> None:
        async with pair() as (reader, writer, other):
            other.write(b"x" * 100_000)  # more than a reader takes in advance: it has paused the transport
            await asyncio.sleep(0.01)
            async with TaskScope(find=EVERYTHING, **QUIET) as scope:
                await reader.readexactly(100_000)
            assert scope.report.ok
            assert not writer.is_closing()

    run(main)


def test_a_connection_is_of_who_has_opened_it_and_not_of_who_writes_to_it(run: Run) -> None:
    async def main() -> None:
        async with pair() as (_, writer, other):
            other.transport.pause_reading()
            async with TaskScope(find=EVERYTHING, **QUIET) as scope:
                writer.write(b"x" * 8_000_000)
            assert scope.report.ok
            assert not writer.is_closing()

    run(main)


def test_a_pipe_is_of_who_has_connected_it(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        inner, outer = os.pipe(), os.pipe()
        before, _ = await loop.connect_read_pipe(asyncio.Protocol, os.fdopen(outer[0], "rb"))
        async with TaskScope(find=EVERYTHING, **QUIET) as scope:
            before.pause_reading()
            before.resume_reading()
            await loop.connect_read_pipe(asyncio.Protocol, os.fdopen(inner[0], "rb"))
        assert kinds(scope.report) == ["transport"]
        assert not before.is_closing()
        before.close()
        os.close(inner[1])
        os.close(outer[1])
        await asyncio.sleep(0)

    run(main)


def test_two_readers_of_one_function_are_two(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        pipes = os.pipe(), os.pipe()
        for _ in range(2):  # and again in the next scope
            async with TaskScope(find=EVERYTHING, **QUIET) as scope:
                for pipe in pipes:
                    loop.add_reader(pipe[0], due)
            assert [finding.outcome for finding in scope.report.findings] == ["closed", "closed"]
            assert not any(loop.remove_reader(pipe[0]) for pipe in pipes)
        for end in (*pipes[0], *pipes[1]):
            os.close(end)

    run(main)


# ---------------------------------------------------------------------------------- what a task uses that is left alone


@asynccontextmanager
async def block() -> AsyncIterator[None]:
    yield


async def uses_it_all(go: asyncio.Event, begun: asyncio.Event, ended: list[str]) -> None:
    loop = asyncio.get_running_loop()
    loop.call_later(0.05, ended.append, "called")
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    process = await asyncio.create_subprocess_exec("cat", stdin=asyncio.subprocess.PIPE)
    async with block():
        begun.set()
        await go.wait()
    assert server.is_serving()
    stop.set()
    thread.join()
    server.close()
    assert process.stdin is not None
    process.stdin.close()
    ended.append(f"process {await process.wait()}")


@pytest.mark.parametrize("how", ["handed off", "ignored", "adopted"])
def test_what_a_task_uses_that_is_left_to_others_is_left_alone(run: Run, how: str) -> None:
    async def main() -> None:
        go, begun = asyncio.Event(), asyncio.Event()
        ended: list[str] = []
        rules = [taskscope.Ignore("uses_it_all", reason="it ends soon")] if how == "ignored" else []
        async with TaskScope("outer", grace=5) as outer:
            async with TaskScope(find=EVERYTHING, end_processes=True, ignore=rules, **QUIET) as scope:
                task = asyncio.create_task(uses_it_all(go, begun, ended))
                await begun.wait()
                if how == "handed off":
                    taskscope.hand_off(task, reason="the outer one waits for it")
                if how == "adopted":
                    outer.adopt(task)
            assert scope.report.findings == ()
            assert "they may be those of tasks left to others" in " ".join(scope.report.coverage)
            while "called" not in ended:
                await asyncio.sleep(0.001)
            go.set()
            await task
        assert ended == ["called", "process 0"]

    run(main)


def test_the_scopes_own_things_are_told_beside_those(run: Run) -> None:
    async def main() -> None:
        go, begun, stop = asyncio.Event(), asyncio.Event(), threading.Event()
        rules = [taskscope.Ignore("uses_it_all", reason="it ends soon")]
        async with TaskScope(find=EVERYTHING, ignore=rules, **QUIET) as scope:
            task = asyncio.create_task(uses_it_all(go, begun, []))
            await begun.wait()
            thread = threading.Thread(target=stop.wait, name="mine")
            thread.start()
        assert [finding.what for finding in scope.report.findings] == ["thread 'mine'"]
        stop.set()
        thread.join()
        go.set()
        await task

    run(main)


def test_a_worker_that_a_scope_made_a_pool_start_does_not_make_its_work_the_scopes(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        stop = threading.Event()
        with ThreadPoolExecutor(1) as pool:
            async with TaskScope(find=EVERYTHING, **QUIET) as scope:
                await loop.run_in_executor(pool, int)
                asyncio.get_running_loop()
                done = await asyncio.to_thread(pool.submit, threading.Thread(target=stop.wait, name="by nobody").start)
                await asyncio.wrap_future(done)
            # It was started by a worker, that works for whoever gives it work.
            assert [finding.what for finding in scope.report.findings] == []
            stop.set()

    run(main)


def test_workers_of_pools_of_processes_go_by_who_has_made_the_pool(run_asyncio: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with ProcessPoolExecutor(1) as pool:
            async with TaskScope(find=EVERYTHING, end_processes=True, **QUIET) as scope:
                assert await loop.run_in_executor(pool, int) == 0
            assert scope.report.ok
            assert await loop.run_in_executor(pool, int) == 0

    run_asyncio(main)


def test_the_thread_that_pycares_keeps_for_the_process_is_its_own() -> None:
    """It is started with the first channel: here by a scope that has no other thread."""
    program = """
        import asyncio, threading
        import pycares
        from taskscope import TaskScope

        async def main():
            async with TaskScope(find=("threads",), grace=0, on_leak="ignore") as scope:
                before = threading.active_count()
                channel = pycares.Channel()
                print(threading.active_count() - before)
                channel.close()
            print(scope.report.findings)

        asyncio.run(main())
        """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60, check=True
    )
    assert run.stdout.split() == ["1", "()"]


def test_anyios_worker_processes_are_its_own(run_asyncio: Run) -> None:
    async def main() -> None:
        async with TaskScope(find=EVERYTHING, end_processes=True, **QUIET) as scope:
            assert await anyio.to_process.run_sync(int) == 0
        assert scope.report.findings == ()
        assert await anyio.to_process.run_sync(int) == 0

    run_asyncio(main)


# ------------------------------------------------------------------------------------------------ what is on its way


async def fails() -> None:
    raise ValueError("it is retrieved")


def test_an_exception_that_a_callback_is_about_to_retrieve_is_not_told(run: Run) -> None:
    async def main() -> None:
        async with TaskScope(find=EVERYTHING, grace=0, on_leak="ignore") as scope:
            task = asyncio.create_task(fails())
            task.add_done_callback(asyncio.Task.exception)
            del task
            await asyncio.sleep(0)
        assert scope.report.ok

    run(main)


# -------------------------------------------------------------------------------------------------- bounds of the exit


def test_a_clock_that_stands_still_does_not_hold_up_the_exit(run_asyncio: Run) -> None:
    ignores = "import signal, sys; signal.signal(15, signal.SIG_IGN); print(flush=True); sys.stdin.read()"

    async def main() -> None:
        with mock.patch("time.perf_counter", return_value=1.0), mock.patch("time.monotonic", return_value=1.0):
            async with TaskScope(find=("processes",), end_processes=True, cancel_timeout=0.2, **QUIET) as scope:
                process = await asyncio.create_subprocess_exec("python3", "-c", ignores, stdin=-1, stdout=-1)
                assert process.stdout is not None
                await process.stdout.readline()
        assert [finding.outcome for finding in scope.report.findings] == ["killed"]
        await process.wait()

    run_asyncio(main)


def test_generators_are_closed_together_and_a_slow_one_takes_no_time_from_the_others(run: Run) -> None:
    async def slow() -> AsyncGenerator[int]:
        try:
            yield 1
        finally:
            await asyncio.sleep(60)

    async def quick() -> AsyncGenerator[int]:
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            cleaned.append("quick")

    cleaned: list[str] = []

    async def main() -> None:
        generators = [*(slow() for _ in range(20)), quick()]
        started = time.perf_counter()
        async with TaskScope(find=("generators",), cancel_timeout=0.1, **QUIET) as scope:
            for generator in generators:
                await anext(generator)
        assert time.perf_counter() - started < 5  # and not twenty times as long
        assert cleaned == ["quick"]
        details = [finding.detail for finding in scope.report.findings]
        assert details == ["closing it failed: TimeoutError: it took more than 0.1 s"] * 20 + [None]

    run(main)


# ----------------------------------------------------------------------------------------------- looks that go wrong


class NotQuiteAThread(threading.Thread):
    def __init__(self) -> None:
        pass  # and not what Thread does there


class Lies(threading.Thread):
    def is_alive(self) -> bool:
        raise RuntimeError("it does not say")


class Unnamed:
    def __call__(self) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"no {name}")


def test_what_cannot_be_asked_does_not_come_out_of_the_exit(run: Run) -> None:
    async def main() -> None:
        start = threading.Thread.start
        stop = threading.Event()
        async with TaskScope(find=EVERYTHING, **QUIET) as scope:
            thread = NotQuiteAThread()
            with suppress(RuntimeError):
                thread.start()
            lies = Lies(target=stop.wait, name="lies")
            lies.start()
            asyncio.get_running_loop().call_later(60, Unnamed())
            assert await asyncio.to_thread(Unnamed()) is None
        assert sorted(kinds(scope.report)) == ["thread", "timer"]
        assert threading.Thread.start is start
        stop.set()
        threading.Thread.join(lies)

    run(main)


def test_a_look_that_fails_is_told_and_fails_nobody(run_asyncio: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from taskscope._findings import timers

    def fails(*arguments: Any) -> Any:
        raise LookupError("nothing here")

    monkeypatch.setattr(timers, "timers_under", fails)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with TaskScope(find=EVERYTHING, **QUIET) as scope:
            generator = numbers()
            await anext(generator)
        assert scope.report.coverage == ("timers could not all be looked at: LookupError: nothing here",)
        assert kinds(scope.report) == ["generator"]
        assert "run_in_executor" not in vars(loop)

    run_asyncio(main)


def test_what_is_given_to_an_executor_is_not_touched(run: Run) -> None:
    async def main() -> None:
        function = mock.MagicMock()
        async with TaskScope(find=EVERYTHING, **QUIET):
            await asyncio.get_running_loop().run_in_executor(None, function, 1)
        assert function.mock_calls == [mock.call(1)]

    run(main)


def test_a_future_that_an_executor_has_refused_is_no_work(run: Run) -> None:
    async def main() -> None:
        pool = ThreadPoolExecutor(1)
        pool.shutdown()
        async with TaskScope(find=EVERYTHING, **QUIET) as scope:
            with pytest.raises(RuntimeError):
                await asyncio.get_running_loop().run_in_executor(pool, int)
            cancelled: concurrent.futures.Future[int] = concurrent.futures.Future()
            cancelled.cancel()
            gc.collect()
        assert scope.report.ok

    run(main)
