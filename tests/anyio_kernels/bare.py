"""A kernel by itself: whether the bug is there, and where AnyIO itself says that tasks wait."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import anyio
import trio
from kernels.kernel import Stuck

from anyio_kernels.kernel import Body, Kernel
from anyio_kernels.shims import settled

PATIENCE: Final = 5.0
"""Seconds in which any program here that can end does."""

_LIBRARIES: Final = tuple(os.path.dirname(str(module.__file__)) for module in (anyio, asyncio, trio))


@dataclass(frozen=True)
class Chain:
    """The coroutines of a task: those of the program, and below them those of libraries."""

    own: tuple[str, ...]
    library: tuple[str, ...]

    def is_of(self, stuck: Stuck) -> bool:
        return self.own[:1] == (stuck.task,) and stuck.wait.removeprefix("to_thread.") in self.library


async def misses_of_buggy(kernel: Kernel) -> list[str]:
    """What a buggy kernel does not leave behind as it is said to, or leaves behind unsaid, in words."""
    wanted = list(kernel.leaks)
    before = {task.id for task in anyio.get_running_tasks()}
    async with anyio.create_task_group() as group:
        if kernel.body is None:
            with anyio.fail_after(PATIENCE):
                await kernel.buggy(group)
        else:
            wanted.append(Stuck(kernel.buggy.__qualname__, kernel.body.wait))
            group.start_soon(kernel.buggy, group)
            await settled()
        found = [chain_of(task.coro) for task in anyio.get_running_tasks() if task.id not in before]
        group.cancel_scope.cancel()
    missing = []
    for stuck in wanted:
        chain = next((chain for chain in found if chain.is_of(stuck)), None)
        if chain is None:
            missing.append(f"no {stuck.task} waits in {stuck.wait}")
        else:
            found.remove(chain)
    return missing + [f"there is also {chain}" for chain in found]


async def misses_of_fixed(body: Body) -> list[str]:
    """What a program that is right leaves behind nevertheless, in words."""
    before = {task.id for task in anyio.get_running_tasks()}
    async with anyio.create_task_group() as group:
        with anyio.fail_after(PATIENCE):
            await body(group)
        found = [chain_of(task.coro) for task in anyio.get_running_tasks() if task.id not in before]
        group.cancel_scope.cancel()
    return [f"there is still {chain}" for chain in found]


def chain_of(coroutine: Any) -> Chain:
    chain = list(_coroutines(coroutine))
    own = [position for position, one in enumerate(chain) if not one.cr_code.co_filename.startswith(_LIBRARIES)]
    below = own[-1] + 1 if own else 0
    return Chain(
        tuple(chain[position].__qualname__ for position in own),
        tuple(one.cr_code.co_qualname for one in chain[below:]),
    )


def _coroutines(outermost: Any) -> Iterator[Any]:
    one = outermost
    while hasattr(one, "cr_code"):
        yield one
        one = one.cr_await
