"""Whether anybody else than those at rest has what they have: see `AtRest`.

What is at rest is taken to do nothing, so that whoever else has it could do what the search for a proof does not see.
This goes back from there to who has it, to who has that, and so on. Whoever it comes upon must be at rest as well: in
the graph of the search and not reached there, of the family of those at rest, or in nobody's hands but those of the
functions that wait for the loop, whose stacks show nothing.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import types
import weakref
from collections.abc import Container
from typing import Any, Final

from taskscope._diagnosis.alive_on_loop import frames_of_other_threads
from taskscope._diagnosis.code_ahead import is_library, module_in
from taskscope._diagnosis.collector import get_referrers
from taskscope._diagnosis.opaque import class_of, ids_of_namespaces, module_of, package_of
from taskscope._diagnosis.passing_on import CONTAINERS, METHODS
from taskscope._diagnosis.proof import AtRest, Resting
from taskscope._diagnosis.strangers import FROZEN_BY_ITSELF

LEVELS: Final = 12
"""How many steps are gone back."""

HOLDERS: Final = 2_000
"""How many holders are looked for at one step."""

AT_ONCE: Final = 500
"""How many of them the collector is asked for at once. It compares each reference of the heap with all of them."""

_OURS: Final = "taskscope"

# What has things for somebody else, beside the containers: exit stacks, and tracebacks.
_KEEPERS: Final = frozenset(map(id, (contextlib.ExitStack, types.TracebackType)))


def others_have_it(at_rest: AtRest, resting: Resting) -> bool:
    """Whether what is at rest is known to anybody else, or might be.

    To be asked when nothing of the search is left, which would be among the holders.
    """
    if gc.get_freeze_count() > FROZEN_BY_ITSELF or _others_run(at_rest):
        return True
    on_the_way = [holder for holder in at_rest.holders if _is_on_the_way(holder, at_rest, resting)]
    held = list({id(holder): holder for holder in (*resting.taken, *on_the_way)}.values())
    began_at = frozenset(map(id, held))
    seen = {*map(id, (at_rest.holders, resting.taken, on_the_way)), *resting.objects}
    namespaces = ids_of_namespaces()
    for _ in range(LEVELS):
        if not held:
            return False
        if len(held) > HOLDERS or any(map(weakref.getweakrefcount, held)):
            return True
        seen.update(map(id, held))
        found = _holders_of(held, seen)
        if any(id(holder) in namespaces or not _is_known(holder, at_rest) for holder in found):
            return True
        held = [holder for holder in found if not _is_at_its_end(holder, at_rest, began_at)]
        found.clear()
    return True


def _holders_of(held: list[object], seen: set[int]) -> list[object]:
    found: dict[int, object] = {}
    seen |= {id(held), id(found)}
    for number in range(0, len(held), AT_ONCE):
        asked = tuple(held[number : number + AT_ONCE])
        seen.add(id(asked))
        found.update((id(holder), holder) for holder in get_referrers(*asked) if id(holder) not in seen)
        seen.discard(id(asked))
    return list(found.values())


def _others_run(at_rest: AtRest) -> bool:
    """Whether a user's function runs in another thread: it has things on its stack as well."""
    strange = (frame.f_globals for frame in frames_of_other_threads() if not is_library(frame.f_globals))
    return any(_package_in(namespace) not in at_rest.family for namespace in strange)


def _package_in(namespace: dict[str, Any]) -> str:
    return module_in(namespace).partition(".")[0]


def _is_on_the_way(holder: object, at_rest: AtRest, resting: Resting) -> bool:
    """Whether who has this comes to what a stuck task waits for, as by the test itself, which can ask for anything."""
    if not issubclass(class_of(holder), at_rest.kinds):
        return False
    return holder is at_rest.holders[0] or any(id(ref) in resting.leading for ref in gc.get_referents(holder))


def _is_known(holder: Any, at_rest: AtRest) -> bool:
    """Whether it is nothing of a user's. A function that somebody has put into an object of the family's is one."""
    kind = class_of(holder)
    if id(kind) in CONTAINERS or id(kind) in _KEEPERS or issubclass(kind, at_rest.kinds):
        return True
    if kind is functools.partial:
        return _is_known(holder.func, at_rest)
    if kind is types.MethodType:
        return _is_known(holder.__func__, at_rest)
    if kind is types.BuiltinMethodType:
        return id(class_of(holder.__self__)) in CONTAINERS
    if kind is types.GeneratorType and holder.__name__.startswith(at_rest.hooks):
        return True
    namespace = _namespace_of(holder)
    if namespace is not None:
        return _package_in(namespace) in at_rest.family or _is_of_exit_stack(holder)
    return package_of(kind) == _OURS or (module_of(kind), kind.__name__) in at_rest.keepers


def _namespace_of(holder: Any) -> dict[str, Any] | None:
    """The globals of code. None for what is none, empty for what has ended."""
    kind = class_of(holder)
    found: dict[str, Any] | None = None
    if kind is types.FunctionType:
        found = holder.__globals__
    elif kind is types.FrameType:  # in the traceback of a test that has failed
        found = holder.f_globals
    elif kind is types.GeneratorType:
        found = {} if holder.gi_frame is None else holder.gi_frame.f_globals
    return found


def _is_at_its_end(holder: Any, at_rest: AtRest, began_at: Container[int]) -> bool:
    """Whether nobody makes use of it, whoever has it.

    began_at: ids of where the search began. Of the kinds at rest those are asked for that have one of these.
    """
    kind = class_of(holder)
    if issubclass(kind, at_rest.kinds):
        return not any(id(ref) in began_at for ref in gc.get_referents(holder))
    is_followed = id(kind) in CONTAINERS or id(kind) in _KEEPERS or id(kind) in METHODS
    return not (is_followed or kind is functools.partial or _is_of_exit_stack(holder))


def _is_of_exit_stack(holder: Any) -> bool:
    """Whether it is the function that an exit stack makes of a callback and its arguments."""
    return class_of(holder) is types.FunctionType and _package_in(holder.__globals__) == "contextlib"
