"""The groups and cancel scopes of asyncio's and AnyIO's that are open round a scope, as books that wake nobody.

Who has opened one holds it in order to leave it, and can do nothing else to the tasks in it but to cancel them.
"""

from __future__ import annotations

import asyncio
import gc
import types
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple, final

from taskscope._diagnosis.anyio_scopes import attribute, class_of_backend, is_exactly_of_backend, scopes_round
from taskscope._diagnosis.awaitables import FUTURES, TASKS, done_callbacks, fields, is_exactly, is_task, waiter_of
from taskscope._diagnosis.folding import is_of_library
from taskscope._diagnosis.groups import cell_of_group, owning_group, suspended_generators
from taskscope._diagnosis.opaque import class_of
from taskscope._diagnosis.stack import task_chain
from taskscope._diagnosis.subgraph import Subgraph
from taskscope._diagnosis.with_blocks import line_of_block

_FIELDS: Final = frozenset(
    {
        *("_aborting", "_base_error", "_cancel_on_enter", "_entered", "_errors", "_exiting", "_loop"),
        *("_on_completed_fut", "_parent_cancel_requested", "_parent_task", "_tasks"),
    }
)
_FIELDS_OF_ANYIO: Final = frozenset(
    {
        *("_active", "_cancel_called", "_cancel_calls", "_cancel_handle", "_cancel_reason", "_cancelled_caught"),
        *("_cancelling", "_cancelling_at_enter", "_child_scopes", "_deadline", "_entered", "_exceptions", "_host_task"),
        *("_on_completed_fut", "_parent_scope", "_pending_uncancellations", "_shield", "_tasks", "_timeout_handle"),
        *("_uncancel_count", "cancel_scope"),
    }
)

_ON_DONE: Final[Any] = getattr(asyncio.taskgroups.TaskGroup, "_on_task_done", None)

# By what AnyIO's objects know the cancel scope that they are in, or that is theirs.
_UPWARD: Final = {
    "CancelScope": "_parent_scope",
    "TaskState": "cancel_scope",
    "TaskHandle": "_cancel_scope",
    "_AsyncioTaskStatus": "_target_scope",
}


class Reach(NamedTuple):
    """What happens when a group or a cancel scope is cancelled, before any task runs.

    Attributes:
        touched: The ids of the tasks that are told to cancel.
        cancelled: Of those, the ones of which it is sure that they are. Others pass it on to what they wait for.
    """

    touched: set[int]
    cancelled: set[int]

    def is_harmless_for(self, tasks: set[int]) -> bool:
        return self.touched.isdisjoint(tasks) or self.cancelled >= tasks


@final
class Harmless:
    """The groups and cancel scopes that, were they cancelled, would cancel all of some tasks at once, or none of them.

    When any other one is cancelled, a task that is cancelled can wake one that is not. A task that waits at the end of
    a group is not counted: all it does when it is cancelled is to cancel that group.
    """

    def __init__(self, outer: OuterGroups, tasks: Iterable[Any]) -> None:
        counted = {id(task) for task in tasks} - outer.waiting.keys()
        self._ids = {
            unit for unit, waves in outer.units.items() if all(wave.is_harmless_for(counted) for wave in waves)
        }

    def __contains__(self, unit: object) -> bool:
        return unit in self._ids


