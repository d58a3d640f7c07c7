"""Child processes that were started under a scope and still run."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing.process
import os
import shlex
import signal
import subprocess
from collections.abc import Callable
from functools import partial
from typing import Any, Final, final

from taskscope._diagnosis.safely import safely
from taskscope._findings.found import Found, Looking
from taskscope._findings.loops import context_in, is_uvloop, uvloop_objects
from taskscope._findings.owners import Origin, is_tagged
from taskscope._findings.pools import Pools
from taskscope._findings.starts import Starts
from taskscope._policy import Policy
from taskscope._report import Finding
from taskscope._table import TaskTable

POPENS: Final = Starts(subprocess.Popen, "__init__")
"""Starts of subprocesses: asyncio, AnyIO and Trio start theirs by this too. uvloop does not."""

FORKS: Final = Starts(multiprocessing.process.BaseProcess, "start")
"""Starts of processes by `multiprocessing`, and by pools of processes."""

COMMAND_WIDTH: Final = 120

_OF_ANYIO: Final = "anyio.to_process"


@final
class Processes(Looking):
    def __init__(self, table: TaskTable, policy: Policy) -> None:
        super().__init__(table, policy)
        self._ends = policy.end_processes
        self._pools = Pools(table)

    def begin(self) -> None:
        POPENS.acquire()
        FORKS.acquire()
        self._pools.begin()

    def finish(self) -> None:
        POPENS.release()
        FORKS.release()
        self._pools.finish()

    def found(self) -> list[Found]:
        popens = [
            _popen(process, origin)
            for process, origin in POPENS.started_under(self.table)
            if is_running(process) and not _is_worker_of_anyio(process.args)
        ]
        forks = [
            _fork(process, origin)
            for process, origin in FORKS.started_under(self.table)
            if _is_alive(process) and self._pools.has_process(process) is not False
        ]
        found = [*popens, *forks, *self._of_uvloop()]
        if not self._ends:
            for each in found:
                each.end = each.insist = None
        return found

    def coverage(self) -> tuple[str, ...]:
        if POPENS.is_noting() and FORKS.is_noting():
            return ()
        return ("processes were not all seen: what starts them was replaced while the scope was open",)

    def _of_uvloop(self) -> list[Found]:
        loop = asyncio._get_running_loop()
        if loop is None or not is_uvloop(loop):
            return []
        transports = uvloop_objects(loop, "UVProcessTransport")
        mine = [transport for transport in transports if is_tagged(context_in(transport), self.table)]
        running = [transport for transport in mine if transport.get_returncode() is None]
        return [_transport(each) for each in running if not any(map(_is_worker_of_anyio, gc.get_referents(each)))]


def is_running(process: subprocess.Popen[Any]) -> bool:
    """Whether a process has not ended. How it ended is left for whoever waits for it, an event loop for instance."""
    if getattr(process, "pid", None) is None or process.returncode is not None:
        return False  # another thread is about to start it, or has failed to, or it has ended
    if not hasattr(os, "waitid"):
        return process.poll() is None
    try:
        return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    except ChildProcessError:  # somebody has waited for it, and not told the object
        return False


def _is_alive(process: Any) -> bool:
    try:
        return bool(process.is_alive())
    except (ValueError, AssertionError):  # closed, or the child of another process
        return False


def _is_worker_of_anyio(command: Any) -> bool:
    """Whether a command is that of AnyIO's worker processes, which wait for work for as long as the loop runs."""
    return isinstance(command, list | tuple) and (_OF_ANYIO in command or _OF_ANYIO.encode() in command)


def _popen(process: subprocess.Popen[Any], origin: Origin) -> Found:
    # Not by the methods of the object: they look whether it has ended, and would take that from an event loop.
    terminate = partial(os.kill, process.pid, signal.SIGTERM)
    kill = partial(os.kill, process.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
    return _found(process, _command(process.args), process.pid, origin, terminate, kill)


def _fork(process: Any, origin: Origin) -> Found:
    return _found(process, safely(lambda: process.name, "?"), process.pid, origin, process.terminate, process.kill)


def _transport(transport: Any) -> Found:
    return _found(transport, "subprocess", transport.get_pid(), None, transport.terminate, transport.kill)


def _found(
    process: object,
    what: str,
    pid: int | None,
    origin: Origin | None,
    terminate: Callable[[], object],
    kill: Callable[[], object],
) -> Found:
    finding = Finding("process", f"{what} (pid {pid})", spawn_site=None if origin is None else origin.place)
    return Found(finding, (process,), end=terminate, insist=kill, ended="terminated", forced="killed", origin=origin)


def _command(args: Any) -> str:
    text = safely(lambda: args if isinstance(args, str) else shlex.join(map(os.fsdecode, args)), "subprocess")
    return text if len(text) <= COMMAND_WIDTH else text[: COMMAND_WIDTH - 3] + "..."
