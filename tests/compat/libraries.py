"""AnyIO's and Trio's own suites: where they are, how they are run, and what is left out, with us and without."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from compare import Suite
from named_exceptions import ANYIO, TRIO
from outcomes import ModuleRun, exit_of, run_process
from packages import Package, Place

HERE = Path(__file__).parent
PLUGINS = HERE / "plugins"


@dataclass(frozen=True)
class Library:
    """A package and its suite.

    Attributes:
        modules: What runs in a process of its own, in the order in which it starts: files, or folders without those of
            the files that are named themselves.
        root: The folder that the modules are relative to.
        options: pytest's options.
        left_out: Tests that do not run, with reasons.
        named: Its named exceptions.
        rounds: How often it runs to tell what time it takes.
    """

    package: Package
    modules: Sequence[str]
    root: Callable[[Place], Path]
    options: Sequence[str]
    left_out: Mapping[str, str]
    named: Mapping[str, str]
    rounds: int = 1

    def described(self, variants: Sequence[str]) -> Suite:
        return Suite(
            name=self.package.folder,
            modules=self.modules,
            factory_controls=dict.fromkeys(variants, "any-factory"),
            wrapper_controls=dict.fromkeys(variants, "any-wrapper"),
            wrapper="contextlib.nullcontext()",
            named=self.named,
            module_of=lambda test: next(module for module in self.modules if test.startswith(module)),
            part_of=lambda test: test.removesuffix(exit_of("")).partition("::")[0],
        )

    def runner(self, place: Place) -> Callable[[str, str, float], ModuleRun]:
        def run_module(mode: str, module: str, timeout: float) -> ModuleRun:
            return self._run(place, mode, module, timeout)

        return run_module

    def _run(self, place: Place, mode: str, module: str, timeout: float) -> ModuleRun:
        source, root = place.sources / self.package.folder, self.root(place)
        # Its name is short, for the paths of Unix sockets in it are limited.
        with tempfile.TemporaryDirectory(prefix="c-") as folder:
            outcomes = Path(folder, "outcomes.jsonl")
            command = [str(place.python), "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "compat_recording"]
            command += [f"--compat-outcomes={outcomes}", f"--compat-root={root}", f"--basetemp={folder}/t"]
            command += [f"--config-file={source / 'pyproject.toml'}", f"--rootdir={root}", *self.options, *no_ipv6()]
            command += [f"--deselect={test}" for test in self.left_out]
            command += [f"--ignore={root / other}" for other in self.modules if other.startswith(f"{module}/")]
            return run_process(
                [*command, str(root / module)],
                cwd=source,
                env=environment({"PYTEST_PLUGINS": "compat_injecting", "COMPAT_MODE": mode} if mode != "plain" else {}),
                timeout=timeout,
                outcomes=outcomes,
                module=module,
                complete=(0, 1),  # 1: some tests failed
            )


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """That of a suite's process. Bytecode is kept, as for any user: how long we compile is not what is timed."""
    path = os.pathsep.join(map(str, (PLUGINS, HERE.parents[1] / "src")))
    others = ("TASKSCOPE", "PYTEST_ADDOPTS", "PYTHONDONTWRITEBYTECODE")
    inherited = {name: value for name, value in os.environ.items() if name not in others}
    return {**inherited, "PYTHONPATH": path, **variables}


def no_ipv6() -> list[str]:
    return [] if has_ipv6() else ["-k", "not ipv6 and not dualstack"]


def has_ipv6() -> bool:
    """Whether localhost has an address of IPv6's. Without one many tests of AnyIO's fail and leave sockets behind, for
    which later ones are blamed.
    """
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("localhost", 0))
    except OSError:
        return False
    return True


ANYIO_LIBRARY = Library(
    package=Package(
        "anyio",
        "4.16.0",
        "59bb03251907983d1603d27c3087ddb1e93299ea2163adcdba37899a4fb12ffb",
        (
            "blockbuster>=1.5.29",
            "hypothesis>=6.100",
            "psutil>=5.9",
            "pytest>=9",
            "pytest-mock>=3.14",
            "pytest-timeout>=2.4",
            "trio>=0.32",
            "trustme>=1",
            "truststore>=0.9.1",
            "uvloop>=0.22.1; sys_platform != 'win32'",
        ),
    ),
    modules=(
        "tests/test_pytest_plugin.py",
        "tests/test_taskgroups.py",
        "tests/test_sockets.py",
        "tests/streams",
        "tests",
    ),
    root=lambda place: place.sources / "anyio-4.16.0",
    options=("-m", "not network"),
    left_out={
        "tests/test_lazyimport.py::test_sourceless_install": "installs packages from the network",
        "tests/test_sockets.py::TestUDPSocketBackpressure": (
            "waits until a datagram's buffer is full, which some kernels never let happen"
        ),
    },
    named=ANYIO,
)

TRIO_LIBRARY = Library(
    package=Package(
        "trio",
        "0.35.0",
        "7efb295c78a0ecd1235c5759e620b5da564ca80d2efcb0055423588547248b96",
        ("astor>=0.8", "async_generator>=1.9", "cryptography>=41", "pyOpenSSL>=22", "pytest>=8.4", "trustme>=1"),
    ),
    modules=("_core", "_tests"),
    root=lambda place: next((place.python.parents[1] / "lib").glob("python*/site-packages/trio")),
    options=("--skip-optional-imports",),
    left_out={},
    named=TRIO,
    rounds=10,  # it takes some seconds only
)

LIBRARIES = {"anyio": ANYIO_LIBRARY, "trio": TRIO_LIBRARY}
