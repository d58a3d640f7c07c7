"""The pytest plugin: tests and fixtures that leave tasks behind are named, and fail.

pytest finds it by its entry point; it does nothing until `taskscope = true` or `--taskscope` switches it on.

`from taskscope.pytest_plugin import anyio_backend` in a conftest has AnyIO's tests run on every kind of loop that
there is: asyncio, uvloop where it is installed, asyncio with eager tasks from Python 3.12 on, and Trio, each with
taskscope on it from the start.
"""

from __future__ import annotations

from typing import Any

__all__ = ["anyio_backend"]

anyio_backend: Any


def __getattr__(name: str) -> Any:
    if name != "anyio_backend":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Made when it is asked for: this package is imported in every run of pytest, and a fixture of this name would be
    # AnyIO's for everybody.
    from taskscope.pytest_plugin._anyio_fixture import anyio_backend

    return anyio_backend
