"""The same body on every kind of loop, with the same report. What differs is listed, with the reason.

The features are the rows of the table in the README, the kinds of loop its columns, and each cell is a test here.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from parity import ASYNCIO, COLUMNS, THERE, Column, Library

import taskscope
from taskscope import DeadlockError, Report, ScopeTimeoutError, TaskRecord, TaskScope, scoped

pytestmark = pytest.mark.nothing_frozen_holds_a_task

README = Path(__file__).parent.parent / "README.md"

Body = Callable[[Library], Awaitable[None]]
ROWS: dict[str, Body] = {}

# What differs, and why, as the README says it.
DIFFERENCES = (
    "Primitives and groups have the names that their library gives them.",
    "A cancel ends the wait of a task for a thread on asyncio; AnyIO and Trio shield that wait.",
    "On asyncio `find_deadlocked` finds tasks that are in no task group: who has a group can cancel those in it.",
)


def row(name: str) -> Callable[[Body], Body]:
    """Makes a function a row of the table: it runs on every kind of loop, and fails where the feature is missing."""

    def note(body: Body) -> Body:
        ROWS[name] = body
        return body

    return note


async def for_ever(library: Library) -> None:
    await library.event().wait()


async def leaks_of(library: Library, *functions: Callable[..., Any], **policy: Any) -> Report:
    """The report of a scope that lets functions run in a group that was opened outside of it."""
    scope = TaskScope("mine", **{"grace": 0.02, "on_leak": "ignore", **policy})
    async with library.group() as group:
        spawn = library.spawner(group)
        async with scope:
            for number, function in enumerate(functions):
                spawn(function, name=f"task {number}")
            await library.settle()
    return scope.report


def only(records: tuple[TaskRecord, ...]) -> TaskRecord:
    (record,) = records
    return record


@row("a task that outlives its scope is found, with its name, spawn site and whole stack")
async def found(library: Library) -> None:
    async def inner() -> None:
        await library.event().wait()

    async def stray() -> None:
        await inner()

    leak = only((await leaks_of(library, stray)).leaks)
    assert (leak.name, leak.coroutine.rpartition(".")[2]) == ("task 0", "stray")
    assert leak.spawn_site is not None
    # asyncio has no `start_soon`: there a function of the tests spawns.
    assert leak.spawn_site.function == ("_spawner_of_asyncio.<locals>.spawn" if library is ASYNCIO else "leaks_of")
    assert [frame.function.rpartition(".")[2] for frame in leak.stack[:2]] == ["stray", "inner"]


@row("it is cancelled, and its siblings are not")
async def cancelled(library: Library) -> None:
    async def stray() -> None:
        await library.event().wait()

    async def sibling() -> None:
        await go.wait()
        went_on.append("sibling")

    go = library.event()
    went_on: list[str] = []
    scope = TaskScope(grace=0.01, on_leak="ignore")
    async with library.group() as group:
        spawn = library.spawner(group)
        spawn(sibling)
        async with scope:
            spawn(stray)
            await library.settle()
        go.set()
    assert only(scope.report.leaks).outcome == "cancelled"
    assert went_on == ["sibling"]


@row("what cancelling did is told: cancelled, finished, failed, survived")
async def outcomes(library: Library) -> None:
    async def catches() -> None:
        with contextlib.suppress(library.run_cancelled()):
            await library.event().wait()

    async def survives() -> None:
        while not over.is_set():
            with contextlib.suppress(library.run_cancelled()):
                await library.sleep(0.001)

    over = threading.Event()
    scope = TaskScope(grace=0.01, cancel_timeout=0.05, on_leak="ignore")
    async with library.group() as group:
        spawn = library.spawner(group)
        async with scope:
            spawn(catches)
            spawn(survives)
            spawn(for_ever, library)
            await library.settle()
        over.set()
    outcomes = {record.coroutine.rpartition(".")[2]: record.outcome for record in scope.report.leaks}
    assert outcomes == {"catches": "finished", "survives": "survived", "for_ever": "cancelled"}


@row("a task that ends within the grace is told of, and is no leak")
async def late(library: Library) -> None:
    async def ends() -> None:
        await library.sleep(0.2)

    report = await leaks_of(library, ends, grace=10)
    assert report.ok
    assert only(report.late).outcome == "finished"
    assert report.settled_after < 5


@row("tasks of a group inside the scope are no leaks")
async def inside(library: Library) -> None:
    async def worker() -> None:
        await library.sleep(0)

    async with TaskScope() as scope:
        async with library.group() as group:
            spawn = library.spawner(group)
            for _ in range(200):
                spawn(worker)
    assert scope.report.ok
    assert scope.report.spawned == 200
    assert not scope.report.late


@row("children of a leak are found with it")
async def children(library: Library) -> None:
    go = library.event()

    async def child() -> None:
        await go.wait()

    async def parent() -> None:
        async with library.group() as group:
            spawn = library.spawner(group)
            spawn(child)

    report = await leaks_of(library, parent)
    by_name = {record.coroutine.rpartition(".")[2]: record for record in report.leaks}
    assert set(by_name) == {"parent", "child"}
    assert {record.outcome for record in report.leaks} == {"cancelled"}
    wait = by_name["parent"].wait
    assert by_name["parent"].verdict == "joining"
    assert wait is not None
    assert (wait.primitive, wait.awaited) == (library.primitives["group"], (by_name["child"].name,))


@row("the group that holds it is named, and where that was opened")
async def owner(library: Library) -> None:
    leak = only((await leaks_of(library, functools.partial(for_ever, library))).leaks)
    assert leak.owner is not None
    assert leak.owner.startswith(f"{library.group_kind} opened in ")


@row('left to its group by outer_groups="transfer"')
async def transferred(library: Library) -> None:
    go = library.event()
    scope = TaskScope(grace=0.01, outer_groups="transfer")
    async with library.group() as group:
        spawn = library.spawner(group)
        async with scope:
            spawn(go.wait)
            await library.settle()
        go.set()
    assert scope.report.ok
    assert len(scope.report.transferred) == 1


async def point_of(library: Library, stray: Callable[[], Awaitable[None]]) -> tuple[str, str | None]:
    record = only((await leaks_of(library, stray, grace=0)).leaks)
    assert record.wait is not None
    return record.wait.primitive, record.wait.detail


@row("wait points, with the state of what is waited for")
async def wait_points(library: Library) -> None:
    send, _ = library.channel(1)
    await send("fills it")

    async def sends() -> None:
        await send("one too many")

    async def receives() -> None:
        await empty()

    async def sleeps() -> None:
        await library.sleep(1000)

    _, empty = library.channel(1)
    full = await point_of(library, sends)
    assert full[0] == library.primitives["send"]
    assert "1" in str(full[1])
    assert (await point_of(library, receives))[0] == library.primitives["receive"]
    assert (await point_of(library, functools.partial(for_ever, library)))[0] == library.primitives["event"]
    slept = await point_of(library, sleeps)
    assert slept[0] == library.primitives["sleep"]
    assert " s left" in str(slept[1])


@row("who holds the lock that it waits for")
async def holder(library: Library) -> None:
    lock = library.lock()

    async def holds() -> None:
        async with lock:
            await library.sleep(1000)

    async def waits() -> None:
        async with lock:
            pass

    scope = TaskScope(grace=0, on_leak="ignore")
    async with library.group() as group:
        spawn = library.spawner(group)
        async with scope:
            spawn(holds, name="task 0")
            await library.settle()
            spawn(waits)
            await library.settle()
    wait = {record.coroutine.rpartition(".")[2]: record.wait for record in scope.report.leaks}["waits"]
    assert wait is not None
    assert wait.primitive == library.primitives["lock"]
    assert "held by task 'task 0'" in str(wait.detail)


@row("verdicts: blocked, sleeping, joining, runnable, io")
async def verdicts(library: Library) -> None:
    async def sleeps() -> None:
        await library.sleep(1000)

    async def spins() -> None:
        while True:
            await library.sleep(0)

    report = await leaks_of(library, functools.partial(for_ever, library), sleeps, spins, grace=0)
    assert [record.verdict for record in report.leaks][1:] == ["sleeping", "runnable"]
    assert report.leaks[0].verdict in ("blocked", "deadlocked")


@row("a task that waits for a thread")
async def threads(library: Library) -> None:
    over = threading.Event()

    async def waits() -> None:
        await library.in_thread(over.wait)

    scope = TaskScope(grace=0, cancel_timeout=0.05, on_leak="ignore")
    async with library.group() as group:
        spawn = library.spawner(group)
        async with scope:
            spawn(waits)
            await library.settle()
        over.set()
    leak = only(scope.report.leaks)
    assert leak.wait is not None
    assert (leak.wait.kind, leak.wait.primitive) == ("thread", library.primitives["thread"])
    assert leak.outcome == ("cancelled" if library is ASYNCIO else "survived")


@row("proof of deadlock")
async def proof(library: Library) -> None:
    report = await _stuck_pair(library, grace=0)
    assert [record.verdict for record in report.leaks] == ["deadlocked", "deadlocked"]
    assert sorted(report.leaks[0].stuck_with) == sorted(
        {record.name for record in report.leaks} - {report.leaks[0].name}
    )


@row("a proof cuts the grace short")
async def cut_short(library: Library) -> None:
    report = await _stuck_pair(library, grace=60)
    assert len(report.leaks) == 2
    assert report.settled_after < 30


@row("no proof where live code could still wake it")
async def no_proof(library: Library) -> None:
    event = library.event()
    report = await leaks_of(library, event.wait)
    assert only(report.leaks).verdict == "blocked"
    event.set()


async def _stuck_pair(library: Library, **policy: Any) -> Report:
    """Two tasks that take two locks in different orders, and that nobody else knows of."""

    def plant(spawn: Callable[..., None]) -> None:
        first, second = library.lock(), library.lock()

        async def takes(one: Any, other: Any) -> None:
            async with one:
                await library.settle()
                async with other:
                    pass

        spawn(takes, first, second, name="task 0")
        spawn(takes, second, first, name="task 1")

    scope = TaskScope("mine", **{"on_leak": "ignore", **policy})
    async with library.group() as group:
        async with scope:
            plant(library.spawner(group))
            for _ in range(5):
                await library.settle()
    return scope.report


@row("timeout= ends a body and tells where it was")
async def timeout(library: Library) -> None:
    with pytest.raises(ScopeTimeoutError) as caught:
        async with TaskScope(timeout=0.02):
            await library.event().wait()
    body = caught.value.report.body
    assert caught.value.report.phase == "body"
    assert body is not None
    assert body.wait is not None
    assert body.wait.primitive == library.primitives["event"]


@row("watch= ends a body that is proven stuck")
async def watch(library: Library) -> None:
    async def receives() -> None:
        _, receive = library.channel(1)
        await receive()

    with pytest.raises(DeadlockError) as caught:
        async with TaskScope(watch=0.01, timeout=20):
            async with library.group() as group:
                spawn = library.spawner(group)
                spawn(for_ever, library)
                await library.event().wait()
    assert caught.value.report.body is not None
    assert caught.value.report.body.verdict == "deadlocked"


@row("scopes that run side by side do not see each other's tasks")
async def side_by_side(library: Library) -> None:
    async def one(scope: TaskScope, leaks: int, spawn: Callable[..., None]) -> None:
        async with scope:
            for _ in range(leaks):
                spawn(for_ever, library)
            await library.settle()

    scopes = [TaskScope(grace=0.01, on_leak="ignore") for _ in range(5)]
    async with library.group() as group:
        spawn = library.spawner(group)
        async with library.group() as runs:
            run = library.spawner(runs)
            for number, scope in enumerate(scopes):
                run(one, scope, number, spawn)
    assert [len(scope.report.leaks) for scope in scopes] == [0, 1, 2, 3, 4]


@row("a closed scope passes what is spawned under its tag to the next one outside")
async def passed_on(library: Library) -> None:
    async def spawns_late(spawn: Callable[..., None]) -> None:
        await go.wait()
        spawn(for_ever, library)

    go = library.event()
    outer = TaskScope("outer", grace=0.01, on_leak="ignore")
    inner = TaskScope("inner", grace=0, outer_groups="transfer")
    async with library.group() as group:
        spawn = library.spawner(group)
        async with outer:
            async with inner:
                spawn(spawns_late, spawn)
                await library.settle()
            go.set()
            await library.settle()
    assert only(outer.report.leaks).closed_scope == "inner"


@row("a cancel or timeout round the scope works as ever")
async def round_the_scope(library: Library) -> None:
    scope = TaskScope(grace=60, on_leak="raise")
    went_on = False
    async with library.group() as group:
        spawn = library.spawner(group)
        async with library.move_on_after(0.05):
            async with scope:
                spawn(library.sleep, 1000)
                await library.settle()
            went_on = True
    assert not went_on
    assert only(scope.report.leaks).outcome == "cancelled"
    assert scope.report.settled_after < 30


@row("the body's exception is never masked")
async def body_error(library: Library) -> None:
    async with library.group() as group:
        spawn = library.spawner(group)
        with pytest.raises(ValueError, match="mine") as caught:
            async with TaskScope(grace=0.01):
                spawn(for_ever, library)
                raise ValueError("mine")
    assert "outlived scope" in caught.value.__notes__[0]


@row("hand_off, adopt, snapshot, current_scope")
async def handing(library: Library) -> None:
    tasks: list[Any] = []

    async def service() -> None:
        tasks.append(running_task())
        await library.event().wait()

    taker = TaskScope("taker", grace=0.01, on_leak="ignore")
    giver = TaskScope("giver", grace=0.01)
    async with library.group() as group:
        spawn = library.spawner(group)
        async with taker:
            async with giver:
                assert taskscope.current_scope() is giver
                spawn(service)
                await library.settle()
                assert len(giver.snapshot().leaks) == 1
                taskscope.hand_off(tasks[0], taker, reason="it serves all")
    assert only(giver.report.transferred).outcome_detail == "handed off: it serves all"
    assert only(taker.report.leaks).outcome == "cancelled"


def spawn_alone(function: Callable[[], Any], name: str) -> None:
    import asyncio

    asyncio.get_running_loop().create_task(function(), name=name)


def running_task() -> Any:
    import asyncio

    import trio

    return trio.lowlevel.current_task() if is_trio() else asyncio.current_task()


def is_trio() -> bool:
    import trio

    with contextlib.suppress(RuntimeError):
        return trio.lowlevel.current_task() is not None
    return False


@row("scoped on functions and on async generators")
async def decorated(library: Library) -> None:
    reports: list[Report] = []
    policy: dict[str, Any] = {"grace": 0.01, "on_leak": "ignore", "on_report": reports.append}

    @scoped(**policy)
    async def function(spawn: Callable[..., None]) -> None:
        spawn(for_ever, library, name="of the function")
        await library.settle()

    @scoped(**policy)
    async def generator(spawn: Callable[..., None]) -> AsyncIterator[int]:
        yield 1
        spawn(for_ever, library, name="of the generator")
        await library.settle()
        yield 2

    async with library.group() as group:
        spawn = library.spawner(group)
        async with TaskScope(grace=0.01, on_leak="ignore"):
            await function(spawn)
            async for _ in generator(spawn):
                spawn(for_ever, library, name="of the consumer")
    assert [only(report.leaks).name for report in reports] == ["of the function", "of the generator"]


@row("install with a root scope")
async def rooted(library: Library) -> None:
    async with library.group() as group:
        spawn = library.spawner(group)
        async with taskscope.install(root="app", grace=0.01, on_leak="ignore") as installation:
            spawn(for_ever, library)
            await library.settle()
    assert installation.report is not None
    assert only(installation.report.leaks).outcome == "cancelled"


@row("find_deadlocked in a program without scopes")
async def on_demand(library: Library) -> None:
    found: list[str] = []
    looked = library.event()

    def plant(spawn: Callable[..., None]) -> None:
        spawn_stuck = spawn if is_trio() else spawn_alone
        spawn_stuck(library.event().wait, name="stuck")
        spawn(ends_it_all, name="alive")
        spawn(looks, name="looks")

    async def ends_it_all() -> None:
        await looked.wait()
        raise KeyError("enough")

    async def looks() -> None:
        await library.settle()
        report = taskscope.find_deadlocked()
        assert report.phase == "loop"
        found.extend(record.name for record in report.leaks)
        looked.set()

    gc.disable()  # it may destroy a stuck task that nobody has looked for yet
    try:
        with pytest.RaisesGroup(KeyError):
            async with library.group() as group:
                plant(library.spawner(group))
    finally:
        gc.enable()
    assert found == ["stuck"]


class Account:
    """Uses what has to be closed."""

    def __init__(self) -> None:
        self.is_shut = False
        self.balance = 0

    async def use_when(self, event: Any) -> None:
        await event.wait()
        self.balance += 1

    async def aclose(self) -> None:
        self.is_shut = True


async def closed_too_early(library: Library, close: Callable[[Account, Callable[[], None]], Awaitable[None]]) -> Report:
    """The report of a scope in which a resource is closed, and a task told only then to end that uses it."""
    event, scope = library.event(), TaskScope(grace=5.0, on_leak="ignore")
    async with library.group() as group:
        async with scope:
            account = Account()

            def begin() -> None:
                library.spawner(group)(account.use_when, event, name="user")

            await close(account, begin)
            event.set()
    return scope.report


def tells_of_a_closed_account(report: Report) -> bool:
    (finding,) = report.findings
    return (finding.kind, finding.what, finding.variable, finding.outcome) == (
        *("closed-in-use", "test_parity.Account 'savings'"),
        *("self", "ended"),
    )


@row("closing: a resource that is closed while a task holds it, with the variable")
async def closed_in_use(library: Library) -> None:
    async def too_early(account: Account, begin: Callable[[], None]) -> None:
        async with taskscope.closing(account, "savings"):
            begin()
            await library.settle()

    assert tells_of_a_closed_account(await closed_too_early(library, too_early))


@row("guard: the same where it is closed elsewhere")
async def closed_elsewhere(library: Library) -> None:
    async def too_early(account: Account, begin: Callable[[], None]) -> None:
        taskscope.guard(account, "savings")
        begin()
        await library.settle()
        await account.aclose()

    assert tells_of_a_closed_account(await closed_too_early(library, too_early))


@row("neither accuses tasks that ended before, or that wait for the one that closes")
async def closed_in_order(library: Library) -> None:
    async def closes(account: Account) -> None:
        async with taskscope.closing(account):
            event = library.event()
            async with library.group() as group:
                library.spawner(group)(account.use_when, event)
                event.set()

    async def parent() -> None:
        account = taskscope.guard(Account())
        async with library.group() as group:
            library.spawner(group)(closes, account)
        assert account.is_shut

    async with TaskScope(grace=5.0) as scope, library.group() as group:
        library.spawner(group)(parent)
    assert scope.report.ok


@row("TASKSCOPE=off makes all of it inert")
async def switched_off(library: Library) -> None:
    patch = pytest.MonkeyPatch()
    patch.setenv("TASKSCOPE", "off")
    go = library.event()
    try:
        async with library.group() as group:
            spawn = library.spawner(group)
            async with TaskScope(grace=0) as scope:
                spawn(go.wait)
            go.set()
    finally:
        patch.undo()
    assert scope.report.ok


CELLS = [pytest.param(feature, column, id=f"{column.name}: {feature}") for feature in ROWS for column in THERE]


@pytest.mark.filterwarnings("ignore:Unclosed <MemoryObject:ResourceWarning")
@pytest.mark.parametrize(("feature", "column"), CELLS)
def test_a_feature_is_there(feature: str, column: Column) -> None:
    column.run(ROWS[feature])


def table() -> str:
    """The table as the README shows it."""
    names = [column.name for column in COLUMNS]
    lines = ["| | " + " | ".join(names) + " |", "|---|" + ":-:|" * len(names)]
    lines += [f"| {feature} | " + " | ".join("✓" for _ in names) + " |" for feature in ROWS]
    return "\n".join(lines)


def differences() -> str:
    return "\n".join(f"- {difference}" for difference in DIFFERENCES)


def test_the_readme_shows_the_table_that_is_tested_and_what_differs() -> None:
    readme = README.read_text("utf-8")
    assert table() in readme
    assert differences() in readme
