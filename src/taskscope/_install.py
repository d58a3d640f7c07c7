"""Tracking a whole loop or a whole program: `install` and `run`."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, Unpack, final

from taskscope._arguments import PolicyArguments, check_name, check_policy
from taskscope._backends import _asyncio
from taskscope._backends._backend import Backend, Tracking
from taskscope._backends._here import backend_here, running_trio
from taskscope._backends._loop_tracking import tracking_of
from taskscope._diagnosis.safely import safe_repr
from taskscope._errors import TaskScopeError
from taskscope._off import is_off
from taskscope._report import Report
from taskscope._scope import TaskScope

T = TypeVar("T")


@final
class Installation:
    """taskscope on one loop, as `install` has put it there."""

    def __init__(self, backend: Backend, tracking: Tracking | None) -> None:
        self._backend = backend
        self._tracking = tracking
        self._root: TaskScope | None = None
        self._is_on = tracking is not None
        self._is_closing = False

    @property
    def root(self) -> TaskScope | None:
        """The root scope, None without one."""
        return self._root

    @property
    def report(self) -> Report | None:
        """The root scope's report, None without a root scope. `TaskScopeError` before it has been judged."""
        return None if self._root is None else self._root.report

    def uninstall(self) -> None:
        """Takes the factory off the loop and gives back the one it replaced. Does nothing the second time.

        Where somebody has wrapped ours meanwhile, theirs stays, and ours passes everything through. A root scope is
        given up without a judgement: `aclose` is what judges it.
        """
        if not self._is_on or self._tracking is None:
            return
        self._is_on = False
        self._tracking.installation = None
        if self._root is not None:
            self._tracking.root = None
            self._root._give_up()  # pyright: ignore[reportPrivateUsage]
        self._tracking.release()

    async def aclose(self) -> None:
        """Judges the root scope, if there is one, as the end of a `TaskScope` would, and uninstalls.

        To be awaited on the loop it is about. Tasks that wait for the one that runs this are not waited for. Does
        nothing where another task is at it already.

        Raises:
            TaskLeakError: With `on_leak="raise"`.
        """
        await self._close(None)

    async def _close(self, exc: BaseException | None) -> None:
        root, tracking = self._root, self._tracking
        if self._is_closing:
            return
        if root is None or tracking is None or not self._is_on:
            self.uninstall()
            return
        self._is_closing = True
        try:
            if tracking.is_starting():
                await self._backend.one_turn()  # for a task in its first step nobody can wait before that is over
            await root._end_root(self._backend.tasks_waiting_for_current(), exc)  # pyright: ignore[reportPrivateUsage]
        finally:
            self._is_closing = False
            self.uninstall()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._close(exc)


def install(
    loop: asyncio.AbstractEventLoop | None = None, *, root: str | None = None, **policy: Unpack[PolicyArguments]
) -> Installation:
    """Puts the task factory on a loop, so that scopes find it there and other threads' scopes can see its tasks.

    A loop has one installation: installing again returns it. An existing factory is chained, not replaced. In a task of
    Trio's, where there are no factories, it is an instrument.

    Args:
        loop: The loop. None: the running one, or the running Trio.
        root: Name of a root scope, to which all tasks belong that are spawned outside any scope from now on. It is
            judged by `Installation.aclose`. None: no root scope.
        policy: Arguments of `TaskScope` for the root scope; `on_leak` is `"log"` unless given, `timeout` is refused.

    Raises:
        TypeError, ValueError: A bad argument, or a policy without a root.
        RuntimeError: `loop` is None and none is running.
        TaskScopeError: The loop has a root scope already.
    """
    check_name(root, "root")
    if loop is None:
        backend: Backend = backend_here()
        tracking: Tracking = backend.running_tracking()
    elif not isinstance(loop, asyncio.events.AbstractEventLoop):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"loop={safe_repr(loop)}: must be None or an event loop of asyncio, not {type(loop).__name__}")
    else:
        backend = _asyncio
        tracking = tracking_of(loop)
    if root is None and policy:
        raise ValueError(f"{', '.join(policy)}: a policy is the root scope's, so root= must name one")
    for argument in ("timeout", "watch"):
        if policy.get(argument) is not None:
            raise ValueError(f"{argument}={safe_repr(policy.get(argument))}: a root scope has no body to be ended")
    policy.setdefault("on_leak", "log")
    checked = check_policy(**policy)
    if is_off():
        return Installation(backend, None)
    installation: Installation | None = tracking.installation
    if root is not None and tracking.root is not None:
        raise TaskScopeError(f"root={root!r}: the loop has the root scope {tracking.root.name!r} already")
    if installation is None:
        installation = tracking.installation = Installation(backend, tracking)
        tracking.acquire()
    if root is not None:
        caller = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
        scope = TaskScope._of(checked, root, (caller.f_code, caller.f_lasti))  # pyright: ignore[reportPrivateUsage]
        scope._open_as_root(backend, tracking)  # pyright: ignore[reportPrivateUsage]
        installation._root = scope  # pyright: ignore[reportPrivateUsage]
    return installation


