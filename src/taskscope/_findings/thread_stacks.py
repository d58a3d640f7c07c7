"""Where threads stand now."""

from __future__ import annotations

import sys
import threading
from types import FrameType
from typing import Any, Final

from taskscope._frames import frame_at
from taskscope._report import Frame

FRAMES: Final = 50
"""Innermost frames of a thread that are told."""

_STARTING: Final = threading.__file__


def frames_of(thread: threading.Thread, since: Any = None) -> tuple[Frame, ...]:
    """The stack of a running thread, outermost frame first, without those by which the interpreter starts it.

    since: a function. What has called it is left out, if it is on the stack.
    """
    stack = stack_of(thread)
    code = getattr(getattr(since, "__func__", since), "__code__", None)
    inside = [place for place, frame in enumerate(stack) if frame.f_code is code]
    if inside:
        stack = stack[inside[0] :]
    frames = [frame_at(frame.f_code, frame.f_lasti) for frame in stack]
    while frames and frames[0].file == _STARTING:
        del frames[0]
    return tuple(frames[-FRAMES:])


def stack_of(thread: threading.Thread) -> list[FrameType]:
    """The frames of a running thread, outermost first."""
    frames: list[FrameType] = []
    frame = sys._current_frames().get(thread.ident or 0)  # pyright: ignore[reportPrivateUsage]
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return frames[::-1]
