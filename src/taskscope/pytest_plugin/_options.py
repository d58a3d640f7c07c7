"""The plugin's options, in the ini file and on the command line, and what is made of their text."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast, get_args

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


@dataclass(frozen=True, slots=True)
class Kind:
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
_TRUTH: Final = Kind(_truth, "true or false", "TRUTH")
_FIND: Final = Kind(
    _some_of(*FIND), f"words out of {', '.join(FIND)}, with spaces or commas between them", "WHAT,...", takes_list=True
)


def _words(*words: str) -> Kind:
    return Kind(_one_of(*words), f"one of {', '.join(words)}", "WHAT")


@dataclass(frozen=True, slots=True)
class Option:
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
        _TRUTH,
        "whether processes that are found are terminated, with processes in find: true or false",
        DEFAULT_POLICY.end_processes,
    ),
    Option(
        "scan",
        _TRUTH,
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
        _TRUTH,
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


def is_on(config: pytest.Config) -> bool:
    """Whether the plugin is switched on.

    Raises:
        pytest.UsageError: It is not, and an option of it is given on the command line all the same.
    """
    if config.getoption("--no-taskscope"):
        return False
    if config.getoption(SWITCH) or _parsed(SWITCH, _from_file(config, SWITCH), _TRUTH):
        return True
    for option in (REPORT, *(option.flag for option in OPTIONS)):
        if config.getoption(option) is not None:
            raise pytest.UsageError(
                f"{option}: taskscope is not switched on. Add --taskscope, or taskscope = true in the ini file"
            )
    return False


def value_of(config: pytest.Config, option: Option) -> tuple[bool, Any]:
    """What the command line or the ini file says, and whether it is the command line that says so.

    Raises:
        pytest.UsageError: The value is not one of the allowed.
    """
    given = config.getoption(option.flag)
    if given is not None:
        return True, _parsed(option.flag, given, option.kind)
    written = _from_file(config, option.ini)
    if written is None:
        return False, option.default
    return False, _parsed(option.ini, written, option.kind)


def ignore_lines(config: pytest.Config) -> list[str]:
    """The lines of the ini file with rules for tasks that are left alone.

    Raises:
        pytest.UsageError: They are no lines.
    """
    written = _from_file(config, PREFIX + "ignore")
    if not isinstance(written, list) or not all(isinstance(line, str) for line in cast("list[object]", written)):
        raise pytest.UsageError(f"{PREFIX}ignore={written!r}: must be a list of strings, each a rule")
    return cast("list[str]", written)


def report_file(config: pytest.Config) -> Path | None:
    """The file that `--taskscope-report` names, None where it is not given.

    Raises:
        pytest.UsageError: No file can be written there.
    """
    given: str | None = config.getoption(REPORT)
    if given is None:
        return None
    file = config.invocation_params.dir / given  # a test can change the working directory
    if file.is_dir() or not file.parent.is_dir() or not os.access(file if file.exists() else file.parent, os.W_OK):
        raise pytest.UsageError(f"{REPORT}={given}: must be a file that can be written, in a folder that there is")
    return file


def refuse_unknown(config: pytest.Config) -> None:
    """Raises `pytest.UsageError` for what looks like an option of ours in the ini file and is none."""
    known = {SWITCH, PREFIX + "ignore", *(option.ini for option in OPTIONS)}
    # pytest says nothing of unknown options but in a warning.
    for key in _written(config):
        if key.startswith(SWITCH) and key not in known:
            raise pytest.UsageError(f"{key}: there is no such option; taskscope has {', '.join(sorted(known))}")


def _from_file(config: pytest.Config, name: str) -> Any:
    """What the ini file, or `-o` on the command line, says of an option: text, or what a native table of TOML has."""
    written = _written(config).get(name)
    # pytest asks for the one type with which an option was added. In a native table it has that of what it is:
    # 0.5, "none", true.
    if getattr(written, "mode", "ini") == "toml":
        return cast(Any, written).value
    try:
        return config.getini(name)
    except (TypeError, ValueError) as error:
        raise pytest.UsageError(f"{name}: {error}") from None


def _written(config: pytest.Config) -> Mapping[str, object]:
    """All that the ini file says. pytest has no public name for it: `inicfg` is deprecated from 9.0 on."""
    own = vars(config)
    found: Mapping[str, object] = own["_inicfg"] if "_inicfg" in own else own["inicfg"]
    return found


def _parsed(where: str, value: object, kind: Kind) -> Any:
    try:
        return kind.parse(_text_of(value, kind).strip())
    except ValueError:
        raise pytest.UsageError(f"{where}={value}: must be {kind.allowed}") from None


def _text_of(value: object, kind: Kind) -> str:
    parts = cast("list[object]", value) if kind.takes_list and isinstance(value, list) else [value]
    if not all(isinstance(part, str | bool | int | float) for part in parts):
        raise ValueError
    return " ".join(map(str, parts))
