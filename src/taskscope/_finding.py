"""`find_deadlocked`: the proof of deadlock on demand, over all tasks of a loop that is in service."""

from __future__ import annotations

import asyncio
import concurrent.futures

from taskscope._backends._factory import tracking_of
from taskscope._backends._ownership import all_tasks
from taskscope._closing import DESCRIBED_LIMIT
from taskscope._diagnosis.describe import safe_repr
from taskscope._diagnosis.diagnosis import Diagnosis
from taskscope._off import is_off
from taskscope._proving import prove_all
from taskscope._report import Report, TaskRecord
from taskscope._table import NO_SITE, AnyTask

SECONDS = 10.0
"""How long a loop in another thread has to answer."""


def find_deadlocked(loop: asyncio.AbstractEventLoop | None = None) -> Report:
    """Which tasks of a loop are blocked for good, proven and not guessed: as Go's `goroutineleak` profile has it.

    Looks at every task of the loop, whether a scope has it or not, and changes nothing. Takes about 0.05 ms for each
    blocked task, and holds up the loop for that long. A task that is stuck but that somebody still refers to, in a
    variable for instance, is not among those found: it could be cancelled.

    Args:
        loop: The loop. None: the running one. One that runs in another thread is asked there.

    Returns:
        A report in phase `"loop"`: `leaks` are the stuck tasks (at most 1,000; `leaks_omitted` counts the others),
        `spawned` is the number of tasks looked at, `coverage` says so where nothing could be proven.

    Raises:
        TypeError: `loop` is no event loop.
        RuntimeError: `loop` is None and none is running, or the loop is closed.
        TimeoutError: The loop runs in another thread and has not answered within 10 seconds.
    """
    running = asyncio._get_running_loop()
    if loop is None:
        loop = asyncio.get_running_loop()
    if not isinstance(loop, asyncio.AbstractEventLoop):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"loop={safe_repr(loop)}: must be None or an event loop of asyncio, not {type(loop).__name__}")
    if is_off():
        return Report("event loop", phase="loop", coverage=("TASKSCOPE=off: nothing was looked at",))
    if loop is running:
        return _look()
    if not loop.is_running():
        raise RuntimeError(f"loop={safe_repr(loop)}: must be running, for its tasks to be looked at")
    return _ask(loop)


def _ask(loop: asyncio.AbstractEventLoop) -> Report:
    answer: concurrent.futures.Future[Report] = concurrent.futures.Future()

    def look() -> None:
        try:
            answer.set_result(_look())
        except BaseException as error:
            answer.set_exception(error)

    loop.call_soon_threadsafe(look)
    return answer.result(SECONDS)


def _look() -> Report:
    proof, looked_at = prove_all()
    stuck = [task for task in all_tasks() if id(task) in proof.stuck]
    diagnosis = Diagnosis(stuck, proof.stuck)
    return Report(
        "event loop",
        phase="loop",
        leaks=tuple(_record(task, diagnosis) for task in stuck[:DESCRIBED_LIMIT]),
        leaks_omitted=max(0, len(stuck) - DESCRIBED_LIMIT),
        spawned=looked_at,
        coverage=() if proof.reason is None else (f"nothing could be proven: {proof.reason}",),
    )


def _record(task: AnyTask, diagnosis: Diagnosis) -> TaskRecord:
    table = tracking_of(task.get_loop()).ownership.of_task(task)
    return diagnosis.record(task, NO_SITE if table is None else table.rows.get(task, NO_SITE))
