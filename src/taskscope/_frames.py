"""Places in code, noted as a code object and an offset, made readable."""

from __future__ import annotations

from types import CodeType

from taskscope._report import Frame


def frame_at(code: CodeType, offset: int) -> Frame:
    """The frame of an instruction; with a negative offset, of the function's definition."""
    return Frame(code.co_filename, _line_at(code, offset), code.co_qualname)


def _line_at(code: CodeType, offset: int) -> int:
    for start, end, line in code.co_lines():
        if start <= offset < end:
            return line or 0
    return code.co_firstlineno