@final
class OuterGroups:
    """What is open round some tasks, and who has opened it.

    A group of AnyIO's is known by its cancel scope. Nothing is held here but the openers' code: what is held looks
    alive.

    Attributes:
        holders: The coroutines of the openers, and the generators that have opened a group for them. To be looked
            through.
        units: For each group and cancel scope, by their ids, what is cancelled with it: at once, and then by each of
            those that wait at the end of a group.
        waiting: The ids of the tasks that wait at the end of a group, with the id of that.
    """

    def __init__(self, tasks: list[Any], host: Any) -> None:
        self.holders: list[object] = []
        self.units: dict[int, list[Reach]] = {}
        self.waiting: dict[int, int] = {}
        self._reach: dict[int, Reach] = {}
        self._entered: dict[int, set[int]] = {}
        if host is None:
            return
        groups = list(_groups_round([host, *tasks]))
        self._note_waiting(groups)
        candidates = set(map(id, tasks))
        openers = {id(opener): opener for _, opener in groups if id(opener) in self.waiting}
        for opener in ({id(host): host} | openers).values():
            if is_task(opener) and id(opener) not in candidates:
                self._add(opener, [group for group, its_opener in groups if its_opener is opener])
        if self.units:
            self._add_generators()
        else:
            self.holders.clear()

    def _note_waiting(self, groups: list[tuple[Any, Any]]) -> None:
        for group, opener in groups:
            unit = _unit_of(group)
            if unit is not None and waits_at_end(opener, group):
                self.waiting[id(opener)] = id(unit)
                self._reach[id(unit)] = reach_of(unit)

    def _add(self, opener: Any, groups: list[Any]) -> None:
        """Adds what an opener has entered, as far as it can be found."""
        coroutines = [link.holder for link in task_chain(opener).links if type(link.holder) is not types.CodeType]
        if _is_under_timeout(coroutines):
            return
        held = [ref for coroutine in coroutines for ref in gc.get_referents(coroutine)]
        entered: set[int] = set()
        for unit in map(unit_behind, [*held, *groups, *scopes_round(opener)]):
            if unit is not None and _opener_of(unit) is opener and _is_open(unit):
                entered.add(id(unit))
                self.units[id(unit)] = self._waves(unit)
        self.holders += coroutines
        self._entered |= dict.fromkeys(map(id, coroutines), entered)

    def _add_generators(self) -> None:
        for generator in suspended_generators():
            managers = [ref for ref in gc.get_referents(generator) if id(unit_behind(ref)) in self.units]
            entered = {id(unit_behind(ref)) for ref in managers if line_of_block(generator, ref) is not None}
            if entered:
                self.holders.append(generator)
                self._entered[id(generator)] = entered

    def _waves(self, unit: object) -> list[Reach]:
        """What is cancelled with a unit, and with each group at whose end one of the cancelled tasks waits."""
        waves = [reach_of(unit)]
        known = {id(unit)}
        for wave in waves:  # which grow meanwhile
            for group in {self.waiting[task] for task in wave.touched & self.waiting.keys()} - known:
                known.add(group)
                waves.append(self._reach[group])
        return waves

    def references(self, graph: Subgraph) -> Iterator[tuple[int, int, int]]:
        """The references that are books: the places from which and to which they lead, and of which unit, by its id."""
        upward = {id(class_of_backend(name)): field for name, field in _UPWARD.items()}
        for place, obj in enumerate(graph.objects):
            kind = class_of(obj)
            if id(obj) in self._entered:
                for target in set(graph.targets_of(place)):
                    unit = id(unit_behind(graph.objects[target]))
                    if unit in self._entered[id(obj)]:
                        yield place, target, unit
            elif id(kind) in upward:
                scope = attribute(obj, upward[id(kind)])
                yield from self._found(graph, obj, scope)
            elif issubclass(kind, TASKS):
                for holder, group in _groups_of(obj):
                    yield from self._found(graph, holder, group)

    def _found(self, graph: Subgraph, start: object, target: object) -> Iterator[tuple[int, int, int]]:
        """Where a reference to what a unit stands for is in the graph: from an object, or from its attributes' dict."""
        unit = unit_behind(target)
        place, end = graph.position.get(id(start), -1), graph.position.get(id(target), -1)
        if id(unit) not in self.units or place < 0 or end < 0:
            return
        dicts = [via for via in graph.targets_of(place) if class_of(graph.objects[via]) is dict]
        for via in (place, *dicts):
            if graph.targets_of(via).count(end) == 1:
                yield via, end, id(unit)


def _groups_of(task: Any) -> Iterator[tuple[object, object]]:
    """What a task's done callbacks have their groups in, and the groups."""
    for callback in done_callbacks(task):
        cell = cell_of_group(callback)
        if cell is not None:
            yield cell, cell.cell_contents
        elif type(callback) is types.MethodType and callback.__func__ is _ON_DONE:
            yield callback, callback.__self__


