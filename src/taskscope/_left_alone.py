"""Which of a scope's pending tasks are no leaks, and why: they are neither waited for nor cancelled."""

from __future__ import annotations

from dataclasses import replace
from typing import final

from taskscope._builtin_rules import builtin_rule
from taskscope._diagnosis.describe import describe
from taskscope._diagnosis.diagnosis import Diagnosis
from taskscope._diagnosis.groups import group_name, owning_group
from taskscope._diagnosis.stack import task_chain
from taskscope._diagnosis.tasks import coroutine_of
from taskscope._matching import matching_rule
from taskscope._policy import Policy
from taskscope._report import TaskRecord
from taskscope._table import NO_SITE, AnyTask, Row, TaskTable

IGNORED_LIMIT = 1_000
"""Tasks beyond this number are ignored like the others, and counted, but not described."""

_ANYBODYS = "which may run in the middle of anybody's code: whose task it is cannot be told"


@final
class LeftAlone:
    """The tasks that one end of a scope leaves alone."""

    def __init__(self, table: TaskTable, policy: Policy, host: AnyTask | None) -> None:
        """host: the task that ends the scope."""
        self.ignored: dict[AnyTask, TaskRecord] = {}
        self.transferred: dict[AnyTask, TaskRecord] = {}
        self._given_back: dict[AnyTask, tuple[Row, str]] = {}
        self._not_described: set[AnyTask] = set()
        self._table = table
        self._policy = policy
        self._host = host

    @property
    def coverage(self) -> tuple[str, ...]:
        """What the report has to say of those that it does not describe."""
        omitted = len(self._not_described)
        return (f"{omitted:,} more tasks were left alone, too many to describe",) if omitted else ()

    @property
    def records(self) -> tuple[TaskRecord, ...]:
        """Those that are ignored."""
        return tuple(self.ignored.values())

    def is_ignored(self, task: AnyTask) -> bool:
        return task in self.ignored or task in self._not_described

    def is_transferred(self, task: AnyTask) -> bool:
        return task in self.transferred or task in self._given_back

    def give_back(self, task: AnyTask, why: str) -> None:
        """Notes that a task is somebody else's, who has been found to have it."""
        self._given_back[task] = (self._row(task), why)

    def records_of_given_back(self) -> tuple[TaskRecord, ...]:
        """What they are now, and why. Apart from `transferred`, for it is told only beside what is wrong."""
        return tuple(
            replace(describe(task, row, task_chain(task)), outcome_detail=why)
            for task, (row, why) in self._given_back.items()
        )

    def takes(self, task: AnyTask) -> bool:
        """Whether a task is left alone, of one that is seen for the first time."""
        row = self._row(task)
        if row[0] is not None and row[0].co_name == "__del__":
            self._ignore(task, row, Diagnosis(), f"spawned by a finalizer, {_ANYBODYS}")
            return True
        return self.takes_by_rule(task) or self._takes_for_its_group(task, row)

    def takes_at_last(self, task: AnyTask) -> bool:
        """Whether a task is left alone that is still there when the grace is over.

        The rules are asked again: what the task waits in has changed, or its name.
        """
        row = self._row(task)
        return (
            self._takes_by_users_rule(task)
            or self._takes_with_its_group(task, row)
            or self._takes_for_collector(task, row)
        )

    def takes_by_rule(self, task: AnyTask) -> bool:
        if self._takes_by_users_rule(task):
            return True
        row = self._row(task)
        rule = builtin_rule(task) if self._policy.ignore_builtin else None
        if rule is None:
            return self._takes_with_its_group(task, row)
        self._ignore(task, row, Diagnosis(), rule.reason, str(rule))
        return True

    def _takes_by_users_rule(self, task: AnyTask) -> bool:
        if not self._policy.ignore:
            return False
        row, diagnosis = self._row(task), Diagnosis()
        rule = matching_rule(self._policy.ignore, task, row, diagnosis)
        if rule is None:
            return False
        self._ignore(task, row, diagnosis, str.__str__(rule.reason), str(rule))
        return True

    def _takes_with_its_group(self, task: AnyTask, row: Row) -> bool:
        """Takes a task in a group that an ignored task has opened: that one waits for it, and would fail with it."""
        if not self.ignored:
            return False
        group, opener = owning_group(task)
        if opener is None or not self.is_ignored(opener):
            return False
        rule = self.ignored[opener].rule if opener in self.ignored else None
        self._ignore(task, row, Diagnosis(), f"it is in a {group_name(group, opener)}, which is left alone", rule)
        return True

    def _takes_for_its_group(self, task: AnyTask, row: Row) -> bool:
        group = self._outer_group(task) if self._policy.outer_groups == "transfer" else None
        if group is None:
            return False
        self.transferred[task] = replace(describe(task, row, task_chain(task)), owner=group)
        return True

    def _takes_for_collector(self, task: AnyTask, row: Row) -> bool:
        """Takes a task that the loop has spawned to close an asynchronous generator that nobody refers to any more.

        Such a task is waited for like any other, for it mostly is the scope's, but it is not known to be.
        """
        if row[0] is not None or type(coroutine_of(task)).__name__ != "async_generator_athrow":
            return False
        self._ignore(task, row, Diagnosis(), f"closes a generator for the garbage collector, {_ANYBODYS}")
        return True

    def _ignore(self, task: AnyTask, row: Row, diagnosis: Diagnosis, why: str, rule: str | None = None) -> None:
        if len(self.ignored) >= IGNORED_LIMIT:
            self._not_described.add(task)
            return
        self.ignored[task] = replace(diagnosis.record(task, row), outcome_detail=why, rule=rule)

    def _outer_group(self, task: AnyTask) -> str | None:
        """The group that holds a task, where that group was opened outside the scope."""
        table = self._table
        group, opener = owning_group(task)
        if group is None or opener is None or table.backend.is_done(opener):
            return None
        if opener in table.rows and opener not in self.transferred:
            return None
        if opener is self._host and table.backend.is_opened_since(group, opener, table.groups_before):
            return None
        return group_name(group, opener)

    def _row(self, task: AnyTask) -> Row:
        return self._table.rows.get(task, NO_SITE)
