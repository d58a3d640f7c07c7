"""Which scope a task belongs to, where its context is lost, foreign, or shared with others."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any

import pytest
from conftest import Run

from taskscope import TaskScope, current_scope, hand_off, install

Coro = Coroutine[Any, Any, None]


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


def quiet(name: str | None = None, **policy: object) -> TaskScope:
    return TaskScope(name, **{"grace": 0, "on_leak": "ignore", **policy})  # type: ignore[arg-type]


def names(scope: TaskScope) -> set[str]:
    return {record.name for record in scope.report.leaks}


def in_empty_context(coro: Coro, name: str) -> None:
    loop = asyncio.get_running_loop()
    Context().run(lambda: loop.create_task(coro, name=name))


def with_empty_context(coro: Coro, name: str) -> None:
    asyncio.create_task(coro, name=name, context=Context())


def with_own_context(coro: Coro, name: str) -> None:
    asyncio.create_task(coro, name=name, context=contextvars.copy_context())


def ordinarily(coro: Coro, name: str) -> None:
    asyncio.create_task(coro, name=name)


SPAWNS: list[Callable[[Coro, str], None]] = [in_empty_context, with_empty_context, with_own_context, ordinarily]


async def dynasty(ways: list[Callable[[Coro, str], None]], all_there: asyncio.Event) -> None:
    """Each generation spawns the next one in another way."""
    if not ways:
        all_there.set()
    else:
        ways[0](dynasty(ways[1:], all_there), f"left-{len(ways) - 1}")
    await forever()


@pytest.mark.parametrize("second", SPAWNS)
@pytest.mark.parametrize("first", SPAWNS)
def test_a_lost_context_loses_no_descendant(
    run: Run, first: Callable[[Coro, str], None], second: Callable[[Coro, str], None]
) -> None:
    async def main() -> None:
        all_there = asyncio.Event()
        async with quiet("bystander") as bystander, quiet() as scope:
            first(dynasty([second, ordinarily, first, second], all_there), "left-4")
            await all_there.wait()
        assert names(scope) == {f"left-{left}" for left in range(5)}
        youngest = next(record for record in scope.report.leaks if record.name == "left-0")
        spawners = [frame.function.partition(".")[0] for frame in youngest.spawn_chain]
        assert spawners == [first.__name__, "ordinarily", second.__name__, first.__name__]
        assert bystander.report.ok and bystander.report.spawned == 0

    run(main)


def test_a_foreign_tag_never_decides(run: Run) -> None:
    """The child belongs to the scope of who spawns it, and so do its descendants."""

    async def main() -> None:
        contexts: list[Context] = []
        ready, leave, all_there = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def other() -> TaskScope:
            async with quiet("other") as scope:
                contexts.append(contextvars.copy_context())
                ready.set()
                await leave.wait()
            return scope

        stranger = asyncio.create_task(other())
        await ready.wait()
        async with quiet("mine") as mine:
            ways = [ordinarily, in_empty_context, with_own_context, ordinarily]
            asyncio.create_task(dynasty(ways, all_there), name="left-4", context=contexts[0])
            await all_there.wait()
            leave.set()
            theirs = await stranger
        assert theirs.report.ok and theirs.report.spawned == 0
        assert names(mine) == {f"left-{left}" for left in range(5)}

    run(main)


def test_a_foreign_tag_does_not_make_an_outsiders_task_ours(run: Run) -> None:
    async def grandchild(name: str) -> None:
        children.append(asyncio.create_task(forever(), name=name))
        await forever()

    children: list[asyncio.Task[None]] = []

    async def main() -> None:
        contexts: list[Context] = []
        ready, leave = asyncio.Event(), asyncio.Event()

        async def other() -> TaskScope:
            async with TaskScope("other", grace=0) as scope:
                contexts.append(contextvars.copy_context())
                ready.set()
                await leave.wait()
            return scope

        stranger = asyncio.create_task(other())
        await ready.wait()
        children.append(asyncio.create_task(grandchild("grandchild"), context=contexts[0]))
        while len(children) < 2:
            await asyncio.sleep(0)
        leave.set()
        scope = await stranger
        assert scope.report.ok
        for child in children:
            assert not child.done()
            child.cancel()

    run(main)


def test_a_given_context_is_not_written_to(run: Run) -> None:
    async def main() -> None:
        variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
        given = Context()
        async with quiet() as scope:
            asyncio.create_task(forever(), name="child", context=given)
            await asyncio.sleep(0)
            assert list(given) == []
            given.run(variable.set, "set")
        assert list(given) == [variable]
        assert names(scope) == {"child"}

    run(main)


@pytest.mark.parametrize("context", ["empty", "foreign", "lost"])
def test_scopes_opened_in_a_task_with_such_a_context_work_as_anywhere(run: Run, context: str) -> None:
    async def main() -> None:
        contexts: list[Context] = []
        ready, leave = asyncio.Event(), asyncio.Event()
        inner_scopes: list[TaskScope] = []

        async def other() -> TaskScope:
            async with quiet("other") as scope:
                contexts.append(contextvars.copy_context())
                ready.set()
                await leave.wait()
            return scope

        async def child(done: asyncio.Event) -> None:
            assert current_scope() is mine
            async with quiet("inner") as inner:
                assert current_scope() is inner
                asyncio.create_task(forever(), name="in-inner")
                asyncio.create_task(forever(), name="in-inner-lost", context=Context())
            assert current_scope() is mine
            inner_scopes.append(inner)
            asyncio.create_task(forever(), name="after-inner")
            done.set()
            await forever()

        stranger = asyncio.create_task(other())
        await ready.wait()
        async with quiet("mine") as mine:
            done = asyncio.Event()
            if context == "empty":
                asyncio.create_task(child(done), name="child", context=Context())
            elif context == "foreign":
                asyncio.create_task(child(done), name="child", context=contexts[0])
            else:
                in_empty_context(child(done), "child")
            await done.wait()
        leave.set()
        theirs = await stranger
        assert names(inner_scopes[0]) == {"in-inner", "in-inner-lost"}
        assert names(mine) == {"child", "after-inner"}
        assert theirs.report.ok and theirs.report.spawned == 0

    run(main)


def test_the_context_of_a_closed_scope_as_an_argument_does_not_decide_either(run: Run) -> None:
    async def main() -> None:
        async with quiet("outer") as outer:
            async with quiet("gone") as gone:
                context = contextvars.copy_context()
            async with quiet("inner") as inner:
                asyncio.create_task(forever(), name="child", context=context)
        assert gone.report.ok and outer.report.ok
        assert names(inner) == {"child"}
        assert inner.report.leaks[0].closed_scope is None

    run(main)


def test_the_host_may_lose_its_context_too(run: Run) -> None:
    async def main() -> None:
        async with quiet("outer") as outer, quiet("inner") as inner:
            in_empty_context(forever(), "lost")
        assert names(inner) == {"lost"}
        assert outer.report.ok

    run(main)


def test_running_in_a_copy_of_a_scopes_context_spawns_for_that_scope(run: Run) -> None:
    async def main() -> None:
        async with quiet("first") as first:
            context = contextvars.copy_context()
            async with quiet("second") as second:
                context.run(asyncio.create_task, forever(), name="by-tag")  # type: ignore[arg-type]
        assert names(first) == {"by-tag"}
        assert second.report.ok

    run(main)


class Shared:
    """Two tasks in one context object, as fixtures and tests of some plugins have it. `tenant` spawns on demand."""

    def __init__(self) -> None:
        self.context = contextvars.copy_context()
        self.orders: asyncio.Queue[str] = asyncio.Queue()
        self.children: dict[str, asyncio.Task[None]] = {}

    async def tenant(self) -> None:
        while True:
            name = await self.orders.get()
            self.children[name] = asyncio.create_task(forever(), name=name)

    async def spawn(self, name: str) -> None:
        self.orders.put_nowait(name)
        while name not in self.children:
            await asyncio.sleep(0)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_who_shares_the_hosts_context_is_not_in_the_hosts_scopes(run: Run, depth: int) -> None:
    async def main() -> None:
        shared = Shared()
        scopes: list[TaskScope] = []

        async def host(left: int) -> None:
            async with quiet(f"level-{left}") as scope:
                scopes.append(scope)
                if left > 1:
                    await host(left - 1)
                else:
                    await shared.spawn("tenants")

        tenant = asyncio.create_task(shared.tenant(), context=shared.context)
        await asyncio.sleep(0)
        await asyncio.create_task(host(depth), context=shared.context)
        assert [names(scope) for scope in scopes] == [set()] * depth
        assert not shared.children["tenants"].done()
        shared.children["tenants"].cancel()
        tenant.cancel()

    run(main)


def test_who_shares_the_hosts_context_keeps_its_own_owner(run: Run) -> None:
    async def main() -> None:
        async with quiet("landlord") as landlord:
            shared = Shared()  # a context that carries the landlord's tag
            asyncio.create_task(shared.tenant(), name="tenant", context=shared.context)
            await asyncio.sleep(0)

            async def host() -> None:
                async with quiet("guests-own"):
                    await shared.spawn("tenants")

            async with quiet("guest") as guest:
                await asyncio.create_task(host(), name="host", context=shared.context)
        assert guest.report.ok
        assert names(landlord) == {"tenant", "tenants"}

    run(main)


def test_scopes_that_overlap_in_a_shared_context_are_not_nested(run: Run) -> None:
    async def main() -> None:
        shared = contextvars.copy_context()
        first_open, second_open, first_closed = asyncio.Event(), asyncio.Event(), asyncio.Event()
        seen: dict[str, TaskScope] = {}

        async def first() -> None:
            async with quiet("first") as seen["first"]:
                asyncio.create_task(forever(), name="of-first")
                first_open.set()
                await second_open.wait()
            first_closed.set()

        async def stubborn() -> None:
            while not released.is_set():
                try:
                    await released.wait()
                except asyncio.CancelledError:
                    continue

        released = asyncio.Event()

        async def second() -> None:
            await first_open.wait()
            async with quiet("second", cancel_timeout=0.01) as seen["second"]:
                asyncio.create_task(stubborn(), name="of-second")
                await asyncio.sleep(0)
            second_open.set()
            await first_closed.wait()

        await asyncio.gather(
            asyncio.create_task(first(), context=shared), asyncio.create_task(second(), context=shared)
        )
        assert names(seen["first"]) == {"of-first"}
        assert names(seen["second"]) == {"of-second"}
        assert not seen["first"].report.inherited
        released.set()
        await asyncio.sleep(0.001)

    run(main)


def test_a_scan_finds_tasks_made_without_the_factory(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()

        async def child(done: asyncio.Event) -> None:
            tasks.append(asyncio.Task(forever(), loop=loop, name="grandchild"))
            done.set()
            await forever()

        tasks: list[asyncio.Task[None]] = []
        for scan in (True, False):
            done = asyncio.Event()
            async with quiet(scan=scan) as scope:
                tasks.append(asyncio.Task(child(done), loop=loop, name="child"))
                await done.wait()
            assert names(scope) == ({"child", "grandchild"} if scan else set())
            for task in tasks:
                task.cancel()
            await asyncio.sleep(0)

    run(main)


def test_a_scan_accuses_nobody_that_was_there_before_or_shares_the_hosts_context(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        context = contextvars.copy_context()
        tasks = [
            asyncio.Task(forever(), loop=loop, name="before"),
            asyncio.create_task(forever(), name="before-too"),
            asyncio.Task(forever(), loop=loop, name="sharing", context=context),
        ]

        async def host() -> TaskScope:
            async with TaskScope(grace=0, scan=True) as scope:
                await asyncio.sleep(0)
            return scope

        scope = await asyncio.create_task(host(), context=context)
        assert scope.report.ok
        for task in tasks:
            assert not task.done()
            task.cancel()

    run(main)


def test_a_scan_leaves_the_tasks_of_other_scopes_alone(run: Run) -> None:
    """Neither a task that carries this scope's tag but was spawned elsewhere, nor one of an inner scope."""

    async def main() -> None:
        contexts: list[Context] = []
        ready, leave = asyncio.Event(), asyncio.Event()

        async def other() -> TaskScope:
            async with TaskScope("other", grace=0, scan=True) as scope:
                contexts.append(contextvars.copy_context())
                ready.set()
                await leave.wait()
            return scope

        stranger = asyncio.create_task(other())
        await ready.wait()
        async with quiet("mine") as mine:
            task = asyncio.create_task(forever(), name="mine", context=contexts[0])
            await asyncio.sleep(0)
            leave.set()
            theirs = await stranger
            assert not task.done()
        assert theirs.report.ok
        assert names(mine) == {"mine"}

    run(main)


