"""Tasks that no line of the program has spawned: who did is named so that a reader knows what to end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest
from conftest import Run
from pytest_mock import MockerFixture

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


async def starts_it() -> None:
    coro = hang()
    asyncio.create_task(coro)


def with_wraps() -> Any:
    return mock.patch("asyncio.create_task", wraps=asyncio.create_task)


def with_side_effect() -> Any:
    return mock.patch("asyncio.create_task", side_effect=asyncio.create_task)


def with_signature() -> Any:
    return mock.patch("asyncio.create_task", autospec=True, side_effect=asyncio.create_task)


@contextmanager
def with_spy() -> Iterator[None]:
    patches = MockerFixture(mock.Mock())
    try:
        patches.spy(asyncio, "create_task")
        yield
    finally:
        patches.stopall()


@pytest.mark.parametrize("spied", [with_wraps, with_side_effect, with_signature, with_spy])
def test_what_a_mock_calls_in_the_place_of_a_program_the_program_has_spawned(run_asyncio: Run, spied: Any) -> None:
    async def main() -> Report:
        async with TaskScope(grace=0, on_leak="ignore") as scope:
            with spied():
                await starts_it()
        return scope.report

    (leak,) = run_asyncio(main).leaks
    assert leak.spawn_site is not None and leak.spawn_site.function == "starts_it"
