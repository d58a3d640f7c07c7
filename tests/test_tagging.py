"""Which scope a task belongs to, where its context is an ordinary one."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import weakref

import anyio
import pytest
from conftest import Run

from taskscope import TaskLeakError, TaskScope, current_scope, install


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


def quiet(name: str | None = None, **policy: object) -> TaskScope:
    """A scope that judges at once and only reports."""
    return TaskScope(name, **{"grace": 0, "on_leak": "ignore", **policy})  # type: ignore[arg-type]


def names(scope: TaskScope) -> set[str]:
    return {record.name for record in scope.report.leaks}


def test_two_scopes_at_once_name_exactly_their_own_tasks(run: Run) -> None:
    async def child(tag: str) -> None:
        asyncio.create_task(forever(), name=f"grandchild-{tag}")
        await forever()

    async def one(tag: str, both_inside: asyncio.Barrier) -> TaskLeakError:
        with pytest.raises(TaskLeakError) as caught:
            async with TaskScope(tag, grace=0.01):
                asyncio.create_task(child(tag), name=f"child-{tag}")
                await asyncio.sleep(0)
                await both_inside.wait()
        return caught.value

    async def main() -> None:
        both_inside = asyncio.Barrier(2)
        errors = await asyncio.gather(one("a", both_inside), one("b", both_inside))
        for tag, error in zip("ab", errors, strict=True):
            leaks = {record.name: record for record in error.report.leaks}
            assert set(leaks) == {f"child-{tag}", f"grandchild-{tag}"}
            young, old = leaks[f"grandchild-{tag}"], leaks[f"child-{tag}"]
            assert young.spawn_site is not None and old.spawn_site is not None
            assert young.spawn_site.function.endswith("child")
            assert old.spawn_site.function.endswith("one")
            assert young.spawn_chain[0] == old.spawn_site
            assert [frame.function for frame in young.spawn_chain[1:]] == [frame.function for frame in old.spawn_chain]

    run(main)


def test_a_thousand_scopes_at_once_attribute_nothing_wrongly(run: Run) -> None:
    async def one(number: int, inside: asyncio.Barrier) -> None:
        async with quiet(f"scope-{number}") as scope:
            for leak in range(10):
                asyncio.create_task(forever(), name=f"{number}/{leak}")
                if leak % 3 == 0:
                    await asyncio.sleep(0)
            await inside.wait()
        assert sorted(record.name for record in scope.report.leaks) == [f"{number}/{leak}" for leak in range(10)]
        assert scope.report.spawned == 10
        assert not scope.report.survivors

    async def main() -> None:
        inside = asyncio.Barrier(1_000)
        await asyncio.gather(*(one(number, inside) for number in range(1_000)))

    run(main)


def test_descendants_belong_to_the_scope_however_deep(run: Run) -> None:
    async def generation(left: int, deepest: asyncio.Event) -> None:
        if left:
            asyncio.create_task(generation(left - 1, deepest), name=f"left-{left - 1}")
        else:
            deepest.set()
        await forever()

    async def main() -> None:
        deepest = asyncio.Event()
        async with quiet() as scope:
            asyncio.create_task(generation(9, deepest), name="left-9")
            await deepest.wait()
        assert names(scope) == {f"left-{left}" for left in range(10)}

    run(main)


def test_the_innermost_open_scope_owns(run: Run) -> None:
    async def main() -> None:
        async with quiet("outer") as outer:
            asyncio.create_task(forever(), name="before")
            async with quiet("inner") as inner:
                assert current_scope() is inner
                asyncio.create_task(forever(), name="inside")
            assert current_scope() is outer
            asyncio.create_task(forever(), name="after")
        assert names(inner) == {"inside"}
        assert names(outer) == {"before", "after"}
        assert current_scope() is None

    run(main)


def test_what_was_spawned_outside_is_nobodys(run: Run) -> None:
    async def main() -> None:
        before = asyncio.create_task(forever(), name="before")
        async with TaskScope() as scope:
            await asyncio.sleep(0)
        after = asyncio.create_task(forever(), name="after")
        assert scope.report.ok and scope.report.spawned == 0
        assert not before.done() and not after.done()
        before.cancel()
        after.cancel()

    run(main)


def test_a_task_spawned_before_keeps_its_children_out_of_a_scope_opened_later(run: Run) -> None:
    async def spawner(go: asyncio.Event, children: list[asyncio.Task[None]]) -> None:
        await go.wait()
        children.append(asyncio.create_task(forever(), name="foreign"))
        await forever()

    async def main() -> None:
        go = asyncio.Event()
        children: list[asyncio.Task[None]] = []
        outsider = asyncio.create_task(spawner(go, children))
        await asyncio.sleep(0)
        async with TaskScope(grace=0):
            go.set()
            while not children:
                await asyncio.sleep(0)
        assert not children[0].done()
        children[0].cancel()
        outsider.cancel()

    run(main)


@pytest.mark.parametrize("how", ["call_soon", "call_later", "call_at", "call_soon_threadsafe"])
def test_callbacks_of_the_loop_spawn_for_the_scope_that_scheduled_them(run: Run, how: str) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        spawned = asyncio.Event()

        def spawn() -> None:
            assert asyncio.current_task() is None
            asyncio.create_task(forever(), name="from-callback")
            spawned.set()

        async with quiet("other") as other, quiet() as scope:
            when = {"call_later": [0.001], "call_at": [loop.time() + 0.001]}.get(how, [])
            getattr(loop, how)(*when, spawn)
            await spawned.wait()
        assert names(scope) == {"from-callback"}
        assert other.report.ok

    run(main)


def test_a_done_callback_spawns_for_the_scope_that_added_it(run: Run) -> None:
    async def main() -> None:
        spawned = asyncio.Event()

        def spawn(_: object) -> None:
            asyncio.create_task(forever(), name="successor")
            spawned.set()

        async with quiet() as scope:
            first = asyncio.create_task(asyncio.sleep(0))
            first.add_done_callback(spawn)
            await spawned.wait()
        assert names(scope) == {"successor"}

    run(main)


def test_connection_handlers_belong_to_who_listens_and_not_to_who_connects(run: Run) -> None:
    async def main() -> None:
        connected = asyncio.Event()

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connected.set()
            try:
                await reader.read()
            finally:
                writer.close()

        async with quiet("listener") as listener:
            server = await asyncio.start_server(handle, "127.0.0.1", 0)
            async with quiet("client") as client:
                _, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
                await connected.wait()
            server.close()
        writer.close()
        await writer.wait_closed()
        assert client.report.ok
        assert [record.coroutine.rpartition(".")[2] for record in listener.report.leaks] == ["handle"]

    run(main)


def test_what_a_finalizer_spawns_is_told_and_never_accused(run: Run) -> None:
    class Resource:
        def __del__(self) -> None:
            spawned.append(asyncio.create_task(forever(), name="farewell"))

    spawned: list[asyncio.Task[None]] = []

    async def main() -> None:
        async with TaskScope(grace=0) as scope:
            resource = Resource()
            del resource
            gc.collect()
        assert [record.name for record in scope.report.ignored] == ["farewell"]
        assert "finalizer" in (scope.report.ignored[0].outcome_detail or "")
        assert not spawned[0].done()
        spawned.pop().cancel()

    run(main)


def test_a_context_that_outlives_its_scope_spawns_for_the_nearest_open_ancestor(run: Run) -> None:
    async def main() -> None:
        async with quiet("outer") as outer:
            async with quiet("middle"), quiet("inner") as inner:
                context = contextvars.copy_context()
            context.run(asyncio.create_task, forever(), name="orphan")  # type: ignore[arg-type]
            asyncio.create_task(forever(), name="own")
        assert inner.report.ok
        records = {record.name: record for record in outer.report.leaks}
        assert records["orphan"].closed_scope == "inner"
        assert records["own"].closed_scope is None
        assert set(records) == {"orphan", "own"}

    run(main)


def test_so_does_a_callback_that_outlives_its_scope_and_what_it_spawns_spawns(run: Run) -> None:
    async def child(done: asyncio.Event) -> None:
        asyncio.create_task(forever(), name="grandchild")
        done.set()
        await forever()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        done = asyncio.Event()

        def spawn() -> None:
            asyncio.create_task(child(done), name="child")

        async with quiet("outer") as outer:
            async with quiet("inner") as inner:
                loop.call_later(0.001, spawn)
            await done.wait()
        assert inner.report.ok
        assert names(outer) == {"child", "grandchild"}
        assert {record.closed_scope for record in outer.report.leaks} == {"inner"}
        grandchild = next(record for record in outer.report.leaks if record.name == "grandchild")
        assert [frame.function.rpartition(".")[2] for frame in grandchild.spawn_chain] == ["spawn"]

    run(main)


def test_without_an_open_ancestor_it_spawns_for_nobody(run: Run) -> None:
    async def main() -> None:
        async with install():
            async with TaskScope() as scope:
                context = contextvars.copy_context()
            orphan = context.run(asyncio.create_task, forever())  # type: ignore[arg-type]
        assert scope.report.spawned == 0
        assert not orphan.done()
        orphan.cancel()

    run(main)


@pytest.mark.parametrize("how", ["context", "callback"])
def test_a_root_scope_owns_what_a_closed_scope_without_ancestor_spawns(run: Run, how: str) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        spawned = asyncio.Event()

        def spawn() -> None:
            asyncio.create_task(forever(), name="orphan")
            spawned.set()

        async with TaskScope():
            context = contextvars.copy_context()
            installation = install(root="app", grace=0, on_leak="ignore")
        if how == "context":
            context.run(spawn)
        else:
            loop.call_soon(spawn, context=context)
        await spawned.wait()
        await installation.aclose()
        assert installation.root is not None
        assert names(installation.root) == {"orphan"}

    run(main)


def test_survivors_are_told_by_the_parent_and_not_failed_on_again(run: Run) -> None:
    async def main() -> None:
        release = asyncio.Event()

        async def stubborn() -> None:
            while not release.is_set():
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    continue

        async with TaskScope("outer", grace=0) as outer:
            async with quiet("inner", cancel_timeout=0.02) as inner:
                asyncio.create_task(stubborn(), name="stubborn")
                await asyncio.sleep(0)
        assert [record.name for record in inner.report.survivors] == ["stubborn"]
        assert [record.name for record in outer.report.inherited] == ["stubborn"]
        assert outer.report.ok
        release.set()
        await asyncio.sleep(0.001)

    run(main)


def test_a_survivor_that_ends_before_the_parent_is_not_told_again(run: Run) -> None:
    async def main() -> None:
        release = asyncio.Event()

        async def stubborn() -> None:
            while not release.is_set():
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    continue

        async with TaskScope("outer", grace=0) as outer:
            async with quiet("inner", cancel_timeout=0.02) as inner:
                task = asyncio.create_task(stubborn(), name="stubborn")
                await asyncio.sleep(0)
            release.set()
            await task
        assert inner.report.survivors
        assert not outer.report.inherited

    run(main)


def test_a_blocked_task_without_any_reference_survives_the_collector(run: Run) -> None:
    async def main() -> None:
        async def blocked() -> None:
            await asyncio.get_running_loop().create_future()

        async with quiet() as scope:
            task = weakref.ref(asyncio.create_task(blocked(), name="blocked"))
            for _ in range(3):
                await asyncio.sleep(0)
                gc.collect()
            assert task() is not None
        assert names(scope) == {"blocked"}

        # the clean twin: nothing of ours keeps it once the scope has ended
        del scope
        await asyncio.sleep(0)
        gc.collect()
        assert task() is None

    run(main)


def test_a_task_is_not_identified_by_its_name(run: Run) -> None:
    async def main() -> None:
        async with quiet("a") as first:
            mine = asyncio.create_task(forever(), name="same")
            async with quiet("b") as second:
                asyncio.create_task(forever(), name="same")
                mine.set_name("renamed")
        assert names(second) == {"same"}
        assert names(first) == {"renamed"}

    run(main)


def test_tasks_without_a_name_are_told_apart(run: Run) -> None:
    async def main() -> None:
        async with quiet() as scope:
            tasks = [asyncio.create_task(forever()) for _ in range(3)]
        assert [record.name for record in scope.report.leaks] == [task.get_name() for task in tasks]
        assert len(scope.report.leaks) == 3

    run(main)


def test_task_groups_inside_a_scope_are_clean(run: Run) -> None:
    async def main() -> None:
        async with TaskScope(grace=0) as scope:
            async with asyncio.TaskGroup() as group:
                for _ in range(5):
                    group.create_task(asyncio.sleep(0))
            async with anyio.create_task_group() as tasks:
                for _ in range(5):
                    tasks.start_soon(anyio.sleep, 0)
            await asyncio.gather(*(asyncio.sleep(0) for _ in range(5)))
        assert scope.report.ok
        assert scope.report.spawned == 15

    run(main)


def test_tasks_of_an_anyio_group_opened_outside_belong_to_who_spawns_into_it(run: Run) -> None:
    async def main() -> None:
        async with anyio.create_task_group() as group:
            async with quiet("mine") as mine:
                group.start_soon(anyio.sleep_forever, name="mine")
            async with quiet("other") as other:
                await asyncio.sleep(0)
            group.start_soon(anyio.sleep_forever, name="outside")
            await asyncio.sleep(0)
            group.cancel_scope.cancel()
        assert names(mine) == {"mine"}
        assert other.report.ok and other.report.spawned == 0

    run(main)


def test_the_context_is_as_it_was(run: Run) -> None:
    async def main() -> None:
        variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable")
        variable.set(1)
        before = contextvars.copy_context()
        async with quiet():
            asyncio.create_task(forever())
        assert contextvars.copy_context() == before
        with pytest.raises(TaskLeakError):
            async with TaskScope(grace=0):
                asyncio.create_task(forever())
        with pytest.raises(ZeroDivisionError):
            async with TaskScope():
                raise ZeroDivisionError
        assert contextvars.copy_context() == before

    run(main)