def _groups_round(tasks: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    """The groups that tasks are in, each with the task that has opened it, and so on outwards."""
    seen: set[int] = set()
    for task in tasks:
        group, opener = owning_group(task) if is_task(task) else (None, None)
        while opener is not None and id(group) not in seen:
            seen.add(id(group))
            yield group, opener
            group, opener = owning_group(opener)


def unit_behind(obj: Any) -> object | None:
    """The group or cancel scope that is cancelled by who has an object: it itself, a method of it, or a cell with it.

    None for anything else, and for one that somebody has given attributes: these can be anything.
    """
    if type(obj) is types.CellType:
        obj = next(iter(gc.get_referents(obj)), None)
    manager: Any = obj.__self__ if type(obj) is types.MethodType else obj
    unit = _unit_of(manager)
    if unit is None or (manager is not obj and not _is_defined_by_class(obj)):
        return None
    names = _FIELDS if is_exactly(unit, asyncio.taskgroups.TaskGroup) else _FIELDS_OF_ANYIO
    return unit if fields(manager).keys() | fields(unit).keys() <= names else None


def _is_defined_by_class(method: types.MethodType) -> bool:
    function: Any = method.__func__
    if type(function) is not types.FunctionType:
        return False
    return any(vars(base).get(function.__name__) is function for base in type(method.__self__).__mro__)


def _unit_of(group: Any) -> object | None:
    if is_exactly(group, asyncio.taskgroups.TaskGroup) or is_exactly_of_backend(group, "CancelScope"):
        unit: object = group
        return unit
    if is_exactly_of_backend(group, "TaskGroup"):
        scope = attribute(group, "cancel_scope")
        return scope if is_exactly_of_backend(scope, "CancelScope") and not attribute(group, "_exceptions") else None
    return None


def _opener_of(unit: object) -> object:
    return (
        fields(unit).get("_parent_task")
        if is_exactly(unit, asyncio.taskgroups.TaskGroup)
        else attribute(unit, "_host_task")
    )


def _is_open(unit: object) -> bool:
    """Whether nothing has begun to cancel it, nor any clock will."""
    if is_exactly(unit, asyncio.taskgroups.TaskGroup):
        own = fields(unit)
        return own.get("_aborting") is False and own.get("_errors") == [] and own.get("_base_error") is None
    return attribute(unit, "_cancel_called") is False and attribute(unit, "_timeout_handle") is None


def reach_of(unit: Any) -> Reach:
    tasks: list[Any] = []
    scopes: list[Any] = []
    if is_exactly(unit, asyncio.taskgroups.TaskGroup):
        tasks += fields(unit)["_tasks"]
    else:
        scopes.append(unit)
    for scope in scopes:  # which grow meanwhile
        tasks += scope._tasks
        scopes += [child for child in scope._child_scopes if not child._shield and not child._cancel_called]
    waiting = (task for task in tasks if any(is_exactly(waiter_of(task), known) for known in FUTURES))
    return Reach(set(map(id, tasks)), set(map(id, waiting)))


def waits_at_end(opener: Any, group: object) -> bool:
    """Whether a task can do nothing before all in a group has ended, but to cancel it."""
    return any(
        link.code.co_qualname == "TaskGroup.__aexit__"
        and is_of_library(link.code)
        and any(ref is group for ref in gc.get_referents(link.holder))
        for link in task_chain(opener).links
    )


def _is_under_timeout(coroutines: Iterable[object]) -> bool:
    """Whether asyncio's clock is about to cancel who has these coroutines, and so all that is in its groups."""
    refs = [ref for coroutine in coroutines for ref in gc.get_referents(coroutine)]
    managers = [ref.__self__ if type(ref) is types.MethodType else ref for ref in refs]
    return any(
        is_exactly(ref, asyncio.timeouts.Timeout) and fields(ref).get("_timeout_handler") is not None
        for ref in managers
    )
