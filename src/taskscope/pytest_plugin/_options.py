"""The plugin's options, in the ini file and on the command line.

At each start of pytest these are made, also where the plugin is not switched on: they are to cost it next to nothing.
That is why no class here is a dataclass, and nothing is imported that imports much.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, NamedTuple, cast, get_args

import pytest

from taskscope._policy import DEFAULT_POLICY, FIND, OnLeakName, OuterGroups, SpawnSite

SWITCH: Final = "taskscope"
PREFIX: Final = "taskscope_"
REPORT: Final = "--taskscope-report"
ON_LEAK: Final[tuple[str, ...]] = (*get_args(OnLeakName), "summary")


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < math.inf:
        raise ValueError(text)
    return seconds


def _seconds_or_none(text: str) -> float | None:
    return None if text.lower() == "none" else _seconds(text)


def _some_seconds_or_none(text: str) -> float | None:
    seconds = _seconds_or_none(text)
    if seconds == 0:
        raise ValueError(text)
    return seconds


def _one_of(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(text)
        return text

    return parse


def _some_of(*words: str) -> Callable[[str], tuple[str, ...]]:
    def parse(text: str) -> tuple[str, ...]:
        given = text.replace(",", " ").split()
        if not given or not set(given) <= set(words):
            raise ValueError(text)
        return tuple(given)

    return parse


def _truth(text: str) -> bool:
    """Also in the other words that pytest takes for it."""
    if text.lower() in ("true", "yes", "on", "1"):
        return True
    if text.lower() in ("false", "no", "off", "0"):
        return False
    raise ValueError(text)


class Kind(NamedTuple):
    """A sort of value.

    Attributes:
        parse: Makes the value of its text. `ValueError` where that is no such value.
        allowed: What is allowed, for messages.
        metavar: What stands for the value in `pytest --help`.
        takes_list: Whether a list of TOML's will do as well.
    """

    parse: Callable[[str], Any]
    allowed: str
    metavar: str
    takes_list: bool = False


_SECONDS: Final = Kind(_seconds, "a number of seconds >= 0", "SECONDS")
_SECONDS_OR_NONE: Final = Kind(_seconds_or_none, "none or a number of seconds >= 0", "SECONDS")
_SOME_SECONDS_OR_NONE: Final = Kind(_some_seconds_or_none, "none or a number of seconds > 0", "SECONDS")
TRUTH: Final = Kind(_truth, "true or false", "TRUTH")
_FIND: Final = Kind(
    _some_of(*FIND), f"words out of {', '.join(FIND)}, with spaces or commas between them", "WHAT,...", takes_list=True
)


def _words(*words: str) -> Kind:
    return Kind(_one_of(*words), f"one of {', '.join(words)}", "WHAT")


class Option(NamedTuple):
    """One option: `taskscope_NAME` in the ini section, `--taskscope-NAME` on the command line.

    Attributes:
        purpose: What it is for, with its unit.
        default: Its value where nobody gives one.
    """

    name: str
    kind: Kind
    purpose: str
    default: Any

    @property
    def ini(self) -> str:
        return PREFIX + self.name

    @property
    def flag(self) -> str:
        return "--" + self.ini.replace("_", "-")

    @property
    def help(self) -> str:
        return f"{self.purpose}. Default: {_as_text(self.default)}"


def _as_text(default: Any) -> str:
    if isinstance(default, float):
        return f"{default:g}"
    return ", ".join(cast("tuple[str, ...]", default)) if isinstance(default, tuple) else str(default).lower()


OPTIONS: Final = (
    Option(
        "on_leak",
        _words(*ON_LEAK),
        "what to do about leaks: raise (the test fails), warn (in the warnings summary), log, ignore, or summary (no"
        " test fails, all is told at the end: for the first run of a big suite)",
        DEFAULT_POLICY.on_leak,
    ),
    Option(
        "grace",
        _SECONDS,
        "seconds that tasks have to end by themselves when a test has ended",
        DEFAULT_POLICY.grace,
    ),
    Option("cancel_timeout", _SECONDS, "seconds that cancelled tasks have to end", DEFAULT_POLICY.cancel_timeout),
    Option(
        "timeout",
        _SECONDS_OR_NONE,
        "seconds that the body of an async test has, or none",
        DEFAULT_POLICY.timeout,
    ),
    Option(
        "watch",
        _SOME_SECONDS_OR_NONE,
        "seconds between looks at the body of a test, which fails at once when it is proven deadlocked, or none",
        0.25,
    ),
    Option(
        "outer_groups",
        _words(*get_args(OuterGroups)),
        "what a task is that was spawned into a task group from outside the test, unless a fixture has the group: leak"
        " or transfer",
        DEFAULT_POLICY.outer_groups,
    ),
    Option(
        "find",
        _FIND,
        f"what else is looked for, beside tasks: {', '.join(FIND[1:])}",
        tuple(sorted(DEFAULT_POLICY.find)),
    ),
    Option(
        "end_processes",
        TRUTH,
        "whether processes that are found are terminated, with processes in find: true or false",
        DEFAULT_POLICY.end_processes,
    ),
    Option(
        "scan",
        TRUTH,
        "also look for tasks made without the task factory, among all of the loop: true or false",
        DEFAULT_POLICY.scan,
    ),
    Option(
        "spawn_site",
        _words(*get_args(SpawnSite)),
        "what is noted where a task is spawned: site (the line), stack (all callers, slower) or off",
        DEFAULT_POLICY.spawn_site,
    ),
    Option(
        "ignore_builtin",
        TRUTH,
        "whether tasks of libraries that live as long as the loop by design are left alone: true or false",
        DEFAULT_POLICY.ignore_builtin,
    ),
)


def add_options(parser: pytest.Parser) -> None:
    group = parser.getgroup("taskscope", "taskscope: tasks that outlive their test")
    group.addoption(
        "--taskscope",
        action="store_true",
        default=None,
        dest=SWITCH,
        help="find the tasks that tests and fixtures leave behind",
    )
    group.addoption("--no-taskscope", action="store_true", default=False, help="do not, whatever else says so")
    group.addoption(
        REPORT,
        metavar="FILE",
        default=None,
        help="write all that was found to this file, as JSON",
    )
    parser.addini(SWITCH, "find the tasks that tests and fixtures leave behind (true or false)", "string", "false")
    for option in OPTIONS:
        group.addoption(option.flag, metavar=option.kind.metavar, default=None, dest=option.ini, help=option.help)
        parser.addini(option.ini, option.help, "string", None)
    parser.addini(
        PREFIX + "ignore",
        "tasks to be left alone, one rule a line: coroutine=GLOB task=GLOB spawn_site=GLOB wait=GLOB -- reason",
        "linelist",
        [],
    )
