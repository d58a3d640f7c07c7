"""`python -m benchmarks`: that it measures what it says. How fast anything is, it tells; no test does."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import taskscope

ROOT = Path(__file__).parent.parent
SOURCES = Path(taskscope.__file__).parent.parent
WIDTH = 110

Done = subprocess.CompletedProcess[str]


def run_benchmarks(*arguments: str, start: tuple[str, ...] = ("-m", "benchmarks"), **environment: str) -> Done:
    inherited = {name: value for name, value in os.environ.items() if name != "TASKSCOPE"}
    return subprocess.run(
        [sys.executable, *start, *arguments],
        cwd=ROOT,
        env={**inherited, "PYTHONPATH": str(SOURCES), **environment},
        capture_output=True,
        text=True,
    )


def run_and_read(directory: Path, only: str) -> tuple[dict[str, Any], str]:
    file = directory / "figures.json"
    done = run_benchmarks("--quick", "--only", only, "--json", str(file))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(file.read_text()), done.stdout


def test_spawning_has_samples_and_ratios_to_the_same_round(tmp_path: Path) -> None:
    data, _ = run_and_read(tmp_path, "spawn from within 1,000 tasks, empty body")
    rows = {row["subject"]: row for row in data["rows"]}
    baseline = rows["asyncio"]
    assert {"taskscope", 'taskscope, spawn_site="stack"', "asyncio.TaskGroup"} < set(rows)
    assert baseline["ratios"] == []
    assert baseline["goal"] is None
    for row in rows.values():
        assert len(row["samples"]) == len(baseline["samples"]) > 1
        assert min(row["samples"]) > 0
        assert row["samples_summary"]["median"] == statistics.median(row["samples"])
    tracked = rows["taskscope"]
    assert tracked["ratios"] == [a / b for a, b in zip(tracked["samples"], baseline["samples"], strict=True)]


def test_memory_per_task_is_that_of_tracking_and_within_its_goal(tmp_path: Path) -> None:
    data, table = run_and_read(tmp_path, "memory per live task, in pairs")
    rows = {row["subject"]: row for row in data["rows"]}
    (tracked,) = rows["taskscope"]["samples"]
    (untold,) = rows['taskscope, spawn_site="off"']["samples"]
    (whole_stacks,) = rows['taskscope, spawn_site="stack"']["samples"]
    assert 0 < untold < tracked < whole_stacks
    assert rows["taskscope"]["goal"] == {"limit": 300, "of": "samples", "met": True}
    assert "<= 300 met" in table


def test_json_tells_where_the_figures_come_from(tmp_path: Path) -> None:
    data, _ = run_and_read(tmp_path, "in pairs")
    assert data["format_version"] == 1
    assert data["quick"] is True
    assert data["taskscope"] == taskscope.__version__
    assert data["python"]["version"] == sys.version
    assert data["machine"]["cpus"] == os.cpu_count()


def test_table_fits_its_width(tmp_path: Path) -> None:
    _, table = run_and_read(tmp_path, "in pairs")
    assert max(map(len, table.splitlines())) <= WIDTH


SUBJECTS = """
import asyncio, taskscope
from benchmarks import subjects

async def look(subject):
    async with subject.enter() as spawn:
        scope = taskscope.current_scope()
        task = spawn(asyncio.sleep(0))
        kind = type(task).__name__
        leaks = scope.snapshot().leaks if scope else ()
        stack = bool(leaks and leaks[0].age is not None)
        print(subject.name, kind, bool(task._source_traceback), len(leaks), stack, sep="; ")
        await task

for subject in vars(subjects).values():
    if isinstance(subject, subjects.Subject) and subject.is_installed:
        asyncio.run(look(subject), debug=False)
"""


def test_subjects_are_what_they_are_called() -> None:
    done = run_benchmarks(start=("-c", SUBJECTS))
    assert done.returncode == 0, done.stderr
    # name; class of the task; asyncio's own creation traceback; tasks in the scope; with whole stack
    expected = [
        "asyncio; Task; False; 0; False",
        "taskscope; Task; False; 1; False",
        'taskscope, spawn_site="off"; Task; False; 1; False',
        "taskscope, find: everything; Task; False; 1; False",
        'taskscope, spawn_site="stack"; Task; False; 1; True',
        "asyncio.TaskGroup; Task; False; 0; False",
        "asyncio, debug mode; Task; True; 0; False",
    ]
    if find_spec("aiomonitor") is not None:
        expected.append("aiomonitor, task factory; TracedTask; False; 0; False")
    if find_spec("pyleak") is not None:
        expected.append("pyleak, creation tracking; Task; True; 0; False")
    assert sorted(done.stdout.splitlines()) == sorted(expected)


MISSING = "import sys; sys.modules['uvloop'] = None; from benchmarks.__main__ import main; sys.exit(main())"


def test_peer_that_is_missing_is_said_to_be() -> None:
    done = run_benchmarks("--quick", "--only", "uvloop: spawn one by one, body yields", start=("-c", MISSING))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("not installed") == 2


VERDICTS = """
from benchmarks.figures import Goal, Row
from benchmarks.table import block
for figure in (1.0, 1.2, 1.5):
    row = Row("name", "subject", "us", samples=[7.0, 8.0], ratios=[figure], goal=Goal(1.2, "ratios"))
    print(row.is_met, block([row]).splitlines()[1].partition("<=")[2])
"""


def test_goal_is_judged_by_the_median_and_a_miss_says_by_how_much() -> None:
    done = run_benchmarks(start=("-c", VERDICTS))
    assert done.stdout.splitlines() == ["True  1.2 met", "True  1.2 met", "False  1.2 missed +25%"]


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (["--only", "no such thing"], {}, "matches no benchmark. There are:\n  spawn one by one, empty body\n"),
        (["--json", "no/such/folder/file.json"], {}, "cannot write a file there"),
        (["--json", "tests"], {}, "cannot write a file there"),
        ([], {"TASKSCOPE": "off"}, "there would be nothing to measure"),
        (["--quickly"], {}, "unrecognized arguments: --quickly"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_runs(
    arguments: list[str], environment: dict[str, str], message: str
) -> None:
    done = run_benchmarks(*arguments, **environment)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stdout == ""


def test_proofs_say_how_many_objects_they_looked_at_and_grow_no_faster_than_the_tasks(tmp_path: Path) -> None:
    data, _ = run_and_read(tmp_path, "prove that tasks are deadlocked, one queue for all")
    visited = {}
    for row in data["rows"]:
        tasks, _, objects = row["subject"].replace(",", "").partition(" tasks ")
        visited[int(tasks)] = int(objects.partition(" ")[0])
        assert row["goal"]["of"] == "samples"
    assert sorted(visited) == [10, 1_000, 10_000]
    assert visited[10_000] < 10.1 * visited[1_000] < 1_050 * visited[10]
