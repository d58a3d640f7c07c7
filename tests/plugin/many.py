"""Many runs of pytest in one process, for what is decided before any test runs."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from plugin.project import environment

_DRIVER = """
import contextlib, io, json, pathlib, sys
import pytest

def run(files, arguments):
    for name in ("pytest.ini", "pyproject.toml", "test_it.py"):
        pathlib.Path(name).unlink(missing_ok=True)
    for name, text in files.items():
        pathlib.Path(name).write_text(text, "utf-8")
    for name in ("test_it", "conftest"):
        sys.modules.pop(name, None)
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        code = pytest.main(["-p", "taskscope", "-p", "no:cacheprovider", *arguments])
    return int(code), output.getvalue()

print(json.dumps([run(files, arguments) for files, arguments in json.load(sys.stdin)]))
"""


@dataclass
class Start:
    """One run: the files and the arguments, and what came of it."""

    files: dict[str, str]
    arguments: tuple[str, ...] = ()
    code: int = -1
    output: str = ""


def run_many(folder: Path, starts: list[Start]) -> None:
    """Runs them one after the other in a folder, each with its own `pytest.ini`, `pyproject.toml` and `test_it.py`."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", _DRIVER],
        cwd=folder,
        env=environment(folder),
        input=json.dumps([(start.files, start.arguments) for start in starts]),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    for start, (code, output) in zip(starts, json.loads(done.stdout), strict=True):
        start.code, start.output = code, output
