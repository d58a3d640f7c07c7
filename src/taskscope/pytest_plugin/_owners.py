"""Who answers for tasks and other things in a test run: tests, fixtures, test cases. Each has its own until judged."""

from __future__ import annotations

import asyncio
import functools
import re
import unittest
from contextvars import Context, Token
from sys import getrefcount
from types import CodeType
from typing import Any, Final, final

import pytest

from taskscope._backends import _asyncio
from taskscope._backends._backend import Backend
from taskscope._backends._here import backend_here
from taskscope._backends._ownership import task_context
from taskscope._decorator import defined_where
from taskscope._diagnosis.opaque import class_of, module_of
from taskscope._policy import TASKS_ONLY
from taskscope._scope import TaskScope
from taskscope._table import AnyTask, TaskTable, set_tag, tag
from taskscope.pytest_plugin._searches import Searches
from taskscope.pytest_plugin._settings import Settings

# As pytest calls the fixture that it makes of a function of xunit's style, and of unittest's.
_OF_XUNIT: Final = re.compile(r"_(?:xunit|unittest)_(set[uU]p\w*?)_fixture_(.+)")


def name_of_fixture(name: str) -> str:
    """What reports call the fixture of a name: `fixture client`, `setUpClass of TestClient`."""
    of_xunit = _OF_XUNIT.fullmatch(name) if name.startswith("_") else None
    return f"fixture {name}" if of_xunit is None else f"{of_xunit[1]} of {of_xunit[2]}"


