"""Our own modules are imported as they are installed.

pytest rewrites the assertions of every module in a distribution that has a plugin. In ours there is nothing to rewrite,
and where pytest may not keep what it has compiled (`PYTHONDONTWRITEBYTECODE`, a folder that it cannot write to) each
start would compile them all.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import final

import pytest


@final
class _OwnModules:
    """Asked before pytest's finder, it finds them as the interpreter would."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return PathFinder.find_spec(name, path, target) if name.startswith("taskscope.") else None


def import_as_installed(config: pytest.Config) -> None:
    """Has them so imported, from here to the end of pytest's run."""
    finder = _OwnModules()
    sys.meta_path.insert(0, finder)

    def take_out() -> None:
        with suppress(ValueError):  # somebody has put another list together
            sys.meta_path.remove(finder)

    config.add_cleanup(take_out)
