"""The tests of Trio and AnyIO with the versions of both that there are.

`python -m tests.compat.versions` takes every release from the lower bounds in pyproject.toml on, each with the newest
of the other that goes with it; with `--oldest`, the two oldest together, and our pytest plugin with the oldest of all
that it works beside. Makes a virtual environment for each, with the Python that runs it.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import tomllib
import venv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = ("tests/test_trio*.py", "tests/test_anyio*.py", "tests/test_two_libraries.py")

# Without AnyIO's own plugin, of which no test of these has need: old ones use names that pytest warns of.
WITHOUT_ANYIOS_PLUGIN = ("-p", "no:anyio")

PLUGIN_TESTS = ("tests/test_plugin_runners.py", "tests/test_plugin_third_of_five.py")

# The README names them too.
OLDEST_BESIDE_PLUGIN = {
    "pytest": "8.2.0",
    "pytest-aiohttp": "1.0.5",
    "pytest-asyncio": "0.24.0",
    "pytest-randomly": "3.15.0",
    "pytest-trio": "0.8.0",
    "pytest-xdist": "3.6.1",
}

Versions = dict[str, str]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.compat.versions", description=__doc__)
    parser.add_argument("--oldest", action="store_true", help="only the oldest of both that are supported")
    options = parser.parse_args()
    failed = 0
    for versions in [lower_bounds()] if options.oldest else every_one():
        # The extra says which Trio an AnyIO can run on: where AnyIO is not pinned, it is the newest for that Trio.
        failed += tell(versions, run(["[test]", "anyio[trio]"], versions, TESTS, WITHOUT_ANYIOS_PLUGIN))
    if options.oldest:
        versions = {**lower_bounds(), **OLDEST_BESIDE_PLUGIN}
        failed += tell(versions, run(["", "hypothesis"], versions, PLUGIN_TESTS))
    return min(failed, 1)


def tell(versions: Versions, verdict: str) -> bool:
    """Whether it failed."""
    print(f"{'.'.join(map(str, sys.version_info[:3]))} {versions}: {verdict}", flush=True)
    return verdict != "passed"


def lower_bounds() -> Versions:
    """The oldest versions that pyproject.toml allows."""
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    return dict(requirement.split(">=") for requirement in dependencies)


def every_one() -> Iterator[Versions]:
    released = {package: releases(package, oldest) for package, oldest in lower_bounds().items()}
    for version in released["anyio"]:
        yield {"anyio": version, "trio": released["trio"][0]}
    for version in released["trio"]:
        yield {"trio": version}


def releases(package: str, oldest: str) -> list[str]:
    """The released versions from `oldest` on, newest first, as pip finds them."""
    command = [sys.executable, "-m", "pip", "index", "versions", package]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    line = next(line for line in said.splitlines() if line.startswith("Available versions:"))
    versions = re.findall(r"\d[\w.]*", line)
    return [version for version in versions if numbers(version) >= numbers(oldest)]


def numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)))


def run(requirements: Sequence[str], versions: Versions, tests: Iterable[str], options: Sequence[str] = ()) -> str:
    """requirements: the extra of our own, and what else is needed."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = str(Path(folder, "bin", "python"))
        extra, *others = requirements
        pinned = [f"{package}=={version}" for package, version in versions.items()]
        command = [python, "-m", "pip", "install", "-q", "-e", f"{ROOT}{extra}", *others, *pinned]
        installed = subprocess.run(command, capture_output=True, text=True)
        if installed.returncode:
            return f"cannot be installed\n{installed.stderr}"
        files = [str(path) for pattern in tests for path in sorted(ROOT.glob(pattern))]
        command = [python, "-m", "pytest", "-q", *options, *files]
        tested = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        return "passed" if tested.returncode == 0 else f"failed\n{tested.stdout}"


if __name__ == "__main__":
    sys.exit(main())
