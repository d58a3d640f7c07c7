"""What is imported when a leak is found is imported on the loop: but for the import itself it must not ask the disk.

Checkers of blocking calls (blockbuster) raise at that, and did, in the middle of the end of a scope.
"""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import asyncio, os, taskscope

def refusing(name, original):
    def call(*args, **kwargs):
        if asyncio._get_running_loop() is not None:
            raise AssertionError(f"os.{name}{args} on the loop")
        return original(*args, **kwargs)
    return call

for name in ("access", "listdir", "lstat", "readlink", "scandir", "stat"):
    setattr(os, name, refusing(name, getattr(os, name)))

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
