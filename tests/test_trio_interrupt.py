"""Ctrl-C on Trio, in real processes: it propagates, in bounded time, and what was left running is told of."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time

import pytest

PROGRAM = """
    import signal, sys, time, trio, taskscope

    async def stray():
        await trio.sleep(10_000)

    async def swallows():
        while time.monotonic() < end:
            try:
                await trio.sleep(0.01)
            except trio.Cancelled:
                with trio.CancelScope(shield=True):
                    await trio.sleep(0.02)

    def tell(report):
        print("report", report.phase, *sorted(r.coroutine for r in report.leaks), flush=True)

    async def main():
        async with trio.open_nursery() as nursery:
            scope = taskscope.TaskScope(grace=GRACE, cancel_timeout=0.3, on_leak="ignore", on_report=tell)
            try:
                async with scope:
                    nursery.start_soon(stray)
                    nursery.start_soon(LEAK)
                    await trio.sleep(0.01)
                    if BODY_WAITS:
                        say("ready")
                        await trio.sleep_forever()
                    trio.lowlevel.spawn_system_task(ready_soon)
            except BaseException as error:
                print("left", type(error).__name__, flush=True)
                raise

    async def ready_soon():
        await trio.sleep(0.05)
        say("ready")

    def say(word):
        print(word, flush=True)

    # What is run in the background of a shell is started with Ctrl-C ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    end = time.monotonic() + 1.5
    try:
        trio.run(main)
    except BaseException as error:
        flat = [error]
        while flat and isinstance(flat[0], BaseExceptionGroup):
            flat = [*flat[0].exceptions, *flat[1:]]
        print("run raised", *sorted({type(e).__name__ for e in flat}), flush=True)
"""


def interrupted(*, grace: float, body_waits: bool, leak: str = "stray") -> tuple[list[str], float]:
    """What the program says, and how many seconds it has taken from the signal to its end."""
    settings = {"GRACE": str(grace), "BODY_WAITS": str(body_waits), "LEAK": leak}
    program = textwrap.dedent(PROGRAM)
    for word, value in settings.items():
        program = program.replace(word, value)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = [process.stdout.readline().strip()]
        started = time.perf_counter()
        process.send_signal(signal.SIGINT)
        try:
            said += process.communicate(timeout=40)[0].split("\n")
        finally:
            process.kill()
        return [line for line in said if line], time.perf_counter() - started


@pytest.mark.parametrize("body_waits", [True, False], ids=["in the body", "in the grace"])
def test_ctrl_c_is_told_of_and_propagates_without_any_grace(body_waits: bool) -> None:
    said, seconds = interrupted(grace=60, body_waits=body_waits)
    assert said == ["ready", "report exit stray stray", "left KeyboardInterrupt", "run raised KeyboardInterrupt"]
    assert seconds < 30


def test_ctrl_c_while_strays_are_being_cancelled_is_not_lost() -> None:
    said, _ = interrupted(grace=0, body_waits=False, leak="swallows")
    assert said[-1] == "run raised KeyboardInterrupt"
    assert said[1:3] == ["report exit stray swallows", "left KeyboardInterrupt"]
