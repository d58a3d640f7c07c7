"""Why a task is still there, in a plain sentence for somebody who has never heard of this tool."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from taskscope._render.words import listed, printable
from taskscope._report import TaskRecord, Wait

_NAMES = 5


def whys(records: Sequence[TaskRecord]) -> list[tuple[str, int]]:
    """The different sentences about some tasks, each with its number, most frequent first.

    Tasks that wait for the same thing are told together who else could wake them.
    """
    together: dict[Wait | None, dict[str, None]] = {}
    for record in records:
        together.setdefault(record.wait, {}).update(dict.fromkeys(record.stuck_with))
    return Counter(
        why(replace(record, stuck_with=tuple(sorted(together[record.wait])))) for record in records
    ).most_common()


def why(record: TaskRecord) -> str:
    """The sentence, without a full stop; empty where the verdict says it all or nothing is known."""
    wait = record.wait
    if record.verdict is None:
        return ""
    if record.verdict == "runnable":
        return "nothing keeps it from going on: it has not had its turn yet, or it is busy"
    if wait is None:
        return ""
    if record.verdict == "deadlocked":
        return f"it can never end: it {_waits(wait)}, and {_who_could(record)}"
    if wait.is_cycle:
        return f"it {_waits(wait)}: they wait for each other, so none of them can go on"
    return f"it {_waits(wait)}"


def _waits(wait: Wait) -> str:
    detail = "" if wait.detail is None else f" ({printable(wait.detail)})"
    if wait.kind == "timer":
        return f"sleeps{detail}"
    if wait.kind == "future":
        return f"waits in {printable(wait.primitive)} for a future that nobody has set{detail}"
    if wait.path:
        return f"waits for {_path(wait)}{detail}"
    return f"waits in {printable(wait.primitive)}{detail}"


def _path(wait: Wait) -> str:
    names = [f"task {printable(name)!r}" for name in wait.path]
    way = ", which waits for ".join(names)
    others = len(wait.awaited) - 1
    by = "" if wait.primitive == "task" else f", in {printable(wait.primitive)}"
    return f"{way}{by}" if others <= 0 else f"{way}{by}, and for {others} more"


def _who_could(record: TaskRecord) -> str:
    if not record.stuck_with:
        return "nothing that can still run has a way to wake it"
    others = listed([repr(printable(name)) for name in record.stuck_with], _NAMES)
    return f"only tasks that are stuck themselves could wake it: {others}"
