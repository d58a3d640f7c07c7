"""Which library runs the loop: asyncio, or Trio, which is not imported as long as nobody else has imported it."""

from __future__ import annotations

import asyncio
import sys
from types import ModuleType
from typing import Final

from taskscope._backends import _asyncio
from taskscope._backends._backend import Backend

# Where Trio has its running task. Every scope asks.
_TRIO_RUN: Final = "trio._core._run"

# None until it is needed: an import is slow also where there is nothing to do.
_trio: Backend | None = None

# What was under that name then: a test of what a package imports can put another one in its place.
_trio_run: ModuleType | None = None


def backend_here() -> Backend:
    """The backend of the running code.

    Raises:
        RuntimeError: Neither asyncio nor Trio runs it.
    """
    trio = running_trio()
    if trio is not None:
        return trio
    if asyncio._get_running_loop() is None:
        raise RuntimeError(
            "a TaskScope needs a running event loop: use it in a coroutine that asyncio, uvloop, Trio or AnyIO runs"
        )
    return _asyncio


def runs_a_task() -> bool:
    """Whether a task of asyncio's or Trio's runs, and with it a scope can be opened."""
    if running_trio() is not None:
        return True
    return asyncio._get_running_loop() is not None and _asyncio.current_task() is not None


def backend_of_task(task: object) -> Backend | None:
    """The backend that a task belongs to, None for what is no task."""
    if _asyncio.is_task(task):
        return _asyncio
    trio = _imported_trio()
    return trio if trio is not None and trio.is_task(task) else None


def running_trio() -> Backend | None:
    """Trio's backend where a task of Trio's runs; None elsewhere, also in a host loop's part of a guest run."""
    # As `trio_run` has it, without a call: every scope asks.
    context = getattr(_trio_run or sys.modules.get(_TRIO_RUN), "GLOBAL_RUN_CONTEXT", None)
    return None if getattr(context, "task", None) is None else _imported_trio()


def trio_run() -> ModuleType | None:
    """The module in which Trio has what runs, None where nobody has imported Trio."""
    return _trio_run or sys.modules.get(_TRIO_RUN)


def _imported_trio() -> Backend | None:
    global _trio, _trio_run
    # While Trio is being imported it starts a process of its own, for which a scope can be asked whose it is.
    if _trio is None and hasattr(sys.modules.get("trio"), "run"):
        from taskscope._backends import _trio as found
        from taskscope._backends._trio_tracking import run_module

        _trio, _trio_run = found, run_module
    return _trio
