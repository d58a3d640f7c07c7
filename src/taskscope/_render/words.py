"""Numbers and lists in words, and lines that fit a page."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

WIDTH = 100
"""Columns that a report is made to be read in."""


def counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}{'es' if noun.endswith('s') else 's'}"


def listed(words: Sequence[str], limit: int) -> str:
    """The first words, and how many more there are."""
    shown = ", ".join(words[:limit])
    return shown if len(words) <= limit else f"{shown} and {len(words) - limit:,} more"


def wrapped(text: str, indent: str, first: str | None = None) -> list[str]:
    """Text in lines of at most `WIDTH` columns, if its words allow it; `first` stands before the first line."""
    lines: list[str] = []
    line = indent if first is None else first
    used, is_empty = columns(line), True
    for word in text.split():
        width = columns(word)
        if not is_empty and used + 1 + width > WIDTH:
            lines.append(line)
            line, used, is_empty = indent, columns(indent), True
        line += word if is_empty else f" {word}"
        used += width if is_empty else 1 + width
        is_empty = False
    return lines if is_empty else [*lines, line]


def clipped(text: str, indent: str = "", width: int = WIDTH) -> str:
    """One line that ends in dots where it would be too wide."""
    line = indent + text[: width + 1]
    if len(text) <= width and columns(line) <= width:
        return line
    while columns(line) > width - 3:
        line = line[:-1]
    return line + "..."


def columns(text: str) -> int:
    """How wide a terminal shows printable text: East Asian characters take two columns, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(_columns_of(char) for char in text)


def _columns_of(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def printable(text: str) -> str:
    """Text with control characters and unpaired surrogates escaped: it breaks neither a line nor an output."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)
