"""Where a task group or a nursery was opened: whose `async with` block it is, and at which line that begins."""

from __future__ import annotations

import collections
import functools
import gc
import os
import types
from collections.abc import Callable
from typing import Any, Final

from taskscope._diagnosis.opaque import class_of, module_of
from taskscope._diagnosis.stack import Chain
from taskscope._diagnosis.with_blocks import line_of_block

_MOST: Final = 300

# Through these a frame holds the exits of the blocks that it is in: by itself, in an `AsyncExitStack`, or in the
# generator that a context manager has been made from.
_BETWEEN: Final[tuple[Any, ...]] = (
    types.MethodType,
    types.FunctionType,
    types.CellType,
    functools.partial,
    collections.deque,
    tuple,
)
_PREFIXES: Final[dict[type[Any], str]] = {types.CoroutineType: "cr", types.AsyncGeneratorType: "ag"}


def opened_in(chain: Chain, is_manager: Callable[[object], bool]) -> str | None:
    """Where a group was opened: `'tg_fixture' (conftest.py:12)`. None where that cannot be told.

    chain: that of the task that has opened it.
    is_manager: tells the object that was entered for it.
    """
    for link in chain.links:
        holder: Any = None if type(link.holder) is types.CodeType else _opener(link.holder, is_manager)
        if holder is not None:
            return _place(*holder)
    return None


def _opener(start: object, is_manager: Callable[[object], bool]) -> tuple[object, object] | None:
    """The coroutine or generator that has entered a manager, and the manager. Begins with what a task is in."""
    todo: list[tuple[object, object]] = [(start, start)]
    seen = {id(start)}
    for obj, frame_of in todo:  # which grow meanwhile
        for ref in gc.get_referents(obj):
            if is_manager(ref):
                return frame_of, ref
            if id(ref) in seen or len(seen) > _MOST:
                continue
            seen.add(id(ref))
            kind = class_of(ref)
            if kind is types.AsyncGeneratorType:
                todo.append((ref, ref))
            elif any(kind is known for known in _BETWEEN) or _is_of_contextlib(ref):
                todo.append((ref, frame_of))
            elif kind is dict and _is_of_contextlib(obj):
                todo.append((ref, frame_of))  # its attributes
    return None


def _is_of_contextlib(obj: object) -> bool:
    return module_of(type(obj)) == "contextlib"


def _place(holder: Any, manager: object) -> str | None:
    prefix = _PREFIXES.get(class_of(holder), "gi")
    frame, code = getattr(holder, f"{prefix}_frame"), getattr(holder, f"{prefix}_code")
    if frame is None:
        return None
    line = line_of_block(holder, manager) or frame.f_lineno
    return f"{code.co_qualname!r} ({os.path.basename(code.co_filename)}:{line})"
