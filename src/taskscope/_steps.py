"""A scope round an iteration: its tag is set while the generator runs, and never while its consumer does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self, TypeVar, final

from taskscope._scope import TaskScope
from taskscope._table import set_tag, tag

T = TypeVar("T")


@final
class ScopedSteps:
    """Takes the steps of an asynchronous generator inside a scope.

    The consumer can take each step, and close the generator, from another task and in another context.
    """

    def __init__(self, scope: TaskScope) -> None:
        self._scope = scope
        self._is_on = False

    async def __aenter__(self) -> Self:
        self._is_on = self._scope._open()  # pyright: ignore[reportPrivateUsage]
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # an asynchronous generator may await while it is being closed, so this is an end like any other
        ordinary = None if isinstance(exc, GeneratorExit | _TimedOut) else exc
        await self._scope.__aexit__(None if ordinary is None else type(ordinary), ordinary, traceback)

    async def step(self, take: Callable[[], Awaitable[T]]) -> T:
        if not self._is_on:
            return await take()
        table = self._scope._table  # pyright: ignore[reportPrivateUsage]
        timeout = self._scope._timeout  # pyright: ignore[reportPrivateUsage]
        if timeout is not None and timeout.fired:
            raise _TimedOut
        table.host = asyncio.current_task()
        if timeout is not None:
            timeout.body_runs_in(table.host)
        token = set_tag(table)
        try:
            return await take()
        finally:
            tag.reset(token)
            if timeout is not None:
                timeout.body_runs_in(None)


class _TimedOut(BaseException):
    """The scope's timeout fired between two steps, when there was nobody to cancel."""
