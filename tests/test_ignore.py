"""Ignore rules: a task that matches one stays as it is, and every other one is a leak as ever."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import AsyncIterator, Callable
from typing import Any
from weakref import WeakKeyDictionary

import anyio.to_process
import pytest
from conftest import Run
from hypothesis import given
from hypothesis import strategies as st
from parity import ASYNCIO, COLUMNS, THERE, Column, Library

import taskscope
from taskscope import Ignore, Report, ScopeTimeoutError, TaskLeakError, TaskScope, _left_alone, _matching, scoped
from taskscope._builtin_rules import BUILTIN_RULES
from taskscope._policy import DEFAULT_POLICY, Policy

LONG = 60.0
"""Seconds of grace that no test lives to see the end of: whoever waits for them fails."""


@pytest.fixture(params=THERE, ids=lambda column: column.name)
def column(request: pytest.FixtureRequest) -> Column:
    found: Column = request.param
    return found


class Client:
    """Has a task that waits for an event, and tells how that ended."""

    def __init__(self, library: Library) -> None:
        self.library = library
        self.closing = library.event()
        self.ends: list[str] = []

    async def read(self) -> None:
        try:
            await self.closing.wait()
        except BaseException:
            self.ends.append("cancelled")
            raise
        self.ends.append("closed")

    async def read_under_another_name(self) -> None:
        await self.read()


def run_with_reader(column: Column, *rules: Ignore, **policy: Any) -> tuple[Report, list[str]]:
    """The report of a scope that a client's task outlives, and how that task ended."""

    async def main(library: Library) -> tuple[Report, list[str]]:
        client = Client(library)
        scope = TaskScope("mine", ignore=rules, **{"grace": 0.01, "on_leak": "ignore", **policy})
        async with library.group() as group:
            async with scope:
                library.spawner(group)(client.read, name="reader-1")
                await library.settle()
            client.closing.set()
        return scope.report, client.ends

    result: tuple[Report, list[str]] = column.run(main)
    return result


def spawner_of(column: Column) -> str:
    """The file and the function that spawn: asyncio has no `start_soon`, there it is a function of ours."""
    if column.library is ASYNCIO:
        return "parity.py:_spawner_of_asyncio.<locals>.spawn"
    return "test_ignore.py:run_with_reader.<locals>.main"


# Each condition, met and not met


def rule(**conditions: str) -> Ignore:
    return Ignore(**conditions, reason="it ends with the program")


MET: list[Callable[[Column], Ignore]] = [
    lambda column: rule(coroutine="Client.read"),
    lambda column: rule(coroutine="*.read"),
    lambda column: rule(coroutine="test_ignore.Client.read"),
    lambda column: rule(coroutine="test_*"),
    lambda column: rule(task="reader-1"),
    lambda column: rule(task="reader-[0-9]"),
    lambda column: rule(spawn_site=f"*/{spawner_of(column)}"),
    lambda column: rule(spawn_site="*/" + spawner_of(column).partition(":")[0]),
    lambda column: rule(spawn_site="*/tests/*"),
    lambda column: rule(wait="Event.wait"),
    lambda column: rule(wait="Event.*"),
    lambda column: rule(coroutine="*read", task="reader-*", spawn_site="*.py", wait="*"),
]
NOT_MET: list[Callable[[Column], Ignore]] = [
    lambda column: rule(coroutine="read"),
    lambda column: rule(coroutine="client.read"),
    lambda column: rule(coroutine="ignore.Client.read"),
    lambda column: rule(coroutine="Client.rea"),
    lambda column: rule(task="Reader-1"),
    lambda column: rule(task="reader-?1"),
    lambda column: rule(spawn_site=spawner_of(column)),
    lambda column: rule(spawn_site="*/" + spawner_of(column).replace("_", "-")),
    lambda column: rule(spawn_site="*/tests"),
    lambda column: rule(wait="Lock.acquire"),
    lambda column: rule(wait="event.wait"),
    lambda column: rule(coroutine="Client.write", task="reader-*", spawn_site="*.py", wait="*"),
    lambda column: rule(coroutine="*read", task="writer-*", spawn_site="*.py", wait="*"),
    lambda column: rule(coroutine="*read", task="reader-*", spawn_site="*.pyc", wait="*"),
    lambda column: rule(coroutine="*read", task="reader-*", spawn_site="*.py", wait="Queue.*"),
]


