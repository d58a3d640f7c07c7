"""The proof in programs on AnyIO: its books of tasks wake nobody, and who really holds a cancel scope is alive."""

from __future__ import annotations

import asyncio
import gc
import math
import os
import signal
import socket
import threading
import weakref
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from typing import Any

import anyio
import anyio.abc
import anyio.from_thread
import anyio.to_thread
import pytest
from conftest import Run
from test_watch import Body, watched

from taskscope import DeadlockError, ScopeTimeoutError, TaskScope
from taskscope._backends._cycles import cancel_here
from taskscope._diagnosis.awaitables import UNKNOWN, is_done, waiter_of
from taskscope._diagnosis.proof import Proof
from taskscope._diagnosis.reachability import prove

HAS_HANDLES = hasattr(anyio, "TaskHandle")

Wake = Callable[[], object]
Keep = Callable[[Any], None]
Wait = Callable[[Keep], Coroutine[Any, Any, None]]

LONG = 3600.0
PATIENCE = 5.0
TIMEOUT = 0.06


pytestmark = [pytest.mark.nothing_frozen_holds_a_task, pytest.mark.usefixtures("eager_tasks_are_known_to_anyio")]


def is_blocked(task: asyncio.Task[Any]) -> bool:
    waiter = waiter_of(task)
    return waiter is not None and waiter is not UNKNOWN and not is_done(waiter)


async def until_all_are_blocked() -> list[asyncio.Task[Any]]:
    """All tasks but the current one, once none of them goes on any more."""
    for _ in range(20):
        await asyncio.sleep(0)
    tasks = list(asyncio.all_tasks() - {asyncio.current_task()})  # type: ignore[arg-type]
    assert tasks and all(map(is_blocked, tasks))
    return tasks


def proof_of(tasks: list[asyncio.Task[Any]]) -> Proof:
    proof = prove(tasks, [tasks])
    assert proof.reason is None
    return proof


