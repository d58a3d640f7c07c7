"""The command: runs the benchmarks and prints one table."""

from __future__ import annotations

import argparse
import fnmatch
import gc
import json
import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from benchmarks import (
    finding,
    importing,
    live_tasks,
    noting,
    passing_tasks,
    proofs,
    scopes,
    spawning,
    starting,
    trio_spawning,
)
from benchmarks.effort import FULL, QUICK, Effort
from benchmarks.figures import Row
from benchmarks.machine import headline, machine
from benchmarks.table import block, heading


class Benchmark(Protocol):
    @property
    def name(self) -> str: ...

    def run(self, effort: Effort) -> list[Row]: ...


ALL: list[Benchmark] = [
    *spawning.benchmarks(),
    *trio_spawning.benchmarks(),
    *scopes.benchmarks(),
    *finding.benchmarks(),
    *noting.benchmarks(),
    *proofs.benchmarks(),
    *live_tasks.benchmarks(),
    *passing_tasks.benchmarks(),
    *importing.benchmarks(),
    *starting.benchmarks(),
]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = _parser()
    options = parser.parse_args(arguments)
    chosen = _matching(options.only)
    if not chosen:
        names = "\n  ".join(benchmark.name for benchmark in ALL)
        parser.error(f"--only {options.only!r} matches no benchmark. There are:\n  {names}")
    if os.environ.get("TASKSCOPE", "").strip().lower() == "off":
        parser.error("TASKSCOPE=off is set in the environment: there would be nothing to measure")
    if options.json is not None and not _is_writable(options.json):
        parser.error(f"--json {str(options.json)!r}: cannot write a file there")
    effort = QUICK if options.quick else FULL
    print(_introduction(effort))
    print(heading())
    _keep_own_memory_out()
    rows: list[Row] = []
    for benchmark in chosen:
        found = benchmark.run(effort)
        print(block(found), flush=True)
        rows += found
    if options.quick:
        print("A quick run shows the order of magnitude. Whether a goal is met takes a full run on a quiet machine.")
    if options.json is not None:
        data = {"format_version": 1, "quick": options.quick, **machine(), "rows": [row.to_dict() for row in rows]}
        options.json.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="What taskscope costs, side by side with bare asyncio and with other tools.",
    )
    parser.add_argument("--quick", action="store_true", help="few rounds and small samples: under 60 s")
    parser.add_argument("--only", metavar="PATTERN", help="run benchmarks whose name contains this (* and ? allowed)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all figures to this file")
    return parser


def _matching(pattern: str | None) -> list[Benchmark]:
    if pattern is None:
        return ALL
    return [one for one in ALL if fnmatch.fnmatchcase(one.name.lower(), f"*{pattern.lower()}*")]


def _is_writable(file: Path) -> bool:
    """Asked before the run: it would be a pity to find out after it."""
    target = file if file.exists() else file.absolute().parent
    return not file.is_dir() and target.exists() and os.access(target, os.W_OK)


def _introduction(effort: Effort) -> str:
    return (
        f"{headline()}\n"
        f"Spawning: {effort.spawn_rounds} rounds, {effort.tasks:,} tasks a sample ({effort.slow_tasks:,} of what is "
        "slow), in rotating order.\n"
        "Ratio: to the first subject, the baseline, of the same round. Quartiles: the middle half of the rounds.\n"
    )


def _keep_own_memory_out() -> None:
    """Takes what is imported now out of the collector's work: it would be a user's own heap, which we do not know."""
    for peer in ("aiomonitor", "pyleak", "uvloop"):
        if find_spec(peer) is not None:
            __import__(peer)
    gc.collect()
    gc.freeze()
