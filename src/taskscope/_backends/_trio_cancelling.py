"""Cancelling one task of Trio's and none of its siblings, for which Trio has no function.

The task gets a cancel scope of its own, outside of all that it has opened itself, as if it had been spawned inside one.
Nothing is done to it before it is to be cancelled, so a task that is not cancelled runs as it would without us.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, cast, final

import trio
from trio._core._run import CancelStatus  # there is no public way to a task's place among the cancel scopes

from taskscope._report import Outcome


@final
class TakenOver:
    """Stands in for the coroutine of a task, passes on whatever is asked of it, and notes how it ends."""

    def __init__(self, task: Any) -> None:
        self._coro: Any = task.coro
        self._task: Any = task
        self._scope: Any = None
        self._is_refused = False
        self.outcome: Outcome | None = None
        self.error: BaseException | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._coro, name)

    def send(self, value: Any) -> Any:
        try:
            return self._step(self._coro.send, value)
        finally:
            del value  # it can carry a cancellation, whose traceback holds the frames of whoever has cancelled

    def throw(self, error: BaseException) -> Any:
        try:
            return self._step(self._coro.throw, error)
        finally:
            del error  # as above

    def close(self) -> None:
        self._coro.close()

    def cancel(self) -> None:
        if self._task is None:  # it has ended meanwhile
            return
        if self._scope is None:
            self._scope = _insert_scope(self._task)
        self._scope.cancel()

    def refuse(self) -> None:
        """Cancels a task that has not begun, so that it never will."""
        self._is_refused = True
        self.cancel()

    @property
    def is_cancelled(self) -> bool:
        return self._scope is not None

    def is_shielded(self) -> bool:
        """Whether the task is where a cancel does not reach it."""
        status: Any = None if self._task is None else self._task._cancel_status
        while status is not None and status._scope is not self._scope:
            if status._scope.shield:
                return True
            status = status.parent
        return False

    def _step(self, resume: Callable[[Any], Any], value: Any) -> Any:
        if self._is_refused and inspect.getcoroutinestate(self._coro) == inspect.CORO_CREATED:
            self._coro.close()
            self._leave_scope(None)
            self.outcome = "cancelled"
            raise StopIteration
        try:
            return resume(value)
        except StopIteration:
            self._leave_scope(None)
            self.outcome = "finished"
            raise
        except BaseException as error:
            if is_cancellation(error):
                self.outcome = "cancelled"
            else:
                self.outcome, self.error = "failed", error
            if self._leave_scope(error):
                raise StopIteration from None
            raise
        finally:
            del value

    def _leave_scope(self, error: BaseException | None) -> bool:
        """Leaves the cancel scope, and says whether the error was its cancellation and nothing else."""
        scope, self._scope = self._scope, None
        self._task = None  # which has this as its coroutine, and its nursery: nothing is to be left for the collector
        if scope is None:
            return False
        return bool(scope.__exit__(None if error is None else type(error), error, None))


def is_cancellation(error: BaseException) -> bool:
    """Whether an exception is a cancellation, or a group of nothing else."""
    if isinstance(error, BaseExceptionGroup):
        return all(map(is_cancellation, cast("BaseExceptionGroup[BaseException]", error).exceptions))
    return isinstance(error, trio.Cancelled)


def take_over(task: Any) -> TakenOver:
    """Puts a stand-in in the place of a suspended task's coroutine, if there is none yet."""
    coro: Any = task.coro
    if type(coro) is TakenOver:
        return coro
    stand_in: Any = TakenOver(task)
    task.coro = stand_in
    if task._next_send_fn is not None:  # scheduled already
        task._next_send_fn = getattr(stand_in, task._next_send_fn.__name__)
    return stand_in  # type: ignore[no-any-return]


def stand_in_of(task: Any) -> TakenOver | None:
    coro: Any = task.coro
    return coro if type(coro) is TakenOver else None


def _insert_scope(task: Any) -> Any:
    """A cancel scope between a task's nursery and the scopes that the task has opened."""
    nursery = task.parent_nursery
    assert nursery is not None, "the init task is nobody's to cancel"
    around = nursery._cancel_status
    scope: Any = trio.CancelScope()
    scope._has_been_entered = True
    own = task._cancel_status
    if own is around:
        scope._cancel_status = CancelStatus(scope=scope, parent=around)
        task._activate_cancel_status(scope._cancel_status)
        return scope
    while own.parent is not around:
        assert own.parent is not None, "a task's cancel scopes are inside of those of its nursery"
        own = own.parent
    scope._cancel_status = CancelStatus(scope=scope, parent=around)
    own.parent = scope._cancel_status
    return scope
