"""Uses of the public names, to be checked by mypy and pyright. Nothing runs it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from tempfile import TemporaryDirectory
from typing import Any, assert_type

import trio.lowlevel

import taskscope


@taskscope.scoped
async def plain(number: int, *, word: str = "") -> float:
    return number + len(word)


@taskscope.scoped(name="with options", grace=1.0, on_leak="warn", spawn_site="stack")
async def with_options(number: int) -> str:
    return str(number)


@taskscope.scoped
async def numbers(limit: int) -> AsyncGenerator[int, str]:
    for number in range(limit):
        word = yield number
        assert_type(word, str)


class Service:
    @taskscope.scoped
    async def method(self, key: str) -> bytes:
        return key.encode()

    @taskscope.scoped(timeout=5)
    async def with_options(self, key: str) -> bytes:
        return key.encode()

    @staticmethod
    @taskscope.scoped
    async def static(key: str) -> bytes:
        return key.encode()

    @classmethod
    @taskscope.scoped
    async def of_class(cls, key: str) -> bytes:
        return key.encode()


def tell(report: taskscope.Report) -> None:
    assert_type(report.leaks, tuple[taskscope.TaskRecord, ...])
    assert_type(report.ok, bool)
    assert_type(report.to_dict(), dict[str, Any])
    assert_type(report.to_json(), str)
    assert_type(report.format(color=True), str)
    for leak in report.leaks:
        assert_type(leak.stack, tuple[taskscope.Frame, ...])
        assert_type(leak.spawn_site, taskscope.Frame | None)
        assert_type(leak.wait, taskscope.Wait | None)


async def uses() -> None:
    assert_type(await plain(1, word="x"), float)
    assert_type(await with_options(1), str)
    assert_type(await Service().method("key"), bytes)
    assert_type(await Service().with_options("key"), bytes)
    assert_type(await Service.static("key"), bytes)
    assert_type(await Service.of_class("key"), bytes)
    assert_type(numbers(3), AsyncGenerator[int, str])
    async for number in numbers(3):
        assert_type(number, int)

    async with taskscope.TaskScope("name", grace=1, on_leak=tell, on_report=tell, outer_groups="transfer") as scope:
        assert_type(scope, taskscope.TaskScope)
        task = asyncio.create_task(plain(1))
        scope.adopt(task)
        taskscope.hand_off(task, reason="somebody else waits for it")
        assert_type(scope.snapshot(), taskscope.Report)
    assert_type(scope.report, taskscope.Report)
    assert_type(taskscope.current_scope(), taskscope.TaskScope | None)
    rule = taskscope.Ignore("Client._read", task="reader-*", spawn_site=None, wait="Queue.get", reason="it stays")
    assert_type(taskscope.Ignore.parse("task=reader-* -- it stays"), taskscope.Ignore)
    async with taskscope.TaskScope(ignore=(rule,)):
        taskscope.TaskScope(ignore=[rule])

    async with taskscope.install(root="app", grace=5.0) as installation:
        assert_type(installation, taskscope.Installation)
    assert_type(installation.report, taskscope.Report | None)


def run() -> None:
    assert_type(taskscope.run(plain(1), name="app", grace=5.0, on_leak="log"), float)
    try:
        pass
    except taskscope.TaskLeakError as error:
        assert_type(error.report, taskscope.Report)
    except taskscope.ScopeTimeoutError as error:
        timeout: TimeoutError = error
        assert_type(error.report, taskscope.Report)
        print(timeout)


# What must not pass. mypy's strict mode and pyright's report a comment that ignores nothing.
async def misuses() -> None:
    await plain("one")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    taskscope.TaskScope(grace="long")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    taskscope.TaskScope(ignore=("Client._read",))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    taskscope.Ignore("Client._read")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    taskscope.TaskScope(on_leak="shout")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    @taskscope.scoped  # type: ignore[type-var]  # pyright: ignore[reportArgumentType, reportUntypedFunctionDecorator]
    def not_async() -> int:
        return 1

    print(not_async)


async def on_trio(task: trio.lowlevel.Task) -> None:
    async with taskscope.TaskScope() as scope:
        scope.adopt(task)
        taskscope.hand_off(task, reason="somebody else waits for it")
    assert_type(taskscope.run(with_options(1), backend="trio"), str)


class Database:
    async def aclose(self) -> None: ...


async def resources(pair: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
    async with taskscope.closing(Database(), "guests") as database:
        assert_type(database, Database)
    async with taskscope.closing(pair) as (reader, writer):
        assert_type(reader, asyncio.StreamReader)
        assert_type(writer, asyncio.StreamWriter)
    async with taskscope.closing(asyncio.timeout(5)) as timeout:
        assert_type(timeout, asyncio.Timeout)
    async with taskscope.closing(TemporaryDirectory()) as directory:
        assert_type(directory, str)
    assert_type(taskscope.guard(Database(), name="guests"), Database)
    assert_type(taskscope.guard(pair), tuple[asyncio.StreamReader, asyncio.StreamWriter])
