"""What projects begin with whose tests pytest-asyncio runs in its strict mode."""

INI = """
taskscope = true
asyncio_mode = strict
asyncio_default_fixture_loop_scope = function
"""
HELPERS = """
import asyncio
import contextvars
import os
import unittest
import pytest

async def forever():
    await asyncio.Event().wait()

async def other():
    await asyncio.Event().wait()

async def sleeper():
    await asyncio.sleep(60)

def spawn(function=forever):
    return asyncio.create_task(function())
"""
