"""What the pytest plugin finds when no test is left that could fail for it, and a report that cannot be written."""

from __future__ import annotations

from pathlib import Path

import pytest
from plugin.project import run_pytest

# A fixture that is torn down in the setup of a test that has nothing to do with it.
UNBLAMED = """
    import asyncio
    import pytest

    async def forever():
        await asyncio.Event().wait()

    async def start():
        asyncio.create_task(forever())

    @pytest.fixture(params=[1, 2], scope="module")
    def parametrised(request):
        with asyncio.Runner() as runner:
            if request.param == 1:
                runner.run(start())
            yield

    def test_it(parametrised):
        pass
    """
# One that is torn down when the run is over, for that was stopped.
STOPPED = """
    import asyncio
    import pytest

    async def forever():
        await asyncio.Event().wait()

    async def start():
        asyncio.create_task(forever())

    @pytest.fixture(scope="session")
    def service():
        with asyncio.Runner() as runner:
            runner.run(start())
            yield

    def test_it(service):
        STOP

    def test_other(service):
        pass
    """


@pytest.mark.parametrize("workers", [0, 1])
def test_leak_for_which_no_test_fails_fails_the_run(workers: int, tmp_path: Path) -> None:
    xdist = ("xdist.plugin", "xdist.looponfail") if workers else ()
    arguments = ("-n1",) if workers else ()
    run = run_pytest(tmp_path, {"test_it.py": UNBLAMED}, *arguments, plugins=xdist, ini="taskscope = true")
    assert run.report is not None
    assert set(run.outcomes().values()) == {"passed"}
    assert [(found["owner"], found["outcome"], found["nodeid"]) for found in run.report["findings"]] == [
        ("fixture parametrised", "failed", "test_it.py::test_it[1]")
    ]
    assert run.code == 1
    assert "No test has failed for 1 of these tasks" in run.output
    assert "TaskLeakWarning" in run.output


@pytest.mark.parametrize("arguments", [(), ("-n1",), ("--taskscope-on-leak=summary",)])
@pytest.mark.parametrize("how", ["raise KeyboardInterrupt", "pytest.exit('enough')"])
def test_what_is_found_after_the_last_test_is_told(arguments: tuple[str, ...], how: str, tmp_path: Path) -> None:
    xdist = ("xdist.plugin", "xdist.looponfail") if "-n1" in arguments else ()
    files = {"test_it.py": STOPPED.replace("STOP", how)}
    run = run_pytest(tmp_path, files, *arguments, plugins=xdist, ini="taskscope = true")
    assert run.report is not None, run.output
    outcome = "told" if "--taskscope-on-leak=summary" in arguments else "failed"
    assert [
        (found["owner"], found["outcome"], found["phase"], found["worker"]) for found in run.report["findings"]
    ] == [("fixture service", outcome, "end", "gw0" if xdist else None)], run.output
    assert "1 test or fixture has left 1 task behind" in run.output
    assert "in fixture service" in run.output
    assert ("the run fails instead" in run.output) == (outcome == "failed")
    assert "INTERNALERROR" not in run.output


def test_report_survives_a_test_that_changes_the_folder(tmp_path: Path) -> None:
    files = {"test_it.py": "import os\n\ndef test_it(tmp_path):\n    os.chdir(tmp_path)\n"}
    run = run_pytest(tmp_path, files, ini="taskscope = true")
    assert run.report is not None


def test_report_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    files = {"test_it.py": "import pathlib\n\ndef test_it():\n    pathlib.Path('sub').rmdir()\n"}
    (tmp_path / "sub").mkdir()
    run = run_pytest(tmp_path, files, "--taskscope-report=sub/report.json", ini="taskscope = true", report=False)
    assert "--taskscope-report: it could not be written: " in run.output
    assert "INTERNALERROR" not in run.output