async def end(tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        cancel_here(task)
    await asyncio.wait(tasks, timeout=PATIENCE)
    assert all(task.done() for task in tasks)


async def hang() -> None:
    await anyio.Event().wait()


# ------------------------------------------------------------------------------------------------ who can wake a task

PLANTS: dict[str, tuple[Wait, Callable[[Any], object]]] = {}


def plant(wake: Callable[[Any], object]) -> Callable[[Wait], Wait]:
    """Registers a wait. It passes something on to be kept, by which `wake` can end it."""

    def register(wait: Wait) -> Wait:
        PLANTS[wait.__name__.replace("_", " ")] = (wait, wake)
        return wait

    return register


def set_deadline(scope: anyio.CancelScope) -> None:
    scope.deadline = anyio.current_time()


@plant(lambda scope: scope.cancel())
async def cancel_scope(keep: Keep) -> None:
    with anyio.CancelScope() as scope:
        keep(scope)
        await hang()


@plant(set_deadline)
async def cancel_scope_that_gets_a_deadline(keep: Keep) -> None:
    with anyio.CancelScope() as scope:
        keep(scope)
        await hang()


@plant(lambda scope: scope.cancel())
async def cancel_scope_round_others(keep: Keep) -> None:
    with anyio.CancelScope() as scope, anyio.CancelScope(), anyio.CancelScope():
        keep(scope)
        await hang()


@plant(lambda scope: scope.cancel())
async def cancel_scope_round_a_group(keep: Keep) -> None:
    with anyio.CancelScope() as scope:
        keep(scope)
        async with anyio.create_task_group() as group:
            group.start_soon(hang)
            group.start_soon(hang)


@plant(lambda group: group.cancel_scope.cancel())
async def task_group(keep: Keep) -> None:
    async with anyio.create_task_group() as group:
        keep(group)
        group.start_soon(hang)


@plant(lambda scope: scope.cancel())
async def cancel_scope_of_a_group(keep: Keep) -> None:
    async with anyio.create_task_group() as group:
        keep(group.cancel_scope)
        group.start_soon(hang)
        await hang()


@plant(lambda start_soon: start_soon(fail))
async def start_soon_of_a_group(keep: Keep) -> None:
    try:
        async with anyio.create_task_group() as group:
            keep(group.start_soon)
            group.start_soon(hang)
    except BaseExceptionGroup:
        return


async def fail() -> None:
    raise KeyError


@plant(lambda scope: scope.cancel())
async def cancel_scope_in_a_child(keep: Keep) -> None:
    async def child() -> None:
        with anyio.CancelScope() as scope:
            keep(scope)
            await hang()

    async with anyio.create_task_group() as group:
        group.start_soon(child)


@plant(lambda reference: reference().cancel())
async def weak_reference_to_a_cancel_scope(keep: Keep) -> None:
    with anyio.CancelScope() as scope:
        keep(weakref.ref(scope))
        await hang()


@plant(lambda scopes: next(iter(scopes)).cancel())
async def weak_set_of_cancel_scopes(keep: Keep) -> None:
    with anyio.CancelScope() as scope:
        keep(weakref.WeakSet([scope]))
        await hang()


@plant(lambda reference: reference().cancel_scope.cancel())
async def weak_reference_to_a_group(keep: Keep) -> None:
    async with anyio.create_task_group() as group:
        keep(weakref.ref(group))
        group.start_soon(hang)


@plant(lambda state: state.cancel_scope.cancel())
async def state_of_the_task(keep: Keep) -> None:
    with anyio.CancelScope():
        from anyio._backends import _asyncio

        keep(_asyncio._task_states[asyncio.current_task()])  # type: ignore[index]
        await hang()


@plant(lambda info: info._task().get_coro().cr_frame.f_locals["event"].set())
async def information_about_the_task(keep: Keep) -> None:
    event = asyncio.Event()
    keep(anyio.get_current_task())
    await event.wait()


@plant(lambda reference: reference().get_coro().cr_frame.f_locals["send"].close())
async def weak_reference_to_a_task_that_receives(keep: Keep) -> None:
    send, receive = anyio.create_memory_object_stream[int]()
    keep(weakref.ref(asyncio.current_task()))  # type: ignore[arg-type]
    with send, receive:
        async for _ in receive:
            pass


@plant(lambda event: event.set())
async def event(keep: Keep) -> None:
    event = anyio.Event()
    keep(event)
    await event.wait()


@plant(lambda semaphore: semaphore.release())
async def semaphore(keep: Keep) -> None:
    semaphore = anyio.Semaphore(0)
    keep(semaphore)
    await semaphore.acquire()


@plant(lambda limiter: limiter.release_on_behalf_of("somebody"))
async def capacity_limiter(keep: Keep) -> None:
    limiter = anyio.CapacityLimiter(1)
    await limiter.acquire_on_behalf_of("somebody")
    keep(limiter)
    async with limiter:
        pass


@plant(lambda stream: stream.send_nowait(1))
async def stream_to_send_by(keep: Keep) -> None:
    send, receive = anyio.create_memory_object_stream[int]()
    keep(send)
    with send, receive:
        await receive.receive()


@plant(lambda close: close())
async def close_of_a_clone_of_a_stream_to_send_by(keep: Keep) -> None:
    send, receive = anyio.create_memory_object_stream[int]()
    clone = send.clone()
    send.close()
    keep(clone.close)
    with receive, clone:
        async for _ in receive:
            pass


@plant(lambda stream: stream.receive_nowait())
async def stream_to_receive_by(keep: Keep) -> None:
    send, receive = anyio.create_memory_object_stream[int](1)
    keep(receive)
    with send, receive:
        await send.send(1)
        await send.send(2)


async def notify(condition: anyio.Condition) -> None:
    async with condition:
        condition.notify_all()


@plant(lambda condition: asyncio.create_task(notify(condition)))
async def condition(keep: Keep) -> None:
    condition = anyio.Condition()
    keep(condition)
    async with condition:
        await condition.wait()


@plant(lambda event: event.set())
async def what_a_task_waits_for_before_it_has_started(keep: Keep) -> None:
    async def starts(*, task_status: anyio.abc.TaskStatus[None]) -> None:
        event = anyio.Event()
        keep(event)
        await event.wait()
        task_status.started()

    async with anyio.create_task_group() as group:
        await group.start(starts)


@plant(lambda portal: portal._stop_event.set())
async def portal(keep: Keep) -> None:
    async with anyio.from_thread.BlockingPortal() as portal:
        keep(portal)
        await portal.sleep_until_stopped()


@plant(lambda event: event.set())
async def one_who_fails_in_a_group_of_all(keep: Keep) -> None:
    async def fails() -> None:
        event = anyio.Event()
        keep(event)
        await event.wait()
        raise KeyError

    try:
        async with anyio.create_task_group() as group:
            group.start_soon(hang)
            group.start_soon(fails)
    except BaseExceptionGroup:
        return


@plant(lambda event: event.set())
async def one_who_fails_in_the_group_round(keep: Keep) -> None:
    async def fails() -> None:
        event = anyio.Event()
        keep(event)
        await event.wait()
        raise KeyError

    async def inner() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(hang)

    try:
        async with anyio.create_task_group() as group:
            group.start_soon(inner)
            group.start_soon(fails)
    except BaseExceptionGroup:
        return


@plant(lambda event: event.set())
async def one_who_knows_weakly_what_another_waits_for(keep: Keep) -> None:
    known: list[Any] = []

    async def waits() -> None:
        event = anyio.Event()
        known.append(weakref.ref(event))
        await event.wait()

    asyncio.create_task(waits())  # in no group, where one who fails could wake the other
    await asyncio.sleep(0)
    event = anyio.Event()
    keep(event)
    await event.wait()
    known.pop()().set()


if HAS_HANDLES:

    @plant(lambda handle: handle.cancel())
    async def handle_of_a_child(keep: Keep) -> None:
        async with anyio.create_task_group() as group:
            keep(group.create_task(hang()))

    @plant(lambda reference: reference().cancel())
    async def weak_reference_to_a_handle(keep: Keep) -> None:
        async with anyio.create_task_group() as group:
            keep(weakref.ref(group.create_task(hang())))

    @plant(lambda coroutine: coroutine.cr_frame.f_locals["event"].set())
    async def coroutine_of_a_handle(keep: Keep) -> None:
        async def child() -> None:
            event = asyncio.Event()
            await event.wait()

        async with anyio.create_task_group() as group:
            keep(group.create_task(child()).coro)


@pytest.mark.parametrize("name", PLANTS)
def test_a_task_is_live_while_someone_can_wake_or_cancel_it(run: Run, name: str) -> None:
    wait, wake = PLANTS[name]

    async def main() -> None:
        kept: list[Any] = []
        task = asyncio.create_task(wait(kept.append))
        del task
        tasks = await until_all_are_blocked()
        assert not proof_of(tasks).stuck
        wake(kept.pop())
        await asyncio.wait(tasks, timeout=PATIENCE)
        assert all(task.done() for task in tasks)

    run(main)


@pytest.mark.parametrize("name", PLANTS)
def test_a_task_is_stuck_when_nobody_can(run: Run, name: str) -> None:
    wait, _ = PLANTS[name]

    async def main() -> None:
        kept: list[Any] = []
        asyncio.create_task(wait(kept.append))
        tasks = await until_all_are_blocked()
        kept.clear()
        gc.collect()
        assert set(proof_of(tasks).stuck) == set(map(id, tasks))
        await end(tasks)

    run(main)


# ----------------------------------------------------------------------------------------------- who is at work already


async def under_move_on_after(stack: ExitStack) -> Wake:
    async def wait() -> None:
        with anyio.move_on_after(0.05):
            await hang()

    asyncio.create_task(wait())
    return int


async def under_a_deadline_round_a_group(stack: ExitStack) -> Wake:
    async def wait() -> None:
        with anyio.CancelScope(deadline=anyio.current_time() + 0.05):
            async with anyio.create_task_group() as group:
                group.start_soon(hang)

    asyncio.create_task(wait())
    return int


async def in_a_group_with_one_who_sleeps(stack: ExitStack) -> Wake:
    async def fails() -> None:
        await anyio.sleep(0.05)
        raise KeyError

    async def wait() -> None:
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(hang)
                group.start_soon(fails)
        except BaseExceptionGroup:
            return

    asyncio.create_task(wait())
    return int


async def in_a_scope_with_one_who_sleeps(stack: ExitStack) -> Wake:
    async def wait() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(hang)
            await anyio.sleep(0.05)
            group.cancel_scope.cancel()

    asyncio.create_task(wait())
    return int


async def in_a_thread(stack: ExitStack) -> Wake:
    go = threading.Event()

    async def wait() -> None:
        await anyio.to_thread.run_sync(go.wait)

    asyncio.create_task(wait())
    await asyncio.sleep(0.05)
    return go.set


async def for_a_thread_that_comes_back(stack: ExitStack) -> Wake:
    go = threading.Event()

    def in_thread(event: anyio.Event) -> None:
        go.wait()
        anyio.from_thread.run_sync(event.set)

    async def wait() -> None:
        event = anyio.Event()
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, in_thread, event)
            await event.wait()

    asyncio.create_task(wait())
    await asyncio.sleep(0.05)
    return go.set


