"""The proof at the end of a scope in groups that are open round it: their opener wakes nobody, and anyone else may."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import anyio
import anyio.abc
import pytest
from conftest import Run

import taskscope
from taskscope import TaskScope

HAS_HANDLES = hasattr(anyio, "TaskHandle")
LONG = 3600.0

Work = Callable[..., Coroutine[Any, Any, Any]]
Program = Callable[["Kind"], Coroutine[Any, Any, "list[TaskScope]"]]


class Kind:
    """A kind of task group, by the same names for each."""

    def __init__(self, name: str) -> None:
        self.is_anyio = name == "anyio"

    def group(self) -> Any:
        return anyio.create_task_group() if self.is_anyio else asyncio.TaskGroup()

    def spawn(self, group: Any, work: Work, *args: object, name: str = "other") -> None:
        if self.is_anyio:
            group.start_soon(work, *args, name=name)
        else:
            group.create_task(work(*args), name=name)

    async def end(self, group: Any) -> None:
        """Ends what is left in a group."""
        if self.is_anyio:
            group.cancel_scope.cancel()
        else:
            for task in list(group._tasks):
                task.cancel()


@pytest.fixture(params=["asyncio", "anyio"])
def kind(request: pytest.FixtureRequest) -> Kind:
    return Kind(request.param)


def new_scope() -> TaskScope:
    return TaskScope(grace=0, on_leak="ignore")


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def hang() -> None:
    await asyncio.Event().wait()


def verdicts(scope: TaskScope) -> dict[str, str]:
    assert scope.report is not None
    return {leak.name: leak.verdict for leak in scope.report.leaks}


# ------------------------------------------------------------------------------------------------- what can be proven


async def in_a_group_round_the_scope(kind: Kind) -> TaskScope:
    async with kind.group() as group:
        async with new_scope() as scope:
            kind.spawn(group, hang, name="stray")
            await settled()
        return scope


async def in_a_group_that_other_frames_have(kind: Kind) -> TaskScope:
    async def body(group: Any) -> TaskScope:
        async with new_scope() as scope:
            kind.spawn(group, hang, name="stray")
            await settled()
        return scope

    async with kind.group() as group:
        return await body(group)


async def by_a_method_of_the_group(kind: Kind) -> TaskScope:
    async with kind.group() as group:
        spawn = group.start_soon if kind.is_anyio else group.create_task
        async with new_scope() as scope:
            kind.spawn(group, hang, name="stray")
            await settled()
        del spawn
        return scope


async def in_groups_in_groups(kind: Kind) -> TaskScope:
    async with kind.group(), kind.group() as group, kind.group():
        async with new_scope() as scope:
            kind.spawn(group, hang, name="stray")
            await settled()
        return scope


async def in_a_group_of_a_child(kind: Kind) -> TaskScope:
    """The parent waits at the end of its group."""
    scopes: list[TaskScope] = []

    async def child() -> None:
        scopes.append(await in_a_group_round_the_scope(kind))

    async with kind.group() as group:
        kind.spawn(group, child)
    return scopes.pop()


async def with_a_group_of_its_own(kind: Kind) -> TaskScope:
    async def parent() -> None:
        async with kind.group() as group:
            kind.spawn(group, hang, name="stray's child")

    async with kind.group() as group:
        async with new_scope() as scope:
            kind.spawn(group, parent, name="stray")
            await settled()
        return scope


async def two_that_are_cancelled_together(kind: Kind) -> TaskScope:
    async def sets_in_the_end(event: asyncio.Event) -> None:
        try:
            await hang()
        finally:
            event.set()

    async with kind.group() as group:
        async with new_scope() as scope:
            event = asyncio.Event()
            kind.spawn(group, sets_in_the_end, event, name="one")
            kind.spawn(group, event.wait, name="two")
            del event
            await settled()
        return scope


async def beside_one_who_goes_on(kind: Kind) -> TaskScope:
    async with kind.group() as group:
        kind.spawn(group, asyncio.sleep, LONG)
        await settled()
        async with new_scope() as scope:
            kind.spawn(group, hang, name="stray")
            await settled()
        await kind.end(group)
        return scope


@contextlib.asynccontextmanager
async def fixture(kind: Kind) -> AsyncIterator[Any]:
    async with kind.group() as group:
        yield group


async def in_the_group_of_a_context_manager(kind: Kind) -> TaskScope:
    async with fixture(kind) as group, new_scope() as scope:
        kind.spawn(group, hang, name="stray")
        await settled()
    return scope


async def in_a_group_that_nested_functions_share(kind: Kind) -> TaskScope:
    async def stray() -> None:
        assert group is not None
        await hang()

    async with kind.group() as group:
        async with new_scope() as scope:
            kind.spawn(group, stray, name="stray")
            del stray
            await settled()
        return scope


PROVABLE = [
    in_a_group_round_the_scope,
    in_a_group_that_other_frames_have,
    by_a_method_of_the_group,
    in_groups_in_groups,
    in_a_group_of_a_child,
    with_a_group_of_its_own,
    two_that_are_cancelled_together,
    beside_one_who_goes_on,
    in_the_group_of_a_context_manager,
    in_a_group_that_nested_functions_share,
]


@pytest.mark.parametrize("program", PROVABLE, ids=lambda program: program.__name__)
def test_what_only_its_opener_can_cancel_is_proven(
    run: Run, kind: Kind, program: Callable[[Kind], Coroutine[Any, Any, TaskScope]]
) -> None:
    scope = run(lambda: program(kind))
    assert verdicts(scope) and set(verdicts(scope).values()) == {"deadlocked"}, verdicts(scope)


@pytest.mark.parametrize("program", PROVABLE, ids=lambda program: program.__name__)
def test_the_grace_is_not_waited_out_for_it(
    run: Run, kind: Kind, program: Callable[[Kind], Coroutine[Any, Any, TaskScope]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "new_scope", lambda: TaskScope(grace=30, on_leak="ignore"))
    scope = run(lambda: program(kind))
    assert scope.report is not None and scope.report.settled_after < 10
    assert set(verdicts(scope).values()) == {"deadlocked"}


# ------------------------------------------------------------------------------------------------ who can still wake it

kept: list[Any] = []


@pytest.fixture(autouse=True)
def nothing_is_kept() -> None:
    kept.clear()


@contextlib.asynccontextmanager
async def with_stray(kind: Kind, keep: Callable[[Any], object]) -> AsyncIterator[TaskScope]:
    """A stray in a group round the scope, where more is done with the group."""
    async with kind.group() as group:
        keep(group)
        async with new_scope() as scope:
            kind.spawn(group, hang, name="stray")
            await settled()
        yield scope


async def kept_in_a_global(kind: Kind) -> TaskScope:
    async with with_stray(kind, kept.append) as scope:
        return scope


async def method_kept_in_a_global(kind: Kind) -> TaskScope:
    async with with_stray(kind, lambda group: kept.append(group.__aexit__)) as scope:
        return scope


async def known_weakly(kind: Kind) -> TaskScope:
    async with with_stray(kind, lambda group: kept.append(weakref.ref(group))) as scope:
        return scope


async def kept_in_an_object_of_the_host(kind: Kind) -> TaskScope:
    class Server:
        group: Any

    server = Server()
    async with with_stray(kind, lambda group: setattr(server, "group", group)) as scope:
        assert server
        return scope


async def kept_by_a_function_of_the_host(kind: Kind) -> TaskScope:
    async with kind.group() as group:

        async def cancel() -> None:
            await kind.end(group)

        async with new_scope() as scope:
            kind.spawn(group, hang, name="stray")
            await settled()
        await cancel()
        return scope


async def kept_by_another_task(kind: Kind) -> TaskScope:
    async def waits(group: Any) -> None:
        await asyncio.sleep(LONG)
        assert group

    other: list[asyncio.Task[None]] = []
    async with with_stray(kind, lambda group: other.append(asyncio.create_task(waits(group)))) as scope:
        pass
    other.pop().cancel()
    return scope


async def kept_by_a_sibling(kind: Kind) -> TaskScope:
    async def waits(group: Any) -> None:
        await asyncio.sleep(LONG)
        assert group

    async with kind.group() as group:
        kind.spawn(group, waits, group)
        async with new_scope() as scope:
            kind.spawn(group, hang, name="stray")
            await settled()
        await kind.end(group)
        return scope


async def sibling_has_what_it_waits_for(kind: Kind) -> TaskScope:
    async def sets(event: asyncio.Event) -> None:
        await asyncio.sleep(LONG)
        event.set()

    async with kind.group() as group:
        event = asyncio.Event()
        kind.spawn(group, sets, event)
        async with new_scope() as scope:
            kind.spawn(group, event.wait, name="stray")
            del event
            await settled()
        await kind.end(group)
        return scope


async def sibling_releases_what_it_waits_for_when_it_is_cancelled(kind: Kind) -> TaskScope:
    """The sibling hangs for good, too, but it was there before the scope: it is none of its tasks."""

    async def sets_in_the_end(event: asyncio.Event) -> None:
        try:
            await hang()
        finally:
            event.set()

    async with kind.group() as group:
        event = asyncio.Event()
        kind.spawn(group, sets_in_the_end, event)
        await settled()
        async with new_scope() as scope:
            waiting = asyncio.create_task(event.wait(), name="stray")
            del event, waiting
            await settled()
        await kind.end(group)
        return scope


async def one_inside_releases_what_one_outside_waits_for(kind: Kind) -> TaskScope:
    async def sets_in_the_end(event: asyncio.Event) -> None:
        try:
            await hang()
        finally:
            event.set()

    async with kind.group() as group:
        async with new_scope() as scope:
            event = asyncio.Event()
            kind.spawn(group, sets_in_the_end, event, name="inside")
            waiting = asyncio.create_task(event.wait(), name="stray")
            del event, waiting
            await settled()
        return scope


async def one_of_an_inner_group_releases_what_one_of_the_outer_waits_for(kind: Kind) -> TaskScope:
    async def sets_in_the_end(event: asyncio.Event) -> None:
        try:
            await hang()
        finally:
            event.set()

    async with kind.group() as outer, kind.group() as inner:
        async with new_scope() as scope:
            event = asyncio.Event()
            kind.spawn(inner, sets_in_the_end, event, name="inside")
            kind.spawn(outer, event.wait, name="stray")
            del event
            await settled()
        return scope


async def host_has_what_it_waits_for(kind: Kind) -> TaskScope:
    async with kind.group() as group:
        event = asyncio.Event()
        async with new_scope() as scope:
            kind.spawn(group, event.wait, name="stray")
            await settled()
        event.set()
        return scope


async def host_has_it_as_an_attribute_of_the_group(kind: Kind) -> TaskScope:
    async with kind.group() as group:
        group.event = asyncio.Event()
        async with new_scope() as scope:
            kind.spawn(group, group.event.wait, name="stray")
            await settled()
        group.event.set()
        return scope


async def host_has_the_task(kind: Kind) -> TaskScope:
    async with kind.group() as group:
        async with new_scope() as scope:
            if kind.is_anyio:
                task = group.create_task(hang(), name="stray") if HAS_HANDLES else None
                group.start_soon(hang, name="other") if HAS_HANDLES else kept.append(group)
            else:
                task = group.create_task(hang(), name="stray")
            await settled()
        if task is not None:
            task.cancel()
        return scope


async def opener_has_what_it_waits_for(kind: Kind) -> TaskScope:
    """The one who waits at the end of its group for the host."""
    scopes: list[TaskScope] = []

    async def child(event: asyncio.Event) -> None:
        async with kind.group() as group:
            async with new_scope() as scope:
                kind.spawn(group, event.wait, name="stray")
                del event
                await settled()
            scopes.append(scope)

    event = asyncio.Event()
    async with kind.group() as group:
        kind.spawn(group, child, event)
    event.set()
    return scopes.pop()


async def in_the_group_of_another_host(kind: Kind) -> TaskScope:
    """Two hosts share a group that one of them has opened, and that one is not at its end."""
    scopes: list[TaskScope] = []

    async def other(group: Any) -> None:
        async with new_scope() as scope:
            kind.spawn(group, hang, name="stray")
            await settled()
        scopes.append(scope)

    async with kind.group() as group:
        await asyncio.create_task(other(group))
        await kind.end(group)
    return scopes.pop()


async def two_that_wait_for_each_other_in_a_group(kind: Kind) -> TaskScope:
    """A cancel of the one is passed on to the other, and when that takes no notice the one is woken."""

    async def takes_no_notice() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await hang()

    async def outside() -> None:
        await settled()
        (second,) = (task for task in asyncio.all_tasks() if task.get_name() == "second")
        await second

    async with kind.group() as group:
        async with new_scope() as scope:
            other = asyncio.create_task(takes_no_notice(), name="second")
            kind.spawn(group, outside, name="stray")
            await settled()
            await settled()
            del other
            gc.collect()
        return scope


async def a_timeout_round_the_group(kind: Kind) -> TaskScope:
    async with contextlib.AsyncExitStack() as stack:
        if kind.is_anyio:
            stack.enter_context(anyio.move_on_after(LONG))
            async with with_stray(kind, bool) as scope:
                return scope
        async with asyncio.timeout(LONG), kind.group() as group:
            async with new_scope() as scope:
                kind.spawn(group, hang, name="stray")
                await settled()
            return scope


LIVE = [
    kept_in_a_global,
    method_kept_in_a_global,
    known_weakly,
    kept_in_an_object_of_the_host,
    kept_by_a_function_of_the_host,
    kept_by_another_task,
    kept_by_a_sibling,
    sibling_has_what_it_waits_for,
    sibling_releases_what_it_waits_for_when_it_is_cancelled,
    one_inside_releases_what_one_outside_waits_for,
    one_of_an_inner_group_releases_what_one_of_the_outer_waits_for,
    host_has_what_it_waits_for,
    host_has_it_as_an_attribute_of_the_group,
    host_has_the_task,
    opener_has_what_it_waits_for,
    in_the_group_of_another_host,
    two_that_wait_for_each_other_in_a_group,
    a_timeout_round_the_group,
]


@pytest.mark.parametrize("program", LIVE, ids=lambda program: program.__name__)
def test_what_someone_can_wake_is_not_proven(
    run: Run, kind: Kind, program: Callable[[Kind], Coroutine[Any, Any, TaskScope]]
) -> None:
    scope = run(lambda: program(kind))
    assert verdicts(scope).get("stray", "blocked") in ("blocked", "joining"), verdicts(scope)
    assert "stray" in verdicts(scope)
