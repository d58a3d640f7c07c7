"""What is public: a pinned list, each name documented and in one place, and an import without side effects."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import subprocess
import sys
from typing import Any

import pytest

import taskscope

PUBLIC = [
    "DeadlockError",
    "Finding",
    "Frame",
    "Ignore",
    "Installation",
    "Report",
    "ScopeTimeoutError",
    "TaskLeakError",
    "TaskLeakWarning",
    "TaskRecord",
    "TaskScope",
    "TaskScopeError",
    "Wait",
    "anyio_backends",
    "closing",
    "current_scope",
    "find_deadlocked",
    "guard",
    "hand_off",
    "install",
    "run",
    "scoped",
]
BASES = {"TaskScopeError"}
"""The classes that others are made from: all others are final."""

objects = pytest.mark.parametrize("name", PUBLIC)
MODULES = sorted(module.name for module in pkgutil.walk_packages(taskscope.__path__, "taskscope."))


def in_fresh_process(code: str) -> Any:
    """What a program prints as JSON in an interpreter of its own."""
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (finished.returncode, finished.stderr) == (0, "")
    return json.loads(finished.stdout)


def methods_of(cls: type) -> list[tuple[str, Any]]:
    """The public methods and properties that a class of this package defines itself."""
    return [
        (name, value) for name, value in vars(cls).items() if not name.startswith("_") and hasattr(value, "__doc__")
    ]


def test_the_list_of_public_names_is_pinned() -> None:
    assert taskscope.__all__ == PUBLIC == sorted(PUBLIC)


def test_nothing_else_is_public() -> None:
    found = {
        name for name, value in vars(taskscope).items() if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert found == set(PUBLIC)


def test_a_star_import_gives_exactly_them() -> None:
    space: dict[str, Any] = {}
    exec("from taskscope import *", space)
    assert set(space) - {"__builtins__"} == set(PUBLIC)


@objects
def test_every_name_has_a_docstring(name: str) -> None:
    value = getattr(taskscope, name)
    # a docstring of its own: that of a dataclass which has none is its signature, that of an exception its base's
    doc = vars(value).get("__doc__") if inspect.isclass(value) else value.__doc__
    assert doc and not doc.startswith(f"{name}(")
    assert "." in doc


@pytest.mark.parametrize("name", [name for name in PUBLIC if inspect.isclass(getattr(taskscope, name))])
def test_so_has_every_method_and_property(name: str) -> None:
    cls = getattr(taskscope, name)
    undocumented = [
        attribute
        for attribute, value in methods_of(cls)
        if (inspect.isfunction(value) or isinstance(value, property | classmethod | staticmethod)) and not value.__doc__
    ]
    assert not undocumented


@objects
def test_every_name_is_defined_in_one_private_module(name: str) -> None:
    value = getattr(taskscope, name)
    home = value.__module__
    package, _, module = home.partition(".")
    assert package == "taskscope" and module.startswith("_")
    assert getattr(importlib.import_module(home), value.__name__) is value


@pytest.mark.parametrize("module", [name for name in MODULES if not any(part[0] == "_" for part in name.split("."))])
def test_no_other_public_module_offers_them(module: str) -> None:
    imported = importlib.import_module(module)
    assert not set(getattr(imported, "__all__", ())) & set(PUBLIC)
    defined = {name for name, value in vars(imported).items() if getattr(value, "__module__", None) == module}
    assert not defined & set(PUBLIC)


def test_the_modules_that_users_may_import_are_pinned() -> None:
    public = {name for name in MODULES if not any(part.startswith("_") for part in name.split("."))}
    assert public == {"taskscope.cli", "taskscope.pytest_plugin"}


@pytest.mark.parametrize("name", [name for name in PUBLIC if inspect.isclass(getattr(taskscope, name))])
def test_concrete_classes_are_final(name: str) -> None:
    cls = getattr(taskscope, name)
    assert vars(cls).get("__final__", False) is (name not in BASES)


@objects
def test_every_signature_is_annotated(name: str) -> None:
    value = getattr(taskscope, name)
    functions = [value] if inspect.isfunction(value) else [function for _, function in methods_of(value)]
    for function in functions:
        function = function.fget if isinstance(function, property) else function
        if not inspect.isfunction(function):
            continue
        parameters = inspect.signature(function).parameters
        assert set(parameters) - {"self", "cls"} <= set(function.__annotations__), function
        assert "return" in function.__annotations__, function


def test_errors_are_what_a_handler_expects() -> None:
    for error in (taskscope.TaskLeakError, taskscope.DeadlockError, taskscope.ScopeTimeoutError):
        assert issubclass(error, taskscope.TaskScopeError)
    assert issubclass(taskscope.ScopeTimeoutError, TimeoutError)
    assert not issubclass(taskscope.TaskLeakError, TimeoutError)
    assert taskscope.TaskScopeError.__bases__ == (Exception,)
    assert taskscope.TaskLeakWarning.__bases__ == (RuntimeWarning,)


def test_the_package_is_marked_as_typed() -> None:
    from importlib.resources import files

    assert files("taskscope").joinpath("py.typed").is_file()


def test_the_version_is_the_distributions() -> None:
    from importlib.metadata import version

    assert taskscope.__version__ == version("taskscope")


# The import


def test_a_name_is_imported_when_it_is_asked_for() -> None:
    code = """
