"""Which stuck tasks could wake each other, if only one of them ran."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Container, Mapping
from typing import Any, Final

from taskscope._diagnosis.awaitables import waiter_of
from taskscope._diagnosis.subgraph import Subgraph

LOOKED_AT: Final = 1_000
"""Tasks of which it is told: a report describes no more."""

_NAMED: Final = 16
_LOOKED_BACK: Final = 300


def stuck_with(
    graph: Subgraph,
    tasks: list[Any],
    waited_for: Callable[[Any], object] = waiter_of,
    passed: Container[int] = (),
) -> dict[int, tuple[int, ...]]:
    """The ids of stuck tasks, each with those of the others from which a way leads to what the task waits for.

    Of and among the first 1,000 tasks; for the others no ways are looked for.

    waited_for: what a task waits for.
    passed: the places of objects through which no way leads.
    """
    found: dict[int, tuple[int, ...]] = {id(task): () for task in tasks}
    tasks = tasks[:LOOKED_AT]
    places = {graph.position[id(task)]: id(task) for task in tasks}
    referrers = _referrers(graph, set(places), passed) if tasks else {}
    for task in tasks:
        others = _leading_to(graph.position.get(id(waited_for(task))), places, referrers, graph.position[id(task)])
        found[id(task)] = tuple(places[other] for other in others)
    return found


def _referrers(graph: Subgraph, start: set[int], passed: Container[int]) -> dict[int, list[int]]:
    """Who refers to what, as far as it is reached from some places."""
    found: defaultdict[int, list[int]] = defaultdict(list)
    todo = list(start)
    for place in todo:
        if id(graph.objects[place]) in graph.bookkeepers or place in passed:
            continue
        for target in graph.targets_of(place):
            if target not in found and target not in start:
                todo.append(target)
            found[target].append(place)
    return found


def _leading_to(start: int | None, stuck: Container[int], referrers: Mapping[int, list[int]], itself: int) -> list[int]:
    """The places of the stuck tasks from which a way leads to an object without passing through another task."""
    if start is None:
        return []
    found: list[int] = []
    seen = {start, itself}
    ways = [iter(referrers.get(start, ()))]
    while ways and len(found) < _NAMED and len(seen) < _LOOKED_BACK:
        place = next(ways[-1], None)
        if place is None:
            ways.pop()
        elif place not in seen:
            seen.add(place)
            if place in stuck:
                found.append(place)
            else:
                ways.append(iter(referrers.get(place, ())))
    return found
