"""The pytest plugin leaves nothing: not where it is switched off, and not when a run is over."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from plugin.project import environment, run_pytest

# What it notes from before the plugin is loaded until after all must have been given back, in one process.
PROBE_OF_PATCHES = """
import asyncio, json, sys
import pytest

def state():
    trio = sys.modules.get("trio")
    return {
        "run": asyncio.Runner.run.__module__,
        "close": [asyncio.Runner.close.__module__, asyncio.runners._cancel_all_tasks.__module__],
        "asyncio": [function.__code__.co_filename for function in (
            asyncio.Runner.run,
            asyncio.Runner._lazy_init,
            asyncio.runners._cancel_all_tasks,
            asyncio.BaseEventLoop.run_until_complete,
            asyncio.BaseEventLoop.run_forever,
            asyncio.BaseEventLoop._check_running,
            asyncio.BaseEventLoop._set_coroutine_origin_tracking,
            asyncio.selector_events.BaseSelectorEventLoop.close,
        )],
        "trio": trio and [trio.run.__code__.co_filename, trio._core._run.unrolled_run.__code__.co_filename],
        "finders": [type(finder).__qualname__ for finder in sys.meta_path],
    }

import trio
before = state()
during = []
loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)

class Probe:
    def pytest_runtest_call(self, item):
        during.append(state())
        during[-1]["finders"].remove("AssertionRewritingHook")
        during[-1]["obj"] = item.obj.__module__ + "." + item.obj.__qualname__

    def pytest_fixture_setup(self, fixturedef):
        if fixturedef.argname == "held":
            during.append({"fixture": fixturedef.func.__code__.co_filename})

plugins = ["-p", "taskscope", "-p", "pytest_asyncio.plugin", "-p", "no:cacheprovider"]
code = pytest.main([*plugins, *sys.argv[1:]], [Probe()])

ours = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "taskscope"}
from taskscope._table import tag
import test_it
print("PROBE", json.dumps({
    "code": code, "given back": state() == before, "untouched": all(
        {**found, **before} == found for found in during if "run" in found),
    "objs": [found["obj"] for found in during if "obj" in found],
    "fixture": [found["fixture"] for found in during if "fixture" in found],
    "factories": test_it.FACTORIES, "closes": test_it.CLOSES,
    "kept": [str(kept.get_task_factory()) for kept in test_it.LOOPS if not kept.is_closed()],
    "kept closes": ["close" in vars(kept) for kept in test_it.LOOPS if not kept.is_closed()],
    "tag": repr(tag.get(None)),
    "modules": sorted(ours),
    "rewritten": sorted(name for name, module in ours.items() if "Rewriting" in type(module.__loader__).__name__),
}))
for kept in test_it.LOOPS:
    kept.close()
"""
TEST_OF_PATCHES = """
import asyncio
import pytest
import pytest_asyncio

FACTORIES, CLOSES, LOOPS = [], [], []

@pytest_asyncio.fixture
async def held():
    yield

@pytest.fixture(scope="session")
def kept_loop():
    LOOPS.append(asyncio.new_event_loop())
    return LOOPS[0]

@pytest.mark.asyncio
async def test_it(held):
    loop = asyncio.get_running_loop()
    FACTORIES.append(loop.get_task_factory() is not None)
    CLOSES.append("close" in vars(loop))

def test_kept_loop(kept_loop):
    FACTORIES.append(kept_loop.get_task_factory() is not None)
    CLOSES.append("close" in vars(kept_loop))
"""


OURS = "taskscope/pytest_plugin"
MODULES_WHEN_OFF = [
    "taskscope",
    "taskscope._off",
    "taskscope._policy",
    "taskscope.pytest_plugin",
    "taskscope.pytest_plugin._entry",
    "taskscope.pytest_plugin._options",
    "taskscope.pytest_plugin._values",
]


def _probe(folder: Path, *arguments: str, **variables: str) -> dict[str, Any]:
    (folder / "test_it.py").write_text(TEST_OF_PATCHES, "utf-8")
    (folder / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n", "utf-8")
    done = subprocess.run(
        [sys.executable, "-c", PROBE_OF_PATCHES, *arguments],
        cwd=folder,
        env={**environment(folder), **variables},
        capture_output=True,
        text=True,
        timeout=60,
    )
    line = next((line for line in done.stdout.splitlines() if line.startswith("PROBE ")), None)
    assert line is not None, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(line.removeprefix("PROBE "))
    assert found["code"] == 0, done.stdout
    return found


@pytest.mark.parametrize("arguments", [(), ("--taskscope", "--no-taskscope")], ids=["never on", "switched off"])
def test_switched_off_leaves_nothing(arguments: tuple[str, ...], tmp_path: Path) -> None:
    found = _probe(tmp_path, *arguments)
    assert found["untouched"]
    assert found["given back"]
    assert found["factories"] == [False, False]
    assert found["closes"] == [False, False]
    assert OURS not in str(found["objs"])
    assert OURS not in str(found["fixture"])
    assert found["modules"] == MODULES_WHEN_OFF


def test_all_is_given_back(tmp_path: Path) -> None:
    found = _probe(tmp_path, "--taskscope")
    assert not found["untouched"], "the probe sees what the plugin does"
    assert found["factories"] == [True, True]
    assert found["given back"]
    assert found["kept"] == ["None"]
    assert found["kept closes"] == [False]
    assert found["tag"] == "None"


def test_a_clean_run_loads_nothing_that_is_for_leaks(tmp_path: Path) -> None:
    loaded = set(_probe(tmp_path, "--taskscope", "--taskscope-on-leak=summary")["modules"])
    assert "taskscope._scope" in loaded
    looking = {name for name in loaded if name.startswith(("taskscope._diagnosis.", "taskscope._findings"))}
    assert looking == {f"taskscope._diagnosis.{name}" for name in ("awaitables", "collector", "opaque", "safely")}
    assert loaded.isdisjoint({"taskscope._closing", "taskscope._render", "taskscope._backends._trio"})
    assert loaded.isdisjoint(f"taskscope.pytest_plugin.{name}" for name in ("_claiming", "_reach", "_terminal"))


def test_pytest_rewrites_no_more_than_what_it_loads_when_off(tmp_path: Path) -> None:
    found = _probe(tmp_path, "--taskscope")
    assert "taskscope._scope" in found["modules"]
    assert set(found["rewritten"]) <= {*MODULES_WHEN_OFF, "taskscope.pytest_plugin._own_modules"}


def test_environment_switches_it_off(tmp_path: Path) -> None:
    found = _probe(tmp_path, "--taskscope", "--taskscope-grace=1", TASKSCOPE="off")
    assert found["untouched"]
    assert found["factories"] == [False, False]


def test_nothing_is_found_when_off(tmp_path: Path) -> None:
    leaking = """
        import asyncio

        async def forever():
            await asyncio.Event().wait()

        def test_leak():
            async def main():
                asyncio.create_task(forever())
            asyncio.run(main())
        """
    run = run_pytest(tmp_path, {"test_it.py": leaking}, report=False)
    assert run.outcomes() == {"test_leak": "passed"}
    on = tmp_path / "on"
    on.mkdir()
    assert run_pytest(on, {"test_it.py": leaking}, "--taskscope").outcomes() == {"test_leak": "failed"}
