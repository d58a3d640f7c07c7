"""The proof of deadlock on Trio: which blocked tasks can nothing ever wake?

There whoever is to wake a task holds the task itself: an event, a lock, the I/O manager, a thread. So the search of
`reachability` is run over tasks that Trio's own books hold as well: those are not counted, nor is a cancel by a nursery
or a cancel scope round all of the tasks. A deadline is counted, and so is any live code that has a nursery or a scope.
"""

from __future__ import annotations

import itertools
import sys
import weakref
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final, final

from taskscope._diagnosis.awaitables import field_of
from taskscope._diagnosis.harmless import stay_stuck
from taskscope._diagnosis.hidden_dicts import DICTS_CAN_BE_SEEN
from taskscope._diagnosis.opaque import class_of
from taskscope._diagnosis.proof import AtRest, Proof
from taskscope._diagnosis.reachability import (
    FEW_TASKS,
    FREE_THREADED,
    NEARBY_LIMIT,
    limit_for,
)
from taskscope._diagnosis.registries import callback_of, callbacks_of
from taskscope._diagnosis.resting import RestingReferences
from taskscope._diagnosis.stack import task_chain
from taskscope._diagnosis.stuck_with import stuck_with
from taskscope._diagnosis.subgraph import Subgraph
from taskscope._diagnosis.trio_tasks import can_go_on, is_ended, is_trio_task
from taskscope._diagnosis.trio_tree import (
    Harmless,
    books_of,
    children_waited_for,
    entered_by,
    entries,
    run_class,
    status_behind,
    waiting_parents_of,
    with_parents,
    without_parent,
    without_parents_of_others,
    without_upward,
)
from taskscope._diagnosis.uncollected import uncollected

_PROXIES: Final[tuple[Any, ...]] = (weakref.ProxyType, weakref.CallableProxyType)

# Beyond these is everything that is alive.
_OF_RUNNER: Final = ("asyncgens", "clock", "deadlines", "entry_queue", "instruments", "io_manager", "ki_manager")


def prove_trio(
    tasks: list[Any],
    bookkeepers: Sequence[object] = (),
    registries: Iterable[Any] = (),
    own_types: tuple[type, ...] = (),
    opener: Any = None,
    frames: Mapping[int, int] | None = None,
    at_rest: AtRest | None = None,
) -> Proof:
    """The tasks of a list that nothing outside of them can wake. All of them are to be of one run of Trio's.

    To be called while none of them runs, as `prove` is, and with the same care: no variable may hold a task.

    tasks: the list is made shorter by those that are not blocked, or are being cancelled.

    bookkeepers, registries, own_types: as for `prove`.
    opener: a task that is alive, and of which it is known that it will do nothing to the nurseries and cancel scopes
        that it is in, but to leave them.
    frames: ids of frames of the tasks, and how many references to each, beside its coroutine's, wake nobody: they were
        there when the body in question began, from tracebacks of what was over by then.
    at_rest: as for `prove`.
    """
    if FREE_THREADED:
        return Proof({}, 0, "reference counts are not exact on this build of Python")
    if not DICTS_CAN_BE_SEEN:
        return Proof({}, 0, "the dicts of objects cannot be seen on this build of Python")
    tasks[:] = [task for task in tasks if _may_be_stuck(task)]
    if not tasks:
        return Proof({}, 0)
    search = partial(_Search, tasks, bookkeepers, list(registries), own_types, opener, frames or {}, at_rest)
    if at_rest is not None:
        return search(NEARBY_LIMIT).proof()
    if len(tasks) <= FEW_TASKS:
        proof = search(NEARBY_LIMIT).proof()
        if len(proof.stuck) == len(tasks):
            return proof
    # What the one search has held is gone by now, or the other would find it known to somebody outside.
    return search(None).proof()


def _may_be_stuck(task: Any) -> bool:
    if not is_trio_task(task) or is_ended(task) or can_go_on(task):
        return False
    status = task._cancel_status
    return status is not None and not status.effectively_cancelled


