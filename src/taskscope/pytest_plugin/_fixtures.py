"""Fixture functions with their steps, setup and teardown, in the scope of their owner."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable
from types import TracebackType
from typing import Any, final

from taskscope._backends._here import backend_here, runs_a_task
from taskscope._decorator import step_by_step
from taskscope._steps import ScopedSteps
from taskscope._table import TaskTable
from taskscope.pytest_plugin._claims import ClaimsOf
from taskscope.pytest_plugin._functions import is_surely_sync
from taskscope.pytest_plugin._judging import Collect, judge
from taskscope.pytest_plugin._owners import Owner

FindOwner = Callable[[], Owner | None]
Before = Callable[[], TaskTable | None]


@final
class Judge:
    """What a fixture needs to be judged on its loop: who else may have its tasks, and who is told."""

    def __init__(self, claims: Callable[[Owner], ClaimsOf], tell: Collect) -> None:
        self.claims = claims
        self.tell = tell


def with_steps(function: Any, find_owner: FindOwner, judged_by: Judge, before: Before) -> Any:
    """The fixture's function with its steps in the scope of its owner; the very function where it is not async.

    find_owner: who owns what it spawns. It is asked at every call, for plugins keep the function for later ones.
    before: called on its loop, before its first step. It returns who answers for what is spawned when the owner has
        been judged, if anybody does.
    """
    inner = getattr(function, "__func__", function)
    if is_surely_sync(inner):
        return function
    if inspect.isasyncgenfunction(inner):
        wrapped: Any = step_by_step(inner, lambda steps: _FixtureSteps(steps, find_owner(), judged_by, before))
    elif inspect.iscoroutinefunction(inner):
        wrapped = _one_step(inner, find_owner, before)
    else:
        return function
    # Bound as it was: pytest and the runners bind it to the instance of the test in question.
    return types.MethodType(wrapped, function.__self__) if inner is not function else wrapped


def _one_step(function: Any, find_owner: FindOwner, before: Before) -> Any:
    @functools.wraps(function)
    async def setup(*args: Any, **kwargs: Any) -> Any:
        owner = find_owner()
        if owner is None or not owner.is_tagging or not runs_a_task():
            return await function(*args, **kwargs)
        steps: Any = None
        owner.begin_search()
        scope = ScopedSteps(owner.scope_on(backend_here(), before()), steps, is_on=True)
        return await scope.step(functools.partial(function, *args, **kwargs))

    return setup


@final
class _FixtureSteps:
    """The steps of an asynchronous generator fixture. At their end the fixture is judged."""

    def __init__(self, steps: Any, owner: Owner | None, judged_by: Judge, before: Before) -> None:
        self._steps = steps
        self._owner = owner
        self._judged_by = judged_by
        self._before = before

    async def __aenter__(self) -> ScopedSteps:
        owner = self._owner
        if owner is None or not runs_a_task():
            scope: Any = None
            return ScopedSteps(scope, self._steps)
        owner.values.append(self._steps)
        owner.begin_search()
        heir = self._before() if owner.is_tagging else None
        return ScopedSteps(owner.scope_on(backend_here(), heir), self._steps, is_on=owner.is_tagging)

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        owner = self._owner
        if owner is None or isinstance(exc, GeneratorExit) or not runs_a_task():
            return
        owner.is_judged = True
        table = owner.table_on(backend_here())
        pending, search = table.pending(), owner.searches.pop_here()
        if pending or search is not None:
            await judge(owner, pending, table, self._judged_by.claims(owner), self._judged_by.tell, search)
