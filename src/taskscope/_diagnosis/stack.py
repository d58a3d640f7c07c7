"""The await chain of a task: every frame from its outermost coroutine to what it waits for in the end."""

from __future__ import annotations

import sys
import types
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final, final

from taskscope._diagnosis.awaitables import (
    PYTHON_FUTURE_AWAIT,
    UNKNOWN,
    c_field,
    class_name,
    compiled_coroutine,
    future_behind,
    held_by,
    is_future,
    is_wrapper,
    waiter_of,
    wrapped_by,
)
from taskscope._diagnosis.folding import is_internal, without_workings
from taskscope._diagnosis.tasks import coroutine_of
from taskscope._report import Frame

KEPT: Final = 50
"""Frames kept at either end of a chain. The middle of one with more than twice as many is left out."""


@dataclass(frozen=True, slots=True, eq=False)
class Link:
    """One frame of a chain.

    Attributes:
        holder: The coroutine, generator or async generator that the frame belongs to; for a frame of running code, its
            code object. Only its identity is meant to be used: to compare two chains of one task.
        frame: The frame as plain data. Line 0 where there is none to be known.
        code: The frame's code object.
    """

    holder: object = field(repr=False)
    frame: Frame
    code: types.CodeType


@dataclass(frozen=True, slots=True, eq=False)
class Chain:
    """An await chain.

    Attributes:
        links: Its frames, outermost first. None is folded away.
        end: What the innermost link awaits: a future, or an object that nothing can be told about. None when it awaits
            nothing, because it has not started, is running, or has only given way to others.
        note: What is missing and why, None when nothing is.
        omitted: How many frames are left out, between the first 50 and the last 50 links.
    """

    links: tuple[Link, ...]
    end: object | None = field(repr=False)
    note: str | None
    omitted: int


def await_chain(awaitable: object) -> Chain:
    """The chain from a coroutine, generator or other awaitable down to what it waits for. Never raises."""
    walk = _Walk()
    walk.follow(awaitable)
    return walk.chain()


def task_chain(task: Any) -> Chain:
    """The chain of a task, empty for one that has ended or that does not show its coroutine. Never raises."""
    try:
        coro = coroutine_of(task)
    except Exception as error:
        return Chain((), None, f"{class_name(task)} could not be read ({class_name(error)})", 0)
    if coro is UNKNOWN:
        return Chain((), None, f"{class_name(task)} does not show its coroutine", 0)
    if coro is None:
        return Chain((), None, "the task has ended", 0)
    walk = _Walk()
    walk.follow(coro)
    waiter = waiter_of(task)
    if waiter is None or waiter is UNKNOWN:
        return walk.chain()
    if walk.end is None:
        walk.end = waiter  # a generator's bare `yield` does not show what it yielded, but the task does
    elif walk.end is waiter:
        walk.guess = None  # a right guess: it led to what the task waits for
    elif walk.guess is not None:
        walk = _Walk(guessing=False)
        walk.follow(coro)
    return walk.chain()


def shown_frames(chain: Chain) -> tuple[Frame, ...]:
    """The frames of a chain for a user to see: without internals, unless it consists of nothing else."""
    shown = tuple(link.frame for link in without_workings(chain.links) if not is_internal(link.code))
    return shown or tuple(link.frame for link in chain.links)


