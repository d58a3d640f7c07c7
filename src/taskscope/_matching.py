"""Which rule a task matches, if any. Asked only for tasks that would otherwise be waited for, or called leaks."""

from __future__ import annotations

import os
from collections.abc import Iterable
from fnmatch import fnmatchcase

from taskscope._diagnosis.describe import coroutine_names
from taskscope._diagnosis.diagnosis import Diagnosis
from taskscope._diagnosis.safely import safely
from taskscope._diagnosis.tasks import name_of
from taskscope._ignore import Ignore
from taskscope._table import AnyTask, Row


def matching_rule(rules: Iterable[Ignore], task: AnyTask, row: Row, diagnosis: Diagnosis) -> Ignore | None:
    """The first rule that a task matches."""
    return next((rule for rule in rules if _matches(rule, task, row, diagnosis)), None)


def _matches(rule: Ignore, task: AnyTask, row: Row, diagnosis: Diagnosis) -> bool:
    # In the order of what they cost. For the last one it has to be found out what the task waits for.
    return (
        (rule.task is None or fnmatchcase(safely(lambda: name_of(task), "<unknown>"), rule.task))
        and (rule.spawn_site is None or _any_like(rule.spawn_site, _spawn_sites(row)))
        and (rule.coroutine is None or _any_like(rule.coroutine, coroutine_names(task, diagnosis.chain(task))))
        and (rule.wait is None or _any_like(rule.wait, _primitives(task, diagnosis)))
    )


def _any_like(glob: str, texts: Iterable[str]) -> bool:
    return any(fnmatchcase(text, glob) for text in texts)


def _spawn_sites(row: Row) -> tuple[str, ...]:
    code = row[0]
    if code is None:
        return ()
    file = code.co_filename.replace(os.sep, "/")
    return file, f"{file}:{code.co_qualname}"


def _primitives(task: AnyTask, diagnosis: Diagnosis) -> tuple[str, ...]:
    point = diagnosis.point(task)
    return () if point is None else (point.primitive,)
