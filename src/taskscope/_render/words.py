"""Numbers and lists in words, and lines that fit a page."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

WIDTH = 100
"""Columns that a report is made to be read in."""


def counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def listed(words: Sequence[str], limit: int) -> str:
    """The first words, and how many more there are."""
    shown = ", ".join(words[:limit])
    return shown if len(words) <= limit else f"{shown} and {len(words) - limit:,} more"


def wrapped(text: str, indent: str, first: str | None = None) -> list[str]:
    """Text in lines of at most `WIDTH` columns, if its words allow it; `first` stands before the first line."""
    return textwrap.wrap(
        " ".join(text.split()),
        WIDTH,
        initial_indent=indent if first is None else first,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def clipped(text: str, indent: str) -> str:
    """One line that ends in dots where it would be too wide."""
    line = indent + text
    return line if len(line) <= WIDTH else line[: WIDTH - 3] + "..."


def printable(text: str) -> str:
    """Text with control characters and unpaired surrogates escaped: it breaks neither a line nor an output."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)
