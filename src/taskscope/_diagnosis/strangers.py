"""Who can end a body that was there before it began: a timer, say, or somebody who keeps its task to cancel it.

The search for a proof forgives a host as many references as there were when its body began, for its runner has some.
This is asked once that search has found a host stuck, and looks at who they are, which takes the garbage collector
through all of the heap, a few times. A runner has its task in frames that run, which the collector does not show.
Whoever it does show must be known to do nothing to the task but to wait.
"""

from __future__ import annotations

import gc
import inspect
import itertools
import sys
import types
import weakref
from collections.abc import Container, Iterable, Iterator
from typing import Any, Final, final

from taskscope._diagnosis.alive_on_loop import frames_of_other_threads, signal_handlers
from taskscope._diagnosis.anyio_scopes import class_of_backend, is_about_to_be_cancelled
from taskscope._diagnosis.awaitables import (
    FUTURES,
    TASKS,
    UNKNOWN,
    done_callbacks,
    field_of,
    fields,
    is_done,
    is_exactly,
    is_task,
    waiter_of,
)
from taskscope._diagnosis.awaited import AS_COMPLETED, GATHERING
from taskscope._diagnosis.awaiting import code_of
from taskscope._diagnosis.collector import get_referrers
from taskscope._diagnosis.opaque import class_of, ids_of_namespaces, package_of
from taskscope._diagnosis.passing_on import CALLABLES, is_of_libraries, passes_on
from taskscope._diagnosis.registries import callback_of
from taskscope._diagnosis.waiting_for import has_busy_opener, waiting_for

LEVELS: Final = 8
"""How many steps are gone back from a task to who holds it. Whoever is further away is a stranger."""

HOLDERS: Final = 100
"""How many holders the collector is asked for at once. It compares each reference of the heap with all of them."""

FROZEN_BY_ITSELF: Final = 1_000 if sys.version_info[:2] == (3, 12) else 0
"""Python 3.12 takes a few hundred objects of its own out of the collector's sight. `gc.freeze()` takes thousands."""

# They keep books of tasks. What they do to them is known, and looked at elsewhere.
_BOOKKEEPERS: Final = frozenset({"taskscope", "anyio"})

_ROOT: Final = "_root_task"


def why_it_can_be_ended(
    host: Any, tasks: list[Any], stuck: Container[int], all_tasks: Iterable[Any], registries: set[int]
) -> str | None:
    """Who has a task, or one that waits for it to end, and might do anything to it. None where nobody does.

    To be called while none of them runs.

    tasks: the list in which the caller has it, with others.
    stuck: the ids of those of them that do nothing any more, whatever they have.
    all_tasks: those of the loop.
    registries: the callbacks of registries that know tasks weakly.
    """
    if gc.get_freeze_count() > FROZEN_BY_ITSELF:
        return "objects were frozen (gc.freeze), of which some may hold the task of the body"
    if _Search(host, tasks, stuck, list(all_tasks), registries).finds_any():
        return "somebody who was there before the body holds its task, and may cancel it"
    return None


