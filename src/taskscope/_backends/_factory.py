"""The tagging task factories: for a loop that has none, and round one that it has."""

from __future__ import annotations

import asyncio
import functools
import sys
from asyncio import base_events, tasks
from collections.abc import Callable, Coroutine
from contextvars import Context
from types import CodeType
from typing import Any

from taskscope._backends._ownership import NOBODY, Owner, Ownership, current_task, running_loop
from taskscope._site import CREATE_TASK, GROUP_CREATE_TASK, cut, note_site, user_frame
from taskscope._table import NO_SITE, AnyTask, Row, TaskTable, tag

Factory = Callable[..., Any]

# AnyIO recognises an eager factory by this code object and takes the constructor out of its closure.
if sys.version_info >= (3, 12):
    EAGER_CODE: CodeType | None = asyncio.tasks.eager_task_factory.__code__
else:
    EAGER_CODE = None


def plain_factory(ownership: Ownership, depth: int) -> Factory:
    """The factory for a loop that has none. This is the hot path: each line of it is paid by every spawn.

    depth: how many calls above the factory the nearest frame is that can be a user's. `loop.create_task` is a Python
        function in asyncio and leaves a frame, in uvloop it does not. Mostly it is `asyncio.create_task`, and the
        user's is the next one, which is why that one is looked at first.
    """
    get_tag = tag.get
    get_frame = sys._getframe  # pyright: ignore[reportPrivateUsage]

    def factory(loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], **kwargs: Any) -> AnyTask:
        task: AnyTask
        if not kwargs:
            task = tasks.Task(coro, loop=loop)
        elif kwargs.get("context") is not None or kwargs.get("eager_start"):
            task = _spawn(
                ownership, loop, kwargs.get("context"), functools.partial(tasks.Task, coro, loop=loop, **kwargs)
            )
            _fold_source_traceback(task, 2)
            return task
        else:
            task = tasks.Task(coro, loop=loop, **kwargs)
        if task._source_traceback:  # type: ignore[attr-defined]
            _fold_source_traceback(task, 1)
        table = get_tag(None)
        if table is None:
            table = ownership.root
            if table is None:
                _record_stray(ownership, loop, task)
                return task
        parent = current_task(loop)
        rows = table.rows
        origin = table.host_row if parent is table.host else rows.get(parent)  # type: ignore[arg-type]
        if origin is None:
            _record_stray(ownership, loop, task)
            return task
        if table.note is not None:
            rows[task] = table.note(get_frame(1), origin)
        else:
            try:
                frame: Any = get_frame(depth + 1)
                row = table.last_row
                if row[0] is not frame.f_code or row[1] != frame.f_lasti or row[2] is not origin:
                    row = _site_row(table, get_frame(depth), origin)
                rows[task] = row
            except ValueError:  # called from C, with no Python code around
                rows[task] = note_site(None, origin)
        if len(rows) > table.threshold:
            table.tidy(task)
        return task

    return factory


def _site_row(table: TaskTable, frame: Any, origin: Row) -> Row:
    """The row of a spawn that is not like the one before.

    frame: the nearest that can be a user's. One that only passes a coroutine on to the loop is looked through, and what
        its caller does is remembered: the same call by the same spawner has the same row, and most spawns are repeats.
        (A caller that gets to the loop in two ways from one call has the site of the first for both.)
    """
    code = frame.f_code
    looked_through = code is CREATE_TASK or code is GROUP_CREATE_TASK
    if looked_through:
        frame = frame.f_back
        code = frame.f_code
    if code is not table.last_code:
        found = user_frame(sys._getframe(1))  # pyright: ignore[reportPrivateUsage]
        if found is None:
            return note_site(None, origin)
        looked_through = looked_through and found is frame
        frame = found
        code = table.last_code = frame.f_code
    ancestors = origin[3] + 1
    row = (code, frame.f_lasti, cut(origin), ancestors)
    if looked_through:
        table.last_row = row
    return row


def chained_factory(ownership: Ownership, theirs: Factory) -> Factory:
    def factory(loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], **kwargs: Any) -> Any:
        task = _spawn(ownership, loop, kwargs.get("context"), functools.partial(theirs, loop, coro, **kwargs))
        _fold_among_others(task)
        return task

    return factory


def eager_factory(ownership: Ownership, theirs: Callable[..., Any]) -> Factory:
    def construct(coro: Coroutine[Any, Any, Any], **kwargs: Any) -> Any:
        loop = kwargs.get("loop") or running_loop()
        task = _spawn(ownership, loop, kwargs.get("context"), functools.partial(theirs, coro, **kwargs))
        _fold_among_others(task)
        return task

    if sys.version_info < (3, 12):
        raise RuntimeError("there is no eager task factory before Python 3.12")
    return asyncio.tasks.create_eager_task_factory(construct)


def _spawn(
    ownership: Ownership, loop: asyncio.AbstractEventLoop, context: Context | None, make: Callable[[], Any]
) -> Any:
    """Makes a task that may run its first step while it is being made."""
    owner = ownership.of_spawn(loop)
    if type(context) is Context and (context.get(tag) or ownership.root) is not owner.table:
        owner = owner._replace(aside=True)
    row = _note(owner)
    starting = Owner(owner.table, row, owner.aside, owner.closed)
    ownership.starting.append(starting)
    try:
        task = make()
    finally:
        is_owned_still = ownership.starting.pop() is starting
    if is_owned_still:
        ownership.record(task, owner, row)
    return task


def _record_stray(ownership: Ownership, loop: asyncio.AbstractEventLoop, task: AnyTask) -> None:
    owner = ownership.of_spawn(loop)
    if owner is not NOBODY:
        ownership.record(task, owner, _note(owner))


def _note(owner: Owner) -> Row:
    if owner.table is None:
        return NO_SITE
    note = owner.table.note or note_site
    # The caller of a factory of ours, in which both callers of this are called.
    return note(sys._getframe(2).f_back, owner.origin)  # pyright: ignore[reportPrivateUsage]


def _fold_source_traceback(task: Any, ours: int) -> None:
    """Takes our frames out of the creation traceback that asyncio keeps in debug mode, where no other factory is set.

    With them that of the loop's `create_task`, as asyncio itself does then.

    ours: how many the last ones are.
    """
    frames = task._source_traceback
    if not frames or frames[-1].filename != __file__:
        return  # not that of Python's own task in C
    if len(frames) > ours and frames[-ours - 1].filename == base_events.__file__:
        ours += 1
    del frames[-ours:]


def _fold_among_others(task: Any) -> None:
    """The same below another factory, whose frames come after ours."""
    frames = getattr(task, "_source_traceback", None)
    if frames:
        frames[:] = [frame for frame in frames if frame.filename != __file__]
