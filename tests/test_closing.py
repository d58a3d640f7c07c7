"""`closing`: how a resource is closed, and who is accused of holding it when it has been."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import weakref
from collections.abc import Callable
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import Any

import anyio
import pytest
from closings import Account, Database, accused, closed_in_use, columns, report_of
from parity import ASYNCIO, Column, Library

import taskscope
from taskscope import Frame, Ignore, Report, TaskLeakError, TaskRecord, TaskScope, closing
from taskscope._report import Finding


@columns()
def test_a_task_that_still_holds_the_resource_is_accused(column: Column) -> None:
    async def main(library: Library) -> Any:
        event = library.event()

        async def body(spawn: Callable[..., None]) -> None:
            async with closing(Database(library), "guests") as database:
                spawn(Account(database).write_when, event, name="writer")
                await library.settle()
            event.set()

        return await report_of(library, body)

    report = column.run(main)
    assert not report.ok
    [finding] = closed_in_use(report)
    assert finding.what == "closings.Database 'guests'"
    assert (finding.variable, finding.outcome) == ("self.database", "ended")
    assert finding.held_in.function == "Account.write_when"
    assert finding.held_in.file.endswith("closings.py")
    assert finding.detail.startswith("it ended 0.")
    assert (finding.task.name, finding.task.coroutine) == ("writer", "Account.write_when")
    assert finding.task.stack[0] == finding.held_in
    assert finding.spawn_site is not None and finding.spawn_site == finding.task.spawn_site
    [late] = report.late
    assert late.closed_before_end == ("closings.Database 'guests'",)
    assert "Closed in use: closings.Database 'guests', which 1 task still held" in report.format()


@columns()
def test_a_task_that_is_waited_for_first_is_not(column: Column) -> None:
    async def main(library: Library) -> Any:
        event = library.event()

        async def body(spawn: Callable[..., None]) -> None:
            async with closing(Database(library)) as database:
                async with library.group() as group:
                    library.spawner(group)(Account(database).write_when, event)
                    event.set()

        return await report_of(library, body)

    report = column.run(main)
    assert (report.ok, report.late) == (True, ())


@columns()
def test_a_leak_says_what_had_been_closed(column: Column) -> None:
    async def main(library: Library) -> Any:
        async def body(spawn: Callable[..., None]) -> None:
            async with closing(Database(library)) as database:
                spawn(Account(database).write_when, library.event(), name="stuck")
                await library.settle()

        return await report_of(library, body, grace=0.01)

    report = column.run(main)
    [leak] = report.leaks
    assert leak.closed_before_end == ("closings.Database",)
    [finding] = closed_in_use(report)
    assert (finding.outcome, finding.task.name) == ("ended", "stuck")
    assert finding.detail.endswith(", cancelled")


@columns()
def test_a_survivor_did_not_end(column: Column) -> None:
    async def main(library: Library) -> Any:
        database, event, over = Database(library), library.event(), library.event()
        scope = TaskScope(grace=0.01, cancel_timeout=0.05, on_leak="ignore")

        async def stubborn() -> None:
            while not over.is_set():
                try:
                    await event.wait()
                except library.run_cancelled():
                    continue
            await database.query()

        async with library.group() as group:
            async with scope:
                async with closing(database):
                    library.spawner(group)(stubborn, name="stubborn")
                    await library.settle()
            over.set()
            event.set()
            database.is_shut = False
        return scope.report

    [finding] = closed_in_use(column.run(main))
    assert (finding.outcome, finding.detail) == ("survived", "it did not end")
    assert finding.variable == "database"


@columns()
def test_who_ended_before_the_scope_does_not_take_the_clean_way_out(column: Column) -> None:
    async def main(library: Library) -> Any:
        event = library.event()

        async def body(spawn: Callable[..., None]) -> None:
            async with closing(Database(library)) as database:
                spawn(Account(database).write_when, event, name="writer")
                await library.settle()
            event.set()
            await library.settle()

        return await report_of(library, body)

    report = column.run(main)
    assert (report.ok, report.late, accused(report)) == (False, (), ["writer"])


@columns()
def test_a_task_that_was_cancelled_before_and_not_awaited_is_accused(column: Column) -> None:
    async def main(library: Library) -> Any:
        async def body(spawn: Callable[..., None]) -> None:
            database = Database(library)

            async def write_at_the_end() -> None:
                try:
                    await library.event().wait()
                finally:
                    for _ in range(20):
                        await cleanup()
                    used.append(database)

            async def cleanup() -> None:
                with contextlib.nullcontext() if library is ASYNCIO else anyio.CancelScope(shield=True):
                    await library.sleep(0)

            used: list[Database] = []
            cancel = library.event()

            async def cancels() -> None:
                async with library.group() as group:
                    library.spawner(group)(write_at_the_end, name="writer")
                    await cancel.wait()
                    raise KeyError("cancels the others")

            async def guarded() -> None:
                with pytest.raises(BaseExceptionGroup):
                    await cancels()

            spawn(guarded, name="outer")
            await library.settle()
            cancel.set()
            await library.sleep(0)
            await library.sleep(0)
            async with closing(database):
                pass

        return await report_of(library, body)

    assert "writer" in accused(column.run(main))


@columns()
def test_who_waits_for_the_task_that_closes_is_not_accused(column: Column) -> None:
    async def main(library: Library) -> Any:
        async def body(spawn: Callable[..., None]) -> None:
            async def closes(database: Database) -> None:
                async with closing(database):
                    await library.sleep(0)

            async def parent() -> None:
                database = Database(library)
                async with library.group() as group:
                    library.spawner(group)(closes, database)
                assert database.is_shut

            async def grandparent() -> None:
                async with library.group() as group:
                    library.spawner(group)(parent)

            spawn(grandparent)
            await library.settle()

        return await report_of(library, body)

    report = column.run(main)
    assert report.ok, str(report)


@columns()
def test_who_ends_a_scope_that_waits_for_the_task_that_closes_is_not_accused(column: Column) -> None:
    async def main(library: Library) -> Any:
        async def body(spawn: Callable[..., None]) -> None:
            async def closes(database: Database, event: Any) -> None:
                await event.wait()
                async with closing(database):
                    await library.sleep(0)

            async def host() -> None:
                database, event = Database(library), library.event()
                async with TaskScope(grace=5.0):
                    spawn(closes, database, event)
                    await library.settle()
                    event.set()
                assert database.is_shut

            spawn(host)
            await library.settle()
            await library.settle()

        return await report_of(library, body)

    report = column.run(main)
    assert report.ok, str(report)


class WithBackground:
    """Reads in a task of its own, which `aclose` tells to end and does not wait for."""

    def __init__(self, library: Library, spawn: Callable[..., None]) -> None:
        self.library = library
        self.over = library.event()
        spawn(self._read, name="background")

    async def _read(self) -> None:
        await self.over.wait()
        await self.library.sleep(0)

    async def aclose(self) -> None:
        self.over.set()


@columns()
def test_a_background_task_that_the_closing_ends_is_not_accused(column: Column) -> None:
    async def main(library: Library) -> Any:
        async def body(spawn: Callable[..., None]) -> None:
            async with closing(WithBackground(library, spawn)):
                await library.settle()

        return await report_of(library, body)

    report = column.run(main)
    assert report.ok, str(report)


def test_nor_is_one_that_takes_its_time_but_is_known_to_be_the_resources(run: Any) -> None:
    class Client:
        def __init__(self) -> None:
            self._monitor = asyncio.create_task(self._watch())

        async def _watch(self) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.to_thread(list)

        def close(self) -> None:
            self._monitor.cancel()

    async def main() -> Any:
        async with TaskScope(grace=5.0) as scope:
            async with closing(Client()):
                await asyncio.sleep(0)
        return scope.report

    report = run(main)
    assert (report.ok, len(report.late)) == (True, 1)


def test_who_ends_while_the_resource_is_being_closed_is_not_accused(run: Any) -> None:
    class Slow:
        async def aclose(self) -> None:
            event.set()
            await asyncio.wait([task])

    async def main() -> Any:
        nonlocal event, task
        event = asyncio.Event()

        async def uses(resource: Slow) -> None:
            await event.wait()

        async with TaskScope() as scope:
            async with closing(Slow()) as resource:
                task = asyncio.create_task(uses(resource))
                await asyncio.sleep(0)
        return scope.report

    event: Any = None
    task: Any = None
    assert run(main).ok


def test_the_finding_is_that_of_the_scope_that_owns_the_task(run: Any) -> None:
    async def main() -> Any:
        event = asyncio.Event()
        async with TaskScope("outer", on_leak="ignore") as outer:
            database = Database_()
            task = asyncio.create_task(holds(database, event), name="of the outer")
            await asyncio.sleep(0)
            async with TaskScope("inner") as inner:
                async with closing(database):
                    pass
            event.set()
            await task
        return outer.report, inner.report

    outer, inner = run(main)
    assert inner.ok
    assert accused(outer) == ["of the outer"]


class Database_:
    """Closed by a plain `close`."""

    def close(self) -> None:
        pass


async def holds(database: object, event: asyncio.Event) -> None:
    await event.wait()
    assert database is not None


def test_tasks_that_no_scope_owns_are_nobodys(run: Any) -> None:
    async def main() -> Any:
        event, database = asyncio.Event(), Database_()
        task = asyncio.create_task(holds(database, event))
        await asyncio.sleep(0)
        async with TaskScope() as scope:
            async with closing(database):
                pass
        event.set()
        await task
        return scope.report

    assert run(main).ok


def test_tasks_that_are_left_alone_are_not_accused(run: Any) -> None:
    async def main() -> Any:
        event, database = asyncio.Event(), Database_()
        async with TaskScope(ignore=[Ignore(task="daemon", reason="lives on")]) as scope:
            daemon = asyncio.create_task(holds(database, event), name="daemon")
            await asyncio.sleep(0)
            async with closing(database):
                pass
        event.set()
        await daemon
        return scope.report

    report = run(main)
    assert report.ok and [record.name for record in report.ignored] == ["daemon"]


def test_a_scope_that_is_opened_after_the_closing_has_nothing_to_say(run: Any) -> None:
    async def main() -> Any:
        database, event = Database_(), asyncio.Event()
        async with closing(database):
            pass
        async with TaskScope(grace=5.0) as scope:
            task = asyncio.create_task(holds(database, event))
            await asyncio.sleep(0)
            event.set()
        await task
        return scope.report

    assert run(main).ok


def test_closed_twice_is_told_once(run: Any) -> None:
    async def main() -> Any:
        database, event = Database_(), asyncio.Event()
        async with TaskScope(on_leak="ignore") as scope:
            async with closing(database):
                async with closing(database):
                    task = asyncio.create_task(holds(database, event), name="holder")
                    await asyncio.sleep(0)
            event.set()
            await task
        return scope.report

    assert accused(run(main)) == ["holder"]


class Hostile:
    """Answers nothing, and equals everything."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise AssertionError("compared")

    def __getattr__(self, name: str) -> object:
        raise AssertionError(f"asked for {name}")

    def __repr__(self) -> str:
        raise AssertionError("shown")

    def close(self) -> None:
        pass


