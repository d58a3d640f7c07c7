"""What a kernel is: a small program with one concurrency bug, beside the same program without it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Literal

Body = Callable[[], Coroutine[Any, Any, object]]


@dataclass(frozen=True)
class Stuck:
    """A task that a buggy kernel leaves behind, or its body.

    Attributes:
        task: The task's name.
        wait: The primitive it waits in, as reports name it: "Queue.get", "Lock.acquire", "Chan.send".
        provable: Whether nothing that could still run can wake it: only tasks that are stuck themselves hold what it
            waits for.
    """

    task: str
    wait: str
    provable: bool = True


@dataclass(frozen=True)
class Kernel:
    """One kernel.

    Attributes:
        name: Where it comes from: "cockroach/584".
        mechanism: The bug, in a sentence.
        buggy: The body with the bug. It either returns and leaves tasks behind, or never returns.
        fixed: The same program, mended. It returns and leaves nothing.
        leaks: The tasks that stay behind when the buggy body has returned or hangs; all of them and no others.
        body: Where the buggy body hangs, its `task` being "". None for a body that returns.
        also: Other sets of leaks that are right too, where the outcome depends on the order in which tasks run.
    """

    name: str
    mechanism: str
    buggy: Body
    fixed: Body
    leaks: tuple[Stuck, ...] = ()
    body: Stuck | None = None
    also: tuple[tuple[Stuck, ...], ...] = ()

    @property
    def stuck(self) -> Literal["B", "T", "B+T"]:
        if self.body is None:
            return "T"
        return "B+T" if self.leaks else "B"
