"""An instrument for `trio.run(..., instruments=[...])` that puts taskscope on the run as soon as that has a task."""

from __future__ import annotations

from collections.abc import Iterable
from typing import final

import trio

from taskscope._install import install


@final
class Installer(trio.abc.Instrument):
    """Can be given to any number of runs: it keeps nothing."""

    def __dir__(self) -> Iterable[str]:
        return ("before_task_step",)

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        trio.lowlevel.remove_instrument(self)
        install()
