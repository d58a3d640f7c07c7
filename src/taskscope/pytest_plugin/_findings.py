"""What was found, as data that can travel from a worker of pytest-xdist to its controller."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from taskscope._report import Report


@dataclass(slots=True)
class Finding:
    """One report that has leaks, or things beside them, or of a body that was ended.

    Attributes:
        owner: The test's node id, or what the fixture is called.
        kind: What that is: `"test"`, `"fixture"`, `"case"` (of unittest's), or `"loop"` for what was spawned when
            whoever spawned it had been judged.
        outcome: What became of it: `"failed"` (the test, or the run where no test could), `"warned"`, `"logged"`,
            `"told"` (in the summary only: the test is skipped, or `on_leak` says so), `"ignored"`, `"called"` (a
            function of the user's), `"expected"`, `"xfailed"`, or `"rerun"` (the test fails for it, and runs again).
        nodeid: The test in whose setup, call or teardown it was found. For a fixture that is torn down while another
            test is set up, with the next parameter, the test that it was set up for.
        phase: Which of these it was: `"setup"`, `"call"`, `"teardown"`, or `"end"` of the session.
        report: The report, as `Report.to_dict` has it.
        text: The report as text.
        worker: Name of the pytest-xdist worker, None without.
    """

    owner: str
    kind: str
    outcome: str
    nodeid: str
    phase: str
    report: dict[str, Any]
    text: str
    worker: str | None = None

    @property
    def number(self) -> int:
        """How many tasks were left, those included that the report does not describe."""
        return len(self.report["leaks"]) + int(self.report["leaks_omitted"])

    @property
    def things(self) -> list[dict[str, Any]]:
        """What was found beside tasks, as `Report.to_dict` has it."""
        found: list[dict[str, Any]] = self.report["findings"]
        return found

    @property
    def is_of_body(self) -> bool:
        """Whether it is about a body that was ended, and not about what it has left."""
        return bool(self.report["phase"] == "body")

    def who_left(self, leak: dict[str, Any]) -> str:
        """Who has left a task: the test that spawned it, where it was found later than at that test's end."""
        return self.who() if leak["closed_scope"] is None else str(leak["closed_scope"])

    def who(self) -> str:
        """Who has left what was found."""
        return f"{self.owner} of {self.nodeid}" if self.kind in ("fixture", "finalizer") and self.nodeid else self.owner

    def why_ended(self) -> str:
        """Why a body was ended."""
        body = self.report["body"]
        return "it was deadlocked" if body is not None and body["verdict"] == "deadlocked" else "its time was up"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(slots=True)
class Counts:
    """What is counted over a session beside findings: late tasks by where they were spawned, ignored ones by rule."""

    late: Counter[str] = field(default_factory=Counter[str])
    ignored: Counter[str] = field(default_factory=Counter[str])

    def note(self, report: Report) -> None:
        for record in report.late:
            site = record.spawn_site
            where = record.coroutine if site is None else f"{record.coroutine}, spawned at {site.file}:{site.line}"
            self.late[where] += 1
        self.ignored.update(record.rule for record in report.ignored if record.rule is not None)

    def add(self, other: dict[str, dict[str, int]]) -> None:
        self.late.update(other["late"])
        self.ignored.update(other["ignored"])

    def to_dict(self) -> dict[str, dict[str, int]]:
        return {"late": dict(self.late), "ignored": dict(self.ignored)}
