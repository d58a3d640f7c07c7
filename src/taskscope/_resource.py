"""A resource: how it is closed, what it is called in reports, and which objects stand for it."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Callable
from typing import Any, Final, cast

from taskscope._diagnosis.awaitables import UNKNOWN, field_of, fields, is_exactly
from taskscope._diagnosis.opaque import class_of, module_of
from taskscope._diagnosis.safely import safe_repr

CLOSES: Final = ("aclose", "close")
"""The methods by which a resource is closed. The first that there is, is called."""

_qualname: Final = type.__dict__["__qualname__"].__get__


def method_of(resource: object, name: str) -> Callable[..., Any] | None:
    """A method that a resource has. One that a `__getattr__` makes up as it is asked for does not count."""
    try:
        inspect.getattr_static(resource, name)
        found = getattr(resource, name)
    except AttributeError:
        return None
    return cast("Callable[..., Any]", found) if callable(found) else None


def close_of(resource: object) -> Callable[..., Any] | None:
    """The method that closes a resource. None where it is closed in no way or as a context manager.

    A proxy makes all its methods up, and so may a client that takes any name for that of a remote procedure: what is
    made up is called only where there is no method that is not.
    """
    for find in (method_of, _made_up):
        for name in CLOSES:
            method = find(resource, name)
            if method is not None:
                return method
    return None


def closed_part(resource: Any) -> Any:
    """What is closed when a resource is: of a stream's two halves the writer."""
    return resource[1] if is_pair(resource) else resource


def is_pair(resource: Any) -> bool:
    """Whether a resource is what `asyncio.open_connection` returns."""
    return (
        is_exactly(resource, tuple)
        and len(resource) == 2
        and issubclass(class_of(resource[0]), asyncio.streams.StreamReader)
        and issubclass(class_of(resource[1]), asyncio.streams.StreamWriter)
    )


def is_server(resource: object) -> bool:
    """Whether a resource is a server of asyncio or uvloop: to close one takes nothing from those who serve."""
    kind = class_of(resource)
    return issubclass(kind, asyncio.events.AbstractServer) or type_name(kind) in ("uvloop.loop.Server", "uvloop.Server")


def what_it_is(resource: object, name: str | None) -> str:
    """The resource's type, and its name if it was given one."""
    kind = type_name(class_of(closed_part(resource)))
    return kind if name is None else f"{kind} {str.__str__(name)!r}"


def type_name(kind: type) -> str:
    """The name by which users import a class: `sqlite3.Connection`, wherever the package keeps it."""
    module, name = module_of(kind) or "", str.__str__(_qualname(kind))
    if module in ("", "builtins", "__main__"):
        return name
    package = module.partition(".")[0]
    if fields(sys.modules.get(package)).get(name) is kind:
        return f"{package}.{name}"
    public = [part for part in module.split(".") if not part.startswith("_")]
    return ".".join([*public, name]) if module.startswith(package + ".") else f"{module}.{name}"


def stand_ins(resource: Any) -> list[object]:
    """The objects that stand for a resource: who holds one of them holds it.

    The halves of an asyncio stream share a transport, and who has the reader of a closed writer has a closed stream.
    """
    part = closed_part(resource)
    found = [resource, part]
    if is_pair(resource):
        found.append(resource[0])
    if issubclass(class_of(part), asyncio.streams.StreamWriter):
        found += [half for half in (field_of(part, "_transport"), field_of(part, "_reader")) if _is_thing(half)]
    return found


def refusal(resource: object, allowed: str) -> TypeError:
    return TypeError(f"resource={safe_repr(resource)}: must be {allowed}, not {class_of(resource).__name__}")


def _made_up(resource: Any, name: str) -> Callable[..., Any] | None:
    try:
        found = getattr(resource, name, None)
    except Exception:  # a `__getattr__` that knows nothing of this name
        return None
    return cast("Callable[..., Any]", found) if callable(found) else None


def _is_thing(value: object) -> bool:
    return value is not None and value is not UNKNOWN
