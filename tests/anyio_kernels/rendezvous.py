"""Kernels in which somebody sends over an unbuffered stream that nobody receives from.

After the communication deadlocks of GoBench (CGO 2021, doi:10.1109/CGO51591.2021.9370317); each names its upstream pull
request.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import anyio
from anyio import lowlevel
from anyio.abc import ObjectReceiveStream, ObjectSendStream, TaskGroup
from kernels.kernel import Stuck

from anyio_kernels.kernel import Kernel
from anyio_kernels.shims import settled

# istio/istio#17860


class Agent:
    """Restarts a process in epochs, and is told by a stream which of them have exited."""

    def __init__(self) -> None:
        self.tell, self.statuses = anyio.create_memory_object_stream[str](0)

    async def run_and_tell(self, epoch: int) -> None:
        await lowlevel.checkpoint()
        await self.tell.send(f"epoch {epoch} exited")

    async def run(self) -> None:
        await self.statuses.receive()  # bug: leaves after the first, however many processes there are

    async def run_fixed(self, epochs: int) -> None:
        for _ in range(epochs):
            await self.statuses.receive()


async def agent(group: TaskGroup) -> None:
    agent = Agent()
    for epoch in (1, 2):
        group.start_soon(agent.run_and_tell, epoch)
    await agent.run()
    await settled()


async def agent_fixed(group: TaskGroup) -> None:
    agent = Agent()
    for epoch in (1, 2):
        group.start_soon(agent.run_and_tell, epoch)
    await agent.run_fixed(epochs=2)
    await settled()


# moby/moby#4395


async def attach() -> str:
    await lowlevel.checkpoint()
    return "attached"


async def work_and_send(work: Callable[[], Awaitable[str]], result: ObjectSendStream[str]) -> None:
    await result.send(await work())


def go(group: TaskGroup, work: Callable[[], Awaitable[str]], capacity: int = 0) -> ObjectReceiveStream[str]:
    """Runs something in the background. What it returns comes over a stream."""
    result, results = anyio.create_memory_object_stream[str](capacity)
    group.start_soon(work_and_send, work, result)
    return results


async def ignored_result(group: TaskGroup) -> None:
    results = go(group, attach)  # bug: nobody receives the result
    await settled()
    del results


async def ignored_result_fixed(group: TaskGroup) -> None:
    results = go(group, attach, capacity=1)
    await settled()
    del results


# moby/moby#33293


async def container_wait(is_known: bool, exited: list[ObjectReceiveStream[str]], capacity: int = 0) -> None:
    exit_with, exit_of = anyio.create_memory_object_stream[str](capacity)
    if not is_known:
        await exit_with.send("no such container")  # bug, where there is no buffer: nobody else has the stream yet
    exited.append(exit_of)


async def wait_for_container(group: TaskGroup) -> None:
    group.start_soon(container_wait, False, [])
    await settled()


async def wait_for_container_fixed(group: TaskGroup) -> None:
    exited: list[ObjectReceiveStream[str]] = []
    group.start_soon(container_wait, False, exited, 1)
    await settled()
    await exited[0].receive()


KERNELS: Final = (
    Kernel(
        "istio_17860",
        "Who hears of ended processes leaves after the first, and the next one that ends waits to tell it.",
        agent,
        agent_fixed,
        leaks=(Stuck("Agent.run_and_tell", "MemoryObjectSendStream.send"),),
    ),
    Kernel(
        "moby_4395",
        "A background worker sends its result over a stream that its caller throws away, without closing it.",
        ignored_result,
        ignored_result_fixed,
        leaks=(Stuck("work_and_send", "MemoryObjectSendStream.send"),),
    ),
    Kernel(
        "moby_33293",
        "A function sends over a stream that it has just made, before it hands it out.",
        wait_for_container,
        wait_for_container_fixed,
        leaks=(Stuck("container_wait", "MemoryObjectSendStream.send"),),
    ),
)
