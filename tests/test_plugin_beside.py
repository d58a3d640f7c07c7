"""The pytest plugin beside others: subtests, reruns, timeouts, workers, a random order."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from plugin.project import run_pytest
from plugin.strict import HELPERS, INI

from taskscope._policy import FIND

HAS_SUBTESTS = pytest.version_tuple >= (9, 0)

ASYNCIO = ("pytest_asyncio.plugin",)


SUBTESTS = (
    HELPERS
    + """
@pytest.mark.asyncio
async def test_leak(subtests):
    with subtests.test("first"):
        spawn()
    with subtests.test("second"):
        pass

@pytest.mark.asyncio
async def test_fails_and_leaks(subtests):
    with subtests.test("first"):
        spawn()
        assert 0
    with subtests.test("second"):
        pass

@pytest.mark.asyncio
async def test_clean(subtests):
    with subtests.test("first"):
        task = spawn()
        task.cancel()
        await asyncio.wait([task])

class Case(unittest.IsolatedAsyncioTestCase):
    async def test_case_leaks(self):
        with self.subTest("first"):
            spawn()
        with self.subTest("second"):
            pass

    async def test_case_fails_and_leaks(self):
        with self.subTest("first"):
            spawn()
            self.fail("my own")
        with self.subTest("second"):
            pass
"""
)


@pytest.mark.skipif(not HAS_SUBTESTS, reason="pytest has them from 9.0 on")
def test_subtests(tmp_path: Path) -> None:
    run = run_pytest(tmp_path, {"test_it.py": SUBTESTS}, "-rA", plugins=ASYNCIO, ini=INI)
    assert run.report is not None
    assert sorted(finding["nodeid"].rpartition("::")[2] for finding in run.report["findings"]) == [
        "test_case_fails_and_leaks",
        "test_case_leaks",
        "test_fails_and_leaks",
        "test_leak",
    ]
    assert run.phase("test_leak").outcome == "failed"
    assert "1 task outlived scope" in run.phase("test_leak").text
    assert run.phase("test_clean").outcome == "passed"
    assert "SUBFAILED[first] test_it.py::test_fails_and_leaks - assert 0" in run.output
    assert "my own" in run.output
    assert "FAILED test_it.py::Case::test_case_leaks" in run.output


RERUNS = (
    HELPERS
    + """
RUNS = []

@pytest.mark.asyncio
@pytest.mark.flaky(reruns=2)
async def test_goes_away():
    RUNS.append(1)
    if len(RUNS) < 2:
        spawn()

@pytest.mark.asyncio
@pytest.mark.flaky(reruns=1)
async def test_stays():
    spawn()

@pytest.mark.asyncio
async def test_clean():
    pass
"""
)


def test_reruns(tmp_path: Path) -> None:
    run = run_pytest(tmp_path, {"test_it.py": RERUNS}, plugins=(*ASYNCIO, "pytest_rerunfailures"), ini=INI)
    assert run.outcomes() == {"test_goes_away": "passed", "test_stays": "failed", "test_clean": "passed"}
    assert [finding["outcome"] for finding in run.findings_of("test_goes_away")] == ["rerun"]
    assert [finding["outcome"] for finding in run.findings_of("test_stays")] == ["rerun", "failed"]
    assert "test_goes_away (which was run again)" in run.output
    assert "1 failed, 2 passed, 2 rerun" in run.output


TIMEOUTS = (
    HELPERS
    + """
@pytest.mark.asyncio
@pytest.mark.timeout(1)
async def test_times_out():
    spawn()
    await asyncio.sleep(60)

@pytest.mark.asyncio
@pytest.mark.timeout(30)
async def test_is_proven_stuck_first():
    await asyncio.Event().wait()

@pytest.mark.asyncio
@pytest.mark.timeout(30)
async def test_leaks_in_time():
    spawn()

@pytest.mark.asyncio
async def test_next_one():
    await asyncio.sleep(0)
"""
)


def test_timeouts_by_signal(tmp_path: Path) -> None:
    run = run_pytest(tmp_path, {"test_it.py": TIMEOUTS}, plugins=(*ASYNCIO, "pytest_timeout"), ini=INI)
    assert run.outcomes()["test_next_one"] == "passed"
    assert re.search(r"Failed: Timeout \(?>1\.0s", run.phase("test_times_out").text)
    assert "could never have gone on" in run.phase("test_is_proven_stuck_first").text
    assert "1 task outlived scope" in run.phase("test_leaks_in_time").text
    assert {finding["nodeid"] for finding in run.findings_of("test_next_one")} == set()
    assert "INTERNALERROR" not in run.output


def test_timeouts_by_thread(tmp_path: Path) -> None:
    """That method ends the process, with all stacks."""
    run = run_pytest(
        tmp_path, {"test_it.py": TIMEOUTS}, "--timeout-method=thread", plugins=(*ASYNCIO, "pytest_timeout"), ini=INI
    )
    assert run.code == 1
    assert "+ Timeout +" in run.output
    others = tmp_path / "others"
    others.mkdir()
    arguments = ("--timeout-method=thread", "--deselect=test_it.py::test_times_out")
    run = run_pytest(others, {"test_it.py": TIMEOUTS}, *arguments, plugins=(*ASYNCIO, "pytest_timeout"), ini=INI)
    assert run.outcomes() == {
        "test_is_proven_stuck_first": "failed",
        "test_leaks_in_time": "failed",
        "test_next_one": "passed",
    }


MANY = (
    HELPERS
    + """