def rules_as_ids(makers: list[Callable[[Column], Ignore]]) -> list[str]:
    return [str(maker(COLUMNS[0])) for maker in makers]


@pytest.mark.parametrize("make", MET, ids=rules_as_ids(MET))
def test_a_task_that_matches_is_left_alone(column: Column, make: Callable[[Column], Ignore]) -> None:
    ignore = make(column)
    report, ends = run_with_reader(column, rule(task="another"), ignore, grace=LONG, on_leak="raise")
    assert report.ok and not report.late and report.settled_after < LONG / 2
    assert ends == ["closed"], "it was not cancelled"
    (record,) = report.ignored
    assert (record.name, record.coroutine) == ("reader-1", "Client.read")
    assert (record.outcome, record.outcome_detail) == (None, "it ends with the program")
    assert record.rule == str(ignore)
    assert record.wait is not None and record.wait.primitive == "Event.wait"


@pytest.mark.parametrize("make", NOT_MET, ids=rules_as_ids(NOT_MET))
def test_a_task_that_does_not_match_is_a_leak(column: Column, make: Callable[[Column], Ignore]) -> None:
    report, ends = run_with_reader(column, make(column))
    assert not report.ok and not report.ignored
    (leak,) = report.leaks
    assert (leak.name, leak.outcome, leak.rule) == ("reader-1", "cancelled", None)
    assert ends == ["cancelled"]


def test_the_first_of_the_rules_that_match_is_the_one_that_is_told(column: Column) -> None:
    first, second = Ignore(task="reader-*", reason="first"), Ignore("Client.read", reason="second")
    report, _ = run_with_reader(column, first, second)
    assert [(record.rule, record.outcome_detail) for record in report.ignored] == [("task='reader-*'", "first")]


def test_of_a_task_whose_spawn_was_not_noted_no_place_is_known(column: Column) -> None:
    report, _ = run_with_reader(column, rule(spawn_site="*"), spawn_site="off")
    assert len(report.leaks) == 1
    report, _ = run_with_reader(column, rule(spawn_site="*"), spawn_site="stack")
    assert len(report.ignored) == 1


def test_leaks_beside_it_are_found_and_cancelled(column: Column) -> None:
    async def main(library: Library) -> tuple[Report, list[str], list[str]]:
        kept, leaky = Client(library), Client(library)
        async with library.group() as group:
            spawn = library.spawner(group)
            with pytest.raises(TaskLeakError) as caught:
                async with TaskScope(grace=0.01, ignore=[rule(coroutine="Client.read")]):
                    spawn(kept.read, name="kept")
                    spawn(leaky.read_under_another_name, name="leaky")
                    await library.settle()
            kept.closing.set()
        return caught.value.report, kept.ends, leaky.ends

    report, kept, leaky = column.run(main)
    assert [record.name for record in report.ignored] == ["kept"] and kept == ["closed"]
    assert [record.name for record in report.leaks] == ["leaky"] and leaky == ["cancelled"]


# When the rules are asked


def test_a_wait_is_asked_for_again_when_the_grace_is_over(column: Column) -> None:
    async def main(library: Library, wait: str) -> tuple[Report, list[str]]:
        client = Client(library)
        reached = library.event()

        async def connect_and_read() -> None:
            await reached.wait()  # which is no lock
            await in_lock()

        async def in_lock() -> None:
            async with lock:
                client.ends.append("closed")

        lock = library.lock()
        scope = TaskScope(grace=0.01, on_leak="ignore", ignore=[rule(wait=wait)])
        async with library.group() as group:
            async with lock:
                async with scope:
                    library.spawner(group)(connect_and_read)
                    await library.settle()
                    reached.set()  # it goes on when the body has ended
        return scope.report, client.ends

    report, ends = column.run(lambda library: main(library, "Lock.*"))
    assert report.ok and [record.rule for record in report.ignored] == ["wait='Lock.*'"] and ends == ["closed"]
    report, ends = column.run(lambda library: main(library, "Queue.*"))
    assert len(report.leaks) == 1 and not report.ignored and not ends


