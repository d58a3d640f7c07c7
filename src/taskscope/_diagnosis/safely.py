"""Reading what is users' code, and can be broken in any way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

REPR_LIMIT = 200


def safely(read: Callable[[], Any], otherwise: str) -> str:
    """What `read` returns as a string, `otherwise` where it raises: task classes and reprs are users' code too."""
    try:
        return str(read())
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # a CancelledError too: it is not meant for who reads
        return otherwise


def error_in_words(error: object, otherwise: str = "<it cannot be printed>") -> str:
    """An exception's type and text, with `otherwise` for a text that cannot be had."""
    return f"{type(error).__name__}: {safely(lambda: error, otherwise)}"


def safe_repr(value: object) -> str:
    text = safely(lambda: repr(value), f"<{type(value).__name__} whose repr raises>")
    return text if len(text) <= REPR_LIMIT else text[: REPR_LIMIT - 1] + "…"
