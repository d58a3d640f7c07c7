"""The README: what it shows is what happens."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest
from plugin.project import run_pytest
from test_demo import demo, without_port

import taskscope

REPOSITORY = Path(__file__).parent.parent
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def block(mark: str) -> str:
    """The code block behind a mark."""
    found = re.search(rf"^<!-- {mark} -->\n```\w+\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert found is not None, f"the README has no code block with the mark {mark}"
    return found[1]


def test_the_demo_prints_what_the_readme_shows() -> None:
    # A working copy that is installed in place shows its folder.
    assert demo().replace('"src/taskscope/', '"taskscope/') == without_port(block("demo-output"))


@pytest.mark.parametrize("mark", ["ci:demo", "ci:test"])
def test_each_set_up_is_one_command(mark: str) -> None:
    command = block(mark)
    assert command.count("\n") == 1
    assert command.startswith("python3 -m venv ")


def test_the_options_of_a_scope_are_all_there_with_their_defaults() -> None:
    defaults = taskscope.TaskScope.__init__.__kwdefaults__
    example = next(part for part in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "cancel_timeout=" in part)
    shown = dict(re.findall(r"^    (\w+)=(.+?),  ", example, re.MULTILINE))
    assert shown.pop("name") == "None"
    assert {name: ast.literal_eval(value) for name, value in shown.items()} == defaults


def test_python_blocks_compile() -> None:
    for source in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        compile(source, "README.md", "exec", flags=0x2000)  # ast.PyCF_ALLOW_TOP_LEVEL_AWAIT


def test_every_public_name_but_data_and_the_error_of_later_versions_is_mentioned() -> None:
    for name in set(taskscope.__all__) - {
        "Frame",
        "Wait",
        "TaskRecord",
        "Installation",
        "TaskScopeError",
        "DeadlockError",
    }:
        assert name in README, name


@pytest.mark.parametrize("name", re.findall(r"\]\((?!http)([^)#]+)\)", README) or ["LICENSE"])
def test_files_that_are_linked_exist(name: str) -> None:
    assert (REPOSITORY / name).exists()


def test_the_oldest_python_named_is_the_oldest_that_installs() -> None:
    pyproject = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    oldest = re.search(r'requires-python = ">=(3\.\d+)"', pyproject)
    assert oldest is not None
    assert f"With Python {oldest[1]} or newer" in README
    assert sys.version_info >= tuple(map(int, oldest[1].split(".")))


def test_the_example_for_pytest_fails_as_the_readme_shows(tmp_path: Path) -> None:
    shop = (REPOSITORY / "tests" / "plugin" / "shop" / "shop.py").read_text("utf-8")
    imports = "import asyncio\nimport pytest\nfrom shop import checkout, send_receipts\n\n"
    files = {"shop.py": shop, "test_shop.py": imports + block("pytest-example")}
    run = run_pytest(tmp_path, files, plugins=("pytest_asyncio.plugin",), ini="taskscope = true", report=False)
    assert run.output.count("\n" + block("pytest-output")) == 1, run.output
