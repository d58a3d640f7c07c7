"""Runs one module of `test.test_asyncio` in this process and writes what became of each test.

    python child.py MODE MODULE OUTCOMES_FILE SECONDS

The file gets one JSON line when a test starts and one when it ends, so that a crash or a hang hides no more than it
must. After SECONDS the stacks of all threads go to stderr and the process ends. Nothing here judges: `compare.py` does.
"""

from __future__ import annotations

import faulthandler
import json
import resource
import signal
import sys
import unittest
from pathlib import Path
from typing import IO, Any

import hooks

# Much of the suite runs loops whose selector is a mock that keeps every call. One that waits in vain takes some 60 MB
# more each second, and must not take the machine with it.
MOST_MEMORY = 4 << 30

# A test can have several outcomes (subtests, a tearDown that fails). The worst one counts.
_WORST_FIRST = ("failed", "skipped", "passed")


class OutcomeWriter(unittest.TestResult):
    """One outcome for each test, its subtests folded into it."""

    def __init__(self, file: IO[str]) -> None:
        super().__init__()
        self._file = file
        self._outcomes: list[str] = []
        self._detail = ""

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self._outcomes = []
        self._detail = ""
        hooks.handed_off.clear()
        self._write(test=test.id(), outcome="started")

    def stopTest(self, test: unittest.TestCase) -> None:
        super().stopTest(test)
        outcome = next((word for word in _WORST_FIRST if word in self._outcomes), "failed")
        self._write(test=test.id(), outcome=outcome, handed_off=len(hooks.handed_off), detail=self._detail)

    def addSuccess(self, test: unittest.TestCase) -> None:
        self._outcomes.append("passed")

    def addExpectedFailure(self, test: unittest.TestCase, err: Any) -> None:
        self._outcomes.append("passed")

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        self._outcomes.append("failed")

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        self._outcomes.append("skipped")

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:
        self._fail(test, err)

    def addError(self, test: unittest.TestCase, err: Any) -> None:
        self._fail(test, err)

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any) -> None:
        if err is not None:
            self._fail(subtest, err)

    def _fail(self, test: unittest.TestCase, err: Any) -> None:
        text = self._exc_info_to_string(err, test)
        self._outcomes.append("failed")
        self._detail += text
        if not isinstance(test, unittest.TestCase):
            # A setUpClass or setUpModule. Its tests never start and will be missing: leave the reason in the log.
            print(test, text, sep="\n", file=sys.stderr)

    def _write(self, **line: Any) -> None:
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()


def main(mode: str, module: str, outcomes: Path, seconds: float) -> None:
    faulthandler.dump_traceback_later(seconds, exit=True)
    # What a shell starts in the background ignores SIGINT, and the tests of Ctrl-C would wait for ever.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(
        resource.RLIMIT_AS, (MOST_MEMORY if hard == resource.RLIM_INFINITY else min(MOST_MEMORY, hard), hard)
    )
    with outcomes.open("w", encoding="utf-8") as file:
        try:
            suite = unittest.defaultTestLoader.loadTestsFromName(f"test.test_asyncio.{module}")
        except unittest.SkipTest:
            return  # a module for another platform
        hooks.install(mode)
        suite.run(OutcomeWriter(file))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), float(sys.argv[4]))
