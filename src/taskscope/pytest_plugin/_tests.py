"""One run of a test: a scope round its body, whichever plugin runs that in whichever loop."""

from __future__ import annotations

import fnmatch
import functools
import threading
import unittest
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final, final

import pytest

from taskscope._backends import _asyncio
from taskscope._backends._here import backend_here, runs_a_task
from taskscope._clock import perf_counter
from taskscope._policy import TASKS_ONLY, Find, Policy
from taskscope._report import Report, TaskRecord
from taskscope._scope import TaskScope
from taskscope._table import AnyTask, TaskTable
from taskscope.pytest_plugin._claims import ClaimsOf
from taskscope.pytest_plugin._examples import OurTime, async_example, example, handle_of
from taskscope.pytest_plugin._functions import is_coroutine_function
from taskscope.pytest_plugin._judging import Collect, judge_from_outside
from taskscope.pytest_plugin._loops import Loops
from taskscope.pytest_plugin._owners import Owner, put_tag, take_tag_back
from taskscope.pytest_plugin._runs import Main, Runs
from taskscope.pytest_plugin._searches import WITHOUT_LOOP, looking_not_for, looking_only_for
from taskscope.pytest_plugin._settings import Expected, Settings

if TYPE_CHECKING:
    from taskscope._closing import Claims
    from taskscope._diagnosis.proof import AtRest

CoroutineFunction = Callable[..., Coroutine[Any, Any, Any]]
ScopeOf = Callable[[Mapping[str, Any]], tuple[TaskScope, TaskTable | None]]

WATCH_AGAIN = 0.01
"""Seconds between looks at the examples of a property test of which one has hung."""

# Of these nothing is left to look at once the scope has ended in which the task was spawned.
_LOST_WITH_MAIN: Final[frozenset[Find]] = frozenset({"unretrieved", "untracked"})

# The coroutine that `asyncio.run` was given.
_GIVEN = 1


