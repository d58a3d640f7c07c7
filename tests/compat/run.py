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
from collections import Counter
from collections.abc import Sequence

import suite
from compare import CONTROLS, Comparison, compare, module_of, short, stale_exceptions
from named_exceptions import LIMIT, NAMED

LOG_TAIL = 30
COLUMNS = ("variant", "passed plain", "with us", "named", "any wrapper", "flaky", "regressed", "handed off", "seconds")


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
    if unknown or len(NAMED) > LIMIT:
        print(
            f"compat: no such module: {', '.join(sorted(unknown))}" if unknown else "compat: too many exceptions",
            file=sys.stderr,
        )
        return 2

    started = time.monotonic()
    modules = arguments.only or modules
    runner = suite.Runner(arguments.jobs)
    runs = runner.run(("plain", module) for module in modules)
    runs |= runner.run((variant, module) for variant in CONTROLS for module in modules)
    if not any(mode == "plain" and run.outcomes for (mode, _), run in runs.items()):
        print("compat: not one test ran", file=sys.stderr)
        return 2
    comparisons = [compare(variant, runs, runner) for variant in CONTROLS]
    stale = stale_exceptions(comparisons, modules)

    for comparison in comparisons:
        _print_details(comparison, runs, arguments.verbose)
    for test in stale:
        print(f"no longer fails, take it off the list of named exceptions: {test}")
    total = sum(len(run.outcomes) for (mode, _), run in runs.items() if mode == "plain")
    print(f"\ntest.test_asyncio of Python {version}: {total} tests, {time.monotonic() - started:.0f} s")
    _print_table(comparisons)
    regressed = {test for comparison in comparisons for test in comparison.regressions}
    named = {test for comparison in comparisons for test in comparison.named}
    compared = max(comparison.passed_plain for comparison in comparisons)
    print(f"compat {version}: {compared} compared, {len(regressed)} regressions, {len(named)} named exceptions")
    return 1 if regressed or stale else 0


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


def _print_details(comparison: Comparison, runs: dict[tuple[str, str], suite.ModuleRun], verbose: bool) -> None:
    variant = comparison.variant
    for test in comparison.named:
        print(f"{variant}: named exception: {short(test)}: {NAMED[short(test)]}")
    for test in comparison.flaky:
        print(f"{variant}: flaky: {short(test)}")
    if comparison.objects:
        print(
            f"{variant}: with asyncio.timeout(None) in the scope's place these fail too: {_counts(comparison.objects)}"
        )
    if verbose:
        print(_indent("\n".join(map(short, comparison.objects))))

    missing = [test for test, outcome in comparison.regressions.items() if outcome.word == "missing"]
    for test, outcome in comparison.regressions.items():
        if outcome.word != "missing":
            print(f"{variant}: REGRESSION: {short(test)}: {outcome.word}\n{_indent(outcome.detail)}")
    if not missing:
        return
    print(f"{variant}: REGRESSION: did not run at all: {_counts(missing)}")
    for module in sorted({module_of(test) for test in missing}):
        tail = runs[variant, module].log.splitlines()[-LOG_TAIL:]
        print(f"{variant}: end of the output of {module}:", _indent("\n".join(tail)), sep="\n")


def _counts(tests: Sequence[str]) -> str:
    return ", ".join(f"{module} {count}" for module, count in sorted(Counter(map(module_of, tests)).items()))


def _print_table(comparisons: Sequence[Comparison]) -> None:
    print("  ".join(COLUMNS))
    for c in comparisons:
        lists = (c.named, c.objects, c.flaky, c.regressions)
        cells = (c.variant, c.passed_plain, c.passed_with_us, *map(len, lists), c.handed_off, round(c.seconds))
        print("  ".join(f"{cell:>{len(head)}}" for head, cell in zip(COLUMNS, cells, strict=True)))


def _indent(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())


if __name__ == "__main__":
    sys.exit(main())
