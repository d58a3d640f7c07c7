"""A task as plain data. Reads, never changes, and never raises: what it looks at can be broken in any way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from taskscope._diagnosis import tasks
from taskscope._diagnosis.folding import is_internal
from taskscope._diagnosis.stack import Chain, shown_frames
from taskscope._diagnosis.trio_groups import nursery_name, owning_nursery
from taskscope._diagnosis.trio_tasks import is_trio_task
from taskscope._diagnosis.verdict import verdict
from taskscope._report import TaskRecord
from taskscope._site import age_of, chain_of, site_of, stack_of
from taskscope._table import AnyTask, Row

REPR_LIMIT = 200


def describe(task: AnyTask, row: Row, chain: Chain | None) -> TaskRecord:
    """The record of a task.

    chain: its await chain, None to leave the stack out (a task that has ended has none).
    """
    spawn_chain, omitted = chain_of(row)
    return TaskRecord(
        name=safely(lambda: tasks.name_of(task), "<unknown>"),
        coroutine=coroutine_name(task) if chain is None else _coroutine_of(task, chain),
        verdict=None if chain is None else verdict(task, chain),
        stack=() if chain is None else shown_frames(chain),
        stack_note=None if chain is None else chain.note,
        spawn_site=site_of(row),
        spawn_stack=stack_of(row),
        spawn_chain=spawn_chain,
        spawn_chain_omitted=omitted,
        age=age_of(row),
    )


def _coroutine_of(task: AnyTask, chain: Chain) -> str:
    """The coroutine that a user has written, where AnyIO runs it inside of one of its own."""
    if not chain.links or not is_internal(chain.links[0].code):
        return coroutine_name(task)
    own = next((link.frame.function for link in chain.links if not is_internal(link.code)), None)
    return own or coroutine_name(task)


def coroutine_name(task: AnyTask) -> str:
    return safely(lambda: tasks.coroutine_name(task), "<unknown>")


def safely(read: Callable[[], Any], otherwise: str) -> str:
    """What `read` returns as a string, `otherwise` where it raises: task classes and reprs are users' code too."""
    try:
        return str(read())
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # a CancelledError too: it is not meant for who reads
        return otherwise


def safe_repr(value: object) -> str:
    text = safely(lambda: repr(value), f"<{type(value).__name__} whose repr raises>")
    return text if len(text) <= REPR_LIMIT else text[: REPR_LIMIT - 1] + "…"


def owning_group(task: AnyTask) -> tuple[Any, AnyTask | None]:
    """The task group that holds a task and the task that opened the group, both None where no group does.

    A group is known by the done callback that it puts on its tasks: a method of `asyncio.TaskGroup`, a closure of
    AnyIO's task group.
    """
    if is_trio_task(task):
        return owning_nursery(task)
    callbacks: Any = getattr(task, "_callbacks", None) or ()
    for callback, *_ in callbacks:
        group = getattr(callback, "__self__", None)
        if isinstance(group, asyncio.TaskGroup):
            return group, getattr(group, "_parent_task", None)
        group = _anyio_group(callback)
        if group is not None:
            return group, getattr(getattr(group, "cancel_scope", None), "_host_task", None)
    return None, None


def _anyio_group(callback: Any) -> Any:
    if getattr(callback, "__module__", None) != "anyio._backends._asyncio" or not callback.__closure__:
        return None
    cells = dict(zip(callback.__code__.co_freevars, callback.__closure__, strict=True))
    if "self" not in cells:
        return None
    group = cells["self"].cell_contents
    return group if hasattr(group, "cancel_scope") else None


def group_name(group: object, opener: AnyTask | None) -> str:
    if is_trio_task(opener):
        return nursery_name(group, opener)
    kind = "AnyIO task group" if type(group).__module__.startswith("anyio") else "TaskGroup"
    if opener is None:
        return kind
    return f"{kind} opened by task {safely(opener.get_name, '<unknown>')!r}"
