"""What a start of pytest costs with the plugin switched off and on, in fresh processes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

from benchmarks.effort import Effort
from benchmarks.figures import Goal, Row, ratios, rotated

try:
    import resource
except ImportError:  # Windows
    resource = None

GOAL = 1.02
WITHOUT = "pytest without the plugin"
OFF = "plugin installed, off"
ON = "plugin installed, on"
ARGUMENTS = {WITHOUT: ("-p", "no:taskscope"), OFF: (), ON: ("--taskscope",)}


@dataclass(frozen=True)
class Starting:
    """One benchmark: from the start of pytest to its end, with one test that does nothing."""

    name: str = "pytest with one empty test"

    def run(self, effort: Effort) -> list[Row]:
        rows = {subject: Row(self.name, subject, "ms") for subject in ARGUMENTS}
        rows[OFF].goal = Goal(GOAL, "ratios")
        reason = _why_not()
        if reason is not None:
            for row in rows.values():
                row.note = reason
            return list(rows.values())
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "test_it.py").write_text("def test_it():\n    pass\n", encoding="utf-8")
            for subject in ARGUMENTS:
                _milliseconds(subject, folder)
            for round_number in range(effort.import_rounds):
                for subject in rotated([*ARGUMENTS], round_number):
                    rows[subject].samples.append(_milliseconds(subject, folder))
        for subject in (OFF, ON):
            rows[subject].ratios = ratios(rows[subject].samples, rows[WITHOUT].samples)
        return list(rows.values())


def _why_not() -> str | None:
    if not entry_points(group="pytest11", name="taskscope"):
        return "taskscope is not installed as a plugin"
    return "times of other processes are not known here" if resource is None else None


def _milliseconds(subject: str, folder: str) -> float:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *ARGUMENTS[subject], "test_it.py"]
    before = _of_children()
    subprocess.run(command, check=True, cwd=folder, env=environment, capture_output=True)
    return (_of_children() - before) * 1e3


def _of_children() -> float:
    """Seconds of a processor that processes which have ended took. The clock would tell how busy the machine is."""
    assert resource is not None
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def benchmarks() -> list[Starting]:
    return [Starting()]
