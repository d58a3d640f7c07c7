"""A kernel in which somebody waits for all that is under way, one of which waits for somebody who has left.

After a mixed deadlock of GoBench (CGO 2021, doi:10.1109/CGO51591.2021.9370317); it names its upstream pull request.
"""

from __future__ import annotations

import asyncio
from typing import Final

from kernels.kernel import Kernel, Stuck
from kernels.shims import Chan, Receiving, Sending, WaitGroup, give_way, select

# cockroachdb/cockroach#1462


class Stopper:
    """Workers watch a channel that is closed when they are to stop, and are then waited for."""

    def __init__(self) -> None:
        self.should_stop = Chan[None]()
        self.workers = WaitGroup()

    async def stop(self) -> None:
        self.should_stop.close()
        await self.workers.wait()


async def produce(events: Chan[int], stopper: Stopper) -> None:
    for event in range(3):
        await events.send(event)  # bug: nobody receives any more once the consumer has stopped
    stopper.workers.done()


async def produce_fixed(events: Chan[int], stopper: Stopper) -> None:
    for event in range(3):
        if (await select(Sending(events, event), Receiving(stopper.should_stop)))[0] == 1:
            break
    stopper.workers.done()


async def consume(events: Chan[int], stopper: Stopper) -> None:
    while (await select(Receiving(stopper.should_stop), Receiving(events)))[0] != 0:
        await give_way()  # takes its time with each
    stopper.workers.done()


async def feed() -> None:
    events, stopper = Chan[int](), Stopper()
    stopper.workers.add(2)
    asyncio.create_task(consume(events, stopper), name="consumer")
    asyncio.create_task(produce(events, stopper), name="producer")
    await give_way(3)
    await stopper.stop()


async def feed_fixed() -> None:
    events, stopper = Chan[int](), Stopper()
    stopper.workers.add(2)
    workers = [
        asyncio.create_task(consume(events, stopper), name="consumer"),
        asyncio.create_task(produce_fixed(events, stopper), name="producer"),
    ]
    await give_way(3)
    await stopper.stop()
    await asyncio.wait(workers)


KERNELS: Final = (
    Kernel(
        "cockroach/1462",
        "The consumer stops when told to, and stop() waits for a producer that still sends to it.",
        feed,
        feed_fixed,
        leaks=(Stuck("producer", "Chan.send"),),
        body=Stuck("", "WaitGroup.wait"),
    ),
)
