"""How much of a loop's time goes into proofs, whatever the number of scopes on it."""

from __future__ import annotations

from typing import final

from taskscope._clock import perf_counter

BURST = 0.25
"""Seconds that the ends of scopes can spend at once."""

SHARE_OF_ENDS = 0.05
"""What they can spend of the time after that: a thousand scopes that end at once cannot wait for as many proofs."""

SHARE_OF_WATCHES = 0.01
"""The most that all looks at bodies take together."""

SHARE_OF_FINDS = 0.5
"""The same for looks that prove a body stuck, of which there is one for each: many at once must not stop the loop."""


@final
class Budget:
    """The budget of one loop."""

    def __init__(self) -> None:
        self._left = BURST
        self._counted_at = perf_counter()
        self.next_look = 0.0  # on the loop's clock

    @property
    def has_any_left(self) -> bool:
        now = perf_counter()
        self._left = min(BURST, self._left + (now - self._counted_at) * SHARE_OF_ENDS)
        self._counted_at = now
        return self._left > 0

    def spend(self, seconds: float) -> None:
        self._left -= seconds
