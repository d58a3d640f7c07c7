"""The proof of deadlock: which blocked tasks can nothing ever wake?

A garbage collector in miniature, after Go's `goroutineleak` profile, run over what is reachable from the blocked tasks.
If no reference comes into that subgraph from outside (an object's reference count, minus the references from inside)
on a way that leads to a task, then no code that can still run has a way to wake it, nor to cancel it.

Whatever is uncertain counts as a reference from outside. A false proof would be the worst thing that this package can
do; a proof that is missed costs a word in a report.
"""

from __future__ import annotations

import itertools
import sys
import weakref
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from functools import partial
from types import CellType
from typing import Any, Final

from taskscope._diagnosis.anyio_scopes import attribute, is_about_to_be_cancelled, scopes_round
from taskscope._diagnosis.awaitables import is_done, is_task
from taskscope._diagnosis.harmless import stay_stuck
from taskscope._diagnosis.hidden_dicts import DICTS_CAN_BE_SEEN
from taskscope._diagnosis.host import code_of_host
from taskscope._diagnosis.opaque import class_of, module_of
from taskscope._diagnosis.outer_groups import Harmless, OuterGroups
from taskscope._diagnosis.proof import NOT_HELD, AtRest, Held, Proof
from taskscope._diagnosis.registries import (
    callback_of,
    callbacks_of,
    count_strange_references,
    has_strange_references,
    registries_of_anyio,
    registries_of_asyncio,
)
from taskscope._diagnosis.resting import RestingReferences
from taskscope._diagnosis.stuck_with import stuck_with
from taskscope._diagnosis.subgraph import GENERATORS, Subgraph
from taskscope._diagnosis.uncollected import uncollected

VISITED_LIMIT: Final = 20_000
"""Objects that are looked at beyond the tasks' own. With more, nothing is proven."""

NEARBY_LIMIT: Final = 1_000
"""The same where only what is nearby is looked at, and again for what that leads to."""

FEW_TASKS: Final = 100
"""With more of them what is nearby is not looked at first: all of it takes not much longer."""

OWN_OBJECTS: Final = 30
"""How many objects a task may have as its own."""

# What a task is held by when another one awaits it: that one's code, the list of a `gather`, the set of a task group.
_HOLDERS: Final = GENERATORS | {id(list), id(set)}

# What a coroutine is held by when somebody runs or awaits it. Not its frame, for who has that has the variables, and no
# dict: it can be that of the task, on the way to its code.
_HOLDERS_OF_CODE: Final = GENERATORS | {id(list), id(set), id(tuple), id(CellType)}

# Classes of AnyIO's: its pytest plugin keeps the task in which it runs tests, and its threads that of the program, by
# which they are told of its end.
_HOLDERS_BY_NAME: Final = frozenset(
    {("anyio._backends._asyncio", "TestRunner"), ("anyio._backends._asyncio", "WorkerThread")}
)

_mro: Final[Callable[[type], tuple[type, ...]]] = type.__dict__["__mro__"].__get__
_name: Final[Callable[[type], str]] = type.__dict__["__name__"].__get__

# Not by sysconfig: it asks the disk when it is imported, and this is imported on a loop that must not be blocked.
FREE_THREADED: Final = "free-threading build" in sys.version


