"""What a scope keeps of its tasks: every pending one, few finished ones, exact counts, bounded chains."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import random
import tracemalloc
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from conftest import Run
from hypothesis import given, settings
from hypothesis import strategies as st

from taskscope import TaskScope, hand_off

HELD = 128
CHAIN = 16


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


async def nothing() -> None:
    pass


def quiet(name: str | None = None, **policy: object) -> TaskScope:
    """A scope that judges at once and only reports."""
    return TaskScope(name, **{"grace": 0, "on_leak": "ignore", **policy})  # type: ignore[arg-type]


async def turns(count: int = 3) -> None:
    """A task ends in the turn after it was released, and is told of in the one after that."""
    for _ in range(count):
        await asyncio.sleep(0)


def held(scope: TaskScope) -> tuple[int, int]:
    """How many finished and how many pending tasks a scope holds."""
    rows = scope._table.rows
    finished = sum(task.done() for task in rows)
    return finished, len(rows) - finished


def check_bound(scope: TaskScope, pending_expected: int) -> None:
    finished, pending = held(scope)
    assert pending == pending_expected
    assert finished <= max(HELD, pending)


class Crowd:
    """Tasks that end one by one when they are told to."""

    def __init__(self) -> None:
        self.gates: list[asyncio.Future[None]] = []
        self.spawned = 0

    def spawn(self, count: int = 1) -> None:
        for _ in range(count):
            gate = asyncio.get_running_loop().create_future()
            self.gates.append(gate)
            asyncio.create_task(self._wait(gate))
        self.spawned += count

    def spawn_short(self, count: int) -> None:
        for _ in range(count):
            asyncio.create_task(nothing())
        self.spawned += count

    def end(self, chosen: list[int]) -> None:
        gone = set(chosen)
        for index in gone:
            self.gates[index].set_result(None)
        self.gates = [gate for index, gate in enumerate(self.gates) if index not in gone]

    async def end_all(self) -> None:
        self.end(list(range(len(self.gates))))
        await turns()

    async def _wait(self, gate: asyncio.Future[None]) -> None:
        await gate


# --- held strongly


def test_blocked_tasks_without_any_reference_survive_the_collector_among_many_that_end(run: Run) -> None:
    async def main() -> None:
        references: list[weakref.ref[asyncio.Task[None]]] = []
        async with quiet() as scope:
            for number in range(300):
                references.append(weakref.ref(asyncio.create_task(forever(), name=f"blocked-{number}")))
                await asyncio.gather(*(nothing() for _ in range(10)))
            gc.collect()
            assert all(reference() is not None for reference in references)
        assert {record.name for record in scope.report.leaks} == {f"blocked-{number}" for number in range(300)}
        assert scope.report.spawned == 3_300

        # the clean twin: once it has ended, nothing of ours keeps them
        del scope
        await turns()
        gc.collect()
        assert all(reference() is None for reference in references)

    run(main)


def test_two_tasks_that_wait_for_each_other_survive_the_collector(run: Run) -> None:
    async def wait_for(other: list[asyncio.Task[None]]) -> None:
        while not other:
            await asyncio.sleep(0)
        await asyncio.shield(other[0])

    async def main() -> None:
        async with quiet() as scope:
            first: list[asyncio.Task[None]] = []
            second: list[asyncio.Task[None]] = []
            second.append(asyncio.create_task(wait_for(first), name="second"))
            first.append(asyncio.create_task(wait_for(second), name="first"))
            references = [weakref.ref(first[0]), weakref.ref(second[0])]
            await turns()
            del first, second
            gc.collect()
            assert all(reference() is not None for reference in references)
        assert {record.name for record in scope.report.leaks} == {"first", "second"}

    run(main)


def test_results_of_finished_tasks_are_let_go(run: Run) -> None:
    class Result:
        pass

    async def produce() -> Result:
        await asyncio.sleep(0)
        return Result()

    async def main() -> None:
        results: list[weakref.ref[Result]] = []
        async with TaskScope() as scope:
            for _ in range(2_000):
                results.append(weakref.ref(await asyncio.create_task(produce())))
                if len(results) % 100 == 0:
                    assert sum(result() is not None for result in results) <= HELD + 1
            assert len(scope._table.rows) <= HELD
        assert scope.report.spawned == 2_000

    run(main)


# --- the bound

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("spawn"), st.sampled_from([1, 3, 40, 127, 128, 129, 200, 600])),
        st.tuples(st.just("short"), st.sampled_from([1, 20, 127, 128, 300])),
        st.tuples(st.just("mixed"), st.integers(1, 20)),
        st.tuples(st.just("oldest"), st.floats(0, 1)),
        st.tuples(st.just("newest"), st.floats(0, 1)),
        st.tuples(st.just("random"), st.floats(0, 1)),
        st.tuples(st.just("one by one"), st.floats(0, 1)),
        st.tuples(st.just("keep every"), st.integers(2, 33)),
        st.tuples(st.just("all"), st.just(0)),
    ),
    max_size=14,
)


async def take_step(crowd: Crowd, scope: TaskScope, step: tuple[str, float], chance: random.Random) -> None:
    what, amount = step
    there = range(len(crowd.gates))
    if what == "spawn":
        crowd.spawn(int(amount))
    elif what == "short":
        crowd.spawn_short(int(amount))
    elif what == "mixed":
        for _ in range(300 // int(amount)):
            crowd.spawn()
            crowd.spawn_short(int(amount) - 1)
    elif what == "one by one":
        for _ in range(int(amount * len(there))):
            crowd.end([chance.randrange(len(crowd.gates))])
            await turns()
            check_bound(scope, len(crowd.gates))
    else:
        count = int(amount * len(there))
        chosen = {
            "oldest": list(there[:count]),
            "newest": list(there[len(there) - count :]),
            "random": chance.sample(there, count) if what == "random" else [],
            "keep every": [index for index in there if index % max(1, int(amount))],
            "all": list(there),
        }[what]
        crowd.end(chosen)


@settings(max_examples=150)
@given(steps=STEPS, seed=st.integers(0, 2**16))
def test_few_finished_tasks_are_held_whatever_happens(steps: list[tuple[str, float]], seed: int) -> None:
    async def main() -> None:
        chance = random.Random(seed)
        crowd = Crowd()
        async with TaskScope(grace=5) as scope:
            for step in steps:
                await take_step(crowd, scope, step, chance)
                await turns()
                check_bound(scope, len(crowd.gates))
                assert scope.snapshot().spawned == crowd.spawned
            await crowd.end_all()
            check_bound(scope, 0)
        assert scope.report.ok and scope.report.spawned == crowd.spawned

    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(main())


def in_order(count: int) -> list[int]:
    return list(range(count))


def newest_first(count: int) -> list[int]:
    return list(reversed(range(count)))


def at_random(count: int) -> list[int]:
    return random.Random(count).sample(range(count), count)


def every_nth_lives_on(period: int, offset: int) -> Callable[[int], list[int]]:
    def order(count: int) -> list[int]:
        return [index for index in range(count) if index % period != offset % period]

    return order


ORDERS: dict[str, Callable[[int], list[int]]] = {
    "oldest first": in_order,
    "newest first": newest_first,
    "at random": at_random,
    **{
        f"every {period}th lives on, from the {offset}th": every_nth_lives_on(period, offset)
        for period, offset in [(16, 0), (16, 13), (15, 4), (8, 7), (7, 6), (28, 0), (112, 13), (3, 2)]
    },
}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS.keys())
@pytest.mark.parametrize("count", [140, 300, 700, 3_000])
def test_many_pending_tasks_that_end_without_a_further_spawn(
    run: Run, count: int, order: Callable[[int], list[int]]
) -> None:
    async def main() -> None:
        crowd = Crowd()
        async with quiet() as scope:
            crowd.spawn(count)
            gates = list(crowd.gates)
            await turns()
            left = count
            for number, index in enumerate(order(count)):
                gates[index].set_result(None)
                left -= 1
                if number % (1 + count // 100) == 0:
                    await turns()
                    check_bound(scope, left)
            await turns()
            check_bound(scope, left)
        assert scope.report.spawned == count
        assert len(scope.report.leaks) + scope.report.leaks_omitted == left

    run(main)


@pytest.mark.parametrize("period", [2, 7, 14, 16, 17, 56, 112])
def test_supervisors_among_short_tasks(run: Run, period: int) -> None:
    """Every so many tasks one stays; all others end, and then no more are spawned."""

    async def main() -> None:
        crowd = Crowd()
        stay: list[asyncio.Future[None]] = []
        async with TaskScope(grace=5) as scope:
            for number in range(4_000):
                crowd.spawn()
                if number % period == period - 1:
                    stay.append(crowd.gates.pop())
                if len(crowd.gates) >= 1_000:
                    crowd.end(random.Random(number).sample(range(1_000), 900))
                    await turns()
                    check_bound(scope, len(crowd.gates) + len(stay))
            while crowd.gates:
                crowd.end(list(range(min(20, len(crowd.gates)))))
                await turns()
                check_bound(scope, len(stay) + len(crowd.gates))
            for gate in stay:
                gate.set_result(None)
        assert scope.report.spawned == 4_000

    run(main)


def test_the_bound_is_one_of_live_objects_too(run: Run) -> None:
    """Seen from outside: finished tasks that are still alive, whoever holds them."""

    async def main() -> None:
        crowd = Crowd()
        async with TaskScope(grace=5) as scope:
            alive: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()
            crowd.spawn(1_500)
            alive.update(scope._table.rows)
            await turns()
            chance = random.Random(7)
            while crowd.gates:
                crowd.end(chance.sample(range(len(crowd.gates)), min(10, len(crowd.gates))))
                await turns()
                finished = sum(task.done() for task in list(alive))
                assert finished <= max(HELD, len(crowd.gates))

    run(main)


def test_a_burst_that_ends_in_one_turn_is_let_go_in_the_next(run: Run) -> None:
    async def main() -> None:
        crowd = Crowd()
        async with TaskScope() as scope:
            crowd.spawn(10_000)
            await turns()
            crowd.end(list(range(10_000)))
            await turns()
            check_bound(scope, 0)
        assert scope.report.spawned == 10_000

    run(main)


def test_nothing_of_ours_stays_on_tasks_that_outlive_the_scope(run: Run) -> None:
    """Samples of a crowded table have a done callback, until the scope has ended or the task has gone elsewhere."""

    async def main() -> None:
        async with quiet(cancel_timeout=0) as scope:
            tasks = [asyncio.create_task(forever()) for _ in range(1_000)]
            await turns()
            assert any(getattr(task, "_callbacks", None) for task in tasks)
            for task in tasks:
                hand_off(task, reason="kept for a look at it")
            assert not any(getattr(task, "_callbacks", None) for task in tasks)
            more = [asyncio.create_task(forever()) for _ in range(1_000)]
        assert len(scope.report.leaks) + scope.report.leaks_omitted == 1_000
        assert not any(getattr(task, "_callbacks", None) for task in (*tasks, *more))
        for task in (*tasks, *more):
            task.cancel()
        await turns()

    run(main)


# --- counts


@pytest.mark.parametrize("count", [0, 1, 127, 128, 129, 255, 256, 257, 1_000])
def test_counts_are_exact_at_the_edges_of_a_sweep(run: Run, count: int) -> None:
    async def main() -> None:
        async with TaskScope(grace=5) as scope:
            for _ in range(count):
                asyncio.create_task(nothing())
            assert scope.snapshot().spawned == count
            await turns()
            assert scope.snapshot().spawned == count
        assert scope.report.spawned == count

    run(main)


def test_what_was_handed_off_or_adopted_is_counted_once_by_each(run: Run) -> None:
    async def main() -> None:
        async with TaskScope("outer", grace=5) as outer:
            async with TaskScope("inner") as inner:
                release = asyncio.Event()
                tasks = [asyncio.create_task(release.wait()) for _ in range(200)]
                for task in tasks:
                    hand_off(task, outer, reason="ends with the outer scope")
                for task in tasks:
                    hand_off(task, outer, reason="again")
            release.set()
        assert inner.report.spawned == 200 and len(inner.report.transferred) == 200
        assert outer.report.spawned == 200 and outer.report.ok

    run(main)


def test_a_closed_scope_that_a_context_names_holds_nothing_that_a_closed_context_had_spawned(run: Run) -> None:
    async def main() -> None:
        async with quiet("outer"):
            kept = contextvars.copy_context()
            async with quiet("inner"):
                inside = contextvars.copy_context()
            task = inside.run(asyncio.create_task, nothing())  # the outer scope answers for it
            await task
        gone = weakref.ref(task)
        del task
        await turns()  # the loop holds what has woken this
        gc.collect()
        assert gone() is None
        assert len(kept) > 0

    run(main)


# --- chains


def generation_chain(scope: TaskScope, name: str) -> tuple[int, int]:
    record = next(record for record in scope.report.leaks if record.name == name)
    return len(record.spawn_chain), record.spawn_chain_omitted


@pytest.mark.parametrize("generations", [1, 2, 15, 16, 17, 18, 32, 33, 34, 50])
def test_spawn_chains_show_sixteen_ancestors_and_count_the_others(run: Run, generations: int) -> None:
    async def dynasty(left: int, all_there: asyncio.Event) -> None:
        if left:
            asyncio.create_task(dynasty(left - 1, all_there), name=f"left-{left - 1}")
        else:
            all_there.set()
        await forever()

    async def main() -> None:
        all_there = asyncio.Event()
        async with quiet() as scope:
            asyncio.create_task(dynasty(generations - 1, all_there), name=f"left-{generations - 1}")
            await all_there.wait()
        for ancestors in range(generations):
            shown = min(CHAIN, ancestors)
            assert generation_chain(scope, f"left-{generations - 1 - ancestors}") == (shown, ancestors - shown)

    run(main)


def row_depth(row: Any) -> int:
    depth = 0
    while row is not None:
        depth, row = depth + 1, row[2]
    return depth


@pytest.mark.parametrize("spawn_site", ["site", "stack", "off"])
def test_a_task_that_always_spawns_its_successor_takes_no_memory(run: Run, spawn_site: str) -> None:
    generations = 4_000

    async def successor(number: int, ended: asyncio.Event, sizes: list[int]) -> None:
        if number == generations:
            ended.set()
            await forever()
        if number in (generations // 10, generations - 1):
            sizes.append(tracemalloc.get_traced_memory()[0])
        await asyncio.sleep(0)
        asyncio.create_task(successor(number + 1, ended, sizes), name=str(number + 1))

    async def main() -> None:
        ended = asyncio.Event()
        sizes: list[int] = []
        async with quiet(spawn_site=spawn_site) as scope:
            asyncio.create_task(successor(1, ended, sizes), name="1")
            await ended.wait()
            assert max(row_depth(row) for row in scope._table.rows.values()) <= 2 * CHAIN + 2
        # a whole stack for each of the tasks held makes the size go up and down with every sweep
        assert sizes[1] - sizes[0] < (500_000 if spawn_site == "stack" else 200_000)
        assert scope.report.spawned == generations
        expected = (0, 0) if spawn_site == "off" else (CHAIN, generations - 1 - CHAIN)
        assert generation_chain(scope, str(generations)) == expected

    tracemalloc.start()
    try:
        run(main)
    finally:
        tracemalloc.stop()


def test_successors_that_callbacks_spawn_have_no_chain_and_are_found(run: Run) -> None:
    def respawn(task: asyncio.Task[None]) -> None:
        if left:
            left.pop()
            asyncio.create_task(nothing(), name="again").add_done_callback(respawn)
        else:
            asyncio.create_task(forever(), name="last")

    left = [None] * 300

    async def main() -> None:
        async with quiet() as scope:
            asyncio.create_task(nothing()).add_done_callback(respawn)
            while scope.snapshot().spawned < 302:
                await asyncio.sleep(0)
        assert [record.name for record in scope.report.leaks] == ["last"]
        assert scope.report.spawned == 302

    run(main)


def test_eighty_thousand_tasks_pass_through_without_a_trace(run_asyncio: Run) -> None:
    """The short form of what the benchmarks measure with five million."""

    async def pass_through(count: int) -> None:
        for _ in range(count // 50):
            tasks: list[Coroutine[Any, Any, None]] = [nothing() for _ in range(50)]
            await asyncio.gather(*tasks)

    async def main() -> None:
        async with TaskScope() as scope:
            await pass_through(20_000)
            before = tracemalloc.get_traced_memory()[0]
            await pass_through(60_000)
            assert tracemalloc.get_traced_memory()[0] - before < 100_000
        assert scope.report.spawned == 80_000

    tracemalloc.start()
    try:
        run_asyncio(main)
    finally:
        tracemalloc.stop()