def test_resources_are_known_by_their_identity(run: Any) -> None:
    async def main() -> Any:
        closed, other, event = Hostile(), Hostile(), asyncio.Event()
        async with TaskScope(on_leak="ignore") as scope:
            async with closing(closed):
                asyncio.create_task(holds(closed, event), name="holder")
                asyncio.create_task(holds(other, event), name="another's")
                await asyncio.sleep(0)
            event.set()
        return scope.report

    assert accused(run(main)) == ["holder"]


def test_what_fails_to_close_accuses_nobody(run: Any) -> None:
    class Broken:
        def close(self) -> None:
            raise OSError("cannot be closed")

    async def main() -> Any:
        broken, event = Broken(), asyncio.Event()
        async with TaskScope(grace=5.0) as scope:
            task = asyncio.create_task(holds(broken, event))
            await asyncio.sleep(0)
            with pytest.raises(OSError, match="cannot be closed"):
                async with closing(broken):
                    pass
            event.set()
            await task
        return scope.report

    assert run(main).ok


def test_on_leak_acts_on_it(run: Any) -> None:
    async def main() -> None:
        event, database = asyncio.Event(), Database_()
        async with TaskScope():
            async with closing(database):
                task = asyncio.create_task(holds(database, event))
                await asyncio.sleep(0)
            event.set()
            await task

    with pytest.raises(TaskLeakError) as caught:
        run(main)
    assert [finding.kind for finding in caught.value.report.findings] == ["closed-in-use"]


