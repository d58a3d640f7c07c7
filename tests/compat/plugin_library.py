"""How the suite of another project is run with the pytest plugin, and without it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from compare import Suite
from libraries import PLUGINS, environment
from outcomes import ModuleRun, exit_of, run_process
from packages import Package, Place

WITH_US = "plugin"


@dataclass(frozen=True)
class Library:
    """A package and its suite.

    Attributes:
        package: Its requirements are those of the tests that run here.
        tests: Files and folders, relative to the root.
        options: pytest's options, in the place of those that the suite's own configuration adds.
        named: Its named exceptions.
        root: The folder of the package. None: that of the source distribution.
    """

    package: Package
    tests: Sequence[str] = ("tests",)
    options: Sequence[str] = ()
    named: Mapping[str, str] = field(default_factory=dict[str, str])
    root: Callable[[Place], Path] | None = None

    def described(self) -> Suite:
        """As one module."""
        return Suite(
            name=self.package.folder,
            modules=(self.package.name,),
            factory_controls={WITH_US: "any-factory"},
            wrapper_controls={},
            wrapper="",
            named=self.named,
            module_of=lambda test: self.package.name,
            part_of=lambda test: test.removesuffix(exit_of("")).partition("::")[0],
        )

    def runner(self, place: Place, report: Path, find: str | None = None) -> Callable[[str, str, float], ModuleRun]:
        """report: the file that gets what the plugin finds when it runs with the whole suite.
        find: what it looks for, as its option has it. None: tasks alone.
        """
        source = place.sources / self.package.folder
        root = source if self.root is None else self.root(place)

        def run(mode: str, module: str, timeout: float) -> ModuleRun:
            is_whole = module == self.package.name
            # Its name is short, for the paths of Unix sockets in it are limited.
            with tempfile.TemporaryDirectory(prefix="c-") as folder:
                outcomes = Path(folder, "outcomes.jsonl")
                command = [str(place.python), "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "compat_recording"]
                command += [f"--compat-outcomes={outcomes}", f"--compat-root={root}", f"--basetemp={folder}/t"]
                command += [f"--rootdir={root}", "--override-ini=addopts=", *self.options]
                if mode == WITH_US:
                    command += ["-p", "taskscope.pytest_plugin._entry", "--taskscope", "--taskscope-on-leak=summary"]
                    command += [f"--taskscope-report={report}"] if is_whole else []
                    command += [] if find is None else [f"--taskscope-find={find}"]
                control = {"PYTEST_PLUGINS": "compat_injecting", "COMPAT_MODE": mode} if mode == "any-factory" else {}
                return run_process(
                    [*command, *(str(root / test) for test in (self.tests if is_whole else [module]))],
                    cwd=source,
                    env=environment({"PYTHONPATH": str(PLUGINS), **control}),
                    timeout=timeout,
                    outcomes=outcomes,
                    module=module,
                    complete=(0, 1),  # 1: some tests failed
                )

        return run