async def for_a_thread_with_a_portal(stack: ExitStack) -> Wake:
    go = threading.Event()
    portals: list[Any] = []

    def in_thread() -> None:
        portal = portals.pop()
        go.wait()
        portal.call(portal.stop)

    async def wait() -> None:
        async with anyio.from_thread.BlockingPortal() as portal:
            portals.append(portal)
            await portal.sleep_until_stopped()

    asyncio.create_task(wait())
    await asyncio.sleep(0)
    thread = threading.Thread(target=in_thread)
    thread.start()
    stack.callback(thread.join)
    while portals:
        await asyncio.sleep(0.001)
    return go.set


async def for_a_descriptor(stack: ExitStack) -> Wake:
    near, far = socket.socketpair()
    near.setblocking(False)
    stack.callback(near.close)
    stack.callback(far.close)

    async def wait(near: socket.socket) -> None:
        await getattr(anyio, "wait_readable", getattr(anyio, "wait_socket_readable", None))(near)

    asyncio.create_task(wait(near))
    return lambda: far.send(b"x")


async def for_a_signal(stack: ExitStack) -> Wake:
    async def wait() -> None:
        with anyio.open_signal_receiver(signal.SIGUSR2) as signals:
            async for _ in signals:
                return

    asyncio.create_task(wait())
    return lambda: os.kill(os.getpid(), signal.SIGUSR2)


