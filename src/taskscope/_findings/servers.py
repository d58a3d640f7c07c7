"""Servers of asyncio that still listen."""

from __future__ import annotations

import asyncio
import gc
from typing import Any, final

from taskscope._backends._ownership import running_loop
from taskscope._diagnosis.safely import safely
from taskscope._findings.addresses import listening_at
from taskscope._findings.found import Found, Looking
from taskscope._findings.loops import (
    context_in,
    is_uvloop,
    unkept_uvloop_objects,
    uvloop_objects,
    watched_under,
    what_is_hidden,
)
from taskscope._findings.owners import is_tagged
from taskscope._report import Finding
from taskscope._table import TaskTable


@final
class Servers(Looking):
    def found(self) -> list[Found]:
        loop = running_loop()
        servers = _of_uvloop(loop, self.table) if is_uvloop(loop) else _of_asyncio(loop, self.table)
        return [_found(server) for server in dict.fromkeys(servers) if server.is_serving()]

    def coverage(self) -> tuple[str, ...]:
        return what_is_hidden(running_loop(), "servers")


def _of_asyncio(loop: asyncio.AbstractEventLoop, table: TaskTable) -> list[Any]:
    mine = watched_under(table, loop)
    return [part for watched in mine for part in watched.arguments if isinstance(part, asyncio.base_events.Server)]


def _of_uvloop(loop: asyncio.AbstractEventLoop, table: TaskTable) -> list[Any]:
    lists: list[list[Any]] = [
        held for server in uvloop_objects(loop, "Server") for held in gc.get_referents(server) if type(held) is list
    ]
    listeners = [each for held in lists for each in held if type(each).__name__ == "TCPServer"]
    # What listens at a Unix socket is kept by nobody but the C library.
    listeners += unkept_uvloop_objects(loop, "UnixServer")
    mine = [listener for listener in listeners if is_tagged(context_in(listener), table)]
    return [part for listener in mine for part in gc.get_referents(listener) if hasattr(part, "is_serving")]


def _found(server: Any) -> Found:
    what = safely(lambda: f"server listening at {listening_at(server)}", "server")
    return Found(Finding("server", what), (server,), end=server.close)
