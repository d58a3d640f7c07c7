"""Who can end a body that was there before it began: a timer, say, or somebody who keeps its task to cancel it.

The search for a proof forgives a host as many references as there were when its body began, for its runner has some.
This is asked once that search has found a host stuck, and looks at who they are, which takes the garbage collector
through all of the heap, a few times. A runner has its task in frames that run, which the collector does not show.
Whoever it does show must be known to do nothing to the task but to wait.
"""

from __future__ import annotations

import asyncio
import collections
import functools
import gc
import inspect
import itertools
import sys
import types
import weakref
from collections.abc import Container, Iterable, Iterator
from typing import Any, Final, final

from taskscope._diagnosis.alive_on_loop import frames_of_other_threads, signal_handlers
from taskscope._diagnosis.anyio_scopes import (
    attribute,
    class_of_backend,
    effective_scopes,
    is_about_to_be_cancelled,
    is_of_backend,
)
from taskscope._diagnosis.awaitables import (
    FUTURES,
    TASKS,
    UNKNOWN,
    done_callbacks,
    field_of,
    fields,
    is_done,
    is_exactly,
    is_future,
    is_task,
    is_wrapper,
    waiter_of,
)
from taskscope._diagnosis.folding import is_of_library
from taskscope._diagnosis.groups import owning_group
from taskscope._diagnosis.opaque import class_of, package_of
from taskscope._diagnosis.outer_groups import waits_at_end
from taskscope._diagnosis.stack import task_chain

LEVELS: Final = 8
"""How many steps are gone back from a task to who holds it. Whoever is further away is a stranger."""

HOLDERS: Final = 100
"""How many holders the collector is asked for at once. It compares each reference of the heap with all of them."""

_FROZEN_BY_ITSELF: Final = 1_000 if sys.version_info[:2] == (3, 12) else 0
"""Python 3.12 takes a few hundred objects of its own out of the collector's sight. `gc.freeze()` takes thousands."""

_ITERATORS: Final = frozenset(
    {
        *(id(type(iter(list[object]()))), id(type(iter(tuple[object]()))), id(type(iter(set[object]())))),
        *(id(type(iter(view))) for view in (dict[object, object]().values(), dict[object, object]().items())),
        *(id(type(iter(dict[object, object]()))), id(type(reversed(list[object]()))), id(enumerate), id(zip)),
    }
)

# Who has these has what they hold.
_CONTAINERS: Final = _ITERATORS | frozenset(
    {
        *(id(list), id(set), id(frozenset), id(tuple), id(dict), id(types.CellType)),
        *(id(collections.deque), id(collections.OrderedDict)),
    }
)
_METHODS: Final = frozenset(map(id, (types.MethodType, types.BuiltinMethodType)))
_CALLABLES: Final = _METHODS | {id(types.FunctionType), id(functools.partial)}

# They keep books of tasks. What they do to them is known, and looked at elsewhere.
_BOOKKEEPERS: Final = frozenset({"taskscope", "anyio"})

# What is called at Ctrl-C, and when a task of a group ends.
_KNOWN_METHODS: Final = (getattr(asyncio.Runner, "_on_sigint", None), getattr(asyncio.TaskGroup, "_on_task_done", None))

_callback: Final[Any] = weakref.ref.__dict__["__callback__"].__get__
_ROOT: Final = "_root_task"

_globals: Final[Any] = vars(types.ModuleType)["__dict__"].__get__


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
    if gc.get_freeze_count() > _FROZEN_BY_ITSELF:
        return "objects were frozen (gc.freeze), of which some may hold the task of the body"
    if _Search(host, tasks, stuck, list(all_tasks), registries).finds_any():
        return "somebody who was there before the body holds its task, and may cancel it"
    return None


