"""The proof of deadlock: which blocked tasks can nothing ever wake?

A garbage collector in miniature, after Go's `goroutineleak` profile, run over what is reachable from the blocked tasks.
If no reference comes into that subgraph from outside (an object's reference count, minus the references from inside)
on a way that leads to a task, then no code that can still run has a way to wake it, nor to cancel it.

Whatever is uncertain counts as a reference from outside. A false proof would be the worst thing that this package can
do; a proof that is missed costs a word in a report.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import operator
import sys
import sysconfig
import types
import weakref
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NamedTuple, cast

from taskscope._diagnosis.awaitables import fields, waiter_of
from taskscope._diagnosis.awaiting import code_that_awaits
from taskscope._diagnosis.hidden_dicts import (
    DICTS_ARE_HIDDEN,
    DICTS_CAN_BE_SEEN,
    address_of_dict,
    dict_of,
    may_hide_dict,
)
from taskscope._diagnosis.opaque import is_transparent, module_of
from taskscope._diagnosis.own_attributes import has_own_attributes
from taskscope._diagnosis.stack import task_chain

VISITED_LIMIT: Final = 20_000
"""Objects that are looked at beyond the tasks' own. With more, nothing is proven."""

OWN_OBJECTS: Final = 30
"""How many objects a task may have as its own."""

# What a task is held by when another one awaits it: that one's code, the list of a `gather`, the set of a task group.
_HOLDERS: Final = frozenset(map(id, (types.CoroutineType, types.GeneratorType, types.AsyncGeneratorType, list, set)))

# The class of AnyIO's pytest plugin that keeps the task in which it runs tests.
_HOLDERS_BY_NAME: Final = frozenset({("anyio._backends._asyncio", "TestRunner")})

# Classes are known by their ids: a metaclass can have an `__eq__` and a `__hash__` of its own.
_CONTAINERS: Final = frozenset(map(id, (dict, list, set)))

_NAMED: Final = 16
_LOOKED_BACK: Final = 1_000

# Never walked through: alive by nature, or on the way to the whole heap.
_ALIVE: Final = (types.ModuleType, type, types.CodeType, asyncio.AbstractEventLoop)

# They refer to nothing, and are shared by all of Python.
_ATOMS: Final = frozenset(map(id, (types.NoneType, bool, int, float, complex, str, bytes)))

# Since 3.14 the stack of a generator suspended at a `yield` can hold borrowed references, visited but not counted.
_BORROWS: Final = sys.version_info >= (3, 14)
_GENERATORS: Final = frozenset(map(id, (types.CoroutineType, types.GeneratorType, types.AsyncGeneratorType)))

# They refer to nothing and are met all the time.
_SHARED: Final = (None, True, False, ())

# The place of what is not walked through.
_NOWHERE: Final = -1

_DICT: Final = id(dict)
_FRAME: Final = id(types.FrameType)

# Stands between the referents of one object and those of the next.
_MARK: Final = (object(),)

_mro: Final[Callable[[type], tuple[type, ...]]] = type.__dict__["__mro__"].__get__
_name: Final[Callable[[type], str]] = type.__dict__["__name__"].__get__

_class_of: Final = cast("Callable[[object], type[Any]]", type)
_callback: Final[Callable[[object], object]] = weakref.ref.__dict__["__callback__"].__get__
_globals: Final[Callable[[object], object]] = vars(types.ModuleType)["__dict__"].__get__

_length = cast("Callable[[object], int]", len)

_FREE_THREADED: Final = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


class Held(NamedTuple):
    """How a host is held by whoever runs it.

    Attributes:
        references: References to it beside its own and those of tasks that await it.
        coroutines: How many coroutines deep it was: they may be held, too.
    """

    references: int
    coroutines: int


NOT_HELD: Final = Held(0, 0)


@dataclass(frozen=True, slots=True)
class Proof:
    """What the search found.

    Attributes:
        stuck: The tasks that nothing can wake, by their id, each with the ids of the stuck tasks that could if
            they ran: those from which a way leads to what it waits for.
        visited: How many objects were looked at.
        reason: Why nothing could be proven at all, None where the search came to its end.
    """

    stuck: dict[int, tuple[int, ...]]
    visited: int
    reason: str | None = None


