"""Who answers for tasks in a test run: tests, fixtures, test cases. Each holds its tasks until it is judged."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Iterable, Mapping
from types import CodeType
from typing import Any, final

from taskscope._backends import _asyncio
from taskscope._backends._backend import Backend
from taskscope._closing import Claims
from taskscope._diagnosis.stack import task_chain
from taskscope._diagnosis.tasks import coroutine_of
from taskscope._scope import TaskScope
from taskscope._table import AnyTask, TaskTable
from taskscope.pytest_plugin._reach import first_reaching, methods_objects
from taskscope.pytest_plugin._settings import Settings


@final
class Owner:
    """A fixture, a test or a test case, from its setup to its judgement.

    Attributes:
        name: What reports call it.
        kind: `"test"`, `"fixture"` or `"case"`.
        settings: What holds for it.
        values: What it has made: whatever these lead to is its own.
        is_tagging: Whether what it spawns can be tagged. pytest-trio runs fixtures side by side in one context, where a
            tag of one would be another's.
        mains: Tasks that are not asked for, because they run what `asyncio.run` was given: that ends them itself, also
            where it was interrupted.
    """

    def __init__(self, name: str, kind: str, settings: Settings, defined_at: tuple[CodeType, int]) -> None:
        self.name = name
        self.kind = kind
        self.settings = settings
        self.defined_at = defined_at
        self.values: list[object] = []
        self.is_tagging = True
        self.mains: weakref.WeakSet[AnyTask] = weakref.WeakSet()
        self._holding: dict[str, TaskScope] = {}

    def scope_on(self, backend: Backend) -> TaskScope:
        """The scope that holds its tasks of one library."""
        scope = self._holding.get(backend.name)
        if scope is None:
            scope = TaskScope._of(self.settings.policy, self.name, self.defined_at)  # pyright: ignore[reportPrivateUsage]
            scope._open_to_hold(backend)  # pyright: ignore[reportPrivateUsage]
            self._holding[backend.name] = scope
        return scope

    def table_on(self, backend: Backend) -> TaskTable:
        return self.scope_on(backend)._table  # pyright: ignore[reportPrivateUsage]

    def pending(self) -> list[AnyTask]:
        return [task for table in self._tables() for task in table.pending() if task not in self.mains]

    def pending_on_asyncio(self) -> list[AnyTask]:
        scope = self._holding.get(_asyncio.name)
        if scope is None:
            return []
        return [task for task in scope._table.pending() if task not in self.mains]  # pyright: ignore[reportPrivateUsage]

    def pending_on(self, loop: asyncio.AbstractEventLoop) -> list[AnyTask]:
        return [task for task in self.pending_on_asyncio() if task.get_loop() is loop]

    def let_ended_go(self) -> None:
        """Holds only what is pending: a task that has ended holds its loop, which its test may want to see go."""
        for table in self._tables():
            for task in list(table.rows):
                if table.backend.is_done(task):
                    table.take(task)

    def let_go(self) -> None:
        """Holds nothing any more. What is spawned under its tag from here on goes to the next one outside."""
        for scope in self._holding.values():
            scope._shut()  # pyright: ignore[reportPrivateUsage]

    def _tables(self) -> list[TaskTable]:
        return [scope._table for scope in self._holding.values()]  # pyright: ignore[reportPrivateUsage]

    def starts(self) -> list[object]:
        """Where a walk begins that looks for what is this owner's."""
        return [*self.values, *self.pending()]


def claims_of(
    owners: Iterable[Owner], values: Mapping[str, object] | None = None, *, avoid: Iterable[object] = ()
) -> Claims:
    """Which of a test's or fixture's tasks are the given owners'.

    A task is theirs that one of their values leads to, or whose method's object it leads to. (The naive check that
    takes all that is pending for the test's own accused the handlers and jobs of servers, schedulers and clients that
    fixtures had made, and would have ended.)

    owners: in the order of their setup. The first that leads to a task is the last that is torn down, so it has it.
    values: arguments of the test by the name of the fixture, where they are not the values that pytest knows.
    avoid: what belongs to the test itself.
    """
    ordered = list(owners)
    given = values or {}
    avoided = list(avoid)

    def claims(tasks: list[AnyTask]) -> Mapping[AnyTask, tuple[TaskTable, str]]:
        traces = {task: _traces(task) for task in tasks}
        targets = {trace for found in traces.values() for trace in found}
        sources = [(owner, [*owner.starts(), *_value(given, owner)]) for owner in ordered]
        found = first_reaching(sources, targets, {id(obj) for obj in _running_and(avoided)})
        taken: dict[AnyTask, tuple[TaskTable, str]] = {}
        for task, ids in traces.items():
            takers = [owner for owner in ordered if any(found.get(trace) is owner for trace in ids)]
            if takers:
                backend = _backend_of(task)
                taken[task] = (takers[0].table_on(backend), f"{takers[0].name} has it, and is to end it")
        return taken

    return claims


def _value(values: Mapping[str, object], owner: Owner) -> list[object]:
    return [values[owner.name.removeprefix("fixture ")]] if owner.name.removeprefix("fixture ") in values else []


def _backend_of(task: AnyTask) -> Backend:
    from taskscope._backends._here import backend_of_task

    backend = backend_of_task(task)
    assert backend is not None
    return backend


def _running_and(avoided: list[object]) -> list[object]:
    from taskscope._backends._here import backend_here

    try:
        running: Any = backend_here().current_task()
    except RuntimeError:
        return avoided
    return [*avoided, running, coroutine_of(running)]


def _traces(task: AnyTask) -> set[int]:
    """Ids of what stands for a task: itself, its coroutines, and the objects whose methods they are."""
    holders = [link.holder for link in task_chain(task).links]
    frames = [frame for holder in holders if (frame := _frame_of(holder)) is not None]
    return {id(task), *map(id, holders), *map(id, methods_objects(frames))}


def _frame_of(holder: Any) -> Any:
    for name in ("cr_frame", "gi_frame", "ag_frame"):
        frame = getattr(holder, name, None)
        if frame is not None:
            return frame
    return None
