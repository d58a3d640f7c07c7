"""The event loops of a test run: on each what is spawned is seen, and none is closed before its tasks were judged."""

from __future__ import annotations

import asyncio
import functools
import sys
import unittest
import weakref
from asyncio import base_events, runners, selector_events
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, final

from taskscope._backends import _asyncio
from taskscope._backends._here import backend_here
from taskscope._backends._loop_tracking import LoopTracking, tracking_of
from taskscope._backends._ownership import running_loop
from taskscope._diagnosis.opaque import class_of
from taskscope._table import TaskTable, tag
from taskscope.pytest_plugin._owners import Owner
from taskscope.pytest_plugin._settings import Settings

# The classes of loops that a Runner makes, all of which are run as asyncio runs them.
_OF_ASYNCIO: Final = frozenset({asyncio.SelectorEventLoop, getattr(asyncio, "ProactorEventLoop", None)})

_CHECK: Final = "_check_running"

# What runs the `setUp` of an asynchronous test case.
_SET_UP_OF_CASE: Final = vars(unittest.IsolatedAsyncioTestCase)["_callSetUp"].__code__


@final
class Loops:
    """Puts taskscope on loops, and is told when they are closed.

    settings: what holds for what nobody else answers for any more.
    closes: called before a loop is closed, and before `asyncio.Runner` cancels what is left on it; with the loop, and
        with the owner of what was spawned there when its own had been judged.
    """

    def __init__(
        self,
        settings: Settings,
        closes: Callable[[asyncio.AbstractEventLoop, Owner], None],
    ) -> None:
        self._closes = closes
        self._held: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()
        # The last of these: it is asked for again and again, and a weak set is slow.
        self._last_held: Callable[[], asyncio.AbstractEventLoop | None] = _nothing
        # Answers on all loops for what is spawned when whoever spawns it has been judged.
        self._owner = Owner("event loop", "loop", settings, Loops.hold)
        # By loop the `close` that was put on it, which leads to the loop, and what it had there of its own before.
        self._put_closes: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[Callable[[], Any], Any]]
        self._put_closes = weakref.WeakKeyDictionary()
        # Those that make a main task without us just now.
        self._aside: dict[asyncio.AbstractEventLoop, LoopTracking] = {}
        # Those that nothing has been run in yet.
        self._held_for_set_up: set[asyncio.AbstractEventLoop] = set()
        # Those of Runners that are being closed.
        self._closing: set[asyncio.AbstractEventLoop] = set()
        self._check_running: Any = None
        self._runs: weakref.WeakSet[Any] = weakref.WeakSet()
        self._originals: list[tuple[Any, str, Any]] = []

    def hold(self, loop: asyncio.AbstractEventLoop) -> None:
        """Sees what is spawned on a loop from now on, until it is closed."""
        if self._last_held() is loop or loop in self._held or loop.is_closed():
            return
        tracking_of(loop).acquire()
        self._held.add(loop)
        self._last_held = weakref.ref(loop)
        self._put_close_on(loop)

    def _put_close_on(self, loop: asyncio.AbstractEventLoop) -> None:
        own: Any = vars(loop).get("close") if hasattr(loop, "__dict__") else None
        if own is None and class_of(loop) is asyncio.SelectorEventLoop:
            return  # it is seen by its class
        original = loop.close

        def close() -> None:
            self._let_go(loop)
            original()

        with suppress(AttributeError):
            loop.close = close  # type: ignore[method-assign]
            self._put_closes[loop] = weakref.ref(close), own

    def _take_close_off(self, loop: asyncio.AbstractEventLoop) -> None:
        find_ours, own = self._put_closes.pop(loop, (_nothing, None))
        if find_ours() is None or vars(loop).get("close") is not find_ours():
            return
        if own is None:
            del loop.close
        else:
            loop.close = own  # type: ignore[method-assign]

    @property
    def heir(self) -> TaskTable:
        """Who answers on asyncio's loops for what is spawned in a context of somebody who has been judged."""
        return self._owner.table_on(_asyncio)

    def hold_running(self) -> TaskTable | None:
        """The same for the loop, or the run of Trio's, that runs now.

        Returns who answers there for what is spawned in a scope's context when the scope has ended, if anybody does.
        """
        backend = backend_here()
        if backend is _asyncio:
            loop = running_loop()
            self.hold(loop)
            return self.heir
        tracking = backend.running_tracking()
        if tracking not in self._runs:
            tracking.acquire()  # and never released: the run ends
            self._runs.add(tracking)
        return None

    def patch(self) -> None:
        """Sees the loops that `asyncio.Runner`, and with it `asyncio.run`, runs and closes, and those of a test's own.

        Not at the methods that run a loop: in debug mode asyncio notes the stack of every future, with the line of
        every frame that is there.
        """
        self._replace(runners, "_cancel_all_tasks", self._closing_first)
        self._replace(runners.Runner, "_lazy_init", self._holding_when_run)
        # In their classes, for a test can have taken the method of a loop before that was held.
        self._replace(selector_events.BaseSelectorEventLoop, "close", self._letting_go_first)
        # Of uvloop's loops, which are in C, those are seen that a Runner or a fixture has made.
        self._replace(base_events.BaseEventLoop, _CHECK, self._holding_own_loop_first)
        self._check_running = getattr(base_events.BaseEventLoop, _CHECK)
        self._replace(base_events.BaseEventLoop, "_set_coroutine_origin_tracking", self._letting_go_last)

    def unpatch(self) -> None:
        while self._originals:
            setattr(*self._originals.pop())

    def let_go_of_all(self) -> None:
        for loop in list(self._held):
            self._let_go(loop)

    def _let_go(self, loop: asyncio.AbstractEventLoop) -> None:
        self._tell_of_closing(loop)
        if loop not in self._held:
            return
        self._held.discard(loop)
        self._closing.discard(loop)
        self._held_for_set_up.discard(loop)
        self._aside.pop(loop, None)
        self._last_held = _nothing
        tracking_of(loop).release()
        self._take_close_off(loop)

    def _tell_of_closing(self, loop: asyncio.AbstractEventLoop | None) -> None:
        if loop is not None and loop in self._held and not loop.is_closed():
            self._closes(loop, self._owner)

    def _replace(self, where: Any, name: str, make: Callable[[Any], Any]) -> None:
        original = getattr(where, name)
        self._originals.append((where, name, original))
        setattr(where, name, make(original))

    def _closing_first(self, original: Callable[..., None]) -> Callable[..., None]:
        """For what a Runner calls first when it is closed. A wrapper of its `close` would be on stacks noted later."""

        @functools.wraps(original)
        def cancel_all_tasks(loop: asyncio.AbstractEventLoop) -> None:
            __tracebackhide__ = True
            self._tell_of_closing(loop)
            original(loop)
            if loop in self._held:
                self._closing.add(loop)

        return cancel_all_tasks

    def _letting_go_first(self, original: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(original)
        def close(loop: asyncio.AbstractEventLoop) -> None:
            __tracebackhide__ = True
            self._let_go(loop)
            original(loop)

        return close

    def _holding_when_run(self, original: Callable[[asyncio.Runner], None]) -> Callable[[asyncio.Runner], None]:
        """For what makes a runner's loop: its `run` calls it first, and others who do may put a factory there yet."""
        code_of_run = getattr(runners.Runner.run, "__code__", None)

        @functools.wraps(original)
        def lazy_init(runner: Any) -> None:
            __tracebackhide__ = True
            original(runner)
            caller = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
            loop = runner._loop  # `get_loop` would come here again
            if caller.f_code is not code_of_run:
                if caller.f_back is not None and caller.f_back.f_code is _SET_UP_OF_CASE:
                    self._hold_for_set_up(loop)
                return
            self.hold(loop)
            if loop in self._held_for_set_up:
                self._held_for_set_up.discard(loop)
                tracking_of(loop).return_to_loop()
            given = caller.f_locals.get("context")
            context = runner._context if given is None else given
            # In another's context, what the main task spawns is known for its owner's only by the main task.
            if context.get(tag) is tag.get(None):
                self._step_aside(loop)

        return lazy_init

    def _hold_for_set_up(self, loop: asyncio.AbstractEventLoop) -> None:
        """Sees what the `setUp` of a test case spawns, which runs outside of the loop, and before anything in it."""
        self.hold(loop)
        self._held_for_set_up.add(loop)

    def _holding_own_loop_first(self, original: Callable[..., None]) -> Callable[..., None]:
        """For what asyncio calls before it runs a loop, and before it makes a task of what that is to complete."""

        @functools.wraps(original)
        def check_running(loop: asyncio.AbstractEventLoop) -> None:
            __tracebackhide__ = True
            original(loop)
            if self._last_held() is not loop and tag.get(None) is not None:
                self.hold(loop)  # one that a test or fixture has made for itself
            tracking = self._aside.pop(loop, None)
            if tracking is not None:
                tracking.step_back(loop)
            elif loop in self._closing:
                self._step_aside(loop)

        return check_running

    def _step_aside(self, loop: asyncio.AbstractEventLoop) -> None:
        """Has a loop make a main task of a Runner's without us: what comes before the loop is run.

        The Runner waits for it, and cancels it when interrupted: it is nobody's leak. And in debug mode asyncio notes
        the whole stack for each task, where a frame of ours costs more than all else that we do for it.
        """
        kind = class_of(loop)
        if kind not in _OF_ASYNCIO or getattr(kind, _CHECK) is not self._check_running or self._last_held() is not loop:
            return
        tracking = tracking_of(loop)
        if tracking.step_aside(loop):
            self._aside[loop] = tracking

    def _letting_go_last(self, original: Callable[..., None]) -> Callable[..., None]:
        """For what asyncio calls, with False, when it has run a loop."""

        @functools.wraps(original)
        def set_coroutine_origin_tracking(loop: asyncio.AbstractEventLoop, enabled: Any) -> None:
            original(loop, enabled)
            if enabled:
                return
            table = tag.get(None)
            if table is not None and table.rows:
                table.let_ended_go()

        return set_coroutine_origin_tracking


def _nothing() -> None:
    pass
