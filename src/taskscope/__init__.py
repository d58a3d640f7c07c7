"""taskscope: structured concurrency, enforced.

Nothing that a scope starts outlives it: tasks that do are found, cancelled and explained.
"""

from taskscope._anyio_backends import anyio_backends
from taskscope._decorator import scoped
from taskscope._errors import DeadlockError, ScopeTimeoutError, TaskLeakError, TaskLeakWarning, TaskScopeError
from taskscope._finding import find_deadlocked
from taskscope._guard import guard
from taskscope._handing import hand_off
from taskscope._ignore import Ignore
from taskscope._install import Installation, install, run
from taskscope._report import Finding, Frame, Report, TaskRecord, Wait
from taskscope._resource_closing import closing
from taskscope._scope import TaskScope, current_scope

__all__ = [
    "DeadlockError",
    "Finding",
    "Frame",
    "Ignore",
    "Installation",
    "Report",
    "ScopeTimeoutError",
    "TaskLeakError",
    "TaskLeakWarning",
    "TaskRecord",
    "TaskScope",
    "TaskScopeError",
    "Wait",
    "anyio_backends",
    "closing",
    "current_scope",
    "find_deadlocked",
    "guard",
    "hand_off",
    "install",
    "run",
    "scoped",
]

__version__ = "0.1.0"