@final
class _Walk:
    """One way down a chain."""

    def __init__(self, *, guessing: bool = True) -> None:
        self.guess: str | None = None  # an object at which the way went on along a guess
        self.end: object | None = None
        self._guessing = guessing
        self._notes: list[str] = []
        self._seen: dict[int, object] = {}
        self._passed = 0
        # Links, and what links are made from: a long chain is not to have frames made that are then left out.
        self._first: list[object] = []
        self._last: deque[object] = deque(maxlen=KEPT)

    def follow(self, awaitable: object) -> None:
        current: object | None = awaitable
        while current is not None:
            if id(current) in self._seen:
                self._notes.append(f"the chain ends in a circle: {class_name(current)} awaits itself")
                return
            self._seen[id(current)] = current
            try:
                current = self._step(current, type(current))
            except Exception as error:
                self._notes.append(f"the rest could not be read ({class_name(error)})")
                return

    def chain(self) -> Chain:
        holders = (*self._first, *self._last)
        links = [holder if type(holder) is Link else _link(holder, type(holder)) for holder in holders]
        notes = self._notes
        if self.guess is not None:
            notes.append(f"what {self.guess} awaits is a guess: the one thing it holds that can be awaited")
        omitted = self._passed - len(holders)
        if omitted:
            frames = "frame is" if omitted == 1 else "frames are"
            notes.append(f"{omitted:,} {frames} left out between the first {KEPT} and the last {KEPT}")
        present = tuple(link for link in links if link is not None)
        if len(present) < len(links):
            notes.append("the coroutine has ended")
        return Chain(present, self.end, "; ".join(notes) or None, omitted)

    def _add(self, holder: object) -> None:
        self._passed += 1
        if self._passed <= KEPT:
            self._first.append(holder)
        else:
            self._last.append(holder)

    def _step(self, current: Any, kind: object) -> object | None:
        """Notes an object of the chain and returns what it awaits, None where the chain ends."""
        if kind is types.CoroutineType:
            self._add(current)
            return self._calls_of(current.cr_frame) if current.cr_running else current.cr_await
        if kind is types.GeneratorType:
            if current.gi_code is PYTHON_FUTURE_AWAIT:
                self.end = future_behind(current)
                return None
            self._add(current)
            return self._calls_of(current.gi_frame) if current.gi_running else current.gi_yieldfrom
        if kind is types.AsyncGeneratorType:
            self._add(current)
            awaited = current.ag_await
            # `ag_running` is also true while a step of the generator is suspended.
            return self._calls_of(current.ag_frame) if awaited is None and current.ag_running else awaited
        if is_future(current):
            self.end = current
            return None
        if is_wrapper(current):
            return wrapped_by(current)
        awaited, code = compiled_coroutine(current)
        if awaited is not UNKNOWN:
            self._add_compiled(current, code)
            return awaited
        return self._look_inside(current)

    def _calls_of(self, frame: types.FrameType | None) -> object | None:
        """Adds what a running coroutine has called into: it is not linked to that, but the stack shows it."""
        calls: list[types.FrameType] = []
        caller: types.FrameType | None = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
        while caller is not frame and caller is not None:
            if calls or caller.f_code.co_filename != _THIS_FILE:
                calls.append(caller)
            caller = caller.f_back
        if caller is None:
            self._notes.append("it is running, in another thread or greenlet: what it calls is not shown")
            return None
        for call in reversed(calls):
            code = call.f_code
            self._add(Link(code, Frame(code.co_filename, call.f_lineno or 0, code.co_qualname), code))
        return None

    def _add_compiled(self, holder: object, code: object) -> None:
        if type(code) is not types.CodeType:
            self._notes.append(f"a frame is missing: {class_name(holder)} is compiled code")
            return
        qualname = c_field(holder, "__qualname__")
        function = qualname if type(qualname) is str else code.co_qualname
        self._add(Link(holder, Frame(code.co_filename, 0, function), code))
        self._notes.append(f"{function} is compiled code: its line is not known")

    def _look_inside(self, current: object) -> object | None:
        """What an awaitable of a foreign class awaits: what it holds that can be awaited, if that is one thing."""
        held = held_by(current, self._seen) if self._guessing else []
        if len(held) == 1:
            self.guess = self.guess or class_name(current)
            return held[0]
        self.end = current
        self._notes.append(f"what {class_name(current)} awaits in turn cannot be seen")
        return None


def _link(holder: Any, kind: object) -> Link | None:
    """The link of a suspended or unstarted holder, None for one that has ended."""
    if kind is types.CoroutineType:
        frame, code = holder.cr_frame, holder.cr_code
    elif kind is types.GeneratorType:
        frame, code = holder.gi_frame, holder.gi_code
    else:
        frame, code = holder.ag_frame, holder.ag_code
    if frame is None:
        return None
    return Link(holder, Frame(code.co_filename, frame.f_lineno or 0, code.co_qualname), code)


_THIS_FILE: Final = _link.__code__.co_filename
