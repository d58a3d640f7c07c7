"""Kernels in which a condition variable is notified when nobody waits, or not at all.

After the communication deadlocks of GoBench (CGO 2021, doi:10.1109/CGO51591.2021.9370317); each names its upstream pull
request.
"""

from __future__ import annotations

import asyncio
from typing import Final

from kernels.kernel import Kernel, Stuck

# kubernetes/kubernetes#11298


class Runner:
    """Runs something whenever it is told to. A helper waits for the word, so that the loop could wait for more."""

    def __init__(self) -> None:
        self.told = asyncio.Condition()
        self.is_told = False

    async def tell(self) -> None:
        async with self.told:
            self.is_told = True
            self.told.notify()

    async def after(self, woken: asyncio.Event) -> None:
        await asyncio.sleep(0)
        async with self.told:
            await self.told.wait()  # bug: the word may have come before
            woken.set()

    async def after_fixed(self, woken: asyncio.Event) -> None:
        await asyncio.sleep(0)
        async with self.told:
            await self.told.wait_for(lambda: self.is_told)
            woken.set()


async def run_when_told() -> None:
    runner, woken = Runner(), asyncio.Event()
    asyncio.create_task(runner.after(woken), name="after")
    await runner.tell()
    await woken.wait()


async def run_when_told_fixed() -> None:
    runner, woken = Runner(), asyncio.Event()
    waiting = asyncio.create_task(runner.after_fixed(woken), name="after")
    await runner.tell()
    await woken.wait()
    await waiting


# moby/moby#29733


class Plugin:
    def __init__(self) -> None:
        self.changed = asyncio.Condition()
        self.is_activating = True

    async def wait_active(self) -> None:
        async with self.changed:
            await self.changed.wait_for(lambda: not self.is_activating)

    async def give_up(self) -> None:
        async with self.changed:
            self.is_activating = False  # bug: and nobody is notified

    async def give_up_fixed(self) -> None:
        async with self.changed:
            self.is_activating = False
            self.changed.notify_all()


async def get_plugin(plugin: Plugin, found: asyncio.Queue[Plugin]) -> None:
    await plugin.wait_active()
    await found.put(plugin)


async def plugins() -> None:
    plugin, found = Plugin(), asyncio.Queue[Plugin](1)
    asyncio.create_task(get_plugin(plugin, found), name="wait active")
    await asyncio.sleep(0)
    await plugin.give_up()
    await found.get()


async def plugins_fixed() -> None:
    plugin, found = Plugin(), asyncio.Queue[Plugin](1)
    getting = asyncio.create_task(get_plugin(plugin, found), name="wait active")
    await asyncio.sleep(0)
    await plugin.give_up_fixed()
    await found.get()
    await getting


KERNELS: Final = (
    Kernel(
        "kubernetes/11298",
        "A helper starts to wait for a condition that was notified just before, and a loop waits for the helper.",
        run_when_told,
        run_when_told_fixed,
        leaks=(Stuck("after", "Condition.wait"),),
        body=Stuck("", "Event.wait"),
    ),
    Kernel(
        "moby/29733",
        "What a condition is about changes, and who waits for the change is not notified.",
        plugins,
        plugins_fixed,
        leaks=(Stuck("wait active", "Condition.wait_for"),),
        body=Stuck("", "Queue.get"),
    ),
)