def test_no_deadlock_goes_unproven_for_it(run: Any) -> None:
    async def main() -> Any:
        async with TaskScope(on_leak="ignore", grace=5.0) as scope:
            async with closing(Database_()) as database:
                asyncio.create_task(holds(database, asyncio.Event()), name="stuck")
                await asyncio.sleep(0)
            del database
        return scope.report

    report = run(main)
    assert [leak.verdict for leak in report.leaks] == ["deadlocked"]
    assert report.settled_after < 2.0
    assert accused(report) == ["stuck"]


def test_nothing_is_kept_alive(run: Any) -> None:
    async def main() -> Any:
        event, database = asyncio.Event(), Database_()
        alive = weakref.ref(database)
        async with TaskScope(on_leak="ignore") as scope:
            block = closing(database)
            async with block:
                task = asyncio.create_task(holds(database, event))
                await asyncio.sleep(0)
            event.set()
            await task
            task_alive = weakref.ref(task)
            del database, task
            gc.collect()
            assert alive() is None
        await asyncio.sleep(0)  # the handle that has woken this task has the other one
        gc.collect()
        assert task_alive() is None
        return scope.report

    assert len(run(main).findings) == 1


def test_no_callback_of_ours_is_left(run_asyncio: Any) -> None:
    async def main() -> None:
        event, database = asyncio.Event(), Database_()
        scope = TaskScope(grace=0, cancel_timeout=0, on_leak="ignore")

        async def stubborn() -> None:
            while not event.is_set():
                try:
                    await event.wait()
                except asyncio.CancelledError:
                    assert database is not None

        async with scope:
            async with closing(database):
                task = asyncio.create_task(stubborn())
                await asyncio.sleep(0)
        assert scope.report.survivors
        assert not task._callbacks  # type: ignore[attr-defined]
        event.set()
        await task

    run_asyncio(main)


