"""A report as text: everything a reader needs, on pages that stay readable whatever is in it."""

from __future__ import annotations

import asyncio
import io
import os
import re
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from conftest import Run
from hypothesis import example, given, settings
from hypothesis import strategies as st

from taskscope import Finding, Frame, Report, TaskRecord, TaskScope, Wait
from taskscope._render import text as text_module
from taskscope._render.places import short_path
from taskscope._render.style import wants_color
from taskscope._render.summary import headline, summary
from taskscope._render.words import clipped, columns, counted, listed, printable, wrapped
from taskscope._report import FindingKind, Outcome, Phase, Verdict

ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
HERE = __file__
STDLIB_FILE = asyncio.queues.__file__


def record(name: str = "task", **fields: Any) -> TaskRecord:
    defaults: dict[str, Any] = {"coroutine": "worker", "verdict": "blocked", "outcome": "cancelled"}
    return TaskRecord(name, **{**defaults, **fields})


def report(*leaks: TaskRecord, **fields: Any) -> Report:
    return Report("test", leaks=leaks, **fields)


def test_a_task_without_a_name_has_none_in_the_text() -> None:
    assert "name" not in report(record("None")).format()
    assert "name        named" in report(record("None"), record("named")).format()
    failed = [Finding("unretrieved", "OSError: no", task=record(name)) for name in ("None", "named")]
    assert "None" not in report(findings=(failed[0],)).format()
    assert "task        named" in report(findings=tuple(failed)).format()


def section_of(text: str, label: str) -> list[str]:
    """The lines that stand under a label, or beside it, without their indentation."""
    lines = text.splitlines()
    found = next(index for index, line in enumerate(lines) if re.match(rf"  {label}\b", line))
    section = [lines[found].strip().removeprefix(label).strip()]
    for line in lines[found + 1 :]:
        if not line.startswith("    "):
            break
        section.append(line.strip())
    return [line for line in section if line]


