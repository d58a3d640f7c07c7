"""The host of a scope, as it is held when its body begins: whoever comes to hold it later could still wake it."""

from __future__ import annotations

import sys

from taskscope._backends import _asyncio as backend
from taskscope._closers import closers
from taskscope._diagnosis.host import frames_held_on_trio, held_now
from taskscope._diagnosis.proof import NOT_HELD, Held
from taskscope._diagnosis.registries import callbacks_of, registries_of_anyio, registries_of_asyncio
from taskscope._table import TaskTable


def host_as_held(table: TaskTable) -> Held:
    """How the running task is held, beside by its running and by its table.

    To be called by a coroutine that has ended when the task waits, or takes part in no more than a step.
    """
    if table.backend.name != backend.name:
        frames = frames_held_on_trio(table.backend.current_task(), sys._getframe(2))  # pyright: ignore[reportPrivateUsage]
        return NOT_HELD._replace(frames=frames)
    aside = backend.running_tracking().ownership.aside
    registries = callbacks_of((*registries_of_asyncio(), *registries_of_anyio(), aside, closers))
    # No variables here: they would hold the task and its frame once more.
    return held_now(backend.current_task(), sys._getframe(2), registries)  # pyright: ignore[reportPrivateUsage]
