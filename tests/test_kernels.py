"""Of small programs with a known bug the scope names the tasks and where they wait, and proves what can be proven."""

from __future__ import annotations

from typing import Final

import pytest
from conftest import Run
from kernels.corpus import ALL, CONTROLS
from kernels.judging import SHAPES, Shape, expected, false_reports, judge, under_taskscope
from kernels.kernel import Body, Kernel

pytestmark = pytest.mark.nothing_frozen_holds_a_task

LONG: Final = 30.0
"""Seconds: a timeout that is never reached, unless something is wrong."""

SHORT: Final = 0.3
"""Seconds: the timeout for bodies that nothing else can end."""

SILENT: Final = [(f"{kernel.name}, fixed", kernel.fixed) for kernel in ALL] + list(CONTROLS)

in_both_shapes = pytest.mark.parametrize("shape", SHAPES)


def timeout_for(kernel: Kernel) -> float:
    return SHORT if kernel.body is not None and not kernel.body.provable else LONG


@in_both_shapes
@pytest.mark.parametrize("kernel", [pytest.param(kernel, id=kernel.name) for kernel in ALL])
def test_the_bug_is_found_named_and_proven_where_it_can_be(kernel: Kernel, shape: Shape, run: Run) -> None:
    outcome = run(lambda: under_taskscope(kernel.buggy, shape, timeout_for(kernel)))
    assert judge(outcome, expected(kernel, shape)).misses == []


@in_both_shapes
@pytest.mark.parametrize("body", [pytest.param(body, id=name) for name, body in SILENT])
def test_about_a_program_that_is_right_nothing_is_said(body: Body, shape: Shape, run: Run) -> None:
    assert false_reports(run(lambda: under_taskscope(body, shape, LONG))) == []


@pytest.mark.parametrize("names", [[kernel.name for kernel in ALL], [name for name, _ in CONTROLS]])
def test_names_are_unique(names: list[str]) -> None:
    assert len({*names}) == len(names)


def test_the_names_of_tasks_are_unique_in_each_kernel() -> None:
    for kernel in ALL:
        names = [stuck.task for stuck in kernel.leaks]
        assert len({*names}) == len(names), kernel.name


def test_every_kernel_has_something_to_be_found() -> None:
    assert [kernel.name for kernel in ALL if not kernel.leaks and kernel.body is None] == []
