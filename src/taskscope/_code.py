"""A function's code, with that of the functions that are made in it."""

from __future__ import annotations

from collections.abc import Iterator
from types import CodeType


def codes_in(code: CodeType) -> Iterator[CodeType]:
    """The code itself, and that of all functions inside of it, outermost first."""
    yield code
    for constant in code.co_consts:
        if type(constant) is CodeType:
            yield from codes_in(constant)


def names_in(code: CodeType) -> Iterator[str]:
    """The names of globals and attributes in them."""
    for each in codes_in(code):
        yield from each.co_names
