"""Frames as Python users know them from tracebacks, with the source lines read now."""

from __future__ import annotations

import asyncio
import itertools
import linecache
import os
import re
import stat
import sys
from collections.abc import Iterable

from taskscope._render.style import Paint
from taskscope._render.words import WIDTH, clipped, columns, printable, wrapped
from taskscope._report import Frame

_STDLIB = os.path.normcase(os.path.dirname(os.path.dirname(asyncio.__file__))) + os.sep
# A report can come from another process, whose library lay elsewhere.
_ANY_STDLIB = re.compile(r"[/\\]lib(?:64)?[/\\]python3\.\d+t?[/\\]")
_INSTALLED = re.compile(r".*[/\\](?:site|dist)-packages[/\\]")
_EVENT_LOOP_LIBRARIES = frozenset({"anyio", "trio", "uvloop"})
_FROZEN = re.compile(r"<frozen (\w+)")


def frame_lines(frames: Iterable[Frame], indent: str, paint: Paint) -> list[str]:
    """The lines of frames, outermost first.

    Neighbouring frames of one part of the standard library share a line that names their functions: what a reader has
    to mend is in the frames round it, and its line numbers differ from one Python to the next.
    """
    lines: list[str] = []
    for library, group in itertools.groupby(frames, key=_library):
        if library is None:
            for frame in group:
                lines += _user_lines(frame, indent, paint)
            continue
        functions = " > ".join(printable(frame.function) for frame in group)
        lines += [paint("faint", line) for line in wrapped(f"{library}: {functions}", indent + "  ", indent)]
    return lines


def short_path(file: str) -> str:
    """The path from the current folder on, or from the package on for what is installed; else as it is."""
    installed = _within_packages(file)
    if installed is not None:
        return printable(installed)
    try:
        here = os.getcwd() + os.sep
    except Exception:  # the folder is gone, or a tool that looks for blocking calls in event loops forbids to ask
        return printable(file)
    return printable(file.removeprefix(here) if len(here) > 1 else file)


def within_library(file: str) -> str:
    """The path from a package on, or from Python's own library on; else as it is."""
    return _within_packages(file) or _within_stdlib(file) or file


def is_in_event_loop_library(frame: Frame) -> bool:
    """Whether a frame is one of asyncio, AnyIO, Trio or uvloop, which no reader of a report can mend."""
    package = _first_part(_within_packages(frame.file) or "")
    return _library(frame) == "asyncio" or package in _EVENT_LOOP_LIBRARIES


def _user_lines(frame: Frame, indent: str, paint: Paint) -> list[str]:
    line = f", line {frame.line}" if frame.line else ""
    file = f'{indent}File "{short_path(frame.file)}"{line},'
    function = printable(frame.function)
    where = [f"{file} in {function}"]
    if columns(where[0]) > WIDTH:
        where = [file, *wrapped(function, indent + "  ", indent + "  in ")]
    source = _source_line(frame)
    return [*(paint("place", part) for part in where), *([clipped(source, indent + "  ")] if source else [])]


def _source_line(frame: Frame) -> str:
    if not frame.line:
        return ""
    try:
        if not _can_be_read(frame.file):
            return ""
        linecache.checkcache(frame.file)
        # a line can be a whole program that was minified, and no more of it is shown than fits a page
        return printable(linecache.getline(frame.file, frame.line).strip().expandtabs(4)[: WIDTH + 1])
    except Exception:  # a loader that is somebody else's code
        return ""


def _can_be_read(file: str) -> bool:
    """Whether to look for a file. To open a pipe (`python <(...)`, `/dev/stdin`) would wait, and eat what it holds."""
    try:
        return stat.S_ISREG(os.stat(file).st_mode)
    except OSError:
        return True  # found by its loader, in a cache or along sys.path, if at all


def _library(frame: Frame) -> str | None:
    """The part of the standard library that a frame is in, None for all other code."""
    file = frame.file
    frozen = _FROZEN.match(file)
    if frozen is not None:
        return _known_library(frozen[1])
    if _within_packages(file) is not None:
        return None
    inside = file[len(_STDLIB) :] if os.path.normcase(file).startswith(_STDLIB) else _within_stdlib(file)
    return None if inside is None else _known_library(_first_part(inside).removesuffix(".py"))


def _within_packages(file: str) -> str | None:
    installed = _INSTALLED.match(file)
    return None if installed is None else file[installed.end() :]


def _within_stdlib(file: str) -> str | None:
    match = _ANY_STDLIB.search(file)
    return None if match is None else file[match.end() :]


def _first_part(path: str) -> str:
    return re.split(r"[/\\]", path)[0]


def _known_library(name: str) -> str | None:
    # a program can lie in a folder of that kind without being part of the library
    return name if name in sys.stdlib_module_names else None
