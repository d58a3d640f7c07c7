"""`python -m tests.kernels.score`: how taskscope does on all kernels, side by side with pyleak.

Every kernel runs buggy and fixed, both awaited in the scope and as a task that is awaited in the scope, each time in a
fresh loop. Exits with 1 where taskscope misses anything.
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import importlib.util
import logging
import statistics
import sys
import warnings
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from kernels.corpus import ALL, CONTROLS
from kernels.judging import SHAPES, Shape, expected, false_reports, judge, under_taskscope
from kernels.kernel import Body, Kernel
from kernels.pyleak_run import under_pyleak

T = TypeVar("T")

TIMEOUT: Final = 1.0
"""Seconds that a scope gives its body."""

IN_TIME: Final = 0.3
"""Seconds in which a body that is proven stuck has to be ended."""

_STUCK_FOR_GOOD: Final = 60
"""Seconds after which the score itself gives up."""

_CORPORA: Final = {"go": "Go micro tests", "uber": "Uber patterns", "asyncio": "asyncio only", "golf": "GOLF artifact"}
_GOKER: Final = "GoKer"

_HEAD: Final = (
    "corpus",
    "kernels",
    "",
    "detected",
    "right task",
    "right wait",
    "proven",
    "hangs ended",
    "false reports",
    "verdict",
)


@dataclass
class Row:
    """The score of one tool on one corpus.

    The counts are of runs, two for each kernel; those of proofs are of tasks and bodies. What the tool cannot do by
    design is None.
    """

    runs: int = 0
    detected: int = 0
    right_task: int = 0
    right_wait: int = 0
    proven: int | None = 0
    provable: int = 0
    hangs: int = 0
    by_deadlock: int = 0
    by_timeout: int = 0
    silent: int = 0
    false_reports: int = 0
    seconds: list[float] = field(default_factory=list)

    def add(self, other: Row) -> None:
        for name, value in vars(other).items():
            mine = getattr(self, name)
            setattr(self, name, None if mine is None or value is None else mine + value)

    def cells(self) -> tuple[str, ...]:
        ended = self.by_deadlock + self.by_timeout
        how = f" ({self.by_deadlock} proven, {self.by_timeout} timeout)" if ended else ""
        return (
            f"{self.detected}/{self.runs}",
            f"{self.right_task}/{self.runs}",
            f"{self.right_wait}/{self.runs}",
            "-" if self.proven is None else f"{self.proven}/{self.provable}",
            f"{ended}/{self.hangs}{how}",
            f"{self.false_reports}/{self.silent}",
            f"{statistics.median(self.seconds) * 1000:.2f} ms" if self.seconds else "-",
        )


@dataclass
class Score:
    """The score of one tool, by corpus, and what it missed."""

    tool: str
    rows: dict[str, Row] = field(default_factory=dict)
    misses: list[str] = field(default_factory=list)

    def row(self, name: str) -> Row:
        return self.rows.setdefault(corpus_of(name), Row())


class Loops:
    """Runs each coroutine function in a fresh loop of one kind."""

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def run(self, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
        faulthandler.dump_traceback_later(_STUCK_FOR_GOOD, exit=True)
        try:
            with asyncio.Runner(loop_factory=self._new) as runner:
                return runner.run(main())
        finally:
            faulthandler.cancel_dump_traceback_later()

    def _new(self) -> asyncio.AbstractEventLoop:
        if self._kind == "uvloop":
            import uvloop

            return uvloop.new_event_loop()
        loop = asyncio.new_event_loop()
        if self._kind == "eager":
            loop.set_task_factory(asyncio.eager_task_factory)
        return loop


def corpus_of(name: str) -> str:
    return _CORPORA.get(name.partition("/")[0], _GOKER)


def score_taskscope(loops: Loops) -> Score:
    score = Score("taskscope")
    for kernel in ALL:
        for shape in SHAPES:
            _run_buggy_in_scope(loops, kernel, shape, score)
    for name, body in _silent():
        for shape in SHAPES:
            _run_silent_in_scope(loops, name, body, shape, score)
    return score


def _run_buggy_in_scope(loops: Loops, kernel: Kernel, shape: Shape, score: Score) -> None:
    row, where = score.row(kernel.name), f"{kernel.name} [{shape}]"
    wanted = expected(kernel, shape)
    row.runs += 1
    row.hangs += wanted.body is not None
    try:
        outcome = loops.run(lambda: under_taskscope(kernel.buggy, shape, TIMEOUT))
    except Exception as error:
        score.misses.append(f"{where}: {error!r}")
        return
    judgement = judge(outcome, wanted)
    row.detected += judgement.detected
    row.right_task += judgement.right_task
    row.right_wait += judgement.right_wait
    row.provable += judgement.provable
    row.proven = (row.proven or 0) + judgement.proven
    row.by_deadlock += wanted.body is not None and outcome.ended_by == "DeadlockError"
    row.by_timeout += wanted.body is not None and outcome.ended_by == "ScopeTimeoutError"
    if outcome.ended_by != "ScopeTimeoutError":
        row.seconds.append(outcome.seconds)
    if outcome.ended_by == "DeadlockError" and outcome.seconds > IN_TIME:
        judgement.misses.append(f"the proof took {outcome.seconds:.2f} s")
    score.misses += [f"{where}: {miss}" for miss in judgement.misses]


def _run_silent_in_scope(loops: Loops, name: str, body: Body, shape: Shape, score: Score) -> None:
    row = score.row(name)
    row.silent += 1
    try:
        said = false_reports(loops.run(lambda: under_taskscope(body, shape, TIMEOUT)))
    except Exception as error:
        said = [repr(error)]
    row.false_reports += bool(said)
    score.misses += [f"{name}, which is right [{shape}]: {what}" for what in said]


def score_pyleak(loops: Loops) -> Score:
    score = Score("pyleak")
    for kernel in ALL:
        for shape in SHAPES:
            _run_buggy_in_pyleak(loops, kernel, shape, score)
    for name, body in _silent():
        for shape in SHAPES:
            row = score.row(name)
            row.silent += 1
            outcome = loops.run(lambda: under_pyleak(body, shape))  # noqa: B023 - run at once
            if outcome.names:
                row.false_reports += 1
                score.misses.append(f"{name}, which is right [{shape}]: {', '.join(outcome.names)}")
    return score


def _run_buggy_in_pyleak(loops: Loops, kernel: Kernel, shape: Shape, score: Score) -> None:
    row, wanted = score.row(kernel.name), expected(kernel, shape)
    row.runs += 1
    row.proven = None
    row.hangs += wanted.body is not None
    outcome = loops.run(lambda: under_pyleak(kernel.buggy, shape))
    row.detected += bool(outcome.names)
    row.right_task += outcome.is_right_task(wanted) and bool(outcome.names)
    row.right_wait += outcome.is_right_wait(wanted) and bool(outcome.names)
    if not outcome.hung:
        row.seconds.append(outcome.seconds)
    if not outcome.is_right_wait(wanted) or not outcome.names:
        hung = "; the body hung" if outcome.hung else ""
        where = f"{kernel.name} [{shape}]"
        score.misses.append(f"{where}: named {len(outcome.names)}, of them {len(outcome.shown)} to the end{hung}")


def _silent() -> Iterator[tuple[str, Body]]:
    yield from ((f"{kernel.name}, fixed", kernel.fixed) for kernel in ALL)
    yield from CONTROLS


def table(scores: Sequence[Score]) -> str:
    kernels: dict[str, int] = {}
    for kernel in ALL:
        kernels[corpus_of(kernel.name)] = kernels.get(corpus_of(kernel.name), 0) + 1
    lines: list[tuple[str, ...]] = [_HEAD]
    for corpus, count in kernels.items():
        for score in scores:
            first = score is scores[0]
            cells = score.rows[corpus].cells()
            lines.append((corpus if first else "", str(count) if first else "", score.tool, *cells))
    for score in scores:
        first = score is scores[0]
        total = Row()
        for row in score.rows.values():
            total.add(row)
        lines.append(("all" if first else "", str(len(ALL)) if first else "", score.tool, *total.cells()))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(_line(cells, widths) for cells in lines)


def _line(cells: Iterable[str], widths: Iterable[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    logging.disable(logging.CRITICAL)  # what asyncio says about tasks that pyleak has left
    warnings.simplefilter("ignore")
    loops = Loops(options.loop)
    scores = [score_taskscope(loops)]
    if importlib.util.find_spec("pyleak") is not None:
        scores.append(score_pyleak(loops))
    print(f"Python {sys.version.split()[0]}, {options.loop}; {len(ALL)} kernels, {len(CONTROLS)} controls")
    print(table(scores))
    if options.verbose:
        for score in scores:
            print(f"\n{score.tool} missed:", *(score.misses or ["nothing"]), sep="\n  ")
    elif scores[0].misses:
        print(f"\ntaskscope missed {len(scores[0].misses)} times: --verbose tells where")
    return 1 if scores[0].misses else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.kernels.score", description=(__doc__ or "").split("\n\n")[1])
    parser.add_argument("--loop", choices=("asyncio", "eager", "uvloop"), default="asyncio", help="the kind of loop")
    parser.add_argument("--verbose", action="store_true", help="tell each miss")
    options = parser.parse_args(arguments)
    if options.loop == "eager" and sys.version_info < (3, 12):
        parser.error("--loop eager: needs Python 3.12 or newer")
    if options.loop == "uvloop" and importlib.util.find_spec("uvloop") is None:
        parser.error("--loop uvloop: uvloop is not installed")
    return options


if __name__ == "__main__":
    sys.exit(main())
