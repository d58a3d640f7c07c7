"""Starts the command, or says what is missing."""

from __future__ import annotations

import sys
from importlib.util import find_spec


def main() -> int:
    if find_spec("taskscope") is None:
        print("python -m benchmarks: taskscope is not installed; pip install '.[bench]' does that", file=sys.stderr)
        return 2
    from benchmarks.command import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
