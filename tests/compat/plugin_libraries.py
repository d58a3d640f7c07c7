"""Suites of other projects that are run with the pytest plugin."""

from __future__ import annotations

from libraries import ANYIO_LIBRARY, TRIO_LIBRARY, no_ipv6
from named_exceptions import AIOJOBS
from packages import Package
from plugin_library import Library

# What taskscope and the tool need.
_NEEDS = ("anyio>=4.5", "pytest>=9", "trio>=0.27")

_ALL = (
    Library(
        ANYIO_LIBRARY.package,
        options=(*ANYIO_LIBRARY.options, *no_ipv6(), *(f"--deselect={test}" for test in ANYIO_LIBRARY.left_out)),
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
            "async_lru",
            "2.4.0",
            "b0b0077d9b7596615b3c12d0aad4f6aeccaaa0ac75ceae472608ede89e764c08",
            (*_NEEDS, "pytest-asyncio>=1.1", "pytest-timeout>=2.4"),
        ),
        options=("--asyncio-mode=auto", "--override-ini=asyncio_default_fixture_loop_scope=function"),
    ),
    Library(
        Package(
            "gql",
            "4.4.0",
            "e54fe470d51347ceb46a04fc88c5553695d2d8c86b05bef13aeee8b8f2d5f61a",
            (
                *_NEEDS,
                "gql[all]",
                "aiofiles>=24",
                "parse>=1.20",
                "pytest-asyncio>=1.1",
                "pytest-console-scripts>=1.3",
                "vcrpy>=7",
                "websockets<15",
            ),
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
            "httpx",
            "0.28.1",
            "75e98c5f16b0f35b567856f597f06ff2270a374470a5c2392242528e3e3e42fc",
            (*_NEEDS, "httpx[brotli,cli,http2,socks,zstd]", "chardet>=5", "trustme>=1", "uvicorn>=0.30"),
        ),
    ),
    Library(
        Package(
            "hypercorn",
            "0.18.0",
            "d63267548939c46b0247dc8e5b45a9947590e35e64ee73a23c074aa3cf88e9da",
            (
                *_NEEDS,
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
            "kopf",  # its loops have a time of their own
            "1.45.2",
            "5baa180cfdebe1c5095d2a0a96d7d91825b6920541a0825c55719c36abb0054f",
            (
                *_NEEDS,
                "certbuilder>=0.14",
                "certvalidator>=0.11",
                "freezegun>=1.5",
                "kmock>=0.5",
                "looptime>=0.8",
                "pyngrok>=7",
                "pytest-aiohttp>=1.1",
                "pytest-asyncio>=1.1",
                "pytest-mock>=3.15",
                "pytest-timeout>=2.4",
            ),
        ),
        options=("--looptime", "--ignore=tests/e2e", "--ignore=tests/admission/test_certificates.py"),
    ),
    Library(
        Package(
            "mcp",
            "2.3.0",
            "8b147a50441cf059dc88c684e0aeed3687f0aa0f39c6cde7b90330effd2b34d8",
            (
                *_NEEDS,
                "mcp[cli]",
                "blockbuster>=1.5.27",
                "coverage>=7.10",
                "dirty-equals>=0.9",
                "inline-snapshot>=0.23",
                "logfire>=3",
                "opentelemetry-sdk>=1.39",
                "pillow>=12",
                "pydantic-settings>=2.5",
                "pytest-examples>=0.0.14",
                "pytest-flakefinder>=1.1",
                "pytest-xdist>=3.6",
            ),
        ),
        options=("-p", "anyio", *(f"--ignore=tests/{folder}" for folder in ("docs", "docs_src", "examples"))),
    ),
    Library(
        Package(
            "python_engineio",
            "4.15.1",
            "1a412e798a90c64fabe7b20798939ae6d4a03f34da8a33d5a21a25a8bbbc3612",
            (
                *_NEEDS,
                "aiohttp>=3.14",
                "pytest-asyncio>=1.1",
                "requests>=2.32",
                "simple-websocket>=1",
                "tornado>=6.5",
                "websocket-client>=1.8",
            ),
        ),
        options=("--asyncio-mode=auto",),
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
        TRIO_LIBRARY.package,
        tests=TRIO_LIBRARY.modules,
        options=(
            "--config-file=pyproject.toml",
            "--import-mode=importlib",
            "-p",
            "trio._tests.pytest_plugin",
            "--run-slow",
            *TRIO_LIBRARY.options,
        ),
        root=TRIO_LIBRARY.root,
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
