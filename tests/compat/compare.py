"""Tells what the tests that passed without us, and do not pass with us, have to say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from outcomes import MISSING, ModuleRun, Outcome, Runner, Runs

RERUNS = 2


@dataclass(frozen=True)
class Suite:
    """What the comparison has to know of a suite.

    Attributes:
        modules: What runs in a process of its own.
        factory_controls: For each variant the mode with a factory that is none of ours in the place of ours. A named
            exception has to fail with it.
        wrapper_controls: The same with a wrapper in the place of our scope, where a variant puts anything round a test.
            What fails with it objects to any wrapper.
        wrapper: What that wrapper is, for the reader.
        named: The named exceptions, parametrised tests without their parameters, with reasons.
        module_of: The module of a test.
        part_of: The smallest part of a module that can be run alone and has the test, to look at it again.
    """

    name: str
    modules: Sequence[str]
    factory_controls: Mapping[str, str]
    wrapper_controls: Mapping[str, str]
    wrapper: str
    named: Mapping[str, str]
    module_of: Callable[[str], str]
    part_of: Callable[[str], str]

    @property
    def variants(self) -> Sequence[str]:
        return list(self.factory_controls)


@dataclass
class Comparison:
    """One variant against the plain run. Every test that passed plainly and not with us is in exactly one of the lists.

    Attributes:
        handed_off: How many tests left tasks running at the end of a scope, which were therefore handed off.
        named: It asserts on what any factory changes, is named with its reason, and fails with any factory.
        objects: It fails with a wrapper in the scope's place too: it looks at its own stack, or breaks the running
            loop.
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


def compare(variant: str, runs: Runs, runner: Runner, suite: Suite) -> Comparison:
    """Sorts what failed in `variant`, with further runs of the parts concerned."""
    plain, ours = outcomes_of("plain", runs), outcomes_of(variant, runs)
    passed = [test for test, outcome in plain.items() if outcome.word == "passed"]
    failed = sorted(_not_passed(passed, ours))
    result = Comparison(variant, len(passed), len(passed) - len(failed))
    result.handed_off = sum(outcome.handed_off > 0 for outcome in ours.values())
    result.seconds = sum(run.seconds for (mode, _), run in runs.items() if mode == variant)

    def parts(tests: Iterable[str]) -> list[str]:
        return sorted(set(map(suite.part_of, tests)))

    factory, wrapper = suite.factory_controls[variant], suite.wrapper_controls.get(variant)
    modes = {mode for mode in (factory, wrapper) if mode is not None}
    control = runner.run((mode, part) for mode in sorted(modes) for part in parts(failed))
    fails_with_factory = _not_passed(failed, outcomes_of(factory, control))
    fails_with_wrapper = set() if wrapper is None else _not_passed(failed, outcomes_of(wrapper, control))
    unexplained: list[str] = []
    for test in failed:
        if test in fails_with_factory and named_as(test) in suite.named:
            result.named.append(test)
        elif test in fails_with_wrapper:
            result.objects.append(test)
        else:
            unexplained.append(test)

    for _ in range(RERUNS):
        if not unexplained:
            break
        again = runner.run((mode, part) for mode in ("plain", variant) for part in parts(unexplained))
        failed_plainly = _not_passed(unexplained, outcomes_of("plain", again))
        failed_with_us = _not_passed(unexplained, outcomes_of(variant, again))
        stable = [test for test in unexplained if test in failed_with_us and test not in failed_plainly]
        result.flaky += [test for test in unexplained if test not in stable]
        unexplained = stable
    result.regressions = {test: ours.get(test, MISSING) for test in unexplained}
    return result


def stale_exceptions(comparisons: Iterable[Comparison], suite: Suite) -> list[str]:
    """Named exceptions of the modules that ran which no variant needed."""
    needed = {named_as(test) for comparison in comparisons for test in comparison.named}
    return [test for test in suite.named if suite.module_of(test) in suite.modules and test not in needed]


def named_as(test: str) -> str:
    return test.partition("[")[0]


def outcomes_of(mode: str, runs: Mapping[tuple[str, str], ModuleRun]) -> dict[str, Outcome]:
    return {test: outcome for key, run in runs.items() if key[0] == mode for test, outcome in run.outcomes.items()}


def seconds_of_tests(mode: str, beside: str, rounds: Sequence[Runs]) -> float:
    """What the tests took in a mode that passed in it and in another each time: of each the fastest run.

    Of a machine that others use too the fastest says most.
    """
    words = [outcomes_of(one, runs) for runs in rounds for one in (mode, beside)]
    took = [outcomes_of(mode, runs) for runs in rounds]
    tests = [test for test in took[0] if all(found.get(test, MISSING).word == "passed" for found in words)]
    return sum(min(found[test].seconds for found in took) for test in tests)


def _not_passed(tests: Iterable[str], outcomes: Mapping[str, Outcome]) -> set[str]:
    return {test for test in tests if outcomes.get(test, MISSING).word != "passed"}
