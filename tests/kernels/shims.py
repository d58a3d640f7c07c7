"""What Go has and asyncio has not, written on bare futures as a user would: channels, select, RWLock, Once, WaitGroup.

Each waits in a method of its own, which is how reports name it: `Chan.send`, `RWLock.acquire_read`, `select`.
"""

from __future__ import annotations

import asyncio
import enum
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Generic, TypeVar

T = TypeVar("T")


async def give_way(turns: int = 10) -> None:
    """Lets the other tasks run until each of them waits for something, if that takes no longer than some turns."""
    for _ in range(turns):
        await asyncio.sleep(0)


class Closed(Exception):
    """A send to a closed channel, or a receive from one that is also empty."""


class _Sign(enum.Enum):
    NOT_NOW = "the other side is not there yet"
    CLOSED = "the channel is closed"


_NOT_NOW: Final = _Sign.NOT_NOW
_CLOSED: Final = _Sign.CLOSED


class Chan(Generic[T]):
    """A channel. Without a capacity a send and a receive wait for each other."""

    def __init__(self, capacity: int = 0) -> None:
        self.capacity: Final = capacity
        self.is_closed = False
        self.buffer: deque[T] = deque()
        self.senders: deque[_Party] = deque()
        self.receivers: deque[_Party] = deque()

    async def send(self, item: T) -> None:
        """Raises: Closed."""
        with _Offer(Sending(self, item)) as offer:
            _, answer = await offer.future
        if answer is _CLOSED:
            raise Closed

    async def recv(self) -> T:
        """Raises: Closed."""
        with _Offer(Receiving(self)) as offer:
            _, item = await offer.future
        if item is _CLOSED:
            raise Closed
        return item  # type: ignore[no-any-return]

    def close(self) -> None:
        """Wakes all that wait at the channel. What is in its buffer can still be received."""
        self.is_closed = True
        for waiting in (self.senders, self.receivers):
            while (party := _first(waiting)) is not None:
                party.answer(_CLOSED)

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        try:
            return await self.recv()
        except Closed:
            raise StopAsyncIteration from None


async def select(*cases: Sending | Receiving) -> tuple[int, Any]:
    """Waits until one of the cases can go on, and only that one does. The first, where several can at once.

    Returns:
        The case's position and the item received: None from a closed channel, and for a send.

    Raises:
        Closed: That case is a send to a closed channel.
    """
    with _Offer(*cases) as offer:
        chosen, answer = await offer.future
    if answer is not _CLOSED:
        return chosen, answer
    if isinstance(cases[chosen], Sending):
        raise Closed
    return chosen, None


@dataclass(eq=False, slots=True)
class _Party:
    """Who waits at a channel. All cases of one select share a future: whatever comes first takes it."""

    future: asyncio.Future[tuple[int, Any]]
    case: int
    item: Any = None

    def answer(self, answer: object) -> None:
        self.future.set_result((self.case, answer))


@dataclass(frozen=True, slots=True)
class Sending:
    """A send, as a case for `select`."""

    chan: Chan[Any]
    item: Any = None

    def go_on(self) -> object:
        """Sends, if that is possible at once."""
        chan = self.chan
        if chan.is_closed:
            return _CLOSED
        receiver = _first(chan.receivers)
        if receiver is not None:
            receiver.answer(self.item)
            return None
        if len(chan.buffer) < chan.capacity:
            chan.buffer.append(self.item)
            return None
        return _NOT_NOW

    def queue_up(self, future: asyncio.Future[tuple[int, Any]], case: int) -> None:
        self.chan.senders.append(_Party(future, case, self.item))

    def leave(self, future: asyncio.Future[tuple[int, Any]]) -> None:
        self.chan.senders = deque(party for party in self.chan.senders if party.future is not future)


@dataclass(frozen=True, slots=True)
class Receiving:
    """A receive, as a case for `select`."""

    chan: Chan[Any]

    def go_on(self) -> object:
        """Receives, if that is possible at once."""
        chan = self.chan
        sender = _first(chan.senders)
        if sender is not None:
            sender.answer(None)
            chan.buffer.append(sender.item)
        if chan.buffer:
            return chan.buffer.popleft()
        return _CLOSED if chan.is_closed else _NOT_NOW

    def queue_up(self, future: asyncio.Future[tuple[int, Any]], case: int) -> None:
        self.chan.receivers.append(_Party(future, case))

    def leave(self, future: asyncio.Future[tuple[int, Any]]) -> None:
        self.chan.receivers = deque(party for party in self.chan.receivers if party.future is not future)