@final
class TestRun:
    """A call of a test function, a run of a doctest, or that of a test case's method with what is set up round it.

    Attributes:
        owner: Holds what belongs to no scope round an async body: what a test that is no coroutine function spawns, and
            what a test case does in its `asyncSetUp`.
        ended_early: The report of a body that was proven deadlocked or had its time up; None otherwise.
        time: That of the test which is ours.
    """

    __test__ = False

    def __init__(
        self,
        item: pytest.Function | pytest.DoctestItem,
        settings: Settings,
        expected: Expected | None,
        loops: Loops,
        runs: Runs,
        others: Callable[[], Iterable[Owner]],
        fixtures: Mapping[Any, Owner],
        tell: Collect,
    ) -> None:
        self.item = item
        self.settings = settings
        self.ended_early: Report | None = None
        self.time = OurTime()
        self._loops = loops
        self._runs = runs
        self._others = others
        self._fixtures = fixtures
        self._tell = tell
        self._undo = ExitStack()
        self._function: Any = item.obj if isinstance(item, pytest.Function) else item.runtest
        self._instance: object = item.instance if isinstance(item, pytest.Function) else None
        self._case = self._instance if isinstance(self._instance, unittest.TestCase) else None
        self._has_own_loop = isinstance(self._case, unittest.IsolatedAsyncioTestCase)
        self._is_sync = False
        self._expected = expected
        self._seen: set[str] = set()
        self._thread = threading.get_ident()
        self._threads_before: set[int | None] = set()
        kind = "test" if self._case is None else "case"
        self.owner = Owner(item.nodeid, kind, settings, self._function)
        self.owner.case = self._case

    @functools.cached_property
    def _policy(self) -> Policy:
        """That of its scopes. Most tests that are no coroutine functions have none."""
        return self.settings.policy._replace(on_report=self._told)

    def begin(
        self, begin_example: Callable[[TestRun], None], end_example: Callable[[pytest.Item, TestRun], None]
    ) -> None:
        """Has the test's function run in a scope. `end` takes that back, also where this has raised.

        begin_example: called before every example of a property test.
        end_example: called after it. Raises where the test is to fail with this example.
        """
        handle = handle_of(self._function)
        function: Any = self._function if handle is None else handle.inner_test
        is_async = is_coroutine_function(function)
        self._put_tag(is_async=is_async)
        if handle is not None:
            begin = functools.partial(begin_example, self)
            end = functools.partial(end_example, self.item, self)
            self._put_in_examples(handle, function, begin, end, is_async=is_async)
        elif is_async:
            self._put_in_place(self._in_scope(function))

    def end(self) -> None:
        """Judges what the test has left outside of a scope, and leaves the test as it was."""
        try:
            self._judge()
            self.owner.let_go()
        finally:
            self._runs.look_away()
            self._undo.close()
            # It leads back here, and would leave the test's instance to the garbage collector.
            vars(self).pop("_policy", None)

    def wrap_main(self, main: Main) -> Main:
        """What a test that is no coroutine function has run, watched. What it leaves is the test's, which goes on.

        Of a test case that has a loop of its own, what it has run there is not watched.
        """
        if self._is_anothers_thread():
            return main
        if not self._is_sync:
            return self._on_loop_of_case(main) if self._has_own_loop else main
        policy = self._policy
        if threading.get_ident() != self._thread:
            # What the test has started beside itself is no body of its: that it never ends can be what it is for.
            policy = policy._replace(watch=None, timeout=None)

        def scope_of(values: Mapping[str, Any]) -> tuple[TaskScope, TaskTable | None]:
            backend = backend_here()
            claims = self._claims({})
            if backend is _asyncio:
                self.owner.let_main_go()
                self.owner.begin_search()
                scope = self._scope(looking_only_for(policy, _LOST_WITH_MAIN), self._all_mine, claims)
                scope._given = _GIVEN  # pyright: ignore[reportPrivateUsage]
            else:  # where the main task is in no table, and nothing is left when it has ended but what needs no loop
                scope = self._scope(looking_not_for(policy, WITHOUT_LOOP), None, claims)
            return scope, self.owner.table_on(backend)

        return self._in(scope_of, main)

    def _is_anothers_thread(self) -> bool:
        """Whether this thread was there before the test: a fixture's, and what it runs is not the test's."""
        here = threading.get_ident()
        return here != self._thread and here in self._threads_before

    def _on_loop_of_case(self, main: Main) -> Main:
        if self.owner.searches.loops():
            return main

        async def on_loop(*args: Any, **kwargs: Any) -> Any:
            __tracebackhide__ = True
            self.owner.begin_search()
            return await main(*args, **kwargs)

        return on_loop

    def split(self, leaks: tuple[TaskRecord, ...]) -> tuple[tuple[TaskRecord, ...], tuple[TaskRecord, ...]]:
        """The leaks that the test says it has, and the others."""
        if self._expected is None:
            return (), leaks
        expected: list[TaskRecord] = []
        for leak in leaks:
            names = [name for name in self._expected.coroutines if fnmatch.fnmatchcase(leak.coroutine, name)]
            self._seen.update(names)
            if names:
                expected.append(leak)
        return tuple(expected), tuple(leak for leak in leaks if leak not in expected)

    def is_uneventful(self) -> bool:
        """Whether it has ended as any test does of which there is nothing to tell."""
        return self.ended_early is None and self._expected is None and self.own_failure() is None

    def expected_but_absent(self) -> list[str]:
        """What is wrong with a test that has not left what it says it does."""
        if self._expected is None:
            return []
        absent = [name for name in self._expected.required if name not in self._seen]
        if not absent:
            return []
        names = ", ".join(absent)
        return [f"taskscope: the test is marked to leak {names}, and has not. If it is mended, take the mark away."]

    def has_ended_with(self, error: BaseException) -> bool:
        """Whether that is what its scope has ended the body with, and nothing of the test's own."""
        if self.ended_early is None:
            return False
        if isinstance(self.item, pytest.DoctestItem):  # doctest's own exception has that of the example
            error = getattr(error, "exc_info", (None, error))[1]
        return getattr(error, "report", None) is self.ended_early

    def own_failure(self) -> BaseException | None:
        """A failure, or a skip, of this test that unittest has and pytest does not see as an exception."""
        found: list[pytest.ExceptionInfo[BaseException]] | None = getattr(self.item, "_excinfo", None)
        return found[-1].value if found else None

    def replace_failure(self, error: BaseException) -> None:
        """Puts another one in the place of that."""
        try:
            raise error
        except BaseException:
            vars(self.item)["_excinfo"] = [pytest.ExceptionInfo.from_current()]

    def _put_in_place(self, function: CoroutineFunction) -> None:
        """Has the test run another function."""
        item: Any = self.item
        if self._case is None:
            self._undo.callback(setattr, item, "obj", item.obj)
            item.obj = function
            return
        # unittest takes the method from the test case, where it is not of its own
        name = item.originalname or item.name
        setattr(self._case, name, function)
        self._undo.callback(delattr, self._case, name)

    def _put_in_examples(
        self, handle: Any, function: Any, begin: Callable[[], None], end: Callable[[], None], *, is_async: bool
    ) -> None:
        """The same for a property test, of which each example runs another one."""
        self._undo.callback(setattr, handle, "inner_test", function)
        if is_async:
            handle.inner_test = async_example(self._in_scope(function), begin, end, self.time)
        elif self._is_sync:
            begin_sync = functools.partial(self._begin_sync_example, begin)
            handle.inner_test = example(function, begin_sync, self._judge, end, self.time)

    def _begin_sync_example(self, begin_example: Callable[[], None]) -> None:
        begin_example()
        self.owner.begin_search_outside()  # again, for what is judged is not looked for any more

    def _judge(self) -> None:
        if self.owner.is_empty():
            return
        began = perf_counter()
        try:
            claims = ClaimsOf(self._others, instance=self._instance)
            judge_from_outside(self.owner, claims, self._tell)
        finally:
            self.time.add_since(began)

    def _put_tag(self, *, is_async: bool) -> None:
        self._is_sync = not is_async and not self._has_own_loop
        if self._is_sync or self._has_own_loop:  # others run nothing that is asked whose it is
            self._threads_before.update(thread.ident for thread in threading.enumerate())
        if self._is_sync:
            self._runs.watch()
            self.owner.begin_search_outside()
        elif self._has_own_loop and self.settings.policy.find is not TASKS_ONLY:
            self._runs.watch()
        elif self._runs.are_in_place:
            self._runs.take_away()
        token = put_tag(self.owner if self._is_sync or self._has_own_loop else None)
        self._undo.callback(take_tag_back, token)
        context = self.owner.case_context()
        if context is not None:  # it was made before, without the tag
            self._undo.callback(context.run, take_tag_back, context.run(put_tag, self.owner))

    def _in_scope(self, function: CoroutineFunction) -> CoroutineFunction:
        def scope_of(values: Mapping[str, Any]) -> tuple[TaskScope, TaskTable | None]:
            heir = self._loops.hold_running()
            claims = self._claims(values)
            return self._scope(self._policy, claims.tasks, claims), heir

        return functools.wraps(function)(self._in(scope_of, function))

    def _in(self, scope_of: ScopeOf, function: Main) -> CoroutineFunction:
        """A function whose coroutine awaits the other's in a scope. It is one frame alone on every stack noted there.

        scope_of: given the arguments' values, makes the scope, with who answers for what is spawned from the scope's
            context when it has ended.
        """

        async def in_scope(*args: Any, **kwargs: Any) -> Any:
            __tracebackhide__ = True
            if not runs_a_task():  # but a library of which nothing is known
                return await function(*args, **kwargs)
            scope, heir = scope_of(kwargs)
            ended: float | None = None
            try:
                async with scope:
                    self._has_begun(scope, heir)
                    try:
                        return await function(*args, **kwargs)
                    finally:
                        ended = perf_counter()
            finally:
                scope._table.at_rest = None  # pyright: ignore[reportPrivateUsage]
                if ended is not None:
                    self.time.add_since(ended)

        return in_scope

    def _has_begun(self, scope: TaskScope, heir: TaskTable | None) -> None:
        table = scope._table  # pyright: ignore[reportPrivateUsage]
        if table.parent is None:
            table.parent = heir
        if table.backend is _asyncio:
            table.let_each_go()

    def _scope(self, policy: Policy, claims: Claims | None, others: ClaimsOf) -> TaskScope:
        """claims: who else has the tasks.
        others: who else has other things.
        """
        owner = self.owner
        scope = TaskScope._of(  # pyright: ignore[reportPrivateUsage]
            policy, owner.name, owner.defined_at, claims, others.things
        )
        scope._table.at_rest = functools.partial(self._at_rest, others)  # pyright: ignore[reportPrivateUsage]
        return scope

    def _claims(self, values: Mapping[str, Any]) -> ClaimsOf:
        mine = [] if self._case is None else [self.owner]
        # A test case's loop is closed before any fixture is torn down: the case first.
        return ClaimsOf(lambda: [*mine, *self._others()], values, self._instance)

    def _at_rest(self, claims: ClaimsOf) -> AtRest:
        from taskscope.pytest_plugin._at_rest import at_rest

        return at_rest(self.item, self._fixtures, [self, self.owner, claims, *self._fixtures.values()])

    def _all_mine(self, tasks: list[AnyTask]) -> dict[AnyTask, tuple[TaskTable, str]]:
        return dict.fromkeys(tasks, (self.owner.table_on(_asyncio), "the test goes on"))

    def _told(self, report: Report) -> None:
        if report.phase == "body":
            self.ended_early = report
            if self._policy.watch is not None and handle_of(self._function) is not None:
                # Hypothesis runs examples that fail again, hundreds of times where it looks for the smallest.
                self._policy = self._policy._replace(watch=min(self._policy.watch, WATCH_AGAIN))
        else:
            self._tell(self.owner, report)
