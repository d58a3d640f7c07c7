"""The command `taskscope`."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from importlib import import_module, metadata

from taskscope._demo import PROGRAMS
from taskscope._off import is_off
from taskscope._render.style import wants_color
from taskscope._report import Report


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with `argv`, None for the arguments of the process, and return its exit code.

    Raises:
        SystemExit: After `--help` and `--version` (0), and for arguments that make no sense (2).
    """
    arguments = _parser().parse_args(argv)
    if is_off():
        print("taskscope: TASKSCOPE=off makes every scope do nothing; unset it to run the demo", file=sys.stderr)
        return 2
    try:
        _demo(arguments.json, arguments.color)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader (`head`, a pager) has seen enough. The interpreter must not try to flush the rest at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="taskscope", description="Find tasks that outlive the code that started them")
    parser.add_argument("--version", action="version", version=f"taskscope {_version()}")
    commands = parser.add_subparsers(title="commands", dest="command", required=True)
    demo = commands.add_parser(
        "demo",
        help="run four small programs, three of them with a typical mistake, and print what a scope tells about each",
    )
    output = demo.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="print each report as one line of JSON, and nothing else")
    output.add_argument("--color", choices=("auto", "always", "never"), default="auto", help="default: on a terminal")
    return parser


def _version() -> str:
    try:
        return metadata.version("taskscope")
    except metadata.PackageNotFoundError:  # run from a source tree
        return "(version unknown: not installed)"


def _demo(as_json: bool, color: str) -> None:
    colored = wants_color(sys.stdout) if color == "auto" else color == "always"
    for number, name in enumerate(PROGRAMS, start=1):
        program = import_module(f"taskscope._demo.{name}")
        report: Report = asyncio.run(program.run())
        if as_json:
            print(report.to_json())
            continue
        heading = (program.__doc__ or "").partition("\n")[0]
        if number > 1:
            print("\n")
        print(f"{number}. {name}.py\n{heading}\n\n{report.format(color=colored)}")
