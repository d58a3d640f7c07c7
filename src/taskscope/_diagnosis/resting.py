"""What holds an object and does nothing with it while a body runs, told from whoever might: see `AtRest`."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Container, Iterable
from typing import final

from taskscope._diagnosis.opaque import class_of
from taskscope._diagnosis.proof import AtRest, Resting
from taskscope._diagnosis.subgraph import Subgraph


@final
class RestingReferences:
    """References of holders at rest to objects of a graph."""

    def __init__(self, at_rest: AtRest) -> None:
        self._holders = at_rest.holders
        self._further = at_rest.references
        self._kinds = at_rest.kinds
        self._ids = frozenset(map(id, at_rest.holders))
        self._before = self._references_of(at_rest.holders)
        self._taken: list[object] = []

    def held(self) -> list[object]:
        """Where a walk is to begin: of what is a part of the graph the holders are counted, too."""
        return [ref for holder in self._holders for ref in gc.get_referents(holder)]

    def discount(self, graph: Subgraph, without: Container[int]) -> None:
        """Takes these references from those from outside, when all have been counted.

        without: ids of objects whose references are counted elsewhere.

        Raises:
            RuntimeError: They have changed meanwhile.
        """
        if self._references_of(self._holders) != self._before:
            raise RuntimeError("references changed during the search")
        outside = [holder for holder in self._holders if graph.position.get(id(holder), -1) < 0]
        found = self._references_of(outside) + Counter(self._further)
        graph.discount({key: number for key, number in found.items() if key not in without})
        # The holders that are a part of the graph, and others of their kinds that have one of them.
        self._taken = [obj for obj in graph.objects if id(obj) in self._ids or self._has_holder(obj)]
        graph.bookkeepers.update(map(id, self._taken))

    def found(self, graph: Subgraph, reached: Container[int], stuck: Iterable[int]) -> Resting:
        """What is at rest in the graph.

        reached: the places to which a way leads from anything that is alive.
        stuck: ids of the stuck tasks.
        """
        leading = _leading(graph, [graph.position[key] for key in stuck])
        ids = {place: id(obj) for place, obj in enumerate(graph.objects) if place not in reached}
        leading_ids = frozenset(ids[place] for place in leading if place in ids)
        return Resting(frozenset(ids.values()), leading_ids, [obj for obj in self._taken if id(obj) in leading_ids])

    def _has_holder(self, obj: object) -> bool:
        return issubclass(class_of(obj), self._kinds) and any(id(ref) in self._ids for ref in gc.get_referents(obj))

    @staticmethod
    def _references_of(holders: list[object]) -> Counter[int]:
        return Counter(id(ref) for holder in holders for ref in gc.get_referents(holder))


def _leading(graph: Subgraph, ahead: list[int]) -> set[int]:
    """The places from which a way leads to some, and those."""
    sources: dict[int, list[int]] = {}
    for place in range(len(graph.objects)):
        for target in (*graph.targets_of(place), *graph.ways.get(place, ())):
            sources.setdefault(target, []).append(place)
    leading = set(ahead)
    while ahead:
        new = [place for place in sources.get(ahead.pop(), ()) if place not in leading]
        leading.update(new)
        ahead += new
    return leading
