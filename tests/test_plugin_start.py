"""How the plugin starts: without a word of its own in a project that says nothing to pytest."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_it_starts_without_a_warning_where_nobody_has_given_an_option(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("def test_it(): pass\n", "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "taskscope", "-W", "error", "--taskscope"],
        cwd=tmp_path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr
