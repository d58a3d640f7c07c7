"""What holds an object and does nothing with it while a body runs, told from whoever might: see `AtRest`."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Container, Iterator
from typing import final

from taskscope._diagnosis.opaque import class_of
from taskscope._diagnosis.proof import AtRest
from taskscope._diagnosis.subgraph import Subgraph


@final
class Resting:
    """References of holders at rest to objects of a graph."""

    def __init__(self, at_rest: AtRest) -> None:
        self._holders = at_rest.holders
        self._further = at_rest.references
        self._kinds = at_rest.kinds
        self._before = self._references_of(at_rest.holders)

    def held(self) -> list[object]:
        """Where a walk is to begin: of what is a part of the graph the holders are counted, too."""
        return [ref for holder in self._holders for ref in gc.get_referents(holder)]

    def references(self, graph: Subgraph, without: Container[int]) -> Counter[int]:
        """How many there are, by the ids of what they are to, when those in the graph have been counted.

        without: ids of objects whose references are counted elsewhere.

        Raises:
            RuntimeError: They have changed meanwhile.
        """
        if self._references_of(self._holders) != self._before:
            raise RuntimeError("references changed during the search")
        outside = [holder for holder in self._holders if graph.position.get(id(holder), -1) < 0]
        found = self._references_of(outside) + Counter(self._further)
        return Counter({key: number for key, number in found.items() if key not in without})

    def known_by_kind(self, graph: Subgraph) -> Iterator[int]:
        """The ids of the objects of a graph that nobody who is alive has."""
        return (id(obj) for obj in graph.objects if issubclass(class_of(obj), self._kinds))

    @staticmethod
    def _references_of(holders: list[object]) -> Counter[int]:
        return Counter(id(ref) for holder in holders for ref in gc.get_referents(holder))
