"""Transports of asyncio that are still open, and file descriptors that a loop still watches for a user."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, Final, final

from taskscope._diagnosis.safely import safely
from taskscope._findings.addresses import connection_of
from taskscope._findings.callables import definition_of, module_of, name_of, object_of
from taskscope._findings.found import Found, Looking
from taskscope._findings.loops import Watched, context_in, is_uvloop, uvloop_objects, watched_under, what_is_hidden
from taskscope._findings.openings import openings_of
from taskscope._findings.owners import is_tagged, place_of
from taskscope._policy import Policy
from taskscope._report import Finding
from taskscope._table import TaskTable

_LIBRARIES: Final = frozenset({"asyncio", "uvloop"})

_OF_UVLOOP: Final = ("TCPTransport", "UnixTransport", "UDPTransport", "ReadUnixTransport", "WriteUnixTransport")

# Pipes to a child process end with it, and are told as that.
_OF_PROCESSES: Final = frozenset({"ReadSubprocessPipeProto", "WriteSubprocessPipeProto"})


@final
class Transports(Looking):
    def __init__(self, table: TaskTable, policy: Policy) -> None:
        super().__init__(table, policy)
        self._openings = openings_of(asyncio.get_running_loop())

    def begin(self) -> None:
        self._openings.acquire()

    def finish(self) -> None:
        self._openings.release()

    def found(self) -> list[Found]:
        loop = asyncio.get_running_loop()
        mine = watched_under(self.table, loop)
        parts = (object_of(watched.callback) for watched in mine)
        transports = [part for part in parts if isinstance(part, asyncio.BaseTransport)]
        transports += self._openings.opened_under(self.table)
        transports += _of_uvloop(loop, self.table) if is_uvloop(loop) else []
        return [
            *(self._transport(each) for each in dict.fromkeys(transports) if _is_open(each)),
            *(_watched(loop, watched) for watched in mine if _is_of_user(watched)),
        ]

    def coverage(self) -> tuple[str, ...]:
        return what_is_hidden(asyncio.get_running_loop(), "transports")

    def _transport(self, transport: Any) -> Found:
        protocol = _protocol_of(transport)
        over_tls = getattr(protocol, "_app_transport", None)
        outer = transport if over_tls is None else over_tls
        user = getattr(protocol, "_app_protocol", None) or protocol
        words = f"{safely(lambda: connection_of(transport), 'connection')} ({type(user).__qualname__})"
        return Found(
            Finding("transport", words, spawn_site=place_of(self._openings.site_of(transport))),
            (transport, outer, user),
            end=outer.close,
            insist=getattr(transport, "abort", None),
        )


def _of_uvloop(loop: asyncio.AbstractEventLoop, table: TaskTable) -> list[Any]:
    return [each for each in uvloop_objects(loop, *_OF_UVLOOP) if is_tagged(context_in(each), table)]


def _is_open(transport: Any) -> bool:
    return not transport.is_closing() and type(_protocol_of(transport)).__name__ not in _OF_PROCESSES


def _protocol_of(transport: Any) -> Any:
    try:
        return transport.get_protocol()
    except NotImplementedError:
        return None


def _is_of_user(watched: Watched) -> bool:
    return callable(watched.callback) and module_of(watched.callback).partition(".")[0] not in _LIBRARIES


def _watched(loop: asyncio.AbstractEventLoop, watched: Watched) -> Found:
    how, stop = ("reader", loop.remove_reader) if watched.is_for_reading else ("writer", loop.remove_writer)
    finding = Finding(
        "transport",
        f"{how} of file descriptor {watched.descriptor}, which calls {name_of(watched.callback)}",
        stack=definition_of(watched.callback),
    )
    things = (watched.callback, object_of(watched.callback))
    return Found(finding, things, end=partial(stop, watched.descriptor))
