"""Who answers for tasks in a test run: tests, fixtures, test cases. Each holds its tasks until it is judged."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from types import CodeType
from typing import Any, final

from taskscope._backends import _asyncio
from taskscope._backends._backend import Backend
from taskscope._backends._here import backend_here, backend_of_task
from taskscope._closing import Claims
from taskscope._diagnosis.tasks import coroutine_of
from taskscope._scope import TaskScope
from taskscope._table import AnyTask, TaskTable, set_tag, tag
from taskscope.pytest_plugin._named import named_by, with_namespace
from taskscope.pytest_plugin._reach import first_reaching
from taskscope.pytest_plugin._settings import Settings
from taskscope.pytest_plugin._traces import traces


@final
class Owner:
    """A fixture, a test or a test case, from its setup to its judgement.

    Attributes:
        name: What reports call it.
        kind: `"test"`, `"fixture"`, `"case"`, or `"loop"` for what is spawned when whoever spawns it has been judged.
        settings: What holds for it.
        values: What it has made, and what is called when it is torn down: whatever these lead to is its own.
        function: A fixture's function: whatever the globals that it names lead to is its own, too.
        is_tagging: Whether what it spawns can be tagged. pytest-trio runs fixtures side by side in one context, where a
            tag of one would be another's.
        is_judged: Whether it has been torn down. It can end nothing any more, and nobody's task is its.
        mains: Tasks that are not asked for, because they run what `asyncio.run` was given: that ends them itself, also
            where it was interrupted.
    """

    def __init__(self, name: str, kind: str, settings: Settings, defined_at: tuple[CodeType, int]) -> None:
        self.name = name
        self.kind = kind
        self.settings = settings
        self.defined_at = defined_at
        self.values: list[object] = []
        self.function: object = None
        self.is_tagging = True
        self.is_judged = False
        self.mains: weakref.WeakSet[AnyTask] = weakref.WeakSet()
        self._holding: dict[str, TaskScope] = {}

    def scope_on(self, backend: Backend, heir: TaskTable | None = None) -> TaskScope:
        """The scope that holds its tasks of one library.

        heir: who answers for what is spawned in its context when it has been let go. None: nobody, or who did before.
        """
        scope = self._holding.get(backend.name)
        if scope is None:
            scope = TaskScope._of(self.settings.policy, self.name, self.defined_at)  # pyright: ignore[reportPrivateUsage]
            scope._open_to_hold(backend)  # pyright: ignore[reportPrivateUsage]
            self._holding[backend.name] = scope
        if heir is not None:
            scope._table.parent = heir  # pyright: ignore[reportPrivateUsage]
        return scope

    def table_on(self, backend: Backend) -> TaskTable:
        return self.scope_on(backend)._table  # pyright: ignore[reportPrivateUsage]

    def note_main(self) -> None:
        """Says that the running task of asyncio's is one of `mains`."""
        task = asyncio.current_task()
        assert task is not None
        self.mains.add(task)

    def pending(self) -> list[AnyTask]:
        return [task for table in self._tables() for task in table.pending() if task not in self.mains]

    def pending_on_asyncio(self) -> list[AnyTask]:
        scope = self._holding.get(_asyncio.name)
        if scope is None:
            return []
        return [task for task in scope._table.pending() if task not in self.mains]  # pyright: ignore[reportPrivateUsage]

    def pending_on(self, loop: asyncio.AbstractEventLoop) -> list[AnyTask]:
        pending = [task for task in self.pending_on_asyncio() if task.get_loop() is loop]
        if self.kind != "loop":
            return pending
        # What comes from no closed scope has been handed off, by somebody who has said why it lives on.
        return [task for task in pending if self.table_on(_asyncio).closed_scope_of(task) is not None]

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
        values = [part for value in self.values for part in with_namespace(value)]
        return [*values, *named_by(self.function), *self.pending()]


@contextmanager
def tagged(owner: Owner | None) -> Generator[None]:
    """Has what is spawned outside of any loop tagged with an owner, or with none."""
    if owner is None and tag.get(None) is None:
        yield
        return
    token = tag.set(None) if owner is None else set_tag(owner.table_on(_asyncio))
    try:
        yield
    finally:
        tag.reset(token)


def claims_of(
    owners: Callable[[], Iterable[Owner]],
    values: Mapping[str, object] | None = None,
    instance: object | None = None,
) -> Claims:
    """Which of a test's or fixture's tasks are the given owners'.

    A task is theirs that one of their values leads to, or whose method's object it leads to. (The naive check that
    takes all that is pending for the test's own accused the handlers and jobs of servers, schedulers and clients that
    fixtures had made, and would have ended.)

    Where more than one leads to a task the nearest has it. When that one is judged it is asked again who has what it
    has not ended, and so on to the last that is torn down.

    owners: gives them, also those that a test has asked for in its body.
    values: arguments of the test by the name of the fixture, where they are not the values that pytest knows.
    instance: of the test's class, if it has one.
    """
    given = values or {}

    def claims(tasks: list[AnyTask]) -> Mapping[AnyTask, tuple[TaskTable, str]]:
        ordered = [owner for owner in owners() if not owner.is_judged]
        traces_of = {task: traces(task, instance) for task in tasks}
        avoid = _ids_of_running()
        sources = [(owner, [*owner.starts(), *_value(given, owner)]) for owner in ordered]
        taken: dict[AnyTask, Owner] = {}
        while sources:
            newly = first_reaching(sources, traces_of, avoid)
            taken.update(newly)
            for task in newly:
                del traces_of[task]
            # What a task of an owner's holds it has as well.
            sources = [(owner, held) for owner in ordered if (held := _tasks_of(owner, newly))]
        return {
            task: (owner.table_on(_backend_of(task)), f"{owner.name} has it, and is to end it")
            for task, owner in taken.items()
        }

    return claims


def _tasks_of(owner: Owner, taken: Mapping[AnyTask, Owner]) -> list[object]:
    return [task for task, taker in taken.items() if taker is owner]


def _value(values: Mapping[str, object], owner: Owner) -> list[object]:
    argument = owner.name.removeprefix("fixture ")
    return [values[argument]] if argument in values else []


def _backend_of(task: AnyTask) -> Backend:
    backend = backend_of_task(task)
    assert backend is not None
    return backend


def _ids_of_running() -> set[int]:
    """What runs now is no way to a task: it is the test itself, or what runs tests and fixtures alike."""
    try:
        running: Any = backend_here().current_task()
    except RuntimeError:
        return set()
    return {id(running), id(coroutine_of(running))}
