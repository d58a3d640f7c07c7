"""Colour, where a terminal shows it or a user asks for it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Literal, TextIO

Role = Literal["alarm", "good", "heading", "label", "place", "faint"]
Paint = Callable[[Role, str], str]

_CODES: dict[Role, str] = {"alarm": "1;31", "good": "32", "heading": "1", "label": "36", "place": "35", "faint": "2"}


def painter(color: bool) -> Paint:
    return _colored if color else _plain


def wants_color(stream: TextIO) -> bool:
    """Whether text for a stream should be coloured: if it is a terminal, unless the environment says otherwise.

    `NO_COLOR` and `FORCE_COLOR` count where they are set and not empty (https://no-color.org, https://force-color.org),
    the first before the second. A terminal that calls itself dumb gets no colour.
    """
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def _plain(role: Role, text: str) -> str:
    return text


def _colored(role: Role, text: str) -> str:
    return f"\x1b[{_CODES[role]}m{text}\x1b[0m"
