"""The report: plain data that says everything, and says the same wherever it goes."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import gc
import json
import pickle
import subprocess
import sys
import weakref
from collections.abc import AsyncGenerator, Iterator
from dataclasses import FrozenInstanceError, fields, is_dataclass, replace
from typing import Any

import pytest
from conftest import Run
from hypothesis import given
from hypothesis import strategies as st

from taskscope import (
    Finding,
    Frame,
    Report,
    ScopeTimeoutError,
    TaskLeakError,
    TaskRecord,
    TaskScope,
    TaskScopeError,
    Wait,
    install,
)
from taskscope._report import DESCRIBED_LIMIT

FRAME = Frame("/srv/shop.py", 12, "Shop.open")
WAIT = Wait("queue", "Queue.get", "Queue maxsize=1, full", ("other",))
RECORD = TaskRecord(
    "task",
    "Shop.work",
    verdict="blocked",
    wait=WAIT,
    stack=(FRAME, FRAME),
    stack_note="a note",
    spawn_site=FRAME,
    spawn_stack=(FRAME,),
    spawn_chain=(FRAME,),
    spawn_chain_omitted=3,
    age=1.5,
    outcome="failed",
    outcome_detail="ValueError()",
    owner="TaskGroup",
    closed_scope="inner",
    rule="task='t*'",
)
REPORT = Report(
    "shop",
    phase="body",
    body=RECORD,
    leaks=(RECORD, TaskRecord("a", "b")),
    late=(RECORD,),
    survivors=(RECORD,),
    transferred=(RECORD,),
    ignored=(RECORD,),
    inherited=(RECORD,),
    findings=(
        Finding(
            "closed-in-use",
            "sqlite3.Connection 'db'",
            spawn_site=FRAME,
            stack=(FRAME,),
            detail="it did not end",
            task=RECORD,
            held_in=FRAME,
            variable="self._db",
            outcome="survived",
        ),
        Finding("thread", "a thread"),
    ),
    coverage=("another loop",),
    leaks_omitted=7,
    spawned=9,
    settled_after=0.25,
    tracking_lost="replaced",
)
PLAIN = (str, int, float, bool, type(None))


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


async def turns(number: int = 3) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


def quiet(name: str | None = None, **policy: Any) -> TaskScope:
    """A scope that judges at once and only reports."""
    return TaskScope(name, **{"grace": 0, "on_leak": "ignore", **policy})


def parts(value: object) -> Iterator[object]:
    """Everything that a report is made of."""
    yield value
    if is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from parts(getattr(value, field.name))
    elif isinstance(value, tuple | list):
        for element in value:
            yield from parts(element)
    elif isinstance(value, dict):
        for key, element in value.items():
            yield from parts(key)
            yield from parts(element)


def assert_is_plain(report: Report) -> None:
    """Nothing in it is live, and it survives every way of taking it elsewhere."""
    for part in parts(report):
        assert type(part) in (*PLAIN, tuple, Report, TaskRecord, Finding, Frame, Wait), part
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(report, protocol)) == report
    assert copy.deepcopy(report) == copy.copy(report) == report
    assert hash(report) == hash(copy.deepcopy(report))
    data = report.to_dict()
    for part in parts(data):
        assert type(part) in (*PLAIN, list, dict), part
    assert json.loads(report.to_json()) == data == json.loads(report.to_json(indent=2))


# The classes


@pytest.mark.parametrize("value", [FRAME, WAIT, RECORD, REPORT], ids=lambda value: type(value).__name__)
def test_each_part_is_frozen_and_has_no_room_for_more(value: Any) -> None:
    for field in fields(value):
        with pytest.raises(FrozenInstanceError):
            setattr(value, field.name, None)
        with pytest.raises(FrozenInstanceError):
            delattr(value, field.name)
    # what a frozen class with slots raises here differs from one version to the next
    with pytest.raises((AttributeError, TypeError)):
        value.something_else = 1
    assert not hasattr(value, "__dict__")
    assert replace(value) == value and replace(value) is not value


def test_a_report_is_plain_whatever_is_in_it() -> None:
    assert_is_plain(REPORT)
    assert_is_plain(Report("empty"))


def test_the_data_has_every_field_and_a_version() -> None:
    data = REPORT.to_dict()
    assert data["format_version"] == 1
    assert data["ok"] is False
    assert set(data) == {"format_version", "ok", *(field.name for field in fields(Report))}
    (leak, _) = data["leaks"]
    assert set(leak) == {field.name for field in fields(TaskRecord)}
    assert leak["spawn_site"] == {"file": "/srv/shop.py", "line": 12, "function": "Shop.open"}
    assert leak["stack"] == [leak["spawn_site"]] * 2
    assert leak["wait"]["awaited"] == ["other"]
    assert set(leak["wait"]) == {field.name for field in fields(Wait)}
    assert leak["age"] == 1.5
    assert data["leaks"][1]["age"] is None and data["leaks"][1]["stack"] == []


def test_json_is_one_line_unless_it_is_to_be_indented() -> None:
    assert "\n" not in REPORT.to_json()
    assert REPORT.to_json(indent=2).startswith('{\n  "format_version": 1,\n  "ok": false,\n  "scope": "shop"')


def test_the_data_is_a_copy() -> None:
    data = REPORT.to_dict()
    data["leaks"].clear()
    assert REPORT.to_dict()["leaks"]


@given(st.text(st.characters()))
def test_any_text_survives_json(text: str) -> None:
    report = Report(text, leaks=(TaskRecord(text, text, outcome_detail=text),))
    assert json.loads(report.to_json()) == report.to_dict()
    report.to_json().encode("ascii")


@pytest.mark.parametrize(
    ("fields_", "ok"),
    [
        ({}, True),
        ({"late": (RECORD,)}, True),
        ({"transferred": (RECORD,), "ignored": (RECORD,), "inherited": (RECORD,)}, True),
        ({"coverage": ("x",), "tracking_lost": "x", "spawned": 5}, True),
        ({"leaks": (RECORD,)}, False),
        ({"findings": (Finding("thread", "x"),)}, False),
    ],
)
def test_ok_means_that_nothing_leaked_and_nothing_was_found(fields_: dict[str, Any], ok: bool) -> None:
    report = Report("x", **fields_)
    assert report.ok is ok is report.to_dict()["ok"]


@pytest.mark.parametrize("error_type", [TaskLeakError, ScopeTimeoutError])
def test_an_error_can_be_taken_elsewhere_with_its_report(error_type: type[TaskLeakError | ScopeTimeoutError]) -> None:
    error = error_type(REPORT)
    restored = pickle.loads(pickle.dumps(error))
    assert type(restored) is error_type
    assert restored.report == REPORT
    assert str(restored) == str(error) == REPORT.format()
    assert isinstance(restored, TaskScopeError)
    assert copy.copy(error).report is REPORT


def test_a_timeout_is_also_a_timeout_of_pythons() -> None:
    error = ScopeTimeoutError(REPORT)
    assert isinstance(error, TimeoutError)
    assert str(error) == REPORT.format()


def test_a_report_can_be_read_where_its_tasks_were_never_known(run_asyncio: Run) -> None:
    async def main() -> Report:
        async with quiet("far away") as scope:
            asyncio.create_task(forever(), name="left")
        return scope.report

    code = "import pickle, sys; print(pickle.load(sys.stdin.buffer))"
    finished = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps(run_asyncio(main)), capture_output=True, timeout=60, check=True
    )
    text = finished.stdout.decode()
    assert text.startswith("taskscope: 1 task outlived scope 'far away'") and "left" in text


# Reports of real scopes


def test_a_report_of_everything_at_once_is_plain_and_complete(run: Run) -> None:
    release = asyncio.Event()

    async def stubborn() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    async def spawner(go: asyncio.Event) -> None:
        asyncio.create_task(forever(), name="child")
        await go.wait()

    async def failing() -> None:
        try:
            await forever()
        finally:
            raise LookupError("on the way out")

    async def finishing() -> None:
        try:
            await forever()
        except asyncio.CancelledError:
            return

    async def late() -> None:
        await turns(2)

    class Resource:
        def __del__(self) -> None:
            spawned.append(asyncio.create_task(forever(), name="of a finalizer"))

    spawned: list[asyncio.Task[None]] = []

    async def main() -> Report:
        async with asyncio.TaskGroup() as group:
            async with quiet("outer", grace=0.05, cancel_timeout=0.1, outer_groups="transfer") as scope:
                async with quiet("inner", cancel_timeout=0.02):
                    context = contextvars.copy_context()
                    asyncio.create_task(stubborn(), name="survivor of inner")
                    await turns()
                context.run(asyncio.create_task, forever(), name="from inner's context")
                asyncio.create_task(spawner(asyncio.Event()), name="parent")
                asyncio.create_task(failing(), name="failing")
                asyncio.create_task(finishing(), name="finishing")
                asyncio.create_task(stubborn(), name="stubborn")
                in_group = group.create_task(forever(), name="in a group")
                resource = Resource()
                del resource
                await turns()
                asyncio.create_task(late(), name="late")
            release.set()
            in_group.cancel()
        spawned.pop().cancel()
        return scope.report

    report = run(main)
    assert_is_plain(report)
    leaks = {record.name: record for record in report.leaks}
    assert {name: record.outcome for name, record in leaks.items()} == {
        "from inner's context": "cancelled",
        "parent": "cancelled",
        "child": "cancelled",
        "failing": "failed",
        "finishing": "finished",
        "stubborn": "survived",
    }
    assert leaks["failing"].outcome_detail == "LookupError('on the way out')"
    assert leaks["from inner's context"].closed_scope == "inner"
    assert [record.closed_scope for record in report.leaks].count(None) == 5
    assert [record.name for record in report.survivors] == ["stubborn"]
    assert report.survivors[0] == leaks["stubborn"]
    assert [record.name for record in report.late] == ["late"]
    assert report.late[0].outcome == "finished" and report.late[0].verdict is None and not report.late[0].stack
    assert [record.name for record in report.transferred] == ["in a group"]
    assert "TaskGroup" in (report.transferred[0].owner or "")
    assert [record.name for record in report.ignored] == ["of a finalizer"]
    assert [record.name for record in report.inherited] == ["survivor of inner"]
    assert report.inherited[0].outcome == "survived"
    assert (report.scope, report.phase, report.body, report.leaks_omitted) == ("outer", "exit", None, 0)
    assert report.spawned == 9
    assert 0.05 <= report.settled_after < 5
    assert report.tracking_lost is None and report.findings == () == report.coverage
    child, parent = leaks["child"], leaks["parent"]
    assert child.spawn_site is not None and child.spawn_site.function.endswith("spawner")
    assert child.spawn_chain == (parent.spawn_site,)
    for record in report.leaks:
        assert record.verdict is not None
        assert record.coroutine.rpartition(".")[2] in record.stack[0].function


def test_a_clean_report(run: Run) -> None:
    async def main() -> TaskScope:
        async with TaskScope("clean") as scope:
            await asyncio.gather(*(asyncio.sleep(0) for _ in range(5)))
        return scope

    scope = run(main)
    assert scope.report == Report("clean", spawned=5)
    assert scope.report.ok
    assert scope.report is scope.report


def test_the_report_keeps_nothing_alive(run: Run) -> None:
    class Heavy: ...

    async def holding(heavy: Heavy) -> None:
        await forever()

    async def main() -> tuple[Report, list[weakref.ref[Any]]]:
        heavy = Heavy()
        async with quiet() as scope:
            task = asyncio.create_task(holding(heavy))
        return scope.report, [weakref.ref(heavy), weakref.ref(task)]

    report, references = run(main)
    gc.collect()
    assert report.leaks
    assert [reference() for reference in references] == [None, None]


def test_hostile_tasks_become_plain_data_too(run: Run) -> None:
    class HostileError(Exception):
        def __repr__(self) -> str:
            raise RuntimeError("no repr")

    class LongError(Exception):
        def __repr__(self) -> str:
            return "x" * 10_000

    class Word(str):
        live: object

    async def dying(error: Exception) -> None:
        try:
            await forever()
        finally:
            raise error

    async def main() -> Report:
        name = Word("a name of another class")
        name.live = object()
        async with quiet() as scope:
            asyncio.create_task(dying(HostileError()), name="hostile")
            asyncio.create_task(dying(LongError()), name="long")
            asyncio.create_task(forever(), name=name)
            asyncio.create_task(forever(), name="\ud800\x00")
            await turns()
        return scope.report

    report = run(main)
    assert_is_plain(report)
    details = {record.name: record.outcome_detail or "" for record in report.leaks}
    assert details["hostile"] == "<HostileError whose repr raises>"
    assert len(details["long"]) == 200
    assert set(details) == {"hostile", "long", "a name of another class", "\ud800\x00"}


def test_a_scopes_name_of_another_class_does_not_make_the_report_live(run: Run) -> None:
    class Word(str):
        live: object

    async def main() -> Report:
        name = Word("named")
        name.live = object()
        async with quiet(name) as scope:
            asyncio.create_task(forever())
        return scope.report

    report = run(main)
    assert_is_plain(report)
    assert report.scope == "named"


def test_very_many_leaks_are_all_ended_and_those_not_described_are_counted(run: Run) -> None:
    number = DESCRIBED_LIMIT + 234

    async def main() -> None:
        async with quiet("crowd", cancel_timeout=10) as scope:
            tasks = [asyncio.create_task(forever(), name=f"task-{index}") for index in range(number)]
            await asyncio.sleep(0)
            snapshot = scope.snapshot()
        assert all(task.cancelled() for task in tasks)
        for report in (snapshot, scope.report):
            assert len(report.leaks) == DESCRIBED_LIMIT
            assert report.leaks_omitted == 234
            assert report.spawned == number
            assert not report.ok
        text = scope.report.format()
        assert text.startswith(f"taskscope: {number:,} tasks outlived scope 'crowd'")
        assert "234 more tasks, too many to describe." in text
        assert len(text.splitlines()) < 30

        async with quiet("just so many") as scope:
            for _ in range(DESCRIBED_LIMIT):
                asyncio.create_task(forever())
        assert (len(scope.report.leaks), scope.report.leaks_omitted) == (DESCRIBED_LIMIT, 0)

    run(main)


def test_of_very_many_late_tasks_it_is_said_how_many_are_not_described(run: Run) -> None:
    async def main() -> None:
        async with TaskScope(grace=10) as scope:
            event = asyncio.Event()
            for _ in range(DESCRIBED_LIMIT + 5):
                asyncio.create_task(event.wait())
            await asyncio.sleep(0)
            event.set()
        assert scope.report.ok and len(scope.report.late) == DESCRIBED_LIMIT
        assert scope.report.coverage == ("5 more tasks ended late, too many to describe",)

    run(main)


# spawn_site


def record_with(run: Run, spawn_site: str) -> tuple[TaskRecord, TaskRecord]:
    """The records of a parent and its child."""

    async def parent() -> None:
        asyncio.create_task(forever(), name="child")
        await forever()

    async def main() -> Report:
        async with quiet(spawn_site=spawn_site) as scope:
            asyncio.create_task(parent(), name="parent")
            await turns()
        return scope.report

    report = run(main)
    assert_is_plain(report)
    records = {record.name: record for record in report.leaks}
    return records["parent"], records["child"]


def test_site_notes_one_frame_and_the_chain(run: Run) -> None:
    parent, child = record_with(run, "site")
    assert parent.spawn_site is not None and parent.spawn_site.function.endswith("main")
    assert parent.spawn_site.file == __file__
    assert parent.spawn_chain == ()
    assert child.spawn_site is not None and child.spawn_site.function.endswith("parent")
    assert child.spawn_chain == (parent.spawn_site,)
    for record in (parent, child):
        assert record.spawn_stack == () and record.age is None and record.spawn_chain_omitted == 0


def test_stack_notes_all_callers_and_the_time(run: Run) -> None:
    parent, child = record_with(run, "stack")
    for record in (parent, child):
        assert record.spawn_stack[-1] == record.spawn_site
        assert record.age is not None and 0 <= record.age < 60
    functions = [frame.function.rpartition(".")[2] for frame in parent.spawn_stack]
    assert functions[-1] == "main" and len(functions) > 1
    assert child.spawn_chain == (parent.spawn_site,)


def test_a_very_deep_spawn_stack_is_bounded(run_asyncio: Run) -> None:
    def deep(levels: int) -> None:
        if levels:
            deep(levels - 1)
        else:
            asyncio.create_task(forever())

    async def main() -> Report:
        async with quiet(spawn_site="stack") as scope:
            deep(300)
        return scope.report

    (leak,) = run_asyncio(main).leaks
    assert len(leak.spawn_stack) == 64
    assert {frame.function.rpartition(".")[2] for frame in leak.spawn_stack} == {"deep"}


def test_off_notes_nothing_and_finds_everything(run: Run) -> None:
    for record in record_with(run, "off"):
        assert record.spawn_site is None and record.age is None
        assert record.spawn_stack == () == record.spawn_chain
        assert record.stack and record.outcome == "cancelled"


def test_a_long_spawn_chain_ends_in_a_count(run_asyncio: Run) -> None:
    async def link(left: int, last: asyncio.Event) -> None:
        if left:
            asyncio.create_task(link(left - 1, last), name=f"left-{left - 1}")
        else:
            last.set()
        await forever()

    async def main() -> Report:
        async with quiet() as scope:
            last = asyncio.Event()
            asyncio.create_task(link(40, last), name="left-40")
            await last.wait()
        return scope.report

    records = {record.name: record for record in run_asyncio(main).leaks}
    for left in range(41):
        ancestors = 40 - left
        chain = records[f"left-{left}"]
        assert len(chain.spawn_chain) == min(16, ancestors)
        assert chain.spawn_chain_omitted == max(0, ancestors - 16)


# Before the end


def test_there_is_no_report_before_the_end(run: Run) -> None:
    async def main() -> None:
        scope = quiet("unfinished")
        for _ in range(2):
            with pytest.raises(TaskScopeError, match=r"scope 'unfinished' has not ended .*snapshot\(\)"):
                _ = scope.report
            if scope.snapshot().phase == "body":
                break
        async with scope:
            with pytest.raises(TaskScopeError, match="has not ended"):
                _ = scope.report
        assert scope.report.ok

    run(main)


def test_not_even_a_report_is_there_while_the_scope_ends(run: Run) -> None:
    async def main() -> None:
        seen: list[Exception] = []

        async def late() -> None:
            while not ending:
                await asyncio.sleep(0)
            try:
                _ = scope.report
            except TaskScopeError as error:
                seen.append(error)

        ending: list[bool] = []
        async with TaskScope(grace=5) as scope:
            asyncio.create_task(late())
            ending.append(True)
        assert len(seen) == 1 and scope.report.late

    run(main)


def test_a_snapshot_shows_what_is_alive_and_changes_nothing(run: Run) -> None:
    async def main() -> None:
        gate = asyncio.Event()
        async with TaskScope("watched", grace=0, spawn_site="stack") as scope:
            assert scope.snapshot() == Report("watched", phase="body")
            context = contextvars.copy_context()
            task = asyncio.create_task(gate.wait(), name="waiting")
            short = asyncio.create_task(asyncio.sleep(0), name="short")
            await short
            first, second = scope.snapshot(), scope.snapshot()
            assert [record.name for record in first.leaks] == ["waiting"]
            (leak,) = first.leaks
            assert leak.stack[0].function == "Event.wait"
            assert leak.spawn_site is not None and leak.spawn_site.file == __file__
            assert leak.outcome is None and leak.age is not None
            assert (first.phase, first.spawned, first.ok) == ("body", 2, False)
            assert [replace(record, age=0.0) for record in second.leaks] == [replace(leak, age=0.0)]
            assert not task.done() and task.cancelling() == 0
            assert contextvars.copy_context() == context
            assert_is_plain(first)
            gate.set()
            await task
            assert scope.snapshot().leaks == ()
        assert scope.report == Report("watched", spawned=2)

    run(main)


def test_a_snapshot_can_be_taken_before_after_and_from_anywhere(run: Run) -> None:
    async def main() -> None:
        scope = quiet("anywhere")
        assert scope.snapshot() == Report("anywhere", phase="body")
        async with scope:
            asyncio.create_task(forever(), name="left")
            await asyncio.sleep(0)

            async def elsewhere() -> list[str]:
                return [record.name for record in scope.snapshot().leaks]

            async with quiet("another"):
                assert await asyncio.create_task(elsewhere()) == ["left"]
            in_thread = await asyncio.to_thread(scope.snapshot)
            assert [record.name for record in in_thread.leaks] == ["left"]
        assert scope.snapshot().leaks == ()

    run(main)


def test_a_snapshot_marks_what_came_from_a_closed_scope(run: Run) -> None:
    async def main() -> None:
        async with quiet("outer") as outer:
            async with quiet("inner"):
                context = contextvars.copy_context()
            context.run(asyncio.create_task, forever(), name="orphan")
            asyncio.create_task(forever(), name="own")
            await asyncio.sleep(0)
            shown = {record.name: record.closed_scope for record in outer.snapshot().leaks}
        assert shown == {"orphan": "inner", "own": None}
        assert shown == {record.name: record.closed_scope for record in outer.report.leaks}

    run(main)


# Other ways to end


def test_a_body_that_took_too_long_is_described_as_it_was_then(run: Run) -> None:
    async def slow(event: asyncio.Event) -> None:
        await event.wait()

    async def main() -> Report:
        with pytest.raises(ScopeTimeoutError) as caught:
            async with TaskScope("slow", grace=0, timeout=0.01, spawn_site="stack") as scope:
                asyncio.create_task(forever(), name="other")
                await slow(asyncio.Event())
        assert scope.report is caught.value.report
        return scope.report

    report = run(main)
    assert_is_plain(report)
    assert report.phase == "body" and not report.ok
    assert report.body is not None
    functions = [frame.function.rpartition(".")[2] for frame in report.body.stack]
    assert functions[-2:] == ["slow", "wait"] and "main" in functions
    assert [record.name for record in report.leaks] == ["other"]


def test_what_a_closed_inner_scope_could_not_end_is_inherited_and_told_once(run: Run) -> None:
    async def main() -> None:
        release = asyncio.Event()

        async def stubborn() -> None:
            while not release.is_set():
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    continue

        async with TaskScope("outermost", grace=0) as outermost:
            async with TaskScope("middle", grace=0) as middle:
                async with quiet("inner", cancel_timeout=0.01) as inner:
                    asyncio.create_task(stubborn(), name="stubborn")
                    await asyncio.sleep(0)
        assert inner.report.survivors == inner.report.leaks != ()
        for scope in (middle, outermost):
            assert scope.report.ok and scope.report.inherited == inner.report.survivors
            assert_is_plain(scope.report)
        release.set()
        await turns()

    run(main)


def test_a_scope_that_is_switched_off_says_that_it_looked_at_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKSCOPE", "off")

    async def main() -> Report:
        async with TaskScope("off", grace=0) as scope:
            task = asyncio.create_task(forever())
        task.cancel()
        assert scope.snapshot().leaks == ()
        return scope.report

    report = run(main)
    assert report.ok and report.coverage == ("TASKSCOPE=off: nothing was looked at",)
    assert_is_plain(report)


def test_the_report_of_an_installation_is_its_root_scopes(run: Run) -> None:
    async def main() -> None:
        plain = install()
        assert plain.root is None and plain.report is None
        installation = install(root="app", grace=0, on_leak="ignore")
        assert installation is plain and installation.root is not None
        with pytest.raises(TaskScopeError, match="has not ended"):
            _ = installation.report
        asyncio.create_task(forever(), name="left")
        await asyncio.sleep(0)
        await installation.aclose()
        report = installation.report
        assert report is not None and report is installation.root.report
        assert [record.name for record in report.leaks] == ["left"]
        assert_is_plain(report)

    run(main)


def test_a_task_that_runs_no_coroutine_of_python_has_a_record_too(run_asyncio: Run) -> None:
    async def generator() -> AsyncGenerator[Any, None]:
        yield await asyncio.get_running_loop().create_future()

    async def main() -> Report:
        async with quiet() as scope:
            step: Any = generator().asend(None)
            asyncio.create_task(step, name="a step")
            await turns()
        return scope.report

    report = run_asyncio(main)
    assert_is_plain(report)
    (leak,) = report.leaks
    assert (leak.name, leak.coroutine, leak.outcome) == ("a step", "async_generator_asend", "cancelled")
    assert leak.stack[0].function.endswith("generator")
