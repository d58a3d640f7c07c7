"""A pytest plugin that puts something round whatever a test of AnyIO's or Trio's suite runs in an event loop.

PYTEST_DONT_REWRITE: the suites run pytest in pytest, where this is imported already.

Loaded by `PYTEST_PLUGINS`, so that the pytests that tests start are concerned as well. What it puts there is told by
the environment variable `COMPAT_MODE`:

`installed` `taskscope.install()` at the start, and no scope.
`scope`     that, and a `TaskScope`. It tells nobody of leaks: here only interference is of interest.
`any-factory`, `any-wrapper`
            the controls, which have the shape of the two and none of our code: a task factory or an instrument that
            does nothing but hold some tasks for a while, as ours does, and a `nullcontext()`.

The suites are not touched. They run coroutines in five ways, and each of them is wrapped here: AnyIO's plugin runs test
functions, `asyncio.run` and `anyio.run` come to `asyncio.Runner`, and Trio has `trio.run` and `start_guest_run`.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import functools
import inspect
import os
import sys
from asyncio import runners
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
import trio

import taskscope

AsyncFunction = Callable[..., Coroutine[Any, Any, Any]]


def _scope() -> AbstractAsyncContextManager[Any]:
    return taskscope.TaskScope("compat", on_leak="ignore")


# The tasks that the controls hold: those made last, and for an instrument those that have not ended.
_made: collections.deque[Any] = collections.deque(maxlen=128)
_running: set[Any] = set()


def _install_any_factory() -> None:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        trio.lowlevel.add_instrument(_AnyInstrument())
        return
    inner = loop.get_task_factory()

    def factory(loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], **kwargs: Any) -> asyncio.Task[Any]:
        task = asyncio.Task(coro, loop=loop, **kwargs) if inner is None else inner(loop, coro, **kwargs)
        _made.append(task)
        return task

    loop.set_task_factory(factory)


class _AnyInstrument(trio.abc.Instrument):
    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        _running.add(task)

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        _running.discard(task)


# For each mode what is done at the start, and what is then opened.
_MODES: dict[str, tuple[Callable[[], object], Callable[[], AbstractAsyncContextManager[Any]]]] = {
    "installed": (taskscope.install, contextlib.nullcontext),
    "scope": (taskscope.install, _scope),
    "any-factory": (_install_any_factory, contextlib.nullcontext),
    "any-wrapper": (lambda: None, contextlib.nullcontext),
}


def wrapped(function: AsyncFunction) -> AsyncFunction:
    """`function`, with what the mode asks for round its body."""
    start, open_round = _MODES[os.environ["COMPAT_MODE"]]

    @functools.wraps(function)
    async def run(*args: Any, **kwargs: Any) -> Any:
        start()
        async with open_round():
            return await function(*args, **kwargs)

    return run


def _wrap_asyncio() -> None:
    original = runners.Runner.run

    @functools.wraps(original)
    def run(self: runners.Runner, coro: Any, **kwargs: Any) -> Any:
        # A running loop refuses the coroutine before it touches it, so it must get the test's own.
        if not inspect.iscoroutine(coro) or asyncio._get_running_loop() is not None:
            return original(self, coro, **kwargs)

        async def main() -> Any:
            return await coro

        return original(self, wrapped(main)(), **kwargs)

    runners.Runner.run = run


def _wrapped_for_trio(async_fn: Any) -> Any:
    # Trio names the task after the function in a partial, so that is what is wrapped. What Trio would refuse must get
    # to it as it is.
    if isinstance(async_fn, functools.partial):
        return functools.partial(_wrapped_for_trio(async_fn.func), *async_fn.args, **async_fn.keywords)
    return wrapped(async_fn) if inspect.iscoroutinefunction(async_fn) else async_fn


def _wrap_trio() -> None:
    for name in ("run", "start_guest_run"):
        original = getattr(trio.lowlevel if name == "start_guest_run" else trio, name)

        def run(async_fn: Any, *args: Any, original: Any = original, **kwargs: Any) -> Any:
            return original(_wrapped_for_trio(async_fn), *args, **kwargs)

        functools.update_wrapper(run, original)
        for module in (trio, trio.lowlevel, trio._core, trio._core._run):
            if getattr(module, name, None) is original:
                setattr(module, name, run)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Iterator[None]:
    original = pyfuncitem.obj
    # AnyIO's plugin runs it in its own runner. Trio's runs it by `trio.run`, which is wrapped already.
    if inspect.iscoroutinefunction(original) and "anyio_backend" in pyfuncitem.funcargs:
        pyfuncitem.obj = wrapped(original)
    try:
        return (yield)
    finally:
        pyfuncitem.obj = original


def _run_once() -> None:
    """Has imported what is imported with the first scope and the first leak.

    Of a suite that runs in one process hardly a test pays for that, and here each module has a process of its own.
    """

    async def on_asyncio() -> None:
        async with taskscope.TaskScope(grace=0, on_leak="ignore"):
            asyncio.ensure_future(asyncio.sleep(60))

    async def on_trio() -> None:
        async with trio.open_nursery() as nursery, taskscope.TaskScope(grace=0, on_leak="ignore"):
            nursery.start_soon(trio.sleep, 60)

    asyncio.run(on_asyncio())
    trio.run(on_trio)


# Not in a pytest that a test starts: that one pays for it, as it would anywhere.
if os.environ["COMPAT_MODE"] in ("installed", "scope") and "compat_recording" in sys.modules:
    _run_once()
_wrap_asyncio()
_wrap_trio()
