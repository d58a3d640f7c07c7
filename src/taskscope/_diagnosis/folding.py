"""Which frames of an await chain are machinery that a user has not written and need not see."""

from __future__ import annotations

import os
from types import CodeType

from taskscope._diagnosis.packages import ANYIO, TRIO, function_in

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_DEMO = _PACKAGE + "_demo" + os.sep

# AnyIO runs every task of a task group inside this method (since 4.14; before, a task ran the user's coroutine itself).
_ANYIO_TASKS = os.path.join("anyio", "_core", "_tasks.py")
_ANYIO_RUNNER = "TaskHandle._run_coro"


# What Trio runs a task by, and what is between its primitives and its scheduler. Functions of its that begin with an
# underscore are of that kind as well.
_TRIO_GLUE = frozenset(
    {
        "wait_task_rescheduled",
        "Runner.spawn_impl.<locals>.python_wrapper",
        "Run.run",
        "Run.unprotected_afn",
        "_make_simple_sock_method_wrapper.<locals>.wrapper",
    }
)
_ANYIO_GLUE = ("TrioBackend.", "TaskGroup.start.<locals>.", "ensure_returns_coro.")


def is_internal(code: CodeType) -> bool:
    """Whether a frame with this code belongs to taskscope, or to what AnyIO and Trio run tasks by.

    The demo's programs lie inside the package but stand for a user's.
    """
    file = code.co_filename
    if file.startswith(_PACKAGE):
        return not file.startswith(_DEMO)
    if code.co_qualname == _ANYIO_RUNNER and file.endswith(_ANYIO_TASKS):
        return True
    return _is_glue_of_trio(code) or _is_glue_of_anyio(code)


def _is_glue_of_trio(code: CodeType) -> bool:
    function = function_in(TRIO, code)
    if function is None:
        return False
    module, qualname = function
    name = qualname.rpartition(".")[2]
    is_private = name.startswith("_") and not name.startswith("__")
    return is_private or qualname in _TRIO_GLUE or module.startswith("_core._generated")


def _is_glue_of_anyio(code: CodeType) -> bool:
    """Whether a frame is of what AnyIO has between its own functions and Trio's."""
    function = function_in(ANYIO, code)
    return function is not None and function[0] == "_backends._trio" and function[1].startswith(_ANYIO_GLUE)
