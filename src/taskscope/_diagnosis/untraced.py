"""Code that nobody is to look on at while it runs."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def untraced() -> Generator[None]:
    """Suspends the thread's tracer: a debugger, or whoever looks which lines are run, changes things as it looks on."""
    tracer = sys.gettrace()
    sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(tracer)
