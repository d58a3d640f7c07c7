"""The ways in which async tests are run: how a test and a fixture are written for each."""

from __future__ import annotations

import importlib.util
import sys
import textwrap
from dataclasses import dataclass

import anyio.pytest_plugin

SCOPES = ("function", "class", "module", "package", "session")

_ON_ASYNCIO = """
    import asyncio
    import pytest

    async def forever():
        await asyncio.Event().wait()

    async def hang():
        await asyncio.Event().wait()

    async def spawn():
        return asyncio.create_task(forever())  # spawned here

    async def end(task):
        task.cancel()
        await asyncio.wait([task])
"""

# What is spawned into a nursery ends with it, so what a test can leave on Trio is a system task in its context.
_ON_TRIO = """
    import contextvars
    import pytest
    import trio

    class Handle:
        def __init__(self):
            self.scope, self.over = trio.CancelScope(), trio.Event()

    async def forever(handle):
        with handle.scope:
            await trio.Event().wait()
        handle.over.set()

    async def hang():
        await trio.Event().wait()

    async def spawn():
        handle, here = Handle(), contextvars.copy_context()
        trio.lowlevel.spawn_system_task(forever, handle, context=here)  # spawned here
        return handle

    async def end(handle):
        handle.scope.cancel()
        await handle.over.wait()
"""


@dataclass(frozen=True)
class Runner:
    """One way.

    Attributes:
        plugins: Names of the plugins that pytest loads, beside ours.
        ini: Lines of its configuration.
        helpers: Imports, and `forever`, `hang`, `spawn` and `end` for its library.
        test: Decorators of a test.
        fixture: The decorator of a fixture, with `{scope}` in it.
        scopes: The scopes that its async fixtures can have.
        call: How a test that is no coroutine function runs one. None: tests are coroutine functions.
    """

    name: str
    plugins: tuple[str, ...] = ()
    ini: str = ""
    helpers: str = _ON_ASYNCIO
    test: str = ""
    fixture: str = '@pytest.fixture(scope="{scope}")'
    scopes: tuple[str, ...] = SCOPES
    call: str | None = None
    conftest: str = ""

    def module(self, body: str) -> str:
        return textwrap.dedent(self.helpers) + body

    def test_function(self, name: str, arguments: str, lines: str, marks: str = "") -> str:
        """The text of a test."""
        head = f"{marks}\n{self.test}\n"
        if self.call is None:
            return f"{head}async def {name}({arguments}):\n{textwrap.indent(lines, '    ')}\n"
        body = textwrap.indent(lines, "        ")
        return f"{head}def {name}({arguments}):\n    async def main():\n{body}\n    {self.call}\n"

    def fixture_function(self, name: str, scope: str, *, leaks: bool) -> str:
        """The text of a fixture that spawns a task and ends it, or does not."""
        head = self.fixture.format(scope=scope)
        if self.call is not None:
            after = "" if leaks else "\n        runner.run(end(task))"
            return (
                f"{head}\ndef {name}():\n    with asyncio.Runner() as runner:\n        task = runner.run(spawn())\n"
                f"        yield{after}\n"
            )
        after = "" if leaks else "\n    await end(task)"
        return f"{head}\nasync def {name}(ANYIO):\n    task = await spawn()\n    yield{after}\n".replace(
            "ANYIO", "anyio_backend" if "anyio_backend" in self.conftest else ""
        )


def _anyio(name: str, backend: str, *, mode: str = "strict", helpers: str = _ON_ASYNCIO) -> Runner:
    return Runner(
        name,
        ("anyio.pytest_plugin",),
        "" if mode == "strict" else f"anyio_mode = {mode}",
        helpers,
        "@pytest.mark.anyio" if mode == "strict" else "",
        conftest=f"""
            import pytest
            import taskscope

            @pytest.fixture(scope="session")
            def anyio_backend():
                return {backend}
            """,
    )


def _asyncio(name: str, mode: str, loop_scope: str) -> Runner:
    scope = '"{scope}"' if loop_scope == "function" else f'"{loop_scope}"'
    return Runner(
        name,
        ("pytest_asyncio.plugin",),
        f"asyncio_mode = {mode}\nasyncio_default_fixture_loop_scope = {loop_scope}",
        _ON_ASYNCIO + "    import pytest_asyncio\n",
        f'@pytest.mark.asyncio(loop_scope="{loop_scope}")',
        (
            f'@pytest_asyncio.fixture(scope="{{scope}}", loop_scope={scope})'
            if mode == "strict"
            else '@pytest.fixture(scope="{scope}")'
        ),
        scopes=SCOPES if loop_scope == "session" or mode == "strict" else ("function",),
    )


def all_runners() -> list[Runner]:
    runners = [
        _asyncio("pytest-asyncio strict", "strict", "function"),
        _asyncio("pytest-asyncio auto", "auto", "function"),
        _asyncio("pytest-asyncio session loop", "strict", "session"),
        _asyncio("pytest-asyncio auto, session loop", "auto", "session"),
        _anyio("anyio asyncio", '"asyncio"'),
        _anyio("anyio debug", '("asyncio", {"debug": True})'),
        _anyio("anyio trio", '"trio"', helpers=_ON_TRIO),
        _anyio("anyio_backends trio", 'taskscope.anyio_backends("trio")[0]', helpers=_ON_TRIO),
        Runner("pytest-trio", ("pytest_trio.plugin",), "trio_mode = true", _ON_TRIO, scopes=()),
        Runner(
            "pytest-aiohttp",
            ("pytest_asyncio.plugin", "pytest_aiohttp.plugin"),
            "asyncio_mode = auto\nasyncio_default_fixture_loop_scope = function",
            scopes=("function",),
        ),
        Runner("sync asyncio.run", call="asyncio.run(main())"),
        Runner("sync anyio.run", helpers=_ON_ASYNCIO + "    import anyio\n", call="anyio.run(main)"),
        Runner(
            "sync anyio.run trio",
            helpers=_ON_TRIO + "    import anyio\n",
            call='anyio.run(main, backend="trio")',
            scopes=(),
        ),
        Runner("sync trio.run", helpers=_ON_TRIO + "    from trio import run\n", call="run(main)", scopes=()),
    ]
    if hasattr(anyio.pytest_plugin, "_is_auto_mode"):  # the first versions that we support have no such mode
        runners.append(_anyio("anyio auto mode", '"asyncio"', mode="auto"))
    if importlib.util.find_spec("uvloop") is not None:
        runners += [
            _anyio("anyio uvloop", '("asyncio", {"use_uvloop": True})'),
            _anyio("anyio_backends uvloop", 'taskscope.anyio_backends("uvloop")[0]'),
        ]
    if sys.version_info >= (3, 12):
        runners.append(_anyio("anyio_backends eager", 'taskscope.anyio_backends("eager")[0]'))
    return runners
