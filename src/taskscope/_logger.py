"""Where taskscope logs."""

from __future__ import annotations

import logging


def logger() -> logging.Logger:
    """Made when it is first needed: pytest goes through all loggers of the process in each phase of each test."""
    return logging.getLogger("taskscope")
