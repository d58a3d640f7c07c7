"""The plugin's options, in the ini file and on the command line, and what is made of their text."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import pytest

SWITCH: Final = "taskscope"
PREFIX: Final = "taskscope_"
ON_LEAK: Final = ("raise", "warn", "log", "ignore", "summary")


def _seconds(text: str) -> float:
    return float(text)


def _seconds_or_none(text: str) -> float | None:
    return None if text.lower() == "none" else float(text)


def _word(text: str) -> str:
    return text


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(text)
    return text.lower() == "true"


@dataclass(frozen=True, slots=True)
class Option:
    """One option: `taskscope_NAME` in the ini section, `--taskscope-NAME` on the command line.

    Attributes:
        parse: Makes the value of its text. `ValueError` where that is no such value.
        allowed: What is allowed, for messages.
        metavar: What stands for the value in `pytest --help`.
        help: What it is for, with its unit and its default.
        default: Its value where nobody gives one.
    """

    name: str
    parse: Callable[[str], Any]
    allowed: str
    metavar: str
    help: str
    default: Any

    @property
    def ini(self) -> str:
        return PREFIX + self.name

    @property
    def flag(self) -> str:
        return "--" + self.ini.replace("_", "-")


OPTIONS: Final = (
    Option(
        "on_leak",
        _word,
        f"one of {', '.join(ON_LEAK)}",
        "WHAT",
        "what to do about leaks: raise (the test fails), warn (in the warnings summary), log, ignore, or summary (no"
        " test fails, all is told at the end: for the first run of a big suite). Default: raise",
        "raise",
    ),
    Option(
        "grace",
        _seconds,
        "a number of seconds >= 0",
        "SECONDS",
        "seconds that tasks have to end by themselves when a test has ended. Default: 0.2",
        0.2,
    ),
    Option(
        "cancel_timeout",
        _seconds,
        "a number of seconds >= 0",
        "SECONDS",
        "seconds that cancelled tasks have to end. Default: 1",
        1.0,
    ),
    Option(
        "timeout",
        _seconds_or_none,
        "none or a number of seconds >= 0",
        "SECONDS",
        "seconds that the body of an async test has, or none. Default: none",
        None,
    ),
    Option(
        "watch",
        _seconds_or_none,
        "none or a number of seconds > 0",
        "SECONDS",
        "seconds between looks at the body of a test, which fails at once when it is proven deadlocked, or none."
        " Default: 0.25",
        0.25,
    ),
    Option(
        "outer_groups",
        _word,
        "one of leak, transfer",
        "WHAT",
        "what a task is that was spawned into a task group from outside the test, unless a fixture has the group: leak"
        " or transfer. Default: leak",
        "leak",
    ),
    Option(
        "scan",
        _truth,
        "true or false",
        "TRUTH",
        "also look for tasks made without the task factory, among all of the loop: true or false. Default: false",
        False,
    ),
    Option(
        "spawn_site",
        _word,
        "one of site, stack, off",
        "WHAT",
        "what is noted where a task is spawned: site (the line), stack (all callers, slower) or off. Default: site",
        "site",
    ),
    Option(
        "ignore_builtin",
        _truth,
        "true or false",
        "TRUTH",
        "whether tasks of libraries that live as long as the loop by design are left alone: true or false."
        " Default: true",
        True,
    ),
)


def add_options(parser: pytest.Parser) -> None:
    group = parser.getgroup("taskscope", "taskscope: tasks that outlive their test")
    group.addoption(
        "--taskscope",
        action="store_true",
        default=None,
        dest="taskscope",
        help="find the tasks that tests and fixtures leave behind",
    )
    group.addoption("--no-taskscope", action="store_true", default=False, help="do not, whatever else says so")
    group.addoption(
        "--taskscope-report",
        metavar="FILE",
        default=None,
        help="write all that was found to this file, as JSON",
    )
    parser.addini(SWITCH, "find the tasks that tests and fixtures leave behind (true or false)", "bool", False)
    for option in OPTIONS:
        group.addoption(option.flag, metavar=option.metavar, default=None, dest=option.ini, help=option.help)
        parser.addini(option.ini, option.help, "string", None)
    parser.addini(
        PREFIX + "ignore",
        "tasks to be left alone, one rule a line: coroutine=GLOB task=GLOB spawn_site=GLOB wait=GLOB -- reason",
        "linelist",
        [],
    )


def is_on(config: pytest.Config) -> bool:
    if config.getoption("--no-taskscope"):
        return False
    return bool(config.getoption("taskscope")) or bool(_ini(config, SWITCH))


def value_of(config: pytest.Config, option: Option) -> tuple[bool, Any]:
    """What the command line or the ini file says, and whether it is the command line that says so.

    Raises:
        pytest.UsageError: The value is not one of the allowed.
    """
    given = config.getoption(option.ini)
    if given is not None:
        return True, _parsed(option, option.flag, given)
    text = _ini(config, option.ini)
    if text is None:
        return False, option.default
    return False, _parsed(option, option.ini, text)


def ignore_lines(config: pytest.Config) -> list[str]:
    lines: list[str] = _ini(config, PREFIX + "ignore")
    return lines


def refuse_unknown(config: pytest.Config) -> None:
    """Raises `pytest.UsageError` for what looks like an option of ours in the ini file and is none."""
    known = {SWITCH, PREFIX + "ignore", *(option.ini for option in OPTIONS)}
    # pytest says nothing of unknown options but in a warning, and has no public name for what a file says.
    said: Iterable[str] | None = vars(config).get("_inicfg")
    if said is None:  # not where it is merely empty: newer releases warn of the old name
        said = getattr(config, "inicfg")  # noqa: B009
    for key in said or ():
        if key.startswith(SWITCH) and key not in known:
            raise pytest.UsageError(f"{key}: there is no such option; taskscope has {', '.join(sorted(known))}")


def _ini(config: pytest.Config, name: str) -> Any:
    try:
        return config.getini(name)
    except (TypeError, ValueError) as error:
        raise pytest.UsageError(f"{name}: {error}") from None


def _parsed(option: Option, where: str, text: str) -> Any:
    try:
        return option.parse(text.strip())
    except ValueError:
        raise pytest.UsageError(f"{where}={text}: must be {option.allowed}") from None
