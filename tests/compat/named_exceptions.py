"""Tests that assert on what any task factory or instrument changes, and so must fail where one is installed. At most
five for a suite.

The comparison holds each against a factory of a few lines that is none of ours: a test that passes with that one is no
exception, whatever is written here. One that no longer fails is an error too.
"""

from __future__ import annotations

import sys

LIMIT = 5

ASYNCIO = {
    "test_base_events.BaseEventLoopTests.test_set_task_factory": (
        "asserts that a new loop has no task factory, and that set_task_factory(None) leaves none"
    ),
    "test_base_events.BaseEventLoopTests.test_set_task_factory_invalid": (
        "asserts that a loop that refused a bad factory still has none"
    ),
}

ANYIO = {
    "tests/test_taskgroups.py::TestRefcycles::test_exception_refcycles_parent_task": (
        "asserts that nothing refers to what a task raised that has ended: a scope lets such tasks go a little later"
    ),
}

TRIO: dict[str, str] = {}

AIOJOBS: dict[str, str] = (
    {"tests/test_job.py::test_get_default_job_name": "this Python names tasks 'None' where there is a task factory"}
    if (3, 13) <= sys.version_info < (3, 13, 3)
    else {}
)
