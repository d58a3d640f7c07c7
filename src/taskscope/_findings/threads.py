"""Threads that were started under a scope and still run, save for those that serve the loop or a whole library."""

from __future__ import annotations

import threading
from typing import Any, Final, final

from taskscope._findings.found import Found, Looking
from taskscope._findings.owners import Origin
from taskscope._findings.pools import Pools
from taskscope._findings.starts import THREADS
from taskscope._findings.thread_stacks import frames_of
from taskscope._policy import Policy
from taskscope._report import Finding
from taskscope._table import TaskTable

# Modules whose threads wait for the next one who has work for them, or for a process: each is told as what it does.
# (The one of pycares, which asks name servers for aiodns and so for aiohttp, ends channels for the whole process.)
_OF_LIBRARIES: Final = frozenset(
    {
        "anyio._backends._asyncio",
        "trio._core._thread_cache",
        "asyncio.unix_events",
        "multiprocessing.queues",
        "pycares",
        "taskscope._backends._watchdog",
    }
)


@final
class Threads(Looking):
    def __init__(self, table: TaskTable, policy: Policy) -> None:
        super().__init__(table, policy)
        self._pools = Pools(table)

    def begin(self) -> None:
        THREADS.acquire()
        self._pools.begin()

    def finish(self) -> None:
        THREADS.release()
        self._pools.finish()

    def found(self) -> list[Found]:
        started = THREADS.started_under(self.table)
        return [_found(thread, origin) for thread, origin in started if self._is_left(thread)]

    def coverage(self) -> tuple[str, ...]:
        if THREADS.is_noting():
            return ()
        return ("threads were not all seen: threading.Thread.start was replaced while the scope was open",)

    def _is_left(self, thread: threading.Thread) -> bool:
        if not _is_alive(thread) or thread is threading.current_thread():
            return False
        module = getattr(getattr(thread, "_target", None), "__module__", None)
        if not _OF_LIBRARIES.isdisjoint({type(thread).__module__, module}):
            return False
        return self._pools.has_thread(thread) is not False


def _is_alive(thread: threading.Thread) -> bool:
    try:
        return threading.Thread.is_alive(thread)  # not by a method of a user's class
    except (AssertionError, AttributeError):  # whose constructor did not call that of Thread
        return False


def _found(thread: threading.Thread, origin: Origin) -> Found:
    kind = "daemon thread" if thread.daemon else "thread"
    finding = Finding("thread", f"{kind} {thread.name!r}", spawn_site=origin.place, stack=frames_of(thread))
    serves: Any = getattr(getattr(thread, "_target", None), "__self__", None)
    return Found(finding, (thread, serves), origin=origin)
