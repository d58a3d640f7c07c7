"""The examples of Hypothesis's property tests: each is a test of its own, with a scope of its own."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager, suppress
from typing import Any, final

from taskscope._clock import perf_counter

Step = Callable[[], None]


@final
class OurTime:
    """How much of a test's time was not the test's, but went by while tasks that it had left were waited for.

    Attributes:
        seconds: That much.
    """

    def __init__(self) -> None:
        self.seconds = 0.0

    def add_since(self, began: float) -> None:
        """began: by `perf_counter`."""
        self.seconds += perf_counter() - began


def handle_of(function: Any) -> Any:
    """Where Hypothesis keeps the function that it calls with every example. None: it is no property test."""
    return getattr(function, "hypothesis", None)


def async_example(
    function: Callable[..., Coroutine[Any, Any, Any]], begin: Step, end: Step, ours: OurTime
) -> Callable[..., Coroutine[Any, Any, Any]]:
    """The function with `begin` before and `end` after each call that returns."""

    @functools.wraps(function)
    async def one_example(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        begin()
        with _without(ours):
            result = await function(*args, **kwargs)
        end()
        return result

    return one_example


def example(function: Callable[..., Any], begin: Step, judge: Step, end: Step, ours: OurTime) -> Callable[..., Any]:
    """The same for a function that is none, in which tasks are judged by another step."""

    @functools.wraps(function)
    def one_example(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        begin()
        with _without(ours):
            try:
                result = function(*args, **kwargs)
            finally:
                judge()
        end()
        return result

    return one_example


@contextmanager
def _without(ours: OurTime) -> Generator[None]:
    """Has Hypothesis's deadline not count the time that is ours, which would fail the test."""
    before = ours.seconds
    try:
        yield
    finally:
        with suppress(Exception):  # it has no public way to say so, and old releases have none at all
            from hypothesis.control import current_build_context

            times: dict[str, float] = vars(current_build_context().data)["_stateful_run_times"]
            times["execute:taskscope"] = times.get("execute:taskscope", 0.0) + ours.seconds - before
