"""Runs modules of `test.test_asyncio`, each in a process of its own, and reads back what became of each test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

CHILD = Path(__file__).with_name("child.py")
PREFIX = "test.test_asyncio."
TIMEOUT = 300.0

# These take longest, so they start first: with few jobs the end of the run is then not one of them alone.
_LONGEST = ("test_tasks", "test_subprocess", "test_ssl", "test_events", "test_taskgroups", "test_sslproto")


@dataclass(frozen=True)
class Outcome:
    """`word` is "passed", "failed" or "skipped", or "started" for one that never ended. `handed_off` counts tasks."""

    word: str
    handed_off: int = 0
    detail: str = ""


MISSING = Outcome("missing")


@dataclass
class ModuleRun:
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    seconds: float = 0.0
    log: str = ""


def modules() -> list[str]:
    """Names of the test modules of this interpreter.

    Raises:
        ImportError: It has no `test.test_asyncio`.
    """
    import test.test_asyncio as package

    names = sorted(path.stem for path in Path(package.__path__[0]).glob("test_*.py"))
    return sorted(names, key=lambda name: [*_LONGEST, name].index(name))


class Runner:
    """Runs (mode, module) pairs, `jobs` at a time."""

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._plain_seconds: dict[str, float] = {}

    def run(self, pairs: Iterable[tuple[str, str]]) -> dict[tuple[str, str], ModuleRun]:
        pairs = list(pairs)
        with ThreadPoolExecutor(self._jobs) as pool:
            return dict(zip(pairs, pool.map(lambda pair: self._run_one(*pair), pairs), strict=True))

    def _run_one(self, mode: str, module: str) -> ModuleRun:
        plain = self._plain_seconds.get(module)
        timeout = TIMEOUT if plain is None else min(TIMEOUT, 60 + 4 * plain)
        run = run_module(mode, module, timeout)
        if mode == "plain":
            self._plain_seconds[module] = run.seconds
        return run


def run_module(mode: str, module: str, timeout: float) -> ModuleRun:
    # The suite writes files where it runs, and is told not to be run inside of another test's folder.
    with tempfile.TemporaryDirectory(prefix="compat-") as folder:
        outcomes = Path(folder, "outcomes.jsonl")
        log = Path(folder, "log")
        command = [sys.executable, str(CHILD), mode, module, str(outcomes), str(timeout)]
        started = time.monotonic()
        with log.open("wb") as stream:
            try:
                # The child ends itself when the time is over. The margin is for one that no longer can.
                code = subprocess.run(
                    command,
                    cwd=folder,
                    env=_environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=stream,
                    stderr=stream,
                    timeout=timeout + 10,
                ).returncode
            except subprocess.TimeoutExpired:
                code = -9
        seconds = time.monotonic() - started
        run = ModuleRun(_read(outcomes), seconds, log.read_text(encoding="utf-8", errors="replace"))
    # The process counts as a test: it may crash, or hang in its last moments, when all tests have passed.
    run.outcomes[f"{PREFIX}{module}.<exit of the process>"] = Outcome(
        "passed" if code == 0 else "failed", 0, f"exit code {code}"
    )
    return run


def _environment() -> dict[str, str]:
    # An import path that is relative to here means nothing in the folder where the child runs.
    path = [os.path.abspath(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path)} if path else dict(os.environ)


def _read(file: Path) -> dict[str, Outcome]:
    if not file.exists():
        return {}
    outcomes: dict[str, Outcome] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        data = json.loads(line)
        outcomes[data["test"]] = Outcome(data["outcome"], data.get("handed_off", 0), data.get("detail", ""))
    return outcomes
