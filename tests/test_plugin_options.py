"""The options of the pytest plugin: what is taken, from where, and what is refused."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
from plugin.many import Start, run_many

HAS_NATIVE_TABLES = pytest.version_tuple >= (9, 0)

# Prints what holds for each test, as the plugin itself sees it.
PROBE = """
def pytest_collection_finish(session):
    plugin = session.config.pluginmanager.get_plugin("taskscope-enforcement")
    for item in session.items:
        settings = plugin and plugin._settings.of(item)
        policy = settings and settings.policy
        found = policy and {
            "on_leak": settings.on_leak, "grace": policy.grace, "cancel_timeout": policy.cancel_timeout,
            "timeout": policy.timeout, "watch": policy.watch, "outer_groups": policy.outer_groups,
            "find": sorted(policy.find), "end_processes": policy.end_processes,
            "scan": policy.scan, "spawn_site": policy.spawn_site, "ignore_builtin": policy.ignore_builtin,
            "ignore": [f"{rule} -- {rule.reason}" for rule in policy.ignore],
        }
        print("SETTINGS", item.name, found)
"""

DEFAULTS = {
    "on_leak": "raise",
    "grace": 0.2,
    "cancel_timeout": 1.0,
    "timeout": None,
    "watch": 0.25,
    "outer_groups": "leak",
    "find": ["tasks"],
    "end_processes": False,
    "scan": False,
    "spawn_site": "site",
    "ignore_builtin": True,
    "ignore": [],
}
CHOSEN = {
    "on_leak": "warn",
    "grace": 0.5,
    "cancel_timeout": 2.0,
    "timeout": 30.0,
    "watch": None,
    "outer_groups": "transfer",
    "find": ["processes", "tasks", "timers"],
    "end_processes": True,
    "scan": True,
    "spawn_site": "stack",
    "ignore_builtin": False,
    "ignore": ["coroutine='Client._read' -- it ends with the loop", "task='a b' -- why not"],
}
TEST = "def test_it():\n    pass\n"

AS_INI = """\
taskscope = true
taskscope_on_leak = warn
taskscope_grace = 0.5
taskscope_cancel_timeout = 2
taskscope_timeout = 30
taskscope_watch = none
taskscope_outer_groups = transfer
taskscope_find = timers processes
taskscope_end_processes = true
taskscope_scan = true
taskscope_spawn_site = stack
taskscope_ignore_builtin = false
taskscope_ignore =
    coroutine=Client._read -- it ends with the loop
    task='a b' -- why not
