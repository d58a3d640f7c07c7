"""What a test that is no coroutine function runs itself, by `asyncio.run` or `trio.run`: it is put in a scope."""

from __future__ import annotations

import asyncio
import functools
import types
import weakref
from asyncio import runners
from collections.abc import Callable, Coroutine
from typing import Any, final

from taskscope._backends._here import trio_run
from taskscope.pytest_plugin._functions import leads_to_coroutine_function

Main = Callable[..., Coroutine[Any, Any, Any]]
"""What makes the coroutine of a main task."""

_Function = Callable[..., Any]


@final
class Runs:
    """Has what such a test runs wrapped, from `watch` to `look_away`.

    Its wrappers stay where they are for the next such test, for a test's monkeypatch that it made over one is undone
    only after the test, and puts that one back. They go before a coroutine function is run: in debug mode asyncio notes
    the stack of every future, with the line of every frame that is there.

    Attributes:
        are_in_place: Whether its wrappers can be where they were put.

    hold: sees what is spawned on a loop from now on.
    wrap_main: called with what makes the coroutine that a test has run.
    """

    def __init__(self, hold: Callable[[asyncio.AbstractEventLoop], None], wrap_main: Callable[[Main], Main]) -> None:
        self._hold = hold
        self._wrap_main = wrap_main
        self._wrappers: weakref.WeakSet[_Function] = weakref.WeakSet()
        # By the name of the place that it is in: the one that is asked for what to run instead.
        self._watching: dict[str, _Function] = {}
        self.are_in_place = False
        # The one that was put in each place last.
        self._last: dict[str, _Function] = {}

    def watch(self) -> None:
        """Has `wrap_main` called for what `asyncio.Runner` runs, and Trio if anybody has imported it."""
        self.are_in_place = True
        for where, name, make in self._places():
            current = getattr(where, name)
            ours: Any = self._last.get(name)
            if current is not ours:
                ours = self._wrapper(current, ours, make)
                if ours is None:
                    continue
                self._last[name] = ours
                setattr(where, name, ours)
            self._watching[name] = ours

    def look_away(self) -> None:
        """Has nothing called any more."""
        self._watching.clear()

    def take_away(self) -> None:
        """Leaves all as it was before there was any wrapper."""
        self.are_in_place = False
        for where, name, _ in self._places():
            current = getattr(where, name)
            if self._is_ours(current):
                setattr(where, name, current.__wrapped__)

    def _places(self) -> list[tuple[Any, str, Callable[[_Function], _Function]]]:
        places: list[tuple[Any, str, Any]] = [(runners.Runner, "run", self._wrapping_run)]
        # Not `trio.run`: that is what somebody has who has imported the function, and what a test may compare.
        module = trio_run()
        if hasattr(module, "unrolled_run"):
            places.append((module, "unrolled_run", self._wrapping_run_of_trio))
        return places

    def _wrapper(self, current: Any, last: Any, make: Callable[[_Function], _Function]) -> Any:
        """What is to be in a place where there is something else than was put there last. None for no function."""
        if self._is_ours(current):
            return current
        if type(current) is not types.FunctionType:  # a mock, say, which is no method and expects no runner
            return None
        if last is not None and last.__wrapped__ is current:
            return last
        made = make(current)
        self._wrappers.add(made)
        return made

    def _is_ours(self, function: Any) -> bool:
        return type(function) is types.FunctionType and function in self._wrappers

    def _wrapping_run(self, original: _Function) -> _Function:
        @functools.wraps(original)
        def run(runner: asyncio.Runner, coro: Any, **kwargs: Any) -> Any:
            __tracebackhide__ = True
            if self._watching.get("run") is not run:
                return original(runner, coro, **kwargs)
            if not asyncio.coroutines.iscoroutine(coro) or asyncio._get_running_loop() is not None:
                return original(runner, coro, **kwargs)
            try:
                self._hold(runner.get_loop())
            except RuntimeError:  # closed: the original says so, and nothing of ours may be left that was never awaited
                return original(runner, coro, **kwargs)

            # Another function for every coroutine: no frame of ours is to await it, beside the one that has the scope.
            def main() -> Any:
                return coro

            wrapped = self._wrap_main(main)
            if wrapped is main:
                return original(runner, coro, **kwargs)
            ours: Any = wrapped()
            given: Any = coro
            # What the task runs is called so in its repr, and in reports of those that it outlives. A coroutine that is
            # an object of somebody's class need not have a name.
            ours.__name__ = getattr(given, "__name__", type(given).__name__)
            ours.__qualname__ = getattr(given, "__qualname__", type(given).__qualname__)
            return original(runner, ours, **kwargs)

        return run

    def _wrapping_run_of_trio(self, original: _Function) -> _Function:
        @functools.wraps(original)
        def run(runner: Any, async_fn: Any, *args: Any, **kwargs: Any) -> Any:
            main = async_fn
            if self._watching.get("unrolled_run") is run and leads_to_coroutine_function(async_fn):
                main = self._wrap_main(async_fn)
            if main is not async_fn:
                functools.update_wrapper(main, async_fn)  # Trio calls its task so
            return original(runner, main, *args, **kwargs)

        return run