@final
class _Search:
    def __init__(
        self, host: Any, tasks: list[Any], stuck: Container[int], all_tasks: list[Any], registries: set[int]
    ) -> None:
        self._held = list(itertools.islice(waiting_for(host), HOLDERS + 1))
        self._tasks: list[Any] = [obj for obj in self._held if is_task(obj)]
        self._all_tasks = all_tasks
        self._registries = registries
        self._seen = {id(tasks), id(all_tasks), id(self._tasks), *map(id, self._held)}
        for task in (*self._tasks, *(task for task in tasks if id(task) in stuck)):
            self._seen.update(map(id, [*code_of(task), *done_callbacks(waiter_of(task))]))
        self._namespaces = ids_of_namespaces()

    def finds_any(self) -> bool:
        waited_for = set(map(id, self._held))
        if any(is_about_to_be_cancelled(task) or has_busy_opener(task, waited_for) for task in self._tasks):
            return True
        for _ in range(LEVELS):
            if len(self._held) > HOLDERS or self._is_held_out_of_sight() or self._is_held_by_strangers():
                return True
            if not self._held:
                return False
        return True

    def _is_held_out_of_sight(self) -> bool:
        """Whether it is held by what the collector does not show: signals, threads, weak references."""
        held = set(map(id, self._held))
        if any(id(obj) in held for obj in itertools.chain(signal_handlers(), _variables_of_other_threads())):
            return True
        return self._is_known_weakly()

    def _is_known_weakly(self) -> bool:
        """Whether anybody but registries is told of an end. Who has a plain weak reference is asked for as well."""
        references: list[Any] = [reference for obj in self._held for reference in weakref.getweakrefs(obj)]
        for reference in references:
            if not is_exactly(reference, weakref.ref):
                return True
            callback = callback_of(reference)
            if callback is None:
                self._held.append(reference)
            elif id(callback) not in self._registries:
                return True
        return False

    def _is_held_by_strangers(self) -> bool:
        """Goes one step back: to those whose holders are to be looked at next."""
        held = set(map(id, self._held))
        shown = self._referrers(held)
        if _are_called_by_others(self._held, shown):
            return True
        new = [holder for holder in shown if id(holder) not in self._seen]
        holders = [holder for holder in new if not self._only_knows(holder, held)]
        # The others may hold something else at a further step.
        self._seen.update(map(id, holders))
        if not all(map(self._is_known, holders)):
            return True
        self._held = [holder for holder in holders if passes_on(holder)]
        return False

    def _referrers(self, held: set[int]) -> list[Any]:
        found = get_referrers(*self._held)
        counts = _counts(found)
        shown = [obj for obj, count in zip(found, counts, strict=True) if obj is not self._held and count > _ALONE]
        # Tasks in C do not show all that they hold: not their done callbacks before 3.13, and no attributes.
        return shown + [task for task in self._all_tasks if any(id(ref) in held for ref in gc.get_referents(task))]

    def _only_knows(self, holder: Any, held: set[int]) -> bool:
        """Whether what it holds of that is who waits in it, or AnyIO's root task."""
        return _is_awaited(holder, held) or _has_root(holder, held) or self._is_awaited_as_completed(holder)

    def _is_awaited_as_completed(self, holder: Any) -> bool:
        """Whether it is what `as_completed` has returned, which since 3.14 knows by whom it was called."""
        if AS_COMPLETED is None or not is_exactly(holder, AS_COMPLETED):
            return False
        return not any(id(value) in self._seen for name, value in fields(holder).items() if name != "_cur_task")

    def _is_known(self, holder: Any) -> bool:
        kind: type[Any] = class_of(holder)
        if kind is types.FrameType:
            return True  # what it belongs to has ended, or is a coroutine that is shown as well
        if passes_on(holder):
            return id(holder) not in self._namespaces
        return package_of(kind) in _BOOKKEEPERS or is_of_libraries(holder)


def _has_root(holder: Any, held: set[int]) -> bool:
    """Whether it is AnyIO's dict of a loop's `RunVar`s, and holds only the task at whose end AnyIO ends threads.

    held: the ids of what is looked at.
    """
    variables: Any = fields(sys.modules.get("anyio.lowlevel")).get("_run_vars")
    if not is_exactly(variables, weakref.WeakKeyDictionary):
        return False
    if not is_exactly(holder, dict) or not any(holder is each for each in list(variables.data.values())):
        return False
    return all(_is_root(key) for key, value in holder.items() if id(value) in held)


def _is_root(key: object) -> bool:
    """Older versions of AnyIO know a `RunVar` by its name."""
    return key is class_of_backend(_ROOT) or (is_exactly(key, str) and key == _ROOT)


def _is_awaited(holder: Any, held: set[int]) -> bool:
    """Whether it is a future that knows only who awaits it, as they all do since 3.14."""
    if not any(is_exactly(holder, known) for known in (*FUTURES, *TASKS, GATHERING)) or is_done(holder):
        return False
    awaited_by: Any = field_of(holder, "_asyncio_awaited_by")
    strange = held if awaited_by is UNKNOWN else held.difference(map(id, awaited_by or ()))
    # With several it has them in a set, and nothing else in any.
    return not any(id(ref) in strange and not is_exactly(ref, set) for ref in gc.get_referents(holder))


def _are_called_by_others(held: list[Any], shown: list[Any]) -> bool:
    """Whether something of it is called by who is not shown: by C code, or in a frame that runs."""
    called = {id(obj) for obj in held if id(class_of(obj)) in CALLABLES}
    return bool(called) and not called <= {id(ref) for holder in shown for ref in gc.get_referents(holder)}


def _variables_of_other_threads() -> Iterator[object]:
    if sys.version_info < (3, 13):
        return  # it would leave a dict in each frame that keeps its variables alive
    for frame in frames_of_other_threads():
        if frame.f_code.co_flags & inspect.CO_OPTIMIZED:
            yield from list(frame.f_locals.values())


def _counts(objects: list[Any]) -> list[int]:
    return [sys.getrefcount(obj) for obj in objects]


# References to what nobody holds but such a list: what the collector itself was given, and shows as well.
_ALONE: Final = _counts([[]])[0]
