"""Tests that end in every way, with leaks and without, and what is to become of each."""

HELPERS = """
import asyncio
import time
import unittest
import pytest

async def forever():
    await asyncio.Event().wait()

async def other():
    await asyncio.Event().wait()

async def sleeper():
    await asyncio.sleep(60)

class Thing:
    async def method(self):
        await asyncio.Event().wait()

def spawn(function=forever):
    return asyncio.create_task(function())
"""

OUTCOMES = """
told = []

def refuse(report):
    raise LookupError(f"not {report.leaks[0].coroutine}")

def note(report):
    told.append(report.leaks[0].coroutine)

@pytest.mark.taskscope(on_leak="raise")
async def test_raise():
    spawn()

@pytest.mark.taskscope(on_leak="warn")
async def test_warn():
    spawn()

@pytest.mark.taskscope(on_leak="warn")
async def test_warn_and_fail():
    spawn()
    raise KeyError("my own")

@pytest.mark.taskscope(on_leak="log")
async def test_log():
    spawn()

@pytest.mark.taskscope(on_leak="ignore")
async def test_ignore():
    spawn()

@pytest.mark.taskscope(on_leak="summary")
async def test_summary():
    spawn()

@pytest.mark.taskscope(on_leak=note)
async def test_function():
    spawn()

async def test_function_was_called():
    assert told == ["forever"]

@pytest.mark.taskscope(on_leak=refuse)
async def test_function_raises():
    spawn()

@pytest.mark.taskscope(on_leak=refuse)
async def test_function_raises_and_fail():
    spawn()
    raise KeyError("my own")

@pytest.mark.taskscope(False)
async def test_taken_out():
    spawn()

@pytest.mark.taskscope_leaks("forever")
async def test_expected():
    spawn()

@pytest.mark.taskscope_leaks("forever", "other")
async def test_expected_several():
    spawn(), spawn(other)

@pytest.mark.taskscope_leaks("Thing.*", "f?rever")
async def test_expected_globs():
    spawn(), spawn(Thing().method)

@pytest.mark.taskscope_leaks("forever", "other")
async def test_expected_one_is_absent():
    spawn()

@pytest.mark.taskscope_leaks("forever")
@pytest.mark.taskscope_leaks("other", strict=False)
async def test_expected_one_that_need_not_be():
    spawn()

@pytest.mark.taskscope_leaks("forever", strict=False)
async def test_expected_not_strict_and_absent():
    pass

@pytest.mark.taskscope_leaks("forever")
async def test_expected_and_another():
    spawn(), spawn(other)

@pytest.mark.taskscope_leaks("forever")
async def test_expected_and_fail():
    raise KeyError("my own")

@pytest.mark.taskscope_leaks("Forever")
async def test_expected_in_other_letters():
    spawn()

async def test_fail():
    spawn()
    raise KeyError("my own")

async def test_skip():
    spawn()
    pytest.skip("not today")

@pytest.mark.xfail(strict=True)
async def test_xfail_strict():
    spawn()

@pytest.mark.xfail(strict=True)
async def test_xfail_strict_and_clean():
    pass

@pytest.mark.xfail
async def test_xfail_not_strict_and_clean():
    pass

@pytest.mark.xfail(raises=KeyError)
async def test_xfail_raises_other():
    spawn()

@pytest.mark.xfail(raises=KeyError)
async def test_xfail_raises_and_leaks():
    spawn()
    raise KeyError("my own")

async def test_xfail_in_body():
    spawn()
    pytest.xfail("so it is")

@pytest.mark.taskscope(timeout=0.05, watch=None)
async def test_timeout():
    await asyncio.Event().wait()

@pytest.mark.taskscope(timeout=0.05)
async def test_timeout_of_sleep():
    await asyncio.sleep(60)

@pytest.mark.taskscope(timeout=0.05, watch=None)
async def test_timeout_and_fail():
    try:
        await asyncio.Event().wait()
    finally:
        raise KeyError("my own")

@pytest.mark.taskscope(timeout=0.05, watch=None, on_leak="warn")
async def test_timeout_and_warn():
    await asyncio.Event().wait()

async def test_deadlock():
    await asyncio.Event().wait()

@pytest.mark.xfail(strict=True)
async def test_deadlock_xfail():
    await asyncio.Event().wait()

@pytest.mark.taskscope(watch=None, timeout=0.6)
async def test_timeout_and_no_watch():
    began = time.monotonic()
    try:
        await asyncio.Event().wait()
    finally:
        print("after", time.monotonic() - began)

async def test_leak_of_a_sleeper():
    spawn(sleeper)

async def test_clean():
    task = spawn()
    task.cancel()
    await asyncio.wait([task])

class TestCase(unittest.IsolatedAsyncioTestCase):
    async def test_case_fails(self):
        spawn()
        raise KeyError("my own")

    async def test_case_skips(self):
        spawn()
        self.skipTest("not today")

    @pytest.mark.taskscope(timeout=0.05, watch=None)
    async def test_case_timeout_and_fail(self):
        try:
            await asyncio.Event().wait()
        finally:
            raise KeyError("my own")
"""

# Each with its outcome and what became of what was found in it.
EXPECTED = {
    "test_raise": ("failed", ["failed"]),
    "test_warn": ("passed", ["warned"]),
    "test_warn_and_fail": ("failed", ["warned"]),
    "test_log": ("passed", ["logged"]),
    "test_ignore": ("passed", ["ignored"]),
    "test_summary": ("passed", ["told"]),
    "test_function": ("passed", ["called"]),
    "test_function_was_called": ("passed", []),
    "test_function_raises": ("failed", ["called"]),
    "test_function_raises_and_fail": ("failed", ["called"]),
    "test_taken_out": ("passed", []),
    "test_expected": ("passed", ["expected"]),
    "test_expected_several": ("passed", ["expected"]),
    "test_expected_globs": ("passed", ["expected"]),
    "test_expected_one_is_absent": ("failed", ["expected"]),
    "test_expected_one_that_need_not_be": ("passed", ["expected"]),
    "test_expected_not_strict_and_absent": ("passed", []),
    "test_expected_and_another": ("failed", ["expected", "failed"]),
    "test_expected_and_fail": ("failed", []),
    "test_expected_in_other_letters": ("failed", ["failed"]),
    "test_fail": ("failed", ["failed"]),
    "test_skip": ("skipped", ["told"]),
    "test_xfail_strict": ("xfailed", ["xfailed"]),
    "test_xfail_strict_and_clean": ("failed", []),
    "test_xfail_not_strict_and_clean": ("xpassed", []),
    "test_xfail_raises_other": ("failed", ["failed"]),
    "test_xfail_raises_and_leaks": ("xfailed", ["xfailed"]),
    "test_xfail_in_body": ("xfailed", ["xfailed"]),
    "test_timeout": ("failed", ["failed"]),
    "test_timeout_of_sleep": ("failed", ["failed"]),
    "test_timeout_and_fail": ("failed", ["failed"]),
    "test_timeout_and_warn": ("failed", ["failed"]),
    "test_deadlock": ("failed", ["failed"]),
    "test_deadlock_xfail": ("xfailed", ["xfailed"]),
    "test_timeout_and_no_watch": ("failed", ["failed"]),
    "test_leak_of_a_sleeper": ("failed", ["failed"]),
    "test_clean": ("passed", []),
    "test_case_fails": ("failed", ["failed"]),
    "test_case_skips": ("skipped", ["told"]),
    "test_case_timeout_and_fail": ("failed", ["failed"]),
}
