"""Runs modules of `test.test_asyncio`, each in a process of its own."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from compare import Suite
from named_exceptions import ASYNCIO
from outcomes import ModuleRun, run_process

CHILD = Path(__file__).with_name("child.py")
PREFIX = "test.test_asyncio."

# These take longest, so they start first: with few jobs the end of the run is then not one of them alone.
_LONGEST = ("test_tasks", "test_subprocess", "test_ssl", "test_events", "test_taskgroups", "test_sslproto")


def modules() -> list[str]:
    """Names of the test modules of this interpreter.

    Raises:
        ImportError: It has no `test.test_asyncio`.
    """
    import test.test_asyncio as package

    names = sorted(path.stem for path in Path(package.__path__[0]).glob("test_*.py"))
    return sorted(names, key=lambda name: [*_LONGEST, name].index(name))


def described(modules: list[str]) -> Suite:
    return Suite(
        name="test.test_asyncio",
        modules=modules,
        factory_controls={"factory": "any-factory", "scope": "any-wrapper"},
        wrapper_controls={"scope": "any-wrapper"},
        wrapper="asyncio.timeout(None)",
        named=ASYNCIO,
        module_of=_module_of,
        part_of=_module_of,
    )


def run_module(mode: str, module: str, timeout: float) -> ModuleRun:
    # The suite writes files where it runs, and is told not to be run inside of another test's folder.
    with tempfile.TemporaryDirectory(prefix="compat-") as folder:
        outcomes = Path(folder, "outcomes.jsonl")
        run = run_process(
            [sys.executable, str(CHILD), mode, module, str(outcomes), str(timeout)],
            cwd=Path(folder),
            env=_environment(),
            timeout=timeout + 10,  # the child ends itself when the time is over; this is for one that no longer can
            outcomes=outcomes,
            module=module,
        )
    run.outcomes = {test.removeprefix(PREFIX): outcome for test, outcome in run.outcomes.items()}
    return run


def _module_of(test: str) -> str:
    return test.partition(".")[0]


def _environment() -> dict[str, str]:
    # An import path that is relative to here means nothing in the folder where the child runs.
    path = [os.path.abspath(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path)} if path else dict(os.environ)
