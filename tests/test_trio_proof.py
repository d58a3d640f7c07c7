"""The proof of deadlock on Trio: programs that are stuck, each with a twin that something alive has a way to wake."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

import anyio
import pytest
import trio
import trio.testing
from trio.testing import MockClock

from taskscope import DeadlockError, TaskScope
from taskscope._diagnosis.reachability import FREE_THREADED
from taskscope._diagnosis.trio_reachability import prove_trio

pytestmark = pytest.mark.skipif(FREE_THREADED, reason="nothing is proven where references are not counted exactly")

Program = Callable[[bool], Coroutine[Any, Any, None]]


async def lock_cycle(is_alive: bool) -> None:
    first, second = trio.Lock(), trio.Lock()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(both, first, second, name="stuck a")
        nursery.start_soon(both, second, first, name="stuck b")
        if is_alive:
            nursery.start_soon(later, lambda lot=first._lot: lot.unpark())
        del first, second


async def both(first: trio.Lock, second: trio.Lock) -> None:
    async with first:
        await trio.sleep(1)
        async with second:
            pass


async def later(act: Callable[[], object]) -> None:
    """What is alive: it will act in some time."""
    await trio.sleep(10)
    act()


async def full_channel(is_alive: bool) -> None:
    send, receive = trio.open_memory_channel[int](0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send.send, 1, name="stuck")
        if is_alive:
            nursery.start_soon(later, lambda end=receive: end.receive_nowait())
        del send, receive


async def channel_without_senders(is_alive: bool) -> None:
    """All senders are held by tasks that wait for one another."""
    send, receive = trio.open_memory_channel[int](1)
    back_send, back_receive = trio.open_memory_channel[int](1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(exchange, receive, back_send, name="stuck a")
        nursery.start_soon(exchange, back_receive, send, name="stuck b")
        if is_alive:
            nursery.start_soon(later, send.clone().close)
            nursery.start_soon(later, lambda end=back_send: end.send_nowait(1))
        del send, receive, back_send, back_receive


async def exchange(receive: trio.MemoryReceiveChannel[int], send: trio.MemorySendChannel[int]) -> None:
    await receive.receive()
    await send.send(1)


async def event_never_set(is_alive: bool) -> None:
    event = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(event.wait, name="stuck")
        if is_alive:
            nursery.start_soon(later, event.set)
        del event


async def semaphore_never_released(is_alive: bool) -> None:
    semaphore = trio.Semaphore(0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(semaphore.acquire, name="stuck")
        if is_alive:
            nursery.start_soon(later, semaphore.release)
        del semaphore


async def sleeps_forever(is_alive: bool) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sleep_in_scope, 10 if is_alive else float("inf"), name="stuck")


async def sleep_in_scope(seconds: float) -> None:
    with trio.move_on_after(seconds):
        await trio.sleep_forever()


async def one_waits_for_children(is_alive: bool) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(parent_of, trio.Event().wait if not is_alive else trio.sleep, name="stuck parent")


async def parent_of(function: Any) -> None:
    async with trio.open_nursery() as nursery:
        if function is trio.sleep:
            nursery.start_soon(function, 10)
        else:
            nursery.start_soon(function, name="stuck child")


async def child_that_never_starts(is_alive: bool) -> None:
    event = trio.Event()

    async def starts(event: trio.Event, task_status: Any) -> None:
        await event.wait()
        task_status.started()

    async def starter(nursery: trio.Nursery, event: trio.Event) -> None:
        await nursery.start(starts, event, name="stuck child")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(starter, nursery, event, name="stuck starter")
        if is_alive:
            nursery.start_soon(later, event.set)
        del event


async def anyio_stream(is_alive: bool) -> None:
    send, receive = anyio.create_memory_object_stream[int](0)
    async with anyio.create_task_group() as group:
        group.start_soon(receive_from, receive, name="stuck")
        if is_alive:
            group.start_soon(send_later, send)
        else:
            group.start_soon(keep, send, name="stuck keeper")
        del send, receive


async def receive_from(stream: Any) -> None:
    with stream:
        await stream.receive()


async def send_later(stream: Any) -> None:
    with stream:
        await trio.sleep(10)
        stream.send_nowait(1)


async def keep(stream: Any) -> None:
    with stream:
        await anyio.Event().wait()


async def anyio_lock_cycle(is_alive: bool) -> None:
    first, second = anyio.Lock(), anyio.Lock()
    async with anyio.create_task_group() as group:
        group.start_soon(both, first, second, name="stuck a")
        group.start_soon(both, second, first, name="stuck b")
        if is_alive:
            group.start_soon(later, first._Lock__original._lot.unpark)  # type: ignore[attr-defined]
        del first, second


async def current_task() -> trio.lowlevel.Task:
    return trio.lowlevel.current_task()


OVER = trio.run(current_task)._runner  # type: ignore[attr-defined]


async def run_that_is_over(is_alive: bool) -> None:
    """A task has another run, as it can by the traceback of a test that has failed."""
    event = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(waits_with, OVER, event, name="stuck")
        if is_alive:
            nursery.start_soon(later, event.set)
        del event


async def waits_with(_: object, event: trio.Event) -> None:
    await event.wait()


PROGRAMS: list[Program] = [
    run_that_is_over,
    lock_cycle,
    full_channel,
    channel_without_senders,
    event_never_set,
    semaphore_never_released,
    sleeps_forever,
    one_waits_for_children,
    child_that_never_starts,
    anyio_stream,
    anyio_lock_cycle,
]


def stuck_in(program: Callable[[], Coroutine[Any, Any, None]]) -> tuple[set[str], set[str]]:
    """The names of the tasks that are proven to be stuck once all tasks wait, and those of all tasks."""
    found: list[set[str]] = []

    async def look() -> None:
        await trio.sleep(5)
        runner: Any = trio.lowlevel.current_task()._runner  # type: ignore[attr-defined]
        names = {id(task): task.name for task in runner.tasks if task is not trio.lowlevel.current_task()}
        proof = prove_trio(list(runner.tasks))
        assert proof.reason is None
        found.extend([{names[key] for key in proof.stuck}, set(names.values())])
        runner.main_task.parent_nursery.cancel_scope.cancel()

    async def main() -> None:
        trio.lowlevel.spawn_system_task(look)
        await program()

    with _cancelled():
        trio.run(main, clock=MockClock(autojump_threshold=0))
    return found[0], found[1]


class _cancelled:
    """A run that was cancelled from inside raises the cancellations."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, _: object) -> bool:
        if isinstance(error, BaseExceptionGroup):
            return error.split(trio.Cancelled)[1] is None
        return isinstance(error, trio.Cancelled)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_a_stuck_program_is_proven_to_be_so(program: Program) -> None:
    stuck, names = stuck_in(lambda: program(False))
    expected = {name for name in names if name.startswith("stuck")}
    assert expected and expected <= stuck


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_its_twin_that_something_can_wake_is_not(program: Program) -> None:
    stuck, names = stuck_in(lambda: program(True))
    assert any(name.startswith("stuck") for name in names)
    assert not {name for name in stuck if name.startswith("stuck")}


