"""The switch that makes all of taskscope inert."""

from __future__ import annotations

import os

ENVIRONMENT_VARIABLE = "TASKSCOPE"

_KEY = os.fsencode(ENVIRONMENT_VARIABLE) if os.name == "posix" else ENVIRONMENT_VARIABLE


def is_off() -> bool:
    """Whether `TASKSCOPE=off` is set: scopes then do nothing and no factory is installed."""
    # Every scope asks, and os.environ encodes and decodes at each look. Nearly always its own dict answers: not set.
    variables = getattr(os.environ, "_data", None)
    if type(variables) is dict and _KEY not in variables:
        return False
    return os.environ.get(ENVIRONMENT_VARIABLE, "").strip().lower() == "off"
