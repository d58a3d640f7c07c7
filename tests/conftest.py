"""The loops that tests run on."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Protocol, TypeVar

import hypothesis
import pytest
from anyio_kernels.loops import ANYIO_KNOWS_EAGER_TASKS

T = TypeVar("T")

# Tests of this package run real loops: how long an example takes says nothing about it.
hypothesis.settings.register_profile("taskscope", deadline=None, database=None)
hypothesis.settings.load_profile("taskscope")

LOOP_KINDS = ["asyncio"]
if sys.version_info >= (3, 12):
    LOOP_KINDS.append("eager")
if importlib.util.find_spec("uvloop") is not None:
    LOOP_KINDS.append("uvloop")


def pytest_collection_finish() -> None:
    """Lets Hypothesis ask the collector who holds its random numbers, which it does once, while it sees all of them."""
    _one_example()


@pytest.fixture(scope="module", autouse=True)
def what_others_hold_is_out_of_sight(request: pytest.FixtureRequest) -> Iterator[None]:
    """Takes what pytest, the tests' modules and the tests before hold out of the collector's sight.

    Hundreds of tests collect garbage, which would take ten times as long with all that to go through. Where somebody
    asks the collector who holds a body's task, all is to be seen: no proof is given where it is not. Modules that keep
    no task where all can see it are asked as if nothing were hidden.
    """
    with pytest.MonkeyPatch.context() as patch:
        if request.node.get_closest_marker("holders_are_looked_for"):
            gc.unfreeze()
        else:
            gc.collect()
            gc.freeze()
        if request.node.get_closest_marker("nothing_frozen_holds_a_task"):
            patch.setattr(gc, "get_freeze_count", lambda: 0)  # which counts them one by one
        yield


@hypothesis.settings(max_examples=1)
@hypothesis.given(hypothesis.strategies.none())
def _one_example(_: None) -> None:
    pass


@pytest.fixture(autouse=True)
def threads_of_earlier_tests_have_ended() -> None:
    """A test that gives up a report half-way leaves the thread that writes it: no later test is to blame for that."""
    for thread in threading.enumerate():
        if thread.name.startswith("taskscope"):
            thread.join(10)


class Run(Protocol):
    """Runs `main()` in a fresh event loop, which is closed afterwards, and returns its result."""

    def __call__(self, main: Callable[[], Coroutine[Any, Any, T]]) -> T: ...


@pytest.fixture(params=LOOP_KINDS)
def loop_kind(request: pytest.FixtureRequest) -> str:
    """`"asyncio"`, `"eager"` (asyncio with its eager task factory set) or `"uvloop"`."""
    kind: str = request.param
    return kind


@pytest.fixture
def eager_tasks_are_known_to_anyio(request: pytest.FixtureRequest) -> None:
    if ANYIO_KNOWS_EAGER_TASKS or "loop_kind" not in request.fixturenames:
        return
    if request.getfixturevalue("loop_kind") == "eager":
        pytest.skip("AnyIO itself fails with tasks that start eagerly before 4.8")


@pytest.fixture
def new_loop(loop_kind: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """Makes a loop of the kind under test. The caller closes it."""

    def make() -> asyncio.AbstractEventLoop:
        if loop_kind == "uvloop":
            import uvloop

            return uvloop.new_event_loop()
        loop = asyncio.new_event_loop()
        if loop_kind == "eager":
            loop.set_task_factory(asyncio.eager_task_factory)
        return loop

    return make


@pytest.fixture
def run(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> Run:
    def run(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            return runner.run(main())

    return run


@pytest.fixture
def run_asyncio() -> Run:
    """Like `run`, on asyncio's own loop only: for what does not depend on the kind of loop."""

    def run(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            return runner.run(main())

    return run
