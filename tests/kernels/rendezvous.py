"""Kernels in which somebody sends over an unbuffered channel that nobody receives from.

An asyncio task keeps its own result, so written with tasks alone most of these programs end: those are the controls.

After the communication deadlocks of GoBench (CGO 2021, doi:10.1109/CGO51591.2021.9370317); each names its upstream pull
request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from kernels.kernel import Body, Kernel, Stuck
from kernels.shims import Chan, give_way

# istio/istio#17860


async def run_process(epoch: int) -> str:
    await asyncio.sleep(0)
    return f"epoch {epoch} exited"


class Agent:
    """Restarts a process in epochs, and is told by a channel which of them have exited."""

    def __init__(self) -> None:
        self.statuses = Chan[str]()

    async def run_and_tell(self, epoch: int) -> None:
        await self.statuses.send(await run_process(epoch))

    async def run(self) -> None:
        await self.statuses.recv()  # bug: leaves after the first, however many processes there are

    async def run_fixed(self, epochs: int) -> None:
        for _ in range(epochs):
            await self.statuses.recv()


async def agent() -> None:
    agent = Agent()
    for epoch in (1, 2):
        asyncio.create_task(agent.run_and_tell(epoch), name=f"epoch {epoch}")
    await agent.run()
    await give_way()


async def agent_fixed() -> None:
    agent = Agent()
    running = [asyncio.create_task(agent.run_and_tell(epoch), name=f"epoch {epoch}") for epoch in (1, 2)]
    await agent.run_fixed(epochs=2)
    await asyncio.wait(running)


async def agent_idiomatic() -> None:
    running = [asyncio.create_task(run_process(epoch), name=f"epoch {epoch}") for epoch in (1, 2)]
    await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)


# moby/moby#4395


def go(work: Callable[[], Awaitable[str]], name: str) -> tuple[Chan[str], asyncio.Task[None]]:
    """Runs something in the background. What it returns comes over a channel."""
    result = Chan[str]()

    async def worker() -> None:
        await result.send(await work())

    return result, asyncio.create_task(worker(), name=name)


async def attach() -> str:
    await asyncio.sleep(0)
    return "attached"


async def ignored_result() -> None:
    go(attach, "attach")  # bug: nobody receives the result
    await give_way()


async def ignored_result_fixed() -> None:
    result, worker = go(attach, "attach")
    await result.recv()
    await worker


async def ignored_result_idiomatic() -> None:
    asyncio.create_task(attach(), name="attach")
    await give_way()


# moby/moby#33293


async def container_wait(is_known: bool) -> Chan[str]:
    exited = Chan[str]()
    if not is_known:
        await exited.send("no such container")  # bug: nobody else has the channel yet
    return exited


async def container_wait_fixed(is_known: bool) -> Chan[str]:
    exited = Chan[str](1)
    if not is_known:
        await exited.send("no such container")
    return exited


async def container_wait_idiomatic(is_known: bool) -> asyncio.Future[str]:
    exited: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    if not is_known:
        exited.set_result("no such container")
    return exited


async def wait_for_container() -> None:
    asyncio.create_task(container_wait(is_known=False), name="container wait")
    await give_way()


async def wait_for_container_fixed() -> None:
    exited = await asyncio.create_task(container_wait_fixed(is_known=False), name="container wait")
    await exited.recv()


async def wait_for_container_idiomatic() -> None:
    asyncio.create_task(container_wait_idiomatic(is_known=False), name="container wait")
    await give_way()


KERNELS: Final = (
    Kernel(
        "istio/17860",
        "Who hears of ended processes leaves after the first, and the next one that ends waits to tell it.",
        agent,
        agent_fixed,
        leaks=(Stuck("epoch 2", "Chan.send"),),
    ),
    Kernel(
        "moby/4395",
        "A background worker sends its result over a channel that its caller throws away.",
        ignored_result,
        ignored_result_fixed,
        leaks=(Stuck("attach", "Chan.send"),),
    ),
    Kernel(
        "moby/33293",
        "A function sends over a channel that it has just made, before it returns it.",
        wait_for_container,
        wait_for_container_fixed,
        leaks=(Stuck("container wait", "Chan.send"),),
    ),
)

CONTROLS: Final[tuple[tuple[str, Body], ...]] = (
    ("istio/17860", agent_idiomatic),
    ("moby/4395", ignored_result_idiomatic),
    ("moby/33293", wait_for_container_idiomatic),
)
