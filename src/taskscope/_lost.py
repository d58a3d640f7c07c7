"""Tasks that were not seen when they were spawned: because somebody took that from us, or made them another way."""

from __future__ import annotations

from collections.abc import Container

from taskscope._backends._backend import Tracking
from taskscope._table import NO_SITE, AnyTask, TaskTable, tag


def recover_tasks(table: TaskTable, tracking: Tracking, excused: Container[AnyTask]) -> list[AnyTask]:
    """Puts into the table every task of the running loop whose context carries its tag, and returns those.

    excused: tasks to leave alone. So are those whose owner is known not to be the one that their context names.
    """
    recovered: list[AnyTask] = []
    backend = table.backend
    host_context = None if table.host is None else backend.task_context(table.host)
    for task in backend.all_tasks():
        if task in table.rows or task in excused or tracking.is_moved(task) or task is table.host:
            continue
        context = backend.task_context(task)
        # who runs in the host's own context shares its tag without having been spawned under it
        if context is None or context is host_context or not table.is_meant_by(context.get(tag)):
            continue
        table.rows[task] = NO_SITE
        recovered.append(task)
    return recovered


def describe_loss(tracking: Tracking, recovered: int) -> str:
    found = "no other task" if not recovered else "1 task" if recovered == 1 else f"{recovered} tasks"
    return f"{tracking.loss()}; looking through all tasks of the loop has found {found} of this scope"
