"""A project in a folder, pytest run on it in a process of its own, and what became of each test."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

_RECORDER = """
import json, os
from pathlib import Path

OUTCOMES = Path("outcomes.jsonl").absolute()  # a test can go to another folder

def pytest_runtest_logreport(report):
    if hasattr(report, "node") or not os.environ.get("PYTEST_XDIST_WORKER"):
        line = {
            "nodeid": report.nodeid,
            "when": report.when,
            "outcome": report.outcome,
            "xfail": hasattr(report, "wasxfail"),
            "text": report.longreprtext,
            "sections": dict(report.sections),
        }
        with OUTCOMES.open("a") as file:
            file.write(json.dumps(line) + "\\n")
"""


SECONDS = 120.0
"""How long one run may take."""


@dataclass
class Phase:
    """What became of one phase of one test."""

    outcome: str
    text: str
    sections: dict[str, str]


@dataclass
class Run:
    """One run of pytest.

    Attributes:
        phases: By test and phase.
        report: What `--taskscope-report` has written, None without.
    """

    code: int
    output: str
    phases: dict[tuple[str, str], Phase] = field(default_factory=dict)
    report: dict[str, Any] | None = None

    def phase(self, test: str, when: str = "call") -> Phase:
        found = [phase for (nodeid, at), phase in self.phases.items() if at == when and nodeid.endswith(f"::{test}")]
        assert len(found) == 1, f"{len(found)} phases {when} of {test} in\n{self.output}"
        return found[0]

    def outcomes(self) -> dict[str, str]:
        """Of each test what became of it: passed, failed, skipped, xfailed, xpassed, or error in its fixtures."""
        found: dict[str, str] = {}
        for (nodeid, when), phase in self.phases.items():
            test = nodeid.rpartition("::")[2]
            if when == "call" or phase.outcome != "passed":
                found[test] = phase.outcome if when == "call" or phase.outcome != "failed" else "error"
        return found

    def findings_of(self, test: str) -> list[dict[str, Any]]:
        assert self.report is not None, self.output
        return [found for found in self.report["findings"] if found["nodeid"].endswith(f"::{test}")]


def run_pytest(
    folder: Path,
    files: dict[str, str],
    *arguments: str,
    plugins: tuple[str, ...] = (),
    ini: str = "",
    report: bool = True,
    variables: dict[str, str] | None = None,
) -> Run:
    """Writes the files and runs pytest there, with no plugins but ours and those that are named.

    ini: lines of `pytest.ini`. There is none where the files have a `pyproject.toml`.
    variables: of the environment, beside its own.
    """
    for name, text in {"recorder.py": _RECORDER, **files}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), "utf-8")
    if "pyproject.toml" not in files:
        (folder / "pytest.ini").write_text(f"[pytest]\n{textwrap.dedent(ini).strip()}\n", "utf-8")
    loaded = [argument for name in ("taskscope", "recorder", *plugins) for argument in ("-p", name)]
    written = ["--taskscope-report=report.json"] if report else []
    command = [sys.executable, "-m", "pytest", *loaded, "-p", "no:cacheprovider", *written, *arguments]
    # A test that hangs shows where in pytest's output.
    command += ["-o", f"faulthandler_timeout={SECONDS / 2}"]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**environment(folder), **(variables or {})},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            # What a shell runs in the background ignores Ctrl-C, and so would this.
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        )
    except subprocess.TimeoutExpired as hung:
        raise AssertionError(f"pytest hangs:\n{_text(hung.stdout)}\n{_text(hung.stderr)}") from None
    run = Run(done.returncode, done.stdout + done.stderr)
    recorded = folder / "outcomes.jsonl"
    for line in recorded.read_text("utf-8").splitlines() if recorded.exists() else ():
        data = json.loads(line)
        outcome = {"passed": "xpassed", "skipped": "xfailed"}.get(data["outcome"]) if data["xfail"] else None
        run.phases[data["nodeid"], data["when"]] = Phase(outcome or data["outcome"], data["text"], data["sections"])
    written_report = folder / "report.json"
    if written_report.exists():
        run.report = json.loads(written_report.read_text("utf-8"))
    return run


def _text(output: bytes | str | None) -> str:
    return output.decode("utf-8", "replace") if isinstance(output, bytes) else output or ""


def environment(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "TASKSCOPE", "GITHUB"))}
    return {
        **kept,
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONPATH": os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "COLUMNS": "100",
    }
