"""What a function imports when it is called."""

from __future__ import annotations

import dis
import functools
import importlib.util
import sys
from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Final, NamedTuple

from taskscope._code import codes_in

# Pieces of code of which it is kept: to read one takes a while.
_CODES: Final = 2_000

_IMPORT: Final = dis.opmap["IMPORT_NAME"]


class Import(NamedTuple):
    """One that a function makes: a module, and the names that it takes from there."""

    module: str
    names: tuple[str, ...]


def imported_by(function: FunctionType) -> list[object]:
    """The modules that it imports, as far as they are there."""
    return [sys.modules[made.module] for made in imports_of(function) if made.module in sys.modules]


def imports_of(function: FunctionType) -> list[Import]:
    """All that it makes, and the functions that it makes."""
    package: object = function.__globals__.get("__package__")
    return [Import(_absolute(name, level, package), names) for name, level, names in _imports_in(function.__code__)]


@functools.lru_cache(_CODES)
def _imports_in(code: CodeType) -> tuple[tuple[str, int, tuple[str, ...]], ...]:
    return tuple(_read(code))


def _read(code: CodeType) -> Iterator[tuple[str, int, tuple[str, ...]]]:
    """The names of modules, each with the number of dots before it and the names that are taken from there."""
    for each in codes_in(code):
        steps = list(dis.get_instructions(each)) if _IMPORT in each.co_code[::2] else []
        for index, step in enumerate(steps):
            if step.opcode == _IMPORT:
                level, names = steps[index - 2].argval, steps[index - 1].argval
                yield step.argval, level if type(level) is int else 0, names if type(names) is tuple else ()


def _absolute(name: str, level: int, package: object) -> str:
    if level == 0 or type(package) is not str:
        return name
    try:
        return importlib.util.resolve_name("." * level + name, package)
    except ImportError:  # beyond the top
        return name
