"""The ways in which the suite is run: without us, with us, and with controls that have our shape but none of our code.

`plain`     nothing is changed.
`factory`   `taskscope.install(loop)` on every new event loop.
`scope`     that, and a `TaskScope` round every coroutine that a loop or a `Runner` is asked to run to its end.
`any-factory`, `any-wrapper`
            the controls: a task factory that does nothing but call `asyncio.Task`, and that with asyncio's own
            `timeout(None)` where `scope` has a scope. A test that fails with them objects to any factory, or to any
            wrapper, not to ours.

A scope ends what its body left running. That would change programs that call `run_until_complete` several times and
keep tasks alive from one call to the next, as many tests do. So they say what a user of scopes would have to say: what
is left running at the end of a body is handed off. What asyncio does not list as left running the scope must not find
either: it raises on any leak.
"""

from __future__ import annotations

import asyncio
import functools
import weakref
from asyncio import base_events, runners
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any

handed_off: list[str] = []
"""Coroutines of the tasks that were handed off since this was last cleared."""

_Prepare = Callable[[base_events.BaseEventLoop], object]
_Open = Callable[[], AbstractAsyncContextManager[Any]]
_Leave = Callable[["asyncio.Task[Any]"], object]


def install(mode: str) -> None:
    if mode == "plain":
        return
    prepare, open_scope, leave = _ours() if mode in ("factory", "scope") else _control()
    _on_every_new_loop(prepare)
    if mode in ("scope", "any-wrapper"):
        _wrap_every_run(open_scope, leave)


def _ours() -> tuple[_Prepare, _Open, _Leave]:
    import taskscope

    async def check() -> None:
        async with taskscope.TaskScope() as scope:
            if taskscope.current_scope() is not scope:
                raise SystemExit("taskscope is switched off here: there is nothing to compare")

    def leave(task: asyncio.Task[Any]) -> None:
        taskscope.hand_off(task, reason="the test goes on with it in a later run of the loop")
        handed_off.append(str(getattr(task.get_coro(), "__qualname__", "?")))

    asyncio.run(check())
    # No grace: the clock of a test's loop may be a mock that counts the timers.
    return (
        taskscope.install,
        lambda: taskscope.TaskScope("compat", grace=0, cancel_timeout=0.1, on_leak="raise"),
        leave,
    )


def _control() -> tuple[_Prepare, _Open, _Leave]:
    def factory(loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], **kwargs: Any) -> asyncio.Task[Any]:
        return asyncio.Task(coro, loop=loop, **kwargs)

    return (lambda loop: loop.set_task_factory(factory)), (lambda: asyncio.timeout(None)), (lambda task: None)


def _on_every_new_loop(prepare: _Prepare) -> None:
    # The suite makes loops in many ways (policies, SelectorEventLoop(), subclasses with a clock of their own, bare
    # BaseEventLoop()): all of them come through here.
    original = base_events.BaseEventLoop.__init__

    @functools.wraps(original)
    def __init__(self: base_events.BaseEventLoop, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        prepare(self)

    base_events.BaseEventLoop.__init__ = __init__


def _wrap_every_run(open_scope: _Open, leave: _Leave) -> None:
    """A scope round what `loop.run_until_complete(coroutine)` and `Runner.run(coroutine)` run.

    Only round coroutines: a future or a task was made by the test, outside any scope, and may live on afterwards.
    `Runner.run` makes its own task and passes that to the loop, so nothing is wrapped twice.
    """
    run_until_complete = base_events.BaseEventLoop.run_until_complete
    runner_run = runners.Runner.run

    @functools.wraps(run_until_complete)
    def loop_run(self: base_events.BaseEventLoop, future: Any) -> Any:
        # A closed or a running loop refuses the coroutine before it touches it, so it must get the test's own.
        if not asyncio.iscoroutine(future) or self.is_closed() or self.is_running():
            return run_until_complete(self, future)
        return run_until_complete(self, _in_scope(future, open_scope, leave))

    @functools.wraps(runner_run)
    def run(self: runners.Runner, coro: Any, **kwargs: Any) -> Any:
        if not asyncio.iscoroutine(coro) or asyncio._get_running_loop() is not None:
            return runner_run(self, coro, **kwargs)
        return runner_run(self, _in_scope(coro, open_scope, leave), **kwargs)

    base_events.BaseEventLoop.run_until_complete = loop_run
    runners.Runner.run = run


async def _in_scope(coro: Coroutine[Any, Any, Any], open_scope: _Open, leave: _Leave) -> Any:
    # Weakly, and the loop below in a function: the traceback of what the test raises holds this frame and its locals.
    before = weakref.WeakSet(asyncio.all_tasks())
    async with open_scope():
        try:
            return await coro
        finally:
            _leave_all_but(before, leave)


def _leave_all_but(before: weakref.WeakSet[asyncio.Task[Any]], leave: _Leave) -> None:
    for task in asyncio.all_tasks():
        if task not in before:
            leave(task)
