"""What the programs run on: AnyIO's two backends, and on asyncio each kind of loop."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Final, TypeVar

import anyio

T = TypeVar("T")


@dataclass(frozen=True)
class Loop:
    name: str
    backend: str = "asyncio"
    options: dict[str, Any] = field(default_factory=dict)

    def run(self, main: Callable[[], Awaitable[T]]) -> T:
        return anyio.run(main, backend=self.backend, backend_options=self.options)


def _new_eager() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    if sys.version_info >= (3, 12):
        loop.set_task_factory(asyncio.eager_task_factory)
    return loop


# AnyIO itself fails with tasks that start eagerly before 4.8.
ANYIO_KNOWS_EAGER_TASKS: Final = tuple(map(int, version("anyio").split(".")[:2])) >= (4, 8)

BACKENDS: Final = (Loop("asyncio"), Loop("trio", backend="trio"))

LOOPS: Final = (
    *BACKENDS,
    *([Loop("uvloop", options={"use_uvloop": True})] if importlib.util.find_spec("uvloop") else []),
    *(
        [Loop("eager", options={"loop_factory": _new_eager})]
        if sys.version_info >= (3, 12) and ANYIO_KNOWS_EAGER_TASKS
        else []
    ),
)
