"""How long something takes, as a report says it."""

from __future__ import annotations

_FOUR_DIGITS = 999.5
"""From so many seconds on, three digits would be `1e+03`."""


def in_seconds(seconds: float) -> str:
    """With three digits, or as many as there are before the point: `0.2 s`, `3,600 s`."""
    return f"{seconds:.3g} s" if seconds < _FOUR_DIGITS else f"{seconds:,.0f} s"
