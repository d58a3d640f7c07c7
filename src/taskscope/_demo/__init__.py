"""The programs that `taskscope demo` runs. Each runs by itself too: `python -m taskscope._demo.fan_out`."""

from __future__ import annotations

PROGRAMS = ("fan_out", "connection", "guest_book", "fan_out_fixed")
"""Modules of this package, in the order of the demo. Each has `async def run() -> Report` and tells its story in its
docstring, whose first line is the heading."""