def held_by(name: str, detail: str) -> Finding:
    frame = Frame("shop.py", 5, "serve")
    task = TaskRecord(name, "serve", spawn_site=frame)
    return Finding("closed-in-use", "Pool", task.spawn_site, task=task, held_in=frame, variable="pool", detail=detail)


@pytest.mark.parametrize(
    ("details", "lines"),
    [
        (["it did not end"], ["it did not end"]),
        (["it did not end"] * 2, ["they did not end"]),
        (["it ended 0.250 s after the resource was closed"], ["it ended 0.250 s after the resource was closed"]),
        (
            ["it ended 0.250 s after the resource was closed", "it ended 1.500 s after the resource was closed"],
            ["they ended up to 1.500 s after the resource was closed"],
        ),
        (
            ["it did not end", "it ended 0.250 s after the resource was closed, cancelled", "something else"],
            [
                "1 of them: it did not end",
                "1 of them: it ended 0.250 s after the resource was closed, cancelled",
                "1 of them: something else",
            ],
        ),
    ],
)
def test_what_became_of_the_tasks_is_told_once_for_all(details: list[str], lines: list[str]) -> None:
    findings = [held_by(f"task {number}", detail) for number, detail in enumerate(details)]
    text = Report("mine", findings=tuple(findings)).format()
    shown = [line.strip() for line in text.splitlines()]
    assert [line.removeprefix("detail").strip() for line in shown if line.startswith("detail")] == lines
    tasks = "1 task" if len(details) == 1 else f"{len(details)} tasks"
    assert f"Closed in use: Pool, which {tasks} still held" in text
    assert "held as     pool" in text


def test_looking_has_a_budget_and_the_report_says_what_was_not_looked_at(run: Any) -> None:
    async def main() -> Any:
        event = asyncio.Event()
        async with TaskScope(grace=5.0, on_leak="ignore") as scope:
            scope._tracking.looks.spend(1000.0)  # type: ignore[union-attr]
            async with closing(Database_()) as database:
                asyncio.create_task(holds(database, event))
                await asyncio.sleep(0)
            event.set()
        return scope.report

    report = run(main)
    assert report.findings == ()
    assert report.coverage == ("on this loop, 1 resource was closed without a look at who holds it: for want of time",)


def test_a_report_without_anything_to_tell_says_it_too(run: Any) -> None:
    async def main(seconds: float) -> Any:
        async with TaskScope() as scope:
            scope._tracking.looks.spend(seconds)  # type: ignore[union-attr]
            async with closing(Database_()):
                pass
        return scope.report

    report = run(lambda: main(1000.0))
    assert report.ok
    assert report.coverage == ("on this loop, 1 resource was closed without a look at who holds it: for want of time",)
    assert run(lambda: main(0.0)).coverage == ()


