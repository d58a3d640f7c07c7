"""Prints what a comparison has found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from compare import Comparison, Suite, named_as
from outcomes import Runs

LOG_TAIL = 30
COLUMNS = ("variant", "passed plain", "with us", "named", "any wrapper", "flaky", "regressed", "handed off", "seconds")


def tell(suite: Suite, comparisons: Sequence[Comparison], stale: Iterable[str], runs: Runs, verbose: bool) -> None:
    """Everything but the heading and the last line, which are the caller's."""
    for test in stale:
        print(f"no longer fails, take it off the list of named exceptions: {test}")
    for comparison in comparisons:
        _tell_details(suite, comparison, runs, verbose)
    print("  ".join(COLUMNS))
    for c in comparisons:
        lists = (c.named, c.objects, c.flaky, c.regressions)
        cells = (c.variant, c.passed_plain, c.passed_with_us, *map(len, lists), c.handed_off, round(c.seconds))
        print("  ".join(f"{cell:>{len(head)}}" for head, cell in zip(COLUMNS, cells, strict=True)))


def verdict(comparisons: Sequence[Comparison]) -> str:
    regressed = {test for comparison in comparisons for test in comparison.regressions}
    named = {named_as(test) for comparison in comparisons for test in comparison.named}
    compared = max(comparison.passed_plain for comparison in comparisons)
    return f"{compared} compared, {len(regressed)} regressions, {len(named)} named exceptions"


def _tell_details(suite: Suite, comparison: Comparison, runs: Runs, verbose: bool) -> None:
    variant = comparison.variant
    for test in comparison.named:
        print(f"{variant}: named exception: {test}: {suite.named[named_as(test)]}")
    for test in comparison.flaky:
        print(f"{variant}: flaky: {test}")
    if comparison.objects:
        print(
            f"{variant}: with {suite.wrapper} in the scope's place these fail too: {_counts(suite, comparison.objects)}"
        )
    if verbose and comparison.objects:
        print(_indent("\n".join(comparison.objects)))

    missing = [test for test, outcome in comparison.regressions.items() if outcome.word == "missing"]
    for test, outcome in comparison.regressions.items():
        if outcome.word != "missing":
            print(f"{variant}: REGRESSION: {test}: {outcome.word}\n{_indent(outcome.detail)}")
    if not missing:
        return
    print(f"{variant}: REGRESSION: did not run at all: {_counts(suite, missing)}")
    for module in sorted({suite.module_of(test) for test in missing}):
        tail = runs[variant, module].log.splitlines()[-LOG_TAIL:]
        print(f"{variant}: end of the output of {module}:", _indent("\n".join(tail)), sep="\n")


def _counts(suite: Suite, tests: Sequence[str]) -> str:
    return ", ".join(f"{module} {count}" for module, count in sorted(Counter(map(suite.module_of, tests)).items()))


def _indent(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())
