"""Suites of other projects that are run with the pytest plugin, and how each of them is run."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from compare import Suite
from libraries import ANYIO_LIBRARY, PLUGINS, environment, no_ipv6
from named_exceptions import AIOJOBS
from outcomes import ModuleRun, exit_of, run_process
from packages import Package, Place

WITH_US = "plugin"


@dataclass(frozen=True)
class Library:
    """A package and its suite.

    Attributes:
        package: Its requirements are those of the tests that run here.
        tests: Files and folders, relative to the source distribution.
        options: pytest's options, in the place of those that the suite's own configuration adds.
        named: Its named exceptions.
    """

    package: Package
    tests: Sequence[str] = ("tests",)
    options: Sequence[str] = ()
    named: Mapping[str, str] = field(default_factory=dict[str, str])

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

        def run(mode: str, module: str, timeout: float) -> ModuleRun:
            is_whole = module == self.package.name
            # Its name is short, for the paths of Unix sockets in it are limited.
            with tempfile.TemporaryDirectory(prefix="c-") as folder:
                outcomes = Path(folder, "outcomes.jsonl")
                command = [str(place.python), "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "compat_recording"]
                command += [f"--compat-outcomes={outcomes}", f"--compat-root={source}", f"--basetemp={folder}/t"]
                command += ["--override-ini=addopts=", *self.options]
                if mode == WITH_US:
                    command += ["-p", "taskscope.pytest_plugin._entry", "--taskscope", "--taskscope-on-leak=summary"]
                    command += [f"--taskscope-report={report}"] if is_whole else []
                    command += [] if find is None else [f"--taskscope-find={find}"]
                control = {"PYTEST_PLUGINS": "compat_injecting", "COMPAT_MODE": mode} if mode == "any-factory" else {}
                return run_process(
                    [*command, *(self.tests if is_whole else [module])],
                    cwd=source,
                    env=environment({"PYTHONPATH": str(PLUGINS), **control}),
                    timeout=timeout,
                    outcomes=outcomes,
                    module=module,
                    complete=(0, 1),  # 1: some tests failed
                )

        return run


# What taskscope and the tool need.
_NEEDS = ("anyio>=4.5", "pytest>=9", "trio>=0.27")

_ALL = (
    Library(
        ANYIO_LIBRARY.package,
        options=(*ANYIO_LIBRARY.options, *no_ipv6(), *(f"--deselect={test}" for test in ANYIO_LIBRARY.left_out)),
        named=ANYIO_LIBRARY.named,
    ),
    Library(
        Package(
            "aiohttp",
            "3.14.5",
            "5558a7f5a05af9ecf744af91e5baefc436f93c9333e656c27ec253f9a6bbe178",
            (
                *_NEEDS,
                "aiodns>=3.3",
                "blockbuster>=1.5.29",
                "brotli>=1.2",
                "coverage>=7",
                "freezegun>=1.5",
                "gunicorn>=23",
                "isal>=1.7",
                "proxy.py>=2.4.10",
                "pytest-mock>=3.14",
                "pytest-timeout>=2.4",
                "trustme>=1",
                "uvloop>=0.22.1",
                "zlib-ng>=1",
            ),
            {"AIOHTTP_NO_EXTENSIONS": "1"},
        ),
        # Those that have a client or a server run. All of them take a quarter of an hour.
        tests=(
            "tests/test_client_functional.py",
            "tests/test_client_session.py",
            "tests/test_client_ws_functional.py",
            "tests/test_connector.py",
            "tests/test_proxy_functional.py",
            "tests/test_run_app.py",
            "tests/test_test_utils.py",
            "tests/test_web_functional.py",
            "tests/test_web_runner.py",
            "tests/test_web_server.py",
            "tests/test_web_websocket_functional.py",
        ),
        options=("-m", "not dev_mode and not autobahn and not internal"),
    ),
    Library(
        Package(
            "aiojobs",
            "1.4.0",
            "463665c75d1fcc46c78d44375c1034abf5e3f087894b0fc5ec4dd16ef90fdc98",
            (*_NEEDS, "aiohttp>=3.14", "pytest-aiohttp>=1.1", "pytest-asyncio>=1.1"),
        ),
        options=("--asyncio-mode=auto",),
        named=AIOJOBS,
    ),
    Library(
        Package(
            "aiosqlite",  # its tests are those of unittest
            "0.22.1",
            "043e0bd78d32888c0a9ca90fc788b38796843360c855a7262a532813133a0650",
            _NEEDS,
        ),
        tests=("aiosqlite/tests/smoke.py",),
    ),
    Library(
        Package(
            "asgiref",
            "3.13.0",
            "034cc8cbf72d00553b4be256703ac545120b4e50af13b49dec99da899aeeecb4",
            (*_NEEDS, "pytest-asyncio>=1.1"),
        ),
    ),
    Library(
        Package(
            "httpcore",
            "1.0.9",
            "6e34463af53fd2ab5d807f399a9b45ea31c3dfa2276f15a2c3f00afff6e176e8",
            (*_NEEDS, "h2>=3", "hpack>=4", "pytest-httpbin>=2", "pytest-trio>=0.8", "socksio>=1"),
        ),
    ),
    Library(
        Package(
            "hypercorn",
            "0.18.0",
            "d63267548939c46b0247dc8e5b45a9947590e35e64ee73a23c074aa3cf88e9da",
            (
                *_NEEDS,
                "h2<4.3",
                "httpx>=0.28",
                "hypothesis>=6.100",
                "mock>=5",
                "pytest-asyncio>=1.1",
                "pytest-trio>=0.8",
            ),
        ),
    ),
    Library(
        Package(
            "starlette",
            "1.10.0",
            "b8399098d4c1e3522734f7235dc79b1fc967f96cf139c81e0fa30479e0685f9b",
            (
                *_NEEDS,
                "blockbuster>=1.5.23",
                "httpx>=0.28",
                "httpx2[zstd]>=2",
                "importlib-metadata>=9",
                "itsdangerous>=2",
                "jinja2>=3.1",
                "opentelemetry-sdk>=1.44",
                "python-multipart>=0.0.18",
                "pytest-codspeed>=4.1.1",
                "pyyaml>=6",
            ),
        ),
    ),
    Library(
        Package(
            "tornado",  # its tests are those of unittest, on loops of its own
            "6.6.1",
            "28e6311402af59c8b02e3fa0f5e7d8eb465b25081381803b127d97e6a4395d5a",
            _NEEDS,
        ),
        tests=("tornado/test",),
    ),
    Library(
        Package(
            "tricycle",
            "0.4.1",
            "f56edb4b3e1bed3e2552b1b499b24a2dab47741e92e9b4d806acc5c35c9e6066",
            (*_NEEDS, "pytest-trio>=0.8"),
        ),
        tests=("tricycle/_tests",),
    ),
    Library(
        Package(
            "trio_websocket",
            "0.12.2",
            "22c72c436f3d1e264d0910a3951934798dcc5b00ae56fc4ee079d46c7cf20fae",
            (*_NEEDS, "attrs>=19.2", "pytest-trio>=0.8", "trustme>=1"),
        ),
        options=("--override-ini=trio_mode=true",),
    ),
    Library(
        Package(
            "uvicorn",
            "0.54.0",
            "a2e33cbfaa0306f8e6b0c13e0cb89d7d7a2da3e62b90c66e18c33d9807b28620",
            (
                *_NEEDS,
                "a2wsgi>=1.10.10",
                "cryptography>=44",
                "httptools>=0.6.3",
                "httpx2",
                "pytest-codspeed>=4.1.1",
                "pytest-mock>=3.15",
                "python-dotenv>=1",
                "pyyaml>=6",
                "trustme>=1.2",
                "uvloop>=0.22.1",
                "watchfiles>=1",
                "websockets>=13",
                "wsproto>=1.3",
            ),
        ),
        options=("--ignore=tests/benchmarks",),
    ),
    Library(
        Package(
            "zeroconf",
            "0.154.0",
            "830315497af9bbd75924c2218cd3b64f0bde0e808ee316aabb5d9288836c0c43",
            (
                *_NEEDS,
                "blockbuster>=1.5.29",
                "hypothesis>=6.168",
                "pytest-asyncio>=1.4.1,<1.5",
                "pytest-codspeed>=5",
                "pytest-timeout>=2.4",
            ),
            {"SKIP_CYTHON": "1"},
        ),
        options=("--ignore=tests/benchmarks",),
    ),
)

LIBRARIES = {library.package.name: library for library in _ALL}
