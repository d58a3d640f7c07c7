"""A pytest plugin that writes what became of each test to the file that `--compat-outcomes` names, as `child.py` does.

Loaded by `-p`, so that the pytests that tests start write nothing. `run_process` reads the file.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

# A test can fail in its call and in its teardown, or be skipped in its setup. The worst counts.
_WORST_FIRST = ("failed", "skipped", "passed")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--compat-outcomes", type=Path)
    parser.addoption("--compat-root", type=Path, help="the folder to which the names of tests are relative")


def pytest_configure(config: pytest.Config) -> None:
    # What a shell starts in the background ignores SIGINT, and the tests of Ctrl-C would wait for ever.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config.pluginmanager.register(_Recorder(config), "compat-recorder")


class _Recorder:
    def __init__(self, config: pytest.Config) -> None:
        self._root: Path = config.getoption("--compat-root")
        self._file: IO[str] = config.getoption("--compat-outcomes").open("w", encoding="utf-8")
        self._reports: list[pytest.TestReport] = []

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        test = f"{item.path.relative_to(self._root)}::{item.nodeid.partition('::')[2]}"
        self._reports = []
        self._write(test=test, outcome="started")
        try:
            return (yield)
        finally:
            words = [report.outcome for report in self._reports]
            self._write(
                test=test,
                outcome=next((word for word in _WORST_FIRST if word in words), "failed"),
                detail="\n".join(report.longreprtext for report in self._reports if report.failed),
                seconds=sum(report.duration for report in self._reports if report.when == "call"),
            )

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._reports.append(report)

    def pytest_unconfigure(self) -> None:
        self._file.close()

    def _write(self, **line: Any) -> None:
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
