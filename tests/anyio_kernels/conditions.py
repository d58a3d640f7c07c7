"""Kernels in which a condition variable is notified when nobody waits, or not at all.

After the communication deadlocks of GoBench (CGO 2021, doi:10.1109/CGO51591.2021.9370317); each names its upstream pull
request. The last is of AnyIO's own: a wait for a condition cannot end before the lock is free again.
"""

from __future__ import annotations

from typing import Final

import anyio
from anyio.abc import ObjectSendStream, TaskGroup
from kernels.kernel import Stuck

from anyio_kernels.kernel import Kernel
from anyio_kernels.shims import give_way, settled

# kubernetes/kubernetes#11298


class Runner:
    """Runs something whenever it is told to. A helper waits for the word, so that the loop could wait for more."""

    def __init__(self) -> None:
        self.told = anyio.Condition()
        self.is_told = False

    async def tell(self) -> None:
        async with self.told:
            self.is_told = True
            self.told.notify()

    async def after(self, woken: anyio.Event) -> None:
        await give_way()
        async with self.told:
            await self.told.wait()  # bug: the word may have come before
            woken.set()

    async def after_fixed(self, woken: anyio.Event) -> None:
        await give_way()
        async with self.told:
            while not self.is_told:
                await self.told.wait()
            woken.set()


async def run_when_told(group: TaskGroup) -> None:
    runner, woken = Runner(), anyio.Event()
    group.start_soon(runner.after, woken)
    await runner.tell()
    await woken.wait()


async def run_when_told_fixed(group: TaskGroup) -> None:
    runner, woken = Runner(), anyio.Event()
    group.start_soon(runner.after_fixed, woken)
    await runner.tell()
    await woken.wait()
    await settled()


# moby/moby#29733


class Plugin:
    def __init__(self) -> None:
        self.changed = anyio.Condition()
        self.is_activating = True

    async def wait_active(self) -> None:
        async with self.changed:
            while self.is_activating:
                await self.changed.wait()

    async def give_up(self) -> None:
        async with self.changed:
            self.is_activating = False  # bug: and nobody is notified

    async def give_up_fixed(self) -> None:
        async with self.changed:
            self.is_activating = False
            self.changed.notify_all()


async def get_plugin(plugin: Plugin, found: ObjectSendStream[Plugin]) -> None:
    await plugin.wait_active()
    await found.send(plugin)


async def plugins(group: TaskGroup) -> None:
    plugin = Plugin()
    find, found = anyio.create_memory_object_stream[Plugin](1)
    group.start_soon(get_plugin, plugin, find)
    await give_way()
    await plugin.give_up()
    await found.receive()


async def plugins_fixed(group: TaskGroup) -> None:
    plugin = Plugin()
    find, found = anyio.create_memory_object_stream[Plugin](1)
    group.start_soon(get_plugin, plugin, find)
    await give_way()
    await plugin.give_up_fixed()
    await found.receive()
    await settled()


# AnyIO: taking the lock back


class Settings:
    def __init__(self) -> None:
        self.changed = anyio.Condition()
        self.is_seen = anyio.Event()

    async def watch(self) -> None:
        async with self.changed:
            await self.changed.wait()
        self.is_seen.set()

    async def change(self) -> None:
        async with self.changed:
            self.changed.notify()
            await self.is_seen.wait()  # bug: the watcher cannot see it before the lock is free again

    async def change_fixed(self) -> None:
        async with self.changed:
            self.changed.notify()
        await self.is_seen.wait()


async def change_settings(group: TaskGroup) -> None:
    settings = Settings()
    group.start_soon(settings.watch)
    await settled()
    group.start_soon(settings.change)
    await settled()


async def change_settings_fixed(group: TaskGroup) -> None:
    settings = Settings()
    group.start_soon(settings.watch)
    await settled()
    group.start_soon(settings.change_fixed)
    await settled()


KERNELS: Final = (
    Kernel(
        "kubernetes_11298",
        "A helper starts to wait for a condition that was notified just before, and a loop waits for the helper.",
        run_when_told,
        run_when_told_fixed,
        leaks=(Stuck("Runner.after", "Condition.wait"),),
        body=Stuck("", "Event.wait"),
    ),
    Kernel(
        "moby_29733",
        "What a condition is about changes, and who waits for the change is not notified.",
        plugins,
        plugins_fixed,
        leaks=(Stuck("get_plugin", "Condition.wait"),),
        body=Stuck("", "MemoryObjectReceiveStream.receive"),
    ),
    Kernel(
        "anyio_condition",
        "Who notifies waits for the notified one with the lock held that the other has to take back.",
        change_settings,
        change_settings_fixed,
        # A cancel of the group round them would reach the one, and not the other, which is in a shield of AnyIO's.
        leaks=(
            Stuck("Settings.watch", "Condition.wait", provable=False),
            Stuck("Settings.change", "Event.wait", provable=False),
        ),
    ),
)
