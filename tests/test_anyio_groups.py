"""Task groups of asyncio and AnyIO: which one holds a task, and which tasks are waited for in one."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext, suppress
from typing import Any

import anyio
import anyio.abc
import anyio.to_process
import pytest
from conftest import Run

from taskscope import TaskScope

Group = Any
OpenGroup = Callable[[], Any]
Spawn = Callable[[], None]
Body = Callable[[Spawn], Coroutine[Any, Any, None]]


pytestmark = pytest.mark.usefixtures("eager_tasks_are_known_to_anyio")


async def hang() -> None:
    await asyncio.Event().wait()


def spawn_into(group: Group) -> Spawn:
    if isinstance(group, asyncio.TaskGroup):
        return lambda: group.create_task(hang(), name="stray") and None
    return lambda: group.start_soon(hang, name="stray")


@pytest.fixture(params=[asyncio.TaskGroup, anyio.create_task_group], ids=["TaskGroup", "AnyIO"])
def open_group(request: pytest.FixtureRequest) -> OpenGroup:
    made: OpenGroup = request.param
    return made


def line_of(function: Any, text: str) -> int:
    lines, first = inspect.getsourcelines(function)
    return first + next(number for number, line in enumerate(lines) if text in line)


# Ways to open a group, each with what the report says of the place: the function, and the line with the mark.
async def round_the_scope(open_group: OpenGroup, body: Body) -> None:
    async with open_group() as group:  # here
        await body(spawn_into(group))


async def among_other_blocks(open_group: OpenGroup, body: Body) -> None:
    async with asyncio.Lock():
        with nullcontext(), suppress(KeyError):
            async with open_group() as group:  # here
                try:
                    exit = group.__aexit__
                    with nullcontext():
                        async with asyncio.timeout(None), asyncio.Semaphore():
                            await body(spawn_into(group))
                finally:
                    del exit


async def inside_of_another(open_group: OpenGroup, body: Body) -> None:
    async with open_group():
        async with open_group() as group:  # here
            async with open_group() as innermost:
                await body(spawn_into(group))
                del innermost


async def by_another_task(open_group: OpenGroup, body: Body) -> None:
    opened: asyncio.Future[Group] = asyncio.get_running_loop().create_future()
    close = asyncio.Event()

    async def opens() -> None:
        async with open_group() as group:  # here
            opened.set_result(group)
            await close.wait()

    opener = asyncio.create_task(opens(), name="opener")
    await body(spawn_into(await opened))
    close.set()
    await opener


async def by_one_who_waits_for_its_tasks(open_group: OpenGroup, body: Body) -> None:
    opened: asyncio.Future[Group] = asyncio.get_running_loop().create_future()
    close = asyncio.Event()

    async def waits() -> None:
        await close.wait()

    async def opens() -> None:
        async with open_group() as group:  # here
            group.create_task(waits()) if isinstance(group, asyncio.TaskGroup) else group.start_soon(waits)
            opened.set_result(group)

    opener = asyncio.create_task(opens(), name="opener")
    await body(spawn_into(await opened))
    close.set()
    await opener


async def by_a_fixture(open_group: OpenGroup, body: Body) -> None:
    async def fixture() -> AsyncIterator[Spawn]:
        async with open_group() as group:  # here
            yield spawn_into(group)

    generator = fixture()
    await body(await anext(generator))
    with suppress(StopAsyncIteration):
        await anext(generator)


async def by_a_context_manager(open_group: OpenGroup, body: Body) -> None:
    @asynccontextmanager
    async def service() -> AsyncIterator[Spawn]:
        async with open_group() as group:  # here
            yield spawn_into(group)

    async with service() as spawn:
        await body(spawn)


async def by_hand(open_group: OpenGroup, body: Body) -> None:
    async with AsyncExitStack() as stack:
        group = await stack.enter_async_context(open_group())
        await body(spawn_into(group))


WAYS: dict[Any, str | None] = {
    round_the_scope: "round_the_scope",
    among_other_blocks: "among_other_blocks",
    inside_of_another: "inside_of_another",
    by_another_task: "by_another_task.<locals>.opens",
    by_one_who_waits_for_its_tasks: "by_one_who_waits_for_its_tasks.<locals>.opens",
    by_a_fixture: "by_a_fixture.<locals>.fixture",
    by_a_context_manager: "by_a_context_manager.<locals>.service",
    by_hand: None,
}


def expected_owner(way: Any, open_group: OpenGroup) -> str:
    kind = "TaskGroup" if open_group is asyncio.TaskGroup else "AnyIO task group"
    opener = "opener" if way in (by_another_task, by_one_who_waits_for_its_tasks) else "host"
    if WAYS[way] is None:
        return f"{kind} opened by task '{opener}'"
    return f"{kind} opened in {WAYS[way]!r} (test_anyio_groups.py:{line_of(way, '# here')}) by task '{opener}'"


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_stray_names_the_group_that_holds_it_and_where_that_was_opened(
    run: Run, way: Any, open_group: OpenGroup
) -> None:
    async def main() -> None:
        this = asyncio.current_task()
        assert this is not None
        this.set_name("host")

        async def body(spawn: Spawn) -> None:
            async with TaskScope(grace=0, on_leak="ignore") as scope:
                spawn()
                asyncio.create_task(hang(), name="alone")
                await asyncio.sleep(0.001)
            owners = {leak.name: leak.owner for leak in scope.report.leaks}
            assert owners == {"stray": expected_owner(way, open_group), "alone": None}

        await way(open_group, body)

    run(main)


@pytest.mark.parametrize("way", [by_another_task, by_a_fixture], ids=lambda way: way.__name__)
def test_a_task_that_is_left_to_its_group_names_it_too(run: Run, way: Any, open_group: OpenGroup) -> None:
    async def main() -> None:
        this = asyncio.current_task()
        assert this is not None
        this.set_name("host")
        strays: list[asyncio.Task[Any]] = []

        async def body(spawn: Spawn) -> None:
            async with TaskScope(grace=0, outer_groups="transfer") as scope:
                spawn()
                await asyncio.sleep(0.001)
            [record] = scope.report.transferred
            assert record.owner == expected_owner(way, open_group)
            strays.extend(task for task in asyncio.all_tasks() if task.get_name() == "stray")
            for stray in strays:
                stray.cancel()

        await way(open_group, body)
        assert strays

    run(main)


def test_a_group_inside_of_the_scope_is_no_owner_outside(run: Run, open_group: OpenGroup) -> None:
    async def main() -> None:
        async with TaskScope(grace=0, outer_groups="transfer", on_leak="ignore") as scope:

            async def opens() -> None:
                async with open_group() as group:
                    spawn_into(group)()
                    await hang()

            asyncio.create_task(opens(), name="opener")
            await asyncio.sleep(0.001)
        assert not scope.report.transferred
        owners = {leak.name: leak.owner for leak in scope.report.leaks}
        assert owners["opener"] is None
        assert re.fullmatch(r".*ask ?[gG]roup opened in '.*opens' \(.*\) by task 'opener'", owners["stray"] or "")

    run(main)


def test_a_chain_of_groups_is_followed_to_its_end(run: Run) -> None:
    async def nested(depth: int) -> None:
        if not depth:
            await hang()
        async with anyio.create_task_group() as group:
            group.start_soon(nested, depth - 1, name=f"depth {depth - 1}")

    async def main() -> None:
        async with TaskScope(grace=0, on_leak="ignore") as scope:
            asyncio.create_task(nested(3), name="depth 3")
            await asyncio.sleep(0.01)
        waits = {leak.name: leak.wait for leak in scope.report.leaks}
        outermost = waits["depth 3"]
        assert outermost is not None and outermost.primitive == "TaskGroup.__aexit__"
        assert outermost.awaited == ("depth 2",)
        assert outermost.path == ("depth 2", "depth 1", "depth 0") and not outermost.is_cycle
        assert {leak.outcome for leak in scope.report.leaks} == {"cancelled"}

    run(main)


def test_a_cycle_through_a_group_is_named_with_every_member(run: Run) -> None:
    async def main() -> None:
        async with TaskScope(grace=0, on_leak="ignore") as scope:

            async def opens() -> None:
                opener = asyncio.current_task()
                assert opener is not None

                async def waits_for_its_opener() -> None:
                    await asyncio.wait([opener])

                async with anyio.create_task_group() as group:
                    group.start_soon(waits_for_its_opener, name="child")

            asyncio.create_task(opens(), name="opener")
            await asyncio.sleep(0.001)
        waits = {leak.name: leak.wait for leak in scope.report.leaks}
        for name, path in (("opener", ("child", "opener")), ("child", ("opener", "child"))):
            wait = waits[name]
            assert wait is not None and wait.is_cycle and wait.path == path

    run(main)


@pytest.mark.skipif(not hasattr(anyio, "TaskHandle"), reason="there are no handles in this version of AnyIO")
def test_a_cycle_of_handles_is_named_with_every_member(run: Run) -> None:
    async def main() -> None:
        handles: list[Any] = []

        async def joins(number: int) -> None:
            await asyncio.sleep(0)
            await handles[number].wait()

        async with TaskScope(grace=0, on_leak="ignore") as scope:

            async def opens() -> None:
                async with anyio.create_task_group() as group:
                    handles.extend(group.create_task(joins((n + 1) % 3), name=f"task {n}") for n in range(3))

            asyncio.create_task(opens(), name="opener")
            await asyncio.sleep(0.001)
        joined = {leak.name: leak.wait for leak in scope.report.leaks if leak.name.startswith("task")}
        assert len(joined) == 3
        for name, wait in joined.items():
            assert wait is not None and wait.primitive == "TaskHandle.wait" and wait.is_cycle
            assert set(wait.path) == {"task 0", "task 1", "task 2"} and wait.path[-1] == name

    run(main)


def test_start_waits_for_the_task_that_it_has_started(run: Run) -> None:
    async def main() -> None:
        async def never_starts(*, task_status: anyio.abc.TaskStatus[None]) -> None:
            await hang()

        async def starts() -> None:
            async with anyio.create_task_group() as group:
                await group.start(never_starts, name="started")

        async with TaskScope(grace=0, on_leak="ignore") as scope:
            asyncio.create_task(starts(), name="starter")
            await asyncio.sleep(0.001)
        wait = next(leak.wait for leak in scope.report.leaks if leak.name == "starter")
        assert wait is not None and (wait.primitive, wait.path) == ("TaskGroup.start", ("started",))

    run(main)


class TestCancellingOne:
    """A stray of a task group is cancelled alone, and not where it shields itself."""

    def test_its_siblings_and_its_host_go_on(self, run: Run) -> None:
        async def main() -> tuple[list[str], bool]:
            said: list[str] = []
            go = anyio.Event()

            async def sibling() -> None:
                await go.wait()
                said.append("sibling")

            async with anyio.create_task_group() as group:
                group.start_soon(sibling)
                async with TaskScope(grace=0.01, on_leak="ignore") as scope:
                    group.start_soon(anyio.Event().wait)
                    await anyio.wait_all_tasks_blocked()
                go.set()
                await anyio.wait_all_tasks_blocked()
                was_cancelled = group.cancel_scope.cancel_called
            assert [record.outcome for record in scope.report.leaks] == ["cancelled"]
            return said, was_cancelled

        assert run(main) == (["sibling"], False)

    def test_a_group_that_is_cancelled_stays_so(self, run: Run) -> None:
        async def main() -> None:
            async with anyio.create_task_group() as group:
                async with TaskScope(grace=0, on_leak="ignore"):
                    group.start_soon(anyio.Event().wait)
                    await anyio.wait_all_tasks_blocked()
                    group.cancel_scope.cancel()
                    with anyio.CancelScope(shield=True):
                        await anyio.wait_all_tasks_blocked()
            assert group.cancel_scope.cancel_called

        run(main)

    def test_one_that_fails_when_cancelled_still_fails_its_group(self, run: Run) -> None:
        async def fails() -> None:
            try:
                await anyio.Event().wait()
            finally:
                raise OSError("while closing")

        async def main() -> None:
            with pytest.RaisesGroup(OSError):
                async with anyio.create_task_group() as group:
                    async with TaskScope(grace=0, on_leak="ignore"):
                        group.start_soon(fails)
                        await anyio.wait_all_tasks_blocked()

        run(main)

    def test_a_shield_keeps_it(self, run: Run) -> None:
        async def main() -> tuple[list[str], TaskScope]:
            said: list[str] = []
            over = anyio.Event()

            async def stray() -> None:
                with anyio.CancelScope(shield=True):
                    await over.wait()
                said.append("closed in peace")

            async with anyio.create_task_group() as group:
                async with TaskScope(grace=0, cancel_timeout=0.05, on_leak="ignore") as scope:
                    group.start_soon(stray)
                    await anyio.wait_all_tasks_blocked()
                over.set()
            return said, scope

        said, scope = run(main)
        assert said == ["closed in peace"]
        (record,) = scope.report.survivors
        assert record.outcome_detail == "it is inside a shielded cancel scope, which no cancel reaches"

    def test_it_is_cancelled_once_it_has_left_its_shield(self, run: Run) -> None:
        async def main() -> TaskScope:
            async def stray() -> None:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(0.02)
                await anyio.Event().wait()

            async with anyio.create_task_group() as group:
                async with TaskScope(grace=0, cancel_timeout=5, on_leak="ignore") as scope:
                    group.start_soon(stray)
                    await anyio.wait_all_tasks_blocked()
            return scope

        (record,) = run(main).report.leaks
        assert record.outcome == "cancelled"


def test_the_task_by_which_anyio_ends_its_processes_is_not_that_of_who_needed_one_first(run: Run) -> None:
    async def main() -> TaskScope:
        async with TaskScope(grace=0.01) as scope:
            assert await anyio.to_process.run_sync(abs, -1) == 1
        return scope

    report = run(main).report
    assert report.ok
    assert [record.name for record in report.ignored] == ["AnyIO process pool shutdown task"]
