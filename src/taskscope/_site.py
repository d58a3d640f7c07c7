"""Where a task was spawned: noted as cheaply as can be, made readable only for a report."""

from __future__ import annotations

import asyncio
import sys
from asyncio import base_events, events, runners, taskgroups, tasks
from types import CodeType, FrameType

from taskscope._clock import monotonic
from taskscope._frames import frame_at
from taskscope._report import Frame
from taskscope._table import NO_SITE, Row

CREATE_TASK = asyncio.create_task.__code__
GROUP_CREATE_TASK = taskgroups.TaskGroup.create_task.__code__

CHAIN_LIMIT = 16
STACK_LIMIT = 64

_LIBRARIES = frozenset({"asyncio", "anyio", "trio", "uvloop", "taskscope"})
MOCKS = frozenset({"unittest.mock", "mock.mock"})
"""Where mocks come from: the standard library, or a package of its own that has the same."""

# What calls asyncio in the place of a program that a test spies on.
_OF_MOCKS = MOCKS | {"pytest_mock.plugin"}
# Among the globals of the function that stands for a mock with the signature of what it is in the place of.
_SPEC = "_checksig_"
_PROGRAMS_OF_OURS = "taskscope._demo"

_FACTORY_CALLERS = (CREATE_TASK, base_events.BaseEventLoop.create_task.__code__)

# What makes a task for asyncio, and is never what spawned it. (An eager factory can also be the caller of a user's
# code, whose first step it runs, so it does not tell a user's factory as the others do.)
if sys.version_info >= (3, 12):
    _eager = asyncio.eager_task_factory.__code__  # that of all of them
    _TASK_MAKERS: tuple[CodeType, ...] = (*_FACTORY_CALLERS, asyncio.ensure_future.__code__, _eager)
else:
    _ensure = vars(tasks)["_ensure_future"].__code__
    _TASK_MAKERS = (*_FACTORY_CALLERS, asyncio.ensure_future.__code__, _ensure)

# What runs the loop. Callers further out did not spawn anything, they started the program.
_LOOP_RUNNERS = (
    events.Handle._run.__code__,  # pyright: ignore[reportPrivateUsage]
    vars(base_events.BaseEventLoop)["_run_once"].__code__,
    base_events.BaseEventLoop.run_forever.__code__,
    base_events.BaseEventLoop.run_until_complete.__code__,
    runners.Runner.run.__code__,
    runners.run.__code__,
)
# That of Trio, known by its name: nobody is to import Trio only for us to recognise it.
_RUNNER_OF_TRIO = "unrolled_run"

# Of the code objects in both, by their ids, whether they run the loop: they are slow to compare, and live as long as
# asyncio does.
_RUNS_LOOP = {**dict.fromkeys(map(id, _TASK_MAKERS), False), **dict.fromkeys(map(id, _LOOP_RUNNERS), True)}

# Whose code a file has.
_USERS, _LIBRARYS, _OURS = range(3)

# That of files seen before: a spawn may have to look at many frames.
_known_files: dict[str, int] = {}
_MOST_KNOWN_FILES = 10_000


def is_library_frame(frame: FrameType) -> bool:
    return _whose_file(frame) != _USERS


def _whose_file(frame: FrameType) -> int:
    file = frame.f_code.co_filename
    known = _known_files.get(file)
    if known is not None:
        return known
    module = frame.f_globals.get("__name__")
    package = module.partition(".")[0] if type(module) is str else ""
    if (type(module) is str and module in _OF_MOCKS) or _SPEC in frame.f_globals:
        found = _LIBRARYS
    elif package not in _LIBRARIES or str(module).startswith(_PROGRAMS_OF_OURS):
        found = _USERS
    else:
        found = _OURS if package == "taskscope" else _LIBRARYS
    # Only a module's own file stands for one module: code that was made from a string can come from any.
    if frame.f_globals.get("__file__") == file and len(_known_files) < _MOST_KNOWN_FILES:
        _known_files[file] = found
    return found


def user_frame(frame: FrameType | None) -> FrameType | None:
    """The innermost frame that is neither asyncio's nor another event loop library's, `frame` or one of its callers.

    A user's task factory that wraps ours did not spawn either: it is recognised by who calls it.

    Where the loop itself spawned (a stream server's connection handler), the innermost frame that is not ours and has
    not only made the task. None where there is none such.
    """
    walk, of_library = frame, None
    while walk is not None:
        code = walk.f_code
        whose = _known_files.get(code.co_filename)
        if whose is None:
            whose = _whose_file(walk)
        if whose == _USERS:
            caller = walk.f_back
            if caller is None or caller.f_code not in _FACTORY_CALLERS:
                return walk
        else:
            runs_loop = _RUNS_LOOP.get(id(code))
            if runs_loop or code.co_name == _RUNNER_OF_TRIO:
                break
            if runs_loop is None and whose == _LIBRARYS and of_library is None:
                of_library = walk
        walk = walk.f_back
    return of_library


def note_site(frame: FrameType | None, origin: Row) -> Row:
    site = user_frame(frame)
    if site is None:
        return NO_SITE if origin is NO_SITE else (None, 0, cut(origin), origin[3] + 1)
    return (site.f_code, site.f_lasti, cut(origin), origin[3] + 1)


def note_stack(frame: FrameType | None, origin: Row) -> Row:
    site = user_frame(frame)
    stack: list[tuple[CodeType, int]] = []
    walk = site
    while walk is not None and len(stack) < STACK_LIMIT:
        stack.append((walk.f_code, walk.f_lasti))
        walk = walk.f_back
    code, offset = (site.f_code, site.f_lasti) if site is not None else (None, 0)
    return (code, offset, cut(origin), origin[3] + 1, tuple(stack), monotonic())


def note_nothing(frame: FrameType | None, origin: Row) -> Row:
    return NO_SITE


def cut(origin: Row) -> Row:
    """The origin with a bounded past: a task that always spawns its successor must not grow a chain for ever."""
    if origin[3] % CHAIN_LIMIT or not origin[3]:
        return origin
    return shorten(origin)


def shorten(origin: Row) -> Row:
    kept: list[Row] = []
    row: Row | None = origin
    while row is not None and len(kept) < CHAIN_LIMIT:
        kept.append(row)
        row = row[2]
    short: Row | None = None
    for old in reversed(kept):
        short = (old[0], old[1], short, old[3])
    assert short is not None
    return short


def site_of(row: Row) -> Frame | None:
    return None if row[0] is None else frame_at(row[0], row[1])


def chain_of(row: Row) -> tuple[tuple[Frame, ...], int]:
    """Where a task's ancestors were spawned, nearest first, and how many more there were."""
    frames: list[Frame] = []
    ancestor: Row | None = row[2]
    while ancestor is not None and ancestor[0] is not None and len(frames) < CHAIN_LIMIT:
        frames.append(frame_at(ancestor[0], ancestor[1]))
        ancestor = ancestor[2]
    return tuple(frames), max(0, row[3] - 1 - len(frames))


def stack_of(row: Row) -> tuple[Frame, ...]:
    """Where a task was spawned with all callers, outermost first; empty unless that was noted."""
    if len(row) != 6:
        return ()
    return tuple(frame_at(code, offset) for code, offset in reversed(row[4]))


def age_of(row: Row) -> float | None:
    return monotonic() - row[5] if len(row) == 6 else None