def test_a_scan_does_not_take_back_what_was_handed_off(run: Run) -> None:
    async def main() -> None:
        async with TaskScope(grace=0, scan=True) as scope:
            task = asyncio.create_task(forever(), name="released")
            hand_off(task, reason="belongs to the process")
        assert scope.report.ok
        assert [record.name for record in scope.report.transferred] == ["released"]
        assert not task.done()
        task.cancel()

    run(main)


def test_a_scan_does_not_fail_again_on_survivors_of_an_inner_scope(run: Run) -> None:
    async def main() -> None:
        release = asyncio.Event()

        async def stubborn() -> None:
            while not release.is_set():
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    continue

        async with TaskScope("outer", grace=0, scan=True) as outer:
            async with quiet("inner", cancel_timeout=0.01):
                asyncio.create_task(stubborn(), name="stubborn")
                await asyncio.sleep(0)
        assert [record.name for record in outer.report.inherited] == ["stubborn"]
        assert outer.report.ok
        release.set()
        await asyncio.sleep(0.001)

    run(main)


def test_under_a_root_scope_an_empty_context_means_the_root(run: Run) -> None:
    async def main() -> None:
        all_there = asyncio.Event()
        installation = install(root="app", grace=0, on_leak="ignore")
        asyncio.create_task(dynasty([with_empty_context, ordinarily], all_there), name="left-2", context=Context())
        await all_there.wait()
        async with quiet() as scope:
            asyncio.create_task(forever(), name="mine", context=Context())
        assert names(scope) == {"mine"}
        await installation.aclose()
        assert installation.root is not None
        assert names(installation.root) == {"left-0", "left-1", "left-2"}

    run(main)
