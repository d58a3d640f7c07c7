"""Whether the program itself has a signal come that a user's function handles: what that raises ends the run of a loop.

That somebody outside could send one counts for nothing, or nothing could ever be proven.
"""

from __future__ import annotations

import functools
import signal
import types
from pathlib import Path
from typing import Any, Final

from taskscope._diagnosis.alive_on_loop import signal_handlers
from taskscope._diagnosis.calls_all import ENDERS
from taskscope._diagnosis.code_ahead import is_library, module_in
from taskscope._diagnosis.opaque import class_of

_THREADS: Final = Path("/proc/self/task")


def can_come() -> bool:
    """Whether an alarm is set for a handler of a user's, or one handles any signal while a child process lives."""
    return any(map(_is_users, signal_handlers())) and (_is_alarm_set() or _may_have_children())


def _is_alarm_set() -> bool:
    alarm = getattr(signal, "SIGALRM", None)  # Windows has none
    return alarm is not None and _is_users(signal.getsignal(alarm)) and signal.getitimer(signal.ITIMER_REAL)[0] > 0


def _is_users(handler: Any) -> bool:
    while class_of(handler) is functools.partial:
        handler = handler.func
    if class_of(handler) is types.MethodType:
        handler = handler.__func__
    if class_of(handler) is not types.FunctionType:
        return callable(handler) and handler is not signal.default_int_handler
    return not is_library(handler.__globals__) and module_in(handler.__globals__) not in ENDERS


def _may_have_children() -> bool:
    """As Linux tells. Elsewhere there may always be some."""
    try:
        return any((thread / "children").read_text() for thread in _THREADS.iterdir())
    except OSError:
        return True
