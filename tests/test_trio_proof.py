"""The proof of deadlock on Trio: programs that are stuck, each with a twin in which something alive has a way to wake."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

import anyio
import pytest
import trio
import trio.testing
from trio.testing import MockClock

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
            nursery.start_soon(later, lambda lock=first: lock.statistics().owner.coro.cr_frame)
            nursery.start_soon(later, lambda lot=first._lot: lot.unpark())
        del first, second


async def both(first: trio.Lock, second: trio.Lock) -> None:
    async with first:
        await trio.testing.wait_all_tasks_blocked()
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
            nursery.start_soon(later, lambda end=send.clone(): end.send_nowait(1))
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
        nursery.start_soon(parent_of, trio.Event().wait if not is_alive else trio.sleep, 1, name="stuck parent")


async def parent_of(function: Any, *args: Any) -> None:
    async with trio.open_nursery() as nursery:
        if function is trio.sleep:
            nursery.start_soon(function, *args)
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
        group.start_soon(receive.receive, name="stuck")
        if is_alive:
            group.start_soon(later, lambda end=send: end.send_nowait(1))
        else:
            group.start_soon(keep, send, name="stuck keeper")
        del send, receive


async def keep(obj: object) -> None:
    await anyio.Event().wait()


async def anyio_lock_cycle(is_alive: bool) -> None:
    first, second = anyio.Lock(), anyio.Lock()
    async with anyio.create_task_group() as group:
        group.start_soon(both, first, second, name="stuck a")
        group.start_soon(both, second, first, name="stuck b")
        if is_alive:
            group.start_soon(later, first._Lock__original._lot.unpark)  # type: ignore[attr-defined]
        del first, second


PROGRAMS: list[Program] = [
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
        await trio.testing.wait_all_tasks_blocked()
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
        trio.run(main, clock=MockClock())
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
