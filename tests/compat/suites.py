"""AnyIO's and Trio's own test suites with taskscope under them, compared with the same suites without.

    python tests/compat/suites.py [anyio] [trio] [--no-scope] [--jobs N] [--rounds N] [--folder FOLDER] [--verbose]

The suites come from their source distributions and are run in two ways: plainly; and with `taskscope.install()` at the
start of whatever a test runs in an event loop, and a `TaskScope` round it (variant "scope"). A test that passes plainly
has to pass with us. `compare.Comparison` says how what fails without being our fault is told apart. With `--no-scope`
they are run with the factory or instrument only, too (variant "installed").

The time that tests take, of each the fastest of some rounds, plain and with us side by side, is told and not judged:
what else the machine does decides too much.

Exit code: 0, or 1 when a test regressed, or 2 when the comparison cannot be made.
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import packages
from compare import compare, outcomes_of, seconds_of_tests, stale_exceptions
from libraries import LIBRARIES, Library, has_ipv6
from named_exceptions import LIMIT
from outcomes import Runner, Runs
from telling import tell, verdict


def main() -> int:
    arguments = _parse()
    libraries = [LIBRARIES[name] for name in arguments.suites or LIBRARIES]
    if any(len(library.named) > LIMIT for library in libraries):
        print("compat: too many exceptions", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="compat-") as temporary:
        folder = Path(arguments.folder or temporary).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        try:
            place = packages.prepare([library.package for library in libraries], folder)
        except subprocess.CalledProcessError as error:
            print(f"compat: the suites cannot be had: {error}", file=sys.stderr)
            return 2
        return max(_compare(library, place, arguments) for library in libraries)


def _compare(library: Library, place: packages.Place, arguments: argparse.Namespace) -> int:
    started = time.monotonic()
    suite = library.described(("installed", "scope") if arguments.no_scope else ("scope",))
    runner = Runner(arguments.jobs, library.runner(place))
    # Beside each other, so that the two have the same machine.
    pairs = [(mode, module) for module in suite.modules for mode in ("plain", *suite.variants)]
    rounds: list[Runs] = [runner.run(pairs) for _ in range(arguments.rounds or library.rounds)]
    runs = rounds[0]
    plain = outcomes_of("plain", runs)
    if len(plain) <= len(suite.modules):  # the processes count as tests
        print(f"compat: not one test of {suite.name} ran", file=sys.stderr)
        print(*(run.log for run in runs.values()), sep="\n", file=sys.stderr)
        return 2
    comparisons = [compare(variant, runs, runner, suite) for variant in suite.variants]
    stale = stale_exceptions(comparisons, suite)

    version = platform.python_version()
    words = [outcome.word for outcome in plain.values()]
    print(f"\n{suite.name}, its own suite, on Python {version}: {len(plain)} tests, {time.monotonic() - started:.0f} s")
    print(f"without us {words.count('failed')} fail and {words.count('skipped')} are skipped")
    for test, reason in library.left_out.items():
        print(f"left out: {test}: {reason}")
    if not has_ipv6():
        print("left out: what has ipv6 or dualstack in its name, for here localhost has no address of IPv6's")
    tell(suite, comparisons, stale, runs, arguments.verbose)
    print(f"compat {suite.name} on {version}: {verdict(comparisons)}; {_times(rounds, suite.variants)}")
    return 1 if stale or any(comparison.regressions for comparison in comparisons) else 0


def _times(rounds: Sequence[Runs], variants: Sequence[str]) -> str:
    ratios: list[str] = []
    for variant in variants:
        ours, plain = (seconds_of_tests(*modes, rounds) for modes in ((variant, "plain"), ("plain", variant)))
        ratios.append(f"{ours / plain:.3f} {variant}")
    return f"time of tests with us / without: {', '.join(ratios)} ({len(rounds)} rounds)"


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="AnyIO's and Trio's own suites with taskscope, compared with without.")
    parser.add_argument("suites", metavar="SUITE", nargs="*", help=f"{' or '.join(LIBRARIES)} (default: both)")
    parser.add_argument("--no-scope", action="store_true", help="also with the factory or instrument only")
    parser.add_argument("--jobs", metavar="N", type=int, default=2, help="processes at a time (default: 2)")
    parser.add_argument("--rounds", metavar="N", type=int, help="runs for the time (default: 1 or 10, by suite)")
    parser.add_argument("--folder", help="where the suites are kept for the next run (default: nowhere)")
    parser.add_argument("--verbose", action="store_true", help="name every test that is not compared, not only count")
    arguments = parser.parse_args()
    unknown = set(arguments.suites) - set(LIBRARIES)
    if unknown:
        parser.error(f"no such suite: {', '.join(sorted(unknown))}")
    for name in ("jobs", "rounds"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            parser.error(f"--{name} {value}: must be at least 1")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
