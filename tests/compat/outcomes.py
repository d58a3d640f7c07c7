"""What became of each test of a module that ran in a process of its own, and how such processes are run."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

TIMEOUT = 300.0


@dataclass(frozen=True)
class Outcome:
    """`word` is "passed", "failed" or "skipped", or "started" for one that never ended. `handed_off` counts tasks."""

    word: str
    handed_off: int = 0
    detail: str = ""
    seconds: float = 0.0


MISSING = Outcome("missing")


@dataclass
class ModuleRun:
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    seconds: float = 0.0
    log: str = ""


Runs = Mapping[tuple[str, str], ModuleRun]


class Runner:
    """Runs (mode, module) pairs, `jobs` at a time, each by `run_module(mode, module, timeout)`."""

    def __init__(self, jobs: int, run_module: Callable[[str, str, float], ModuleRun]) -> None:
        self._jobs = jobs
        self._run_module = run_module
        self._plain_seconds: dict[str, float] = {}

    def run(self, pairs: Iterable[tuple[str, str]]) -> dict[tuple[str, str], ModuleRun]:
        pairs = list(pairs)
        with ThreadPoolExecutor(self._jobs) as pool:
            return dict(zip(pairs, pool.map(lambda pair: self._run_one(*pair), pairs), strict=True))

    def _run_one(self, mode: str, module: str) -> ModuleRun:
        plain = self._plain_seconds.get(module)
        timeout = TIMEOUT if plain is None else min(TIMEOUT, 60 + 4 * plain)
        run = self._run_module(mode, module, timeout)
        if mode == "plain":
            self._plain_seconds[module] = run.seconds
        return run


def run_process(
    command: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    timeout: float,
    outcomes: Path,
    module: str,
    complete: Collection[int] = (0,),
) -> ModuleRun:
    """Runs a process that writes the file `outcomes`: a JSON line for each test that starts, and one when it ends.

    complete: the exit codes of a process that got to its end.
    """
    log = outcomes.with_name("log")
    started = time.monotonic()
    with log.open("wb") as stream:
        try:
            code = subprocess.run(
                command,
                cwd=cwd,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                timeout=timeout,
            ).returncode
        except subprocess.TimeoutExpired:
            code = -9
    run = ModuleRun(_read(outcomes), time.monotonic() - started, log.read_text(encoding="utf-8", errors="replace"))
    # The process counts as a test: it may crash, or hang in its last moments, when all tests have passed.
    run.outcomes[exit_of(module)] = Outcome("passed" if code in complete else "failed", 0, f"exit code {code}")
    return run


def exit_of(module: str) -> str:
    """The name of the test that a process counts as."""
    return f"{module}.<exit of the process>"


def _read(file: Path) -> dict[str, Outcome]:
    if not file.exists():
        return {}
    outcomes: dict[str, Outcome] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        data = json.loads(line)
        test = data.pop("test")
        outcomes[test] = Outcome(data.pop("outcome"), **data)
    return outcomes
