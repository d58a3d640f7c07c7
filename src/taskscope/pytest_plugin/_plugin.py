"""The plugin proper: opens scopes round tests and fixtures, and acts on what is found."""

from __future__ import annotations

import asyncio
import functools
import importlib
from collections.abc import Generator
from dataclasses import replace
from typing import Any, Final, final

import pytest

from taskscope._clock import perf_counter
from taskscope._diagnosis.opaque import class_of
from taskscope._report import Report, TaskRecord
from taskscope.pytest_plugin._claims import ClaimsOf
from taskscope.pytest_plugin._collector import LettingGo
from taskscope.pytest_plugin._finalizers import Finalizers
from taskscope.pytest_plugin._fixtures import Judge, with_steps
from taskscope.pytest_plugin._functions import is_of_parameter
from taskscope.pytest_plugin._judging import judge_from_outside, judge_on
from taskscope.pytest_plugin._known_fixtures import KnownFixture
from taskscope.pytest_plugin._loops import Loops
from taskscope.pytest_plugin._outcome import Outcomes
from taskscope.pytest_plugin._owners import Owner, put_tag, take_tag_back
from taskscope.pytest_plugin._runs import Main, Runs
from taskscope.pytest_plugin._settings import SettingsOfSession
from taskscope.pytest_plugin._tests import TestRun

_HOW_ENDED: Final = {"fixture": "torn down", "finalizer": "called"}
"""What becomes in the end of those that can still end what they have when a test is over."""


