"""The report at the end of a scope, put together from what was found in its body and at its closing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from taskscope._backends._backend import Backend
from taskscope._closing import Closing, with_closed
from taskscope._diagnosis.describe import describe
from taskscope._diagnosis.stack import task_chain
from taskscope._report import Finding, Report, TaskRecord
from taskscope._table import AnyTask, Row, TaskTable

if TYPE_CHECKING:
    from taskscope._body import BodyEnd


def exit_report(
    table: TaskTable,
    closing: Closing,
    body_end: BodyEnd | None,
    given: tuple[TaskRecord, ...],
    inherited: Mapping[AnyTask, TaskRecord],
    lost: str | None,
) -> Report:
    """given: the tasks that were handed off.
    inherited: survivors of closed inner scopes, some of which may have ended since.
    lost: how the tracking was lost, None where it was not.
    """
    closed: tuple[Finding, ...] = ()
    coverage = (*closing.coverage, *closing.left.coverage, *closing.search_coverage)
    if table.closed_in_use is not None:
        from taskscope._accusations import findings_of  # only who has something to tell pays for the import

        closed = findings_of(table, closing.left)
    coverage = (*coverage, *missed_closings(table.backend.running_tracking().closings_missed))
    if table.accused_omitted:
        words = f"{table.accused_omitted:,} more tasks held a resource when it was closed, too many to describe"
        coverage = (*coverage, words)
    body_tasks = body_end.tasks if body_end is not None and body_end.fired else None
    leaks = dict(closing.leaks)
    for task, record in (body_tasks or {}).items():
        if not closing.left.is_ignored(task):
            leaks[task] = _with_end(table.backend, task, record, closing.leaks.get(task))
    report = Report(
        table.name,
        phase="exit" if body_tasks is None else "body",
        body=None if body_end is None else body_end.body,
        leaks=tuple(with_closed(table, task, record) for task, record in leaks.items()),
        late=tuple(closing.late),
        survivors=tuple(closing.survivors.values()),
        transferred=(*given, *closing.left.transferred.values()),
        ignored=closing.left.records,
        findings=(*closed, *closing.findings),
        inherited=tuple(record for task, record in inherited.items() if not table.backend.is_done(task)),
        coverage=coverage,
        leaks_omitted=closing.omitted,
        spawned=table.spawned,
        settled_after=closing.settled_after,
        tracking_lost=lost,
    )
    if report.ok:
        return report
    return replace(report, transferred=(*report.transferred, *closing.left.records_of_given_back()))


def missed_closings(closings: int) -> tuple[str, ...]:
    """What a report says of closings at which nobody, or not everybody, was looked at."""
    if not closings:
        return ()
    resources = "1 resource was" if closings == 1 else f"{closings:,} resources were"
    return (f"on this loop, {resources} closed without a look at who holds it: for want of time",)


def records_of_given(backend: Backend, handed_off: Mapping[AnyTask, tuple[str, Row]]) -> tuple[TaskRecord, ...]:
    """The tasks that were handed off and are pending, with the reasons that were given for that."""
    pending = [(task, reason, row) for task, (reason, row) in handed_off.items() if not backend.is_done(task)]
    return tuple(replace(describe(task, row, task_chain(task)), outcome_detail=reason) for task, reason, row in pending)


def _with_end(backend: Backend, task: AnyTask, record: TaskRecord, leak: TaskRecord | None) -> TaskRecord:
    """The record of a task as it was when the body was ended, with what became of it.

    leak: its record as a leak of the scope, None where it ended when the body was cancelled.
    """
    if leak is not None:
        end = {field: getattr(leak, field) for field in ("outcome", "outcome_detail", "owner", "closed_scope")}
        return replace(record, **end)
    if not backend.is_done(task):
        return record
    return replace(record, outcome=backend.outcome(task)[0])
