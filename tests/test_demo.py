"""`taskscope demo`, run as a user runs it: a process of its own, real sockets, a real database."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import taskscope
from taskscope._demo import PROGRAMS, connection, guest_book
from taskscope._demo.price_server import price_server

REPOSITORY = Path(__file__).parent.parent
SETTINGS = ("TASKSCOPE", "NO_COLOR", "FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "PYTHONWARNINGS", "PYTHONOPTIMIZE")


def command(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Runs Python with resource warnings shown, so that a socket or database left open is seen on stderr."""
    environment = {key: value for key, value in os.environ.items() if key not in SETTINGS} | settings
    return subprocess.run(
        [sys.executable, "-W", "always::ResourceWarning", *arguments],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def demo(*arguments: str, **settings: str) -> str:
    finished = command("-m", "taskscope", "demo", *arguments, **settings)
    assert (finished.returncode, finished.stderr) == (0, "")
    return without_port(finished.stdout)


def without_port(text: str) -> str:
    """The text without the server's port, which is whichever is free, and without the time that a write took."""
    text = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:PORT", text)
    return re.sub(r"\d\.\d{3} s after", "0.001 s after", text)


@pytest.fixture(scope="module")
def text() -> str:
    return demo()


@pytest.fixture(scope="module")
def reports() -> dict[str, dict[str, Any]]:
    lines = demo("--json").splitlines()
    assert len(lines) == len(PROGRAMS)
    return dict(zip(PROGRAMS, map(json.loads, lines), strict=True))


def section(text: str, program: str) -> str:
    """The part of the text about one program."""
    parts = re.split(r"^\d\. (\w+)\.py$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))[program]


def names(records: list[dict[str, Any]]) -> list[str]:
    return sorted(record["name"] for record in records)


def places(frames: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(Path(frame["file"]).name, frame["function"]) for frame in frames]


def source_line(frame: dict[str, Any]) -> str:
    return Path(frame["file"]).read_text(encoding="utf-8").splitlines()[frame["line"] - 1].strip()


def test_fan_out_report(reports: dict[str, dict[str, Any]]) -> None:
    report = reports["fan_out"]
    assert (report["scope"], report["phase"], report["ok"]) == ("fan-out", "exit", False)
    assert names(report["leaks"]) == ["download 3", "download 4", "download 5"]
    assert report["late"] == report["survivors"] == report["inherited"] == []
    assert report["spawned"] == 6
    for leak in report["leaks"]:
        assert leak["coroutine"] == "download"
        assert leak["outcome"] == "cancelled"
        assert places(leak["stack"])[0] == ("fan_out.py", "download")
        assert places(leak["stack"])[-1] == ("queues.py", "Queue.put")
        assert source_line(leak["stack"][0]).startswith("await pages.put(")
        assert places([leak["spawn_site"]]) == [("fan_out.py", "main")]
        assert "create_task(download(number, pages)" in source_line(leak["spawn_site"])


def test_connection_report(reports: dict[str, dict[str, Any]]) -> None:
    report = reports["connection"]
    assert (report["scope"], report["phase"], report["ok"]) == ("connection", "exit", False)
    assert names(report["leaks"]) == ["connection monitor"]
    assert report["late"] == report["survivors"] == report["inherited"] == []
    assert report["spawned"] == 1  # the server's tasks are the server's
    [leak] = report["leaks"]
    assert leak["outcome"] == "cancelled"
    assert places(leak["stack"])[0] == ("connection.py", "Client._read_answers")
    assert ("streams.py", "StreamReader.readline") in places(leak["stack"])
    assert places([leak["spawn_site"]]) == [("connection.py", "Client.__init__")]


def test_guest_book_report(reports: dict[str, dict[str, Any]]) -> None:
    report = reports["guest_book"]
    assert (report["scope"], report["phase"], report["ok"]) == ("guest book", "exit", False)
    assert names(report["late"]) == ["write Ada", "write Grace"]
    assert report["leaks"] == report["survivors"] == report["inherited"] == []
    for late in report["late"]:
        assert late["outcome"] == "failed"  # on a database that was closed
        assert places([late["spawn_site"]]) == [("guest_book.py", "GuestBook.visit")]
        assert late["closed_before_end"] == ["sqlite3.Connection 'guests'"]
    assert [finding["kind"] for finding in report["findings"]] == ["closed-in-use"] * 2
    assert names([finding["task"] for finding in report["findings"]]) == ["write Ada", "write Grace"]
    for finding in report["findings"]:
        assert finding["what"] == "sqlite3.Connection 'guests'"
        assert finding["variable"] == "self._database"
        assert places([finding["held_in"]]) == [("guest_book.py", "GuestBook._write")]
        assert finding["detail"].endswith("and failed: ProgrammingError('Cannot operate on a closed database.')")
        assert finding["outcome"] == "ended"


def test_clean_report(reports: dict[str, dict[str, Any]]) -> None:
    report = reports["fan_out_fixed"]
    assert (report["scope"], report["phase"], report["ok"]) == ("fan-out, fixed", "exit", True)
    assert report["spawned"] == 6
    for kind in ("leaks", "late", "survivors", "transferred", "ignored", "inherited", "findings"):
        assert report[kind] == [], kind


def stored_guests(file: Path) -> list[str]:
    with closing(sqlite3.connect(file)) as database:
        return [name for (name,) in database.execute("SELECT name FROM guests ORDER BY name")]


def test_guest_book_really_loses_the_names(tmp_path: Path) -> None:
    file = tmp_path / "guests.db"

    async def program() -> taskscope.Report:
        async with taskscope.TaskScope(grace=10.0, on_leak="ignore") as scope:
            await guest_book.main(file)
        return scope.report

    report = asyncio.run(program())
    assert [late.outcome for late in report.late] == ["failed", "failed"]
    assert stored_guests(file) == []


def test_guest_book_fixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fix that the docstring names: nothing late, nothing lost."""
    file = tmp_path / "guests.db"

    async def program() -> taskscope.Report:
        book = guest_book.GuestBook(file)
        monkeypatch.setattr(guest_book, "GuestBook", lambda _: book)
        monkeypatch.setattr(book, "close", lambda: None)
        async with taskscope.TaskScope() as scope:
            await guest_book.main(file)
            book._flush.set()
            await asyncio.gather(*book._writes)
            book._database.close()
        return scope.report

    report = asyncio.run(program())
    assert (report.ok, report.late) == (True, ())
    assert stored_guests(file) == ["Ada", "Grace"]


def test_connection_fixed() -> None:
    async def program() -> taskscope.Report:
        async with price_server() as port, taskscope.TaskScope() as scope:
            client = connection.Client(*await asyncio.open_connection("127.0.0.1", port))
            try:
                assert await client.ask("tea") == "4.20 for tea"
            finally:
                await client.close()
        return scope.report

    report = asyncio.run(program())
    assert (report.ok, report.late, report.spawned) == (True, (), 1)


@pytest.mark.parametrize("program", PROGRAMS)
def test_text_has_heading_and_report(text: str, program: str) -> None:
    part = section(text, program)
    module = import_module(f"taskscope._demo.{program}")
    assert part.strip().startswith(module.__doc__.splitlines()[0])
    assert len(part.strip().splitlines()) > 2


def test_text_tells_what_was_found(text: str) -> None:
    fan_out = section(text, "fan_out")
    assert all(f"download {number}" in fan_out for number in (3, 4, 5))
    assert "await pages.put(" in fan_out
    connection = section(text, "connection")
    assert "connection monitor" in connection
    assert "while line := await self._reader.readline():" in connection
    guest_book = section(text, "guest_book")
    assert "write Ada" in guest_book
    assert "write Grace" in guest_book
    assert "Closed in use: sqlite3.Connection 'guests', which 2 tasks still held" in guest_book
    assert "await self._flush.wait()" in guest_book
    fixed = section(text, "fan_out_fixed")
    assert "download" not in fixed.replace(import_module("taskscope._demo.fan_out_fixed").__doc__.splitlines()[0], "")


def test_text_is_plain_in_a_pipe_and_the_same_twice(text: str) -> None:
    assert "\x1b" not in text
    assert demo() == text


def test_text_holds_nothing_that_changes(text: str) -> None:
    assert not re.search(r"0x[0-9a-f]+|127\.0\.0\.1:\d|Task-\d+|guests\.db", text)


def test_color(text: str) -> None:
    colored = demo("--color", "always")
    assert "\x1b[" in colored
    assert re.sub(r"\x1b\[[0-9;]*m", "", colored) == text
    assert demo("--color", "never", FORCE_COLOR="1") == text


@pytest.mark.parametrize("program", PROGRAMS)
def test_program_runs_by_itself(text: str, program: str) -> None:
    finished = command("-m", f"taskscope._demo.{program}")
    assert (finished.returncode, finished.stderr) == (0, "")
    assert without_port(finished.stdout).strip() in section(text, program)


def test_programs_are_short_and_tell_their_story() -> None:
    files = sorted(Path(taskscope.__file__).with_name("_demo").glob("[!_]*.py"))
    assert {file.stem for file in files} >= set(PROGRAMS)
    for file in files:
        source = file.read_text(encoding="utf-8")
        assert source.startswith('"""'), file
        assert len(source.splitlines()) < 80, file


def test_refuses_to_run_while_switched_off() -> None:
    finished = command("-m", "taskscope", "demo", TASKSCOPE="off")
    assert finished.returncode == 2
    assert finished.stdout == ""
    assert "TASKSCOPE=off" in finished.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "required: command"),
        (["dmeo"], "invalid choice: 'dmeo'"),
        (["demo", "--color", "maybe"], "invalid choice: 'maybe'"),
        (["demo", "--json", "--color", "always"], "not allowed with argument --json"),
    ],
)
def test_refuses_arguments_that_make_no_sense(arguments: list[str], complaint: str) -> None:
    finished = command("-m", "taskscope", *arguments)
    assert (finished.returncode, finished.stdout) == (2, "")
    assert complaint in finished.stderr


def test_version() -> None:
    finished = command("-m", "taskscope", "--version")
    assert (finished.returncode, finished.stderr) == (0, "")
    assert re.fullmatch(r"taskscope (\d+\.\d+\.\d+\S*|\(version unknown: not installed\))\n", finished.stdout)
