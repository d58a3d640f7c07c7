"""The books that Trio keeps of its tasks: nurseries, cancel scopes, and the run itself.

They hold every task, and do nothing to it but to cancel it. So they are told apart here from whoever else holds a task.
"""

from __future__ import annotations

import gc
import sys
import types
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, final

from taskscope._diagnosis.awaitables import UNKNOWN, class_name, field_of
from taskscope._diagnosis.opaque import class_of

# What leads from a task up to what it is in. Whoever has a task only by way of these has it in order to cancel it.
_UPWARD: Final = ("_parent_nursery", "_eventual_parent_nursery", "_cancel_status")


@final
class Harmless:
    """The cancel scopes that, were they cancelled, would cancel all of some tasks, or none of them.

    When any other one is cancelled, a task that is cancelled can wake one that is not. Parents that wait for their
    children are not counted: they are cancelled with those, or not at all.
    """

    def __init__(self, tasks: Iterable[Any] = ()) -> None:
        self._number = 0
        self._reached: Counter[int] = Counter()
        for task in tasks:
            if children_waited_for(task):
                continue
            self._number += 1
            for status in statuses_of(task):
                self._reached[id(status)] += 1
                if status._scope._shield:
                    break

    def __contains__(self, status: object) -> bool:
        return self._reached[id(status)] in (0, self._number)


def run_class(name: str) -> Any:
    return vars(sys.modules["trio._core._run"])[name]


def statuses_of(task: Any) -> Iterator[Any]:
    """The states of the cancel scopes that a task is in, innermost first, also those beyond a shield."""
    status = task._cancel_status
    while status is not None:
        yield status
        status = status._parent


def waiting_parents_of(tasks: Iterable[Any]) -> list[Any]:
    """The tasks in whose nurseries some tasks are, directly or not, and that wait there for their children to end."""
    found: list[Any] = []
    known = set(map(id, tasks))
    for task in tasks:
        nursery = task._parent_nursery
        while nursery is not None and id(nursery) not in known:
            known.add(id(nursery))
            parent = nursery._parent_task
            if id(parent) not in known and children_waited_for(parent):
                found.append(parent)
            known.add(id(parent))
            nursery = parent._parent_nursery
    return found


def children_waited_for(task: Any) -> set[Any]:
    """The tasks that all have to end before a task can go on, none where it does not wait at the end of a nursery."""
    nurseries = task._child_nurseries
    if not nurseries or not nurseries[-1]._parent_waiting_in_aexit or task._next_send_fn is not None:
        return set()
    children: set[Any] = nurseries[-1]._children
    return children


def with_parents(tasks: Iterable[Any]) -> set[int]:
    """The ids of some tasks, and of all that cannot end before these, since the one is in a nursery of the other."""
    found: set[int] = set()
    for task in tasks:
        nursery = task._parent_nursery
        found.add(id(task))
        while nursery is not None and id(nursery._parent_task) not in found:
            found.add(id(nursery._parent_task))
            nursery = nursery._parent_task._parent_nursery
    return found


def without_parents_of_others(tasks: list[Any]) -> list[Any]:
    """Some tasks without those that wait for any other: that one can fail, and so cancel what they wait for."""
    while True:
        known = set(map(id, tasks))
        left = [task for task in tasks if known.issuperset(map(id, children_waited_for(task)))]
        if len(left) == len(tasks):
            return left
        tasks = left


def books_of(tasks: Iterable[Any]) -> list[object]:
    """The nurseries and cancel scopes in which tasks are, out to those of the run."""
    found: dict[int, object] = {}
    for task in tasks:
        for status in statuses_of(task):
            found[id(status)] = status
            found[id(status._scope)] = status._scope
        nursery = task._parent_nursery
        while nursery is not None and id(nursery) not in found:
            found[id(nursery)] = nursery
            nursery = nursery._parent_task._parent_nursery
    return list(found.values())


def without_upward(task: Any, refs: list[Any]) -> list[Any]:
    """What a task refers to without what it is in; with the locks that are broken when it ends without a release."""
    found = _without(refs, [getattr(task, name) for name in _UPWARD])
    lots = _breakers().get(task)
    return found if lots is None else [*found, lots]


