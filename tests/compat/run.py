"""CPython's own `test.test_asyncio` with taskscope under it, compared with the same suite without.

    python tests/compat/run.py [--only MODULE ...] [--jobs N] [--allow-missing] [--verbose]

Each module of the suite runs in a process of its own, in three ways: plainly; with `taskscope.install(loop)` on every
new event loop (variant "factory"); and with a `TaskScope` on top, round every coroutine that a loop or a `Runner` runs
to its end (variant "scope"). A test that passes plainly has to pass in both variants.

What may fail with us without being our fault is told apart by runs, not by lists: `compare.Comparison` has the rules.
The one list there is, `named_exceptions.py`, is for tests that assert on the task factory itself.

Exit code: 0, or 1 when a test regressed, or 2 when the comparison cannot be made.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time

import suite
from compare import compare, outcomes_of, stale_exceptions
from named_exceptions import ASYNCIO, LIMIT
from outcomes import Runner
from telling import tell, verdict


def main() -> int:
    arguments = _parse()
    try:
        import taskscope  # noqa: F401
    except ImportError as error:
        print(f"compat: taskscope cannot be imported: {error}", file=sys.stderr)
        return 2
    version = platform.python_version()
    try:
        modules = suite.modules()
    except ImportError:
        print(f"compat: this Python {version} comes without its package `test` (test.test_asyncio)", file=sys.stderr)
        return 0 if arguments.allow_missing else 2
    unknown = set(arguments.only) - set(modules)
    if unknown or len(ASYNCIO) > LIMIT:
        print(
            f"compat: no such module: {', '.join(sorted(unknown))}" if unknown else "compat: too many exceptions",
            file=sys.stderr,
        )
        return 2

    started = time.monotonic()
    described = suite.described(arguments.only or modules)
    runner = Runner(arguments.jobs, suite.run_module)
    runs = runner.run((mode, module) for mode in ("plain", *described.variants) for module in described.modules)
    plain = outcomes_of("plain", runs)
    if len(plain) <= len(described.modules):  # the processes count as tests
        print("compat: not one test ran", file=sys.stderr)
        return 2
    comparisons = [compare(variant, runs, runner, described) for variant in described.variants]
    stale = stale_exceptions(comparisons, described)

    print(f"\ntest.test_asyncio of Python {version}: {len(plain)} tests, {time.monotonic() - started:.0f} s")
    tell(described, comparisons, stale, runs, arguments.verbose)
    print(f"compat {version}: {verdict(comparisons)}")
    return 1 if stale or any(comparison.regressions for comparison in comparisons) else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="CPython's test.test_asyncio with taskscope, compared with it without."
    )
    parser.add_argument(
        "--only", metavar="MODULE", action="append", default=[], help="e.g. test_locks; may be repeated"
    )
    parser.add_argument("--jobs", metavar="N", type=int, default=2, help="processes at a time (default: 2)")
    parser.add_argument("--allow-missing", action="store_true", help="exit 0 where this Python has no package `test`")
    parser.add_argument(
        "--verbose", action="store_true", help="name every test that is not compared, not only count them"
    )
    arguments = parser.parse_args()
    if arguments.jobs < 1:
        parser.error(f"--jobs {arguments.jobs}: must be at least 1")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
