"""The proof of deadlock, put to the tasks of a scope: who holds them for our sake, and who for the host's."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from taskscope import _proving_on_trio
from taskscope._accusations import Accusation
from taskscope._backends import _asyncio as backend
from taskscope._backends._ownership import running_loop
from taskscope._clock import perf_counter
from taskscope._closers import closers
from taskscope._diagnosis import signals
from taskscope._diagnosis.alive_on_loop import alive_on
from taskscope._diagnosis.asleep import is_asleep_for
from taskscope._diagnosis.calls_all import BY_TIMERS, ENDING_THE_RUN, NAMES, can_cancel_any
from taskscope._diagnosis.code_ahead import Names
from taskscope._diagnosis.host import own_coroutines
from taskscope._diagnosis.later import timers_later
from taskscope._diagnosis.others import others_have_it
from taskscope._diagnosis.proof import AtRest, Held, Proof, why_it_failed
from taskscope._diagnosis.reachability import NEARBY_LIMIT, prove
from taskscope._diagnosis.registries import callbacks_of, registries_of_anyio, registries_of_asyncio
from taskscope._diagnosis.stack import task_chain
from taskscope._diagnosis.strangers import why_it_can_be_ended
from taskscope._diagnosis.untraced import untraced
from taskscope._table import AnyTask, TaskTable, weak_books
from taskscope._timed_bodies import REASON, will_be_ended

_NOT_BELIEVED: Final = (
    "somebody who may go on names asyncio.all_tasks, or what ends the run of the loop: any task can be ended by that"
)


def prove_tasks(table: TaskTable, waited_for: object) -> Proof:
    """Which pending tasks of a scope nothing can ever wake, not even its host once it goes on.

    To be called from a callback of the loop, while the host is suspended.

    waited_for: the future by which the caller has suspended the host.
    """
    if table.backend.name != backend.name:
        return _proving_on_trio.prove_tasks(table, waited_for)
    tasks = [task for task in table.pending() if backend.where_it_waits(task)]
    return _within_budget(tasks, [waited_for, *own_coroutines(table.host)], table.host)


def prove_while_host_waits(table: TaskTable, waited_for: object, seconds: float) -> Proof:
    """The same, for as long as the host is suspended: what only the host could do once it goes on wakes nobody.

    seconds: for how long that may be. What a timer does later wakes nobody either. Infinite: any timer counts.
    """
    if table.backend.name != backend.name:
        return _proving_on_trio.prove_while_host_waits(table, waited_for)
    tasks = [task for task in table.pending() if backend.where_it_waits(task)]
    later = timers_later(running_loop(), seconds)
    return _within_budget(tasks, [waited_for, table.host, *_coroutines(table.host)], table.host, later)


def can_nothing_happen(table: TaskTable, seconds: float) -> bool:
    """Whether the loop sleeps for so many seconds, in which nobody can end a task. Infinite: it is not asked.

    To be called from a callback of the loop, while the host is suspended.
    """
    if table.backend.name != backend.name or seconds == math.inf:
        return False
    try:
        return is_asleep_for(running_loop(), seconds)
    except Exception:
        return False


def prove_with_host(table: TaskTable, held: Held) -> Proof:
    """Which pending tasks of a scope, and its host in the middle of its body, nothing can ever wake.

    held: what `host_as_held` has said when the body began.
    """
    if table.backend.name != backend.name:
        return _proving_on_trio.prove_with_host(table, held)
    if will_be_ended(backend.running_tracking().timed_bodies, (), table):
        return Proof({}, 0, REASON)
    tasks = [task for task in (*table.pending(), table.host) if task is not None and backend.where_it_waits(task)]
    proof = _prove(tasks, (), table, held, widely=NEARBY_LIMIT)
    if id(table.host) not in proof.stuck:
        proof = _prove(tasks, (), table, held)
    if id(table.host) not in proof.stuck and table.at_rest is not None:
        # Others may be stuck with them, as the tasks of a fixture that the body waits for.
        tasks[:] = [task for task in backend.all_tasks() if backend.where_it_waits(task)]
        proof = _prove(tasks, (), table, held, widely=NEARBY_LIMIT, find_at_rest=table.at_rest)
        if id(table.host) in proof.stuck:
            # Another thread can have come to something after it was counted, and be gone when it was asked who has it.
            proof = _prove(tasks, (), table, held, widely=NEARBY_LIMIT, find_at_rest=table.at_rest)
    if id(table.host) not in proof.stuck:
        return proof
    try:
        known = callbacks_of((*registries_of_asyncio(), *registries_of_anyio(), *_registries()))
        reason = why_it_can_be_ended(table.host, tasks, proof.stuck, backend.all_tasks(), known)
    except Exception as error:
        reason = why_it_failed(error)
    return proof if reason is None else Proof({}, proof.visited, reason)


def prove_all(keepers: Iterable[object]) -> tuple[Proof, list[AnyTask], int]:
    """Which tasks of the running loop nothing can ever wake, those tasks, and how many tasks there are.

    keepers: what holds tasks that were found before.
    """
    tasks = list(backend.all_tasks())
    looked_at = len(tasks)
    tasks[:] = [task for task in tasks if backend.where_it_waits(task)]
    proof = _prove(tasks, keepers)
    return proof, [task for task in tasks if id(task) in proof.stuck], looked_at


def _within_budget(
    tasks: list[Any],
    bookkeepers: Iterable[object],
    host: AnyTask | None,
    later: Mapping[int, int] | None = None,
) -> Proof:
    budget = backend.running_tracking().budget
    if not budget.has_any_left:
        return Proof({}, 0, "the scopes of this loop have used up the time for proofs")
    started = perf_counter()
    proof = _prove(tasks, bookkeepers, opener=host, later=later)
    budget.spend(perf_counter() - started)
    return proof


def _prove(
    tasks: list[Any],
    bookkeepers: Iterable[object],
    table: TaskTable | None = None,
    held: Held | None = None,
    opener: AnyTask | None = None,
    later: Mapping[int, int] | None = None,
    widely: int | None = None,
    find_at_rest: Callable[[], AtRest] | None = None,
) -> Proof:
    """A proof is a gift, and no reason to fail where none can be had.

    table: that of the scope whose host is among the tasks, None where none is.
    """
    host = None if table is None else id(table.host)
    try:
        with untraced():
            registries, own_types = _registries(), _own_types()
            at_rest = None if find_at_rest is None else find_at_rest()
            proof = prove(
                tasks, list(bookkeepers), registries, own_types, host, held, opener, later, widely, at_rest=at_rest
            )
            if will_be_ended(backend.running_tracking().timed_bodies, proof.stuck, table):
                return Proof({}, proof.visited, REASON)
            names = BY_TIMERS if later else NAMES
            if table is None:
                return _believed(proof, opener, names, at_rest)
            if proof.stuck and signals.can_come():
                return Proof({}, proof.visited, _NOT_BELIEVED)
            return _believed(proof, opener, names | ENDING_THE_RUN, at_rest)
    except Exception as error:
        return Proof({}, 0, why_it_failed(error))


def _registries() -> list[Any]:
    return [backend.running_tracking().ownership.aside, closers, *weak_books()]


def _believed(proof: Proof, opener: AnyTask | None, names: Names, at_rest: AtRest | None) -> Proof:
    """A proof, unless it is void for somebody who may go on and need not hold a task to cancel it.

    The search knows nothing of that: asyncio has its tasks in a weak set, which is nobody who could wake them. This
    comes after it, for what is looked at here is held meanwhile.

    A scope's own host does not count: before it goes on the scope has ended the tasks. Nor does a task that asks which
    ones are stuck: it may well end them for that.
    """
    if not proof.stuck:
        return proof
    still = {id(opener), id(backend.current_task()), *proof.stuck}
    alive = alive_on(running_loop(), iter(backend.all_tasks()), still)
    if at_rest is None or proof.resting is None:
        is_void = can_cancel_any(alive, names)
    else:
        is_void = can_cancel_any(alive, names | at_rest.names, at_rest.kinds) or others_have_it(at_rest, proof.resting)
    return Proof({}, proof.visited, _NOT_BELIEVED) if is_void else proof


def _own_types() -> tuple[type, ...]:
    """Classes of ours whose instances hold tasks only to look at them or to cancel them."""
    from taskscope._body import BodyEnd
    from taskscope._closing import Closing
    from taskscope._watch import BodyWatch

    return TaskTable, BodyEnd, backend.BodyCancel, BodyWatch, Closing, Accusation


def _coroutines(host: AnyTask | None) -> list[object]:
    return [] if host is None else [link.holder for link in task_chain(host).links]