AT_WORK = [
    under_move_on_after,
    under_a_deadline_round_a_group,
    in_a_group_with_one_who_sleeps,
    in_a_scope_with_one_who_sleeps,
    in_a_thread,
    for_a_thread_that_comes_back,
    for_a_thread_with_a_portal,
    for_a_descriptor,
    for_a_signal,
]


@pytest.mark.parametrize("how", AT_WORK, ids=lambda how: how.__name__)
def test_a_task_is_live_while_someone_is_at_work_for_it(
    run: Run, how: Callable[[ExitStack], Coroutine[Any, Any, Wake]]
) -> None:
    async def main() -> None:
        with ExitStack() as stack:
            wake = await how(stack)
            tasks = await until_all_are_blocked()
            assert not proof_of(tasks).stuck
            wake()
            await asyncio.wait(tasks, timeout=PATIENCE)
            assert all(task.done() for task in tasks)

    run(main)


def test_a_task_that_a_cancelled_scope_cancels_over_and_over_is_live(run: Run) -> None:
    async def stubborn(left: int) -> None:
        with anyio.CancelScope() as scope:
            scope.cancel()
            while left:
                try:
                    await asyncio.get_running_loop().create_future()
                except asyncio.CancelledError:
                    left -= 1

    async def main() -> None:
        tasks = [asyncio.create_task(stubborn(20))]
        for _ in range(10):
            await asyncio.sleep(0)
            assert not prove(list(filter(is_blocked, tasks)), [tasks]).stuck
        await asyncio.wait(tasks, timeout=PATIENCE)
        assert tasks[0].done()

    run(main)


