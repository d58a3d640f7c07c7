"""Tells what the tests that passed without us, and do not pass with us, have to say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from named_exceptions import NAMED
from suite import MISSING, PREFIX, ModuleRun, Outcome, Runner

CONTROLS = {"factory": "any-factory", "scope": "any-wrapper"}
RERUNS = 2

Runs = Mapping[tuple[str, str], ModuleRun]


@dataclass
class Comparison:
    """One variant against the plain run. Every test that passed plainly and not with us is in exactly one of the lists.

    Attributes:
        handed_off: How many tests left tasks running at the end of a scope, which were therefore handed off.
        named: It asserts on the task factory itself, is named with its reason, and fails with any factory.
        objects: It fails with asyncio's own `timeout(None)` in the scope's place too: it looks at its own stack, or
            breaks the running loop. Only in variant "scope".
        flaky: It failed in one run and passed in another of the same kind.
        regressions: All others, with their outcome with us.
    """

    variant: str
    passed_plain: int = 0
    passed_with_us: int = 0
    handed_off: int = 0
    named: list[str] = field(default_factory=list)
    objects: list[str] = field(default_factory=list)
    flaky: list[str] = field(default_factory=list)
    regressions: dict[str, Outcome] = field(default_factory=dict)
    seconds: float = 0.0


def compare(variant: str, runs: Runs, runner: Runner) -> Comparison:
    """Sorts what failed in `variant`, with further runs of the modules concerned."""
    plain, ours = _outcomes("plain", runs), _outcomes(variant, runs)
    passed = [test for test, outcome in plain.items() if outcome.word == "passed"]
    failed = sorted(_not_passed(passed, ours))
    result = Comparison(variant, len(passed), len(passed) - len(failed))
    result.handed_off = sum(outcome.handed_off > 0 for outcome in ours.values())
    result.seconds = sum(run.seconds for (mode, _), run in runs.items() if mode == variant)

    control = _outcomes(CONTROLS[variant], runner.run((CONTROLS[variant], module) for module in _modules(failed)))
    unexplained: list[str] = []
    fails_anyway = _not_passed(failed, control)
    for test in failed:
        if test in fails_anyway and short(test) in NAMED:
            result.named.append(test)
        elif test in fails_anyway and variant == "scope":
            result.objects.append(test)
        else:
            unexplained.append(test)

    for _ in range(RERUNS):
        if not unexplained:
            break
        again = runner.run((mode, module) for mode in ("plain", variant) for module in _modules(unexplained))
        failed_plainly = _not_passed(unexplained, _outcomes("plain", again))
        failed_with_us = _not_passed(unexplained, _outcomes(variant, again))
        stable = [test for test in unexplained if test in failed_with_us and test not in failed_plainly]
        result.flaky += [test for test in unexplained if test not in stable]
        unexplained = stable
    result.regressions = {test: ours.get(test, MISSING) for test in unexplained}
    return result


def stale_exceptions(comparisons: Iterable[Comparison], modules: Iterable[str]) -> list[str]:
    """Named exceptions of `modules` that no variant needed."""
    needed = {short(test) for comparison in comparisons for test in comparison.named}
    return [test for test in NAMED if module_of(test) in modules and test not in needed]


def short(test: str) -> str:
    return test.removeprefix(PREFIX)


def module_of(test: str) -> str:
    return short(test).partition(".")[0]


def _outcomes(mode: str, runs: Runs) -> dict[str, Outcome]:
    return {test: outcome for key, run in runs.items() if key[0] == mode for test, outcome in run.outcomes.items()}


def _modules(tests: Iterable[str]) -> list[str]:
    return sorted(set(map(module_of, tests)))


def _not_passed(tests: Iterable[str], outcomes: Mapping[str, Outcome]) -> set[str]:
    return {test for test in tests if outcomes.get(test, MISSING).word != "passed"}
