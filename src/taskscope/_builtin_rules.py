"""Tasks of libraries that are meant to live as long as the loop, and belong to nobody who happened to need them first.

They are known by the code that they run, in the file that the library has it in: a user's function of the same name is
another one. Each is here because a program was seen to have it, and has a test that runs that library.
"""

from __future__ import annotations

from types import CodeType
from typing import Final, NamedTuple

from taskscope._diagnosis.packages import ANYIO, function_in
from taskscope._diagnosis.tasks import coroutine_of
from taskscope._table import AnyTask


class LibraryTask(NamedTuple):
    """A task that runs a coroutine function of a library's: `function` in `package.module`."""

    package: str
    module: str
    function: str
    reason: str

    def __str__(self) -> str:
        return f"coroutine='{self.package}.{self.module}.{self.function}'"


BUILTIN_RULES: Final = (
    LibraryTask(
        ANYIO,
        "_backends._asyncio",
        "_shutdown_process_pool_on_exit",
        "AnyIO keeps it for as long as the loop runs, to end its pool of processes then",
    ),
    LibraryTask(
        ANYIO,
        "_backends._asyncio",
        "TestRunner._run_tests_and_fixtures",
        "AnyIO's pytest plugin keeps it for as long as the loop runs, to run tests and fixtures in it",
    ),
    LibraryTask(
        "sse_starlette",
        "sse",
        "_shutdown_watcher",
        "sse-starlette keeps one for as long as the loop runs, to end all streams when the server shuts down",
    ),
)

_BY_FUNCTION: Final = {rule.function: rule for rule in BUILTIN_RULES}


def builtin_rule(task: AnyTask) -> LibraryTask | None:
    """The rule that a task matches, None for one that is no library's."""
    code = getattr(coroutine_of(task), "cr_code", None)
    if type(code) is not CodeType:
        return None
    rule = _BY_FUNCTION.get(code.co_qualname)
    if rule is None or function_in(rule.package, code) != (rule.module, rule.function):
        return None
    return rule
