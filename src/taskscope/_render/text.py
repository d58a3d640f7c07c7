"""A report as text: what was left, where it hangs, who started it, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar, final

from taskscope._render.advice import advice_on_late, advice_on_leak
from taskscope._render.findings import STACKS, advice, details, grouped_findings, outcomes, title
from taskscope._render.findings import names as names_of
from taskscope._render.groups import Group, grouped
from taskscope._render.places import frame_lines
from taskscope._render.style import Paint, Role, painter
from taskscope._render.summary import headline
from taskscope._render.why import whys
from taskscope._render.words import clipped, counted, listed, printable, wrapped
from taskscope._report import Finding, Frame, Report, TaskRecord

NAMES_SHOWN = 5
NAME_WIDTH = 60
NO_NAME = "None"
"""What early releases of CPython 3.13 call a task that was given no name, where the loop has a task factory."""
GROUPS_SHOWN = 20
KINDS_SHOWN = 5
"""Of what can differ from task to task inside a group: outcomes, reasons, owners and the like."""

T = TypeVar("T")

_STEP = "    "
_COLUMN = " " * 14

_SECTIONS = (
    ("transferred", "Left to others"),
    ("ignored", "Left alone"),
    ("inherited", "Told already, by an inner scope that it survived"),
)


def render(report: Report, *, color: bool = False) -> str:
    """The text of a report, without a line break at its end."""
    return "\n".join(_Text(painter(color)).lines_of(report))


@final
class _Text:
    def __init__(self, paint: Paint) -> None:
        self._paint = paint

    def lines_of(self, report: Report) -> list[str]:
        role: Role = "good" if report.ok and report.phase == "exit" else "alarm"
        lines = [self._paint(role, line) for line in wrapped(headline(report), _STEP, "")]
        if report.tracking_lost is not None:
            lines += wrapped(f"Tracking was lost: {printable(report.tracking_lost)}.", _STEP, "")
        if report.body is not None:
            lines += ["", *self._group(Group((report.body,)), "The body")]
        lines += self._groups(report.leaks, None, advice_on_leak if report.phase == "exit" else _no_advice)
        if report.leaks_omitted:
            lines += ["", *wrapped(f"{counted(report.leaks_omitted, 'more task')}, too many to describe.", "")]
        lines += self._groups(report.late, "Late", advice_on_late)
        for field, heading in _SECTIONS:
            lines += self._groups(getattr(report, field), heading, _no_advice)
        lines += self._findings(report.findings)
        for words in report.coverage:
            lines += ["", *wrapped(printable(words), _STEP, "")]
        return lines

    def _findings(self, findings: Iterable[Finding]) -> list[str]:
        groups = grouped_findings(findings)
        lines: list[str] = []
        for group in groups[:GROUPS_SHOWN]:
            lines += ["", *self._finding(group)]
        hidden = groups[GROUPS_SHOWN:]
        if hidden:
            things = counted(sum(map(len, hidden)), "more finding")
            lines += ["", f"{things} in {counted(len(hidden), 'more group')}, see the report's data."]
        return lines

    def _finding(self, group: list[Finding]) -> list[str]:
        finding = group[0]
        lines = [self._paint("heading", line) for line in wrapped(title(group), _STEP, "")]
        lines += self._names("task", names_of(group))
        if finding.variable is not None:
            lines += self._labelled("held as", printable(finding.variable))
        if finding.held_in is not None:
            lines += self._frames("in", (finding.held_in,))
        if finding.spawn_site is not None:
            lines += self._frames("spawned at" if finding.task is not None else "started at", (finding.spawn_site,))
        lines += self._frames(STACKS.get(finding.kind, "at"), finding.stack)
        for label, kinds in (("detail", details(group)), ("outcome", outcomes(group))):
            for words, number in kinds[:KINDS_SHOWN]:
                times = "" if number == len(group) else f"{number:,} of them: "
                lines += self._labelled(label, times + printable(words))
        return lines + self._labelled("to do", advice(group))

    def _groups(self, records: Iterable[TaskRecord], heading: str | None, advice: Callable[[Group], str]) -> list[str]:
        groups = grouped(records)
        lines: list[str] = []
        for group in groups[:GROUPS_SHOWN]:
            lines += ["", *self._group(group, heading, advice(group))]
        hidden = groups[GROUPS_SHOWN:]
        if hidden:
            tasks = sum(len(group.records) for group in hidden)
            lines += [
                "",
                f"{counted(tasks, 'more task')} in {counted(len(hidden), 'more group')}, see the report's data.",
            ]
        return lines

    def _group(self, group: Group, heading: str | None, todo: str = "") -> list[str]:
        record = group.first
        lines = self._title(group, heading)
        lines += self._names("name", (name for name, _ in group.counted("name")))
        ages = group.ages()
        if ages is not None:
            lines += self._labelled("alive for", _seconds(*ages))
        lines += self._kinds("why", group, whys(group.records), str)
        lines += self._spawning(group)
        lines += self._kinds("too late", group, group.closed(), _too_late)
        lines += self._frames("waits in" if record.verdict != "runnable" else "stands at", record.stack)
        lines += self._kinds("note", group, group.counted("stack_note"), printable)
        lines += self._kinds("held by", group, group.counted("owner"), printable)
        lines += self._outcomes(group)
        return lines + self._labelled("to do", todo)

    def _names(self, noun: str, names: Iterable[str]) -> list[str]:
        given = [clipped(printable(name[: NAME_WIDTH + 1]), width=NAME_WIDTH) for name in names if name != NO_NAME]
        return self._labelled(noun if len(given) == 1 else f"{noun}s", listed(given, NAMES_SHOWN))

    def _title(self, group: Group, heading: str | None) -> list[str]:
        count = f"{len(group.records):,} x " if len(group.records) > 1 else ""
        what = count + printable(group.first.coroutine)
        verdicts = ", ".join(_times(number, group) + verdict for verdict, number in group.counted("verdict"))
        title = f"{what} ({verdicts})" if verdicts else what
        text = title if heading is None else f"{heading}: {title}"
        return [self._paint("heading", line) for line in wrapped(text, _STEP, "")]

    def _spawning(self, group: Group) -> list[str]:
        record = group.first
        if record.spawn_stack:
            lines = self._frames("spawned at", record.spawn_stack)
        elif record.spawn_site is not None:
            lines = self._frames("spawned at", (record.spawn_site,))
        else:
            lines = []
        lines += self._kinds("spawned", group, group.counted("closed_scope"), _from_closed)
        chains = group.spawn_chains()
        (chain, omitted), _ = chains[0]
        for frame in chain:
            lines += self._frames("by a task spawned at", (frame,))
        if omitted:
            lines += self._labelled("and so on", f"{counted(omitted, 'more ancestor')}")
        if len(chains) > 1:
            others = counted(len(chains) - 1, "other chain")
            lines += self._labelled("also by", f"{others} of tasks, see spawn_chain in the report's data")
        return lines

    def _outcomes(self, group: Group) -> list[str]:
        outcomes = self._kinds("outcome", group, group.outcomes(), _what_happened)
        reasons = self._kinds("because", group, group.reasons(), printable)
        return outcomes + reasons + self._kinds("rule", group, group.counted("rule"), printable)

    def _kinds(self, label: str, group: Group, kinds: list[tuple[T, int]], say: Callable[[T], str]) -> list[str]:
        """A line for each of the things that differ inside a group, most frequent first, up to a number."""
        lines: list[str] = []
        for kind, number in kinds[:KINDS_SHOWN]:
            lines += self._labelled(label, _times(number, group, ": ") + say(kind))
        others = sum(number for _, number in kinds[KINDS_SHOWN:])
        if others:
            lines += self._labelled(label, f"{others:,} of them something else, see the report's data")
        return lines

    def _frames(self, label: str, frames: tuple[Frame, ...]) -> list[str]:
        if not frames:
            return []
        return [f"  {self._paint('label', label)}", *frame_lines(frames, _STEP, self._paint)]

    def _labelled(self, label: str, text: str) -> list[str]:
        if not text.strip():
            return []
        first, *others = wrapped(text, _COLUMN, f"  {label:{len(_COLUMN) - 3}} ")
        return [first.replace(label, self._paint("label", label), 1), *others]


def _times(number: int, group: Group, end: str = " ") -> str:
    """How many of a group something is true of; nothing where it is all of them."""
    return "" if number == len(group.records) else f"{number:,} of them{end}"


def _what_happened(outcome: tuple[str, str | None]) -> str:
    what, detail = outcome
    return what if detail is None else f"{what}: {printable(detail)}"


def _from_closed(scope: str) -> str:
    return f"from the context of scope {scope!r}, which was closed"


def _too_late(resources: str) -> str:
    return f"closed before it ended, while it held them: {printable(resources)}"


def _no_advice(group: Group) -> str:
    return ""


def _seconds(least: float, most: float) -> str:
    youngest, oldest = f"{least:.2f}", f"{most:.2f}"
    return f"{oldest} s" if youngest == oldest else f"{youngest} to {oldest} s"
