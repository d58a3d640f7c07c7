"""What was found beside tasks, as text: things of one kind from one place are told once."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Final

from taskscope._render.words import counted, printable
from taskscope._report import Finding, FindingKind

HEADINGS: Final[dict[FindingKind, str]] = {
    "closed-in-use": "Closed in use",
    "timer": "Timer",
    "generator": "Asynchronous generator",
    "executor": "Work in a thread",
    "thread": "Thread",
    "process": "Process",
    "server": "Server",
    "transport": "Transport",
    "unretrieved": "Exception that nobody has retrieved",
    "untracked": "Task made past the task factory",
}

STACKS: Final[dict[FindingKind, str]] = {
    "timer": "defined at",
    "generator": "suspended at",
    "executor": "stands at",
    "thread": "stands at",
    "unretrieved": "raised at",
}

_ADVICE: Final[dict[FindingKind, str]] = {
    "closed-in-use": "wait for the task before the resource is closed",
    "timer": "keep what call_later returns, and cancel it when the body ends",
    "generator": "close it: async with contextlib.aclosing(...)",
    "executor": "wait for it before the body ends: a thread cannot be cancelled",
    "thread": "join it before the body ends",
    "process": "wait for it before the body ends, or terminate it and wait then",
    "server": "close it: async with server, or server.close() and await server.wait_closed()",
    "transport": "close it: writer.close() and await writer.wait_closed(), or transport.close()",
    "unretrieved": "await the task, or ask for task.exception()",
    "untracked": "make tasks with asyncio.create_task or in a task group",
}


# What is said of a task that still held a resource. Two of them are told together also if the seconds differ.
_ENDED: Final = re.compile(r"it ended (\d+\.\d{3}) s after the resource was closed")


def grouped_findings(findings: Iterable[Finding]) -> list[list[Finding]]:
    """Findings of one kind that come from one place, in the order in which they were found."""
    groups: dict[object, list[Finding]] = {}
    for finding in findings:
        task = finding.task
        coroutine = None if task is None else task.coroutine
        resource = finding.what if finding.kind == "closed-in-use" else None
        where = (finding.spawn_site, finding.stack, finding.held_in, finding.variable, coroutine, resource)
        key = (finding.kind, *where) if any(where) else (finding.kind, finding.what)
        groups.setdefault(key, []).append(finding)
    return list(groups.values())


def title(group: list[Finding]) -> str:
    """What a group is."""
    finding = group[0]
    heading = HEADINGS[finding.kind]
    if finding.kind == "closed-in-use":
        tasks = counted(len(group), "task")
        return f"{heading}: {printable(finding.what)}, which {tasks} still held"
    times = "" if len(group) == 1 else f"{len(group):,} x "
    return f"{heading}: {times}{printable(finding.what)}"


def outcomes(group: list[Finding]) -> list[tuple[str, int]]:
    """What became of the things of a group, most frequent first. Of a closed resource the details have it."""
    if group[0].kind == "closed-in-use":
        return []
    return Counter(finding.outcome for finding in group if finding.outcome is not None).most_common()


def details(group: list[Finding]) -> list[tuple[str, int]]:
    """What else is known of a group, most frequent first. Of what differs in nothing but the seconds, the most."""
    if group[0].kind != "closed-in-use":
        return Counter(finding.detail for finding in group if finding.detail is not None).most_common()
    kinds: dict[tuple[bool, str], list[str]] = {}
    for finding in group:
        if finding.detail is not None:
            found = _ENDED.match(finding.detail)
            how = finding.detail if found is None else finding.detail[len(found[0]) :]
            kinds.setdefault((found is not None, how), []).append("0" if found is None else found[1])
    counts = sorted(kinds.items(), key=lambda item: -len(item[1]))
    return [
        (_end_of_tasks(how, seconds) if ended else _of(len(seconds), how), len(seconds))
        for (ended, how), seconds in counts
    ]


def _end_of_tasks(how: str, seconds: list[str]) -> str:
    """What became of tasks that held a closed resource.

    how: what is said of the end beyond the time.
    """
    at_most = "" if len(seconds) == 1 else "up to "
    when = f"it ended {at_most}{max(seconds, key=float)} s after the resource was closed"
    return _of(len(seconds), when + how)


def _of(number: int, text: str) -> str:
    """What is said of one task, as it is said of so many."""
    return f"they{text.removeprefix('it')}" if number > 1 and text.startswith("it ") else text


def names(group: list[Finding]) -> list[str]:
    """The names of the tasks that a group is about."""
    return list(dict.fromkeys(finding.task.name for finding in group if finding.task is not None))


def advice(group: list[Finding]) -> str:
    if group[0].kind == "closed-in-use" and len(group) > 1:
        return "wait for the tasks before the resource is closed"
    return _ADVICE[group[0].kind]