# --------------------------------------------------------------------------------------------------- what can be proven


async def two_locks() -> None:
    one, two = anyio.Lock(), anyio.Lock()

    async def take(first: anyio.Lock, second: anyio.Lock) -> None:
        async with first:
            await anyio.sleep(0)
            async with second:
                pass

    async with anyio.create_task_group() as group:
        group.start_soon(take, one, two)
        group.start_soon(take, two, one)


async def rendezvous_with_nobody() -> None:
    send, receive = anyio.create_memory_object_stream[int]()
    with send, receive:
        async with anyio.create_task_group() as group:
            group.start_soon(send.send, 1)
            group.start_soon(send.send, 2)
            await receive.receive()


async def receivers_of_a_stream_that_nobody_closes() -> None:
    send, receive = anyio.create_memory_object_stream[int](math.inf)
    with send, receive, receive.clone() as clone:
        async with anyio.create_task_group() as group:
            group.start_soon(receive.receive)
            group.start_soon(clone.receive)


async def nested_groups() -> None:
    async with anyio.create_task_group() as outer, anyio.create_task_group() as inner:
        outer.start_soon(hang)
        inner.start_soon(hang)


async def shielded_in_a_cancelled_scope() -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        with anyio.CancelScope(shield=True):
            await hang()


async def after_a_timeout_that_is_over() -> None:
    with anyio.move_on_after(0.001):
        await hang()
    with anyio.fail_after(LONG):
        await anyio.sleep(0)
    await hang()


async def under_a_timeout_of_none() -> None:
    with anyio.move_on_after(None), anyio.CancelScope(deadline=math.inf):
        await hang()


async def started_and_then_stuck() -> None:
    async def service(*, task_status: anyio.abc.TaskStatus[None]) -> None:
        task_status.started()
        await hang()

    async with anyio.create_task_group() as group:
        await group.start(service)


async def with_a_child_that_has_ended() -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, 0)
        group.start_soon(hang)


PROVABLE: list[Body] = [
    hang,
    two_locks,
    rendezvous_with_nobody,
    receivers_of_a_stream_that_nobody_closes,
    nested_groups,
    shielded_in_a_cancelled_scope,
    after_a_timeout_that_is_over,
    under_a_timeout_of_none,
    started_and_then_stuck,
    with_a_child_that_has_ended,
]


TRIED_EVERYWHERE = [two_locks, rendezvous_with_nobody]


# Ways to run a body on AnyIO, in each of which only its runner and those who wait for it hold it.
async def directly(main: Body) -> None:
    await main()


async def in_a_group(main: Body) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(main)


async def in_a_group_among_others(main: Body) -> None:
    async def main_and_then_nothing() -> None:
        await main()
        group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, LONG)
        group.start_soon(main_and_then_nothing)
        group.start_soon(anyio.sleep, LONG)


async def started(main: Body) -> None:
    async def service(*, task_status: anyio.abc.TaskStatus[None]) -> None:
        task_status.started()
        await main()

    async with anyio.create_task_group() as group:
        await group.start(service)


async def in_the_block_of_a_group(main: Body) -> None:
    async with anyio.create_task_group():
        await main()


async def in_a_cancel_scope(main: Body) -> None:
    with anyio.CancelScope(shield=True):
        await main()