def test_a_look_that_takes_too_long_is_cut_short_and_the_report_says_so(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> Any:
        event = asyncio.Event()
        async with TaskScope(grace=5.0, on_leak="ignore") as scope:
            async with closing(Database_()) as database:
                asyncio.create_task(holds(database, event), name="holder")
                await asyncio.sleep(0)
            event.set()
        return scope.report

    assert (accused(report := run(main)), report.coverage) == (["holder"], ())
    monkeypatch.setattr("taskscope._diagnosis.holding.SECONDS", 0.0)
    report = run(main)
    assert accused(report) == []
    assert report.coverage == ("on this loop, 1 resource was closed without a look at who holds it: for want of time",)


# ------------------------------------------------------------------------------------------------------- how it closes


def calls_of(*methods: str, returns: Callable[[], Any] = lambda: None) -> tuple[Any, list[str]]:
    """An object with methods, and what was called of them."""
    calls: list[str] = []

    def method(name: str) -> Callable[..., Any]:
        def call(self: object, *args: object) -> Any:
            calls.append(name)
            return returns()

        return call

    return type("Thing", (), {name: method(name) for name in methods})(), calls


async def nothing() -> None:
    await asyncio.sleep(0)


@pytest.mark.parametrize("returns", [lambda: None, nothing], ids=["plain", "to await"])
@pytest.mark.parametrize(
    ("methods", "called"),
    [
        (["aclose", "close"], ["aclose"]),
        (["close"], ["close"]),
        (["close", "wait_closed"], ["close", "wait_closed"]),
        (["close", "__enter__", "__exit__"], ["close"]),
        (["__aenter__", "__aexit__", "__enter__", "__exit__"], ["__aenter__", "__aexit__"]),
        (["__enter__", "__exit__"], ["__enter__", "__exit__"]),
    ],
)
def test_by_what_a_resource_is_closed(run: Any, methods: list[str], called: list[str], returns: Any) -> None:
    if "__enter__" in called:
        returns = lambda: None  # noqa: E731
    elif "__aenter__" in called:
        returns = nothing
    thing, calls = calls_of(*methods, returns=returns)

    async def main() -> None:
        async with closing(thing):
            assert calls == [name for name in called if "enter" in name]

    run(main)
    assert calls == called


class MakesUp:
    """Takes any name for that of a remote procedure."""

    def __init__(self) -> None:
        self.called: list[str] = []

    def __getattr__(self, name: str) -> Callable[[], None]:
        return lambda: self.called.append(name)


class MakesUpTheRest(MakesUp):
    def close(self) -> None:
        self.called.append("its own close")


@pytest.mark.parametrize(("make", "called"), [(MakesUp, ["aclose"]), (MakesUpTheRest, ["its own close"])])
def test_what_is_made_up_is_called_only_where_there_is_no_other(run: Any, make: Any, called: list[str]) -> None:
    async def main() -> None:
        async with closing(make()) as resource:
            pass
        assert resource.called == called

    run(main)


def test_a_context_manager_gives_its_value_and_gets_the_exception(run: Any) -> None:
    seen: list[object] = []

    @asynccontextmanager
    async def manager() -> Any:
        try:
            yield 5
        except KeyError as error:
            seen.append(error)

    @contextmanager
    def plain() -> Any:
        try:
            yield "value"
        except KeyError as error:
            seen.append(error)

    async def main() -> None:
        error = KeyError("swallowed")
        async with closing(manager()) as value:
            assert value == 5
            raise error
        async with closing(plain()) as text:
            assert text == "value"
            raise error
        assert seen == [error, error]

    run(main)


def test_what_a_context_manager_gives_can_be_held_too(run: Any) -> None:
    async def main() -> Any:
        event = asyncio.Event()

        class Session:
            pass

        @asynccontextmanager
        async def session() -> Any:
            yield Session()

        async with TaskScope(on_leak="ignore") as scope:
            async with closing(session(), "session") as made:
                task = asyncio.create_task(holds(made, event), name="holder")
                await asyncio.sleep(0)
            event.set()
            await task
        return scope.report

    assert accused(run(main)) == ["holder"]


def test_errors_leave_as_they_leave_aclosing(run: Any) -> None:
    class Broken:
        async def aclose(self) -> None:
            raise OSError("broken")

    async def left(block: Any) -> BaseException:
        with pytest.raises(BaseException) as caught:
            async with block:
                raise KeyError("body")
        return caught.value

    async def main() -> None:
        for make in (closing, aclosing):
            error = await left(make(Broken()))
            assert (type(error), type(error.__context__)) == (OSError, KeyError)
            error = await left(make(Database_async()))
            assert type(error) is KeyError

    run(main)


class Database_async:
    async def aclose(self) -> None:
        pass


@pytest.mark.parametrize("bad", [None, 5, "file", object(), (1, 2), ("reader", "writer"), [Database_()]])
def test_what_cannot_be_closed_is_refused_at_once(bad: object) -> None:
    with pytest.raises(TypeError, match=r"^resource=.*: must be something with a method aclose\(\) or close\(\)"):
        closing(bad)  # type: ignore[call-overload]


def test_bad_names_are_refused() -> None:
    with pytest.raises(TypeError, match="name=5: must be None or a string"):
        closing(io.StringIO(), 5)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="name='': must be None or a string that is not empty"):
        closing(io.StringIO(), "")


