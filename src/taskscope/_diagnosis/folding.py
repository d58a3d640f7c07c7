"""Which frames of an await chain are machinery that a user has not written and need not see."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from types import CodeType
from typing import Final, TypeVar

from taskscope._diagnosis.anyio_primitives import anyio_primitive
from taskscope._diagnosis.anyio_states import Link, is_of_anyio
from taskscope._diagnosis.packages import ANYIO, TRIO, function_in

L = TypeVar("L", bound=Link)

_PACKAGE = os.path.dirname(os.path.dirname(__file__)) + os.sep
_DEMO = _PACKAGE + "_demo" + os.sep

_ASYNCIO: Final = os.path.dirname(asyncio.__file__) + os.sep
_UVLOOP: Final = "uvloop/"  # the sources of its compiled code, which are not on this machine

# What AnyIO runs a user's coroutine in: a program, a task of a task group (since 4.14; before, a task ran the coroutine
# itself), what threads and portals ask for, and its pytest plugin.
_ANYIO_RUNNERS: Final = frozenset(
    {
        "AsyncIOBackend.run.<locals>.wrapper",
        "AsyncIOBackend.run_async_from_thread.<locals>.task_wrapper",
        "BlockingPortal._call_func",
        "BlockingPortal.call_async.<locals>.run_call",
        "TaskHandle._run_coro",
        "TestRunner._call_in_runner_task",
        "TestRunner._run_tests_and_fixtures",
    }
)


# What Trio runs a task by, and what is between its primitives and its scheduler. Functions of its that begin with an
# underscore are of that kind as well.
_TRIO_GLUE: Final = frozenset(
    {
        "wait_task_rescheduled",
        "Runner.spawn_impl.<locals>.python_wrapper",
        "Run.run",
        "Run.unprotected_afn",
        "_make_simple_sock_method_wrapper.<locals>.wrapper",
    }
)
_ANYIO_GLUE: Final = ("TrioBackend.", "TaskGroup.start.<locals>.", "ensure_returns_coro.")


def is_own(code: CodeType) -> bool:
    """Whether a frame with this code belongs to taskscope.

    The demo's programs lie inside the package but stand for a user's.
    """
    return code.co_filename.startswith(_PACKAGE) and not code.co_filename.startswith(_DEMO)


def is_internal(code: CodeType) -> bool:
    """Whether a frame with this code belongs to taskscope, to the wrappers that AnyIO puts round a user's code, or to
    what Trio runs tasks by."""
    if is_own(code) or (code.co_qualname in _ANYIO_RUNNERS and is_of_anyio(code)):
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


def is_of_library(code: CodeType) -> bool:
    """Whether a frame with this code is asyncio's, uvloop's or AnyIO's."""
    return code.co_filename.startswith((_ASYNCIO, _UVLOOP)) or is_of_anyio(code)


def without_workings(links: Sequence[L]) -> Sequence[L]:
    """An await chain that ends in a primitive of AnyIO's without the other frames of AnyIO's round and inside of it."""
    start = len(links)
    while start and is_of_library(links[start - 1].code):
        start -= 1
    place = next((place for place in range(start, len(links)) if anyio_primitive(links[place].code)), None)
    if place is None:
        return links
    return [*links[:start], *(link for link in links[start:place] if not is_of_anyio(link.code)), links[place]]
