"""The end of an owner: what it has left gets the grace, and what is there then is ended and told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any

from taskscope._backends import _asyncio
from taskscope._policy import TASKS_ONLY
from taskscope._report import Report
from taskscope._scope import TaskScope
from taskscope._table import AnyTask, TaskTable
from taskscope.pytest_plugin._claims import ClaimsOf
from taskscope.pytest_plugin._owners import Owner

if TYPE_CHECKING:
    from taskscope._findings.search import Search

Collect = Callable[[Owner, Report], None]


async def judge(
    owner: Owner,
    tasks: list[AnyTask],
    source: TaskTable,
    claims: ClaimsOf | None,
    tell: Collect,
    search: Search | None = None,
) -> None:
    """Judges tasks of an owner, and what its search finds, as the end of a scope would. To be awaited on their loop.

    tasks: is emptied, for who holds a task could wake it.
    source: the table that holds them.
    claims: who else may have them, None where nobody is asked.
    tell: gets the report, if there is anything to tell.
    search: is finished.
    """
    policy = owner.settings.policy._replace(on_report=partial(tell, owner))
    if search is None:
        policy = policy._replace(find=TASKS_ONLY)
    else:
        search.claims = None if claims is None else claims.things
    scope = TaskScope._of(  # pyright: ignore[reportPrivateUsage]
        policy, owner.name, owner.defined_at, None if claims is None else claims.tasks, search=search
    )
    async with scope:
        while tasks:
            _hand_over(tasks.pop(), source, scope)


def _hand_over(task: AnyTask, source: TaskTable, scope: TaskScope) -> None:
    if not source.backend.is_done(task):
        source.hand_over(task, scope._table)  # pyright: ignore[reportPrivateUsage]


def judge_from_outside(owner: Owner, claims: ClaimsOf | None, tell: Collect) -> None:
    """The same for all that an owner has on asyncio, where no loop runs. What is on a closed loop nobody can judge."""
    by_loop: dict[asyncio.AbstractEventLoop, list[AnyTask]] = {loop: [] for loop in owner.searches.loops()}
    pending = owner.pending_on_asyncio()
    while pending:
        by_loop.setdefault(pending[-1].get_loop(), []).append(pending.pop())
    for loop in list(by_loop):
        judge_on(loop, owner, by_loop.pop(loop), claims, tell)
    _judge_without_loop(owner, claims, tell)


def judge_on(
    loop: asyncio.AbstractEventLoop, owner: Owner, tasks: list[AnyTask], claims: ClaimsOf | None, tell: Collect
) -> None:
    if loop.is_closed() or asyncio._get_running_loop() is not None:
        return
    if not loop.is_running():
        loop.run_until_complete(_judge_here(owner, tasks, claims, tell))
        return
    # It runs in another thread: the tasks are cancelled through it, and nothing else can be.
    _run_beside(judge(owner, tasks, owner.table_on(_asyncio), claims, tell))


async def _judge_here(owner: Owner, tasks: list[AnyTask], claims: ClaimsOf | None, tell: Collect) -> None:
    await judge(owner, tasks, owner.table_on(_asyncio), claims, tell, owner.searches.pop_here())


def _judge_without_loop(owner: Owner, claims: ClaimsOf | None, tell: Collect) -> None:
    search = owner.searches.pop_outside()
    if search is None:
        return
    search.claims = None if claims is None else claims.things
    if search.is_clean() or asyncio._get_running_loop() is not None:
        search.finish()
        return
    _run_beside(judge(owner, [], owner.table_on(_asyncio), claims, tell, search))


def _run_beside(work: Coroutine[Any, Any, None]) -> None:
    """Runs what has no loop of its own to run on."""
    beside = asyncio.events.new_event_loop()
    try:
        beside.run_until_complete(work)
    finally:
        beside.close()