# What something alive can have of a task, or of what the task is in: enough to wake it or to cancel it.
VIEWS: dict[str, Callable[[Any], object]] = {
    "task": lambda task: task,
    "weak reference": weakref.ref,
    "proxy": weakref.proxy,
    "coroutine": lambda task: task.coro,
    "frame": lambda task: task.coro.cr_frame,
    "inner coroutine": lambda task: task.coro.cr_await,
    "innermost frame": lambda task: task.coro.cr_await.cr_await.cr_frame,
    "what it waits in": lambda task: task.coro.cr_frame.f_locals["event"],
    "weak reference to what it waits in": lambda task: weakref.ref(task.coro.cr_frame.f_locals["event"]),
    "tasks that wait there": lambda task: task.coro.cr_frame.f_locals["event"]._tasks,
    "nursery": lambda task: task.parent_nursery,
    "tasks of the nursery": lambda task: task.parent_nursery.child_tasks,
    "nurseries of the parent": lambda task: task.parent_nursery.parent_task._child_nurseries,
    "cancel scope of the nursery": lambda task: task.parent_nursery.cancel_scope,
    "cancel scope": lambda task: task._cancel_status._scope,
    "cancel status": lambda task: task._cancel_status,
    "method of the cancel scope": lambda task: task._cancel_status._scope.cancel,
    "parent": lambda task: task.parent_nursery.parent_task,
}


@pytest.mark.parametrize("view", [None, *VIEWS])
def test_who_has_a_view_of_a_task_keeps_it_alive(view: str | None) -> None:
    async def waits() -> None:
        event = trio.Event()
        with trio.CancelScope():
            await event.wait()

    async def program() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(waits, name="stuck")
            await trio.sleep(1)
            (task,) = nursery.child_tasks
            held = None if view is None else VIEWS[view](task)
            nursery.start_soon(later, lambda held=held: None)
            del task, held, nursery

    stuck, _ = stuck_in(program)
    assert ("stuck" in stuck) is (view is None)


async def parent_that_goes_on(event: trio.Event) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(event.wait, name="stuck")
        await trio.sleep(10)


async def sibling_that_fails(event: trio.Event) -> None:
    """When the one fails the other is cancelled, and lets go of what the third one waits for."""

    async def fails() -> NoReturn:
        await trio.sleep(10)
        raise ValueError

    async def holds(lock: trio.Lock) -> None:
        async with lock:
            await trio.Event().wait()

    async def wants(lock: trio.Lock) -> None:
        await trio.sleep(1)
        async with lock:
            pass

    async def partly(lock: trio.Lock) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(holds, lock, name="stuck a")
            nursery.start_soon(fails)

    lock = trio.Lock()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wants, lock, name="stuck b")
        nursery.start_soon(partly, lock)
        del lock


async def thread_sets_it(event: trio.Event) -> None:
    token = trio.lowlevel.current_trio_token()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(event.wait, name="stuck")
        nursery.start_soon(later, lambda event=event, token=token: token.run_sync_soon(event.set))
        del event