def test_a_name_may_be_given_during_the_grace(run: Run) -> None:
    async def main(name: str) -> Report:
        async def worker() -> None:
            await asyncio.sleep(0)
            task = asyncio.current_task()
            assert task is not None
            task.set_name(name)
            await asyncio.Event().wait()

        async with TaskScope(grace=0.01, on_leak="ignore", ignore=[rule(task="worker")]) as scope:
            kept = asyncio.create_task(worker(), name="new")
        kept.cancel()
        return scope.report

    assert [record.name for record in run(lambda: main("worker")).ignored] == ["worker"]
    assert [record.name for record in run(lambda: main("walker")).leaks] == ["walker"]


def test_what_is_spawned_during_the_grace_is_asked_too(column: Column) -> None:
    async def main(library: Library) -> tuple[Report, list[str], list[str]]:
        kept, leaky, go = Client(library), Client(library), library.event()
        scope = TaskScope(grace=0.05, on_leak="ignore", ignore=[rule(task="kept")])
        async with library.group() as group:
            spawn = library.spawner(group)

            async def starter() -> None:
                await go.wait()
                spawn(kept.read, name="kept")
                spawn(leaky.read, name="leaky")

            async with scope:
                spawn(starter, name="starter")
                await library.settle()
                go.set()
            kept.closing.set()
        return scope.report, kept.ends, leaky.ends

    report, kept, leaky = column.run(main)
    assert [record.name for record in report.late] == ["starter"]
    assert [record.name for record in report.ignored] == ["kept"] and kept == ["closed"]
    assert [record.name for record in report.leaks] == ["leaky"] and leaky == ["cancelled"]


def test_one_that_ends_while_others_are_cancelled_is_told_once(column: Column) -> None:
    async def main(library: Library) -> Report:
        kept = Client(library)
        scope = TaskScope(grace=0.01, on_leak="ignore", ignore=[rule(task="kept", wait="Event.wait")])

        async def leaky() -> None:
            try:
                await library.event().wait()
            finally:
                kept.closing.set()

        async with library.group() as group:
            spawn = library.spawner(group)
            async with scope:
                spawn(leaky, name="leaky")
                spawn(kept.read, name="kept")  # which waits for nothing before the body has ended
        assert kept.ends == ["closed"]
        return scope.report

    report = column.run(main)
    assert ([leak.name for leak in report.leaks], [record.name for record in report.ignored]) == (["leaky"], ["kept"])
    assert not report.late