def without_parent(status: Any, refs: list[Any]) -> list[Any]:
    return _without(refs, [status._parent])


def _without(refs: list[Any], unwanted: list[Any]) -> list[Any]:
    found = list(refs)
    for obj in unwanted:
        place = next((place for place, ref in enumerate(found) if ref is obj), None)
        if obj is not None and place is not None:
            del found[place]
    return found


def entries(
    tasks: Iterable[Any], objects: Iterable[Any], position: Mapping[int, int], harmless: Harmless
) -> Counter[int]:
    """How many references Trio's books hold, by ids of the objects, beside those from some objects to each other.

    tasks: those that are looked at. What others are in can be cancelled when they fail, so a book is none for them
        unless that is harmless.
    """
    found: Counter[int] = Counter()
    inside = set(map(id, tasks))
    for task in tasks:
        runner = task._runner
        found[id(task)] += (task in runner.tasks) + (task is runner.main_task) + (task is runner.init_task)
        found[id(task)] += task in _breakers()
        for name in _UPWARD:
            found[id(getattr(task, name))] += 1
        nursery, status = task._parent_nursery, task._cancel_status
        if nursery is not None and id(nursery._children) not in position:
            found[id(task)] += task in nursery._children
        if status is not None and id(status._tasks) not in position:
            found[id(task)] += task in status._tasks
    kinds = run_class("Nursery"), run_class("CancelStatus"), run_class("Task")
    for obj in objects:
        if type(obj) is kinds[2] and obj not in obj._runner.tasks:
            for name in _UPWARD:  # it has ended, and still knows where it was
                found[id(getattr(obj, name))] += 1
        elif type(obj) is kinds[0] and obj._cancel_status in harmless:
            others = [task for task in obj._children if id(task) not in inside]
            found[id(obj)] += sum(task._parent_nursery is obj for task in others)
            runner = obj._parent_task._runner
            # That of a run that is over can be among the objects: the traceback of a test that has failed has it.
            found[id(obj)] += obj is runner.system_nursery and position.get(id(runner), -1) < 0
        elif type(obj) is kinds[1]:
            found[id(obj)] += sum(child._parent is obj for child in obj._children)
            if obj in harmless:
                others = [task for task in obj._tasks if id(task) not in inside]
                found[id(obj)] += sum(task._cancel_status is obj for task in others)
            if obj._parent is not None and id(obj._parent._children) not in position:
                found[id(obj)] += obj in obj._parent._children
    return found


def entered_by(task: Any, coroutines: Iterable[object]) -> tuple[list[object], list[int]]:
    """The nurseries and cancel scopes, their managers and their exits, to which a task refers, once for each reference.

    coroutines: those that the task is in.

    Returns:
        The objects, and the ids of what refers to them.
    """
    found: list[object] = []
    holders: list[int] = []
    for holder in (*coroutines, task._child_nurseries):
        refs = [ref for ref in gc.get_referents(holder) if status_behind(ref) is not None]
        found += refs
        holders += [id(holder)] * len(refs)
    return found, holders


def status_behind(obj: Any) -> object | None:
    """The state of the cancel scope that an object of Trio's or AnyIO's stands for, None for anything else."""
    manager: Any = obj.__self__ if type(obj) is types.MethodType else obj
    kind = class_of(manager)
    module = getattr(sys.modules.get("anyio._backends._trio"), "__dict__", {})
    if kind is run_class("NurseryManager") or kind is module.get("TaskGroup"):
        manager = field_of(manager, "_nursery")
    elif kind is module.get("CancelScope"):
        manager = field_of(manager, f"_{class_name(manager)}__original")
    if type(manager) not in (run_class("Nursery"), run_class("CancelScope")):
        return None
    status = manager._cancel_status
    return None if status is UNKNOWN else status


def _breakers() -> dict[Any, Any]:
    """The locks that are broken when a task ends that still has them."""
    found: dict[Any, Any] = vars(sys.modules["trio._core._parking_lot"]).get("GLOBAL_PARKING_LOT_BREAKER", {})
    return found