@pytest.mark.parametrize("make", [io.StringIO, contextlib.nullcontext])
def test_a_block_can_be_entered_once(run: Any, make: Callable[[], Any]) -> None:
    async def main() -> None:
        block = closing(make())
        async with block:
            with pytest.raises(RuntimeError, match=r"entered before: call closing\(\) again"):
                await block.__aenter__()
        with pytest.raises(RuntimeError, match="entered before"):
            await block.__aenter__()

    run(main)


def test_switched_off_it_only_closes(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKSCOPE", "off")
    file = io.StringIO()

    async def main() -> None:
        async with closing(file) as same:
            assert same is file

    run(main)
    assert file.closed
    with pytest.raises(TypeError):
        taskscope.closing(5)  # type: ignore[call-overload]


def test_outside_of_any_scope_it_only_closes(run: Any) -> None:
    file = io.StringIO()

    async def main() -> None:
        async with closing(file):
            pass

    run(main)
    assert file.closed


# --------------------------------------------------------------------------------------- what is never to be used again


def test_a_loop_that_hands_things_on_is_not_accused_of_the_last_one(run: Any) -> None:
    async def main(*, keeps: bool) -> Any:
        async def works(database: Database_) -> None:
            async with closing(database):
                await asyncio.sleep(0)

        async def hands_on(queue: asyncio.Queue[Any]) -> None:
            while (database := await queue.get()) is not None:
                tasks.append(asyncio.create_task(works(database)))

        async def keeps_the_last(queue: asyncio.Queue[Any]) -> None:
            last = None
            while (database := await queue.get()) is not None:
                tasks.append(asyncio.create_task(works(database)))
                last = database
            assert last is not None

        tasks: list[Any] = []
        queue: asyncio.Queue[Any] = asyncio.Queue()
        async with TaskScope(on_leak="ignore") as scope:
            loop = asyncio.create_task((keeps_the_last if keeps else hands_on)(queue), name="loop")
            queue.put_nowait(Database_())
            for _ in range(20):
                await asyncio.sleep(0)
            queue.put_nowait(None)
            await loop
        return scope.report

    assert accused(run(lambda: main(keeps=False))) == []
    assert accused(run(lambda: main(keeps=True))) == ["loop"]


# ------------------------------------------------------------------------------------------------- who has an excuse


def test_a_task_that_was_cancelled_before_its_first_line_can_use_nothing(run_asyncio: Any) -> None:
    async def main() -> Any:
        async with TaskScope() as scope:
            database = Database_()
            task = asyncio.create_task(holds(database, asyncio.Event()))
            task.cancel()
            async with closing(database):
                pass
            await asyncio.wait([task])
        return scope.report

    assert run_asyncio(main).ok


def test_a_task_that_begins_only_after_the_closing(run_asyncio: Any) -> None:
    async def main(*, error: str | None = None, stays: bool = False) -> Any:
        async def uses(database: Database_) -> None:
            for _ in range(50 if stays else 1):
                await asyncio.sleep(0)
            if error is not None:
                raise RuntimeError(error)
            assert database is not None

        async with TaskScope(on_leak="ignore") as scope:
            database = Database_()
            task = asyncio.create_task(uses(database), name="user")
            async with closing(database):
                pass
            await asyncio.wait([task])
            assert (task.exception() is not None) is (error is not None)
        return scope.report

    assert accused(run_asyncio(main)) == []
    assert accused(run_asyncio(lambda: main(error="a bad number"))) == []
    assert accused(run_asyncio(lambda: main(error="the database is closed"))) == ["user"]
    assert accused(run_asyncio(lambda: main(stays=True))) == ["user"]


@pytest.mark.parametrize("waits", [True, False])
def test_who_ends_a_scope_in_which_one_waits_for_who_closes(run: Any, waits: bool) -> None:
    async def main() -> Any:
        async def closes(database: Database_) -> None:
            await asyncio.sleep(0.01)
            async with closing(database):
                pass

        async def waits_for(task: Any) -> None:
            if waits:
                await task
            await asyncio.sleep(0.01)

        async def host(database: Database_, closer: Any) -> None:
            async with TaskScope(grace=5.0):
                asyncio.create_task(waits_for(closer))
            await asyncio.sleep(0.02)
            assert database is not None

        async with TaskScope(on_leak="ignore") as scope:
            database = Database_()
            closer = asyncio.create_task(closes(database))
            await asyncio.wait([closer, asyncio.create_task(host(database, closer), name="host")])
        return scope.report

    assert accused(run(main)) == ([] if waits else ["host"])


@columns()
@pytest.mark.parametrize("how", ["closing", "guard"])
def test_a_closing_that_is_cancelled_accuses_who_fails_for_it(column: Column, how: str) -> None:
    async def main(library: Library, *, fails: bool) -> Any:
        class Connection:
            is_shut = False

            async def aclose(self) -> None:
                self.is_shut = True
                await library.event().wait()

        async def uses(connection: Connection, event: Any) -> None:
            await event.wait()
            if connection.is_shut and fails:
                raise RuntimeError("the connection is closed")

        async def tries(connection: Connection, event: Any) -> None:
            async with library.group() as group:
                library.spawner(group)(uses, connection, event, name="user")

        async def closes(connection: Connection) -> None:
            if how == "guard":
                await taskscope.guard(connection).aclose()
            else:
                async with closing(connection):
                    pass

        async def cancelled(connection: Connection) -> None:
            async with library.group() as group:
                library.spawner(group)(closes, connection)
                await library.settle()
                raise KeyError("cancels the others")

        async def body(spawn: Callable[..., None]) -> None:
            async def quietly() -> None:
                with contextlib.suppress(BaseExceptionGroup):
                    await tries(connection, event)

            connection, event = Connection(), library.event()
            spawn(quietly, name="outer")
            await library.settle()
            with contextlib.suppress(BaseExceptionGroup):
                await cancelled(connection)
            event.set()

        return await report_of(library, body)

    assert "user" in accused(column.run(lambda library: main(library, fails=True)))
    assert accused(column.run(lambda library: main(library, fails=False))) == []


def test_a_server_that_is_closed_takes_nothing_from_those_who_serve(run: Any) -> None:
    async def main(make: Any) -> Any:
        async with TaskScope(on_leak="ignore") as scope:
            event, server = asyncio.Event(), await make()
            task = asyncio.create_task(holds(server, event), name="handler")
            await asyncio.sleep(0)
            async with closing(server):
                pass
            event.set()
            await task
        return scope.report

    async def server() -> Any:
        return await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)

    async def database() -> Any:
        return Database_()

    assert accused(run(lambda: main(server))) == []
    assert accused(run(lambda: main(database))) == ["handler"]