def prove(
    tasks: list[Any],
    bookkeepers: Sequence[object] = (),
    registries: Iterable[Any] = (),
    own_types: tuple[type, ...] = (),
    host: int | None = None,
    held: Held | None = None,
    opener: Any = None,
    later: Mapping[int, int] | None = None,
    widely: int | None = None,
    at_rest: AtRest | None = None,
) -> Proof:
    """The tasks of a list that nothing outside of them can wake.

    To be called while none of the tasks runs. The caller must hold the tasks in no other places than `tasks` and the
    bookkeepers: a variable of its own would count as somebody who can wake them.

    tasks: blocked tasks.
    bookkeepers: objects that hold tasks, or what tasks wait for, and will not use them to wake anything: our own
        tables, say. They are looked through, but nothing is alive because of them.
    registries: weak sets and weak-keyed dicts that are bookkeepers in the same sense.
    own_types: whatever is of these types is a bookkeeper, with the lists, dicts and sets that are its attributes.
    host: id of one of the tasks, which whoever runs it holds, and so do tasks that await it. They may cancel it, but do
        not wake it.
    held: how the host was held when it began what it is stuck in. With more references now somebody else has come to
        hold it, who might do anything.
    opener: a task that is alive, unless it is a bookkeeper, and of which it is known that it will do nothing to the
        groups and cancel scopes that it is in, but to leave them.
    later: ids of timers, and how many references to each wake nobody for as long as the proof is to hold. None: it is
        to hold for good.
    widely: how many objects are looked at whatever they are. Beyond them it is only what tasks and timers are made of,
        which takes a fraction of the time and proves less. With a host that is not enough: what holds it can be beyond.
        None: few at first, if there is no host, and all where these do not show that all tasks are stuck. What tasks
        and their opener hold can lead to all of the program.
    at_rest: what holds objects that tasks wait for, and does nothing before the host has ended. Only with a host. That
        nobody who is alive comes to it otherwise is not looked at here.
    """
    if FREE_THREADED:
        return Proof({}, 0, "reference counts are not exact on this build of Python")
    if not DICTS_CAN_BE_SEEN:
        return Proof({}, 0, "the dicts of objects cannot be seen on this build of Python")
    search = partial(_Search, tasks, bookkeepers, list(registries), own_types, host, held, opener, at_rest)
    # Of a host some references from outside are forgiven, so what holds it has to be known: here, or by `strangers`.
    if widely is None and host is None and len(tasks) <= FEW_TASKS:
        proof = search(NEARBY_LIMIT).proof(later)
        if len(proof.stuck) == len(tasks):
            return proof
    # What the one search has held is gone by now, or the other would find it known to somebody outside.
    return search(widely).proof(later)


def limit_for(number: int, widely: int | None) -> int:
    """How many objects are looked at for so many tasks."""
    return (VISITED_LIMIT if widely is None else widely + NEARBY_LIMIT) + OWN_OBJECTS * number


