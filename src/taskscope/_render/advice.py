"""What to do about a leak, in a sentence for the one who has to do it."""

from __future__ import annotations

from taskscope._render.groups import Group
from taskscope._render.places import is_in_event_loop_library
from taskscope._render.words import printable
from taskscope._report import Frame

_GROUP = 'where a task group opened outside the scope answers for it, open the scope with outer_groups="transfer"'
_FROM_THREAD = "run_coroutine_threadsafe"
_HAND_OFF = "if it is meant to outlive the scope, say so with taskscope.hand_off(task, reason=...)"


def advice_on_late(group: Group) -> str:
    it = "it" if len(group.records) == 1 else "them"
    return f"wait for {it} before the body ends: what a late task uses can be closed by then"


def advice_on_leak(group: Group) -> str:
    it = "it" if len(group.records) == 1 else "them"
    if any(record.outcome == "survived" for record in group.records):
        return _advice_on_survivor(group, it)
    if str(group.first.owner).startswith("nursery"):
        nursery = f"spawn {it} into a nursery that is opened inside the scope, or have {it} end before the scope does"
        return f"{nursery}; {_GROUP}; {_HAND_OFF}"
    group_too = "" if group.first.owner is None else f"; {_GROUP}"
    return f"{_how_to_wait(group.first.spawn_site, it)}{group_too}; {_HAND_OFF}"


def _how_to_wait(spawn_site: Frame | None, it: str) -> str:
    if spawn_site is None:
        return f"wait for {it}, or cancel and await {it} in a `finally`"
    if not is_in_event_loop_library(spawn_site):
        function = printable(spawn_site.function)
        return f"wait for {it} in {function}, or cancel and await {it} in a `finally` there"
    if spawn_site.function.startswith(_FROM_THREAD):
        return f"wait for what {_FROM_THREAD}() has returned where it was called, or cancel that there"
    return f"end whatever has started {it}, and wait for {it}"


def _advice_on_survivor(group: Group, it: str) -> str:
    if any("shielded" in str(record.outcome_detail) for record in group.records):
        return f"do less in the shielded cancel scope, or give {it} more time by cancel_timeout=. Then wait for {it}"
    return (
        f"let {it} be cancelled: re-raise the cancellation where it is caught. "
        f"Then wait for {it}, or cancel and await {it} in a `finally`"
    )
