"""A report in a sentence or two, for which no file has to be read."""

from __future__ import annotations

from collections import Counter

from taskscope._render.words import counted, listed, printable
from taskscope._report import FindingKind, Report, TaskRecord

_COROUTINES = 5

NOUNS: dict[FindingKind, str] = {
    "timer": "timer",
    "generator": "asynchronous generator",
    "executor": "call in a thread",
    "thread": "thread",
    "process": "process",
    "server": "server",
    "transport": "transport",
}
"""What outlives a scope beside tasks. Other findings are told otherwise."""


def summary(report: Report) -> str:
    """The headline of a report, and which coroutines were left."""
    if not report.leaks:
        return headline(report)
    return f"{headline(report)} Left: {_coroutines(report.leaks)}."


def headline(report: Report) -> str:
    """What a report comes down to, as one sentence."""
    return f"taskscope: {_sentence(report, f'scope {report.scope!r}')}."


def _sentence(report: Report, scope: str) -> str:
    leaks = len(report.leaks) + report.leaks_omitted
    if report.phase == "loop":
        tasks = counted(report.spawned, "task")
        return f"of the {tasks} of the event loop {leaks:,} {'is' if leaks == 1 else 'are'} proven to be deadlocked"
    if report.phase == "body":
        if report.body is None:
            return f"{scope} is open, {_of_spawned(leaks, report, 'is' if leaks == 1 else 'are')} alive"
        others = f", with {counted(leaks, 'other task')} pending" if leaks else ""
        stuck = report.body.verdict == "deadlocked"
        how = "could never have gone on, and was cancelled" if stuck else "was still running when its time was up"
        return f"the body of {scope} {how}{others}"
    if leaks:
        return f"{counted(leaks, 'task')} outlived {scope}{_what_became_of(report)}{_and_findings(report)}"
    if report.findings:
        return f"no task outlived {scope}, but {_findings(report, 'did')}"
    if report.late:
        return f"nothing outlived {scope}, but {counted(len(report.late), 'task')} ended only after its body had"
    return f"nothing outlived {scope}, in which {counted(report.spawned, 'task')} {_were(report.spawned)} spawned"


def _of_spawned(number: int, report: Report, verb: str) -> str:
    if report.spawned < number:  # some of them were adopted
        return f"{counted(number, 'task')} {verb}"
    return f"{number:,} of its {counted(report.spawned, 'task')} {verb}"


def _what_became_of(report: Report) -> str:
    survived = len(report.survivors)
    if survived:
        return f", and {survived:,} survived being cancelled"
    if all(leak.outcome == "cancelled" for leak in report.leaks) and not report.leaks_omitted:
        return f" and {_were(len(report.leaks))} cancelled"
    return ""


def _and_findings(report: Report) -> str:
    return f"; {_findings(report, 'outlived it too')}" if report.findings else ""


def _findings(report: Report, outlived: str) -> str:
    """What was found beside tasks that leaked, by number."""
    numbers = Counter(finding.kind for finding in report.findings)
    things = [counted(number, NOUNS[kind]) for kind, number in numbers.items() if kind in NOUNS]
    parts = [f"{_joined(things)} {outlived}"] if things else []
    if number := numbers["unretrieved"]:
        parts.append(f"{counted(number, 'exception')} {_were(number)} retrieved by nobody")
    if number := numbers["untracked"]:
        parts.append(f"{counted(number, 'task')} {_were(number)} made past the task factory")
    if number := len({finding.what for finding in report.findings if finding.kind == "closed-in-use"}):
        parts.append(f"{counted(number, 'resource')} {_were(number)} closed while in use")
    return _joined(parts)


def _joined(words: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _were(number: int) -> str:
    return "was" if number == 1 else "were"


def _coroutines(records: tuple[TaskRecord, ...]) -> str:
    counts = Counter(record.coroutine for record in records)
    words = [
        f"{number:,} x {printable(name)}" if number > 1 else printable(name) for name, number in counts.most_common()
    ]
    return listed(words, _COROUTINES)
