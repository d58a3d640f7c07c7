"""What is reachable from some objects, and how many references there are to each of it from elsewhere.

A garbage collector's first step, without its second: what nothing outside refers to is not collected, but judged by
`reachability`. Nothing is changed, and no code of a user's is called.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import operator
import sys
import types
import weakref
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Final, cast, final

from taskscope._diagnosis.anyio_scopes import registry_of_anyio, state_of
from taskscope._diagnosis.awaitables import TASKS
from taskscope._diagnosis.hidden_dicts import DICTS_ARE_HIDDEN, address_of_dict, dict_of, may_hide_dict
from taskscope._diagnosis.opaque import class_of, ids_of_namespaces, is_transparent, module_of, package_of
from taskscope._diagnosis.registries import callback_of

# Classes are known by their ids: a metaclass can have an `__eq__` and a `__hash__` of its own.
_CONTAINERS: Final = frozenset(map(id, (dict, list, set)))

# Of these the length is known, and no code of a user's tells it.
_SIZED: Final = frozenset(map(id, (list, tuple, dict, set, frozenset, deque)))

# Where the walk goes on beyond the limit it is given up in the end, for some objects cannot be left out: at one with
# more references than this, after so many references in all, and after so many times the limit.
_LARGEST: Final = 10_000
_MOST: Final = 100_000
_FACTOR: Final = 2

# Never walked through: alive by nature, or on the way to the whole heap.
_ALIVE: Final = (types.ModuleType, type, types.CodeType, asyncio.events.AbstractEventLoop)

# They refer to nothing, and are shared by all of Python.
_ATOMS: Final = frozenset(map(id, (types.NoneType, bool, int, float, complex, str, bytes)))

# Since 3.14 the stack of a generator suspended at a `yield` can hold borrowed references, visited but not counted.
_BORROWS: Final = sys.version_info >= (3, 14)
GENERATORS: Final = frozenset(map(id, (types.CoroutineType, types.GeneratorType, types.AsyncGeneratorType)))

# They refer to nothing and are met all the time.
_SHARED: Final = (None, True, False, ())

# The place of what is not walked through.
_NOWHERE: Final = -1

_DICT: Final = id(dict)
_FRAME: Final = id(types.FrameType)
_REFERENCE: Final = id(weakref.ref)

# Of their classes are tasks and timers, and all between. What a user calls so as well makes a longer walk.
_PLUMBING: Final = frozenset(
    {
        *("builtins", "collections", "functools", "_contextvars", "taskscope"),
        *("asyncio", "_asyncio", "anyio", "contextlib", "trio", "outcome"),
    }
)

# Where scopes of the plugin come from: their tests lead to all that pytest has.
_LEADS_TO_PYTEST: Final = "taskscope.pytest_plugin."

# What is round the generators of fixtures.
_ROUND_FIXTURES: Final = "taskscope.pytest_plugin._fixtures"

Adjust = Callable[[Any, list[Any]], list[Any]]

# Stands between the referents of one object and those of the next.
_MARK: Final = (object(),)

_length = cast("Callable[[object], int]", len)


@final
class Subgraph:
    """All that is reachable from some objects, save for modules, classes, code, event loops and plain values.

    Objects are known by their places in `objects`.

    Attributes:
        objects: Each object once, in the order in which they were come upon.
        position: Their places, by their ids; -1 for what is not walked through.
        targets, ends: The places of what each object refers to, all in one list: those of object n end at `ends[n]`.
        bookkeepers: Ids of the objects that hold tasks only to keep books of them.
        opaque: Ids of the classes of objects that C code may know without a reference to them.
        weak_kinds: Ids of the classes of weak references.
        outside: How many references there are to each object beside those from other objects here.
        weak: How many weak references there are to each.
        ways: Further places that lead to an object, which no reference shows.
        late: The first place of what only the late ones lead to.
    """

    def __init__(
        self,
        seeds: list[object],
        bookkeepers: list[object],
        own_types: Iterable[type],
        limit: int,
        beyond: Iterable[int] = (),
        adjust: Mapping[int, Adjust] | None = None,
        widely: int | None = None,
        late: list[object] | None = None,
    ) -> None:
        """
        seeds: where to begin. They are bookkeepers as well.
        bookkeepers: where to begin, too. All such lists are cleared by `walk`: they would be holders themselves.
        own_types: whatever is of these types is a bookkeeper, with the lists, dicts and sets that are its attributes.
        limit: how many objects are looked at before `walk` gives up.
        beyond: ids of objects that are not walked through.
        adjust: for classes, by their ids: what their objects are to be taken to refer to, given such an object and what
            the collector says of it.
        widely: after how many objects to walk only through what tasks and timers are made of, and not through a user's
            own, which lead to all of the program; nor is it walked through these from the bookkeepers, and beyond the
            limit nothing more is looked at. What was not walked through counts as outside. None: all is looked at, or
            nothing where that is more than the limit.
        late: where to begin last of all. These are no bookkeepers.
        """
        self.bookkeepers = {*map(id, seeds), *map(id, bookkeepers)}
        self.position: dict[int, int] = {}
        self.objects: list[object] = []
        self.targets: list[int] = []
        self.ends: list[int] = []
        self.opaque: set[int] = set()
        self.weak_kinds: set[int] = set()
        self.outside: list[int] = []
        self.weak: list[int] = []
        self.ways: dict[int, list[int]] = {}
        self.late = 0
        self._seeds = seeds
        self._late_seeds = [bookkeepers, late or []]
        self._own_types = frozenset(map(id, own_types))
        self._limit = limit
        self._trail: list[int] = []
        self._walked: dict[int, type[Any]] = {}
        self._passed = set(_ATOMS)
        self._beyond = frozenset(beyond)
        self._adjust = adjust or {}
        self._widely = widely
        borrowing = GENERATORS if _BORROWS else ()
        self._special = {_DICT, _FRAME, _REFERENCE, *self._own_types, *self._adjust, *borrowing}
        self._dicts: dict[int, int] = {}
        self._frames: set[int] = set()
        self._bare_dicts: list[int] = []
        self._references: list[int] = []
        self._registry = registry_of_anyio()
        self._states: dict[int, int] = {}
        self._is_narrow = False
        if widely == 0:
            self._narrow()

    def walk(self) -> str | None:
        """Collects what is reachable and who refers to whom. Returns why that failed, None where it did not."""
        position, objects, targets, ends, trail = self.position, self.objects, self.targets, self.ends, self._trail
        position.update(dict.fromkeys(ids_of_namespaces(), _NOWHERE))
        position.update(dict.fromkeys(map(id, _SHARED), _NOWHERE))
        position.update(dict.fromkeys(self._beyond, _NOWHERE))
        self._begin_at(self._seeds)
        if self._widely is None:
            self._begin_late()
        place_of, walked, passed, special, mark = position.get, self._walked, self._passed, self._special, id(_MARK[0])
        largest = max(_LARGEST, self._limit)
        for obj in itertools.chain(objects, self._from_bookkeepers()):  # which grow meanwhile
            kind_of_obj = id(class_of(obj))
            if kind_of_obj in _SIZED and _length(obj) > largest and not self._keeps_books(obj):
                return self._too_much()  # which would be found when a list as large had been made of it
            refs = gc.get_referents(obj)
            if self._widely is not None and len(objects) > self._widely and not self._is_narrow:
                self._narrow()
            is_closed = False
            if len(objects) + len(refs) > self._limit and not self._keeps_books(obj):
                is_too_much = len(refs) > _LARGEST or len(trail) > _MOST or len(objects) > _FACTOR * self._limit
                if self._widely is None or is_too_much:
                    return self._too_much()
                is_closed = not _is_indivisible(class_of(obj))
            keys = list(map(id, refs))
            trail += keys
            trail.append(mark)
            if kind_of_obj in special:
                refs = self._look_closer(len(ends), refs)
                keys = list(map(id, refs))
            for ref, key, place in zip(refs, keys, map(place_of, keys)):  # noqa: B905 - it would cost a fifth of the time
                if place is None:
                    kind = id(class_of(ref))
                    if kind in passed or is_closed or (kind not in walked and not self._walks_through(class_of(ref))):
                        continue
                    place = position[key] = len(objects)
                    objects.append(ref)
                elif place == _NOWHERE:
                    continue
                targets.append(place)
            ends.append(len(targets))
        return None

    def _too_much(self) -> str:
        return f"more than {self._limit:,} objects are reachable from the tasks"

    def _begin_at(self, seeds: list[object]) -> None:
        for seed in seeds:
            if id(seed) not in self.position and self._walks_through(type(seed)):
                self.position[id(seed)] = len(self.objects)
                self.objects.append(seed)
        seeds.clear()

    def _begin_late(self) -> None:
        self.late = len(self.objects)
        for seeds in self._late_seeds:
            self._begin_at(seeds)

    def _from_bookkeepers(self) -> Iterator[object]:
        """The bookkeepers, and what they lead to, where that comes after all that the seeds lead to."""
        if self._widely is None:
            return
        known = len(self.objects)
        self._narrow()
        self._begin_late()
        yield from itertools.islice(self.objects, known, None)

    def _narrow(self) -> None:
        """From here on only what tasks and timers are made of is walked through, if it is not here already."""
        self._is_narrow = True
        for key, kind in list(self._walked.items()):
            if not self._is_walked_when_narrow(kind):
                del self._walked[key]
                self._passed.add(key)

    def _is_walked_when_narrow(self, kind: type[Any]) -> bool:
        return id(kind) in self._own_types or issubclass(kind, TASKS) or package_of(kind) in _PLUMBING

    def _keeps_books(self, obj: object) -> bool:
        return id(obj) in self.bookkeepers or id(class_of(obj)) in self._own_types

    def targets_of(self, place: int) -> list[int]:
        return self.targets[self.ends[place - 1] if place else 0 : self.ends[place]]

    def _walks_through(self, kind: type[Any]) -> bool:
        """Whether objects of a class that is met for the first time are walked through."""
        if issubclass(kind, _ALIVE):
            self._passed.add(id(kind))
            return False
        module = module_of(kind) or ""
        is_plugins = module.startswith(_LEADS_TO_PYTEST) and module != _ROUND_FIXTURES
        if (is_plugins and self._widely is not None) or (self._is_narrow and not self._is_walked_when_narrow(kind)):
            self._passed.add(id(kind))
            return False
        self._walked[id(kind)] = kind
        if not is_transparent(kind):
            self.opaque.add(id(kind))
        elif issubclass(kind, weakref.ref):
            self.weak_kinds.add(id(kind))  # pyright: ignore[reportUnknownArgumentType]
        if self._registry is not None and issubclass(kind, TASKS):
            self._special.add(id(kind))  # pyright: ignore[reportUnknownArgumentType]
        if DICTS_ARE_HIDDEN and may_hide_dict(kind):  # pyright: ignore[reportUnknownArgumentType]
            self._special.add(id(kind))  # pyright: ignore[reportUnknownArgumentType]
        return True

    def _look_closer(self, place: int, refs: list[Any]) -> list[Any]:
        """What an object of a class that is special in some way refers to, given what the collector says."""
        obj: Any = self.objects[place]
        kind = id(class_of(obj))
        if kind in self._adjust:
            refs = self._adjust[kind](obj, refs)
        if kind in GENERATORS:
            if _is_at_an_await(obj):
                return refs
            return list({id(ref): ref for ref in refs}.values())
        if kind in self._own_types:
            self.bookkeepers.update((id(obj), *(id(ref) for ref in refs if id(class_of(ref)) in _CONTAINERS)))
        if kind == _FRAME:
            self._frames.add(place)
        elif kind == _DICT and not refs:
            self._bare_dicts.append(place)
        elif kind == _REFERENCE and callback_of(obj) is None:
            self._references.append(place)
        if self._registry is not None and issubclass(class_of(obj), TASKS):
            refs = self._with_state(place, refs)
        if DICTS_ARE_HIDDEN and may_hide_dict(class_of(obj)):
            return self._with_hidden_dict(place, refs)
        return refs

    def _with_state(self, place: int, refs: list[Any]) -> list[Any]:
        """What a task refers to, with the state that AnyIO keeps for it.

        A weak dict holds a value for as long as there is the key, and whoever has the key can look it up. So its
        reference to the state is counted as one from the task.
        """
        state = state_of(self.objects[place], self._registry)
        self._states[place] = id(state)
        return refs if state is None else [*refs, state]

    def _with_hidden_dict(self, place: int, refs: list[Any]) -> list[Any]:
        obj = self.objects[place]
        address = address_of_dict(obj)
        self._dicts[place] = address
        if not address or any(id(ref) == address for ref in refs):
            return refs
        return [*refs, dict_of(obj)]

    def count(self) -> str | None:
        """Counts the references from outside to each object. Returns why that failed, None where it did not."""
        inward = Counter(self.targets)
        counts, self.weak, lengths, refs = _at_one_moment(self.objects, self._bare_dicts)
        if not _are_the_same(refs, self._trail) or any(
            address_of_dict(self.objects[place]) != address for place, address in self._dicts.items()
        ):
            return "references changed during the search"
        if any(id(state_of(self.objects[place], self._registry)) != state for place, state in self._states.items()):
            return "references changed during the search"
        del refs
        from_inside = map(inward.get, range(len(counts)), itertools.repeat(0))
        self.outside = [count - _OWN - known for count, known in zip(counts, from_inside, strict=True)]
        hollow = {place for place, length in zip(self._bare_dicts, lengths, strict=True) if length}
        self._add_ways(hollow | self._frames)
        self._add_weak_ways()
        return None

    def discount(self, known: Mapping[int, int]) -> None:
        """Takes references that count for nothing from those from outside: how many, by the ids of what they are to."""
        for key, number in known.items():
            place = self.position.get(key, _NOWHERE)
            if place == _NOWHERE:
                continue
            self.outside[place] -= number
            if self.outside[place] < 0:
                raise RuntimeError("more references are known than there are")

    def _add_ways(self, hollow: set[int]) -> None:
        """Adds the ways that no reference shows.

        Who has the frame of a suspended generator has its variables, and who has the `__dict__` of an object has its
        attributes, but since 3.13 it is only the object that refers to them.
        """
        if not hollow:
            return
        for place in range(len(self.objects)):
            for target in hollow.intersection(self.targets_of(place)):
                if target not in self._frames or id(class_of(self.objects[place])) in GENERATORS:
                    self.ways.setdefault(target, []).append(place)

    def _add_weak_ways(self) -> None:
        """Adds the ways along weak references without a callback: who has such a one has what it refers to."""
        for place in self._references:
            target = self.position.get(id(cast("weakref.ref[object]", self.objects[place])()), _NOWHERE)
            if target != _NOWHERE:
                self.ways.setdefault(place, []).append(target)


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


def _are_the_same(objects: list[object], ids: list[int]) -> bool:
    return len(objects) == len(ids) and all(map(operator.eq, map(id, objects), ids))


def _is_indivisible(kind: type[Any]) -> bool:
    """Whether of what an object of this class refers to none may be missed.

    Who has a generator's frame, or the `__dict__` of an object, has what these refer to, and no reference shows it.
    """
    return id(kind) in GENERATORS or issubclass(kind, TASKS) or may_hide_dict(kind)


def _is_at_an_await(generator: Any) -> bool:
    """Whether it is suspended at an `await`. That compiles to a loop, across which no borrowed reference is kept."""
    return getattr(generator, "cr_await", None) is not None or getattr(generator, "ag_await", None) is not None