class _Search:
    def __init__(
        self,
        tasks: list[Any],
        bookkeepers: Sequence[object],
        registries: Iterable[Any],
        own_types: tuple[type, ...],
        host: int | None,
        held: Held | None,
        opener: Any,
        at_rest: AtRest | None,
        widely: int | None,
    ) -> None:
        self._tasks = tasks
        self._opener = 0 if opener is None else id(opener)
        self._outer = OuterGroups(tasks, opener)
        self._books: list[tuple[int, int, int]] = []
        self._host = host
        self._held = held or NOT_HELD
        self._coroutines, self._frames, self._awaiting = code_of_host(tasks, host, self._held)
        self._host_ids = set(self._coroutines)
        if host is not None and self._coroutines:
            self._host_ids.add(host)
        self._known = callbacks_of((*registries_of_asyncio(), *registries_of_anyio(), *registries))
        limit = limit_for(len(tasks), widely)
        self._last_reached: set[int] = set()
        self._resting = None if at_rest is None else RestingReferences(at_rest)
        late = None if self._resting is None else self._resting.held()
        self.graph = Subgraph([tasks, self._outer.holders], [*bookkeepers], own_types, limit, widely=widely, late=late)

    def proof(self, later: Mapping[int, int] | None) -> Proof:
        with uncollected():
            reason = self.graph.walk() or self.graph.count()
            if self._resting is not None and reason is None:
                by_host = {*self._host_ids, *self._frames, *self._awaiting}
                self._resting.discount(self.graph, by_host)
            stuck = self.stuck() if reason is None else {}
            if later and reason is None:
                stuck = {**self.stuck_for_now(later), **stuck}
            timed = self.timed(later) if later and reason is None else frozenset[int]()
            resting = None
            if self._resting is not None and stuck:
                resting = self._resting.found(self.graph, self._last_reached, stuck)
        return Proof(stuck, len(self.graph.objects), reason, timed, resting)

    def stuck(self) -> dict[int, tuple[int, ...]]:
        if not self._outer.units:
            return stuck_with(self.graph, self._left(self._tasks))
        self._books = list(self._outer.references(self.graph))
        found = stay_stuck(self._tasks, partial(Harmless, self._outer), self._left)
        places = {self.graph.position.get(unit, -1) for unit in self._outer.units}
        return stuck_with(self.graph, found, passed=places)

    def stuck_for_now(self, later: Mapping[int, int]) -> dict[int, tuple[int, ...]]:
        """Those that are stuck as long as these timers do not fire. To be asked after `stuck`.

        No group counts for nothing here: to be cancelled together, because another task fails, is an end as well.
        """
        self.graph.discount(later)
        return stuck_with(self.graph, self._left(self._tasks))

    def timed(self, later: Mapping[int, int]) -> frozenset[int]:
        """The ids of the tasks to which a way leads from one of these timers."""
        position = self.graph.position
        ways = [place for place in (position.get(key, -1) for key in later) if place >= 0]
        own = {position[key] for key in self.graph.bookkeepers if key in position}
        reached = set(ways)
        while ways:
            new = set(self.graph.targets_of(ways.pop())) - reached - own
            reached |= new
            ways += new
        return frozenset(id(task) for task in self._tasks if position[id(task)] in reached)

    def _left(self, tasks: list[Any], harmless: Container[int] = ()) -> list[Any]:
        """The tasks that nothing can wake, given which groups and cancel scopes round them count for nothing."""
        reached = self._last_reached = self._reached(tasks, harmless)
        return [task for task in tasks if self.graph.position[id(task)] not in reached]

    def _living_tasks(self, stuck: list[Any]) -> list[int]:
        """The places of tasks that are alive, if some are stuck.

        A task that is known only to its group is reached by nobody, but it goes on, or will when it is cancelled.
        """
        ids = {*map(id, stuck), *self.graph.bookkeepers}
        if not self._outer.units:
            return [
                self.graph.position[key] for key in (self._opener,) if key not in ids and key in self.graph.position
            ]
        tasks = [obj for obj in self.graph.objects if is_task(obj) and id(obj) not in ids]
        return [self.graph.position[id(task)] for task in tasks if not is_done(task)]

    def _reached(self, tasks: list[Any], harmless: Container[int]) -> set[int]:
        """The places to which a way leads from anything that is alive."""
        graph, position = self.graph, self.graph.position
        own = {position[key] for key in graph.bookkeepers if key in position}
        if not self._is_host_held_as_before():
            self._host_ids.clear()
        host = {position[key] for key in self._host_ids if key in position}
        quiet = own | host | self._frames_held_as_before()
        into_host = self._way_into_host() if host else None
        outside, weak, doubtful = graph.outside, graph.weak, graph.opaque | graph.weak_kinds
        alive = [
            place
            for place, obj in enumerate(graph.objects)
            if (outside[place] > 0 or weak[place] or id(class_of(obj)) in doubtful)
            and place not in quiet
            and self._is_alive(place, obj)
        ]
        alive += self._living_tasks(tasks)
        cut = {(start, end) for start, end, unit in self._books if unit in harmless}
        if into_host is not None:
            cut.add(into_host)
        reached = set(alive)
        holders = outside[position[self._host]] if self._host in self._host_ids else 0
        forgiven = self._references_of_runner()
        while True:
            if not alive and holders > forgiven:
                alive += host - reached  # somebody has come to hold it who might do anything
                reached |= host
            if not alive:
                return reached
            place = alive.pop()
            for target in itertools.chain(graph.targets_of(place), graph.ways.get(place, ())):
                if target in reached or (place, target) in cut:
                    continue
                if target in host and self._only_holds(graph.objects[place], target):
                    is_holder = target == position[self._host or 0]
                    holders += is_holder and id(graph.objects[place]) not in self._awaiting
                    continue
                reached.add(target)
                if target not in own:
                    alive.append(target)

    def _is_host_held_as_before(self) -> bool:
        """Whether nobody has come to hold a host weakly since, or its coroutines in a way that can be told.

        Where a cancel scope of AnyIO's round it has a deadline it is held by the clock.
        """
        graph, position = self.graph, self.graph.position
        coroutines = [position[key] for key in self._coroutines if key in position]
        if not coroutines:
            return False
        if graph.outside[coroutines[0]] + self._by_resting(coroutines[0]) > self._held.coroutine_references:
            return False
        if is_about_to_be_cancelled(graph.objects[position[self._host or 0]]):
            return False
        if any(self._is_known_weakly(place) for place in coroutines):
            return False
        number = count_strange_references(graph.objects[position[self._host or 0]], self._known, graph.position)
        return number is not None and number <= self._held.weak_references

    def _references_of_runner(self) -> int:
        """How many references to a host from outside were there when its body began.

        Its own variables counted as well then. By now they are known to be its own, and leave room for nobody else.
        """
        position = self.graph.position
        host = position.get(self._host or 0, -1)
        begun = self._coroutines[: len(self._held.frames) - self._held.given]
        coroutines = [position[key] for key in begun if key in position]
        own = sum(self.graph.targets_of(place).count(host) for place in coroutines)
        return self._held.references - own - self._by_resting(host)

    def _by_resting(self, place: int) -> int:
        """How many references to an object those at rest have. They had them from outside when the body began."""
        if self._resting is None:
            return 0
        graph = self.graph
        return sum(graph.targets_of(late).count(place) for late in range(graph.late, len(graph.objects)))

    def _frames_held_as_before(self) -> set[int]:
        places = [self.graph.position.get(frame) for frame in self._frames]
        found = zip(places, self._held.frames, strict=False)
        return {
            place
            for place, number in found
            if place is not None and self.graph.outside[place] + self._by_resting(place) <= number
        }

    def _way_into_host(self) -> tuple[int, int] | None:
        """The way from the cancel scope of AnyIO's that another task has put round a host to the host's own ones.

        Who comes that way can cancel the host, together with all that is in its scopes, and wakes nobody.
        """
        graph, position = self.graph, self.graph.position
        host = graph.objects[position[self._host or 0]]
        own: object | None = None
        for scope in scopes_round(host):
            if attribute(scope, "_host_task") is host:
                own = scope
                continue
            children = position.get(id(attribute(scope, "_child_scopes")))
            if own is None or id(own) not in position or children is None or graph.outside[children] > 0:
                return None
            return children, position[id(own)]
        return None

    def _only_holds(self, obj: Any, target: int) -> bool:
        """Whether an object is of those that hold a host because they run it or await it, and do nothing else to it."""
        if id(obj) in self._host_ids:
            return False  # the host itself, on the way to its code
        kind: type[Any] = class_of(obj)
        if target != self.graph.position[self._host or 0]:
            return id(kind) in _HOLDERS_OF_CODE
        if id(obj) in self._awaiting or id(kind) in _HOLDERS:
            return True
        return (module_of(kind), _name(kind)) in _HOLDERS_BY_NAME

    def _is_alive(self, place: int, obj: object) -> bool:
        return self.graph.outside[place] > 0 or self._is_alive_by_nature(place, obj)

    def _is_alive_by_nature(self, place: int, obj: Any) -> bool:
        if issubclass(class_of(obj), weakref.ref) and (callback_of(obj) is not None or self.graph.targets_of(place)):
            return True  # whoever ends the referent runs the callback, unless that is past and only its trace was seen
        if id(class_of(obj)) in self.graph.opaque:
            return True
        return self._is_known_weakly(place)

    def _is_known_weakly(self, place: int) -> bool:
        number = self.graph.weak[place]
        return number > 0 and has_strange_references(
            self.graph.objects[place], number, self._known, self.graph.position
        )
