"""What Go has and AnyIO has not, written on AnyIO's events as a user would: RWLock, WaitGroup. And ways to wait."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import anyio
from anyio import lowlevel


async def give_way(turns: int = 5) -> None:
    """Lets the other tasks do some steps."""
    for _ in range(turns):
        await lowlevel.checkpoint()


async def settled() -> None:
    """Lets the other tasks run until each of them waits for something.

    For bodies that return, and for them alone: two that wait so take each other for waiting.
    """
    await give_way(20)  # on asyncio the call below looks only every 0.1 s
    await anyio.wait_all_tasks_blocked()


@dataclass(eq=False, slots=True)
class _Turn:
    has_come: anyio.Event
    writes: bool


class RWLock:
    """A lock that many readers or one writer can hold. Whoever comes while somebody waits queues up behind."""

    def __init__(self) -> None:
        self._readers = 0
        self._is_written = False
        self._turns: deque[_Turn] = deque()

    def reading(self) -> Holding:
        return Holding(self, writes=False)

    def writing(self) -> Holding:
        return Holding(self, writes=True)

    async def acquire(self, *, writes: bool) -> None:
        turn = _Turn(anyio.Event(), writes)
        self._turns.append(turn)
        self._let_in()
        try:
            await turn.has_come.wait()
        except BaseException:
            if turn in self._turns:
                self._turns.remove(turn)
                self._let_in()
            else:  # its turn had come before
                self.release(writes=writes)
            raise

    def release(self, *, writes: bool) -> None:
        if writes:
            self._is_written = False
        else:
            self._readers -= 1
        self._let_in()

    def _let_in(self) -> None:
        while self._turns and not self._is_written and not (self._turns[0].writes and self._readers):
            turn = self._turns.popleft()
            if turn.writes:
                self._is_written = True
            else:
                self._readers += 1
            turn.has_come.set()


class Holding:
    """`async with lock.reading():`"""

    def __init__(self, lock: RWLock, *, writes: bool) -> None:
        self._lock = lock
        self._writes = writes

    async def __aenter__(self) -> None:
        await self._lock.acquire(writes=self._writes)

    async def __aexit__(self, *error: object) -> None:
        self._lock.release(writes=self._writes)


class WaitGroup:
    """Counts what is under way, and lets others wait until nothing is."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._is_done = anyio.Event()

    def done(self) -> None:
        self._count -= 1
        if not self._count:
            self._is_done.set()

    async def wait(self) -> None:
        await self._is_done.wait()
