"""Pools of threads and processes: whose their workers are depends on who has made the pool, not on who gave it work."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any, Final, final

from taskscope._diagnosis.awaitables import field_of
from taskscope._diagnosis.collector import get_objects
from taskscope._findings.loops import is_uvloop
from taskscope._findings.starts import Starts
from taskscope._table import TaskTable

_OF_THREADS: Final = Starts(ThreadPoolExecutor, "__init__")
_OF_PROCESSES: Final = Starts(ProcessPoolExecutor, "__init__")

_THREAD_WORKERS: Final = "concurrent.futures.thread"
_PROCESS_WORKERS: Final = "concurrent.futures.process"

_Loop: Final = asyncio.events.AbstractEventLoop


@final
class Pools:
    """Tells for one scope which workers are of a pool that it has made, and of which no loop makes an end."""

    def __init__(self, table: TaskTable) -> None:
        self._table = table
        self._has_end: weakref.WeakKeyDictionary[Executor, bool] = weakref.WeakKeyDictionary()

    def begin(self) -> None:
        _OF_THREADS.acquire()
        _OF_PROCESSES.acquire()

    def finish(self) -> None:
        _OF_THREADS.release()
        _OF_PROCESSES.release()

    def has_thread(self, thread: threading.Thread) -> bool | None:
        """Whether a thread is of such a pool; None where it is of none at all."""
        module = getattr(getattr(thread, "_target", None), "__module__", None)
        if module == _THREAD_WORKERS:
            arguments: Any = getattr(thread, "_args", ())
            return self._has_made(arguments[0]() if arguments else None, _OF_THREADS)
        if type(thread).__module__ == _PROCESS_WORKERS:
            reference: Any = getattr(thread, "executor_reference", None)
            return self._has_made(None if reference is None else reference(), _OF_PROCESSES)
        return None

    def has_process(self, process: Any) -> bool | None:
        """The same of a process of `multiprocessing`."""
        # One that was started does not know any more what it runs, but what manages a pool knows its processes.
        managers = [thread for thread in threading.enumerate() if type(thread).__module__ == _PROCESS_WORKERS]
        for manager in managers:
            processes: Any = getattr(manager, "processes", None) or {}
            if any(each is process for each in list(processes.values())):
                return self.has_thread(manager)
        return None

    def _has_made(self, pool: Executor | None, starts: Starts) -> bool:
        if pool is None or not any(made is pool for made, _ in starts.started_under(self._table)):
            return False
        if pool not in self._has_end:
            self._has_end[pool] = _is_default_executor(pool)
        return not self._has_end[pool]


def _is_default_executor(pool: Executor) -> bool:
    """Whether a loop shuts a pool down when it is closed."""
    running = asyncio._get_running_loop()
    if running is not None and _is_shut_down_by(running, pool):
        return True
    # By one that is stopped for now: only the collector knows it. Asked once of a pool whose worker is left.
    return any(_is_shut_down_by(obj, pool) for obj in get_objects() if issubclass(type(obj), _Loop))


def _is_shut_down_by(loop: asyncio.AbstractEventLoop, pool: Executor) -> bool:
    if is_uvloop(loop):
        return any(held is pool for held in gc.get_referents(loop))
    return field_of(loop, "_default_executor") is pool