"""
AS_TOML = """\
taskscope = true
taskscope_on_leak = "warn"
taskscope_grace = 0.5
taskscope_cancel_timeout = 2
taskscope_timeout = 30
taskscope_watch = "none"
taskscope_outer_groups = "transfer"
taskscope_find = ["timers", "processes"]
taskscope_end_processes = true
taskscope_scan = true
taskscope_spawn_site = "stack"
taskscope_ignore_builtin = false
taskscope_ignore = ["coroutine=Client._read -- it ends with the loop", "task='a b' -- why not"]
"""
ON_COMMAND_LINE = (
    "--taskscope",
    "--taskscope-on-leak=warn",
    "--taskscope-grace=0.5",
    "--taskscope-cancel-timeout=2",
    "--taskscope-timeout=30",
    "--taskscope-watch=none",
    "--taskscope-outer-groups=transfer",
    "--taskscope-find=timers,processes",
    "--taskscope-end-processes=true",
    "--taskscope-scan=true",
    "--taskscope-spawn-site=stack",
    "--taskscope-ignore-builtin=false",
)


def _ini(lines: str, test: str = TEST) -> dict[str, str]:
    return {"pytest.ini": f"[pytest]\n{lines}", "test_it.py": test}


def _toml(table: str, lines: str) -> dict[str, str]:
    return {"pyproject.toml": f"[{table}]\n{lines}", "test_it.py": TEST}


def _marked(*marks: str) -> str:
    return "\n".join(["import pytest", *(f"@pytest.mark.{mark}" for mark in marks), TEST])


@functools.cache
def _all(folder: Path) -> dict[str, Start]:
    starts = {**TAKEN_STARTS, **{name: start for name, (start, _) in REFUSED.items()}}
    folder.mkdir()
    (folder / "probe.py").write_text(PROBE, "utf-8")
    (folder / "there").mkdir()
    for start in starts.values():
        start.arguments = ("-p", "probe", "-s", *start.arguments)
    run_many(folder, list(starts.values()))
    return starts


@pytest.fixture
def starts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Start]:
    return _all(tmp_path_factory.getbasetemp() / "plugin-options")


TAKEN = {
    "off by default": (Start(_ini("")), None),
    "off in the file": (Start(_ini("taskscope = false\ntaskscope_grace = 3\n")), None),
    "the command line says no": (Start(_ini(AS_INI), ("--taskscope", "--taskscope-grace=1", "--no-taskscope")), None),
    "on in the file": (Start(_ini("taskscope = true\n")), DEFAULTS),
    "on in other words": (Start(_ini("taskscope = yes\ntaskscope_scan = 1\n")), {**DEFAULTS, "scan": True}),
    "on on the command line": (Start(_ini("taskscope = false\n"), ("--taskscope",)), DEFAULTS),
    "no file at all": (Start({"test_it.py": TEST}, ("--taskscope", "-W", "error")), DEFAULTS),
    "all in pytest.ini": (Start(_ini(AS_INI)), CHOSEN),
    "all in pyproject.toml": (Start(_toml("tool.pytest.ini_options", AS_TOML)), CHOSEN),
    "all on the command line": (Start(_ini(""), ON_COMMAND_LINE), {**CHOSEN, "ignore": []}),
    "-o": (Start(_ini(""), ("-o", "taskscope=true", "-o", "taskscope_grace=4")), {**DEFAULTS, "grace": 4.0}),
    "the command line before the file": (
        Start(_ini(AS_INI), ("--taskscope-grace=9", "--taskscope-watch=1")),
        {**CHOSEN, "grace": 9.0, "watch": 1.0},
    ),
    "the marker before the file": (
        Start(_ini(AS_INI, _marked("taskscope(grace=7, timeout=None)"))),
        {**CHOSEN, "grace": 7.0, "timeout": None},
    ),
    "the command line before the marker": (
        Start(_ini(AS_INI, _marked("taskscope(grace=7, timeout=None)")), ("--taskscope-grace=9",)),
        {**CHOSEN, "grace": 9.0, "timeout": None},
    ),
    "rules of the marker come to those of the file": (
        Start(_ini(AS_INI, "import taskscope\n" + _marked("taskscope(ignore=[taskscope.Ignore('x', reason='y')])"))),
        {**CHOSEN, "ignore": [*CHOSEN["ignore"], "coroutine='x' -- y"]},  # type: ignore[misc]
    ),
    "what to find, in lines and with commas": (
        Start(_ini("taskscope = true\ntaskscope_find =\n    timers, threads\n    tasks\n")),
        {**DEFAULTS, "find": ["tasks", "threads", "timers"]},
    ),
    "what to find is tasks alone": (Start(_ini("taskscope = true\ntaskscope_find = tasks\n")), DEFAULTS),
    "the marker finds something else": (
        Start(_ini(AS_INI, _marked("taskscope(find=['servers'])"))),
        {**CHOSEN, "find": ["servers", "tasks"], "end_processes": False},
    ),
    "the marker finds nothing else": (
        Start(_ini("taskscope = true\ntaskscope_find = timers\n", _marked("taskscope(find=())"))),
        DEFAULTS,
    ),
    "the marker ends processes": (
        Start(
            _ini("taskscope = true\n", _marked("taskscope(find=['processes'], end_processes=True)")),
        ),
        {**DEFAULTS, "find": ["processes", "tasks"], "end_processes": True},
    ),
    "the marker takes the test out": (Start(_ini("taskscope = true\n", _marked("taskscope(False)"))), None),
    "the nearest marker": (
        Start(
            _ini("taskscope = true\n", _marked("taskscope(grace=3)") + "\npytestmark = pytest.mark.taskscope(False)\n")
        ),
        {**DEFAULTS, "grace": 3.0},
    ),
    "strict markers when off": (
        Start(_ini("", _marked("taskscope(grace=3)", "taskscope_leaks('x')")), ("--strict-markers", "--strict-config")),
        None,
    ),
}
if HAS_NATIVE_TABLES:
    TAKEN["all in a native table"] = (Start(_toml("tool.pytest", AS_TOML)), CHOSEN)
    TAKEN["off in a native table"] = (Start(_toml("tool.pytest", "taskscope = false\n")), None)
    TAKEN["text in a native table"] = (
        Start(_toml("tool.pytest", 'taskscope = "true"\ntaskscope_grace = "0.5"\n')),
        {**DEFAULTS, "grace": 0.5},
    )
TAKEN_STARTS = {name: start for name, (start, _) in TAKEN.items()}


@pytest.mark.parametrize("name", TAKEN)
def test_options_are_taken(name: str, starts: dict[str, Start]) -> None:
    start, expected = starts[name], TAKEN[name][1]
    assert start.code == 0, start.output
    assert f"SETTINGS test_it {expected}" in start.output


def _on(line: str) -> dict[str, str]:
    return _ini(f"taskscope = true\n{line}\n")


_WORDS = "raise, warn, log, ignore, summary"
_FIND = "tasks, timers, generators, executor, threads, processes, servers, transports, unretrieved, untracked"
# What must be in the message.
REFUSED: dict[str, tuple[Start, str]] = {
    "switch": (Start(_ini("taskscope = maybe\n")), "taskscope=maybe: must be true or false"),
    "unknown option": (Start(_on("taskscope_gracee = 1")), "taskscope_gracee: there is no such option"),
    "no number": (Start(_on("taskscope_grace = soon")), "taskscope_grace=soon: must be a number of seconds >= 0"),
    "negative": (Start(_on("taskscope_grace = -1")), "taskscope_grace=-1: must be a number of seconds >= 0"),
    "not a number": (Start(_on("taskscope_grace = nan")), "taskscope_grace=nan: must be a number of seconds >= 0"),
    "endless": (Start(_on("taskscope_cancel_timeout = inf")), "taskscope_cancel_timeout=inf: must be a number"),
    "bad timeout": (Start(_on("taskscope_timeout = off")), "taskscope_timeout=off: must be none or a number"),
    "watch of nothing": (
        Start(_on("taskscope_watch = 0")),
        "taskscope_watch=0: must be none or a number",
    ),
    "on_leak": (Start(_on("taskscope_on_leak = error")), f"taskscope_on_leak=error: must be one of {_WORDS}"),
    "outer_groups": (
        Start(_on("taskscope_outer_groups = x")),
        "groups=x: must be one of leak, transfer",
    ),
    "scan": (Start(_on("taskscope_scan = 2")), "taskscope_scan=2: must be true or false"),
    "spawn_site": (
        Start(_on("taskscope_spawn_site = all")),
        "site=all: must be one of site, stack, off",
    ),
    "ignore": (Start(_on("taskscope_ignore = Client._read")), "taskscope_ignore: line='Client._read'"),
    "find": (
        Start(_on("taskscope_find = timers, clocks")),
        f"taskscope_find=timers, clocks: must be words out of {_FIND}",
    ),
    "find nothing": (Start(_on(""), ("--taskscope-find=",)), f"--taskscope-find=: must be words out of {_FIND}"),
    "end_processes": (Start(_on("taskscope_end_processes = 2")), "taskscope_end_processes=2: must be true or false"),
    "end_processes of none": (
        Start(_on("taskscope_end_processes = true")),
        'taskscope: end_processes=True: needs "processes" in find',
    ),
    "command line": (
        Start(_on(""), ("--taskscope-grace=soon",)),
        "--taskscope-grace=soon: must be a number",
    ),
    "command line, word": (
        Start(_on(""), ("--taskscope-on-leak=x",)),
        f"--taskscope-on-leak=x: must be one of {_WORDS}",
    ),
    "command line, unknown": (Start(_on(""), ("--taskscope-gracee=1",)), "--taskscope-gracee=1"),
    "not switched on": (Start(_ini(""), ("--taskscope-grace=1",)), "--taskscope-grace: taskscope is not switched on"),
    "report, not switched on": (Start(_ini(""), ("--taskscope-report=x.json",)), "taskscope is not switched on"),
    "report into nowhere": (
        Start(_on(""), ("--taskscope-report=nowhere/x.json",)),
        "--taskscope-report=nowhere/x.json: must be a file that can be written",
    ),
    "report into a folder": (
        Start(_on(""), ("--taskscope-report=there",)),
        "--taskscope-report=there: must be a file that can be written",
    ),
    "a list in ini_options": (
        Start(_toml("tool.pytest.ini_options", 'taskscope = true\ntaskscope_grace = ["1"]\n')),
        "taskscope_grace=['1']: must be a number of seconds >= 0",
    ),
}
if HAS_NATIVE_TABLES:
    REFUSED |= {
        f"native {line}": (Start(_toml("tool.pytest", f"taskscope = true\n{line}\n")), message)
        for line, message in {
            "taskscope_grace = true": "taskscope_grace=True: must be a number of seconds >= 0",
            "taskscope_grace = [1]": "taskscope_grace=[1]: must be a number of seconds >= 0",
            "taskscope_grace = -0.5": "taskscope_grace=-0.5: must be a number of seconds >= 0",
            "taskscope_find = [1]": f"taskscope_find=[1]: must be words out of {_FIND}",
            "taskscope_find = true": f"taskscope_find=True: must be words out of {_FIND}",
            "taskscope_scan = 0.5": "taskscope_scan=0.5: must be true or false",
            "taskscope_on_leak = true": f"taskscope_on_leak=True: must be one of {_WORDS}",
            "taskscope_ignore = 'task=x -- y'": "taskscope_ignore='task=x -- y': must be a list of strings",
            "taskscope_ignore = [1]": "taskscope_ignore=[1]: must be a list of strings",
        }.items()
    }
REFUSED |= {
    f"marker {mark}": (Start(_ini("taskscope = true\n", _marked(mark))), f"test_it.py::test_it: {message}")
    for mark, message in {
        "taskscope(graze=1)": "taskscope marker: graze=1: there is no such argument; it takes grace,",
        "taskscope(grace='soon')": "taskscope marker: grace='soon': must be a finite number of seconds >= 0",
        "taskscope(on_leak='error')": f"taskscope marker: on_leak='error': must be one of {_WORDS}",
        "taskscope(on_leak=5)": f"taskscope marker: on_leak=5: must be one of {_WORDS}, or a function",
        "taskscope(on_report=print)": "taskscope marker: on_report: the plugin takes the reports",
        "taskscope(ignore_builtin='no')": "taskscope marker: ignore_builtin='no': must be True or False",
        "taskscope(find='timers')": "taskscope marker: find='timers': must be a sequence of 'tasks', 'timers'",
        "taskscope(find=['clocks'])": "taskscope marker: find=['clocks']: must be a sequence of 'tasks', 'timers'",
        "taskscope(find=5)": "taskscope marker: find=5: must be a sequence of 'tasks', 'timers'",
        "taskscope(end_processes=1)": "taskscope marker: end_processes=1: must be True or False",
        "taskscope(end_processes=True)": 'taskscope marker: end_processes=True: needs "processes" in find',
        "taskscope(find=[], end_processes=True)": "taskscope marker: end_processes=True: needs",
        "taskscope(ignore='x')": "taskscope marker: ignore='x': must be a sequence of taskscope.Ignore",
        "taskscope(ignore=5)": "taskscope marker: ignore=5: must be a sequence of taskscope.Ignore",
        "taskscope(1)": "taskscope(1): the marker takes False, or keyword arguments",
        "taskscope_leaks": "taskscope_leaks: takes qualified names",
        "taskscope_leaks(5)": "taskscope_leaks: takes qualified names",
        "taskscope_leaks('x', strict='yes')": "taskscope_leaks: takes qualified names",
        "taskscope_leaks('x', strikt=True)": "taskscope_leaks: there is no argument strikt",
    }.items()
}


@pytest.mark.parametrize("name", REFUSED)
def test_options_are_refused(name: str, starts: dict[str, Start]) -> None:
    start, message = starts[name], REFUSED[name][1]
    assert start.code == pytest.ExitCode.USAGE_ERROR, start.output
    assert message in " ".join(start.output.split())
    assert "Traceback" not in start.output
    assert "INTERNALERROR" not in start.output
    assert " passed" not in start.output, "before anything has run"


def test_help_shows_all_in_one_group(tmp_path: Path) -> None:
    helped, markers = Start(_ini(""), ("--help",)), Start(_ini(""), ("--markers",))
    run_many(tmp_path, [helped, markers])
    lines = helped.output.splitlines()
    begin = lines.index("taskscope: tasks that outlive their test:")
    group = " ".join(" ".join(lines[begin : lines.index("", begin)]).split())
    for flag in ("--taskscope", "--no-taskscope", "--taskscope-report=FILE", *ON_COMMAND_LINE[1:]):
        assert flag.partition("=")[0] in group
    for flag in ("grace", "cancel-timeout", "timeout", "watch"):
        text = group.partition(f"--taskscope-{flag}=SECONDS")[2].partition(" --")[0]
        assert "seconds" in text
        assert "Default: " in text
    for name in (*DEFAULTS, ""):
        assert any(line.lstrip().startswith(f"taskscope_{name}".rstrip("_") + " (") for line in lines), name
    assert "@pytest.mark.taskscope(grace=..., on_leak=" in markers.output
    assert "@pytest.mark.taskscope_leaks(*coroutines, strict=True)" in markers.output