# ------------------------------------------------------------------------------------------- registries and their like


class Chat:
    """Keeps the connections of all, each of which is closed by who serves it."""

    def __init__(self, library: Library, *, forgets: bool) -> None:
        self.library = library
        self.clients: dict[int, Database] = {}
        self.forgets = forgets

    async def serve(self, number: int, stop: Any) -> None:
        self.clients[number] = Database(self.library)
        async with closing(self.clients[number]):
            await stop.wait()
        if self.forgets:
            del self.clients[number]


@columns()
@pytest.mark.parametrize("settles", [2, 6])
@pytest.mark.parametrize(("forgets", "names"), [(True, []), (False, ["client 1"])], ids=["forgotten", "kept"])
def test_what_a_registry_forgets_is_held_by_nobody(
    column: Column, settles: int, forgets: bool, names: list[str]
) -> None:
    async def main(library: Library) -> Any:
        chat = Chat(library, forgets=forgets)

        async def body(spawn: Callable[..., None]) -> None:
            first, second = library.event(), library.event()
            spawn(chat.serve, 0, first, name="client 0")
            spawn(chat.serve, 1, second, name="client 1")
            await library.settle()
            first.set()
            for _ in range(settles):
                await library.settle()
            second.set()
            await library.settle()

        return await report_of(library, body)

    assert accused(column.run(main)) == names