@final
class _Search:
    def __init__(
        self, host: Any, tasks: list[Any], stuck: Container[int], all_tasks: list[Any], registries: set[int]
    ) -> None:
        self._held = list(itertools.islice(_waiting_for(host), HOLDERS + 1))
        self._tasks: list[Any] = [obj for obj in self._held if is_task(obj)]
        self._all_tasks = all_tasks
        self._registries = registries
        self._seen = {id(tasks), id(all_tasks), id(self._tasks), *map(id, self._held)}
        for task in (*self._tasks, *(task for task in tasks if id(task) in stuck)):
            self._seen.update(map(id, _own(task)))
        self._globals = {id(_globals(module)) for module in list(sys.modules.values()) if _is_module(module)}

    def finds_any(self) -> bool:
        waiting_for = set(map(id, self._held))
        if any(is_about_to_be_cancelled(task) or _has_busy_opener(task, waiting_for) for task in self._tasks):
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
            callback = _callback(reference)
            if callback is None:
                self._held.append(reference)
            elif id(callback) not in self._registries:
                return True
        return False

    def _is_held_by_strangers(self) -> bool:
        """Goes one step back: to those whose holders are to be looked at next."""
        shown = self._referrers()
        if _are_called_by_others(self._held, shown):
            return True
        holders = [holder for holder in shown if id(holder) not in self._seen]
        holders = [holder for holder in holders if not self._is_awaited(holder) and not self._has_root_of_anyio(holder)]
        # Those two may hold something else at a further step.
        self._seen.update(map(id, holders))
        if not all(map(self._is_known, holders)):
            return True
        self._held = [holder for holder in holders if _is_passed(holder)]
        return False

    def _referrers(self) -> list[Any]:
        found = gc.get_referrers(*self._held)
        counts = _counts(found)
        shown = [obj for obj, count in zip(found, counts, strict=True) if obj is not self._held and count > _ALONE]
        # Tasks in C do not show all that they hold: not their done callbacks before 3.13, and no attributes.
        held = set(map(id, self._held))
        return shown + [task for task in self._all_tasks if any(id(ref) in held for ref in gc.get_referents(task))]

    def _is_known(self, holder: Any) -> bool:
        kind: type[Any] = class_of(holder)
        if kind is types.FrameType:
            return True  # what it belongs to has ended, or is a coroutine that is shown as well
        if _is_passed(holder):
            return id(holder) not in self._globals
        return package_of(kind) in _BOOKKEEPERS or _is_of_libraries(holder)

    def _has_root_of_anyio(self, holder: Any) -> bool:
        """Whether it is AnyIO's dict of a loop's `RunVar`s, and holds only the task at whose end AnyIO ends threads."""
        variables: Any = fields(sys.modules.get("anyio.lowlevel")).get("_run_vars")
        if not is_exactly(variables, weakref.WeakKeyDictionary):
            return False
        if not is_exactly(holder, dict) or not any(holder is each for each in list(variables.data.values())):
            return False
        held = set(map(id, self._held))
        return all(_is_root(key) for key, value in holder.items() if id(value) in held)

    def _is_awaited(self, holder: Any) -> bool:
        """Whether it is a future that knows only who awaits it, as they all do since 3.14."""
        if not any(is_exactly(holder, known) for known in FUTURES + TASKS) or is_done(holder):
            return False
        held = set(map(id, self._held))
        awaited_by: Any = field_of(holder, "_asyncio_awaited_by")
        strange = held if awaited_by is UNKNOWN else held.difference(map(id, awaited_by or ()))
        # With several it has them in a set, and nothing else in any.
        return not any(id(ref) in strange and not is_exactly(ref, set) for ref in gc.get_referents(holder))


def _is_root(key: object) -> bool:
    """Older versions of AnyIO know a `RunVar` by its name."""
    return key is class_of_backend(_ROOT) or (is_exactly(key, str) and key == _ROOT)


