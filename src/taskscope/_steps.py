"""A scope round an iteration: its tag is set while the generator runs, and never while its consumer does."""

from __future__ import annotations

import functools
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from types import TracebackType
from typing import Any, Self, TypeVar, final

from taskscope._scope import TaskScope
from taskscope._table import set_tag, tag

T = TypeVar("T")


@final
class ScopedSteps:
    """Takes the steps of an asynchronous generator inside a scope.

    The consumer can take each step, and close the generator, from another task and in another context.

    scope: None where the steps are taken in none.
    is_on: whether the scope is open already, and somebody else's to end.
    """

    def __init__(self, scope: TaskScope, steps: AsyncGenerator[Any, Any], *, is_on: bool = False) -> None:
        self._scope = scope
        self._steps = steps
        self._is_on = is_on
        self._closed_by: BaseException | None = None

    async def __aenter__(self) -> Self:
        self._is_on = self._scope._open()  # pyright: ignore[reportPrivateUsage]
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # A generator may await while it is being closed, so that is an end like any other. Any other GeneratorExit has
        # come in the middle of a step: the coroutine that took it is being destroyed, and nothing can be awaited.
        ordinary = None if exc is self._closed_by or isinstance(exc, _TimedOut) else exc
        self._closed_by = None
        await self._scope.__aexit__(None if ordinary is None else type(ordinary), ordinary, traceback)

    def first(self) -> Awaitable[Any]:
        """The generator's first step.

        The loop is not told of the generator, as it otherwise is here. It knows the one that iterates over it, and when
        it closes all that it knows, both would be closed at once.
        """
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(firstiter=None, finalizer=_leave_to_its_consumer)
        try:
            return self._steps.asend(None)
        finally:
            sys.set_asyncgen_hooks(*hooks)

    def sending(self, value: object) -> Callable[[], Awaitable[Any]]:
        """The step that hands a value to the generator. It is its last where its time was up before."""
        end = self._scope._body_end if self._is_on else None  # pyright: ignore[reportPrivateUsage]
        if end is not None and end.fired:
            return self._end_in_time_out
        return functools.partial(self._steps.asend, value)

    def throwing(self, error: BaseException) -> Callable[[], Awaitable[Any]]:
        """The step that throws an exception into the generator, `GeneratorExit` where it is being closed."""
        if isinstance(error, GeneratorExit):
            self._closed_by = error
        return functools.partial(self._steps.athrow, error)

    async def step(self, take: Callable[[], Awaitable[T]]) -> T:
        if not self._is_on:
            return await take()
        table = self._scope._table  # pyright: ignore[reportPrivateUsage]
        end = self._scope._body_end  # pyright: ignore[reportPrivateUsage]
        table.host = table.backend.current_task()
        if end is not None:
            from taskscope._host import host_as_held

            held = host_as_held(table)
            end.enter(held)
        token = set_tag(table)
        try:
            return await take()
        except BaseException as error:
            left = error if end is None else end.suspend(error)
            try:
                if left is None:
                    raise _TimedOut from None
                if left is not error:
                    raise left from None
            finally:
                del left
            raise
        finally:
            del take  # it can hold an exception whose traceback holds this frame
            table.host = None  # or it would be held by us for as long as the generator is
            try:  # noqa: SIM105 - `suppress` takes five times as long, at every step
                tag.reset(token)
            except ValueError:  # destroyed from another context: there is nothing of ours to take back there
                pass
            if end is not None:
                end.suspend(None)

    async def _end_in_time_out(self) -> None:
        await self._steps.aclose()
        raise _TimedOut


def _leave_to_its_consumer(generator: object) -> None:
    """Called for a generator that is collected. The one that iterates over it has closed it, or is gone as well."""


class _TimedOut(BaseException):
    """The scope's timeout fired between two steps, when there was nobody to cancel."""
