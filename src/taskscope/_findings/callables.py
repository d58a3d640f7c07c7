"""What a callable is called and where it stands, without a call of any user's code."""

from __future__ import annotations

import functools
from types import FunctionType, MethodType
from typing import Any

from taskscope._diagnosis.safely import safely
from taskscope._frames import frame_at
from taskscope._report import Frame


def unwrapped(call: Any) -> Any:
    """What is called in the end, where partials or wrappers of functools stand round it."""
    while type(call) is functools.partial:
        call = call.func
    return call


def name_of(call: Any) -> str:
    """Its qualified name, that of its class where it has none."""
    call = unwrapped(call)
    name = safely(lambda: call.__qualname__, "")
    return name or type(call).__qualname__


def module_of(call: Any) -> str:
    call = unwrapped(call)
    owner = object_of(call)
    if type(call) is not FunctionType and type(call) is not MethodType and owner is not None:
        return safely(lambda: type(owner).__module__, "")  # a method of a C type has no module of its own
    return safely(lambda: call.__module__, "")


def definition_of(call: Any) -> tuple[Frame, ...]:
    """Where it is defined, as a frame. Empty for what is not written in Python."""
    call = unwrapped(call)
    function = call.__func__ if type(call) is MethodType else call
    return (frame_at(function.__code__, -1),) if type(function) is FunctionType else ()


def object_of(call: Any) -> object:
    """The object whose method it is, None for a function."""
    try:
        return getattr(unwrapped(call), "__self__", None)
    except Exception:  # a `__getattr__` that knows nothing of this name
        return None
