"""Where in the source a suspended frame has entered an object by `with` or `async with`."""

from __future__ import annotations

import gc
import itertools
import opcode
import sys
import types
from collections.abc import Iterator
from typing import Any, Final

_EXITS: Final = ("__aexit__", "__exit__")
_HANDLER: Final = bytes((opcode.opmap["PUSH_EXC_INFO"], 0, opcode.opmap["WITH_EXCEPT_START"], 0))
_IS_BOUND: Final = sys.version_info < (3, 14)  # later ones keep the function and the object side by side
_FUNCTIONS: Final = (types.FunctionType, types.MethodDescriptorType, types.WrapperDescriptorType)


def line_of_block(holder: Any, entered: object) -> int | None:
    """The line of the `with` in which a suspended coroutine or generator has entered an object and not left it yet.

    None where that cannot be told.
    """
    frame, code = _frame_of(holder)
    if frame is None or code is None:
        return None
    lines = _lines_of_blocks(code, frame.f_lasti)
    # The collector is told of variables first, and then of the stack, where the exits wait, outermost first.
    managers = _managers(gc.get_referents(holder))[-len(lines) :] if lines else []
    if len(managers) < len(lines):
        return None
    return next((line for line, manager in zip(lines, managers, strict=True) if manager is entered), None)


def _frame_of(holder: Any) -> tuple[types.FrameType | None, types.CodeType | None]:
    if type(holder) is types.CoroutineType:
        return holder.cr_frame, holder.cr_code
    if type(holder) is types.AsyncGeneratorType:
        return holder.ag_frame, holder.ag_code
    if type(holder) is types.GeneratorType:
        return holder.gi_frame, holder.gi_code
    return None, None


def _managers(refs: list[Any]) -> list[object]:
    if _IS_BOUND:
        methods = (types.MethodType, types.BuiltinMethodType)
        return [ref.__self__ for ref in refs if type(ref) in methods and ref.__name__ in _EXITS]
    pairs = itertools.pairwise(refs)
    return [manager for exit, manager in pairs if type(exit) in _FUNCTIONS and exit.__name__ in _EXITS]


def _lines_of_blocks(code: types.CodeType, offset: int) -> list[int]:
    """The lines of the `with` blocks round an instruction, outermost first.

    Where a block is left by an exception there is a handler that calls the exit. From handler to handler the way leads
    outwards, and the instructions of each have the line of its `with`.
    """
    handlers = list(_handlers(code))
    lines: list[int] = []
    for _ in handlers:
        target = next((target for start, end, target in handlers if start <= offset < end), None)
        if target is None:
            break
        if code.co_code[target : target + 4] == _HANDLER:
            line = next(itertools.islice(code.co_positions(), target // 2, None))[0]
            lines.insert(0, line or 0)
        offset = target
    return lines


def _handlers(code: types.CodeType) -> Iterator[tuple[int, int, int]]:
    """From the exception table of a function: the range of each entry, and where its handler is, in bytes."""
    numbers = _numbers(code.co_exceptiontable)
    for start, length, target, _ in zip(numbers, numbers, numbers, numbers, strict=False):
        yield 2 * start, 2 * (start + length), 2 * target


def _numbers(table: bytes) -> Iterator[int]:
    """Each number is in groups of six bits, the largest first; all but its last byte have the next bit set."""
    number = 0
    for byte in table:
        number = number << 6 | byte & 63
        if not byte & 64:
            yield number
            number = 0