def prove(
    tasks: list[Any],
    bookkeepers: Sequence[object] = (),
    registries: Iterable[Any] = (),
    own_types: tuple[type, ...] = (),
    host: int | None = None,
    held: Held | None = None,
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
    """
    if _FREE_THREADED:
        return Proof({}, 0, "reference counts are not exact on this build of Python")
    if not DICTS_CAN_BE_SEEN:
        return Proof({}, 0, "the dicts of objects cannot be seen on this build of Python")
    search = _Search(tasks, bookkeepers, registries, own_types, host, held)
    collecting = gc.isenabled()
    gc.disable()  # or a finalizer could change what is being looked at
    try:
        reason = search.walk() or search.count()
        stuck = search.stuck() if reason is None else {}
    finally:
        if collecting:
            gc.enable()
    return Proof(stuck, search.visited, reason)


class _Search:
    def __init__(
        self,
        tasks: list[Any],
        bookkeepers: Sequence[object],
        registries: Iterable[Any],
        own_types: tuple[type, ...],
        host: int | None,
        held: Held | None,
    ) -> None:
        self._tasks = tasks
        self._bookkeepers = {id(tasks), *map(id, bookkeepers)}
        self._own_types = frozenset(map(id, own_types))
        self._host = host
        self._held = held or NOT_HELD
        self._host_ids, self._awaiting = _ids_of_host(tasks, host, self._held)
        self._seeds: list[object] = [tasks, *bookkeepers]
        self._harmless = {id(registry._remove) for registry in (*_registries_of_asyncio(), *registries)}
        self._limit = VISITED_LIMIT + OWN_OBJECTS * len(tasks)
        self._position: dict[int, int] = {}
        self._objects: list[object] = []
        self._targets: list[int] = []
        self._ends: list[int] = []
        self._trail: list[int] = []
        self._walked: set[int] = set()
        self._passed = set(_ATOMS)
        self._opaque: set[int] = set()
        self._weak_kinds: set[int] = set()
        self._special = {_DICT, _FRAME, *self._own_types, *(_GENERATORS if _BORROWS else ())}
        self._dicts: dict[int, int] = {}
        self._frames: set[int] = set()
        self._bare_dicts: list[int] = []
        self._outside: list[int] = []
        self._weak: list[int] = []
        self._ways: dict[int, list[int]] = {}

    @property
    def visited(self) -> int:
        return len(self._objects)

    def walk(self) -> str | None:
        """Collects what is reachable and who refers to whom. Returns why that failed, None where it did not."""
        modules = [module for module in list(sys.modules.values()) if _is_module(module)]
        position, objects, targets, ends, trail = self._position, self._objects, self._targets, self._ends, self._trail
        position.update(dict.fromkeys(map(id, map(_globals, modules)), _NOWHERE))
        position.update(dict.fromkeys(map(id, _SHARED), _NOWHERE))
        for seed in self._seeds:
            if id(seed) not in position and self._walks_through(type(seed)):
                position[id(seed)] = len(objects)
                objects.append(seed)
        self._seeds.clear()
        seed = None
        place_of, walked, passed, special, mark = position.get, self._walked, self._passed, self._special, id(_MARK[0])
        at = 0
        while at < len(objects):
            refs = gc.get_referents(objects[at])
            if len(objects) + len(refs) > self._limit and not self._keeps_books(objects[at]):
                return f"more than {self._limit:,} objects are reachable from the tasks"
            keys = list(map(id, refs))
            trail += keys
            trail.append(mark)
            if id(_class_of(objects[at])) in special:
                refs = self._look_closer(at, refs)
                keys = list(map(id, refs))
            for ref, key, place in zip(refs, keys, map(place_of, keys)):  # noqa: B905 - it would cost a fifth of the time
                if place is None:
                    kind = id(_class_of(ref))
                    if kind in passed or (kind not in walked and not self._walks_through(_class_of(ref))):
                        continue
                    place = position[key] = len(objects)
                    objects.append(ref)
                elif place == _NOWHERE:
                    continue
                targets.append(place)
            ends.append(len(targets))
            at += 1
        return None

    def _keeps_books(self, obj: object) -> bool:
        return id(obj) in self._bookkeepers or id(_class_of(obj)) in self._own_types

    def _targets_of(self, place: int) -> list[int]:
        return self._targets[self._ends[place - 1] if place else 0 : self._ends[place]]

    def _walks_through(self, kind: type[Any]) -> bool:
        """Whether objects of a class that is met for the first time are walked through."""
        if issubclass(kind, _ALIVE):
            self._passed.add(id(kind))
            return False
        self._walked.add(id(kind))
        if not is_transparent(kind):
            self._opaque.add(id(kind))
        elif issubclass(kind, weakref.ref):
            self._weak_kinds.add(id(kind))  # pyright: ignore[reportUnknownArgumentType]
        if DICTS_ARE_HIDDEN and may_hide_dict(kind):  # pyright: ignore[reportUnknownArgumentType]
            self._special.add(id(kind))  # pyright: ignore[reportUnknownArgumentType]
        return True

    def _look_closer(self, place: int, refs: list[Any]) -> list[Any]:
        """What an object of a class that is special in some way refers to, given what the collector says."""
        obj: Any = self._objects[place]
        kind = id(_class_of(obj))
        if kind in _GENERATORS:
            if _is_at_an_await(obj):
                return refs
            return list({id(ref): ref for ref in refs}.values())
        if kind in self._own_types:
            self._bookkeepers.update((id(obj), *(id(ref) for ref in refs if id(_class_of(ref)) in _CONTAINERS)))
        if kind == _FRAME:
            self._frames.add(place)
        elif kind == _DICT and not refs:
            self._bare_dicts.append(place)
        elif DICTS_ARE_HIDDEN and may_hide_dict(_class_of(obj)):
            return self._with_hidden_dict(place, refs)
        return refs

    def _with_hidden_dict(self, place: int, refs: list[Any]) -> list[Any]:
        obj = self._objects[place]
        address = address_of_dict(obj)
        self._dicts[place] = address
        if not address or any(id(ref) == address for ref in refs):
            return refs
        return [*refs, dict_of(obj)]

    def count(self) -> str | None:
        """Counts the references from outside to each object. Returns why that failed, None where it did not."""
        inward = Counter(self._targets)
        counts, self._weak, lengths, refs = _at_one_moment(self._objects, self._bare_dicts)
        if list(map(id, refs)) != self._trail or any(
            address_of_dict(self._objects[place]) != address for place, address in self._dicts.items()
        ):
            return "references changed during the search"
        del refs
        from_inside = map(inward.get, range(len(counts)), itertools.repeat(0))
        self._outside = [count - _OWN - known for count, known in zip(counts, from_inside, strict=True)]
        hollow = {place for place, length in zip(self._bare_dicts, lengths, strict=True) if length}
        self._add_ways(hollow | self._frames)
        return None

    def _add_ways(self, hollow: set[int]) -> None:
        """Adds the ways that no reference shows.

        Who has the frame of a suspended generator has its variables, and who has the `__dict__` of an object has its
        attributes, but since 3.13 it is only the object that refers to them.
        """
        if not hollow:
            return
        for place in range(len(self._objects)):
            for target in hollow.intersection(self._targets_of(place)):
                if target not in self._frames or id(_class_of(self._objects[place])) in _GENERATORS:
                    self._ways.setdefault(target, []).append(place)

    def stuck(self) -> dict[int, tuple[int, ...]]:
        reached = self._reached()
        found = {place: task for task in self._tasks if (place := self._position[id(task)]) not in reached}
        referrers = self._referrers() if found else {}
        return {
            id(task): tuple(id(found[other]) for other in self._leading_to(waiter_of(task), found, referrers, place))
            for place, task in found.items()
        }

    def _reached(self) -> set[int]:
        """The places to which a way leads from anything that is alive."""
        own = {self._position[key] for key in self._bookkeepers if key in self._position}
        host = {self._position[key] for key in self._host_ids if key in self._position}
        quiet = own | host
        outside, weak, doubtful = self._outside, self._weak, self._opaque | self._weak_kinds
        alive = [
            place
            for place, obj in enumerate(self._objects)
            if (outside[place] > 0 or weak[place] or id(_class_of(obj)) in doubtful)
            and place not in quiet
            and self._is_alive(place, obj)
        ]
        reached = set(alive)
        holders = outside[self._position[self._host]] if self._host in self._host_ids else 0
        while alive:
            place = alive.pop()
            for target in itertools.chain(self._targets_of(place), self._ways.get(place, ())):
                if target in reached:
                    continue
                if target in host and self._only_holds(self._objects[place], target):
                    is_holder = target == self._position[self._host or 0]
                    holders += is_holder and id(self._objects[place]) not in self._awaiting
                    continue
                reached.add(target)
                if target not in own:
                    alive.append(target)
            if not alive and holders > self._held.references and not host <= reached:
                alive += host - reached
                reached |= host
        return reached

    def _only_holds(self, obj: Any, target: int) -> bool:
        """Whether an object is of those that hold a host because they run it or await it, and do nothing else to it."""
        if id(obj) in self._host_ids:
            return False  # the host itself, on the way to its code
        if target != self._position[self._host or 0]:
            return True
        kind: type[Any] = _class_of(obj)
        if id(obj) in self._awaiting or id(kind) in _HOLDERS:
            return True
        return (module_of(kind), _name(kind)) in _HOLDERS_BY_NAME

    def _is_alive(self, place: int, obj: object) -> bool:
        return self._outside[place] > 0 or self._is_alive_by_nature(place, obj)

    def _referrers(self) -> dict[int, list[int]]:
        found: defaultdict[int, list[int]] = defaultdict(list)
        start = 0
        for place, (obj, end) in enumerate(zip(self._objects, self._ends, strict=True)):
            if id(obj) not in self._bookkeepers:
                for target in self._targets[start:end]:
                    found[target].append(place)
            start = end
        return found

    def _leading_to(
        self, waiter: object, stuck: Mapping[int, object], referrers: Mapping[int, list[int]], itself: int
    ) -> list[int]:
        """The stuck tasks from which a way leads to a future without passing through another task."""
        start = self._position.get(id(waiter))
        if start is None:
            return []
        found: list[int] = []
        seen, todo = {start, itself}, [start]
        while todo and len(found) < _NAMED and len(seen) < _LOOKED_BACK:
            for place in referrers.get(todo.pop(), ()):
                if place in seen:
                    continue
                seen.add(place)
                (found if place in stuck else todo).append(place)
        return found

    def _is_alive_by_nature(self, place: int, obj: Any) -> bool:
        if issubclass(_class_of(obj), weakref.ref) and (_callback(obj) is not None or self._targets_of(place)):
            return True  # whoever ends the referent runs the callback, unless that is past and only its trace was seen
        if id(_class_of(obj)) in self._opaque:
            return True
        return self._weak[place] > 0 and self._can_be_found_weakly(obj, self._weak[place])

    def _can_be_found_weakly(self, obj: Any, number: int) -> bool:
        references = weakref.getweakrefs(obj)
        # A proxy would pass on to its referent whatever it is asked.
        return len(references) != number or any(
            _class_of(ref) is not weakref.ref or id(_callback(ref)) not in self._harmless for ref in references
        )


def _ids_of_host(tasks: list[Any], host: int | None, held: Held) -> tuple[set[int], set[int]]:
    """The ids of a host and its runner's coroutines, and of the code that awaits it."""
    found = next((task for task in tasks if id(task) == host), None)
    if found is None or has_own_attributes(found):
        return set(), set()
    coroutines = [link.holder for link in task_chain(found).links[: held.coroutines]]
    return {id(found), *map(id, coroutines)}, set(map(id, code_that_awaits(found)))


def _at_one_moment(
    objects: list[object], dicts: Iterable[int] = ()
) -> tuple[list[int], list[int], list[int], list[object]]:
    """How many references and weak references there are to each object, and what all refer to, with marks between.

    All of it in one call of C code: no other thread, signal handler or finalizer runs meanwhile. The references of the
    counting itself are counted, too.

    dicts: places of dicts of which the length is told as well.
    """
    calls: tuple[partial[Any], ...] = (
        partial(list, map(sys.getrefcount, objects)),
        partial(list, map(weakref.getweakrefcount, objects)),
        partial(list, map(_length, map(objects.__getitem__, dicts))),
        partial(gc.get_referents, *itertools.chain.from_iterable(zip(objects, itertools.repeat(_MARK)))),
    )
    counts, weak, lengths, refs = cast("Iterable[list[Any]]", map(operator.call, calls))
    return counts, weak, lengths, refs


# What counting finds for an object that only the list holds. It differs between versions, so it is found by counting.
_OWN: Final = _at_one_moment([object()])[0][0]


def _is_module(obj: object) -> bool:
    return issubclass(_class_of(obj), types.ModuleType)


def _is_at_an_await(generator: Any) -> bool:
    """Whether it is suspended at an `await`. That compiles to a loop, across which no borrowed reference is kept."""
    return getattr(generator, "cr_await", None) is not None or getattr(generator, "ag_await", None) is not None


def _registries_of_asyncio() -> list[Any]:
    """Weak sets by which asyncio knows its tasks and asynchronous generators. It uses them to cancel and to close."""
    found = [getattr(asyncio.tasks, name, None) for name in ("_scheduled_tasks", "_all_tasks")]
    loop = asyncio._get_running_loop()
    found.append(fields(loop).get("_asyncgens"))
    if any(module_of(base) == "uvloop" for base in _mro(_class_of(loop))):
        # It does not show its attributes, but has only this one of the kind; with two, the other is somebody else's.
        weak_sets: list[Any] = [ref for ref in gc.get_referents(loop) if _class_of(ref) is weakref.WeakSet]
        found += weak_sets if len(weak_sets) == 1 else []
    return [registry for registry in found if _class_of(registry) is weakref.WeakSet]
