"""What a kernel on AnyIO is: a small program with one concurrency bug, beside the same program without it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from anyio.abc import TaskGroup
from kernels.kernel import Stuck

Body = Callable[[TaskGroup], Awaitable[None]]
"""A program. The task group is one from outside of the scope: what is spawned into it can outlive the program."""


@dataclass(frozen=True)
class Kernel:
    """One kernel.

    Attributes:
        name: Where it comes from: "cockroach_584".
        mechanism: The bug, in a sentence.
        buggy: The body with the bug. It either returns and leaves tasks behind, or never returns.
        fixed: The same program, mended. It returns and leaves nothing.
        leaks: The tasks that stay behind when the buggy body has returned or hangs; all of them and no others. Each
            goes by its coroutine, which has one name on all backends, and waits in a primitive of AnyIO's.
        body: Where the buggy body hangs, its `task` being "". None for a body that returns.
    """

    name: str
    mechanism: str
    buggy: Body
    fixed: Body
    leaks: tuple[Stuck, ...] = ()
    body: Stuck | None = None
