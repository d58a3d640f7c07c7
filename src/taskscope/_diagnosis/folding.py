"""Which frames of an await chain are machinery that a user has not written and need not see."""

from __future__ import annotations

import os
from types import CodeType

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_DEMO = _PACKAGE + "_demo" + os.sep

# AnyIO runs every task of a task group inside this method (since 4.14; before, a task ran the user's coroutine itself).
_ANYIO_TASKS = os.path.join("anyio", "_core", "_tasks.py")
_ANYIO_RUNNER = "TaskHandle._run_coro"


def is_own(code: CodeType) -> bool:
    """Whether a frame with this code belongs to taskscope.

    The demo's programs lie inside the package but stand for a user's.
    """
    return code.co_filename.startswith(_PACKAGE) and not code.co_filename.startswith(_DEMO)


def is_internal(code: CodeType) -> bool:
    """Whether a frame with this code belongs to taskscope or to the wrapper that AnyIO puts round a task."""
    return is_own(code) or (code.co_qualname == _ANYIO_RUNNER and code.co_filename.endswith(_ANYIO_TASKS))