async def in_scopes_in_a_group(main: Body) -> None:
    async def scoped() -> None:
        with anyio.CancelScope(), anyio.CancelScope():
            await main()

    async with anyio.create_task_group() as group:
        group.start_soon(scoped)


RUNNERS = [
    directly,
    in_a_group,
    in_a_group_among_others,
    started,
    in_the_block_of_a_group,
    in_a_cancel_scope,
    in_scopes_in_a_group,
]


@pytest.mark.parametrize(
    ("how", "body"),
    [(how, body) for how in RUNNERS for body in PROVABLE if how in (directly, in_a_group) or body in TRIED_EVERYWHERE],
    ids=lambda function: function.__name__,
)
def test_a_body_that_nothing_can_wake_is_proven_with_all_that_it_waits_for(
    run: Run, body: Body, how: Callable[[Body], Coroutine[Any, Any, None]]
) -> None:
    async def main() -> None:
        with pytest.raises(DeadlockError) as caught:
            await watched(body)
        report = caught.value.report
        assert report.body is not None and report.body.verdict == "deadlocked"
        assert {leak.verdict for leak in report.leaks} <= {"deadlocked"}

    run(lambda: how(main))


@pytest.mark.parametrize("options", [{}, {"use_uvloop": True}])
def test_a_program_that_anyio_runs_is_proven(options: dict[str, bool]) -> None:
    if options:
        pytest.importorskip("uvloop")

    async def main() -> None:
        with pytest.raises(DeadlockError):
            await watched(two_locks)

    anyio.run(main, backend_options=options)


def test_a_program_with_a_thread_that_waits_for_work_is_proven() -> None:
    async def main() -> None:
        await anyio.to_thread.run_sync(int)
        with pytest.raises(DeadlockError):
            await watched(two_locks)

    anyio.run(main)


# -------------------------------------------------------------------------------------------- who can still end a body

kept: list[Any] = []


async def keeps_its_scope() -> None:
    with anyio.CancelScope() as scope:
        kept.append(scope)
        await hang()


async def keeps_its_group() -> None:
    async with anyio.create_task_group() as group:
        kept.append(group)
        group.start_soon(hang)


async def lets_its_scope_be_known_weakly() -> None:
    with anyio.CancelScope() as scope:
        kept.append(weakref.ref(scope))
        await hang()


async def keeps_what_is_known_of_it() -> None:
    kept.append(anyio.get_current_task())
    await hang()


async def has_a_deadline() -> None:
    with anyio.move_on_after(LONG):
        await hang()


async def has_a_child_that_goes_on() -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, LONG)
        await hang()


async def has_a_child_whose_handle_is_kept() -> None:
    async with anyio.create_task_group() as group:
        kept.append(group.create_task(hang()))


LIVE_BODIES: list[Body] = [
    keeps_its_scope,
    keeps_its_group,
    lets_its_scope_be_known_weakly,
    keeps_what_is_known_of_it,
    has_a_deadline,
    has_a_child_that_goes_on,
]
if HAS_HANDLES:
    LIVE_BODIES.append(has_a_child_whose_handle_is_kept)


async def is_not_proven(body: Body) -> None:
    with pytest.raises(ScopeTimeoutError) as caught:
        await watched(body, TIMEOUT)
    assert caught.value.report.body is not None
    assert caught.value.report.body.verdict in ("blocked", "joining")


@pytest.mark.parametrize("how", [directly, in_a_group], ids=lambda how: how.__name__)
@pytest.mark.parametrize("body", LIVE_BODIES, ids=lambda body: body.__name__)
def test_a_body_that_someone_could_end_is_not_called_stuck(
    run: Run, body: Body, how: Callable[[Body], Coroutine[Any, Any, None]]
) -> None:
    try:
        run(lambda: how(lambda: is_not_proven(body)))
    finally:
        kept.clear()


# Who else could end the body, from outside of it.
async def under_a_deadline(main: Body) -> None:
    with anyio.move_on_after(LONG):
        await main()


