"""`find_deadlocked`: the proof of deadlock on demand, over all tasks of a loop that is in service."""

from __future__ import annotations

import asyncio
import concurrent.futures
from contextlib import suppress

from taskscope._backends._here import backend_here, running_trio
from taskscope._backends._ownership import running_loop
from taskscope._diagnosis.awaitables import fields
from taskscope._diagnosis.diagnosis import Diagnosis
from taskscope._diagnosis.proof import Proof
from taskscope._diagnosis.safely import safe_repr
from taskscope._off import is_off
from taskscope._report import DESCRIBED_LIMIT, Report, TaskRecord
from taskscope._table import NO_SITE, AnyTask

_KEPT = "_taskscope_deadlocked"

_NOTHING = Report("event loop", phase="loop", coverage=("TASKSCOPE=off: nothing was looked at",))

SECONDS = 10.0
"""How long a loop in another thread has to answer."""


def find_deadlocked(loop: asyncio.AbstractEventLoop | None = None) -> Report:
    """Which tasks of a loop are blocked for good, proven and not guessed: as Go's `goroutineleak` profile has it.

    Looks at every task of the loop, whether a scope has it or not. Takes about 0.05 ms for each blocked task, and
    holds up the loop for that long. A task that is stuck but that somebody still refers to, in a variable for instance,
    is not among those found: it could be cancelled.

    The loop keeps the tasks that were found until they end. Nobody else does, so the garbage collector would destroy
    them some time, and what they do in a `finally` could wake others that have been called stuck.

    Args:
        loop: The loop. None: the running one, or the running Trio. One that runs in another thread is asked there.

    Returns:
        A report in phase `"loop"`: `leaks` are the stuck tasks (at most 1,000; `leaks_omitted` counts the others),
        `spawned` is the number of tasks looked at, `coverage` says so where nothing could be proven.

    Raises:
        TypeError: `loop` is no event loop.
        RuntimeError: `loop` is None and none is running, or the loop is closed.
        TimeoutError: The loop runs in another thread and has not answered within 10 seconds.
    """
    if loop is None and running_trio() is not None:
        return _NOTHING if is_off() else _look_on_trio()
    running = asyncio._get_running_loop()
    if loop is None:
        loop = running_loop()
    if not isinstance(loop, asyncio.events.AbstractEventLoop):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"loop={safe_repr(loop)}: must be None or an event loop of asyncio, not {type(loop).__name__}")
    if is_off():
        return _NOTHING
    if loop is running:
        return _look()
    if not loop.is_running():
        raise RuntimeError(f"loop={safe_repr(loop)}: must be running, for its tasks to be looked at")
    return _ask(loop)


def _ask(loop: asyncio.AbstractEventLoop) -> Report:
    answer: concurrent.futures.Future[Report] = concurrent.futures.Future()

    def look() -> None:
        if not answer.set_running_or_notify_cancel():
            return
        try:
            answer.set_result(_look())
        except BaseException as error:
            answer.set_exception(error)

    loop.call_soon_threadsafe(look)
    if concurrent.futures.wait([answer], SECONDS).not_done and answer.cancel():
        raise TimeoutError(f"loop={safe_repr(loop)}: has not answered within {SECONDS:g} seconds")
    return answer.result()


def _look() -> Report:
    from taskscope._proving import prove_all

    kept = _kept_by(running_loop())
    kept -= {task for task in kept if task.done()}
    proof, stuck, looked_at = prove_all([kept])
    kept.update(stuck)
    return _report(proof, stuck, looked_at)


def _look_on_trio() -> Report:
    from taskscope import _proving_on_trio

    return _report(*_proving_on_trio.prove_all(backend_here()))


def _report(proof: Proof, stuck: list[AnyTask], looked_at: int) -> Report:
    diagnosis = Diagnosis(stuck, proof.stuck)
    return Report(
        "event loop",
        phase="loop",
        leaks=tuple(_record(task, diagnosis) for task in stuck[:DESCRIBED_LIMIT]),
        leaks_omitted=max(0, len(stuck) - DESCRIBED_LIMIT),
        spawned=looked_at,
        coverage=() if proof.reason is None else (f"nothing could be proven: {proof.reason}",),
    )


def _kept_by(loop: asyncio.AbstractEventLoop) -> set[AnyTask]:
    """The tasks that the loop keeps for us: as its attribute, so that they go when it goes."""
    found: set[AnyTask] | None = fields(loop).get(_KEPT)
    if found is None:
        found = set()
        with suppress(AttributeError):
            setattr(loop, _KEPT, found)
    return found


def _record(task: AnyTask, diagnosis: Diagnosis) -> TaskRecord:
    table = backend_here().running_tracking().table_of(task)
    return diagnosis.record(task, NO_SITE if table is None else table.rows.get(task, NO_SITE))
