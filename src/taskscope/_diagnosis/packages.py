"""Which of Trio's or AnyIO's functions a frame belongs to, for packages that a program may or may not have imported."""

from __future__ import annotations

import os
import sys
from types import CodeType
from typing import Final

TRIO: Final = "trio"
ANYIO: Final = "anyio"

_directories: dict[str, str] = {}


def function_in(package: str, code: CodeType) -> tuple[str, str] | None:
    """The module and the qualified name of a function of a package: `("_core._run", "Nursery.start")`.

    None for code that is not of that package.
    """
    directory = _directories.get(package) or _find(package)
    file = code.co_filename
    if directory is None or not file.startswith(directory):
        return None
    return file[len(directory) :].removesuffix(".py").replace(os.sep, "."), code.co_qualname


def _find(package: str) -> str | None:
    module = sys.modules.get(package)
    file: object = None if module is None else vars(module).get("__file__")
    if type(file) is not str:
        return None
    found = _directories[package] = os.path.dirname(file) + os.sep
    return found