def test_nothing_is_asked_where_nothing_is_left(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(_left_alone, "matching_rule", lambda *_: asked.append("user's"))
    monkeypatch.setattr(_left_alone, "builtin_rule", lambda *_: asked.append("built in"))

    async def main(waits: bool) -> None:
        async with TaskScope(ignore=[rule(task="*")]) as scope:
            task = asyncio.create_task(asyncio.sleep(0))
            if waits:
                await task
            scope.snapshot()

    run(lambda: main(waits=True))
    assert not asked
    run(lambda: main(waits=False))
    assert asked == ["user's", "built in"]


def test_what_a_task_waits_for_is_found_out_last(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[object] = []
    look = _matching._primitives
    monkeypatch.setattr(_matching, "_primitives", lambda *args: looked_at.append(args) or look(*args))

    async def main(*rules: Ignore) -> int:
        async with TaskScope(grace=0, on_leak="ignore", ignore=rules) as scope:
            task = asyncio.create_task(asyncio.Event().wait(), name="worker")
            await asyncio.sleep(0)
        task.cancel()
        return len(scope.report.ignored)

    assert (
        run(lambda: main(rule(task="x", wait="*"), rule(spawn_site="x", wait="*"), rule(coroutine="x", wait="*"))) == 0
    )
    assert not looked_at
    assert run(lambda: main(rule(task="worker", wait="*"))) == 1
    assert len(looked_at) == 1


# What becomes of it


def test_the_report_tells_of_it(column: Column) -> None:
    told: list[Report] = []
    report, _ = run_with_reader(column, rule(coroutine="Client.read", task="r*"), on_report=told.append)
    assert told == [report]
    text = report.format()
    assert "Left alone: Client.read" in text
    assert "  because     it ends with the program\n" in text + "\n"
    assert "  rule        coroutine='Client.read' task='r*'\n" in text + "\n"
    data = report.to_dict()
    assert data["ok"] is True and data["format_version"] == 1
    assert data["ignored"][0]["rule"] == "coroutine='Client.read' task='r*'"
    assert pickle.loads(pickle.dumps(report)) == report


@pytest.mark.parametrize("conditions", [{"task": "kept"}, {"task": "kept", "wait": "*.__aexit__"}], ids=str)
def test_tasks_in_its_own_groups_stay_with_it(column: Column, conditions: dict[str, str]) -> None:
    async def main(library: Library) -> tuple[Report, list[str], list[str]]:
        part, leaky = Client(library), Client(library)
        scope = TaskScope(grace=0.01, on_leak="ignore", ignore=[rule(**conditions)])
        async with library.group() as outer:

            async def kept() -> None:
                async with library.group() as group:
                    library.spawner(group)(part.read, name="part")
                    library.spawner(outer)(leaky.read, name="leaky")

            async with scope:
                library.spawner(outer)(kept, name="kept")
                if "wait" not in conditions:
                    await library.settle()  # otherwise it comes to where it waits when the body has ended
            part.closing.set()
        return scope.report, part.ends, leaky.ends

    report, part, leaky = column.run(main)
    assert [record.name for record in report.ignored] == ["kept", "part"] and part == ["closed"]
    assert [record.name for record in report.leaks] == ["leaky"] and leaky == ["cancelled"]
    of_part = report.ignored[1]
    assert of_part.rule == str(rule(**conditions))
    assert (of_part.outcome_detail or "").startswith(f"it is in a {column.library.group_kind} opened in ")


def test_no_scope_outside_answers_for_it(column: Column) -> None:
    async def main(library: Library) -> tuple[Report, list[str]]:
        client = Client(library)
        outer = TaskScope(grace=0.01)
        async with library.group() as group:
            async with outer:
                async with TaskScope(ignore=[rule(task="reader")]):
                    library.spawner(group)(client.read, name="reader")
                    await library.settle()
            client.closing.set()
        return outer.report, client.ends

    report, ends = column.run(main)
    assert report.ok and not report.inherited and ends == ["closed"]


def test_many_are_counted(run_asyncio: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_left_alone, "IGNORED_LIMIT", 3)

    async def main() -> Report:
        scope = TaskScope(timeout=0.01, ignore=[rule(task="*")])
        with pytest.raises(ScopeTimeoutError):
            async with scope:
                tasks = [asyncio.create_task(asyncio.Event().wait()) for _ in range(5)]
                await asyncio.Event().wait()
        assert not any(task.done() for task in tasks)
        for task in tasks:
            task.cancel()
        return scope.report

    report = run_asyncio(main)
    assert not report.leaks and len(report.ignored) == 3
    assert "2 more tasks were left alone, too many to describe" in report.coverage


def test_it_is_no_leak_of_a_body_that_took_too_long(column: Column) -> None:
    async def main(library: Library) -> tuple[Report, list[str]]:
        kept, leaky = Client(library), Client(library)
        async with library.group() as group:
            spawn = library.spawner(group)
            with pytest.raises(ScopeTimeoutError) as caught:
                async with TaskScope(timeout=0.02, grace=0.01, ignore=[rule(task="kept")]):
                    spawn(kept.read, name="kept")
                    spawn(leaky.read, name="leaky")
                    await library.event().wait()
            kept.closing.set()
        return caught.value.report, kept.ends

    report, ends = column.run(main)
    assert [record.name for record in report.leaks] == ["leaky"]
    assert [record.name for record in report.ignored] == ["kept"] and ends == ["closed"]


def test_a_body_that_is_destroyed_leaves_it_alone(run: Run) -> None:
    async def main(*rules: Ignore) -> tuple[Report, list[str]]:
        client = Client(ASYNCIO)
        scope = TaskScope(ignore=rules, on_leak="ignore")

        async def body() -> None:
            async with scope:
                tasks.append(asyncio.create_task(client.read(), name="reader"))
                await asyncio.sleep(0)

        tasks: list[asyncio.Task[None]] = []
        coro = body()
        coro.send(None)
        await asyncio.sleep(0)
        coro.close()
        await asyncio.sleep(0)
        client.closing.set()
        await asyncio.wait(tasks)
        return scope.report, client.ends

    report, ends = run(lambda: main(rule(task="reader")))
    assert report.ok and [record.rule for record in report.ignored] == ["task='reader'"] and ends == ["closed"]
    report, ends = run(lambda: main(rule(task="writer")))
    assert [record.name for record in report.leaks] == ["reader"] and not report.ignored and ends == ["cancelled"]


def test_that_it_is_kept_count_of_keeps_nothing_from_being_proven(column: Column) -> None:
    async def main(library: Library) -> Report:
        async def wait(event: Any) -> None:
            await event.wait()

        def spawn_both(spawn: Any) -> None:
            event = library.event()
            for name in ("kept", "leaky"):
                spawn(wait, event, name=name)

        scope = TaskScope(grace=0.01, on_leak="ignore", ignore=[rule(task="kept")])
        if library is ASYNCIO:  # whoever has a group of its can cancel what is in it
            async with scope:
                spawn_both(lambda function, event, name: asyncio.create_task(function(event), name=name) and None)
                await library.settle()
            return scope.report
        async with library.group() as group:
            async with scope:
                spawn_both(group.start_soon)
                await library.settle()
            group.cancel_scope.cancel()
        return scope.report

    report = column.run(main)
    assert [(leak.name, leak.verdict) for leak in report.leaks] == [("leaky", "deadlocked")]
    assert [record.name for record in report.ignored] == ["kept"]


def test_nor_does_it_while_the_scope_is_ending(run: Run) -> None:
    async def main() -> tuple[Report, Report]:
        async def wait(event: asyncio.Event) -> None:
            await event.wait()

        async def look() -> Report:
            return taskscope.find_deadlocked()

        async with TaskScope(ignore=[rule(task="kept")]) as scope:
            asyncio.create_task(wait(asyncio.Event()), name="kept")
            await asyncio.sleep(0)
            looks = asyncio.create_task(starts_late(look))
        return scope.report, looks.result()

    async def starts_late(look: Callable[[], Any]) -> Report:
        await asyncio.sleep(0)
        found: Report = await look()
        return found

    report, found = run(main)
    assert [record.name for record in report.ignored] == ["kept"]
    assert [(leak.name, leak.verdict) for leak in found.leaks] == [("kept", "deadlocked")]


# Every way in


def test_scoped_run_and_install_take_rules(run_asyncio: Run) -> None:
    ignore = (rule(task="kept"),)

    async def spawn() -> asyncio.Task[Any]:
        return asyncio.create_task(asyncio.Event().wait(), name="kept")

    async def main() -> None:
        with pytest.raises(TaskLeakError):
            await scoped(grace=0)(spawn)()
        (await scoped(ignore=ignore, grace=LONG)(spawn)()).cancel()

        installation = taskscope.install(root="app", ignore=ignore, grace=LONG, on_leak="raise")
        kept = await spawn()
        await installation.aclose()
        report = installation.report
        assert report is not None and len(report.ignored) == 1 and not kept.done()
        kept.cancel()

    run_asyncio(main)
    reports: list[Report] = []
    taskscope.run(spawn(), ignore=ignore, grace=LONG, on_report=reports.append)
    assert [len(report.ignored) for report in reports] == [1]


# Rules that are built in


def by_policy(policy: Policy) -> TaskScope:
    return TaskScope._of(policy, "mine", (by_policy.__code__, -1))


async def computes_in_a_process() -> None:
    assert await anyio.to_process.run_sync(abs, -1) == 1


_runners: WeakKeyDictionary[asyncio.AbstractEventLoop, Any] = WeakKeyDictionary()


async def runs_a_test() -> None:
    from anyio._backends._asyncio import TestRunner

    class OnThisLoop(TestRunner):
        get_loop = staticmethod(asyncio.get_running_loop)

    async def test() -> None: ...

    runner = _runners.setdefault(asyncio.get_running_loop(), OnThisLoop())
    if runner._runner_task is not None and runner._runner_task.done():  # a scope has ended it
        runner._runner_task = None
    await runner._call_in_runner_task(test)


async def answers_with_events() -> None:
    from sse_starlette import EventSourceResponse

    async def events() -> AsyncIterator[dict[str, str]]:
        yield {"data": "an event"}

    async def receive() -> None:
        await asyncio.Event().wait()

    async def send(message: dict[str, Any]) -> None: ...

    await EventSourceResponse(events())({"type": "http", "method": "GET"}, receive, send)  # type: ignore[arg-type]


USERS = {
    "anyio._backends._asyncio._shutdown_process_pool_on_exit": computes_in_a_process,
    "anyio._backends._asyncio.TestRunner._run_tests_and_fixtures": runs_a_test,
    "sse_starlette.sse._shutdown_watcher": answers_with_events,
}


def test_each_has_a_program_that_needs_it() -> None:
    assert [f"coroutine={name!r}" for name in USERS] == [str(built_in) for built_in in BUILTIN_RULES]
    assert len({built_in.function for built_in in BUILTIN_RULES}) == len(BUILTIN_RULES)


@pytest.mark.parametrize("name", USERS)
def test_they_apply_unless_switched_off(run_asyncio: Run, name: str) -> None:
    async def main(policy: Policy) -> list[Report]:
        scopes = [by_policy(policy._replace(grace=0.01, on_leak="ignore")) for _ in range(2)]
        for scope in scopes:
            async with scope:
                await USERS[name]()
        return [scope.report for scope in scopes]

    first, second = run_asyncio(lambda: main(DEFAULT_POLICY))
    assert first.ok and [record.rule for record in first.ignored] == [f"coroutine={name!r}"]
    assert "for as long as the loop runs" in (first.ignored[0].outcome_detail or "")
    assert second.ok and not second.ignored, "the first one serves the whole loop"
    first, second = run_asyncio(lambda: main(DEFAULT_POLICY._replace(ignore_builtin=False)))
    [leak] = first.leaks
    # AnyIO's runner is told by what it runs, and that is nothing between two tests
    assert name.endswith(f".{leak.coroutine}") or leak.coroutine == "UnreliableObjectReceiveStream.__anext__"


@pytest.mark.parametrize("built_in", BUILTIN_RULES, ids=str)
def test_a_users_function_of_the_same_name_is_another_one(run: Run, built_in: Any) -> None:
    async def function() -> None:
        await asyncio.Event().wait()

    function.__qualname__ = function.__name__ = built_in.function
    function.__module__ = f"{built_in.package}.{built_in.module}"
    function.__code__ = function.__code__.replace(co_name=built_in.function, co_qualname=built_in.function)

    async def main() -> Report:
        async with TaskScope(grace=0.01, on_leak="ignore") as scope:
            asyncio.create_task(function())
        return scope.report

    report = run(main)
    assert [leak.coroutine for leak in report.leaks] == [built_in.function] and not report.ignored


# The rule itself


class Word(str):
    """A string of another class."""

    def __str__(self) -> str:
        return "not the value"


def test_a_rule_is_plain_data() -> None:
    one = Ignore("Client._read", task="reader-*", spawn_site="*/client.py", wait="Queue.get", reason="it stays")
    assert one == Ignore(
        coroutine="Client._read", task="reader-*", spawn_site="*/client.py", wait="Queue.get", reason="it stays"
    )
    assert one != rule(task="reader-*") and len({one, one}) == 1
    assert pickle.loads(pickle.dumps(one)) == one
    assert str(one) == "coroutine='Client._read' task='reader-*' spawn_site='*/client.py' wait='Queue.get'"
    with pytest.raises(AttributeError):
        one.task = "x"  # type: ignore[misc]


def test_a_string_of_another_class_is_told_as_what_it_is(run_asyncio: Run) -> None:
    async def main() -> Report:
        async with TaskScope(ignore=[Ignore(task=Word("w*"), reason=Word("it stays"))]) as scope:
            task = asyncio.create_task(asyncio.Event().wait(), name="worker")
        task.cancel()
        return scope.report

    (record,) = run_asyncio(main).ignored
    assert (record.rule, record.outcome_detail) == ("task='w*'", "it stays")
    assert {type(record.rule), type(record.outcome_detail)} == {str}


@pytest.mark.parametrize("argument", ["coroutine", "task", "spawn_site", "wait"])
def test_a_condition_is_none_or_a_glob(argument: str) -> None:
    for value in (1, b"x", True, ["x"], object()):
        with pytest.raises(TypeError, match=rf"^{argument}=.*: must be None or a glob that is not empty, not \w+$"):
            Ignore(**{argument: value}, reason="x")  # type: ignore[arg-type]
    for value in ("", "  "):
        with pytest.raises(ValueError, match=rf"^{argument}='.*': must be None or a glob that is not empty$"):
            Ignore(**{argument: value}, reason="x")


def test_there_is_a_reason() -> None:
    with pytest.raises(TypeError, match=r"reason"):
        Ignore("x")  # type: ignore[call-arg]
    for value in (None, 1, b"x"):
        with pytest.raises(TypeError, match=r"^reason=.*: must be a text that is not empty: why .*, not \w+$"):
            Ignore("x", reason=value)  # type: ignore[arg-type]
    for value in ("", " \n"):
        with pytest.raises(ValueError, match=r"^reason='.*': must be a text that is not empty: why"):
            Ignore("x", reason=value)


def test_a_rule_has_a_condition() -> None:
    with pytest.raises(ValueError, match=r"^coroutine=None, task=None, spawn_site=None, wait=None: at least one of"):
        Ignore(reason="everything stays")


# Rules in text

LINES = [
    (
        "coroutine=Client._read task=worker-* -- reason why",
        Ignore("Client._read", task="worker-*", reason="reason why"),
    ),
    ("  wait=Queue.get   --   it  waits ", Ignore(wait="Queue.get", reason="it  waits")),
    (
        "task='reader of mails' -- it's \"fine\" -- really",
        Ignore(task="reader of mails", reason='it\'s "fine" -- really'),
    ),
    ("task=\"a 'b'\" -- x", Ignore(task="a 'b'", reason="x")),
    ("spawn_site=C:\\app\\*.py -- x", Ignore(spawn_site="C:\\app\\*.py", reason="x")),
    ("task=#1=2 -- #3", Ignore(task="#1=2", reason="#3")),
    ("task='a -- b' -- c", Ignore(task="a -- b", reason="c")),
]


@pytest.mark.parametrize(("line", "expected"), LINES)
def test_a_line_says_a_rule(line: str, expected: Ignore) -> None:
    assert Ignore.parse(line) == expected


BAD_LINES = [
    ("", "there is no reason"),
    ("task=x", "there is no reason"),
    ("task=x reason", "there is no reason"),
    ("task=x --reason", "there is no reason"),
    ("task=x --", "reason='': must be a text"),
    ("-- reason", "at least one of them must be a glob"),
    ("task= -- x", "task='': must be None or a glob"),
    ("Client._read -- x", "'Client._read' is not a condition"),
    ("name=x -- x", "'name=x' is not a condition"),
    ("reason=x task=y -- x", "'reason=x' is not a condition"),
    ("task =x -- x", "'task' is not a condition"),
    ("task=x task=y -- x", "task is given twice"),
    ("task='x -- x", "No closing quotation"),
]


@pytest.mark.parametrize(("line", "why"), BAD_LINES)
def test_a_line_that_says_none_is_refused_with_what_would_do(line: str, why: str) -> None:
    with pytest.raises(ValueError) as caught:
        Ignore.parse(line)
    said = str(caught.value)
    assert said.startswith(f"line={line!r}: ") and why in said
    assert said.endswith("must be key=glob ... -- reason, where key is one of coroutine, task, spawn_site, wait")


@pytest.mark.parametrize("value", [None, 1, b"task=x -- y", ["task=x -- y"]])
def test_a_line_is_a_string(value: Any) -> None:
    with pytest.raises(TypeError, match=r"^line=.*: must be a string, not \w+$"):
        Ignore.parse(value)


globs = st.none() | st.text(min_size=1).filter(str.strip)
reasons = st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"]), min_size=1)


@given(st.tuples(globs, globs, globs, globs).filter(any), reasons)
def test_what_a_rule_says_of_itself_can_be_read_again(conditions: tuple[Any, ...], reason: str) -> None:
    names = ("coroutine", "task", "spawn_site", "wait")
    one = Ignore(**dict(zip(names, conditions, strict=True)), reason=reason)
    assert Ignore.parse(f"{one} -- {one.reason}") == one
