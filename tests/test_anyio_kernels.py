"""Of small programs on AnyIO with a known bug the scope says the same on both backends: who, where, how sure."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from typing import Final

import pytest
from anyio_kernels.bare import misses_of_buggy, misses_of_fixed
from anyio_kernels.corpus import ALL
from anyio_kernels.judging import expected, shapes, under_taskscope
from anyio_kernels.kernel import Kernel
from anyio_kernels.loops import BACKENDS, LOOPS, Loop
from kernels.judging import Shape, false_reports, judge

LONG: Final = 5.0
"""Seconds: a timeout that is never reached, unless something is wrong."""

SHORT: Final = 0.3
"""Seconds: the timeout for bodies that nothing else can end."""

# Who is stuck at a stream has not closed it: AnyIO says so when the collector takes it.
pytestmark = [
    pytest.mark.nothing_frozen_holds_a_task,
    pytest.mark.filterwarnings("ignore:Unclosed <MemoryObject:ResourceWarning"),
]

each_kernel = pytest.mark.parametrize("kernel", [pytest.param(kernel, id=kernel.name) for kernel in ALL])
each_loop = pytest.mark.parametrize("loop", [pytest.param(loop, id=loop.name) for loop in LOOPS])
each_backend = pytest.mark.parametrize("loop", [pytest.param(loop, id=loop.name) for loop in BACKENDS])


@pytest.fixture(autouse=True, scope="module")
def streams_are_collected_here() -> Iterator[None]:
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@each_backend
@each_kernel
def test_by_itself_the_buggy_program_is_stuck_where_it_is_said_to_be(kernel: Kernel, loop: Loop) -> None:
    assert loop.run(lambda: misses_of_buggy(kernel)) == []


@each_backend
@each_kernel
def test_by_itself_the_fixed_program_ends(kernel: Kernel, loop: Loop) -> None:
    assert loop.run(lambda: misses_of_fixed(kernel.fixed)) == []


@each_loop
@pytest.mark.parametrize(
    ("kernel", "shape"),
    [pytest.param(kernel, shape, id=f"{kernel.name}-{shape}") for kernel in ALL for shape in shapes(kernel)],
)
def test_the_bug_is_found_named_and_proven_where_it_can_be(kernel: Kernel, shape: Shape, loop: Loop) -> None:
    timeout = SHORT if kernel.body is not None and not kernel.body.provable else LONG
    outcome = loop.run(lambda: under_taskscope(kernel.buggy, shape, timeout))
    assert judge(outcome, expected(kernel, shape)).misses == []


@each_loop
@each_kernel
def test_about_the_fixed_program_nothing_is_said(kernel: Kernel, loop: Loop) -> None:
    assert false_reports(loop.run(lambda: under_taskscope(kernel.fixed, "direct", LONG))) == []


def test_names_are_unique() -> None:
    assert len({kernel.name for kernel in ALL}) == len(ALL)


def test_every_kernel_has_something_to_be_found() -> None:
    assert [kernel.name for kernel in ALL if not kernel.leaks and kernel.body is None] == []
