"""A task as plain data. Reads, never changes, and never raises: what it looks at can be broken in any way."""

from __future__ import annotations

from types import FrameType

from taskscope._diagnosis import tasks
from taskscope._diagnosis.awaitables import c_field
from taskscope._diagnosis.folding import is_internal
from taskscope._diagnosis.safely import safely
from taskscope._diagnosis.stack import Chain, Link, shown_frames
from taskscope._diagnosis.verdict import verdict
from taskscope._report import TaskRecord
from taskscope._site import age_of, chain_of, site_of, stack_of
from taskscope._table import AnyTask, Row


def describe(task: AnyTask, row: Row, chain: Chain | None) -> TaskRecord:
    """The record of a task.

    chain: its await chain, None to leave the stack out (a task that has ended has none).
    """
    spawn_chain, omitted = chain_of(row)
    return TaskRecord(
        name=safely(lambda: tasks.name_of(task), "<unknown>"),  # a user's factory may make what has no such method
        coroutine=coroutine_name(task, chain),
        verdict=None if chain is None else verdict(task, chain),
        stack=() if chain is None else shown_frames(chain),
        stack_note=None if chain is None else chain.note,
        spawn_site=site_of(row),
        spawn_stack=stack_of(row),
        spawn_chain=spawn_chain,
        spawn_chain_omitted=omitted,
        age=age_of(row),
    )


def coroutine_name(task: AnyTask, chain: Chain | None = None) -> str:
    """The name of the coroutine function that a task runs, or that AnyIO runs in it for a user."""
    if chain is not None and chain.links and is_internal(chain.links[0].code):
        return _outermost(chain).frame.function
    return safely(lambda: tasks.coroutine_name(task), "<unknown>")


def coroutine_names(task: AnyTask, chain: Chain) -> tuple[str, ...]:
    """The same, and once more with the module before it, where that can be told."""
    name = coroutine_name(task, chain)
    module = safely(lambda: _module(_outermost(chain).holder), "") if chain.links else ""
    return (name, f"{module}.{name}") if module else (name,)


def _outermost(chain: Chain) -> Link:
    """The outermost frame of a user's, or of whoever else has written what the task runs."""
    return next((link for link in chain.links if not is_internal(link.code)), chain.links[0])


def _module(holder: object) -> str:
    """The name of the module that a coroutine or generator comes from. Empty where that is not known."""
    for field in ("cr_frame", "gi_frame", "ag_frame"):
        frame = c_field(holder, field)
        if type(frame) is FrameType:
            module = frame.f_globals.get("__name__")
            return module if type(module) is str else ""
    return ""
