"""taskscope: structured concurrency, enforced.

Nothing that a scope starts outlives it: tasks that do are found, cancelled and explained.
"""

import importlib
import typing

if typing.TYPE_CHECKING:
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

# A name is imported when it is first asked for (PEP 562): pytest imports this package at each start, for the plugin's
# options, also where the plugin is not switched on.
_MODULES = {
    "DeadlockError": "_errors",
    "Finding": "_report",
    "Frame": "_report",
    "Ignore": "_ignore",
    "Installation": "_install",
    "Report": "_report",
    "ScopeTimeoutError": "_errors",
    "TaskLeakError": "_errors",
    "TaskLeakWarning": "_errors",
    "TaskRecord": "_report",
    "TaskScope": "_scope",
    "TaskScopeError": "_errors",
    "Wait": "_report",
    "anyio_backends": "_anyio_backends",
    "closing": "_resource_closing",
    "current_scope": "_scope",
    "find_deadlocked": "_finding",
    "guard": "_guard",
    "hand_off": "_handing",
    "install": "_install",
    "run": "_install",
    "scoped": "_decorator",
}


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if not typing.TYPE_CHECKING:  # for a checker of types, a module with this function has every name

    def __getattr__(name: str) -> typing.Any:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
        globals()[name] = value
        return value
