"""Tasks that the factory did not see: because somebody replaced it, or because they were made without it."""

from __future__ import annotations

from collections.abc import Container

from taskscope._backends._factory import LoopTracking
from taskscope._backends._ownership import all_tasks, task_context
from taskscope._diagnosis.describe import safe_repr
from taskscope._table import NO_SITE, AnyTask, TaskTable, tag


def recover_tasks(table: TaskTable, tracking: LoopTracking, excused: Container[AnyTask]) -> int:
    """Puts into the table every task of the running loop whose context carries its tag. Returns how many there were.

    excused: tasks to leave alone. So are those whose owner is known not to be the one that their context names.
    """
    recovered = 0
    known = tracking.ownership.aside
    host_context = task_context(table.host)
    for task in all_tasks():
        if task in table.rows or task in excused or task in known or task is table.host:
            continue
        context = task_context(task)
        # who runs in the host's own context shares its tag without having been spawned under it
        if context is None or context is host_context or not _leads_to(context.get(tag), table):
            continue
        table.rows[task] = NO_SITE
        recovered += 1
    return recovered


def describe_loss(tracking: LoopTracking, recovered: int) -> str:
    by = "one that was taken off again" if tracking.is_on_loop() else safe_repr(tracking.current_factory())
    found = "no other task" if not recovered else "1 task" if recovered == 1 else f"{recovered} tasks"
    return (
        f"the task factory was replaced while the scope was open, by {by}; "
        f"looking through all tasks of the loop has found {found} of this scope"
    )


def _leads_to(found: TaskTable | None, table: TaskTable) -> bool:
    """Whether a tag is the scope's, or that of a closed scope inside it."""
    while found is not None and found is not table and found.closed:
        found = found.parent
    return found is table