def run(
    main: Coroutine[Any, Any, T],
    *,
    name: str | None = None,
    backend: Literal["asyncio", "trio"] = "asyncio",
    debug: bool | None = None,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
    **policy: Unpack[PolicyArguments],
) -> T:
    """`asyncio.run` or `trio.run` with a scope round the program, which also owns what no other scope does.

    Args:
        main: The coroutine to run. Its result is returned.
        name: Name of the scope. None: the coroutine's qualified name.
        backend: `"asyncio"` or `"trio"`.
        debug: The loop's debug mode, for asyncio only. None: as the environment says.
        loop_factory: Makes the loop, `uvloop.new_event_loop` for instance, for asyncio only. None: asyncio's default.
        policy: Arguments of `TaskScope`.

    Raises:
        TypeError, ValueError: A bad argument.
        RuntimeError: Called while an event loop is running in this thread.
        Besides what `main` raises, what leaving a `TaskScope` raises.
    """
    begun: list[Any] = [main] if inspect.iscoroutine(main) else []  # what somebody has to close, unless it is awaited
    try:
        if not isinstance(backend, str) or backend not in ("asyncio", "trio"):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(f'backend={safe_repr(backend)}: must be "asyncio" or "trio"')
        for argument, value in (("debug", debug), ("loop_factory", loop_factory)):
            if backend == "trio" and value is not None:
                raise ValueError(f'{argument}={safe_repr(value)}: is for asyncio, and must be None with backend="trio"')
        if not inspect.iscoroutine(main):
            raise TypeError(
                f"main={safe_repr(main)}: must be a coroutine, as the call of an `async def` function returns it"
            )
        check_name(name)
        checked = check_policy(**policy)
        if asyncio._get_running_loop() is not None or running_trio() is not None:
            raise RuntimeError("taskscope.run() cannot be called from a running event loop; open a TaskScope there")
        scope = TaskScope._of(checked, name or main.__qualname__, (main.cr_code, -1))  # pyright: ignore[reportPrivateUsage]
        scope._given = 1  # pyright: ignore[reportPrivateUsage]
        del main  # who holds a coroutine could resume it, for all that a watch knows
        result: T
        if backend == "trio":
            import trio

            result = trio.run(_in_root, begun, scope)
            return result
        with asyncio.runners.Runner(debug=debug, loop_factory=loop_factory) as runner:
            result = runner.run(_in_root(begun, scope))
            return result
    finally:
        for coroutine in begun:
            coroutine.close()


async def _in_root(begun: list[Coroutine[Any, Any, T]], scope: TaskScope) -> T:
    async with scope:
        scope._become_root()  # pyright: ignore[reportPrivateUsage]
        return await begun.pop()
