"""The packages whose suites are run: their source distributions, unpacked, and installed with what their tests need."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Package:
    """A source distribution, and what its tests need.

    Attributes:
        build_environment: Variables with which it is built.
    """

    name: str
    version: str
    sha256: str
    test_requirements: tuple[str, ...]
    build_environment: Mapping[str, str] = field(default_factory=dict[str, str])

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
    # Not ":all:", or what they are built with would be built from its sources as well.
    from_source = ",".join(package.name for package in packages)
    _run(*pip, "download", "--no-deps", "--no-binary", from_source, "--dest", str(folder), "--requirement", str(pins))
    archives = [folder / f"{package.folder}.tar.gz" for package in packages]
    needs = {need for package in packages for need in package.test_requirements}
    variables = dict(entry for package in packages for entry in package.build_environment.items())
    _run(*pip, "install", *map(str, archives), *needs, variables=variables)
    for archive in archives:
        with tarfile.open(archive) as opened:
            opened.extractall(place.sources, filter="data")
    return place


def install_copy(package: Path, place: Place) -> None:
    """Puts a package of this project where an installed one would be.

    Hypothesis reads the source of all that is not there, in search of constants, and that would be timed as ours.
    """
    asked = [str(place.python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    target = Path(subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip(), package.name)
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(package, target, ignore=shutil.ignore_patterns("__pycache__"))


def _run(*command: str, variables: Mapping[str, str] | None = None) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, env={**os.environ, **(variables or {})})
