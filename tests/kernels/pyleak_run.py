"""A kernel under `pyleak.no_task_leaks`, judged by the same measure."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from kernels.judging import Expected, Shape, in_shape
from kernels.kernel import Body
from taskscope._diagnosis.stack import task_chain

PATIENCE: Final = 0.3
"""Seconds that a body has. The timeout is ours: pyleak waits for as long as its body runs."""


@dataclass(frozen=True)
class PyleakOutcome:
    """What pyleak said.

    Attributes:
        names: The tasks that it named.
        shown: Of those, the ones whose stack it showed down to the line at which they wait.
        hung: Whether the body had to be ended by us.
        seconds: From the end of the body, where it ended by itself, to the verdict.
    """

    names: tuple[str, ...]
    shown: tuple[str, ...]
    hung: bool
    seconds: float

    def is_right_task(self, wanted: Expected) -> bool:
        return any(sorted(self.names) == sorted(one.task for one in leaks) for leaks in wanted.leaks)

    def is_right_wait(self, wanted: Expected) -> bool:
        return self.is_right_task(wanted) and len(self.shown) == len(self.names)


async def under_pyleak(body: Body, shape: Shape) -> PyleakOutcome:
    """Runs a body under pyleak. Ends it, and whatever it leaves, by means of our own: pyleak does neither."""
    import pyleak

    ended = time.perf_counter()

    async def run() -> None:
        nonlocal ended
        async with pyleak.no_task_leaks(action="raise"):
            await in_shape(body, shape)
            ended = time.perf_counter()

    host = asyncio.create_task(run(), name="host")
    await asyncio.wait([host], timeout=PATIENCE)
    hung = not host.done()
    if hung:
        with suppress(RecursionError):  # tasks that wait for each other cannot be cancelled so
            host.cancel()
        await asyncio.wait([host], timeout=PATIENCE)
    error = None if not host.done() or host.cancelled() else host.exception()
    seconds = time.perf_counter() - ended
    leaked = list(error.leaked_tasks) if isinstance(error, pyleak.TaskLeakError) else []
    outcome = PyleakOutcome(
        tuple(task.name for task in leaked),
        tuple(task.name for task in leaked if _is_shown_to_its_end(task)),
        hung,
        seconds,
    )
    await _clear_away()
    return outcome


def _is_shown_to_its_end(leaked: Any) -> bool:
    chain = task_chain(leaked.task_ref)
    if not chain.links or not leaked.current_stack:
        return False
    end, shown = chain.links[-1].frame, leaked.current_stack[-1]
    return (end.file, end.line) == (shown.filename, shown.lineno)


async def _clear_away() -> None:
    """Ends all other tasks of the loop, whatever it takes, so that the loop can be closed."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        with suppress(RecursionError):
            task.cancel()
    if others:
        await asyncio.wait(others, timeout=0.01)
    unregister: Callable[[Any], None] = vars(asyncio.tasks)["_unregister_task"]
    for task in others:
        if task.done():
            continue
        coro: Any = task.get_coro()
        with suppress(RuntimeError, ValueError):  # it awaits something in its cleanup, or is running
            coro.close()
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        unregister(task)