@pytest.fixture(autouse=True)
def short_paths(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Lets the files that tests write have short names in reports."""
    monkeypatch.chdir(tmp_path)


def write(path: Path, *lines: str) -> Frame:
    """A source file whose last line is the frame's."""
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Frame(str(path), len(lines), "function")


# What a group tells


def test_leaks_of_one_place_are_told_once_with_their_number_most_frequent_first() -> None:
    site, other_site = Frame(HERE, 1, "site"), Frame(HERE, 2, "site")
    stack = (Frame(HERE, 3, "worker"),)
    leaks = [
        record("single", coroutine="single", spawn_site=site),
        *(record(f"a{number}", stack=stack, spawn_site=site) for number in range(2)),
        *(record(f"b{number}", stack=stack, spawn_site=other_site) for number in range(3)),
        record("a2", stack=stack, spawn_site=site),
        record("a3", stack=stack, spawn_site=site),
    ]
    text = report(*leaks).format()
    assert [line for line in text.splitlines() if "(blocked)" in line] == [
        "4 x worker (blocked)",
        "3 x worker (blocked)",
        "single (blocked)",
    ]
    assert "names       a0, a1, a2, a3" in text
    assert "name        single" in text
    assert text.startswith("taskscope: 8 tasks outlived scope 'test' and were cancelled.")


@pytest.mark.parametrize(
    "difference",
    [
        {"coroutine": "other"},
        {"stack": (Frame(HERE, 4, "worker"),)},
        {"stack": (Frame(HERE, 3, "other"),)},
        {"stack": ()},
        {"spawn_site": Frame(HERE, 2, "site")},
        {"spawn_site": None},
        {"spawn_stack": (Frame(HERE, 1, "caller"), Frame(HERE, 1, "site"))},
    ],
)
def test_what_differs_in_place_is_not_put_together(difference: dict[str, Any]) -> None:
    one = record(stack=(Frame(HERE, 3, "worker"),), spawn_site=Frame(HERE, 1, "site"))
    assert "2 x" not in report(one, replace(one, **difference)).format()
    assert "2 x worker" in report(one, replace(one, name="other", age=3.0, outcome="survived")).format()


def test_groups_of_one_size_keep_the_order_of_the_report() -> None:
    leaks = [record(coroutine=f"worker_{number}") for number in (3, 1, 2)]
    assert re.findall(r"worker_\d", report(*leaks).format()) == ["worker_3", "worker_1", "worker_2"]


def test_names_of_a_large_group_are_cut_off_with_a_count() -> None:
    text = report(*(record(f"task-{number}") for number in range(1_234))).format()
    assert section_of(text, "names") == ["task-0, task-1, task-2, task-3, task-4 and 1,229 more"]


def test_a_name_that_is_shared_is_told_once() -> None:
    assert section_of(report(record("same"), record("same")).format(), "name") == ["same"]


def test_how_long_tasks_have_been_alive_is_told_where_it_is_known() -> None:
    assert section_of(report(record(age=1.0)).format(), "alive for") == ["1.00 s"]
    assert section_of(report(record(age=1.0), record(age=12.5)).format(), "alive for") == ["1.00 to 12.50 s"]
    assert "alive" not in report(record()).format()


def test_the_spawn_site_and_the_spawn_chain_are_told_nearest_first(tmp_path: Path) -> None:
    child = write(tmp_path / "child.py", "create_task(child())")
    parent = write(tmp_path / "parent.py", "", "create_task(parent())")
    grandparent = write(tmp_path / "grandparent.py", "", "", "create_task(grandparent())")
    text = report(record(spawn_site=child, spawn_chain=(parent, grandparent), spawn_chain_omitted=1_000)).format()
    assert section_of(text, "spawned at") == [
        'File "child.py", line 1, in function',
        "create_task(child())",
    ]
    calls = re.findall(r"create_task\(\w+\(\)\)", text)
    assert calls == ["create_task(child())", "create_task(parent())", "create_task(grandparent())"]
    assert text.count("by a task spawned at") == 2
    assert section_of(text, "and so on") == ["1,000 more ancestors"]


def test_differing_spawn_chains_of_a_group_are_counted() -> None:
    chains = [(Frame(HERE, number, "parent"),) for number in (1, 2, 2, 3)]
    text = report(*(record(spawn_chain=chain) for chain in chains)).format()
    assert text.count("by a task spawned at") == 1
    assert "line 2, in parent" in text  # the most frequent one
    assert "2 other chains of tasks" in " ".join(text.split())


def test_the_whole_spawn_stack_is_told_where_it_was_noted() -> None:
    frames = tuple(Frame(HERE, number, f"caller_{number}") for number in (1, 2, 3))
    text = report(record(spawn_site=frames[-1], spawn_stack=frames)).format()
    assert re.findall(r"caller_\d", " ".join(section_of(text, "spawned at"))) == ["caller_1", "caller_2", "caller_3"]
    assert text.count("caller_3\n") == 1


def test_the_await_chain_is_told_as_in_a_traceback(tmp_path: Path) -> None:
    outer = replace(write(tmp_path / "outer.py", "async def outer():", "    await inner()"), function="outer")
    inner = replace(write(tmp_path / "inner.py", "async def inner():", "    await queue.get()"), function="inner")
    library = Frame(STDLIB_FILE, 1, "Queue.get")
    assert section_of(report(record(stack=(outer, inner, library))).format(), "waits in") == [
        'File "outer.py", line 2, in outer',
        "await inner()",
        'File "inner.py", line 2, in inner',
        "await queue.get()",
        "asyncio: Queue.get",
    ]


def test_a_runnable_task_does_not_wait() -> None:
    stack = (Frame(HERE, 1, "worker"),)
    text = report(record(verdict="runnable", stack=stack)).format()
    assert "stands at" in text and "waits in" not in text


def test_neighbouring_frames_of_the_standard_library_share_a_line() -> None:
    user = Frame(HERE, 1, "user")
    library = [Frame(STDLIB_FILE, 1, f"Queue.step{number}") for number in range(3)]
    other = Frame(threading.__file__, 1, "Thread.run")
    lines = section_of(report(record(stack=(library[0], user, *library[1:], other))).format(), "waits in")
    assert lines[0] == "asyncio: Queue.step0"
    assert lines[-2:] == ["asyncio: Queue.step1 > Queue.step2", "threading: Thread.run"]
    assert "from __future__" not in lines[0]


@pytest.mark.parametrize(
    ("file", "library"),
    [
        ("/opt/other/lib/python3.99/asyncio/locks.py", "asyncio"),
        ("/usr/lib64/python3.13t/contextlib.py", "contextlib"),
        ("<frozen runpy>", "runpy"),
        ("<frozen importlib._bootstrap>", "importlib"),
        ("/opt/venv/lib/python3.12/site-packages/httpx/_client.py", None),
        ("/usr/lib/python3/dist-packages/asyncio/tool.py", None),
        ("/srv/app/lib/python3.12/shop/asyncio.py", None),
        ("/srv/asyncio/queues.py", None),
        ("<string>", None),
        ("<frozen shop>", None),
    ],
)
def test_what_is_of_the_standard_library_and_what_is_a_users(file: str, library: str | None) -> None:
    text = report(record(stack=(Frame(file, 7, "step"),))).format()
    assert section_of(text, "waits in") == (
        [f'File "{short_path(file)}", line 7, in step'] if library is None else [f"{library}: step"]
    )


def test_paths_are_short_where_that_is_clear(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert short_path(str(tmp_path / "shop" / "cart.py")) == os.path.join("shop", "cart.py")
    assert short_path(str(tmp_path) + "-other/cart.py") == str(tmp_path) + "-other/cart.py"
    assert short_path("/v/lib/python3.13/site-packages/httpx/_client.py") == "httpx/_client.py"
    monkeypatch.chdir("/")
    assert short_path("/srv/cart.py") == "/srv/cart.py"


def test_a_current_folder_that_is_gone_does_no_harm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert '"/srv/cart.py"' in report(record(stack=(Frame("/srv/cart.py", 1, "f"),))).format()


def test_the_outcome_of_cancelling_is_told_with_its_detail() -> None:
    leaks = [
        record("a"),
        record("b", outcome="failed", outcome_detail="ValueError('x')"),
        record("c", outcome="survived", outcome_detail="still there after 3 cancels"),
        record("d"),
    ]
    text = report(*leaks, survivors=(leaks[2],)).format()
    assert "outcome     2 of them: cancelled" in text
    assert "outcome     1 of them: failed: ValueError('x')" in text
    assert "outcome     1 of them: survived: still there after 3 cancels" in text
    assert "and 1 survived being cancelled" in text
    assert section_of(report(record(), record()).format(), "outcome") == ["cancelled"]


def test_what_else_is_known_of_a_leak_is_told() -> None:
    text = report(
        record(owner="TaskGroup opened by task 'x'", stack_note="3 frames are left out", closed_scope="inner")
    ).format()
    assert section_of(text, "held by") == ["TaskGroup opened by task 'x'"]
    assert section_of(text, "note") == ["3 frames are left out"]
    assert section_of(text, "spawned") == ["from the context of scope 'inner', which was closed"]


def test_the_advice_is_what_can_be_done() -> None:
    site = Frame(HERE, 1, "Client.open")
    leak = " ".join(section_of(report(record(spawn_site=site)).format(), "to do"))
    for part in ("wait for it in Client.open", "`finally`", "taskscope.hand_off(task, reason=...)"):
        assert part in leak
    assert "outer_groups" not in leak
    assert "wait for them" in " ".join(section_of(report(record(), record()).format(), "to do"))
    assert 'outer_groups="transfer"' in " ".join(section_of(report(record(owner="TaskGroup")).format(), "to do"))
    survivor = " ".join(section_of(report(record(outcome="survived")).format(), "to do"))
    assert "re-raise the cancellation" in survivor
    shielded = record(
        outcome="survived", outcome_detail="it is inside a shielded cancel scope, which no cancel reaches"
    )
    assert "do less in the shielded cancel scope" in " ".join(section_of(report(shielded).format(), "to do"))
    in_nursery = record(owner="nursery opened in 'main' (app.py:1) by task 'main'")
    assert "into a nursery that is opened inside" in " ".join(section_of(report(in_nursery).format(), "to do"))
    late = Report("test", late=(record(verdict=None, outcome="finished"),)).format()
    assert "wait for it before the body ends" in " ".join(section_of(late, "to do"))


def test_there_is_no_advice_on_what_nobody_did_wrong() -> None:
    snapshot = Report("test", phase="body", leaks=(record(outcome=None),), spawned=1)
    others = Report("test", transferred=(record(),), ignored=(record(),), inherited=(record(),))
    assert "to do" not in snapshot.format() + others.format()


def test_each_part_of_a_report_has_its_place() -> None:
    text = Report(
        "test",
        leaks=(record("a leak"),),
        late=(record("a late one", verdict=None, outcome="failed", outcome_detail="ValueError()"),),
        transferred=(record("given away", outcome=None, outcome_detail="handed off: it is the cache's"),),
        ignored=(record("left alone", outcome=None, outcome_detail="a finalizer"),),
        inherited=(record("a survivor", outcome="survived"),),
        findings=(Finding("thread", "thread 'pool'"),),
        coverage=("tasks of another loop",),
        leaks_omitted=4_000,
        tracking_lost="the task factory was replaced",
    ).format()
    parts = [
        "taskscope: 4,001 tasks outlived",
        "Tracking was lost: the task factory was replaced.",
        "a leak",
        "4,000 more tasks, too many to describe.",
        "Late: worker",
        "a late one",
        "Left to others: worker",
        "given away",
        "because     handed off: it is the cache's",
        "Left alone: worker",
        "left alone",
        "Told already, by an inner scope that it survived: worker",
        "a survivor",
        "Thread: thread 'pool'",
        "tasks of another loop",
    ]
    positions = [text.find(part) for part in parts]
    assert -1 not in positions and positions == sorted(positions), list(zip(parts, positions, strict=True))


def test_a_body_that_took_too_long_is_told_with_its_stack() -> None:
    body = record("main", coroutine="main", stack=(Frame(HERE, 1, "main"),), outcome=None)
    text = Report("x", phase="body", body=body, leaks=(record(),)).format()
    assert text.startswith(
        "taskscope: the body of scope 'x' was still running when its time was up, with 1 other task pending."
    )
    assert "The body: main (blocked)" in text


# Real scopes


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


async def consumer(queue: asyncio.Queue[int]) -> None:
    await queue.get()


async def parent(queue: asyncio.Queue[int]) -> None:
    for number in range(3):
        asyncio.create_task(consumer(queue), name=f"consumer {number}")
    await forever()


def test_the_text_of_a_real_scope(run: Run) -> None:
    async def main() -> Report:
        queue: asyncio.Queue[int] = asyncio.Queue()
        async with TaskScope("shop", grace=0, on_leak="ignore", spawn_site="stack") as scope:
            asyncio.create_task(parent(queue), name="parent")
            for _ in range(3):
                await asyncio.sleep(0)
        return scope.report

    text = run(main).format()
    assert text.startswith("taskscope: 4 tasks outlived scope 'shop' and were cancelled.")
    # whether they are called blocked or deadlocked is for other tests to say
    assert re.findall(r"^(\d x \w+|\w+) \(", text, re.MULTILINE) == ["3 x consumer", "parent"]
    assert "names       consumer 0, consumer 1, consumer 2" in text
    assert 'asyncio.create_task(consumer(queue), name=f"consumer {number}")' in text
    assert 'asyncio.create_task(parent(queue), name="parent")' in text
    assert re.search(r'test_text.py", line \d+, in consumer\n      await queue.get\(\)\n    asyncio: Queue.get\n', text)
    assert re.search(r"  alive for   \d\.\d\d", text)
    assert all(columns(line) <= 100 for line in text.splitlines())


def test_a_clean_scope_says_so(run: Run) -> None:
    async def main() -> Report:
        async with TaskScope("clean") as scope:
            await asyncio.gather(*(asyncio.sleep(0) for _ in range(2)))
        return scope.report

    assert run(main).format() == "taskscope: nothing outlived scope 'clean', in which 2 tasks were spawned."


# Source lines


def test_source_lines_are_read_when_the_text_is_made_and_not_before(run_asyncio: Run, tmp_path: Path) -> None:
    file = tmp_path / "written_later.py"

    async def main() -> Report:
        space: dict[str, Any] = {"asyncio": asyncio}
        source = "async def late():\n    await asyncio.get_running_loop().create_future()\n"
        exec(compile(source, str(file), "exec"), space)
        async with TaskScope(grace=0, on_leak="ignore") as scope:
            asyncio.create_task(space["late"]())
            await asyncio.sleep(0)
        return scope.report

    found = run_asyncio(main)
    assert section_of(found.format(), "waits in") == ['File "written_later.py", line 2, in late']
    file.write_text("# the source\n    await something  # as written now\n", encoding="utf-8")
    assert section_of(found.format(), "waits in")[1] == "await something  # as written now"


def test_a_file_that_has_changed_is_read_again(tmp_path: Path) -> None:
    frame = write(tmp_path / "module.py", "first()")
    leak = report(record(stack=(frame,)))
    assert "first()" in leak.format()
    write(tmp_path / "module.py", "the_second_version()")
    assert "the_second_version()" in leak.format()
    os.remove(tmp_path / "module.py")
    assert section_of(leak.format(), "waits in") == ['File "module.py", line 1, in function']


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"# one line only",
        b"\n\n\xff\xfe\xff not text\n",
        b"# -*- coding: no-such-thing -*-\n\nx\n",
        b"\n\n\x00\x00\x00\n",
        b"\n\n   \t  \n",
        None,
    ],
    ids=["empty", "too short", "undecodable", "unknown coding", "zeros", "blank", "missing"],
)
def test_a_source_that_cannot_be_shown_is_left_out(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "module.py"
    if content is not None:
        file.write_bytes(content)
    leak = report(record(stack=(Frame(str(file), 3, "f"), Frame(HERE, 1, "g"))))
    lines = section_of(leak.format(), "waits in")
    assert lines[0] == 'File "module.py", line 3, in f'
    # what comes after it is shown all the same
    assert '"""A report as text: everything a reader needs' in lines[-1]
    assert "\x00" not in leak.format()


@pytest.mark.parametrize(
    "file", ["", "<string>", "no such file", "\x00", "\ud800", "/", ".", "<frozen x>", "a" * 5_000]
)
@pytest.mark.parametrize("line", [-1, 0, 1, 2**63])
def test_a_file_of_any_name_and_a_line_of_any_number_do_no_harm(file: str, line: int) -> None:
    leak = report(record(stack=(Frame(file, line, "f"),), spawn_site=Frame(file, line, "g")))
    assert "in f" in leak.format() or "x: f" in leak.format()


def test_a_line_that_is_not_known_is_not_told() -> None:
    assert section_of(report(record(stack=(Frame(HERE, 0, "f"),))).format(), "waits in") == [
        f'File "{short_path(HERE)}", in f'
    ]


def test_a_huge_line_is_cut_off(tmp_path: Path) -> None:
    frame = write(tmp_path / "minified.py", "x = 1;" * 2_000_000)
    started = time.perf_counter()
    text = report(record(stack=(frame,))).format()
    assert time.perf_counter() - started < 2
    assert max(map(columns, text.splitlines())) == 100
    assert re.search(r"^ +(x = 1;){10,}x?\.\.\.$", text, re.MULTILINE)


def test_a_pipe_in_place_of_a_file_is_not_opened(tmp_path: Path) -> None:
    # as in `python <(generate-program)`: to open it again would wait for somebody who writes
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    texts: list[str] = []
    leak = report(record(stack=(Frame(str(pipe), 1, "f"),)))
    thread = threading.Thread(target=lambda: texts.append(leak.format()), daemon=True)
    thread.start()
    thread.join(10)
    assert texts and "in f" in texts[0]


def test_tabs_and_control_characters_in_a_source_line_are_made_harmless(tmp_path: Path) -> None:
    frame = write(tmp_path / "module.py", "\tawait x\t# \x1b[31mred\x07 \u202ereversed")
    (source,) = section_of(report(record(stack=(frame,))).format(), "waits in")[1:]
    assert source.startswith("await x ") and r"\x1b[31mred\x07 \u202ereversed" in source


# Any report whatever

words = st.text(st.characters(), max_size=30) | st.sampled_from(
    [
        "",
        " ",
        "  ",
        "\n",
        "a b",
        "x" * 120,
        "\x1b[31m",
        "\u202e",
        "\ud800",
        "漢字 " * 30,
        "é́́",
        "name",
        "outcome",
        "{}",
        "%s",
    ]
)
frames = st.builds(
    Frame,
    words | st.sampled_from([HERE, STDLIB_FILE, "<string>", "/x/" + "long/" * 30 + "file.py"]),
    st.integers(-2, 2**40),
    words | st.just("function.<locals>." * 8 + "inner"),
)
frame_tuples = st.lists(frames, max_size=4).map(tuple)
word_tuples = st.lists(words, max_size=3).map(tuple)
waits = st.builds(
    Wait,
    kind=words | st.sampled_from(["timer", "future", "task", "queue"]),
    primitive=words | st.just("task"),
    detail=st.none() | words,
    awaited=word_tuples,
    path=word_tuples,
    is_cycle=st.booleans(),
)
ages = st.none() | st.floats(0, 1e12)
records = st.builds(
    TaskRecord,
    name=words,
    coroutine=words,
    verdict=st.sampled_from([None, *get_args(Verdict)]),
    wait=st.none() | waits,
    stack=frame_tuples,
    stack_note=st.none() | words,
    spawn_site=st.none() | frames,
    spawn_stack=frame_tuples,
    spawn_chain=frame_tuples,
    spawn_chain_omitted=st.integers(0, 10**6),
    age=ages,
    outcome=st.sampled_from([None, *get_args(Outcome)]),
    outcome_detail=st.none() | words,
    owner=st.none() | words,
    closed_scope=st.none() | words,
    stuck_with=word_tuples,
    rule=st.none() | words,
    closed_before_end=word_tuples,
)
findings = st.builds(
    Finding,
    kind=st.sampled_from(get_args(FindingKind)),
    what=words,
    spawn_site=st.none() | frames,
    stack=frame_tuples,
    detail=st.none() | words,
    task=st.none() | records,
    held_in=st.none() | frames,
    variable=st.none() | words,
    outcome=st.none() | words,
)
record_tuples = st.lists(records, max_size=3).flatmap(
    lambda drawn: st.just(tuple(drawn) * 2) if drawn and len(drawn) == 1 else st.just(tuple(drawn))
)
reports = st.builds(
    Report,
    scope=words,
    phase=st.sampled_from(get_args(Phase)),
    body=st.none() | records,
    leaks=record_tuples,
    late=record_tuples,
    survivors=record_tuples,
    transferred=record_tuples,
    ignored=record_tuples,
    inherited=record_tuples,
    findings=st.lists(findings, max_size=2).map(tuple),
    coverage=st.lists(words, max_size=2).map(tuple),
    leaks_omitted=st.integers(0, 10**6),
    spawned=st.integers(0, 10**9),
    tracking_lost=st.none() | words,
)

# Where a line may begin: a label and its column, an indentation, or the start of a frame's two lines.
_STARTS = re.compile(r"(?:  (?:[a-z]+ ?)+ {2,}|  to do {7}|  alive for   )|^ *")
_FILE_LINE = re.compile(r' +File ".*"(?:, line -?\d+)?,$| +in \S+$', re.DOTALL)


def is_as_narrow_as_can_be(line: str) -> bool:
    """Whether a line fits the page, or holds one word that cannot be broken."""
    if columns(line) <= 100 or _FILE_LINE.match(line):
        return True
    start = _STARTS.match(line)
    assert start is not None
    return " " not in line[start.end() :]


@given(reports)
@settings(max_examples=150)
@example(report(record(" ")))
@example(report(record("", coroutine="", stack_note=" ", owner=" ", outcome_detail=" ", closed_scope=" ")))
@example(report(record("long " * 40, coroutine="long " * 40)))
@example(Report("x", late=(record(coroutine="c" * 60), record(verdict="io", coroutine="c" * 60)) * 2))
def test_any_report_is_rendered_on_a_page_of_100_columns_without_control_characters(drawn: Report) -> None:
    text = drawn.format()
    for line in text.split("\n"):
        assert line.isprintable()
        assert is_as_narrow_as_can_be(line), line
    text.encode("utf-8")
    assert str(drawn) == text
    assert headline(drawn).isprintable() and summary(drawn).isprintable()


@given(reports)
@settings(max_examples=100)
@example(report(record("name", coroutine="name")))
@example(report(record("\x1b[0m", owner="owner outcome")))
def test_colour_adds_escape_codes_and_changes_nothing_else(drawn: Report) -> None:
    plain, colored = drawn.format(), drawn.format(color=True)
    assert "\x1b" not in plain
    assert ESCAPE.sub("", colored) == plain
    assert "\x1b" in colored
    for line in colored.split("\n"):
        codes = ESCAPE.findall(line)
        # each line is complete by itself: a terminal or pager that shows part of the text shows its colours right
        assert len(codes) % 2 == 0 and codes[1::2] == ["\x1b[0m"] * (len(codes) // 2)


# Bounds


def test_five_thousand_leaks_are_rendered_fast_and_on_few_pages() -> None:
    def deep(number: int) -> tuple[Frame, ...]:
        return tuple(Frame(HERE, number, f"level_{depth}") for depth in range(100))

    alike = [record(f"t{number}", stack=deep(1)) for number in range(5_000)]
    different = [record(f"t{number}", stack=deep(number)) for number in range(5_000)]
    for leaks, groups in ((alike, 1), (different, text_module.GROUPS_SHOWN)):
        started = time.perf_counter()
        text = report(*leaks).format()
        assert time.perf_counter() - started < 10
        assert text.count("worker (blocked)") == groups
        assert text.startswith("taskscope: 5,000 tasks outlived")
        assert len(text.splitlines()) < groups * 250
    assert "4,980 more tasks in 4,980 more groups, see the report's data." in text


@pytest.mark.parametrize("field", ["outcome_detail", "owner", "stack_note", "closed_scope"])
def test_what_is_different_in_each_of_many_tasks_is_not_listed_for_all(field: str) -> None:
    leaks = [record(f"t{number}", **{field: f"something {number}"}) for number in range(1_000)]
    text = report(*leaks).format()
    assert len(text.splitlines()) < 40
    assert "something 0" in text
    assert "995 of them something else, see the report's data" in text
    reasons = [replace(leak, outcome=None) for leak in leaks]
    assert len(Report("x", ignored=tuple(reasons)).format().splitlines()) < 40


def test_a_huge_name_is_cut_off_in_the_text_only() -> None:
    huge = record("x" * 1_000_000)
    assert len(report(huge, huge).format()) < 2_000
    assert report(huge).to_dict()["leaks"][0]["name"] == "x" * 1_000_000


def test_wide_characters_take_two_columns(tmp_path: Path) -> None:
    assert columns("abc") == 3
    assert columns("漢字") == 4
    assert columns("e\u0301") == 1
    frame = write(tmp_path / "module.py", "x = '" + "漢" * 200 + "'")
    source = report(record("漢字 " * 60, stack=(frame,))).format()
    assert all(columns(line) <= 100 for line in source.splitlines())
    assert any(len(line) < 60 and line.endswith("...") for line in source.splitlines())


# Words


@given(st.text(st.characters(codec="utf-8"), max_size=300), st.sampled_from(["", "    "]))
def test_wrapping_loses_no_word(text: str, indent: str) -> None:
    lines = wrapped(text, indent, "first ")
    assert " ".join(lines).split() == (["first", *text.split()] if text.split() else [])


@given(st.text("ab ", max_size=400))
def test_wrapping_ascii_is_what_the_standard_library_does(text: str) -> None:
    expected = textwrap.wrap(
        " ".join(text.split()),
        100,
        initial_indent="  ",
        subsequent_indent="    ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    assert wrapped(text, "    ", "  ") == expected


@given(st.text(st.characters(codec="utf-8"), max_size=200).map(printable))
def test_clipping_keeps_what_fits(text: str) -> None:
    line = clipped(text, "    ")
    assert columns(line) <= 100
    assert line == "    " + text or (line.endswith("...") and ("    " + text).startswith(line[:-3]))


def test_printable_text_is_as_it_was_and_nothing_else_is() -> None:
    assert printable("Größe 漢字 🙂") == "Größe 漢字 🙂"
    assert printable("a\nb\x1b\u2028\ud800\u200b\x9b") == r"a\nb\x1b\u2028\ud800\u200b\x9b"


def test_numbers_and_lists() -> None:
    assert [counted(number, "task") for number in (0, 1, 2, 1_000)] == ["0 tasks", "1 task", "2 tasks", "1,000 tasks"]
    assert listed(["a", "b"], 2) == "a, b"
    assert listed(["a", "b", "c"], 2) == "a, b and 1 more"


# Summary


def test_the_summary_names_coroutines_and_reads_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError("a file was looked at")

    leaks = [record(coroutine="a"), record(coroutine="b"), record(coroutine="b", stack=(Frame(HERE, 1, "b"),))]
    for function in ("linecache.getline", "linecache.checkcache", "os.stat"):
        monkeypatch.setattr(function, refuse)
    text = summary(report(*leaks))
    monkeypatch.undo()
    assert text == "taskscope: 3 tasks outlived scope 'test' and were cancelled. Left: 2 x b, a."


def test_the_summary_of_many_coroutines_is_short() -> None:
    text = summary(report(*(record(coroutine=f"c{number}") for number in range(1_000))))
    assert text.endswith("Left: c0, c1, c2, c3, c4 and 995 more.")
    assert "Left" not in summary(Report("x"))


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({}, "nothing outlived scope 'x', in which 0 tasks were spawned"),
        ({"spawned": 1}, "nothing outlived scope 'x', in which 1 task was spawned"),
        ({"leaks": (record(),)}, "1 task outlived scope 'x' and was cancelled"),
        ({"leaks": (record(), record())}, "2 tasks outlived scope 'x' and were cancelled"),
        ({"leaks": (record(), record(outcome="failed"))}, "2 tasks outlived scope 'x'"),
        ({"leaks": (record(),), "leaks_omitted": 2_000}, "2,001 tasks outlived scope 'x'"),
        (
            {"leaks": (record(outcome="survived"),), "survivors": (record(outcome="survived"),)},
            "1 task outlived scope 'x', and 1 survived being cancelled",
        ),
        ({"late": (record(),)}, "nothing outlived scope 'x', but 1 task ended only after its body had"),
        ({"findings": (Finding("process", "p"),)}, "no task outlived scope 'x', but 1 process did"),
        (
            {"findings": (Finding("process", "p"), Finding("process", "q"), Finding("timer", "t"))},
            "no task outlived scope 'x', but 2 processes and 1 timer did",
        ),
        (
            {"leaks": (record(),), "findings": (Finding("thread", "t"),)},
            "1 task outlived scope 'x' and was cancelled; 1 thread outlived it too",
        ),
        (
            {"findings": (Finding("closed-in-use", "db"), Finding("closed-in-use", "db"))},
            "no task outlived scope 'x', but 1 resource was closed while in use",
        ),
        (
            {"findings": (Finding("unretrieved", "e"), Finding("untracked", "t"))},
            "no task outlived scope 'x', but 1 exception was retrieved by nobody "
            "and 1 task was made past the task factory",
        ),
        ({"phase": "body", "leaks": (record(),), "spawned": 3}, "scope 'x' is open, 1 of its 3 tasks is alive"),
        ({"phase": "body", "spawned": 3}, "scope 'x' is open, 0 of its 3 tasks are alive"),
        ({"phase": "body", "leaks": (record(),) * 2, "spawned": 1}, "scope 'x' is open, 2 tasks are alive"),
    ],
)
def test_the_headline_says_what_it_comes_down_to(fields: dict[str, Any], sentence: str) -> None:
    assert headline(Report("x", **fields)) == f"taskscope: {sentence}."


def test_a_hostile_scope_name_is_quoted_once() -> None:
    assert headline(Report("a\nb\x1b[31m'")).startswith('taskscope: nothing outlived scope "a\\nb\\x1b[31m\'",')


# Colour


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def settings(**values: str) -> None:
        for name in ("NO_COLOR", "FORCE_COLOR", "TERM"):
            monkeypatch.delenv(name, raising=False)
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return settings


@pytest.mark.parametrize(
    ("settings", "on_terminal", "in_file"),
    [
        ({}, True, False),
        ({"TERM": "xterm"}, True, False),
        ({"TERM": "dumb"}, False, False),
        ({"NO_COLOR": "1"}, False, False),
        ({"NO_COLOR": "0"}, False, False),
        ({"NO_COLOR": ""}, True, False),
        ({"FORCE_COLOR": "1"}, True, True),
        ({"FORCE_COLOR": ""}, True, False),
        ({"FORCE_COLOR": "1", "TERM": "dumb"}, True, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False, False),
        ({"FORCE_COLOR": "1", "NO_COLOR": ""}, True, True),
    ],
)
def test_when_text_is_coloured(
    environment: Callable[..., None], settings: dict[str, str], on_terminal: bool, in_file: bool
) -> None:
    environment(**settings)
    assert wants_color(Terminal()) is on_terminal
    assert wants_color(io.StringIO()) is in_file


def test_the_text_of_a_report_is_plain_unless_asked_for(environment: Callable[..., None]) -> None:
    environment(FORCE_COLOR="1")
    leak = report(record())
    assert "\x1b" not in leak.format() and "\x1b" not in str(leak)
    environment(NO_COLOR="1")
    assert "\x1b" in leak.format(color=True)


def test_a_real_terminal_is_seen(environment: Callable[..., None]) -> None:
    if sys.platform == "win32":
        pytest.skip("Windows has no pseudo-terminals")
    environment(TERM="xterm")
    leader, follower = os.openpty()
    with os.fdopen(leader, "rb", buffering=0), open(follower, "w", encoding="utf-8") as terminal:
        assert wants_color(terminal)
    with open(os.devnull, "w", encoding="utf-8") as null:
        assert not wants_color(null)
