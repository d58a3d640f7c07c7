"""Addresses of sockets in words."""

from __future__ import annotations

from typing import Any, cast

from taskscope._diagnosis.safely import safely


def address(name: Any) -> str | None:
    """A socket's own or its peer's name: host and port, a path, or None where it has none."""
    if isinstance(name, tuple):
        host, port = safely(lambda: cast("Any", name)[0], "?"), safely(lambda: cast("Any", name)[1], "?")
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if isinstance(name, bytes):
        name = name.decode("utf-8", "backslashreplace")
    return name if isinstance(name, str) and name else None


def listening_at(server: Any) -> str:
    """Where a server listens."""
    names = [address(socket.getsockname()) for socket in server.sockets]
    return ", ".join(name for name in names if name is not None) or "an unnamed socket"


def connection_of(transport: Any) -> str:
    """What a transport connects."""
    own = address(transport.get_extra_info("sockname"))
    peer = address(transport.get_extra_info("peername"))
    if peer is not None:
        return f"connection to {peer}"
    if own is not None:
        return f"socket at {own}"
    return "pipe" if transport.get_extra_info("pipe") is not None else "connection to an unnamed peer"
