"""What is imported when a leak is found is imported on the loop: but for the import itself it must not ask the disk.

Checkers of blocking calls (blockbuster) raise at that, and did, in the middle of the end of a scope.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from taskscope._policy import FIND

PROGRAM = """
import asyncio, os, taskscope

def refusing(name, original):
    def call(*args, **kwargs):
        if asyncio._get_running_loop() is not None:
            raise AssertionError(f"os.{name}{args} on the loop")
        return original(*args, **kwargs)
    return call

for name in ("access", "getcwd", "listdir", "lstat", "readlink", "scandir", "stat"):
    setattr(os, name, refusing(name, getattr(os, name)))
os.path.abspath = refusing("path.abspath", os.path.abspath)

async def main():
    if PLANTED:
        os.stat(".")
    async with taskscope.TaskScope(grace=0.1, on_leak="ignore") as scope:
        asyncio.create_task(asyncio.Event().wait())
    print(len(scope.report.leaks), "leak", scope.report.leaks[0].verdict)

asyncio.run(main())
"""


def _run(*, planted: bool) -> subprocess.CompletedProcess[str]:
    program = PROGRAM.replace("PLANTED", str(planted))
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)


def test_finding_and_proving_a_leak_asks_the_disk_for_nothing_but_its_modules() -> None:
    done = _run(planted=False)
    assert done.stdout == "1 leak deadlocked\n", done.stderr


def test_a_blocking_call_would_be_seen() -> None:
    assert "os.stat('.',) on the loop" in _run(planted=True).stderr


BLOCKBUSTER = """
import asyncio, sys
from blockbuster import blockbuster_ctx
import taskscope
from taskscope import TaskScope

async def hang():
    await asyncio.Event().wait()

async def stay():
    await asyncio.sleep(60)

async def leave():
    asyncio.create_task(stay())
    await asyncio.sleep(0)

async def leave_more():
    loop = asyncio.get_running_loop()
    loop.call_later(60, print)
    loop.run_in_executor(None, int)
    await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)

async def ask():
    asyncio.create_task(hang())
    await asyncio.sleep(0)
    print(len(taskscope.find_deadlocked().leaks), "deadlocked", file=sys.stderr)

async def main(body, options):
    with blockbuster_ctx():
        try:
            async with TaskScope(grace=0.05, **options):
                await body()
        except (taskscope.TaskLeakError, taskscope.DeadlockError, taskscope.ScopeTimeoutError) as error:
            error.report.to_json()
            print(error, file=sys.stderr)

asyncio.run(main(BODY, OPTIONS))
"""


@pytest.mark.parametrize(
    ("body", "options", "told"),
    [
        ("leave", {}, "1 task outlived"),
        ("leave", {"on_leak": "log"}, "1 task outlived"),
        ("leave", {"on_leak": "warn"}, "1 task outlived"),
        ("leave", {"spawn_site": "stack"}, "1 task outlived"),
        ("hang", {"watch": 0.01}, "could never have gone on"),
        ("stay", {"timeout": 0.05}, "its time was up"),
        ("leave_more", {"find": FIND, "end_processes": True}, "1 timer and 1 server"),
        ("ask", {}, "1 deadlocked"),
    ],
    ids=str,
)
def test_a_checker_of_blocking_calls_has_nothing_to_say(body: str, options: dict[str, object], told: str) -> None:
    program = BLOCKBUSTER.replace("BODY", body).replace("OPTIONS", repr(options))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "BlockingError" not in done.stderr
    assert told in done.stderr
