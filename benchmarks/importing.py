"""How long an import takes beyond `import asyncio`, in fresh processes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec

from benchmarks.effort import Effort
from benchmarks.figures import Goal, Row, rotated

GOAL = 40.0
BASELINE = "asyncio"
MODULES = ("taskscope", "pyleak", "aiomonitor")
# Of us every name: they are imported when they are asked for.
STATEMENTS = {"taskscope": "from taskscope import *"}
PROGRAM = "import time; start = time.perf_counter(); {statement}; print(time.perf_counter() - start)"


@dataclass(frozen=True)
class Importing:
    """One benchmark. Its figures are differences to `import asyncio` in the same round, so there are no ratios."""

    name: str = "import, beyond import asyncio"

    def run(self, effort: Effort) -> list[Row]:
        rows = {module: Row(self.name, _statement(module), "ms") for module in MODULES}
        rows["taskscope"].goal = Goal(GOAL, "samples")
        present = [module for module in MODULES if find_spec(module) is not None]
        for module in MODULES:
            if module not in present:
                rows[module].note = "not installed"
        with tempfile.TemporaryDirectory() as cache:
            # An installed package is compiled already, a working copy need not be, and may not be allowed to.
            environment = {**os.environ, "PYTHONPYCACHEPREFIX": cache}
            environment.pop("PYTHONDONTWRITEBYTECODE", None)
            for module in (BASELINE, *present):
                _milliseconds(module, environment)
            for round_number in range(effort.import_rounds):
                taken = {
                    module: _milliseconds(module, environment) for module in rotated([BASELINE, *present], round_number)
                }
                for module in present:
                    rows[module].samples.append(taken[module] - taken[BASELINE])
        return list(rows.values())


def _statement(module: str) -> str:
    return STATEMENTS.get(module, f"import {module}")


def _milliseconds(module: str, environment: dict[str, str]) -> float:
    command = [sys.executable, "-c", PROGRAM.format(statement=_statement(module))]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return float(done.stdout) * 1e3


def benchmarks() -> list[Importing]:
    return [Importing()]
