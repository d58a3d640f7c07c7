"""What a scope has to tell, as plain data: no live objects, picklable, independent of how it is shown."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal, final

FORMAT_VERSION = 1
"""Version of the layout of `Report.to_dict`. It changes when a key is renamed, removed or changes its meaning."""

DESCRIBED_LIMIT = 1_000
"""Leaks beyond this number are cancelled like the others, and counted, but not described."""

Phase = Literal["exit", "body", "loop"]
Verdict = Literal["deadlocked", "blocked", "sleeping", "io", "joining", "runnable"]
Outcome = Literal["cancelled", "finished", "failed", "survived"]
FindingKind = Literal[
    "closed-in-use",
    "timer",
    "generator",
    "executor",
    "thread",
    "process",
    "server",
    "transport",
    "unretrieved",
    "untracked",
]


@final
@dataclass(frozen=True, slots=True)
class Frame:
    """A place in the source: file, line (1-based; 0 where the interpreter keeps none) and qualified function name.

    The text of the line is not stored. It is looked up when a report is rendered.
    """

    file: str
    line: int
    function: str


@final
@dataclass(frozen=True, slots=True)
class Wait:
    """What a task waits for: the primitive at the end of its await chain.

    Attributes:
        kind: What sort of thing it is: `"queue"`, `"lock"`, `"semaphore"`, `"event"`, `"condition"`, `"barrier"`,
            `"timer"`, `"io"`, `"process"`, `"thread"`, `"task"` (one), `"tasks"` (several), or, for what is made from
            bare futures or from Trio's bare `wait_task_rescheduled`, `"future"` or `"reschedule"`.
        primitive: Its name, `"Queue.get"` for instance. For these last two kinds the function that waits.
        detail: The state it was in (`"Queue maxsize=1, full"`), None where that is not known.
        awaited: Names of the pending tasks waited for, at most 16.
        path: Names of the tasks on the way from one waited for to the one that all of them wait for in the end.
        is_cycle: Whether the last of the path is the task itself, so that they wait for each other.
    """

    kind: str
    primitive: str
    detail: str | None = None
    awaited: tuple[str, ...] = ()
    path: tuple[str, ...] = ()
    is_cycle: bool = False


@final
@dataclass(frozen=True, slots=True)
class TaskRecord:
    """One task as it was when the report was made.

    Attributes:
        name: The task's name.
        coroutine: Qualified name of the coroutine function that the task runs.
        verdict: Why the task is still there. None for a task that had ended.
        wait: The primitive it waits in, None where that is not known.
        stack: Its whole await chain, outermost frame first. Empty for a task that had ended.
        stack_note: What the stack does not show, and why. None when it is complete.
        spawn_site: Where it was spawned. None where that was not noted (`spawn_site="off"`, an adopted task).
        spawn_stack: Where it was spawned, with all callers, outermost first. Empty unless `spawn_site="stack"`.
        spawn_chain: Where the tasks that spawned it were spawned, nearest first, at most 16.
        spawn_chain_omitted: How many further ancestors `spawn_chain` leaves out.
        age: Seconds since it was spawned. None unless `spawn_site="stack"`.
        outcome: What cancelling it did. None when it was not cancelled and had not ended.
        outcome_detail: The exception it failed with, the frame that swallowed the cancellation, and the like.
        owner: The task group that holds it, as text. None when no group does.
        stuck_with: With the verdict `"deadlocked"`, names of the other tasks of the proof, at most 16: only they could
            wake this one, and nothing can wake them.
        rule: The rule by which it was left alone, as text (`coroutine='Client._read'`). None where no rule did that.
        closed_scope: Name of the scope from whose context it was spawned, where that scope was closed already and the
            task therefore fell to an open ancestor. None in all other cases.
        closed_before_end: The resources, of those that `closing` and `guard` know, that it held when they were closed,
            and that had therefore been closed before it ended.
    """

    name: str
    coroutine: str
    verdict: Verdict | None = None
    wait: Wait | None = None
    stack: tuple[Frame, ...] = ()
    stack_note: str | None = None
    spawn_site: Frame | None = None
    spawn_stack: tuple[Frame, ...] = ()
    spawn_chain: tuple[Frame, ...] = ()
    spawn_chain_omitted: int = 0
    age: float | None = None
    outcome: Outcome | None = None
    outcome_detail: str | None = None
    owner: str | None = None
    closed_scope: str | None = None
    stuck_with: tuple[str, ...] = ()
    rule: str | None = None
    closed_before_end: tuple[str, ...] = ()


@final
@dataclass(frozen=True, slots=True)
class Finding:
    """Something beside a pending task that outlived its scope, or a resource that was closed while a task used it.

    Attributes:
        kind: `"closed-in-use"`; `"timer"` (a call that is still to come), `"generator"` (an asynchronous one that was
            started and never closed), `"executor"` (a thread that still runs what the scope gave it), `"thread"`,
            `"process"`, `"server"` (one that still listens), `"transport"` (one that is still open), `"unretrieved"`
            (the exception of a task that nobody has asked for), `"untracked"` (a task made past the task factory).
        what: The thing in words. Of a resource its type, and its name if it was given one.
        spawn_site: Where it was started; of what has to do with a task, where that was spawned. None where that is
            not known.
        stack: Where it stands now, outermost frame first: a generator's frame, a thread's, a timer's function where it
            is defined; the traceback of an exception that nobody has asked for. Empty where there is none.
        detail: What else is known, in words. None where nothing is.
        task: The task it is about, as it was when the resource was closed or when it had ended. None for other kinds.
        held_in: The frame that holds a closed resource. None for other kinds.
        variable: The variable of that frame, with the attributes that lead on from there: `"self._pool"`. None for
            other kinds.
        outcome: What ending it did: `"cancelled"`, `"closed"`, `"terminated"`, `"killed"`, `"survived"`, or `"ended"`
            where it has ended by itself meanwhile. Of a closed resource what became of the task: `"ended"` or
            `"survived"`. None where nothing was done.
    """

    kind: FindingKind
    what: str
    spawn_site: Frame | None = None
    stack: tuple[Frame, ...] = ()
    detail: str | None = None
    task: TaskRecord | None = None
    held_in: Frame | None = None
    variable: str | None = None
    outcome: str | None = None


@final
@dataclass(frozen=True, slots=True)
class Report:
    """What a scope found.

    Attributes:
        scope: Name of the scope.
        phase: `"exit"` when it was made at the end of the scope, `"body"` when the body was still running (a snapshot,
            or a body that was ended by `timeout` or `watch`), `"loop"` when it is about all tasks of an event loop.
        body: The scope's own body, where the report is about it. None otherwise.
        leaks: Tasks still pending when the grace was over. In phase `"body"`: tasks that were pending then.
        late: Tasks that ended by themselves during the grace.
        survivors: Those of the leaks that did not end within `cancel_timeout` after being cancelled.
        transferred: Tasks that somebody else answers for: an open task group outside the scope, or who took a hand-off.
        ignored: Tasks that were left alone, each with the reason in its `outcome_detail`.
        inherited: Survivors of inner scopes that had closed before. They are told, not failed on again.
        findings: What else outlived the scope, and resources that were closed while a task used them.
        coverage: What could not be looked at, in words.
        leaks_omitted: How many leaks were cancelled like the others but are not described in `leaks`, for their number.
        spawned: How many tasks were spawned in the scope, those included that ended at once.
        settled_after: Seconds from the end of the body until the scope had nothing left to wait for.
        tracking_lost: How the task factory was lost while the scope was open, None when it was not.
    """

    scope: str
    phase: Phase = "exit"
    body: TaskRecord | None = None
    leaks: tuple[TaskRecord, ...] = ()
    late: tuple[TaskRecord, ...] = ()
    survivors: tuple[TaskRecord, ...] = ()
    transferred: tuple[TaskRecord, ...] = ()
    ignored: tuple[TaskRecord, ...] = ()
    inherited: tuple[TaskRecord, ...] = ()
    findings: tuple[Finding, ...] = ()
    coverage: tuple[str, ...] = ()
    leaks_omitted: int = 0
    spawned: int = 0
    settled_after: float = 0.0
    tracking_lost: str | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing leaked and nothing was found. Late tasks do not count."""
        return not self.leaks and not self.findings

    def to_dict(self) -> dict[str, Any]:
        """The report as dicts, lists and scalars, with `format_version` and `ok` beside the fields of this class."""
        return {"format_version": FORMAT_VERSION, "ok": self.ok, **_as_data(self)}

    def to_json(self, *, indent: int | None = None) -> str:
        """`to_dict` as JSON text, on one line unless `indent` is given."""
        import json

        return json.dumps(self.to_dict(), indent=indent)

    def format(self, color: bool = False) -> str:
        """The report as text for a terminal or a log, at most 100 columns wide where the source allows it.

        Source lines are read from disk here, not before.
        """
        from taskscope._render.text import render

        return render(self, color=color)

    def __str__(self) -> str:
        return self.format()


def _as_data(value: Any) -> Any:
    if value is None or isinstance(value, str | int | float):
        return value
    if is_dataclass(value):
        return {field.name: _as_data(getattr(value, field.name)) for field in fields(value)}
    return [_as_data(element) for element in value]