@final
class Owner:
    """A fixture, a test or a test case, from its setup to its judgement.

    Attributes:
        name: What reports call it.
        kind: `"test"`, `"fixture"`, `"case"`, or `"loop"` for what is spawned when whoever spawns it has been judged.
        settings: What holds for it.
        values: What it has made, and what is called when it is torn down: whatever these lead to is its own.
        function: A fixture's function: whatever that which it names leads to is its own, too.
        node: The test, or the collection of tests, that a fixture was set up for.
        set_up_for: The first test that has asked for a fixture.
        case: A test case, whose methods and cleanups name things in the same way.
        is_judged: Whether it has been torn down. It can end nothing any more, and nobody's task is its.
        searches: For what it has beside tasks.
    """

    def __init__(self, name: str, kind: str, settings: Settings, defined: object) -> None:
        """defined: the function that reports name as where it is."""
        self.name = name
        self.kind = kind
        self.settings = settings
        self._defined = defined
        self.values: list[object] = []
        self.function: object = None
        self.node: pytest.Item | pytest.Collector | None = None
        self.set_up_for: pytest.Item | None = None
        self.case: unittest.TestCase | None = None
        self.is_judged = False
        self._value: object = None
        self._searches: Searches | None = None
        self._holding: dict[str, TaskScope] = {}
        # Its scope on asyncio with the table, and how many references each had while nobody else knew of them.
        self._own: tuple[TaskScope, TaskTable] | None = None
        self._references: list[int] = []

    @property
    def searches(self) -> Searches:
        if self._searches is None:
            self._searches = Searches(self.settings)
        return self._searches

    @property
    def is_tagging(self) -> bool:
        """Whether what it spawns can be tagged.

        pytest-trio runs fixtures side by side in one context, where a tag of one would be another's.
        """
        # A fixture's value is not asked for its class: that can be a property of a user's.
        return module_of(class_of(self._value)) != "pytest_trio.plugin"

    def set_value(self, value: object, finalizers: object) -> None:
        """What a fixture's function has returned or yielded, and what is called when it is torn down."""
        self._value = value
        self.values += (value, finalizers)

    @functools.cached_property
    def defined_at(self) -> tuple[CodeType, int]:
        defined: Any = self._defined
        return defined_where(defined)

    def scope_on(self, backend: Backend, heir: TaskTable | None = None) -> TaskScope:
        """The scope that holds its tasks of one library.

        heir: who answers for what is spawned in its context when it has been let go. None: nobody, or who did before.
        """
        scope = self._holding.get(backend.name)
        if scope is None:
            scope = TaskScope._to_hold(backend, self.settings.policy, self.name)  # pyright: ignore[reportPrivateUsage]
            if backend is _asyncio:  # Trio's tasks keep nothing of what they have returned or raised
                scope._table.let_each_go()  # pyright: ignore[reportPrivateUsage]
            self._holding[backend.name] = scope
        if heir is not None:
            scope._table.parent = heir  # pyright: ignore[reportPrivateUsage]
        return scope

    def table_on(self, backend: Backend) -> TaskTable:
        return self.scope_on(backend)._table  # pyright: ignore[reportPrivateUsage]

    def begin_search(self) -> None:
        """Begins to see what it starts on the running loop, or in the running Trio, beside tasks."""
        self.searches.begin(self.table_on(backend_here()))

    def begin_search_outside(self) -> None:
        """The same where no loop runs."""
        if self.settings.policy.find is not TASKS_ONLY:
            self.searches.begin_outside(self.table_on(_asyncio))

    def let_main_go(self) -> None:
        """Says that the running task of asyncio's is what `asyncio.run` was given.

        That ends it itself, also where it was interrupted, and raises what it raises.
        """
        task = asyncio.tasks.current_task()
        assert task is not None
        self.table_on(_asyncio).take(task)

    def is_empty(self) -> bool:
        """Whether it has no task, not even one that has ended, and looks for nothing else."""
        for scope in self._holding.values():
            if scope._table.rows:  # pyright: ignore[reportPrivateUsage]
                return False
        return self._searches is None or not self._searches.are_any()

    def prepare(self, heir: TaskTable) -> None:
        """Makes its scope on asyncio, so that `is_unknown` can tell whether anybody else knows of that.

        heir: as in `scope_on`.
        """
        self._own = self.scope_on(_asyncio, heir), self.table_on(_asyncio)
        self._references = [*map(getrefcount, self._own)]

    def is_unknown(self) -> bool:
        """Whether nothing was ever its own, and no context leads to it, nor anybody who has asked which scope it is.

        False where it was not prepared.
        """
        if self._own is None or self._searches is not None or self.is_judged or len(self._holding) > 1:
            return False
        # Counted in C alone: how many references the interpreter has itself depends on how it runs the code.
        return not self._own[1].spawned and [*map(getrefcount, self._own)] == self._references

    def forget(self) -> None:
        """Makes one that is unknown as it was before it had made anything."""
        self.values.clear()
        self._value = self.node = self.set_up_for = None
        self.table_on(_asyncio).shadowed = None

    def is_searched_on(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether it looks for more than tasks on a loop. A look makes nothing that a user's test could count."""
        return self._searches is not None and loop in self._searches.loops()

    def pending(self) -> list[AnyTask]:
        return [task for table in self.tables() for task in self._pending_in(table)]

    def pending_on_asyncio(self) -> list[AnyTask]:
        scope = self._holding.get(_asyncio.name)
        return [] if scope is None else self._pending_in(scope._table)  # pyright: ignore[reportPrivateUsage]

    def _pending_in(self, table: TaskTable) -> list[AnyTask]:
        pending = table.pending()
        if self.case is None or not pending:
            return pending
        context = self.case_context()  # what unittest runs in it, it ends itself
        return [task for task in pending if context is None or task_context(task) is not context]

    def case_context(self) -> Context | None:
        """That in which unittest runs all that a test case has, made with the case. None of anything else."""
        return None if self.case is None else vars(self.case).get("_asyncioTestContext")

    def pending_on(self, loop: asyncio.AbstractEventLoop) -> list[AnyTask]:
        pending = [task for task in self.pending_on_asyncio() if task.get_loop() is loop]
        if self.kind != "loop":
            return pending
        # What comes from no closed scope has been handed off, by somebody who has said why it lives on.
        return [task for task in pending if self.table_on(_asyncio).closed_scope_of(task) is not None]

    def let_ended_go(self) -> None:
        """Holds only what is pending: a task that has ended holds its loop, which its test may want to see go."""
        for table in self.tables():
            for task in list(table.rows):
                if table.backend.is_done(task):
                    table.take(task)

    def let_go(self) -> None:
        """Holds nothing any more. What is spawned under its tag from here on goes to the next one outside."""
        if self._searches is not None:
            self._searches.finish()
        for scope in self._holding.values():
            scope._shut()  # pyright: ignore[reportPrivateUsage]

    def tables(self) -> list[TaskTable]:
        return [scope._table for scope in self._holding.values()]  # pyright: ignore[reportPrivateUsage]

    def starts(self) -> list[object]:
        """Where a walk begins that looks for what is this owner's."""
        from taskscope.pytest_plugin._named import with_namespace

        values = [part for value in self.values for part in with_namespace(value)]
        return [*values, *self.pending()] if self.case is None else [self.case, *values, *self.pending()]

    def named(self) -> list[object]:
        """Where else it begins: at what its code names. To find that takes longer than most walks."""
        from taskscope.pytest_plugin._enders import class_cleanups, enders_of_case, enders_of_fixture
        from taskscope.pytest_plugin._named import named_by

        if self.case is not None:
            return named_by(enders_of_case(self.case))
        test_class = self._test_class()
        named = named_by(enders_of_fixture(self.function, test_class, self.values))
        return [*named, *class_cleanups(self.function, test_class)]

    def _test_class(self) -> type | None:
        """The class of the test that a fixture was set up for. None in a wider scope than a class, or without one."""
        found = None if self.node is None else self.node.getparent(pytest.Class)
        return None if found is None else found.obj


def put_tag(owner: Owner | None) -> Token[TaskTable | None] | None:
    """Has what is spawned outside of any loop tagged with an owner, or with none. Returns what takes that back."""
    if owner is not None:
        return set_tag(owner.table_on(_asyncio))
    return None if tag.get(None) is None else tag.set(None)


def take_tag_back(token: Token[TaskTable | None] | None) -> None:
    if token is not None:
        tag.reset(token)
