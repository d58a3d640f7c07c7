"""`guard`: a resource that is closed elsewhere, and whose closing is noticed all the same."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import sqlite3
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from closings import Account, Database, accused, closed_in_use, columns, report_of
from parity import Column, Library

from taskscope import TaskScope, closing, guard


@columns()
def test_a_closing_elsewhere_is_noticed(column: Column) -> None:
    async def main(library: Library) -> Any:
        event = library.event()

        async def body(spawn: Callable[..., None]) -> None:
            database = guard(Database(library), "guests")
            spawn(Account(database).write_when, event, name="writer")
            await library.settle()
            await database.aclose()
            event.set()

        return await report_of(library, body)

    report = column.run(main)
    [finding] = closed_in_use(report)
    assert finding.what == "closings.Database 'guests'"
    assert (finding.variable, finding.outcome) == ("self.database", "ended")
    assert finding.held_in.function == "Account.write_when"
    [late] = report.late
    assert late.closed_before_end == ("closings.Database 'guests'",)


@columns()
def test_its_clean_twin_is_silent(column: Column) -> None:
    async def main(library: Library) -> Any:
        event = library.event()

        async def body(spawn: Callable[..., None]) -> None:
            database = guard(Database(library), "guests")
            async with library.group() as group:
                library.spawner(group)(Account(database).write_when, event)
                event.set()
            await database.aclose()

        return await report_of(library, body)

    report = column.run(main)
    assert (report.ok, report.late) == (True, ())


@columns()
def test_what_is_never_closed_is_no_finding(column: Column) -> None:
    async def main(library: Library) -> Any:
        event = library.event()

        async def body(spawn: Callable[..., None]) -> None:
            spawn(Account(guard(Database(library))).write_when, event, name="writer")
            await library.settle()
            event.set()

        return await report_of(library, body)

    assert column.run(main).ok


class Plain:
    def __init__(self) -> None:
        self.arguments: list[object] = []

    def close(self, how: str = "softly", *, now: bool = False) -> str:
        """Closes it."""
        self.arguments += [how, now]
        return "closed"


class Twofold:
    async def aclose(self) -> str:
        self.close()
        await asyncio.sleep(0)
        return "closed"

    def close(self) -> None:
        pass


async def holds(thing: object, event: asyncio.Event) -> None:
    await event.wait()
    assert thing is not None


def test_the_methods_stay_what_they_are(run: Any) -> None:
    async def main() -> None:
        plain, guarded = Plain(), guard(Plain())
        assert inspect.signature(guarded.close) == inspect.signature(plain.close)
        assert (guarded.close.__name__, guarded.close.__qualname__) == ("close", "Plain.close")
        assert guarded.close.__doc__ == "Closes it."
        assert not inspect.iscoroutinefunction(guarded.close)
        assert guarded.close("hard", now=True) == "closed"
        assert guarded.arguments == ["hard", True]
        twofold = guard(Twofold())
        assert inspect.iscoroutinefunction(twofold.aclose)
        assert asyncio.iscoroutine(closing := twofold.aclose())
        assert await closing == "closed"

    run(main)


def test_they_are_taken_off_when_it_has_been_closed(run: Any) -> None:
    async def main() -> None:
        plain, twofold = guard(Plain()), guard(Twofold())
        assert "close" in vars(plain)
        assert {"aclose", "close"} <= vars(twofold).keys()
        plain.close()
        await twofold.aclose()
        assert vars(plain) == {"arguments": ["softly", False]}
        assert vars(twofold) == {}

    run(main)


def test_a_method_of_its_own_comes_back(run: Any) -> None:
    async def main() -> None:
        plain = Plain()
        calls: list[str] = []
        own = plain.close = lambda: calls.append("own")  # type: ignore[assignment, misc, method-assign, return-value]
        guard(plain)
        plain.close()
        assert calls == ["own"]
        assert vars(plain)["close"] is own

    run(main)


def test_one_that_fails_to_close_goes_on_being_guarded(run: Any) -> None:
    class Broken:
        fails = True

        def close(self) -> None:
            if self.fails:
                raise OSError("cannot be closed")

    async def main() -> Any:
        async with TaskScope(on_leak="ignore") as scope:
            broken, event = guard(Broken()), asyncio.Event()
            task = asyncio.create_task(holds(broken, event), name="holder")
            await asyncio.sleep(0)
            with pytest.raises(OSError):
                broken.close()
            await asyncio.sleep(0)
            broken.fails = False
            broken.close()
            event.set()
            await task
        return scope.report

    assert len(run(main).findings) == 1


def test_a_guarded_resource_is_let_go_of(run: Any) -> None:
    """By the collector, where it was never closed: what is bound to a method of its own is in a circle with itself."""

    async def main() -> None:
        resources = [guard(Plain()), guard(Twofold()), guard(WithFlag())]
        alive = list(map(weakref.ref, resources))
        resources.clear()
        gc.collect()
        assert [reference() for reference in alive] == [None, None, None]
        plain, twofold, with_flag = guard(Plain()), guard(Twofold()), guard(WithFlag())
        alive = list(map(weakref.ref, (plain, twofold, with_flag)))
        plain.close()
        await twofold.aclose()
        with_flag.close()
        del plain, twofold, with_flag
        assert [reference() for reference in alive] == [None, None, None]  # without the collector

    run(main)


class Finalized:
    """Closes itself when it is dropped."""

    closed: list[bool]

    def __init__(self) -> None:
        self.circle: object = self
        self.closed = closed_by_finalizer

    def close(self) -> None:
        self.closed.append(True)

    def __del__(self) -> None:
        if not self.closed:
            self.close()


closed_by_finalizer: list[bool] = []


@pytest.mark.parametrize("is_circle", [False, True])
def test_a_finalizer_can_close_it(run: Any, is_circle: bool) -> None:
    async def main() -> None:
        closed_by_finalizer.clear()
        thing = guard(Finalized())
        if not is_circle:
            thing.circle = None
        del thing
        gc.collect()
        assert closed_by_finalizer == [True]

    run(main)


def test_a_method_that_is_kept_keeps_it(run: Any) -> None:
    async def main() -> None:
        plain = guard(Plain())
        alive, weak = weakref.ref(plain), weakref.WeakMethod(plain.close)
        assert weak() == plain.close
        assert plain.close.__self__ is plain  # type: ignore[attr-defined]
        with contextlib.ExitStack() as stack:
            stack.callback(plain.close)
            arguments = plain.arguments
            del plain
            gc.collect()
            assert alive() is not None
        assert arguments == ["softly", False]
        del stack
        assert alive() is None

    run(main)


class Pending:
    """Something to await that is neither a coroutine nor a future."""

    def __await__(self) -> Any:
        yield from asyncio.sleep(0).__await__()


class ClosedByPending:
    is_shut = False

    def close(self) -> Pending:
        self.is_shut = True
        return Pending()


def test_what_returns_something_strange_to_await_is_guarded_no_more(run: Any) -> None:
    async def main(*, fails: bool) -> Any:
        async with TaskScope(on_leak="ignore") as scope:
            thing, event = guard(ClosedByPending()), asyncio.Event()

            async def uses() -> None:
                await event.wait()
                if fails and thing.is_shut:
                    raise RuntimeError("it is closed")

            task = asyncio.create_task(uses(), name="user")
            await asyncio.sleep(0)
            await thing.close()
            assert "close" not in vars(thing)
            event.set()
            await asyncio.wait([task])
            assert fails is (task.exception() is not None)
        return scope.report

    assert accused(run(lambda: main(fails=True))) == ["user"]
    assert run(lambda: main(fails=False)).ok


class WithFlag:
    closed = False

    def __init__(self) -> None:
        self.closed = False

    def close(self) -> None:
        self.closed = True


def test_closing_takes_the_guard_off_first(run: Any) -> None:
    async def main() -> Any:
        async with TaskScope(on_leak="ignore") as scope:
            plain, event = guard(Plain(), "by guard"), asyncio.Event()
            async with closing(plain, "by closing"):
                task = asyncio.create_task(holds(plain, event))
                await asyncio.sleep(0)
            event.set()
            await task
        return scope.report

    [finding] = run(main).findings
    assert finding.what == "test_guard.Plain 'by closing'"


def test_the_last_of_two_guards_counts(run: Any) -> None:
    async def main() -> Any:
        async with TaskScope(on_leak="ignore") as scope:
            plain, event = guard(guard(Plain(), "first"), "second"), asyncio.Event()
            task = asyncio.create_task(holds(plain, event))
            await asyncio.sleep(0)
            plain.close()
            plain.close()
            event.set()
            await task
        assert "close" not in vars(plain)
        return scope.report

    [finding] = run(main).findings
    assert finding.what == "test_guard.Plain 'second'"


def test_who_closes_it_is_not_accused_nor_who_closes_it_too(run: Any) -> None:
    async def main() -> Any:
        async with TaskScope(grace=5.0) as scope:
            twofold = guard(Twofold())

            async def closes() -> None:
                await twofold.aclose()
                for _ in range(50):
                    await asyncio.sleep(0)

            asyncio.create_task(closes())
            asyncio.create_task(closes())
            await asyncio.sleep(0)
        return scope.report

    assert run(main).ok


WAITS: dict[str, Callable[[Any], Any]] = {
    "await": lambda closing: closing,
    "wait_for": lambda closing: asyncio.wait_for(closing, 5),
    "shield": lambda closing: asyncio.shield(closing),
    "task": lambda closing: asyncio.create_task(closing),
    "gather": lambda closing: asyncio.gather(closing, asyncio.sleep(0)),
    "wait": lambda closing: asyncio.wait([asyncio.create_task(closing)]),
    "as_completed": lambda closing: next(iter(asyncio.as_completed([closing]))),
    "shielded in wait_for": lambda closing: asyncio.wait_for(asyncio.shield(closing), 5),
    "gathered in a task": lambda closing: asyncio.create_task(asyncio.wait_for(asyncio.gather(closing), 5)),
}


@pytest.mark.parametrize("how", WAITS)
@pytest.mark.parametrize("resource", ["guard", "closing"])
def test_who_has_it_closed_by_a_task_and_waits_is_not_accused(run: Any, how: str, resource: str) -> None:
    async def close_in_block(thing: Any) -> None:
        async with closing(thing):
            pass

    async def main() -> Any:
        async with TaskScope(grace=5.0) as scope:

            async def closes() -> None:
                twofold = guard(Twofold()) if resource == "guard" else Twofold()
                await WAITS[how](twofold.aclose() if resource == "guard" else close_in_block(twofold))
                for _ in range(50):
                    await asyncio.sleep(0)
                assert twofold is not None

            await asyncio.create_task(closes())
        return scope.report

    report = run(main)
    assert report.ok, str(report)


@pytest.mark.parametrize("how", ["guard", "closing"])
def test_two_that_close_it_do_not_accuse_each_other(run: Any, how: str) -> None:
    class Slow:
        def __init__(self) -> None:
            self.turns = [30, 5]

        async def aclose(self) -> None:
            for _ in range(self.turns.pop()):
                await asyncio.sleep(0)

    async def main() -> Any:
        async with TaskScope(grace=5.0) as scope:
            slow = Slow()

            async def closes() -> None:
                if how == "guard":
                    await slow.aclose()
                else:
                    async with closing(slow):
                        await asyncio.sleep(0)
                for _ in range(50):
                    await asyncio.sleep(0)
                assert slow is not None

            if how == "guard":
                guard(slow)
            tasks = [asyncio.create_task(closes()), asyncio.create_task(closes())]
            await asyncio.wait(tasks)
        return scope.report

    report = run(main)
    assert report.ok, str(report)


def test_a_flag_that_something_else_has_set_is_seen(run: Any) -> None:
    async def main(fails: bool) -> Any:
        async with TaskScope(grace=5.0, on_leak="ignore") as scope:
            thing, event = guard(WithFlag()), asyncio.Event()

            async def uses() -> None:
                await event.wait()
                if thing.closed and fails:
                    raise RuntimeError("it is closed")

            task = asyncio.create_task(uses(), name="user")
            await asyncio.sleep(0)
            thing.closed = True
            event.set()
        assert task.done()
        if fails:
            assert isinstance(task.exception(), RuntimeError)
        return scope.report

    assert accused(run(lambda: main(fails=True))) == ["user"]
    # Who does not fail may be the one who has closed it.
    assert run(lambda: main(fails=False)).ok


def test_what_was_closed_before_the_scope_began_is_not_its_business(run: Any) -> None:
    async def main() -> Any:
        database = guard(sqlite3.connect(":memory:"))
        database.close()
        async with TaskScope(grace=5.0) as scope:
            event = asyncio.Event()

            async def uses() -> None:
                await event.wait()
                database.execute("SELECT 1")

            task = asyncio.create_task(uses())
            await asyncio.sleep(0)
            event.set()
        assert isinstance(task.exception(), sqlite3.ProgrammingError)
        return scope.report

    assert run(main).ok


@pytest.mark.parametrize("bad", [None, 5, "file", object(), [1], (1, 2), open])
def test_what_cannot_be_noticed_is_refused(bad: object) -> None:
    with pytest.raises(TypeError, match=r"^resource=.*taskscope\.closing\(resource\)"):
        guard(bad)


def test_so_is_what_has_no_room_for_a_method_of_its_own() -> None:
    class Slotted:
        __slots__ = ("__weakref__",)

        def close(self) -> None:
            pass

    with pytest.raises(TypeError, match="closing"):
        guard(Slotted())


def test_bad_names_are_refused() -> None:
    with pytest.raises(TypeError, match="name=5"):
        guard(Plain(), 5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="name=''"):
        guard(Plain(), "")


def test_switched_off_nothing_is_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKSCOPE", "off")
    plain = Plain()
    assert guard(plain) is plain
    assert "close" not in vars(plain)


def test_what_can_only_be_looked_at_needs_a_loop() -> None:
    database = sqlite3.connect(":memory:")
    try:
        with pytest.raises(RuntimeError, match="running event loop"):
            guard(database)
    finally:
        database.close()


def test_outside_of_a_loop_the_methods_are_wrapped(run: Any) -> None:
    plain = guard(Plain())

    async def main() -> Any:
        async with TaskScope(on_leak="ignore") as scope:
            event = asyncio.Event()
            task = asyncio.create_task(holds(plain, event), name="holder")
            await asyncio.sleep(0)
            plain.close()
            event.set()
            await task
        return scope.report

    assert accused(run(main)) == ["holder"]


def test_a_proof_is_still_found_for_who_holds_a_guarded_resource(run: Any) -> None:
    async def main() -> Any:
        async with TaskScope(on_leak="ignore", grace=5.0) as scope:
            plain = guard(Plain())
            asyncio.create_task(holds(plain, asyncio.Event()), name="stuck")
            await asyncio.sleep(0)
            plain.close()
            del plain
        return scope.report

    report = run(main)
    assert [leak.verdict for leak in report.leaks] == ["deadlocked"]
    assert accused(report) == ["stuck"]


def test_and_while_it_is_open(run: Any) -> None:
    async def main() -> Any:
        async with TaskScope(on_leak="ignore", grace=5.0) as scope:
            asyncio.create_task(holds(guard(Plain()), asyncio.Event()), name="stuck")
            await asyncio.sleep(0)
        return scope.report

    assert [leak.verdict for leak in run(main).leaks] == ["deadlocked"]


def test_guards_of_what_is_closed_do_not_pile_up(run: Any) -> None:
    async def main() -> None:
        async with TaskScope() as scope:
            alive = []
            for _ in range(1000):
                database = guard(sqlite3.connect(":memory:"))
                alive.append(database)
                if len(alive) > 5:
                    alive.pop(0).close()
                assert len(scope._tracking.guards) < 100  # type: ignore[union-attr, arg-type]
            for database in alive:
                database.close()

    run(main)


def test_guards_of_what_is_open_stay(run: Any) -> None:
    async def main() -> Any:
        async with TaskScope(on_leak="ignore") as scope:
            databases = [guard(sqlite3.connect(":memory:"), str(number)) for number in range(100)]
            assert len(scope._tracking.guards) == 100  # type: ignore[union-attr, arg-type]
            event = asyncio.Event()

            async def uses() -> None:
                await event.wait()
                databases[7].execute("SELECT 1")

            task = asyncio.create_task(uses(), name="user")
            await asyncio.sleep(0)
            databases[7].close()
            databases.extend(guard(sqlite3.connect(":memory:")) for _ in range(100))
            event.set()
            await asyncio.wait([task])
            assert isinstance(task.exception(), sqlite3.ProgrammingError)
        for database in databases:
            database.close()
        return scope.report

    assert accused(run(main)) == ["user"]
