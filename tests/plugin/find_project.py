"""Tests that leave things, or seem to, in plain functions, in properties, beside tasks, and with other libraries."""

SYNC = """
import asyncio
import importlib.util
import threading
import unittest

import anyio.from_thread
import anyio.to_thread
import hypothesis
import pytest

kept = []

def run_until_told(told):
    told.wait(60)

def start(told):
    thread = threading.Thread(target=run_until_told, args=(told,), daemon=True)
    thread.start()
    return thread

class Beat:
    def __init__(self):
        self.told = threading.Event()
        self.thread = None

    def begin(self):
        self.thread = start(self.told)

    def end(self):
        self.told.set()
        self.thread.join()

def nothing():
    pass

def test_thread_leak():
    start(threading.Event())

def test_thread_clean():
    beat = Beat()
    beat.begin()
    beat.end()

@pytest.fixture
def made_leak():
    beat = Beat()
    beat.begin()
    yield beat

def test_made_leak(made_leak):
    pass

@pytest.fixture
def made_clean():
    beat = Beat()
    beat.begin()
    yield beat
    beat.end()

def test_made_clean(made_clean):
    pass

@pytest.fixture(scope="module")
def lazy_leak():
    yield Beat()

def test_lazy_leak(lazy_leak):
    lazy_leak.begin()
    kept.append(lazy_leak)

@pytest.fixture(scope="module")
def lazy_clean():
    beat = Beat()
    yield beat
    beat.end()

def test_lazy_clean(lazy_clean):
    lazy_clean.begin()

def test_run_leak():
    async def main():
        asyncio.get_running_loop().call_later(60, nothing)
    asyncio.run(main())

def test_run_clean():
    async def main():
        return asyncio.get_running_loop().call_later(60, nothing)
    async def end(handle):
        handle.cancel()
    with asyncio.Runner() as runner:
        runner.run(end(runner.run(main())))

def test_unretrieved_leak():
    async def fail():
        raise LookupError
    async def main():
        task = asyncio.create_task(fail())
        await asyncio.wait([task])
    asyncio.run(main())

LOOPS = [asyncio.new_event_loop]
if importlib.util.find_spec("uvloop"):
    import uvloop
    LOOPS.append(uvloop.new_event_loop)

@pytest.mark.parametrize("new_loop", LOOPS)
def test_interrupted_clean(new_loop):
    # uvloop's asks its main task for nothing then
    async def stop():
        raise SystemExit
    async def main():
        async with asyncio.TaskGroup() as group:
            group.create_task(stop())
    with pytest.raises(BaseException):
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(main())

def test_unretrieved_clean():
    async def fail():
        raise LookupError
    async def main():
        await asyncio.gather(fail(), return_exceptions=True)
    asyncio.run(main())

def test_loop_in_worker_clean():
    # as when a web application answers a request by means of a client that has a loop of its own
    with anyio.from_thread.start_blocking_portal() as portal:
        portal.call(anyio.to_thread.run_sync, anyio.run, anyio.sleep, 0)

@hypothesis.given(hypothesis.strategies.booleans())
def test_property_leak(is_left):
    beat = Beat()
    beat.begin()
    if not is_left:
        beat.end()

@hypothesis.given(hypothesis.strategies.booleans())
def test_property_clean(is_left):
    beat = Beat()
    beat.begin()
    beat.end()

class Case(unittest.TestCase):
    def setUp(self):
        self.beat = Beat()

    def test_case_leak(self):
        start(threading.Event())

    def test_case_clean(self):
        self.beat.begin()
        self.beat.end()
"""

TOLD = """
import asyncio
import threading

import hypothesis
import pytest

kept = []

async def forever():
    await asyncio.Event().wait()

def ring():
    pass

def call_later():
    kept.append(asyncio.get_running_loop().call_later(60, ring))

@pytest.mark.parametrize("number", range(3))
async def test_timer(number):
    call_later()

async def test_task_and_timer():
    asyncio.create_task(forever())
    call_later()

@pytest.mark.parametrize("number", range(2))
async def test_server(number):
    kept.append(await asyncio.start_server(print, "127.0.0.1", 0))

async def test_failed_task():
    async def fail():
        raise LookupError
    task = asyncio.create_task(fail())  # spawned here
    await asyncio.wait([task])

@pytest.mark.taskscope_leaks("forever")
async def test_expected_task_and_timer():
    asyncio.create_task(forever())
    call_later()

@pytest.mark.taskscope_leaks("forever")
async def test_expected_task():
    asyncio.create_task(forever())

@pytest.mark.taskscope(find=())
async def test_nothing_is_looked_for():
    call_later()

@pytest.mark.taskscope(on_leak="warn")
async def test_warned():
    call_later()

@hypothesis.given(hypothesis.strategies.integers())
async def test_property(number):
    call_later()

async def test_fails_and_leaves():
    call_later()
    assert 0
"""

INNOCENT = """
import asyncio
import concurrent.futures
import subprocess
import sys
import threading

import aiohttp
import aiohttp.web
import anyio.to_thread
import pytest

pytestmark = pytest.mark.asyncio(loop_scope="session")

def work():
    return threading.current_thread()

@pytest.fixture(scope="session")
async def pool():
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        yield pool

@pytest.fixture(scope="session")
def pool_of_sync_fixture():
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        yield pool

@pytest.mark.parametrize("number", range(2))
async def test_worker_of_a_pool(number, pool, pool_of_sync_fixture):
    loop = asyncio.get_running_loop()
    for used in (pool, pool_of_sync_fixture):
        await loop.run_in_executor(used, work)

@pytest.mark.parametrize("number", range(2))
async def test_worker_of_the_loop(number):
    await asyncio.to_thread(work)

def test_worker_of_a_loop_that_is_stopped(request):
    loop = asyncio.new_event_loop()
    loop.run_until_complete(asyncio.wait_for(loop.run_in_executor(None, work), 10))
    request.config.stopped_loop = loop

def test_worker_of_a_loop_that_is_closed(request):
    request.config.stopped_loop.close()

@pytest.mark.parametrize("number", range(2))
async def test_worker_of_anyio(number):
    await anyio.to_thread.run_sync(work)

@pytest.fixture(scope="session")
async def client():
    async def answer(request):
        return aiohttp.web.Response(text="hello")

    app = aiohttp.web.Application()
    app.router.add_get("/", answer)
    runner = aiohttp.web.AppRunner(app)
    await runner.setup()
    site = aiohttp.web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    async with aiohttp.ClientSession() as session:
        session.where = "http://{}:{}".format(*runner.addresses[0])
        yield session
    await runner.cleanup()

@pytest.mark.parametrize("number", range(2))
async def test_connection_that_a_client_keeps(number, client):
    async with client.get(client.where) as response:
        assert await response.text() == "hello"

@pytest.fixture(scope="session")
async def children():
    found = []
    yield found
    for child in found:
        child.stdin.close()
        await child.wait()

async def test_process_of_a_fixture(children):
    children.append(
        await asyncio.create_subprocess_exec(sys.executable, "-c", "input()", stdin=asyncio.subprocess.PIPE)
    )

async def test_process_that_has_ended():
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", "")
    await child.wait()

async def test_debug_mode():
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    try:
        await asyncio.sleep(0)
        async with asyncio.timeout(60):
            await asyncio.to_thread(work)
    finally:
        loop.set_debug(False)

async def test_timeouts_of_the_library():
    async with asyncio.timeout(60):
        await asyncio.wait_for(asyncio.sleep(0), 60)

def test_threads_that_a_plugin_starts():
    pass
"""