@pytest.mark.asyncio
@pytest.mark.parametrize("number", range(10))
async def test_number(number):
    if number % 3 == 0:
        spawn()

@pytest.mark.asyncio(loop_scope="class")
class TestClass:
    @pytest.mark.parametrize("number", range(6))
    async def test_method(self, number):
        if number % 3 == 0:
            spawn()

    async def test_clean_method(self):
        pass

@pytest.mark.taskscope(on_leak="ignore")
class TestMarked:
    @pytest.mark.asyncio
    async def test_ignored(self):
        spawn()

    @pytest.mark.asyncio
    @pytest.mark.taskscope(on_leak="raise")
    async def test_not_ignored(self):
        spawn()
"""
)
MANY_EXPECTED = {
    **{f"test_number[{number}]": "passed" if number % 3 else "failed" for number in range(10)},
    **{f"test_method[{number}]": "passed" if number % 3 else "failed" for number in range(6)},
    "test_clean_method": "passed",
    "test_ignored": "passed",
    "test_not_ignored": "failed",
}


@pytest.mark.parametrize(
    ("plugins", "arguments"),
    [
        ((), ()),
        (("xdist.plugin", "xdist.looponfail"), ("-n2",)),
        (("pytest_randomly",), ("--randomly-seed=1",)),
        (("pytest_randomly",), ("--randomly-seed=2",)),
        (("pytest_randomly", "xdist", "xdist.looponfail"), ("-n2", "--randomly-seed=3")),  # which knows it by name
    ],
    ids=["alone", "xdist", "randomly 1", "randomly 2", "randomly and xdist"],
)
def test_parameters_classes_and_any_order(plugins: tuple[str, ...], arguments: tuple[str, ...], tmp_path: Path) -> None:
    run = run_pytest(tmp_path, {"test_it.py": MANY}, *arguments, plugins=(*ASYNCIO, *plugins), ini=INI)
    assert run.outcomes() == MANY_EXPECTED
    assert run.report is not None
    failed = {f["owner"].rpartition("::")[2] for f in run.report["findings"] if f["outcome"] == "failed"}
    assert failed == {test for test, outcome in MANY_EXPECTED.items() if outcome == "failed"}
    assert all(finding["phase"] == "call" for finding in run.report["findings"])


def test_bad_marker_with_workers(tmp_path: Path) -> None:
    files = {"test_it.py": "import pytest\n\n@pytest.mark.taskscope(graze=1)\ndef test_it():\n    pass\n"}
    run = run_pytest(tmp_path, files, "-n2", plugins=("xdist.plugin", "xdist.looponfail"), ini=INI.splitlines()[1])
    assert run.code == pytest.ExitCode.TESTS_FAILED
    assert not run.outcomes()
    assert "INTERNALERROR" not in run.output
    assert "taskscope marker: graze=1: there is no such argument" in run.output


BLOCKBUSTER = """
import asyncio
import pytest
from blockbuster import blockbuster_ctx

@pytest.fixture(autouse=True)
def nothing_blocks():
    with blockbuster_ctx():
        yield

async def stay():
    await asyncio.sleep(60)

@pytest.fixture
async def leaking():
    yield asyncio.create_task(stay())

@pytest.mark.asyncio
async def test_leak():
    asyncio.create_task(stay())
    await asyncio.sleep(0)

@pytest.mark.asyncio
async def test_late():
    asyncio.create_task(asyncio.sleep(0.01))

@pytest.mark.asyncio
async def test_hang():
    await asyncio.Event().wait()

@pytest.mark.asyncio
async def test_with_fixture(leaking):
    pass

def test_sync_leak():
    async def main():
        asyncio.create_task(stay())
        await asyncio.sleep(0)
    asyncio.run(main())

@pytest.mark.asyncio
async def test_clean():
    await asyncio.sleep(0)
"""


@pytest.mark.parametrize("find", ["tasks", ", ".join(FIND)], ids=["tasks", "all"])
def test_a_checker_of_blocking_calls_has_nothing_to_say(tmp_path: Path, find: str) -> None:
    ini = f"taskscope = true\ntaskscope_grace = 0.1\ntaskscope_find = {find}\nasyncio_mode = auto"
    run = run_pytest(tmp_path, {"test_it.py": BLOCKBUSTER}, plugins=ASYNCIO, ini=ini)
    assert run.outcomes() == {
        "test_leak": "failed",
        "test_late": "passed",
        "test_hang": "failed",
        "test_with_fixture": "error",
        "test_sync_leak": "failed",
        "test_clean": "passed",
    }
    assert "BlockingError" not in run.output
    assert "await asyncio.sleep(60)" in run.phase("test_leak").text
    assert "could never have gone on" in run.phase("test_hang").text
    assert "1 task outlived" in run.phase("test_with_fixture", "teardown").text
