"""Who is accused of having held a resource when it was closed, what became of them, and what a scope says of that."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, final

from taskscope._backends._backend import Backend
from taskscope._diagnosis.holding import Holding, HoldingSearch
from taskscope._diagnosis.safely import safe_repr, safely
from taskscope._left_alone import LeftAlone
from taskscope._report import Finding, Outcome, TaskRecord
from taskscope._table import AnyTask, TaskTable

ACCUSED_LIMIT: Final = 1_000
"""Tasks of one scope beyond this number are not described."""


@final
class Accusation:
    """One task that still held a resource when that had been closed."""

    what: str
    holding: Holding
    targets: frozenset[int]
    resource: Callable[[], object]
    is_own = False
    is_unseen = False
    has_not_begun = False
    is_roused = False
    has_let_go = False

    def __init__(self, backend: Backend, task: AnyTask, record: TaskRecord) -> None:
        self.record = record
        # Held until it ends. The proof of deadlock knows that this is no way to wake it.
        self.task: AnyTask | None = task
        self._backend = backend
        self._ended_task: weakref.ref[Any] | None = None
        self._closed_at = backend.time()
        self._seconds = 0.0
        self._outcome: Outcome | None = None
        self._error: str | None = None
        self._says_closed = False
        self._watch: Any = None

    def watch(self) -> None:
        if self.task is not None:
            self._watch = self._backend.watch_for_end(self.task, self.ended)

    def stop(self) -> None:
        """Leaves nothing of ours with the task, and lets go of it."""
        if self.task is not None:
            self._backend.stop_watching_for_end(self.task, self.ended, self._watch)
        self.task = self._watch = None

    def ended(self, task: Any) -> None:
        """Called when the task has ended."""
        if self.task is None:
            return
        with suppress(RuntimeError):  # the loop is over: all that is known is that the task is too
            self._seconds = max(0.0, self._backend.time() - self._closed_at)
        self._outcome, error = self._backend.outcome(task)
        if error is not None:
            self._error = safe_repr(error)
            self._says_closed = "closed" in f"{type(error).__name__} {safely(lambda: str(error), '')}".lower()
        self._ended_task = weakref.ref(task)
        self.stop()
        with suppress(Exception):
            self._look_whether_it_was_let_go()

    def time_is_over(self, search: HoldingSearch) -> None:
        """Called when who closed the resource has had time to take it out of where it was kept."""
        if self.task is None:
            return
        # What was set going by the closing and has not ended by now is like any other task.
        self.is_roused = False
        if self.holding.keeper is not None:
            self.has_let_go = self.resource() is None or search.holding(self.task) is None

    def _look_whether_it_was_let_go(self) -> None:
        """Whether a registry or a pool no longer has it. What went with the task itself was held to the end."""
        keeper = self.holding.keeper
        if keeper is None or not keeper.is_there() or self.has_let_go:
            return
        self.has_let_go = self.resource() is None or not keeper.leads_to(self.targets)

    def look(self) -> None:
        """Takes notice of an end that nobody has told of yet."""
        if self.task is not None and self._backend.is_done(self.task):
            self.ended(self.task)

    def is_about(self, task: AnyTask) -> bool:
        return task is self.task or (self._ended_task is not None and self._ended_task() is task)

    @property
    def stands(self) -> bool:
        """Whether nothing speaks for the task."""
        has_ended = self._ended_task is not None
        if self.is_unseen or self.has_let_go:
            return self._says_closed
        if self.is_own:
            return self._outcome == "failed" and not self.is_roused
        if has_ended and self.has_not_begun and self._says_closed:
            return True
        return not (has_ended and self.is_roused)

    def is_like(self, other: Accusation) -> bool:
        """Whether another one says the same, of a resource that was closed twice."""
        is_same = other.task is self.task and other.what == self.what
        return is_same and other.holding.variable == self.holding.variable

    def finding(self) -> Finding:
        has_ended = self._ended_task is not None
        return Finding(
            "closed-in-use",
            self.what,
            spawn_site=self.record.spawn_site,
            detail=self._end() if has_ended else "it did not end",
            task=self.record,
            held_in=self.holding.frame,
            variable=self.holding.variable,
            outcome="ended" if has_ended else "survived",
        )

    def _end(self) -> str:
        text = f"it ended {self._seconds:.3f} s after the resource was closed"
        if self._outcome == "cancelled":
            return f"{text}, cancelled"
        return text if self._error is None else f"{text}, and failed: {self._error}"


def enter(table: TaskTable, accusation: Accusation) -> bool:
    """Notes an accusation with the scope whose task it is. False where there is one like it."""
    if table.closed_in_use is None:
        table.closed_in_use = []
    accusations: list[Accusation] = table.closed_in_use
    like = next((each for each in accusations if each.is_like(accusation)), None)
    if like is not None:
        if not like.is_unseen or accusation.is_unseen:
            return False
        like.stop()  # what is seen counts for more
        accusations.remove(like)
    if len(accusations) >= ACCUSED_LIMIT:
        table.accused_omitted += 1
        return False
    accusations.append(accusation)
    return True


def findings_of(table: TaskTable, left: LeftAlone | None = None) -> tuple[Finding, ...]:
    """What a scope has to say of resources that were closed while its tasks used them, when it ends.

    left: the tasks that are left alone at that end.
    """
    accusations = _standing(table)
    if left is not None:
        accusations = [each for each in accusations if not _is_left(left, each.task)]
    return tuple(accusation.finding() for accusation in accusations)


def closed_before_end(table: TaskTable, task: AnyTask) -> tuple[str, ...]:
    """The resources that a task held when they were closed."""
    found = [accusation.what for accusation in _standing(table) if accusation.is_about(task)]
    return tuple(dict.fromkeys(found))


def forget(table: TaskTable) -> None:
    """Leaves nothing of ours with the tasks of a scope that has ended."""
    for accusation in table.closed_in_use or ():
        accusation.stop()
    table.closed_in_use = None


def _standing(table: TaskTable) -> list[Accusation]:
    accusations: list[Accusation] = table.closed_in_use or []
    for accusation in accusations:
        accusation.look()
    return [accusation for accusation in accusations if accusation.stands]


def _is_left(left: LeftAlone, task: AnyTask | None) -> bool:
    return task is not None and (left.is_ignored(task) or left.is_transferred(task))
