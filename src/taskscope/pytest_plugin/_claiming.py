"""What of that which a test or fixture leaves is somebody else's: a fixture's that is still to be torn down."""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, final

from taskscope._backends._backend import Backend
from taskscope._backends._here import backend_here, backend_of_task
from taskscope._diagnosis.tasks import coroutine_of
from taskscope._diagnosis.trio_tasks import is_trio_task, nurseries_round
from taskscope._table import AnyTask, TaskTable
from taskscope.pytest_plugin._owners import Owner
from taskscope.pytest_plugin._reach import NEAR, OBJECTS, first_reaching
from taskscope.pytest_plugin._traces import traces

if TYPE_CHECKING:
    from taskscope._findings.found import Found
    from taskscope._findings.search import Taker


@final
class Claiming:
    """Which of a test's or fixture's tasks and other things are the given owners'.

    A task is theirs that one of their values leads to, or whose method's object it leads to. (The naive check that
    takes all that is pending for the test's own accused the handlers and jobs of servers, schedulers and clients that
    fixtures had made, and would have ended.) A thing is theirs that one of their values leads to: the connection that a
    client has opened only when it was first asked.

    Where more than one leads to a task the nearest has it. When that one is judged it is asked again who has what it
    has not ended, and so on to the last that is torn down.

    owners: those that have been judged are not asked.
    values: arguments of the test by the name of the fixture, where they are not the values that pytest knows.
    instance: of the test's class, if it has one.
    """

    def __init__(
        self,
        owners: Iterable[Owner],
        values: Mapping[str, object],
        instance: object | None,
    ) -> None:
        self._owners = [owner for owner in owners if not owner.is_judged]
        self._values = values
        self._instance = instance

    def tasks(self, tasks: list[AnyTask]) -> Mapping[AnyTask, tuple[TaskTable, str]]:
        taken = self._in_nurseries(tasks)
        ids_of = {task: {id(task)} for task in tasks if task not in taken}
        values = self._sources() if ids_of else []
        self._take(values, ids_of, taken, NEAR)
        if ids_of:
            self._take(_with_named(values), ids_of, taken, OBJECTS)
        return {
            task: (owner.table_on(_backend_of(task)), f"{owner.name} has it, and is to end it")
            for task, owner in taken.items()
        }

    def _take(
        self,
        sources: list[tuple[Owner, list[object]]],
        ids_of: dict[AnyTask, set[int]],
        taken: dict[AnyTask, Owner],
        limit: int,
    ) -> None:
        """Moves from `ids_of` to `taken` what walks of so many objects come to, and what the tasks found there hold."""
        owners = [owner for owner, _ in sources]
        avoid = self._avoided(sources)
        sources = sources + _held_by(owners, taken)
        while sources and ids_of:
            newly = first_reaching(sources, ids_of, avoid, self._traces, limit)
            taken.update(newly)
            for task in newly:
                del ids_of[task]
            sources = _held_by(owners, newly)

    def things(self, found: list[Found]) -> Mapping[int, Taker]:
        traces_of = {each.key: [id(thing) for thing in each.things if not _is_anybodys(thing)] for each in found}
        sources = _with_named(self._sources()) if traces_of else []
        taken: dict[int, Owner] = first_reaching(sources, traces_of, self._avoided(sources))
        return {key: owner.searches for key, owner in taken.items()}

    def _in_nurseries(self, tasks: list[AnyTask]) -> dict[AnyTask, Owner]:
        """The tasks that are somewhere inside a nursery of Trio's that is an owner's value: most servers in fixtures.

        A walk from there would come to them as well, past all that other tasks there hold.
        """
        nurseries = {id(value): owner for owner in self._owners for value in (*owner.values, *self._value(owner))}
        inside: dict[AnyTask, Owner] = {}
        for task in filter(is_trio_task, tasks):
            nursery = next((each for each in nurseries_round(task) if id(each) in nurseries), None)
            if nursery is not None:
                inside[task] = nurseries[id(nursery)]
        return inside

    def _traces(self, task: AnyTask) -> set[int]:
        return traces(task, self._instance)

    def _avoided(self, sources: list[tuple[Owner, list[object]]]) -> set[int]:
        """Where no walk goes on: at what runs now, and at the instance, by which every fixture of the test's class
        would come to all that the test has there, and not only to what its code names.
        """
        ids = _ids_of_running()
        if not any(start is self._instance for _, starts in sources for start in starts):
            ids.add(id(self._instance))
        return ids

    def _sources(self) -> list[tuple[Owner, list[object]]]:
        return [(owner, [*owner.starts(), *self._value(owner)]) for owner in self._owners]

    def _value(self, owner: Owner) -> list[object]:
        argument = owner.name.removeprefix("fixture ")
        return [self._values[argument]] if argument in self._values else []


def _with_named(values: list[tuple[Owner, list[object]]]) -> list[tuple[Owner, list[object]]]:
    return [(owner, [*starts, *owner.named()]) for owner, starts in values]


def _held_by(owners: list[Owner], taken: Mapping[AnyTask, Owner]) -> list[tuple[Owner, list[object]]]:
    """What a task of an owner's holds it has as well."""
    held: dict[Owner, list[object]] = {}
    for task, owner in taken.items():
        held.setdefault(owner, []).append(task)
    return [(owner, held[owner]) for owner in owners if owner in held]


def _backend_of(task: AnyTask) -> Backend:
    backend = backend_of_task(task)
    assert backend is not None
    return backend


def _ids_of_running() -> set[int]:
    """What runs now is no way to a task: it is the test itself, or what runs tests and fixtures alike."""
    try:
        running: Any = backend_here().current_task()
    except RuntimeError:
        return set()
    return {id(running), id(coroutine_of(running))}


def _is_anybodys(thing: object) -> bool:
    """Whether it is a function that is there for all: who knows it need not have the thing that will call it."""
    if type(thing) is types.FunctionType:
        return "<locals>" not in thing.__code__.co_qualname
    return thing is None or type(thing) is types.BuiltinFunctionType
