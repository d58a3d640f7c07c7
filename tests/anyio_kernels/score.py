"""`python -m tests.anyio_kernels.score`: how taskscope does on the kernels on AnyIO, side by side for each backend.

Every kernel runs buggy and fixed, each time in a fresh loop; a buggy body that hangs also as a task of a group in the
scope. Exits with 1 where taskscope misses anything.
"""

from __future__ import annotations

import argparse
import faulthandler
import sys
import warnings
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import astuple, dataclass, field
from typing import Final, TypeVar

from kernels.judging import Shape, false_reports, judge

from anyio_kernels.corpus import ALL
from anyio_kernels.judging import expected, shapes, under_taskscope
from anyio_kernels.kernel import Kernel
from anyio_kernels.loops import LOOPS, Loop

T = TypeVar("T")

TIMEOUT: Final = 1.0
"""Seconds that a scope gives its body."""

_STUCK_FOR_GOOD: Final = 60
"""Seconds after which the score itself gives up."""

_HEAD: Final = ("backend", "detected", "right task", "right wait", "proven", "hangs ended", "false reports")


@dataclass
class Score:
    """The score on one loop. The counts are of runs; those of proofs are of tasks and bodies."""

    runs: int = 0
    detected: int = 0
    right_task: int = 0
    right_wait: int = 0
    proven: int = 0
    provable: int = 0
    ended: int = 0
    hangs: int = 0
    silent: int = 0
    false_reports: int = 0
    misses: list[str] = field(default_factory=list)

    def cells(self) -> tuple[str, ...]:
        runs, detected, right_task, right_wait, proven, provable, ended, hangs, silent, wrong, _ = astuple(self)
        return (
            f"{detected}/{runs}",
            f"{right_task}/{runs}",
            f"{right_wait}/{runs}",
            f"{proven}/{provable} ({100 * proven / max(provable, 1):.0f}%)",
            f"{ended}/{hangs}",
            f"{wrong}/{silent}",
        )


def score_on(loop: Loop) -> Score:
    score = Score()
    for kernel in ALL:
        for shape in shapes(kernel):
            _add_buggy(score, loop, kernel, shape)
        _add_fixed(score, loop, kernel)
    return score


def _add_buggy(score: Score, loop: Loop, kernel: Kernel, shape: Shape) -> None:
    where, wanted = f"{kernel.name} [{shape}]", expected(kernel, shape)
    stuck = (*wanted.leaks[0], *([wanted.body] if wanted.body else []))
    score.runs += 1
    score.provable += sum(one.provable for one in stuck)
    score.hangs += wanted.body is not None
    try:
        outcome = _run(loop, lambda: under_taskscope(kernel.buggy, shape, TIMEOUT))
    except Exception as error:
        score.misses.append(f"{where}: {error!r}")
        return
    judgement = judge(outcome, wanted)
    score.detected += judgement.detected
    score.right_task += judgement.right_task
    score.right_wait += judgement.right_wait
    score.proven += judgement.proven
    score.ended += wanted.body is not None and outcome.ended_by is not None
    score.misses += [f"{where}: {miss}" for miss in judgement.misses]


def _add_fixed(score: Score, loop: Loop, kernel: Kernel) -> None:
    score.silent += 1
    try:
        said = false_reports(_run(loop, lambda: under_taskscope(kernel.fixed, "direct", TIMEOUT)))
    except Exception as error:
        said = [repr(error)]
    score.false_reports += bool(said)
    score.misses += [f"{kernel.name}, fixed: {what}" for what in said]


def _run(loop: Loop, main: Callable[[], Awaitable[T]]) -> T:
    faulthandler.dump_traceback_later(_STUCK_FOR_GOOD, exit=True)
    try:
        return loop.run(main)
    finally:
        faulthandler.cancel_dump_traceback_later()


def table(scores: dict[str, Score]) -> str:
    lines = [_HEAD, *((name, *score.cells()) for name, score in scores.items())]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, cells, widths)).rstrip() for cells in lines)


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    warnings.simplefilter("ignore")  # streams that a kernel leaves open
    loops = [loop for loop in LOOPS if options.loop in (None, loop.name)]
    scores = {loop.name: score_on(loop) for loop in loops}
    print(f"Python {sys.version.split()[0]}; {len(ALL)} kernels on AnyIO")
    print(table(scores))
    misses = sum(len(score.misses) for score in scores.values())
    if options.verbose:
        for name, score in scores.items():
            print(f"\nmissed on {name}:", *(score.misses or ["nothing"]), sep="\n  ")
    elif misses:
        print(f"\ntaskscope missed {misses} times: --verbose tells where")
    return 1 if misses else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.anyio_kernels.score", description=(__doc__ or "").split("\n\n")[1]
    )
    parser.add_argument("--loop", choices=[loop.name for loop in LOOPS], help="only this kind of loop")
    parser.add_argument("--verbose", action="store_true", help="tell each miss")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
