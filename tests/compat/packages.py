"""The packages whose suites are run: their source distributions, unpacked, and installed with what their tests need."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Package:
    name: str
    version: str
    sha256: str
    test_requirements: tuple[str, ...]

    @property
    def folder(self) -> str:
        return f"{self.name}-{self.version}"


@dataclass(frozen=True)
class Place:
    """Where the packages are.

    Attributes:
        sources: The folder of the unpacked source distributions.
        python: The interpreter of the virtual environment in which they are installed.
    """

    sources: Path
    python: Path


def prepare(packages: Iterable[Package], folder: Path) -> Place:
    """Fetches and installs what is not in `folder` yet.

    Raises:
        subprocess.CalledProcessError: pip could not, or a file has not the checksum that it should have.
    """
    place = Place(folder / "sources", folder / "venv" / ("Scripts" if sys.platform == "win32" else "bin") / "python")
    packages = [package for package in packages if not (place.sources / package.folder).exists()]
    if not packages:
        return place
    if not place.python.exists():
        _run(sys.executable, "-m", "venv", str(folder / "venv"))
    pip = (str(place.python), "-m", "pip", "--quiet", "--disable-pip-version-check")
    pins = folder / "pins.txt"
    pins.write_text("".join(f"{p.name}=={p.version} --hash=sha256:{p.sha256}\n" for p in packages), encoding="utf-8")
    _run(*pip, "download", "--no-deps", "--no-binary", ":all:", "--dest", str(folder), "--requirement", str(pins))
    archives = [folder / f"{package.folder}.tar.gz" for package in packages]
    _run(*pip, "install", *map(str, archives), *{need for package in packages for need in package.test_requirements})
    for archive in archives:
        with tarfile.open(archive) as opened:
            opened.extractall(place.sources, filter="data")
    return place


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
