"""The end of an owner: its tasks get the grace, and what is left then is ended and told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from taskscope._backends import _asyncio
from taskscope._closing import Claims
from taskscope._report import Report
from taskscope._scope import TaskScope
from taskscope._table import AnyTask, TaskTable
from taskscope.pytest_plugin._owners import Owner

Collect = Callable[[Owner, Report], None]


async def judge(owner: Owner, tasks: list[AnyTask], source: TaskTable, claims: Claims | None, tell: Collect) -> None:
    """Judges tasks of an owner as the end of a scope would. To be awaited on their loop.

    tasks: is emptied, for who holds a task could wake it.
    source: the table that holds them.
    tell: gets the report, if there is anything to tell.
    """
    policy = replace(owner.settings.policy, on_report=partial(tell, owner))
    scope = TaskScope._of(policy, owner.name, owner.defined_at, claims)  # pyright: ignore[reportPrivateUsage]
    async with scope:
        while tasks:
            _hand_over(tasks.pop(), source, scope)


def _hand_over(task: AnyTask, source: TaskTable, scope: TaskScope) -> None:
    if not source.backend.is_done(task):
        source.hand_over(task, scope._table)  # pyright: ignore[reportPrivateUsage]


def judge_from_outside(owner: Owner, claims: Claims | None, tell: Collect) -> None:
    """The same for all that an owner has on asyncio, where no loop runs. What is on a closed loop nobody can judge."""
    by_loop: dict[asyncio.AbstractEventLoop, list[AnyTask]] = {}
    pending = owner.pending_on_asyncio()
    while pending:
        by_loop.setdefault(pending[-1].get_loop(), []).append(pending.pop())
    for loop in list(by_loop):
        judge_on(loop, owner, by_loop.pop(loop), claims, tell)


def judge_on(
    loop: asyncio.AbstractEventLoop, owner: Owner, tasks: list[AnyTask], claims: Claims | None, tell: Collect
) -> None:
    if loop.is_closed() or asyncio._get_running_loop() is not None:
        return
    work = judge(owner, tasks, owner.table_on(_asyncio), claims, tell)
    if not loop.is_running():
        loop.run_until_complete(work)
        return
    beside = asyncio.new_event_loop()  # it runs in another thread, and the tasks are cancelled through it
    try:
        beside.run_until_complete(work)
    finally:
        beside.close()
