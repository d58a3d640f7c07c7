"""What there is to look for beside tasks, by the words of `find`; imported when somebody does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from typing import Final, cast

from taskscope._findings.found import Kind
from taskscope._policy import Policy
from taskscope._table import TaskTable

# Where each kind is looked for: the module and its class. Looked up by the words of `find`.
KINDS: Final = {
    "timers": ("timers", "Timers"),
    "generators": ("generators", "Generators"),
    "executor": ("executors", "Executors"),
    "threads": ("threads", "Threads"),
    "processes": ("processes", "Processes"),
    "servers": ("servers", "Servers"),
    "transports": ("transports", "Transports"),
    "unretrieved": ("unretrieved", "Unretrieved"),
}


@cache
def kind_of(word: str) -> Callable[[TaskTable, Policy], Kind]:
    module, name = KINDS[word]
    with _as_outside_of_loops():
        found = import_module(f"taskscope._findings.{module}")
    return cast("Callable[[TaskTable, Policy], Kind]", getattr(found, name))


@contextmanager
def _as_outside_of_loops() -> Generator[None]:
    """What `multiprocessing` asks the system for when it is imported, checkers of blocking calls forbid in a loop."""
    loop = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    try:
        yield
    finally:
        asyncio._set_running_loop(loop)
