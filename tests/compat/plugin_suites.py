"""Other projects' test suites with the pytest plugin in report-only mode, compared with the same suites without.

    python tests/compat/plugin_suites.py [SUITE ...] [--find WORDS] [--rounds N] [--folder FOLDER] [--verbose]

The suites come from their source distributions and are run in two ways: plainly; and with `--taskscope
--taskscope-on-leak=summary`, which is to change nothing. A test that passes plainly has to pass with the plugin.
`compare.Comparison` says how what fails without being our fault is told apart.

What the plugin finds is listed by the place where the tasks were spawned, with the tests that have left them. That, and
the time, is told and not judged: of each test's call the fastest of some rounds, and of the processes, which take turns
in who comes first, the median of the rounds' ratios. `--find` has it look for more than tasks.

Exit code: 0, or 1 when a test regressed, or 2 when the comparison cannot be made.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import packages
from compare import compare, outcomes_of, seconds_of_tests, stale_exceptions
from outcomes import Runner, Runs
from plugin_findings import tell_findings
from plugin_libraries import LIBRARIES
from plugin_library import WITH_US, Library
from telling import tell, verdict


def main() -> int:
    arguments = _parse()
    with tempfile.TemporaryDirectory(prefix="compat-") as temporary:
        folder = Path(arguments.folder or temporary).resolve()
        return max(_run(LIBRARIES[name], folder / name, arguments) for name in arguments.suites or LIBRARIES)


def _run(library: Library, folder: Path, arguments: argparse.Namespace) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    try:
        place = packages.prepare([library.package], folder)
        packages.install_copy(Path(__file__).parents[2] / "src" / "taskscope", place)
    except subprocess.CalledProcessError as error:
        print(f"compat: {library.package.folder} cannot be had: {error}", file=sys.stderr)
        return 2
    started = time.monotonic()
    suite = library.described()
    report = folder / "findings.json"
    report.unlink(missing_ok=True)
    runner = Runner(1, library.runner(place, report, arguments.find))
    pairs = [(mode, module) for module in suite.modules for mode in ("plain", WITH_US)]
    rounds: list[Runs] = [runner.run(pairs[:: -1 if number % 2 else 1]) for number in range(arguments.rounds)]
    runs = rounds[0]
    plain = outcomes_of("plain", runs)
    if len(plain) <= 1 or not report.exists():  # the process counts as a test
        print(f"compat: {suite.name} did not run, or not with the plugin", file=sys.stderr)
        print(*(run.log for run in runs.values()), sep="\n", file=sys.stderr)
        return 2
    comparison = compare(WITH_US, runs, runner, suite)

    version = platform.python_version()
    words = [outcome.word for outcome in plain.values()]
    print(f"\n{suite.name}, its own suite, on Python {version}: {len(plain)} tests, {time.monotonic() - started:.0f} s")
    print(f"without us {words.count('failed')} fail and {words.count('skipped')} are skipped")
    stale = stale_exceptions([comparison], suite)
    tell(suite, [comparison], stale, runs, arguments.verbose)
    failed = {test for test, outcome in plain.items() if outcome.word == "failed"}
    found = tell_findings(report, (place.sources / suite.name, folder), failed, all_tests=arguments.verbose)
    print(f"compat {suite.name} on {version}: {verdict([comparison])}, {found} found; {_times(rounds)}")
    return 1 if stale or comparison.regressions else 0


def _times(rounds: Sequence[Runs]) -> str:
    ours, plain = seconds_of_tests(WITH_US, "plain", rounds), seconds_of_tests("plain", WITH_US, rounds)
    ratios = [_seconds(WITH_US, runs) / _seconds("plain", runs) for runs in rounds]
    whole = min(_seconds("plain", runs) for runs in rounds)
    return (
        f"time with us / without: {ours / plain:.3f} the tests, {statistics.median(ratios):.3f}"
        f" ({min(ratios):.3f} .. {max(ratios):.3f}) the process of {whole:.1f} s ({len(rounds)} rounds)"
    )


def _seconds(mode: str, runs: Runs) -> float:
    return sum(run.seconds for key, run in runs.items() if key[0] == mode)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Suites of others with the pytest plugin, compared with without.")
    parser.add_argument("suites", metavar="SUITE", nargs="*", help=f"of {', '.join(LIBRARIES)} (default: all)")
    parser.add_argument("--find", metavar="WORDS", help="what the plugin looks for (default: tasks)")
    parser.add_argument("--rounds", metavar="N", type=int, default=1, help="runs for the time (default: 1)")
    parser.add_argument("--folder", help="where the suites are kept for the next run (default: nowhere)")
    parser.add_argument("--verbose", action="store_true", help="name every test, not only the first ones")
    arguments = parser.parse_args()
    unknown = set(arguments.suites) - set(LIBRARIES)
    if unknown:
        parser.error(f"no such suite: {', '.join(sorted(unknown))}; there are {', '.join(LIBRARIES)}")
    if arguments.rounds < 1:
        parser.error(f"--rounds {arguments.rounds}: must be at least 1")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
