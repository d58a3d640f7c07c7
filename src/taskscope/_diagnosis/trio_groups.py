"""The nursery that holds a task of Trio's, and where it was opened."""

from __future__ import annotations

from typing import Any

from taskscope._diagnosis.awaitables import class_name, field_of
from taskscope._diagnosis.opaque import package_of
from taskscope._diagnosis.openers import opened_in
from taskscope._diagnosis.stack import task_chain
from taskscope._diagnosis.trio_tasks import is_trio_task, name_of


def owning_nursery(task: object) -> tuple[Any, Any]:
    """The nursery that a task is in, or will be when it has started, and the task that opened it."""
    for name in ("_eventual_parent_nursery", "_parent_nursery"):
        nursery = field_of(task, name)
        opener = field_of(nursery, "_parent_task")
        if is_trio_task(opener):
            return nursery, opener
    return None, None


def nursery_name(nursery: object, opener: object) -> str:
    """For instance `nursery opened in 'tg_fixture' (conftest.py:12) by task 'main'`."""
    if nursery is field_of(field_of(opener, "_runner"), "system_nursery"):
        return "Trio's nursery for system tasks"
    found: list[object] = []

    def is_manager(obj: object) -> bool:
        if field_of(obj, "_nursery") is not nursery or not _opens_nurseries(obj):
            return False
        found.append(obj)
        return True

    place = opened_in(task_chain(opener), is_manager)
    kind = "AnyIO task group" if found and class_name(found[0]) == "TaskGroup" else "nursery"
    where = "" if place is None else f"in {place} "
    return f"{kind} opened {where}by task {name_of(opener)!r}"


def _opens_nurseries(obj: object) -> bool:
    kind = class_name(obj), package_of(type(obj))
    return kind in (("NurseryManager", "trio"), ("TaskGroup", "anyio"))
