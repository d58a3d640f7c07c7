"""The real clocks, as they are before any test can put something else in their place.

Part of the package is imported only when something has been found, by then with a test's own `time.perf_counter`, say.
"""

from time import monotonic, perf_counter, sleep, thread_time

__all__ = ["monotonic", "perf_counter", "sleep", "thread_time"]
