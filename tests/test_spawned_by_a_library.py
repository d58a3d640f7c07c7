"""Tasks that no line of the program has spawned: who did is named so that a reader knows what to end."""

from __future__ import annotations

import asyncio

from conftest import Run

from taskscope import Report, TaskScope


async def hang() -> None:
    await asyncio.sleep(3_600)


async def report_on_spawn_from_a_thread() -> Report:
    started = asyncio.Event()

    async def work() -> None:
        started.set()
        await hang()

    async with TaskScope(grace=0, on_leak="ignore") as scope:
        loop = asyncio.get_running_loop()
        await asyncio.to_thread(asyncio.run_coroutine_threadsafe, work(), loop)
        await started.wait()
    return scope.report


async def report_on_connection_handler() -> Report:
    handled = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handled.set()
        try:
            await hang()
        finally:
            writer.close()

    async with TaskScope(grace=0, on_leak="ignore") as scope:
        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        await handled.wait()
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()
    return scope.report


def words(report: Report) -> str:
    return " ".join(report.format().split())


def test_what_a_thread_has_sent_to_the_loop_is_said_to_be_that(run_asyncio: Run) -> None:
    report = run_asyncio(report_on_spawn_from_a_thread)
    (leak,) = report.leaks
    assert leak.spawn_site is not None and leak.spawn_site.function.startswith("run_coroutine_threadsafe")
    text = words(report)
    assert "spawned at asyncio: run_coroutine_threadsafe.<locals>.callback" in text
    assert "to do wait for what run_coroutine_threadsafe() has returned where it was called, or cancel that" in text


def test_nobody_is_told_to_wait_in_a_function_of_asyncio(run_asyncio: Run) -> None:
    report = run_asyncio(report_on_connection_handler)
    (leak,) = report.leaks
    assert leak.spawn_site is not None and leak.spawn_site.function == "StreamReaderProtocol.connection_made"
    assert "to do end whatever has started it, and wait for it;" in words(report)
