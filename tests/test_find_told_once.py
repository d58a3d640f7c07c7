"""What one scope has told of and could not end: the scopes round it do not fail for it again."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any, Protocol

import pytest

import taskscope


class Run(Protocol):
    def __call__(self, main: Any) -> Any: ...


def _run_on_trio(main: Any) -> Any:
    import trio

    return trio.run(main)


@pytest.fixture(params=["loop", "trio"])
def run_anywhere(request: pytest.FixtureRequest, run: Run) -> Run:
    return run if request.param == "loop" else _run_on_trio


def _start() -> threading.Event:
    told = threading.Event()
    threading.Thread(target=told.wait, args=(60,)).start()
    return told


def test_a_thread_is_told_by_the_innermost_scope_alone(run_anywhere: Run) -> None:
    async def main() -> list[taskscope.Report]:
        async with taskscope.TaskScope("outer", grace=0.0, find=["threads"], on_leak="ignore") as outer:
            with suppress(taskscope.TaskLeakError):
                async with taskscope.TaskScope("inner", grace=0.0, find=["threads"]) as inner:
                    told = _start()
        told.set()
        return [inner.report, outer.report]

    inner, outer = run_anywhere(main)
    assert [finding.kind for finding in inner.findings] == ["thread"]
    assert outer.ok


def test_the_outer_scope_tells_where_the_inner_does_not_look(run_anywhere: Run) -> None:
    async def main() -> taskscope.Report:
        async with taskscope.TaskScope("outer", grace=0.0, find=["threads"], on_leak="ignore") as outer:
            async with taskscope.TaskScope("inner", grace=0.0):
                told = _start()
        told.set()
        return outer.report

    assert [finding.kind for finding in run_anywhere(main).findings] == ["thread"]
