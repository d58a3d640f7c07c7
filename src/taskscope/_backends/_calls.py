"""Whether one function calls another, told from its code: nothing of it is run."""

from __future__ import annotations

import functools
import inspect
from collections import deque
from types import CodeType, FunctionType, MemberDescriptorType, MethodType
from typing import Any, cast

from taskscope._code import names_in

LIMIT = 200
"""How many callables are looked at. Wrappers are a few deep; who is further away is taken for not called."""


def may_call(caller: object, callee: object) -> bool:
    """Whether `caller` names `callee` where it could call it, itself or through what it names so.

    Seen are closures, defaults, globals, partials, and the attributes of a method's object that its code names.
    """
    seen: dict[int, object] = {}  # bound methods are made on the way: what is not kept can lend its id to another
    todo = deque([caller])
    while todo and len(seen) < LIMIT:
        part = todo.popleft()
        if part is callee:
            return True
        if id(part) not in seen:
            seen[id(part)] = part
            todo.extend(_named_by(part))
    return False


def _named_by(part: object) -> list[object]:
    if isinstance(part, functools.partial):
        return [part.func, *part.args, *part.keywords.values()]
    if isinstance(part, FunctionType):
        return _named_by_function(part)
    if isinstance(part, MethodType):
        code = getattr(part.__func__, "__code__", None)
        names = names_in(code) if isinstance(code, CodeType) else ()
        return [part.__func__, *(_attribute(part.__self__, name) for name in names)]
    call = inspect.getattr_static(type(part), "__call__", None)
    return [MethodType(call, part)] if isinstance(call, FunctionType) else []


def _named_by_function(function: FunctionType) -> list[object]:
    parts: list[object] = [cell.cell_contents for cell in function.__closure__ or () if _is_filled(cell)]
    parts += function.__defaults__ or ()
    parts += (function.__kwdefaults__ or {}).values()
    parts += (function.__globals__.get(name) for name in names_in(function.__code__))
    return [part for part in parts if callable(part)]


def _attribute(instance: Any, name: str) -> object:
    found: Any = inspect.getattr_static(instance, name, None)
    if isinstance(found, FunctionType):
        return MethodType(found, instance)
    if isinstance(found, staticmethod | classmethod):
        return cast("Any", found).__func__
    if isinstance(found, MemberDescriptorType):
        try:
            return found.__get__(instance)
        except AttributeError:  # a slot that is not filled
            return None
    return found


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False
