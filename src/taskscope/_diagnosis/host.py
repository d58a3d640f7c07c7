"""How the task that runs the body of a scope is held by whoever runs it, so that others can be told from them later.

A runner holds its task and its coroutines in its frames and in handlers of signals, and does nothing with them but to
wait and to cancel. Who they are cannot be told, but how many: what is counted when a body begins is theirs.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import sys
from collections.abc import Container
from types import AsyncGeneratorType, CoroutineType, FrameType, GeneratorType
from typing import Any, Final

from taskscope._diagnosis import trio_tasks
from taskscope._diagnosis.awaitables import coroutine_of
from taskscope._diagnosis.awaiting import code_that_awaits, references_of
from taskscope._diagnosis.folding import is_own
from taskscope._diagnosis.opaque import class_of
from taskscope._diagnosis.own_attributes import has_own_attributes
from taskscope._diagnosis.proof import NOT_HELD, Held
from taskscope._diagnosis.registries import count_strange_references
from taskscope._diagnosis.stack import task_chain

_FRAMES: Final[dict[type[Any], str]] = {
    CoroutineType: "cr_frame",
    GeneratorType: "gi_frame",
    AsyncGeneratorType: "ag_frame",
}

_SUSPENDABLE: Final = (
    inspect.CO_COROUTINE | inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR | inspect.CO_ITERABLE_COROUTINE
)

# The tasks that take their first step before their maker has them: asyncio keeps them for that time, up to 3.13.
_eager_tasks: Final[Container[Any]] = vars(asyncio.tasks).get("_eager_tasks", ())

# Since 3.14 a function borrows what its caller holds.
_BORROWS: Final = sys.version_info >= (3, 14)

# References to a task by what runs it, and by its table. The frames of one in pure Python come on top.
_RUNNING_TASK: Final = 3

# References to its coroutine by the task, and by the frames of one in pure Python.
_RUNNING_CODE: Final = 1
_IN_PYTHON: Final = 1 if _BORROWS else 2


def held_now(task: asyncio.Task[Any] | None, frame: FrameType | None, registries: set[int]) -> Held:
    """How a task is held that runs. The caller must hold it in nothing but the argument.

    frame: the innermost one that the task will still be in when it waits.
    registries: the callbacks of registries that know tasks weakly.
    """
    if task is None:
        return NOT_HELD
    coroutine = coroutine_of(task)
    given = [frame]
    del frame  # or it would be held once more
    frames, frame = _frames_held(coroutine, given)
    steps = 0  # frames of the task itself, where that is in pure Python
    called = None
    while frame is not None and frame.f_code.co_filename == asyncio.tasks.__file__:
        steps += 1
        called = frame.f_code.co_name
        frame = frame.f_back
    if _BORROWS:
        steps = min(steps, 1)
    if steps and called != "__wakeup" and not isinstance(task.get_loop(), asyncio.base_events.BaseEventLoop):
        steps += 1  # uvloop takes a method without arguments apart to call it, and holds the task as well
    references = sys.getrefcount(task) - _OWN - _RUNNING_TASK - steps - (task in _eager_tasks)
    of_coroutine = sys.getrefcount(coroutine) - _OWN - _RUNNING_CODE - (_IN_PYTHON if steps else 0)
    if not _is_loop(frame):
        references -= steps > 0
        of_coroutine = 0  # its maker has it for the first step, and nobody knows for how long
    references -= references_of(code_that_awaits(task), task)
    weak_references = count_strange_references(task, registries) or 0
    return Held(max(0, references), weak_references, max(0, of_coroutine), frames)


def frames_held_on_trio(task: Any, frame: FrameType | None) -> tuple[int, ...]:
    """The frames alone, as `Held` has them: a traceback of something that was over before the body began holds them."""
    given = [frame]
    del frame
    return _frames_held(trio_tasks.coroutine_of(task), given)[0]


def _frames_held(coroutine: object, given: list[FrameType | None]) -> tuple[tuple[int, ...], FrameType | None]:
    """Also the frame of whoever runs the outermost one.

    given: the innermost frame, which is taken out.
    """
    frame = given.pop()
    outermost = coroutine.cr_frame if type(coroutine) is CoroutineType else None
    frames: list[int] = []
    while frame is not None and frame.f_code.co_flags & _SUSPENDABLE:
        frames.append(sys.getrefcount(frame) - _OWN - 1 - (frame is outermost))
        is_last = frame is outermost
        frame = frame.f_back
        if is_last:
            break
    return tuple(reversed(frames)), frame


def frames_as_held(host: Any, held: Held) -> dict[int, int]:
    """The ids of a host's outermost frames, with how many references to each there were when its body began."""
    found = zip(() if host is None else task_chain(host).links, held.frames, strict=False)
    return {id(_frame_of(link.holder)): number for link, number in found}


def code_of_host(tasks: list[Any], host: int | None, held: Held) -> tuple[list[int], list[int], set[int]]:
    """The ids of the coroutines that a host's runner may hold, outermost first, of their frames, and of who awaits."""
    found = next((task for task in tasks if id(task) == host), None)
    if found is None or has_own_attributes(found):
        return [], [], set()
    coroutines = [link.holder for link in task_chain(found).links[: max(1, len(held.frames))]]
    frames = [id(_frame_of(coroutine)) for coroutine in coroutines]
    return list(map(id, coroutines)), frames, set(map(id, code_that_awaits(found)))


def _frame_of(coroutine: Any) -> object:
    name = _FRAMES.get(class_of(coroutine))
    return None if name is None else getattr(coroutine, name)


def own_coroutines(task: Any) -> list[object]:
    """The coroutines of ours that a host has come to in the end: they hold what a scope works on.

    Those further out hold the code of a user, such as `scoped` runs.
    """
    links = () if task is None else task_chain(task).links
    backwards = itertools.dropwhile(lambda link: not is_own(link.code), reversed(links))
    return [link.holder for link in itertools.takewhile(lambda link: is_own(link.code), backwards)]


def _is_loop(frame: FrameType | None) -> bool:
    """Whether a frame is the loop's, which gives a task its turn. Otherwise it is an eager task's maker."""
    if frame is None:
        return False
    # uvloop's own code has no frames.
    return frame.f_code is asyncio.events.Handle._run.__code__ or frame.f_code.co_filename == asyncio.runners.__file__


def _count_own() -> int:
    obj = object()
    return sys.getrefcount(obj)


# References that a function's own variable adds to what it counts.
_OWN: Final = _count_own()
