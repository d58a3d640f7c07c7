"""What the ini file and the command line say of the plugin's options."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from taskscope.pytest_plugin._options import OPTIONS, PREFIX, REPORT, SWITCH, TRUTH, Kind, Option


def is_on(config: pytest.Config) -> bool:
    """Whether the plugin is switched on.

    Raises:
        pytest.UsageError: It is not, and an option of it is given on the command line all the same.
    """
    if config.getoption("--no-taskscope"):
        return False
    if config.getoption(SWITCH) or _parsed(SWITCH, _from_file(config, SWITCH), TRUTH):
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
