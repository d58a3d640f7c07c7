"""The proof at the end of a scope in groups that are open round it: their opener wakes nobody, and anyone else may."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
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
    in_a_group_that_nested_functions_share,
]
if sys.version_info < (3, 14):  # later ones do not show what a suspended generator has borrowed
    PROVABLE.append(in_the_group_of_a_context_manager)


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
    if kind.is_anyio and not HAS_HANDLES:
        pytest.skip("this version of AnyIO has no handles")
    async with kind.group() as group:
        async with new_scope() as scope:
            task = group.create_task(hang(), name="stray")
            await settled()
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


async def two_in_a_group_one_of_which_waits_for_the_other(kind: Kind) -> TaskScope:
    async def takes_no_notice() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await hang()

    async def waits_for_it() -> None:
        await settled()
        (second,) = (task for task in asyncio.all_tasks() if task.get_name() == "second")
        await second

    async with kind.group() as group:
        async with new_scope() as scope:
            kind.spawn(group, takes_no_notice, name="second")
            kind.spawn(group, waits_for_it, name="stray")
            await settled()
            await settled()
        return scope


async def host_has_the_group_of_another_who_waits_at_its_end(kind: Kind) -> TaskScope:
    scopes: list[TaskScope] = []

    async def child(group: Any) -> None:
        async with new_scope() as scope:
            kind.spawn(group, hang, name="stray")
            await settled()
        scopes.append(scope)
        await kind.end(group)

    async with kind.group() as group:
        kind.spawn(group, child, group)
    return scopes.pop()


async def adopted_task_waits_for_the_host(kind: Kind) -> TaskScope:
    scopes: list[TaskScope] = []

    async def child() -> None:
        async with new_scope() as scope:
            scopes.append(scope)
            await settled()
            (parent,) = (task for task in asyncio.all_tasks() if task.get_name() == "stray")
            scope.adopt(parent)
            del parent
            await settled()

    async def parent() -> None:
        async with kind.group() as group:
            kind.spawn(group, child)

    await asyncio.wait([asyncio.create_task(parent(), name="stray")])
    return scopes.pop()


async def a_parent_in_its_own_group_with_a_child_that_goes_on(kind: Kind) -> TaskScope:
    async def parent() -> None:
        async with kind.group() as group:
            kind.spawn(group, asyncio.sleep, LONG)
            await hang()

    async with kind.group() as group:
        async with new_scope() as scope:
            kind.spawn(group, parent, name="stray")
            await settled()
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
    two_in_a_group_one_of_which_waits_for_the_other,
    host_has_the_group_of_another_who_waits_at_its_end,
    adopted_task_waits_for_the_host,
    a_parent_in_its_own_group_with_a_child_that_goes_on,
    a_timeout_round_the_group,
]


@pytest.mark.parametrize("program", LIVE, ids=lambda program: program.__name__)
def test_what_someone_can_wake_is_not_proven(
    run: Run, kind: Kind, program: Callable[[Kind], Coroutine[Any, Any, TaskScope]]
) -> None:
    scope = run(lambda: program(kind))
    assert verdicts(scope)["stray"] in ("blocked", "joining"), verdicts(scope)


# --------------------------------------------------------------------------------------------------- cancel scopes


def run_in(run: Run, manager: Callable[[], Any], work: Work = hang) -> dict[str, str]:
    """The verdicts on a stray and others in a group that is open round the scope, with a manager round both."""

    async def main() -> TaskScope:
        with manager() as managed:
            async with anyio.create_task_group() as group:
                async with new_scope() as scope:
                    group.start_soon(work, name="stray")
                    await settled()
                del managed
                return scope

    return verdicts(run(main))


@pytest.mark.parametrize("manager", [anyio.CancelScope, lambda: anyio.move_on_after(None)])
def test_a_cancel_scope_of_the_host_is_no_waker(run: Run, manager: Callable[[], Any]) -> None:
    assert run_in(run, manager) == {"stray": "deadlocked"}


def test_one_with_a_deadline_is(run: Run) -> None:
    assert run_in(run, lambda: anyio.move_on_after(LONG)) == {"stray": "blocked"}


def test_so_is_that_of_a_group_that_gets_a_deadline_under_another_name(run: Run) -> None:
    async def main() -> TaskScope:
        async with anyio.create_task_group() as group:
            scope_of_group = group.cancel_scope
            scope_of_group.deadline = anyio.current_time() + LONG
            async with new_scope() as scope:
                group.start_soon(hang, name="stray")
                await settled()
            return scope

    assert verdicts(run(main)) == {"stray": "blocked"}


@pytest.mark.parametrize("shield", [False, True])
def test_a_cancel_that_a_shield_keeps_from_one_can_wake_it(run: Run, shield: bool) -> None:
    async def sets_in_the_end(event: asyncio.Event) -> None:
        try:
            await hang()
        finally:
            event.set()

    async def waits(event: asyncio.Event) -> None:
        with anyio.CancelScope(shield=shield):
            await event.wait()

    async def main() -> TaskScope:
        async with anyio.create_task_group() as group:
            async with new_scope() as scope:
                event = asyncio.Event()
                group.start_soon(sets_in_the_end, event, name="cancelled")
                group.start_soon(waits, event, name="stray")
                del event
                await settled()
            return scope

    assert verdicts(run(main))["stray"] == ("blocked" if shield else "deadlocked")


@pytest.mark.parametrize("is_kept", [False, True])
def test_a_service_that_goes_on_in_the_group_wakes_nobody_with_what_it_was_started_by(run: Run, is_kept: bool) -> None:
    async def service(event: asyncio.Event, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        task_status.started()
        await asyncio.sleep(LONG)
        event.set()

    async def main() -> TaskScope:
        async with anyio.create_task_group() as group:
            event = asyncio.Event()
            await group.start(service, event if is_kept else asyncio.Event())
            async with new_scope() as scope:
                group.start_soon(event.wait, name="stray")
                del event
                await settled()
            group.cancel_scope.cancel()
            return scope

    assert verdicts(run(main))["stray"] == ("blocked" if is_kept else "deadlocked")


# ----------------------------------------------------------------------------------------------- a host goes on


async def has_the_event() -> dict[str, str]:
    event = asyncio.Event()
    async with new_scope() as scope:
        asyncio.create_task(event.wait(), name="stray")
        await settled()
    event.set()
    return verdicts(scope)


async def has_nothing() -> dict[str, str]:
    async with new_scope() as scope:
        asyncio.create_task(hang(), name="stray")
        await settled()
    return verdicts(scope)


async def as_a_task_that_nobody_holds(body: Callable[[], Coroutine[Any, Any, dict[str, str]]]) -> dict[str, str]:
    found: list[dict[str, str]] = []

    async def host() -> None:
        found.append(await body())

    asyncio.create_task(host())
    while not found:
        await asyncio.sleep(0.001)
    return found.pop()


async def inside_a_scope_by_decorator(body: Callable[[], Coroutine[Any, Any, dict[str, str]]]) -> dict[str, str]:
    return await taskscope.scoped(on_leak="ignore")(body)()


@pytest.mark.parametrize(("body", "verdict"), [(has_the_event, "blocked"), (has_nothing, "deadlocked")])
@pytest.mark.parametrize("how", [as_a_task_that_nobody_holds, inside_a_scope_by_decorator])
def test_what_the_host_has_is_alive_whoever_has_the_host(run: Run, how: Any, body: Any, verdict: str) -> None:
    assert run(lambda: how(body)) == {"stray": verdict}
