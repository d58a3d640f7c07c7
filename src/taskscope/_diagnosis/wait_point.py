"""What a task waits for: the primitive at the end of its await chain, and the tasks that it waits for."""

from __future__ import annotations

import asyncio
import gc
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from taskscope._diagnosis.anyio_primitives import AnyioPrimitive, anyio_primitive
from taskscope._diagnosis.anyio_scopes import deadlines_of
from taskscope._diagnosis.anyio_states import is_of_anyio
from taskscope._diagnosis.awaitables import UNKNOWN, is_done, is_future, is_task, waiter_of
from taskscope._diagnosis.awaited import (
    futures_in,
    gathered,
    is_gathering,
    pending,
    shielded_by,
    wrapped_in,
)
from taskscope._diagnosis.durations import in_seconds
from taskscope._diagnosis.folding import is_internal, is_of_library
from taskscope._diagnosis.primitives import PRIMITIVES, Primitive, thread_state
from taskscope._diagnosis.stack import Chain, Link


@dataclass(frozen=True, slots=True, eq=False)
class WaitPoint:
    """Where a task waits. Holds live objects: for the time of a diagnosis, not for reports.

    Attributes:
        kind, primitive, detail: As in `Wait`.
        holder: The coroutine of asyncio's or AnyIO's that waits, None where the task awaits a future by itself.
        futures: The pending futures waited for, where the primitive is about futures.
    """

    kind: str
    primitive: str
    detail: str | None = None
    holder: object | None = field(default=None, repr=False)
    futures: tuple[Any, ...] = field(default=(), repr=False)


def wait_point(task: asyncio.Future[Any], chain: Chain) -> WaitPoint | None:
    """Where a task waits, None for one that could go on or of which nothing is known. Never raises.

    chain: its await chain as it is now.
    """
    try:
        found = _by_primitive(task, chain) or _by_end(task, chain)
    except Exception:  # what is looked at can be broken in any way
        return None
    return found


def _by_primitive(task: asyncio.Future[Any], chain: Chain) -> WaitPoint | None:
    place, primitive = _primitive_of(chain)
    if primitive is None:
        return None
    link = chain.links[place]
    if type(primitive) is AnyioPrimitive:
        detail = _guarded(primitive.state, chain.links[place:])
        waited_for = primitive.tasks(link.holder) if primitive.tasks is not None else []
        return _point(task, chain, link, primitive, detail, waited_for)
    detail = _guarded(primitive.state, link.holder)
    if primitive.name == "Condition.wait" and chain.links[-1].code.co_qualname == "Lock.acquire":
        detail = "Condition notified or cancelled, its lock held by somebody else"
    waited_for = []
    if primitive.kind == "tasks":
        waited_for = futures_in(chain.links[-1].holder) or futures_in(link.holder)
    return _point(task, chain, link, primitive, detail, waited_for)


def _point(
    task: asyncio.Future[Any],
    chain: Chain,
    link: Link,
    primitive: Primitive | AnyioPrimitive,
    detail: str | None,
    waited_for: list[Any],
) -> WaitPoint:
    # since 3.14 `wait` has the task that waits among its variables
    mine = [future for future in pending(waited_for) if future is not chain.end and future is not task]
    return WaitPoint(primitive.kind, primitive.name, _with_timeout(task, chain, detail), link.holder, tuple(mine))


def _primitive_of(chain: Chain) -> tuple[int, Primitive | AnyioPrimitive | None]:
    """The outermost known primitive among the frames of libraries at the end of a chain: `Queue.join`, say, and not the
    `Event.wait` by which that is done. With its place."""
    found: tuple[int, Primitive | AnyioPrimitive | None] = (len(chain.links), None)
    for place in reversed(range(len(chain.links))):
        link = chain.links[place]
        if not is_of_library(link.code):
            return found
        primitive = anyio_primitive(link.code) if is_of_anyio(link.code) else PRIMITIVES.get(link.frame.function)
        if primitive is not None and not (primitive.name == "wait_for" and _is_passed_through(found[1], chain)):
            found = (place, primitive)
    return found


def _is_passed_through(inner: object | None, chain: Chain) -> bool:
    """Whether `wait_for` has no timeout: before 3.12 it then awaits what it was given, and else something else."""
    return inner is not None or is_task(chain.end)


def _by_end(task: asyncio.Future[Any], chain: Chain) -> WaitPoint | None:
    waiter = waiter_of(task)
    end = chain.end if waiter is UNKNOWN or waiter is None else waiter
    if not is_future(end) or is_done(end):
        return None
    return _of_future(task, end, chain)


def _of_future(task: asyncio.Future[Any], future: Any, chain: Chain) -> WaitPoint:
    if is_task(future):
        return WaitPoint("task", "task", _with_timeout(task, chain, None), futures=(future,))
    if is_gathering(future):
        children = pending(gathered(future))
        return WaitPoint("tasks", "gather", _with_timeout(task, chain, None), futures=tuple(children))
    inner = shielded_by(future)
    if inner is not None:
        return WaitPoint("task", "shield", _with_timeout(task, chain, None), futures=(inner,))
    source = wrapped_in(future)
    if source is not None:
        return WaitPoint("thread", "run_in_executor", _with_timeout(task, chain, thread_state(source)))
    return WaitPoint("future", _innermost_function(chain), _with_timeout(task, chain, "a bare Future"))


def _innermost_function(chain: Chain) -> str:
    """A primitive that somebody has made from futures is known by its own function: `Channel.send`."""
    shown = [link for link in chain.links if not is_internal(link.code)]
    return (shown or chain.links)[-1].frame.function if chain.links else "Future"


def _with_timeout(task: object, chain: Chain, detail: str | None) -> str | None:
    """The detail, with the seconds after which the nearest timeout round the wait ends it."""
    lefts = [left for link in chain.links for left in _timeouts_of(link)]
    loop = asyncio._get_running_loop()
    if loop is not None:
        lefts += [max(0.0, deadline - loop.time()) for deadline in deadlines_of(task)]
    return with_ending(detail, min(lefts)) if lefts else detail


def with_ending(detail: str | None, seconds: float) -> str:
    """What is waited for, with the seconds after which a timeout ends the wait."""
    ending = f"a timeout ends it in {in_seconds(seconds)}"
    return ending if detail is None else f"{detail}; {ending}"


def _timeouts_of(link: Link) -> list[float]:
    """Seconds left of every timeout whose `async with` block a frame is in: its exit waits on the frame's stack."""
    refs = gc.get_referents(link.holder) if type(link.holder) is not types.CodeType else []
    loop = asyncio._get_running_loop()
    found: list[float] = []
    for ref in refs:
        timeout: Any = ref.__self__ if type(ref) is types.MethodType else ref
        if type(timeout) is asyncio.timeouts.Timeout:
            when = timeout.when()
            if when is not None and loop is not None:
                found.append(max(0.0, when - loop.time()))
    return found


def _guarded(read: Callable[[Any], str | None], of: object) -> str | None:
    try:
        return read(of)
    except Exception:
        return None