async def in_a_group_under_a_deadline(main: Body) -> None:
    with anyio.fail_after(LONG):
        async with anyio.create_task_group() as group:
            group.start_soon(main)


async def in_a_scope_that_is_kept(main: Body) -> None:
    with anyio.CancelScope() as scope:
        kept.append(scope)
        await main()


async def in_the_block_of_a_group_with_a_child_that_goes_on(main: Body) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, LONG)
        await main()
        group.cancel_scope.cancel()


async def by_a_handle_that_is_kept(main: Body) -> None:
    async with anyio.create_task_group() as group:
        kept.append(group.create_task(main()))


ENDED_FROM_OUTSIDE = [
    under_a_deadline,
    in_a_group_under_a_deadline,
    in_a_scope_that_is_kept,
    in_the_block_of_a_group_with_a_child_that_goes_on,
]
if HAS_HANDLES:
    ENDED_FROM_OUTSIDE.append(by_a_handle_that_is_kept)


@pytest.mark.parametrize("body", [nested_groups, two_locks], ids=lambda body: body.__name__)
@pytest.mark.parametrize("how", ENDED_FROM_OUTSIDE, ids=lambda how: how.__name__)
def test_a_body_that_someone_outside_could_end_is_not_called_stuck(
    run: Run, body: Body, how: Callable[[Body], Coroutine[Any, Any, None]]
) -> None:
    try:
        run(lambda: how(lambda: is_not_proven(body)))
    finally:
        kept.clear()


def test_a_task_of_the_group_round_a_body_is_live_as_that_group_is(run: Run) -> None:
    """It waits for nothing that anybody has, but the group outside could still cancel it, and so wake the body."""

    async def main(group: anyio.abc.TaskGroup) -> None:
        async def body() -> None:
            event = anyio.Event()

            async def sets_it_in_the_end() -> None:
                try:
                    await hang()
                finally:
                    event.set()

            group.start_soon(sets_it_in_the_end)
            await event.wait()

        await is_not_proven(body)
        group.cancel_scope.cancel()

    async def outermost() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(main, group)

    run(outermost)


# ---------------------------------------------------------------------------------------------- at the end of a scope


@pytest.mark.parametrize("how", [directly, in_a_group, in_the_block_of_a_group], ids=lambda how: how.__name__)
def test_strays_in_a_group_of_their_own_are_proven_at_the_end(
    run: Run, how: Callable[[Body], Coroutine[Any, Any, None]]
) -> None:
    async def main() -> None:
        async with TaskScope(grace=5, on_leak="ignore") as scope:
            asyncio.create_task(two_locks())
            await asyncio.sleep(0.001)
        assert [leak.verdict for leak in scope.report.leaks] == 3 * ["deadlocked"]
        assert (scope.report.settled_after or 0) < 1  # the grace is not waited out

    run(lambda: how(main))


@pytest.mark.parametrize("how", [directly, in_a_group, started, in_the_block_of_a_group], ids=lambda how: how.__name__)
def test_what_the_host_does_when_it_goes_on_can_wake_a_task(
    run: Run, how: Callable[[Body], Coroutine[Any, Any, None]]
) -> None:
    async def main() -> None:
        event = asyncio.Event()
        async with TaskScope(grace=0, on_leak="ignore") as scope:
            asyncio.create_task(event.wait())
            await asyncio.sleep(0)
        assert [leak.verdict for leak in scope.report.leaks] == ["blocked"]
        event.set()

    run(lambda: how(main))


def test_that_a_group_round_the_scope_can_still_cancel_a_stray_in_it_does_not_count(run: Run) -> None:
    async def main() -> None:
        async with anyio.create_task_group() as group:
            async with TaskScope(grace=0, on_leak="ignore") as scope:
                group.start_soon(hang, name="stray")
                await asyncio.sleep(0)
            assert [leak.verdict for leak in scope.report.leaks] == ["deadlocked"]

    run(main)
