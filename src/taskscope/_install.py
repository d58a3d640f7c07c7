"""Tracking a whole loop or a whole program: `install` and `run`."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, Unpack, final

from taskscope._backends._asyncio import one_turn, running_loop
from taskscope._backends._factory import LoopTracking, tracking_of
from taskscope._backends._ownership import all_tasks, running_task
from taskscope._diagnosis.describe import safe_repr
from taskscope._errors import TaskScopeError
from taskscope._off import is_off
from taskscope._policy import PolicyArguments, check_name, check_policy
from taskscope._report import Report
from taskscope._scope import TaskScope
from taskscope._table import AnyTask

T = TypeVar("T")


@final
class Installation:
    """taskscope on one loop, as `install` has put it there."""

    def __init__(self, tracking: LoopTracking | None) -> None:
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
            self._tracking.ownership.root = None
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
            if tracking.ownership.starting:
                await one_turn()  # in the first step of an eager task, for which nobody can wait before that is over
            await root._end_root(_tasks_waiting_for_current(), exc)  # pyright: ignore[reportPrivateUsage]
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

    A loop has one installation: installing again returns it. An existing factory is chained, not replaced.

    Args:
        loop: The loop. None: the running one.
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
        loop = running_loop()
    elif not isinstance(loop, asyncio.AbstractEventLoop):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"loop={safe_repr(loop)}: must be None or an event loop of asyncio, not {type(loop).__name__}")
    if root is None and policy:
        raise ValueError(f"{', '.join(policy)}: a policy is the root scope's, so root= must name one")
    for argument in ("timeout", "watch"):
        if policy.get(argument) is not None:
            raise ValueError(f"{argument}={safe_repr(policy.get(argument))}: a root scope has no body to be ended")
    policy.setdefault("on_leak", "log")
    checked = check_policy(**policy)
    if is_off():
        return Installation(None)
    tracking = tracking_of(loop)
    installation: Installation | None = tracking.installation
    if root is not None and tracking.ownership.root is not None:
        raise TaskScopeError(f"root={root!r}: the loop has the root scope {tracking.ownership.root.name!r} already")
    if installation is None:
        installation = tracking.installation = Installation(tracking)
        tracking.acquire()
    if root is not None:
        caller = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
        scope = TaskScope._of(checked, root, (caller.f_code, caller.f_lasti))  # pyright: ignore[reportPrivateUsage]
        scope._open_as_root(tracking)  # pyright: ignore[reportPrivateUsage]
        installation._root = scope  # pyright: ignore[reportPrivateUsage]
    return installation


def run(
    main: Coroutine[Any, Any, T],
    *,
    name: str | None = None,
    backend: Literal["asyncio"] = "asyncio",
    debug: bool | None = None,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
    **policy: Unpack[PolicyArguments],
) -> T:
    """`asyncio.run` with the task factory installed and a scope round the program, which also owns what no scope does.

    Args:
        main: The coroutine to run. Its result is returned.
        name: Name of the scope. None: the coroutine's qualified name.
        backend: `"asyncio"`, the only one supported yet.
        debug: The loop's debug mode. None: as the environment says.
        loop_factory: Makes the loop, `uvloop.new_event_loop` for instance. None: asyncio's default.
        policy: Arguments of `TaskScope`.

    Raises:
        TypeError, ValueError: A bad argument.
        RuntimeError: Called while an event loop is running in this thread.
        Besides what `main` raises, what leaving a `TaskScope` raises.
    """
    try:
        if not isinstance(backend, str) or backend != "asyncio":  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(
                f'backend={safe_repr(backend)}: must be "asyncio", the only backend supported in this version'
            )
        if not inspect.iscoroutine(main):
            raise TypeError(
                f"main={safe_repr(main)}: must be a coroutine, as the call of an `async def` function returns it"
            )
        check_name(name)
        checked = check_policy(**policy)
        if asyncio._get_running_loop() is not None:
            raise RuntimeError("taskscope.run() cannot be called from a running event loop; open a TaskScope there")
        with asyncio.Runner(debug=debug, loop_factory=loop_factory) as runner:
            scope = TaskScope._of(checked, name or main.__qualname__, (main.cr_code, -1))  # pyright: ignore[reportPrivateUsage]
            result: T = runner.run(_in_root(main, scope))
            return result
    finally:
        if inspect.iscoroutine(main):
            main.close()  # does nothing once it has run; otherwise nobody can await it any more


async def _in_root(main: Coroutine[Any, Any, T], scope: TaskScope) -> T:
    async with scope:
        scope._become_root()  # pyright: ignore[reportPrivateUsage]
        return await main


def _tasks_waiting_for_current() -> list[AnyTask]:
    """The tasks that await the current one, directly or through others: to wait for them would be a deadlock."""
    current = running_task(asyncio.get_running_loop())
    waiting: list[AnyTask] = []
    for task in all_tasks():
        seen: set[int] = set()
        awaited: Any = task
        while awaited is not None and awaited is not current and id(awaited) not in seen:
            seen.add(id(awaited))
            awaited = getattr(awaited, "_fut_waiter", None)
        if awaited is current and task is not current:
            waiting.append(task)
    return waiting
