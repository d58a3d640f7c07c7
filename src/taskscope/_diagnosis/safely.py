"""Reading what is users' code, and can be broken in any way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def safely(read: Callable[[], Any], otherwise: str) -> str:
    """What `read` returns as a string, `otherwise` where it raises: task classes and reprs are users' code too."""
    try:
        return str(read())
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # a CancelledError too: it is not meant for who reads
        return otherwise
