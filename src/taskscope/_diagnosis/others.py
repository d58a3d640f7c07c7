"""Whether anybody else than those at rest has what they have: see `AtRest`.

What is at rest is taken to do nothing, so that whoever else has it could do what the search for a proof does not see.
This goes back from there to who has it, to who has that, and so on. Whoever it comes upon must be at rest as well: in
the graph of the search and not reached there, of the family of those at rest, or in nobody's hands but those of the
functions that wait for the loop, whose stacks show nothing.
"""

from __future__ import annotations

import contextlib
import gc
import types
import weakref
from collections.abc import Container
from typing import Any, Final

from taskscope._diagnosis.alive_on_loop import frames_of_other_threads
from taskscope._diagnosis.code_ahead import is_library, module_in
from taskscope._diagnosis.collector import get_referrers
from taskscope._diagnosis.opaque import class_of, ids_of_namespaces, package_of
from taskscope._diagnosis.passing_on import CALLABLES, CONTAINERS
from taskscope._diagnosis.proof import AtRest, Resting
from taskscope._diagnosis.strangers import FROZEN_BY_ITSELF
from taskscope._diagnosis.subgraph import GENERATORS

LEVELS: Final = 12
"""How many steps are gone back."""

HOLDERS: Final = 500
"""How many holders the collector is asked for at once. It compares each reference of the heap with all of them."""

# What has things for somebody else, beside the containers: our own exit stacks, and tracebacks.
_KEEPERS: Final = frozenset(map(id, (contextlib.ExitStack, types.FrameType, types.TracebackType)))

# Whoever has one of these may call it, or have it go on.
_ACTING: Final = CALLABLES | GENERATORS


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
        asked = tuple(held)
        seen.update((id(held), id(asked)))
        found = [holder for holder in get_referrers(*asked) if id(holder) not in seen]
        del asked
        if any(id(holder) in namespaces or not _is_known(holder, at_rest) for holder in found):
            return True
        held = [holder for holder in found if not _is_of_family(holder, at_rest, began_at)]
        found.clear()
        if any(_acts_for_others(holder, held, at_rest) for holder in held):
            return True
    return True


def _others_run(at_rest: AtRest) -> bool:
    """Whether a user's function runs in another thread: it has things on its stack as well."""
    strange = (frame.f_globals for frame in frames_of_other_threads() if not is_library(frame.f_globals))
    return any(_package_in(namespace) not in at_rest.family for namespace in strange)


def _package_in(namespace: dict[str, Any]) -> str:
    return module_in(namespace).partition(".")[0]


def _is_on_the_way(holder: object, at_rest: AtRest, resting: Resting) -> bool:
    """Whether who has this comes to what a stuck task waits for."""
    if not issubclass(class_of(holder), at_rest.kinds):
        return False
    return any(id(ref) in resting.leading for ref in gc.get_referents(holder))


def _is_known(holder: object, at_rest: AtRest) -> bool:
    kind = class_of(holder)
    if id(kind) in CONTAINERS or id(kind) in _ACTING or id(kind) in _KEEPERS or issubclass(kind, at_rest.kinds):
        return True
    return package_of(kind) in at_rest.family


def _is_of_family(holder: Any, at_rest: AtRest, began_at: Container[int]) -> bool:
    """Whether it is one that nobody else makes use of, whoever has it.

    began_at: ids of where the search began. Of the kinds at rest those are more than family that have these.
    """
    kind = class_of(holder)
    if id(kind) in GENERATORS:
        frame = getattr(holder, "gi_frame", None)  # of hooks, which only pluggy has go on
        return frame is not None and _package_in(frame.f_globals) in at_rest.family
    if kind is types.FunctionType:
        return _package_in(holder.__globals__) in at_rest.family
    if kind is types.FrameType:  # in the traceback of a test that has failed
        return _package_in(holder.f_globals) in at_rest.family
    if issubclass(kind, at_rest.kinds):
        return not any(id(ref) in began_at for ref in gc.get_referents(holder))
    return package_of(kind) in at_rest.family


def _acts_for_others(holder: object, held: list[object], at_rest: AtRest) -> bool:
    """Whether it is something that acts and that nobody shows to have: C code has it, say, to call it at a signal."""
    if id(class_of(holder)) not in _ACTING or id(holder) in at_rest.references:
        return False
    return all(each is held for each in get_referrers(holder))
