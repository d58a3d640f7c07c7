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
import itertools
import sys
import threading
import types
from collections.abc import Container, Iterator
from typing import Any, Final, final

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
from taskscope._diagnosis.stack import task_chain

LEVELS: Final = 8
"""How many steps are gone back from a task to who holds it. Whoever is further away is a stranger."""

HOLDERS: Final = 100
"""How many holders the collector is asked for at once. It compares each reference of the heap with all of them."""

# Who has these has what they hold.
_CONTAINERS: Final = frozenset(
    {
        *(id(list), id(set), id(frozenset), id(tuple), id(dict), id(types.CellType)),
        *(id(collections.deque), id(collections.OrderedDict)),
    }
)
_METHODS: Final = frozenset(map(id, (types.MethodType, types.BuiltinMethodType)))
_CALLABLES: Final = _METHODS | {id(types.FunctionType), id(functools.partial)}

# They keep books of tasks. What they do to them is known, and looked at elsewhere.
_BOOKKEEPERS: Final = frozenset({"taskscope", "anyio"})

_ON_SIGINT: Final[Any] = getattr(asyncio.Runner, "_on_sigint", None)

_globals: Final[Any] = vars(types.ModuleType)["__dict__"].__get__


def why_it_can_be_ended(host: Any, tasks: list[Any], stuck: Container[int]) -> str | None:
    """Who has a task, or one that waits for it to end, and might do anything to it. None where nobody does.

    To be called while none of them runs.

    tasks: the list in which the caller has it, with others.
    stuck: the ids of those of them that do nothing any more, whatever they have.
    """
    if gc.get_freeze_count():
        return "objects were frozen (gc.freeze), of which some may hold the task of the body"
    if _Search(host, tasks, stuck).finds_any():
        return "somebody who was there before the body holds its task, and may cancel it"
    return None


@final
class _Search:
    def __init__(self, host: Any, tasks: list[Any], stuck: Container[int]) -> None:
        self._held = list(itertools.islice(_waiting_for(host), HOLDERS + 1))
        self._tasks: list[Any] = [obj for obj in self._held if is_task(obj)]
        self._seen = {id(tasks), id(self._tasks), *map(id, self._held)}
        for task in (*self._tasks, *(task for task in tasks if id(task) in stuck)):
            self._seen.update(map(id, _own(task)))
        self._globals = {id(_globals(module)) for module in list(sys.modules.values()) if _is_module(module)}

    def finds_any(self) -> bool:
        if any(map(is_about_to_be_cancelled, self._tasks)) or self._is_in_other_threads():
            return True
        for _ in range(LEVELS):
            if len(self._held) > HOLDERS or self._is_held_by_strangers():
                return True
            if not self._held:
                return False
        return True

    def _is_held_by_strangers(self) -> bool:
        """Goes one step back: to those whose holders are to be looked at next."""
        referrers = gc.get_referrers(*self._held)
        counts = _counts(referrers)
        holders = [
            holder
            for holder, count in zip(referrers, counts, strict=True)
            if id(holder) not in self._seen and holder is not self._held and count > _ALONE
        ]
        self._seen.update(map(id, holders))
        holders = [holder for holder in holders if not self._is_for_threads_of_anyio(holder)]
        if self._is_held_out_of_sight(referrers) or not all(map(self._is_known, holders)):
            return True
        self._held = [holder for holder in holders if _is_passed(holder)]
        return False

    def _is_held_out_of_sight(self, referrers: list[object]) -> bool:
        """Whether the collector does not show who would call something: signal handlers are held so."""
        called = {id(obj) for obj in self._held if id(class_of(obj)) in _CALLABLES}
        return bool(called) and not called <= {id(ref) for holder in referrers for ref in gc.get_referents(holder)}

    def _is_known(self, holder: Any) -> bool:
        kind: type[Any] = class_of(holder)
        if kind is types.FrameType:
            return True  # what it belongs to has ended, or is a coroutine that is shown as well
        if _is_passed(holder):
            return id(holder) not in self._globals
        if issubclass(kind, asyncio.TaskGroup) or package_of(kind) in _BOOKKEEPERS:
            return True
        return _is_of_libraries(holder) or self._is_awaited(holder)

    def _is_for_threads_of_anyio(self, holder: Any) -> bool:
        """Whether it holds only the task with whose end the threads end that AnyIO keeps: a dict of its `RunVar`s."""
        root = class_of_backend("_root_task")
        if root is UNKNOWN or not is_exactly(holder, dict):
            return False
        held = set(map(id, self._held))
        return all(key is root for key, value in holder.items() if id(value) in held)

    def _is_awaited(self, holder: Any) -> bool:
        """Whether it is a future that knows only who awaits it, as they all do since 3.14."""
        if not any(is_exactly(holder, known) for known in FUTURES + TASKS) or is_done(holder):
            return False
        held = set(map(id, self._held))
        awaited_by: Any = field_of(holder, "_asyncio_awaited_by")
        strange = held if awaited_by is UNKNOWN else held.difference(map(id, awaited_by or ()))
        # With several it has them in a set, and nothing else in any.
        return not any(id(ref) in strange and not is_exactly(ref, set) for ref in gc.get_referents(holder))

    def _is_in_other_threads(self) -> bool:
        """Whether one of the tasks is a variable of a function that runs in another thread."""
        held = set(map(id, self._held))
        return any(id(value) in held for value in _variables_of_other_threads())


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


def _is_passed(holder: Any) -> bool:
    kind = id(class_of(holder))
    if kind in _CONTAINERS or (kind in _CALLABLES and not _is_of_libraries(holder)):
        return True
    if is_exactly(holder, asyncio.Timeout):
        return fields(holder).get("_timeout_handler") is None
    return is_of_backend(holder, "TaskGroup") or is_of_backend(holder, "BlockingPortal")


def _is_of_libraries(holder: Any) -> bool:
    """Whether it is what a runner has called at Ctrl-C, or `gather`, `wait` and groups of AnyIO's when a task ends."""
    if is_exactly(holder, types.FunctionType):
        return is_of_library(holder.__code__)
    return is_exactly(holder, functools.partial) and getattr(holder.func, "__func__", None) is _ON_SIGINT


def _is_module(obj: object) -> bool:
    return issubclass(class_of(obj), types.ModuleType)


def _variables_of_other_threads() -> Iterator[object]:
    if sys.version_info < (3, 13):
        return  # it would leave a dict in each frame that keeps its variables alive
    own = threading.get_ident()
    for ident, innermost in sys._current_frames().items():  # pyright: ignore[reportPrivateUsage]
        frame: types.FrameType | None = None if ident == own else innermost
        while frame is not None:
            yield from list(frame.f_locals.values()) if frame.f_code.co_flags & 1 else ()
            frame = frame.f_back


def _counts(objects: list[object]) -> list[int]:
    return [sys.getrefcount(obj) for obj in objects]


# References to what nobody holds but such a list: what the collector itself was given, and shows as well.
_ALONE: Final = _counts([[]])[0]