@final
class _Search:
    def __init__(
        self,
        tasks: list[Any],
        bookkeepers: Sequence[object],
        registries: Iterable[Any],
        own_types: tuple[type, ...],
        opener: Any,
        frames: Mapping[int, int],
        at_rest: AtRest | None,
        widely: int | None,
    ) -> None:
        self._tasks = tasks
        self._frames = frames
        self._last_reached: set[int] = set()
        self._resting = None if at_rest is None else RestingReferences(at_rest)
        self._parents = waiting_parents_of(tasks)
        self._runner = tasks[0]._runner
        generators: Any = getattr(self._runner.asyncgens, "alive", None)
        known: list[Any] = [generators] if class_of(generators) is weakref.WeakSet else []
        self._known = callbacks_of([*known, *registries])
        self._always_cut: set[tuple[int, int]] = set()
        self._cuts: set[tuple[int, int]] = set()
        self._entered, self._entered_by = ([], []) if opener is None else _entered(opener)
        inside = {*map(id, tasks), *map(id, self._parents), *map(id, bookkeepers)}
        beyond = [id(getattr(self._runner, name, None)) for name in _OF_RUNNER]
        beyond += [id(self._runner), *(key for key in map(id, self._runner.tasks) if key not in inside)]
        self.graph = Subgraph(
            [tasks, self._parents, self._entered, books_of(tasks), *bookkeepers],
            [],
            own_types,
            limit_for(len(tasks), widely),
            beyond,
            {id(run_class("Task")): without_upward, id(run_class("CancelStatus")): without_parent},
            widely,
            late=None if self._resting is None else self._resting.held(),
        )

    def proof(self) -> Proof:
        with uncollected():
            reason = self.graph.walk() or self.graph.count()
            if self._resting is not None and reason is None:
                self._resting.discount(self.graph, self._frames)
            stuck = self.stuck() if reason is None else {}
            resting = None
            if self._resting is not None and stuck:
                resting = self._resting.found(self.graph, self._last_reached, stuck)
        return Proof(stuck, len(self.graph.objects), reason, resting=resting)

    def stuck(self) -> dict[int, tuple[int, ...]]:
        self._add_ways_of_tasks([*self._tasks, *self._parents])
        self._cut()
        found = without_parents_of_others(stay_stuck(self._tasks, Harmless, self._left))
        return stuck_with(self.graph, found, lambda task: task, self._places_of_books())

    def _left(self, tasks: list[Any], harmless: Harmless) -> list[Any]:
        reached = self._last_reached = self._reached(tasks, harmless)
        return [task for task in tasks if self.graph.position[id(task)] not in reached]

    def _outside(self, tasks: list[Any], harmless: Harmless) -> list[int]:
        """How many references there are to each object from outside of the graph and of Trio's books."""
        graph = self.graph
        found = list(graph.outside)
        known = entries([*tasks, *self._parents], graph.objects, graph.position, harmless)
        self._cuts = set(self._always_cut)
        for obj, holder in zip(self._entered, self._entered_by, strict=True):
            if status_behind(obj) not in harmless:
                continue
            if holder in graph.position:
                self._cuts.add((graph.position[holder], graph.position[id(obj)]))
            else:
                known[id(obj)] += 1
        for key, number in known.items():
            place = graph.position.get(key, -1)
            if place >= 0:
                found[place] -= number
        if any(number < 0 for number in found):
            raise RuntimeError("more references are known than there are")
        for key, number in self._frames.items():
            place = graph.position.get(key, -1)
            if place >= 0 and found[place] <= number:
                found[place] = 0
        return found

    def _add_ways_of_tasks(self, tasks: Iterable[Any]) -> None:
        """Who has a coroutine that a task is in can resume it, and who has a weak reference has what it refers to."""
        graph = self.graph
        for task in tasks:
            for link in task_chain(task).links:
                self._add_way(link.holder, graph.position[id(task)])
        for place, number in enumerate(graph.weak):
            for reference in weakref.getweakrefs(graph.objects[place]) if number else ():
                self._add_way(reference, place)

    def _add_way(self, start: object, target: int) -> None:
        place = self.graph.position.get(id(start), -1)
        if place >= 0:
            self.graph.ways.setdefault(place, []).append(target)

    def _cut(self) -> None:
        """Cuts the ways from a lock to the task that holds it, and from a cancel scope into one that is shielded."""
        graph = self.graph
        trio = vars(sys.modules["trio"])
        for place, obj in enumerate(graph.objects):
            kind = class_of(obj)
            if kind is trio["Lock"] or kind is trio["StrictFIFOLock"]:
                self._cut_off(place, field_of(obj, "_owner"))
            elif kind is run_class("CancelStatus"):
                children: Any = field_of(obj, "_children")
                for child in children:
                    if child._scope._shield:
                        self._cut_off(graph.position.get(id(children), -1), child)

    def _cut_off(self, place: int, target: object) -> None:
        """Also where it is a dict of attributes by which an object refers to another."""
        graph = self.graph
        end = graph.position.get(id(target), -1)
        if place < 0 or end < 0:
            return
        dicts = [via for via in graph.targets_of(place) if class_of(graph.objects[via]) is dict]
        for start in (place, *dicts):
            if graph.targets_of(start).count(end) == 1:
                self._always_cut.add((start, end))

    def _places_of_books(self) -> set[int]:
        kinds = {id(run_class(name)) for name in ("Nursery", "CancelStatus", "CancelScope", "NurseryManager")}
        return {place for place, obj in enumerate(self.graph.objects) if id(class_of(obj)) in kinds}

    def _reached(self, tasks: list[Any], harmless: Harmless) -> set[int]:
        """The places to which a way leads from anything that is alive: what is held outside, tasks not in a list."""
        graph, outside = self.graph, self._outside(tasks, harmless)
        own = {graph.position[key] for key in graph.bookkeepers if key in graph.position}
        alive = [
            place
            for place, obj in enumerate(graph.objects)
            if place not in own and (outside[place] > 0 or self._is_alive_by_nature(place, obj))
        ]
        stuck = set(map(id, tasks))
        alive += [graph.position[id(task)] for task in self._tasks if id(task) not in stuck]
        reached = set(alive)
        self._spread(alive, reached, own)
        waiting = [task for task in [*tasks, *self._parents] if children_waited_for(task)]
        while True:
            alive = self._parents_that_go_on(waiting, tasks, reached)
            if not alive:
                return reached
            reached.update(alive)
            self._spread(alive, reached, own)

    def _parents_that_go_on(self, waiting: list[Any], tasks: list[Any], reached: set[int]) -> list[int]:
        """The places of those that wait for their children and none of whose children has a stuck one, or is one."""
        position = self.graph.position
        stuck = [task for task in tasks if position[id(task)] not in reached]
        held_up = with_parents(stuck)
        return [
            position[id(task)]
            for task in waiting
            if position[id(task)] not in reached and held_up.isdisjoint(map(id, children_waited_for(task)))
        ]

    def _spread(self, alive: list[int], reached: set[int], own: set[int]) -> None:
        graph = self.graph
        while alive:
            place = alive.pop()
            for target in itertools.chain(graph.targets_of(place), graph.ways.get(place, ())):
                if target in reached or (place, target) in self._cuts:
                    continue
                reached.add(target)
                if target not in own:
                    alive.append(target)

    def _is_alive_by_nature(self, place: int, obj: Any) -> bool:
        kind: type[Any] = class_of(obj)
        if id(kind) in self.graph.opaque:
            return True
        if issubclass(kind, weakref.ref) and (callback_of(obj) is not None or self.graph.targets_of(place)):
            return True
        if any(kind is proxy for proxy in _PROXIES) and self.graph.targets_of(place):
            return True  # it has a callback
        return self.graph.weak[place] > 0 and self._is_known_weakly(place)

    def _is_known_weakly(self, place: int) -> bool:
        """Whether an object is known weakly to anybody but Trio's books of asynchronous generators and this graph."""
        references: list[Any] = weakref.getweakrefs(self.graph.objects[place])
        if len(references) != self.graph.weak[place]:
            return True
        strange = [ref for ref in references if id(ref) not in self.graph.position]
        return any(class_of(ref) is not weakref.ref or id(callback_of(ref)) not in self._known for ref in strange)


def _entered(task: Any) -> tuple[list[object], list[int]]:
    return entered_by(task, [link.holder for link in task_chain(task).links])
