"""Transports of asyncio that are still open, and file descriptors that a loop still watches for a user."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, Final, final

from taskscope._backends._ownership import running_loop
from taskscope._diagnosis.safely import safely
from taskscope._findings.addresses import connection_of
from taskscope._findings.callables import definition_of, module_of, name_of, object_of
from taskscope._findings.found import Found, Looking
from taskscope._findings.loops import Watched, context_in, is_uvloop, uvloop_objects, watched_under, what_is_hidden
from taskscope._findings.openings import openings_of
from taskscope._findings.owners import Origin, is_tagged
from taskscope._policy import Policy
from taskscope._report import Finding
from taskscope._table import TaskTable

_LIBRARIES: Final = frozenset({"asyncio", "_asyncio", "uvloop", "anyio"})

_OF_UVLOOP: Final = ("TCPTransport", "UnixTransport", "UDPTransport", "ReadUnixTransport", "WriteUnixTransport")

# Pipes to a child process end with it, and are told as that.
_OF_PROCESSES: Final = frozenset({"ReadSubprocessPipeProto", "WriteSubprocessPipeProto"})


@final
class Transports(Looking):
    def __init__(self, table: TaskTable, policy: Policy) -> None:
        super().__init__(table, policy)
        self._openings = openings_of(running_loop())

    def begin(self) -> None:
        self._openings.acquire()

    def finish(self) -> None:
        self._openings.release()

    def found(self) -> list[Found]:
        loop = running_loop()
        opened = _of_uvloop(loop, self.table) if is_uvloop(loop) else self._openings.opened_under(self.table)
        watched = watched_under(self.table, loop)
        return [
            *(_transport(transport, origin) for transport, origin in opened if _is_open(transport)),
            *(_watched(loop, each) for each in watched if _is_of_user(each)),
        ]

    def coverage(self) -> tuple[str, ...]:
        loop = running_loop()
        if is_uvloop(loop) or self._openings.is_noting():
            return what_is_hidden(loop, "transports")
        return (f"transports were not looked at: a {type(loop).__qualname__} does not show those that it opens",)


def _transport(transport: Any, origin: Origin | None) -> Found:
    protocol = _protocol_of(transport)
    over_tls = getattr(protocol, "_app_transport", None)
    outer = transport if over_tls is None else over_tls
    user = getattr(protocol, "_app_protocol", None) or protocol
    words = f"{safely(lambda: connection_of(transport), 'connection')} ({type(user).__qualname__})"
    return Found(
        Finding("transport", words, spawn_site=None if origin is None else origin.place),
        (transport, outer, user),
        end=outer.close,
        insist=getattr(transport, "abort", None),
        origin=origin,
    )


def _of_uvloop(loop: asyncio.AbstractEventLoop, table: TaskTable) -> list[tuple[Any, None]]:
    return [(each, None) for each in uvloop_objects(loop, *_OF_UVLOOP) if is_tagged(context_in(each), table)]


def _is_open(transport: Any) -> bool:
    protocol = _protocol_of(transport)
    over_tls = getattr(protocol, "_app_transport", None)
    is_closing = transport.is_closing() or (over_tls is not None and over_tls.is_closing())
    return not is_closing and type(protocol).__name__ not in _OF_PROCESSES


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
    things = (watched.handle, watched.callback, object_of(watched.callback))
    return Found(finding, things, end=partial(stop, watched.descriptor))
