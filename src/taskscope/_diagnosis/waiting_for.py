"""Who waits for a task to end, by whatever way, and can do nothing before: whoever ends the one can end the other."""

from __future__ import annotations

import functools
import gc
import types
from collections.abc import Iterator
from typing import Any

from taskscope._diagnosis.anyio_scopes import attribute, effective_scopes, is_of_backend
from taskscope._diagnosis.awaitables import done_callbacks, fields, is_future, is_task, waiter_of
from taskscope._diagnosis.groups import owning_group
from taskscope._diagnosis.opaque import class_of
from taskscope._diagnosis.outer_groups import waits_at_end
from taskscope._diagnosis.passing_on import METHODS


def waiting_for(host: Any) -> Iterator[Any]:
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


def has_busy_opener(task: Any, waited_for: set[int]) -> bool:
    """Whether a task is in a group whose opener does something else than to wait for its end, or for one in it.

    waited_for: the ids of what those wait for who wait for the task.
    """
    group, opener = owning_group(task)
    return opener is not None and not waits_at_end(opener, group) and id(waiter_of(opener)) not in waited_for


def _behind(callback: Any) -> list[object]:
    """What a callback is about to use."""
    kind = id(class_of(callback))
    if kind in METHODS:
        return [callback.__self__]
    if kind == id(functools.partial):
        return [callback.func, *callback.args, *callback.keywords.values()]
    if kind == id(types.FunctionType):
        return [ref for cell in callback.__closure__ or () for ref in gc.get_referents(cell)]
    return []