def test_a_connection_that_is_made_anew_is_another(run: Any) -> None:
    async def main(*, renews: bool) -> Any:
        class Client:
            def __init__(self) -> None:
                self.connection = Database_()

            async def work(self, event: asyncio.Event) -> None:
                await event.wait()
                assert self.connection is not None

            async def reconnect(self) -> None:
                async with closing(self.connection):
                    pass
                if renews:
                    self.connection = Database_()

        client, event = Client(), asyncio.Event()
        async with TaskScope(on_leak="ignore") as scope:
            task = asyncio.create_task(client.work(event), name="worker")
            await asyncio.sleep(0)
            await client.reconnect()
            for _ in range(20):
                await asyncio.sleep(0)
            event.set()
            await task
        return scope.report

    assert accused(run(lambda: main(renews=True))) == []
    assert accused(run(lambda: main(renews=False))) == ["worker"]


def test_what_has_been_let_go_of_and_is_used_all_the_same(run: Any) -> None:
    async def main(error: str) -> Any:
        class Pool:
            def __init__(self) -> None:
                self.idle = [Database_()]

        async def uses(pool: Pool, event: asyncio.Event) -> None:
            await event.wait()
            if pool is not None:
                raise RuntimeError(error)

        pool, event = Pool(), asyncio.Event()
        async with TaskScope(on_leak="ignore") as scope:
            task = asyncio.create_task(uses(pool, event), name="user")
            await asyncio.sleep(0)
            async with closing(pool.idle[0]):
                pass
            pool.idle.clear()
            event.set()
            await asyncio.wait([task])
            assert task.exception() is not None
        return scope.report

    assert accused(run(lambda: main("a bad number"))) == []
    assert accused(run(lambda: main("the connection is closed"))) == ["user"]


# ------------------------------------------------------------------------------------------ what belongs to a resource


@pytest.mark.parametrize("is_its_own", [True, False])
def test_a_child_of_the_resources_own_task_is_its_own(run: Any, is_its_own: bool) -> None:
    async def main() -> Any:
        class Client:
            def __init__(self) -> None:
                self.stop = asyncio.Event()
                self.monitor = asyncio.create_task(self.watch())

            async def watch(self) -> None:
                if is_its_own:
                    self.spawn()
                await self.stop.wait()

            def spawn(self) -> None:
                children.append(asyncio.create_task(self.beat(), name="child"))

            async def beat(self) -> None:
                while not self.stop.is_set():
                    await asyncio.sleep(0.02)

            def close(self) -> None:
                self.stop.set()

        children: list[Any] = []
        async with TaskScope(on_leak="ignore") as scope:
            client = Client()
            if not is_its_own:
                client.spawn()
            await asyncio.sleep(0.005)
            async with closing(client):
                pass
            await asyncio.wait(children)
        return scope.report

    assert accused(run(main)) == ([] if is_its_own else ["child"])


@pytest.mark.parametrize("is_shared", [True, False])
def test_what_a_context_manager_gives_and_others_have_is_not_closed_with_it(run: Any, is_shared: bool) -> None:
    class App:
        pass

    async def main() -> Any:
        event, app = asyncio.Event(), App()

        @asynccontextmanager
        async def session() -> Any:
            yield app if is_shared else App()

        async with TaskScope(on_leak="ignore") as scope:
            async with closing(session()) as made:
                task = asyncio.create_task(holds(made, event), name="holder")
                await asyncio.sleep(0)
            event.set()
            await task
        assert app is not None
        return scope.report

    assert accused(run(main)) == ([] if is_shared else ["holder"])


def test_what_a_context_manager_gives_and_leads_back_to_it_is(run: Any) -> None:
    class Cursor:
        def __init__(self, manager: object) -> None:
            self.manager = manager

    class Manager:
        def __init__(self) -> None:
            self.cursor = Cursor(self)

        async def __aenter__(self) -> Cursor:
            return self.cursor

        async def __aexit__(self, *exc: object) -> None:
            pass

    async def main() -> Any:
        event, manager = asyncio.Event(), Manager()
        async with TaskScope(on_leak="ignore") as scope:
            async with closing(manager) as cursor:
                task = asyncio.create_task(holds(cursor, event), name="holder")
                await asyncio.sleep(0)
            event.set()
            await task
        return scope.report

    assert accused(run(main)) == ["holder"]