async def deadline_further_out(event: trio.Event) -> None:
    with trio.move_on_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(event.wait, name="stuck")
            del event


@pytest.mark.parametrize("program", [parent_that_goes_on, sibling_that_fails, thread_sets_it, deadline_further_out])
def test_what_is_about_to_happen_keeps_tasks_alive(program: Callable[[trio.Event], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        await program(trio.Event())

    stuck, names = stuck_in(run)
    assert any(name.startswith("stuck") for name in names)
    assert not {name for name in stuck if name.startswith("stuck")}


def test_a_sibling_that_fails_cancels_all_of_them_at_once_and_wakes_none() -> None:
    async def program() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.Event().wait, name="stuck a")
            nursery.start_soon(trio.Event().wait, name="stuck b")
            nursery.start_soon(trio.sleep, 10, name="alive")

    stuck, _ = stuck_in(program)
    assert {"stuck a", "stuck b"} <= stuck and "alive" not in stuck


def test_who_has_a_lock_has_no_way_to_wake_the_task_that_holds_it() -> None:
    async def holds(lock: trio.Lock) -> None:
        async with lock:
            await trio.Event().wait()

    async def program() -> None:
        lock = trio.Lock()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(holds, lock, name="stuck")
            nursery.start_soon(later, lambda lock=lock: lock.locked())
            del lock

    assert "stuck" in stuck_in(program)[0]


def test_a_proof_names_those_that_could_wake_a_task_if_they_ran() -> None:
    found: list[Any] = []

    async def main() -> None:
        async def look() -> None:
            await trio.sleep(5)
            runner: Any = trio.lowlevel.current_task()._runner  # type: ignore[attr-defined]
            proof = prove_trio(list(runner.tasks))
            names = {id(task): task.name for task in runner.tasks}
            found.append({names[key]: {names[other] for other in others} for key, others in proof.stuck.items()})
            runner.main_task.parent_nursery.cancel_scope.cancel()

        trio.lowlevel.spawn_system_task(look)
        await lock_cycle(False)

    with _cancelled():
        trio.run(main, clock=MockClock(autojump_threshold=0))
    assert found[0]["stuck a"] == {"stuck b"} and found[0]["stuck b"] == {"stuck a"}


def leaks_of(body: Callable[[trio.Nursery], Coroutine[Any, Any, object]], *, grace: float = 0) -> dict[str, str | None]:
    """The verdicts on what a body leaves running in a nursery that was opened round its scope."""
    scope = TaskScope(grace=grace, on_leak="ignore")

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            async with scope:
                kept = await body(nursery)
            del kept
            nursery.cancel_scope.cancel()

    trio.run(main)
    return {leak.name: leak.verdict for leak in scope.report.leaks}


def test_a_host_that_has_entered_the_nursery_of_a_stray_does_not_keep_it_alive() -> None:
    async def body(nursery: trio.Nursery) -> None:
        nursery.start_soon(trio.Event().wait, name="stray")
        await trio.testing.wait_all_tasks_blocked()

    assert leaks_of(body) == {"stray": "deadlocked"}
    assert leaks_of(body, grace=30) == {"stray": "deadlocked"}  # and is not waited for


def test_a_host_that_has_what_a_stray_waits_in_keeps_it_alive() -> None:
    async def body(nursery: trio.Nursery) -> trio.Event:
        event = trio.Event()
        nursery.start_soon(event.wait, name="stray")
        await trio.testing.wait_all_tasks_blocked()
        return event

    assert leaks_of(body) == {"stray": "blocked"}


def test_a_task_that_has_the_nursery_keeps_a_stray_alive() -> None:
    async def cancels(nursery: trio.Nursery) -> None:
        await trio.sleep(60)
        nursery.cancel_scope.cancel()

    async def body(nursery: trio.Nursery) -> None:
        nursery.start_soon(trio.Event().wait, name="stray")
        nursery.start_soon(cancels, nursery, name="cancels")
        await trio.testing.wait_all_tasks_blocked()

    assert leaks_of(body) == {"stray": "blocked", "cancels": "sleeping"}


def test_a_body_that_is_stuck_with_its_strays_is_proven_to_be_so() -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            with pytest.raises(DeadlockError) as caught:
                async with TaskScope(watch=0.05):
                    first, second = trio.open_memory_channel[int](0)
                    nursery.start_soon(both_wait, second, name="stray")
                    await first.send(1)
            nursery.cancel_scope.cancel()
            assert [leak.verdict for leak in caught.value.report.leaks] == ["deadlocked"]

    async def both_wait(receive: object) -> None:
        await trio.Event().wait()

    trio.run(main)


def test_a_body_that_a_stray_will_wake_is_let_alone() -> None:
    async def main() -> str:
        async with trio.open_nursery() as nursery, TaskScope(watch=0.02):
            send, receive = trio.open_memory_channel[str](0)
            nursery.start_soon(send_later, send)
            return await receive.receive()

    async def send_later(send: Any) -> None:
        await trio.sleep(0.2)
        await send.send("woken")

    assert trio.run(main) == "woken"
