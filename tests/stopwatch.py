"""Time as a test may hold it against a bound: what a busy machine took for others does not count."""

from __future__ import annotations

import time
from pathlib import Path

_THREADS = Path("/proc/self/task")


class Stopwatch:
    """Tells the seconds since it was made, less those in which threads of this process waited for a free processor.

    To be idle counts, and so does to be at work: a bound that is not kept shows, on however busy a machine. Only Linux
    tells what threads waited for, as the second figure of their `schedstat`, in nanoseconds. Elsewhere all time counts.
    """

    def __init__(self) -> None:
        self._delays = _delays()
        self._started = time.perf_counter()

    def seconds(self) -> float:
        passed = time.perf_counter() - self._started
        # All that those who came since have waited is of this time. Of those who have gone nothing is told.
        delays = _delays()
        return passed - sum(delay - self._delays.get(thread, 0.0) for thread, delay in delays.items())


def _delays() -> dict[str, float]:
    """The seconds that each thread of this process has waited for a processor until now."""
    delays = {}
    for thread in _THREADS.glob("*"):
        try:
            delays[thread.name] = int((thread / "schedstat").read_text().split()[1]) / 1e9
        except OSError:  # it has ended, or this kernel does not tell
            continue
    return delays