class _Offer:
    """Some cases for the time of one wait: its future gets what the first of them that goes on has led to."""

    def __init__(self, *cases: Sending | Receiving) -> None:
        self._cases = cases
        self.future: asyncio.Future[tuple[int, Any]] = asyncio.get_running_loop().create_future()

    def __enter__(self) -> _Offer:
        for position, case in enumerate(self._cases):
            answer = case.go_on()
            if answer is not _NOT_NOW:
                self.future.set_result((position, answer))
                return self
        for position, case in enumerate(self._cases):
            case.queue_up(self.future, position)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        for case in self._cases:
            case.leave(self.future)


def _first(waiting: deque[_Party]) -> _Party | None:
    """Takes out the first that still waits: another case of its select may have gone on, or its task been cancelled."""
    while waiting:
        party = waiting.popleft()
        if not party.future.done():
            return party
    return None


class RWLock:
    """A lock that many readers or one writer can hold. Readers that come while a writer waits queue up behind it."""

    def __init__(self) -> None:
        self._readers = 0
        self._is_written = False
        self._waiting_readers: deque[asyncio.Future[None]] = deque()
        self._waiting_writers: deque[asyncio.Future[None]] = deque()

    def reading(self) -> Reading:
        return Reading(self)

    def writing(self) -> Writing:
        return Writing(self)

    async def acquire_read(self) -> None:
        if not self._is_written and not self._has_waiting_writer():
            self._readers += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting_readers.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # its turn had come before
                self.release_read()
            raise

    async def acquire_write(self) -> None:
        if not self._is_written and not self._readers:
            self._is_written = True
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting_writers.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._let_in()  # the readers behind it
            else:
                self.release_write()
            raise

    def release_read(self) -> None:
        self._readers -= 1
        self._let_in()

    def release_write(self) -> None:
        self._is_written = False
        self._let_in(readers_first=True)

    def _let_in(self, *, readers_first: bool = False) -> None:
        if self._is_written:
            return
        if readers_first or not self._has_waiting_writer():
            self._readers += _wake_all(self._waiting_readers)
        while not self._readers and not self._is_written and self._waiting_writers:
            self._is_written = _wake(self._waiting_writers.popleft())

    def _has_waiting_writer(self) -> bool:
        return any(not turn.done() for turn in self._waiting_writers)


def _wake(turn: asyncio.Future[None]) -> bool:
    """Whether somebody still waited for it."""
    if turn.done():
        return False
    turn.set_result(None)
    return True


def _wake_all(turns: deque[asyncio.Future[None]] | list[asyncio.Future[None]]) -> int:
    """How many still waited."""
    woken = sum(_wake(turn) for turn in turns)
    turns.clear()
    return woken


class Reading:
    """`async with lock.reading():`"""

    def __init__(self, lock: RWLock) -> None:
        self._lock = lock

    async def __aenter__(self) -> None:
        await self._lock.acquire_read()

    async def __aexit__(self, *error: object) -> None:
        self._lock.release_read()


class Writing:
    """`async with lock.writing():`"""

    def __init__(self, lock: RWLock) -> None:
        self._lock = lock

    async def __aenter__(self) -> None:
        await self._lock.acquire_write()

    async def __aexit__(self, *error: object) -> None:
        self._lock.release_write()


class Once:
    """Does something once, however many ask for it; the others wait until that is done."""

    def __init__(self) -> None:
        self._is_begun = False
        self._is_done = False
        self._waiting: list[asyncio.Future[None]] = []

    async def do(self, work: Callable[[], Coroutine[Any, Any, object]]) -> None:
        if self._is_done:
            return
        if self._is_begun:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            await turn
            return
        self._is_begun = True
        try:
            await work()
        finally:
            self._is_done = True
            _wake_all(self._waiting)


class WaitGroup:
    """Counts what is under way, and lets others wait until nothing is."""

    def __init__(self, count: int = 0) -> None:
        self._count = count
        self._waiting: list[asyncio.Future[None]] = []

    def add(self, count: int = 1) -> None:
        self._count += count

    def done(self) -> None:
        self._count -= 1
        if self._count < 0:
            raise ValueError("done was called more often than add")
        if not self._count:
            _wake_all(self._waiting)

    async def wait(self) -> None:
        if not self._count:
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        await turn
