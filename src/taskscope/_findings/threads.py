"""Threads that were started under a scope and still run, save for those that serve the loop or a whole library."""

from __future__ import annotations

import asyncio
import gc
import threading
from concurrent.futures import Executor
from typing import Any, Final, final

from taskscope._diagnosis.awaitables import field_of
from taskscope._findings.found import Found, Looking
from taskscope._findings.loops import is_uvloop
from taskscope._findings.owners import Site, place_of
from taskscope._findings.starts import THREADS
from taskscope._findings.thread_stacks import frames_of
from taskscope._report import Finding

# Modules whose threads wait for the next one who has work for them, or for a process: each is told as what it does.
_OF_LIBRARIES: Final = frozenset(
    {"anyio._backends._asyncio", "trio._core._thread_cache", "asyncio.unix_events", "taskscope._backends._watchdog"}
)
_Loop: Final = asyncio.AbstractEventLoop
_POOLS: Final = "concurrent.futures.thread"


@final
class Threads(Looking):
    def begin(self) -> None:
        THREADS.acquire()

    def finish(self) -> None:
        THREADS.release()

    def found(self) -> list[Found]:
        return [_found(thread, site) for thread, site in THREADS.started_under(self.table) if _is_somebodys(thread)]

    def coverage(self) -> tuple[str, ...]:
        if THREADS.is_noting():
            return ()
        return ("threads were not all seen: threading.Thread.start was replaced while the scope was open",)


def _is_somebodys(thread: Any) -> bool:
    if not thread.is_alive() or thread is threading.current_thread():
        return False
    module = getattr(getattr(thread, "_target", None), "__module__", None)
    if not _OF_LIBRARIES.isdisjoint({type(thread).__module__, module}):
        return False
    if module != _POOLS:
        return True
    pool = thread._args[0]() if getattr(thread, "_args", ()) else None
    return pool is not None and not _is_default_executor(pool)


def _is_default_executor(pool: Executor) -> bool:
    """Whether a loop shuts a pool down when it is closed."""
    running = asyncio._get_running_loop()
    if running is not None and _is_shut_down_by(running, pool):
        return True
    # By one that is stopped for now: only the collector knows it. Asked where the worker of a pool is left.
    return any(_is_shut_down_by(obj, pool) for obj in gc.get_objects() if issubclass(type(obj), _Loop))


def _is_shut_down_by(loop: asyncio.AbstractEventLoop, pool: Executor) -> bool:
    if is_uvloop(loop):
        return any(held is pool for held in gc.get_referents(loop))
    return field_of(loop, "_default_executor") is pool


def _found(thread: threading.Thread, site: Site) -> Found:
    kind = "daemon thread" if thread.daemon else "thread"
    finding = Finding("thread", f"{kind} {thread.name!r}", spawn_site=place_of(site), stack=frames_of(thread))
    return Found(finding, (thread, getattr(getattr(thread, "_target", None), "__self__", None)))
