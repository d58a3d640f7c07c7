"""The proof of deadlock, put to the tasks of a scope on Trio."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from taskscope._accusations import Accusation
from taskscope._backends._backend import Backend
from taskscope._clock import perf_counter
from taskscope._closers import closers
from taskscope._diagnosis import signals
from taskscope._diagnosis.alive_on_loop import alive_on_trio
from taskscope._diagnosis.calls_all import NAMES, can_cancel_any
from taskscope._diagnosis.host import frames_as_held, own_coroutines
from taskscope._diagnosis.others import others_have_it
from taskscope._diagnosis.proof import AtRest, Held, Proof, why_it_failed
from taskscope._diagnosis.stack import task_chain
from taskscope._diagnosis.trio_reachability import prove_trio
from taskscope._diagnosis.untraced import untraced
from taskscope._table import AnyTask, TaskTable, weak_books
from taskscope._timed_bodies import REASON, will_be_ended

_NOT_BELIEVED: Final = (
    "somebody who may go on can come to all tasks, or to what pytest has, such as values of fixtures, or sends Ctrl-C"
)

# By these code comes to any nursery there is, and can cancel it, beside those that send Ctrl-C.
_NAMES: Final = NAMES | {"current_root_task", "child_nurseries", "parent_nursery"}


def prove_tasks(table: TaskTable, waited_for: object) -> Proof:
    """As `_proving.prove_tasks`. That the host can cancel a nursery that all of the tasks are in does not count."""
    return _within_budget(table, [waited_for, *own_coroutines(table.host)], table.host)


def prove_while_host_waits(table: TaskTable, waited_for: object) -> Proof:
    """As `_proving.prove_while_host_waits`. Any deadline counts: nurseries end their tasks for others' sake as well."""
    return _within_budget(table, [waited_for, table.host, *(link.holder for link in _links(table))], None)


def prove_with_host(table: TaskTable, held: Held) -> Proof:
    if will_be_ended(table.backend.running_tracking().timed_bodies, (), table):
        return Proof({}, 0, REASON)
    backend, frames = table.backend, frames_as_held(table.host, held)
    tasks = [task for task in (*table.pending(), table.host) if task is not None and backend.where_it_waits(task)]
    proof = _prove(backend, tasks, (), None, frames, table)
    if id(table.host) in proof.stuck or table.at_rest is None:
        return proof
    # Others may be stuck with them: pytest-trio has each fixture in a task of its own, which waits for the test.
    tasks[:] = [task for task in backend.all_tasks() if backend.where_it_waits(task)]
    proof = _prove(backend, tasks, (), None, frames, table, table.at_rest)
    if id(table.host) not in proof.stuck:
        return proof
    # Another thread can have come to something after it was counted, and be gone when it was asked who has it.
    return _prove(backend, tasks, (), None, frames, table, table.at_rest)


def prove_all(backend: Backend) -> tuple[Proof, list[AnyTask], int]:
    """As `_proving.prove_all`, of the running Trio. What was found before needs no keeper: its nursery has it."""
    tasks = list(backend.all_tasks())
    looked_at = len(tasks)
    tasks[:] = [task for task in tasks if backend.where_it_waits(task)]
    proof = _prove(backend, tasks, (), None)
    return proof, [task for task in backend.all_tasks() if id(task) in proof.stuck], looked_at


def _links(table: TaskTable) -> Iterable[Any]:
    return () if table.host is None else task_chain(table.host).links


def _within_budget(table: TaskTable, bookkeepers: Iterable[object], opener: Any) -> Proof:
    budget = table.backend.running_tracking().budget
    if not budget.has_any_left:
        return Proof({}, 0, "the scopes of this loop have used up the time for proofs")
    started = perf_counter()
    tasks = [task for task in table.pending() if table.backend.where_it_waits(task)]
    proof = _prove(table.backend, tasks, bookkeepers, opener)
    budget.spend(perf_counter() - started)
    return proof


def _prove(
    backend: Backend,
    tasks: list[Any],
    bookkeepers: Iterable[object],
    opener: Any,
    frames: Mapping[int, int] | None = None,
    table: TaskTable | None = None,
    find_at_rest: Callable[[], AtRest] | None = None,
) -> Proof:
    """A proof is a gift, and no reason to fail where none can be had.

    table: that of the scope whose host is among the tasks, None where none is.
    """
    tracking: Any = backend.running_tracking()
    try:
        with untraced():
            registries = [tracking._moved, closers, *weak_books()]
            at_rest = None if find_at_rest is None else find_at_rest()
            proof = prove_trio(tasks, list(bookkeepers), registries, _own_types(), opener, frames, at_rest)
            if will_be_ended(tracking.timed_bodies, proof.stuck, table):
                return Proof({}, proof.visited, REASON)
            return proof if table is None else _believed(proof, backend, at_rest)
    except Exception as error:
        return Proof({}, 0, why_it_failed(error))


def _believed(proof: Proof, backend: Backend, at_rest: AtRest | None) -> Proof:
    """A proof about a body, unless somebody who may go on can end it without holding it, or those at rest have it."""
    if not proof.stuck:
        return proof
    running: Any = backend.current_task()
    alive = alive_on_trio(running._runner, iter(backend.all_tasks()), {id(running), *proof.stuck})
    if at_rest is None or proof.resting is None:
        is_void = can_cancel_any(alive, _NAMES)
    else:
        is_void = can_cancel_any(alive, _NAMES | at_rest.names, at_rest.kinds) or others_have_it(at_rest, proof.resting)
    return Proof({}, proof.visited, _NOT_BELIEVED) if is_void or signals.can_come() else proof


def _own_types() -> tuple[type, ...]:
    """Classes of ours whose instances hold tasks only to look at them or to cancel them."""
    from taskscope._backends._trio import BodyCancel, Timer
    from taskscope._backends._trio_clock import Outcomes
    from taskscope._body import BodyEnd
    from taskscope._closing import Closing
    from taskscope._watch import BodyWatch

    return TaskTable, BodyEnd, BodyCancel, BodyWatch, Closing, Accusation, Outcomes, Timer
