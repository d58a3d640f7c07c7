"""Why a task is still there, as far as that can be told from the task itself."""

from __future__ import annotations

import asyncio
import types
from typing import Any, Final

from taskscope._diagnosis.awaitables import UNKNOWN, is_done, waiter_of
from taskscope._diagnosis.primitives import FOR_EVER, timer_state
from taskscope._diagnosis.safely import safely
from taskscope._diagnosis.stack import Chain
from taskscope._diagnosis.trio_tasks import is_trio_task
from taskscope._diagnosis.trio_wait_point import trio_verdict
from taskscope._report import Verdict

# Taken now, and from where it is defined: a test may replace `asyncio.sleep` later.
_SLEEP: Final[Any] = asyncio.tasks.sleep.__code__


def verdict(task: Any, chain: Chain) -> Verdict:
    """Why a pending task has not ended.

    chain: its await chain as it is now.

    Returns:
        `"runnable"` when nothing keeps it from going on: it runs, has not started, has only given way to others, or
        what it waited for is done. `"sleeping"` when it waits for time to pass in `asyncio.sleep`, or in Trio's.
        `"blocked"` in all other cases, also where it cannot be told, and in a sleep that has no end.
    """
    if is_trio_task(task):
        return trio_verdict(task, chain)
    if _can_go_on(task, chain):
        return "runnable"
    if chain.links and chain.links[-1].code is _SLEEP:
        left = safely(lambda: timer_state(chain.links[-1].holder), "")
        return "blocked" if left == FOR_EVER else "sleeping"
    return "blocked"


def _can_go_on(task: object, chain: Chain) -> bool:
    waiter = waiter_of(task)
    if waiter is None:
        return True
    if waiter is not UNKNOWN:
        return is_done(waiter)
    if chain.end is not None:
        return is_done(chain.end)
    return _is_running_or_unstarted(chain)


def _is_running_or_unstarted(chain: Chain) -> bool:
    if not chain.links:
        return False
    coro: Any = chain.links[0].holder
    return type(coro) is types.CoroutineType and not coro.cr_suspended
