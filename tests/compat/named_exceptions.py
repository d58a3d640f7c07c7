"""Tests that assert on the task factory itself, and so must fail where one is installed. At most five.

The comparison holds each against a factory of a few lines that is none of ours: a test that passes with that one is no
exception, whatever is written here. One that no longer fails is an error too.
"""

from __future__ import annotations

LIMIT = 5

NAMED = {
    "test_base_events.BaseEventLoopTests.test_set_task_factory": (
        "asserts that a new loop has no task factory, and that set_task_factory(None) leaves none"
    ),
    "test_base_events.BaseEventLoopTests.test_set_task_factory_invalid": (
        "asserts that a loop that refused a bad factory still has none"
    ),
}