def _waiting_for(host: Any) -> Iterator[Any]:
    """A task, with the tasks that wait for it or have it in their groups, those that wait for these, and so on.

    Also the futures between them, and the cancel scopes in which they have been put by somebody else.
    """
    found = [host]
    seen = {id(host)}
    for future in found:  # which grow meanwhile
        yield future
        if not is_future(future):
            continue
        ahead: list[object] = [*done_callbacks(future)]
        if is_task(future):
            group, opener = owning_group(future)
            ahead += [opener, fields(group).get("_on_completed_fut")]
            ahead += [scope for scope in effective_scopes(future) if attribute(scope, "_host_task") is not host]
        for obj in ahead:  # which grow meanwhile
            if obj is None or id(obj) in seen:
                continue
            seen.add(id(obj))
            if is_future(obj) or is_of_backend(obj, "CancelScope"):
                found.append(obj)
            else:
                ahead += _behind(obj)


def _has_busy_opener(task: Any, waiting_for: set[int]) -> bool:
    """Whether a task is in a group whose opener does something else than to wait for its end, or for one in it.

    waiting_for: the ids of what those wait for who wait for the task.
    """
    group, opener = owning_group(task)
    return opener is not None and not waits_at_end(opener, group) and id(waiter_of(opener)) not in waiting_for


def _behind(callback: Any) -> list[object]:
    """What a callback is about to use."""
    kind = id(class_of(callback))
    if kind in _METHODS:
        return [callback.__self__]
    if kind == id(functools.partial):
        return [callback.func, *callback.args, *callback.keywords.values()]
    if kind == id(types.FunctionType):
        return [ref for cell in callback.__closure__ or () for ref in gc.get_referents(cell)]
    return []


def _own(task: Any) -> Iterator[object]:
    """The coroutines that a task is in, what stands between them and what it waits for, and what that is to call."""
    yield from done_callbacks(waiter_of(task))
    coroutines = [link.holder for link in task_chain(task).links if type(link.holder) is not types.CodeType]
    yield from coroutines
    if coroutines:
        yield from (ref for ref in gc.get_referents(coroutines[-1]) if is_wrapper(ref))


def _are_called_by_others(held: list[Any], shown: list[Any]) -> bool:
    """Whether something of it is called by who is not shown: by C code, or in a frame that runs."""
    called = {id(obj) for obj in held if id(class_of(obj)) in _CALLABLES}
    return bool(called) and not called <= {id(ref) for holder in shown for ref in gc.get_referents(holder)}


def _is_passed(holder: Any) -> bool:
    """Whether who has this has what it holds, so that it is to be asked who has this."""
    kind = id(class_of(holder))
    if kind in _CONTAINERS or (kind in _CALLABLES and not _is_of_libraries(holder)):
        return True
    if is_exactly(holder, asyncio.Timeout):
        return fields(holder).get("_timeout_handler") is None
    return (
        is_exactly(holder, asyncio.TaskGroup)
        or is_of_backend(holder, "TaskGroup")
        or is_of_backend(holder, "BlockingPortal")
    )


def _is_of_libraries(holder: Any) -> bool:
    """Whether it is what a runner has called at Ctrl-C, or `gather`, `wait` and groups when a task ends.

    Nobody else has these but the other tasks that are waited for, and what these do when they end does not count.
    """
    if is_exactly(holder, functools.partial):
        holder = holder.func
    if is_exactly(holder, types.MethodType):
        return holder.__func__ in _KNOWN_METHODS
    return (
        is_exactly(holder, types.FunctionType) and is_of_library(holder.__code__) and not _waits_for_one_of_many(holder)
    )


def _waits_for_one_of_many(function: Any) -> bool:
    """Whether it is what `asyncio.wait` has called at the end of a task, and goes on when another one ends."""
    if function.__code__.co_qualname != "_wait.<locals>._on_completion":
        return False
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    return "return_when" in cells and cells["return_when"].cell_contents != asyncio.ALL_COMPLETED


def _is_module(obj: object) -> bool:
    return issubclass(class_of(obj), types.ModuleType)


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