import json, sys
import taskscope
before = {name for name in sys.modules if name.startswith("taskscope.")}
taskscope.Report
print(json.dumps([sorted(before), "taskscope._report" in sys.modules, "Report" in vars(taskscope)]))
"""
    assert in_fresh_process(code) == [[], True, True]


def test_before_that_dir_knows_it_already() -> None:
    shown = in_fresh_process("import json, taskscope; print(json.dumps(dir(taskscope)))")
    assert set(PUBLIC) | {"__version__", "__all__"} <= set(shown)


def test_there_is_no_other_name() -> None:
    with pytest.raises(AttributeError, match="module 'taskscope' has no attribute 'instal'"):
        taskscope.instal  # type: ignore[attr-defined]  # noqa: B018
    assert not hasattr(taskscope, "_no_such_module")


def test_every_module_can_be_imported_first() -> None:
    # they are imported in the order in which a user asks for names
    code = f"""
import importlib, json, sys

def failure(module):
    for name in [name for name in sys.modules if name.partition(".")[0] == "taskscope"]:
        del sys.modules[name]
    try:
        importlib.import_module(module)
    except Exception as error:
        return f"{{module}}: {{error!r}}"

print(json.dumps([found for found in map(failure, {MODULES}) if found is not None]))
"""
    assert in_fresh_process(code) == []


def test_the_import_brings_in_no_other_package() -> None:
    code = """
import asyncio, concurrent.futures, json, logging, sys
before = set(sys.modules)
from taskscope import *
print(json.dumps(sorted(set(sys.modules) - before)))
"""
    imported = in_fresh_process(code)
    assert "taskscope._scope" in imported
    # the data of `sysconfig` is a module of the standard library whose name depends on the platform
    packages = {module.partition(".")[0] for module in imported if not module.startswith("_sysconfigdata")}
    assert not packages & {"trio", "pytest", "_pytest", "rich", "anyio", "uvloop", "hypothesis", "sniffio"}
    assert packages - {"taskscope"} <= set(sys.stdlib_module_names)


def test_neither_does_a_scope_with_a_leak_and_its_text() -> None:
    code = """
import asyncio, json, sys, taskscope
async def main():
    async with taskscope.TaskScope(grace=0, on_leak="ignore") as scope:
        asyncio.create_task(asyncio.sleep(1000))
    return scope.report.format(color=True)
assert "sleep" in asyncio.run(main())
foreign = {name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names)
print(json.dumps(sorted(name for name in foreign if not name.startswith("__editable__"))))
"""
    assert not set(in_fresh_process(code)) & {"trio", "pytest", "_pytest", "rich", "anyio", "uvloop"}


def test_the_import_changes_nothing_in_the_process() -> None:
    code = """
import asyncio, gc, json, logging, os, signal, sys, threading, warnings

def state():
    root, ours = logging.getLogger(), logging.getLogger("taskscope")
    return [
        repr(warnings.filters), warnings.showwarning is not None, str(warnings.showwarning),
        len(root.handlers), root.level, len(ours.handlers), ours.level, ours.propagate, ours.disabled,
        str(getattr(asyncio.events, "_event_loop_policy", None)), str(asyncio.Task), str(asyncio.create_task),
        str(asyncio.sleep),
        str(asyncio.all_tasks), str(asyncio.BaseEventLoop.create_task), str(asyncio.new_event_loop),
        str(sys.get_asyncgen_hooks()), sys.get_coroutine_origin_tracking_depth(),
        str(sys.excepthook), str(sys.unraisablehook), str(threading.excepthook), str(sys.gettrace()),
        str(sys.getprofile()), threading.active_count(), gc.get_threshold(), gc.isenabled(), len(gc.callbacks),
        sys.getrecursionlimit(), sorted(os.environ.items()), str(signal.getsignal(signal.SIGINT)), sys.path,
        str(sys.meta_path), str(sys.path_hooks), asyncio._get_running_loop() is None,
    ]

before = state()
import taskscope, taskscope.cli
after = state()
print(json.dumps([before, after]))
"""
    before, after = in_fresh_process(code)
    assert before == after


def test_no_loop_is_made_by_the_import_and_none_is_needed() -> None:
    code = """
import asyncio, json
def refuse(*args): raise AssertionError("a loop was made")
asyncio.new_event_loop = asyncio.events.new_event_loop = refuse
import taskscope
scope = taskscope.TaskScope("outside")
decorated = taskscope.scoped(grace=1.0)
print(json.dumps([taskscope.current_scope() is None, scope.name]))
"""
    assert in_fresh_process(code) == [True, "outside"]


def test_the_import_can_be_repeated() -> None:
    code = """
import asyncio, json, sys
import taskscope
first = taskscope.TaskScope
for name in [name for name in sys.modules if name.partition(".")[0] == "taskscope"]:
    del sys.modules[name]
import taskscope
async def main():
    async with first("old") as old, taskscope.TaskScope("new") as new:
        await asyncio.create_task(asyncio.sleep(0))
    return [old.report.spawned, new.report.spawned]
print(json.dumps(asyncio.run(main())[1]))
"""
    assert in_fresh_process(code) == 1