@final
class Enforcement:
    """Registered where the plugin is switched on.

    pytest runs one thing at a time, so that at any time one test or fixture is what runs.
    """

    def __init__(self, settings: SettingsOfSession, outcomes: Outcomes) -> None:
        self._settings = settings
        self.outcomes = outcomes
        self._loops = Loops(self._settings.default, self._loop_closes)
        self._runs = Runs(self._loops.hold, self._wrap_main)
        self._judge = Judge(self._claims_of_others, self.outcomes.collect)
        # The fixtures that are set up, in that order.
        self._fixtures: dict[Any, Owner] = {}
        self._finalizers = Finalizers(settings)
        # By their definitions, all that have ever been set up.
        self._known: dict[Any, KnownFixture] = {}
        self._run: TestRun | None = None
        # What a test may put something else in the place of is bound while it is as it was.
        importlib.import_module("taskscope._diagnosis.collector")
        if self._settings.default.policy.watch is not None:
            for needed in ("_body", "_host"):  # or the first test would, on its loop, which may be slow to
                importlib.import_module(f"taskscope.{needed}")
        self._loops.patch()
        self._letting_go = LettingGo(self._fixtures.values)
        self._letting_go.start()

    def pytest_unconfigure(self) -> None:
        self._letting_go.stop()
        self._loops.let_go_of_all()
        self._runs.take_away()
        self._loops.unpatch()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in list(items):
            try:
                self._settings.of(item)
                self._settings.expected_leaks(item)
            except pytest.UsageError as error:
                if not hasattr(item.config, "workerinput"):
                    raise
                # For this pytest-xdist would break off with no word of it: it becomes an error of the collection.
                items.remove(item)
                report = pytest.CollectReport(item.nodeid, "failed", str(error), [])
                item.config.hook.pytest_collectreport(report=report)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_fixture_setup(self, fixturedef: Any, request: Any) -> Generator[None, Any, Any]:
        __tracebackhide__ = True
        function = fixturedef.func
        known = self._known.get(fixturedef)
        if known is None or known.function is not function:
            if is_of_parameter(function):
                return (yield)
            known = self._known[fixturedef] = self._know(fixturedef)
        node = request.node
        settings = self._settings.of(node)
        if settings is None:
            return (yield)
        owner = self._fixtures[fixturedef] = known.owner(settings, node, getattr(request, "_pyfuncitem", None))
        wrapped = known.wrapped
        if wrapped is function:
            owner.begin_search_outside()
            token = put_tag(owner)
            try:
                value = yield
            finally:
                take_tag_back(token)
        else:
            fixturedef.func = wrapped
            token = put_tag(None)
            try:
                value = yield
            finally:
                if fixturedef.func is wrapped:  # aiohttp's plugin puts its own there, for good
                    fixturedef.func = function
                take_tag_back(token)
        # What it has asked for meanwhile is torn down after it.
        self._fixtures[fixturedef] = self._fixtures.pop(fixturedef)
        # pytest has no public name for a fixture's finalizers, among which is the generator that a sync one is.
        finalizers: Any = getattr(fixturedef, "_finalizers", None)
        owner.set_value(value, finalizers)
        if issubclass(class_of(value), asyncio.events.AbstractEventLoop):
            self._loops.hold(value)
        return value

    def _know(self, fixturedef: Any) -> KnownFixture:
        find_owner = functools.partial(self._fixtures.get, fixturedef)
        wrapped = with_steps(fixturedef.func, find_owner, self._judge, self._loops.hold_running)
        return KnownFixture(fixturedef.argname, fixturedef.func, wrapped, self._loops.heir)

    def pytest_fixture_post_finalizer(self, fixturedef: Any) -> None:
        owner = self._fixtures.pop(fixturedef, None)
        if owner is None:
            return
        if owner.is_unknown():
            self._known[fixturedef].keep(owner)
        else:
            self._judge_from_outside(owner)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, Any, Any]:
        __tracebackhide__ = True
        self._finalizers.begin_setup(item)
        with self.outcomes.phase(item, "setup"):
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, Any, Any]:
        __tracebackhide__ = True
        with self.outcomes.phase(item, "teardown"):
            self._finalizers.begin_teardown()
            try:
                return (yield)
            finally:
                for owner in self._finalizers.end_teardown():
                    self._judge_from_outside(owner)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        __tracebackhide__ = True
        settings = self._settings.of(item)
        if settings is None or not isinstance(item, pytest.Function | pytest.DoctestItem):
            return (yield)
        expected = self._settings.expected_leaks(item)
        run = TestRun(
            item, settings, expected, self._loops, self._runs, self._owners, self._fixtures, self.outcomes.collect
        )
        self._run = run
        with self.outcomes.phase(item, "call", run):
            try:
                run.begin(self._begin_example, self.outcomes.end_example)
                return (yield)
            finally:
                try:
                    run.end()
                finally:
                    self._run = None

    # Inside of pytest-xdist's, which sends all that a worker has found.
    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self) -> Generator[None, Any, Any]:
        try:
            return (yield)
        finally:
            self._loops.let_go_of_all()
            self.outcomes.finish()

    def _begin_example(self, run: TestRun) -> None:
        self.outcomes.begin_example(run)
        run.ended_early = None

    def _claims_of_others(self, owner: Owner) -> ClaimsOf:
        return ClaimsOf(lambda: [other for other in self._owners() if other is not owner])

    def _owners(self) -> list[Owner]:
        """Who may have what somebody has left."""
        return [*self._fixtures.values(), *self._finalizers.owners()]

    def _judge_from_outside(self, owner: Owner) -> None:
        if not owner.is_empty():
            judge_from_outside(owner, ClaimsOf(self._owners), self.outcomes.collect)
        owner.let_go()

    def _loop_closes(self, loop: asyncio.AbstractEventLoop, beside: Owner) -> None:
        """What a loop that is closed would silently cancel is judged first, whosever it is."""
        owners = [beside, *self._fixtures.values(), *self._finalizers.made()]
        if self._run is not None:
            owners.append(self._run.owner)
        for owner in owners:
            if owner.is_empty():
                continue
            tasks = owner.pending_on(loop)
            if tasks or owner.is_searched_on(loop):
                is_early = owner.kind in _HOW_ENDED and not owner.is_judged
                began = perf_counter()
                judge_on(loop, owner, tasks, None, self._collect_early if is_early else self.outcomes.collect)
                if self._run is not None:
                    self._run.time.add_since(began)
            owner.let_ended_go()

    def _collect_early(self, owner: Owner, report: Report) -> None:
        """Takes what a fixture has left on a loop that is closed before the fixture is torn down."""
        why = f"its event loop is closed before {owner.name} is {_HOW_ENDED[owner.kind]}, which is too late to end it"
        self.outcomes.collect(
            owner,
            replace(report, leaks=_because(report.leaks, why), survivors=_because(report.survivors, why)),
        )

    def _wrap_main(self, main: Main) -> Main:
        return main if self._run is None else self._run.wrap_main(main)


def _because(records: tuple[TaskRecord, ...], why: str) -> tuple[TaskRecord, ...]:
    return tuple(replace(record, outcome_detail=record.outcome_detail or why) for record in records)
