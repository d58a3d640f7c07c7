"""A loop that is asleep: what leaves are waited for in vain there, and what shows that something can still happen."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from asleep_loops import ASLEEP, AWAKE
from plugin.project import run_pytest


@pytest.fixture(scope="module")
def answers() -> dict[str, bool]:
    command = [sys.executable, str(Path(__file__).with_name("asleep_loops.py"))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    found: dict[str, bool] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("name", [*(happen.__name__ for happen in ASLEEP), "nothing, again"])
def test_a_loop_is_asleep(answers: dict[str, bool], name: str) -> None:
    assert answers[name]


@pytest.mark.parametrize("name", [*(happen.__name__ for happen in AWAKE), "own loop"])
def test_a_loop_is_not_asleep_where_something_can_happen_or_nobody_knows(answers: dict[str, bool], name: str) -> None:
    assert not answers[name]


def test_nothing_is_said_of_uvloops(answers: dict[str, bool]) -> None:
    pytest.importorskip("uvloop")
    assert not answers["uvloop"]


LEAVES = """
    import asyncio
    import threading

    import pytest

    KEPT = []  # whoever has this can wake them, so that nothing is proven

    async def wait():
        event = asyncio.Event()
        KEPT.append(event)
        await event.wait()

    @pytest.mark.taskscope(grace=60)
    async def test_leaves():
        asyncio.create_task(wait())
        await asyncio.sleep(0)

    @pytest.mark.taskscope(grace=60)
    async def test_leaves_what_a_thread_ends():
        asyncio.create_task(wait())
        await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        timer = threading.Timer(0.3, lambda: loop.call_soon_threadsafe(KEPT[-1].set))
        timer.start()

    @pytest.mark.taskscope(grace=60)
    async def test_leaves_what_a_timer_ends():
        asyncio.create_task(wait())
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(0.3, KEPT[-1].set)
"""


@pytest.mark.parametrize("options", [(), ("-n", "1")])
def test_no_grace_is_spent_where_the_loop_sleeps(options: tuple[str, ...], tmp_path: Path) -> None:
    run = run_pytest(
        tmp_path,
        {"test_it.py": LEAVES},
        *options,
        *("-p", "no:faulthandler"),  # or the timeout that these runs have comes with a thread
        plugins=("pytest_asyncio.plugin", *(["xdist.plugin"] if options else [])),
        ini="taskscope = true\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n",
    )
    outcomes = {name.rpartition("::")[2]: outcome for name, outcome in run.outcomes().items()}
    assert outcomes == {
        "test_leaves": "failed",
        "test_leaves_what_a_thread_ends": "passed",
        "test_leaves_what_a_timer_ends": "passed",
    }, run.output
    assert run.report is not None
    (finding,) = run.report["findings"]
    assert finding["report"]["settled_after"] < 30
