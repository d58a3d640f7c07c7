"""What the test suites of Home Assistant and of dask/distributed look for after each test, planted and seen.

The categories are those of `verify_cleanup` and `hass` in Home Assistant's `tests/conftest.py`, of `check_thread_leak`,
`check_process_leak` and `check_instances` in dask's `distributed/utils_test.py`, and of its `pytest_resourceleaks.py`.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import re
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

from taskscope import Report, TaskScope
from taskscope._policy import FIND, Find

README = Path(__file__).parent.parent / "README.md"

Use = Callable[[ExitStack], Awaitable[None]]
"""Uses what a category is about. What it leaves to be ended after the scope goes on the stack."""


@dataclass(frozen=True)
class Category:
    """Something that others check.

    Attributes:
        name: Whose check it is, and what for.
        word: The word of `find` that covers it.
        kind: What the report calls it, `"task"` for what is among its leaks.
        what: A part of how the report names it.
        leave: Leaves one behind.
        end: Uses one and ends it.
    """

    name: str
    word: Find
    kind: str
    what: str
    leave: Use
    end: Use


async def leave_a_task(after: ExitStack) -> None:
    asyncio.create_task(asyncio.Event().wait(), name="lingering")


async def end_a_task(after: ExitStack) -> None:
    task = asyncio.create_task(asyncio.Event().wait())
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def leave_a_task_made_past_the_factory(after: ExitStack) -> None:
    task = asyncio.Task(asyncio.Event().wait(), name="past the factory")
    after.callback(task.done)  # kept: the loop does not


async def end_a_task_made_past_the_factory(after: ExitStack) -> None:
    await asyncio.Task(asyncio.sleep(0))


def update_entity(entity: str) -> None:
    raise AssertionError(f"{entity} was updated after the test")


async def leave_a_timer(after: ExitStack) -> None:
    asyncio.get_running_loop().call_later(3_600, update_entity, "light.kitchen")


async def end_a_timer(after: ExitStack) -> None:
    asyncio.get_running_loop().call_later(3_600, update_entity, "light.kitchen").cancel()


def poll_device(stop: threading.Event) -> None:
    stop.wait()


def start_a_thread(stop: threading.Event) -> threading.Thread:
    thread = threading.Thread(target=poll_device, args=(stop,), name="poller")
    thread.start()
    return thread


async def leave_a_thread(after: ExitStack) -> None:
    stop = threading.Event()
    after.callback(start_a_thread(stop).join)
    after.callback(stop.set)


async def end_a_thread(after: ExitStack) -> None:
    stop = threading.Event()
    thread = start_a_thread(stop)
    stop.set()
    thread.join()


async def leave_work_in_a_thread(after: ExitStack) -> None:
    stop = threading.Event()
    after.callback(stop.set)
    asyncio.get_running_loop().run_in_executor(None, poll_device, stop)


async def end_work_in_a_thread(after: ExitStack) -> None:
    stop = threading.Event()
    stop.set()
    await asyncio.get_running_loop().run_in_executor(None, poll_device, stop)


async def fail() -> None:
    raise ConnectionError("the hub is gone")


async def leave_an_exception(after: ExitStack) -> None:
    failing = asyncio.create_task(fail())
    await asyncio.wait([failing])
    after.callback(failing.exception)


async def end_an_exception(after: ExitStack) -> None:
    failing = asyncio.create_task(fail())
    with suppress(ConnectionError):
        await failing


def start_a_process() -> multiprocessing.process.BaseProcess:
    process = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(600,), name="worker-1", daemon=True)
    process.start()
    return process


async def leave_a_process(after: ExitStack) -> None:
    process = start_a_process()
    after.callback(process.join)
    after.callback(process.kill)


async def end_a_process(after: ExitStack) -> None:
    process = start_a_process()
    process.kill()
    process.join()


async def connect(after: ExitStack) -> asyncio.StreamWriter:
    ours, theirs = socket.socketpair()
    after.callback(theirs.close)
    _, writer = await asyncio.open_connection(sock=ours)
    return writer


async def leave_a_connection(after: ExitStack) -> None:
    after.callback((await connect(after)).close)  # and so it is kept, and no finalizer closes it before


async def end_a_connection(after: ExitStack) -> None:
    writer = await connect(after)
    writer.close()
    await writer.wait_closed()


async def leave_a_server(after: ExitStack) -> None:
    await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)


async def end_a_server(after: ExitStack) -> None:
    (await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)).close()


async def leave_a_watched_descriptor(after: ExitStack) -> None:
    ours, theirs = socket.socketpair()
    after.callback(theirs.close)
    after.callback(ours.close)
    asyncio.get_running_loop().add_reader(ours, update_entity, "light.kitchen")


async def end_a_watched_descriptor(after: ExitStack) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        asyncio.get_running_loop().add_reader(ours, update_entity, "light.kitchen")
        asyncio.get_running_loop().remove_reader(ours)


CATEGORIES = [
    Category("Home Assistant: task", "tasks", "task", "lingering", leave_a_task, end_a_task),
    Category(
        "Home Assistant: task made past the factory",
        "untracked",
        "untracked",
        "past the factory",
        leave_a_task_made_past_the_factory,
        end_a_task_made_past_the_factory,
    ),
    Category("Home Assistant: timer", "timers", "timer", "update_entity", leave_a_timer, end_a_timer),
    Category("Home Assistant: thread", "threads", "thread", "poller", leave_a_thread, end_a_thread),
    Category("Home Assistant: exception", "unretrieved", "unretrieved", "hub", leave_an_exception, end_an_exception),
    Category("dask: thread", "threads", "thread", "poller", leave_a_thread, end_a_thread),
    Category("dask: work", "executor", "executor", "poll_device", leave_work_in_a_thread, end_work_in_a_thread),
    Category("dask: process", "processes", "process", "worker-1", leave_a_process, end_a_process),
    Category("dask: comm", "transports", "transport", "connection", leave_a_connection, end_a_connection),
    Category("dask: server", "servers", "server", "127.0.0.1", leave_a_server, end_a_server),
    Category(
        "dask: descriptor", "transports", "transport", "reader", leave_a_watched_descriptor, end_a_watched_descriptor
    ),
]
EACH = pytest.mark.parametrize("category", CATEGORIES, ids=[category.name for category in CATEGORIES])


def report_after(use: Use, *find: Find, end_processes: bool = False) -> Report:
    async def main() -> Report:
        with ExitStack() as after:
            async with TaskScope(
                grace=0, on_leak="ignore", find=("tasks", *find), end_processes=end_processes
            ) as scope:
                await use(after)
            return scope.report

    return asyncio.run(main())


@EACH
def test_what_they_would_catch_is_reported(category: Category) -> None:
    report = report_after(category.leave, category.word)
    assert not report.ok
    found = [(each.kind, each.what) for each in report.findings] or [("task", leak.name) for leak in report.leaks]
    ((kind, what),) = found
    assert kind == category.kind
    assert category.what in what


@EACH
def test_what_is_ended_is_not(category: Category) -> None:
    report = report_after(category.end, *cast("tuple[Find, ...]", FIND))
    assert report.ok, str(report)
    assert report.coverage == ()


def test_a_thread_is_told_with_its_stack_as_dask_does() -> None:
    (thread,) = report_after(leave_a_thread, "threads").findings
    assert "poll_device" in [frame.function for frame in thread.stack]
    assert thread.spawn_site is not None
    assert thread.spawn_site.function == "start_a_thread"


def test_processes_are_terminated_as_by_dask_if_asked_for() -> None:
    (process,) = report_after(leave_a_process, "processes", end_processes=True).findings
    assert process.outcome == "terminated"
    assert multiprocessing.active_children() == []


def test_readme_claims_nothing_else() -> None:
    _, _, rest = README.read_text(encoding="utf-8").partition("<!-- what-others-check -->")
    table, _, _ = rest.strip().partition("\n\n")
    claimed = {word for row in table.splitlines() for word in re.findall(r"`(\w+)`", row.split("|")[3])}
    assert claimed & set(FIND) == {category.word for category in CATEGORIES}
