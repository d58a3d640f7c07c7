"""The event loops that AnyIO's plugin can run a test on, each with taskscope on it from the start."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import sys
from collections.abc import Callable
from typing import Any, Final, Literal, get_args

from taskscope._diagnosis.safely import safe_repr
from taskscope._install import install

Kind = Literal["asyncio", "uvloop", "eager", "trio"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

Backend = tuple[str, dict[str, Any]]


def anyio_backends(*kinds: Kind) -> tuple[Backend, ...]:
    """Backends for the fixture `anyio_backend` of AnyIO's pytest plugin, with taskscope on every loop from the start.

        @pytest.fixture(params=taskscope.anyio_backends())
        def anyio_backend(request):
            return request.param

    Args:
        kinds: Which, in this order: `"asyncio"`, `"uvloop"`, `"eager"` (asyncio with tasks that start eagerly, from
            Python 3.12 on), `"trio"`. None given: all that there are here.

    Returns:
        For each a pair: the name of the backend and its options, as AnyIO takes them.

    Raises:
        ValueError: There is no such kind, or it is not to be had here.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise ValueError(f"kinds={safe_repr(kind)}: must be of {', '.join(map(repr, KINDS))}")
        if kind not in available():
            raise ValueError(f"kinds={kind!r}: is not to be had here, only {', '.join(map(repr, available()))}")
    return tuple(map(_backend, kinds or available()))


def available() -> tuple[Kind, ...]:
    """The kinds that there are in this environment."""
    missing: set[Kind] = set()
    if importlib.util.find_spec("uvloop") is None:
        missing.add("uvloop")
    if sys.version_info < (3, 12):
        missing.add("eager")
    return tuple(kind for kind in KINDS if kind not in missing)


def _backend(kind: Kind) -> Backend:
    if kind == "trio":
        from taskscope._backends._trio_installer import Installer

        return "trio", {"instruments": (Installer(),)}
    return "asyncio", {"loop_factory": _LOOPS[kind]}


def _tracked(make: Callable[[], asyncio.AbstractEventLoop]) -> asyncio.AbstractEventLoop:
    loop = make()
    install(loop)
    return loop


def _asyncio_loop() -> asyncio.AbstractEventLoop:
    return _tracked(asyncio.events.new_event_loop)


def _uvloop_loop() -> asyncio.AbstractEventLoop:
    uvloop: Any = importlib.import_module("uvloop")
    return _tracked(uvloop.new_event_loop)


def _eager_loop() -> asyncio.AbstractEventLoop:
    def make() -> asyncio.AbstractEventLoop:
        loop = asyncio.events.new_event_loop()
        if sys.version_info >= (3, 12):  # nobody gets here before
            loop.set_task_factory(asyncio.tasks.eager_task_factory)
        return loop

    return _tracked(make)


_LOOPS: Final[dict[Kind, Callable[[], asyncio.AbstractEventLoop]]] = {
    "asyncio": _asyncio_loop,
    "uvloop": _uvloop_loop,
    "eager": _eager_loop,
}
