"""Tests that hang in what a fixture has, and their twins that something alive will wake.

For AnyIO, pytest-asyncio and pytest-trio.

The names of those that hang begin with `test_hangs`. SOON stands for when the others are woken, in seconds.
"""

from __future__ import annotations

SOON = 0.2

# `Client`, with an event that it waits in and sets, and `soon`, are each library's.
_ON_EITHER = """
@pytest.fixture
def client():
    return Client()

@pytest.fixture
def sync_generator():
    client = Client()
    yield client
    client.wake()

@pytest.fixture
async def coroutine():
    return Client()

@pytest.fixture
async def generator():
    client = Client()
    yield client

async def test_hangs_in_value(client):
    await client.event.wait()

async def test_hangs_in_sync_generator(sync_generator):
    await sync_generator.event.wait()

async def test_hangs_in_generator(generator):
    await generator.event.wait()

async def test_hangs_beside_worker(with_worker):
    await with_worker.event.wait()

async def test_hangs_in_what_it_asks_for(request):
    await request.getfixturevalue("sync_generator").event.wait()

async def test_task_of_fixture(client, task_of_fixture):
    await client.event.wait()

async def test_worker_is_cancelled(client, worker_is_cancelled):
    await client.event.wait()

async def test_thread_has_value(client, thread_has_value):
    await client.event.wait()

async def test_thread_has_request(client, thread_has_request):
    await client.event.wait()

async def test_request(client, request):
    soon(lambda: request.getfixturevalue("client").wake())
    await client.event.wait()

@pytest.fixture
async def item_in_timer(client, request):
    item = request.node
    soon(lambda: item.funcargs["client"].wake())

async def test_item(client, item_in_timer):
    await client.event.wait()

@pytest.fixture
async def values_in_timer(client, request):
    values = request.node.funcargs
    soon(lambda: values["client"].wake())

async def test_dict_of_values(client, values_in_timer):
    await client.event.wait()

@pytest.fixture
async def result_in_timer(client, request):
    result = request._get_active_fixturedef("client").cached_result
    soon(lambda: result[0].wake())

async def test_cached_result(client, result_in_timer):
    await client.event.wait()

async def test_weak_reference(client):
    reference = weakref.ref(client)
    soon(lambda: reference().wake())
    await client.event.wait()

async def test_all_objects(client):
    def wake():
        for thing in gc.get_objects():
            if type(thing) is Client:
                thing.wake()

    soon(wake)
    await client.event.wait()
"""

_ON_ASYNCIO = """
import asyncio
import contextlib
import functools
import gc
import logging
import operator
import queue
import socket
import sqlite3
import sys
import threading
import time
import types
import weakref
from contextvars import ContextVar, copy_context
from unittest import mock

import pytest

class Client:
    def __init__(self):
        self.event = asyncio.Event()
        self.queue = asyncio.Queue()
        self.tasks = []

    def wake(self):
        self.event.set()

    async def read(self):
        while True:
            await self.queue.get()

    async def wake_at_end(self):
        try:
            await asyncio.Event().wait()
        finally:
            self.wake()

@pytest.fixture
async def with_worker():
    client = Client()
    worker = asyncio.create_task(client.read())
    yield client
    worker.cancel()

@pytest.fixture
def outer(sync_generator):
    return {"client": sync_generator}

@pytest.fixture
def finalized(request):
    client = Client()
    request.addfinalizer(client.wake)
    return client

async def test_hangs_in_coroutine(coroutine):
    await coroutine.queue.get()

async def test_hangs_in_outer(outer):
    await outer["client"].event.wait()

async def test_hangs_in_finalized(finalized):
    await finalized.event.wait()

@pytest.mark.parametrize("number", [1])
async def test_hangs_beside_others(client, number, tmp_path, caplog, capsys, monkeypatch):
    await client.event.wait()

def soon(call, *arguments, **options):
    asyncio.get_running_loop().call_later(SOON, call, *arguments, **options)

async def test_timer(client):
    soon(client.wake)
    await client.event.wait()

async def test_timer_of_generator(generator):
    soon(generator.wake)
    await generator.event.wait()

async def test_task(client):
    async def wake():
        await asyncio.sleep(SOON)
        client.wake()

    task = asyncio.create_task(wake())
    await client.event.wait()

@pytest.fixture
async def task_of_fixture(client):
    async def wake():
        await asyncio.sleep(SOON)
        client.wake()

    task = asyncio.create_task(wake())
    yield
    await task

@pytest.fixture
async def worker_is_cancelled(client):
    worker = asyncio.create_task(client.wake_at_end())
    await asyncio.sleep(0)
    soon(worker.cancel)
    yield
    await asyncio.wait([worker])

@pytest.fixture
async def worker_has_timeout(client):
    async def wait():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SOON):
                await asyncio.Event().wait()
        client.wake()

    worker = asyncio.create_task(wait())
    yield
    await worker

async def test_worker_has_timeout(client, worker_has_timeout):
    await client.event.wait()

def _in_thread(work, **keywords):
    thread = threading.Thread(target=work, kwargs=keywords)
    thread.start()
    return thread

@pytest.fixture
async def thread_has_value(client):
    loop = asyncio.get_running_loop()

    def work(**keywords):
        time.sleep(SOON)
        loop.call_soon_threadsafe(keywords["client"].wake)

    thread = _in_thread(work, client=client)
    yield
    thread.join()

@pytest.fixture
async def thread_has_request(client, request):
    loop = asyncio.get_running_loop()

    def work(request):
        time.sleep(SOON)
        loop.call_soon_threadsafe(request.node.funcargs["client"].wake)

    thread = _in_thread(work, request=request)
    yield
    thread.join()

@pytest.fixture
async def thread_with_loop(client):
    loop = asyncio.get_running_loop()

    async def main():
        await asyncio.sleep(SOON)
        loop.call_soon_threadsafe(client.wake)

    thread = _in_thread(lambda: asyncio.run(main()))
    yield
    thread.join()

async def test_thread_with_loop(client, thread_with_loop):
    await client.event.wait()

@pytest.fixture
async def definition_in_timer(client, request):
    call = functools.partial(operator.attrgetter("cached_result"), request._get_active_fixturedef("client"))
    soon(lambda: call()[0].wake())

async def test_definition(client, definition_in_timer):
    await client.event.wait()

def finalizer_of(definition):
    (found,) = (each for each in definition._finalizers if len(getattr(each, "args", ())) == 2)
    return found

@pytest.fixture
async def finalizer_in_timer(sync_generator, request):
    finalizer = finalizer_of(request._get_active_fixturedef("sync_generator"))
    soon(lambda: next(finalizer.args[1], None))

async def test_finalizer(sync_generator, finalizer_in_timer):
    await sync_generator.event.wait()

@pytest.fixture
async def generator_in_timer(sync_generator, request):
    found = finalizer_of(request._get_active_fixturedef("sync_generator")).args[1]
    soon(lambda: next(found, None))

async def test_generator_of_fixture(sync_generator, generator_in_timer):
    await sync_generator.event.wait()

KNOWN = {}

@pytest.fixture
async def known_to_all(client):
    KNOWN["client"] = client

    def wake():
        KNOWN["client"].wake()

    soon(wake)
    yield
    KNOWN.clear()

async def test_known_to_all(client, known_to_all):
    await client.event.wait()

WEAKLY_KNOWN = weakref.WeakSet()

@pytest.fixture
async def known_weakly(client):
    WEAKLY_KNOWN.add(client)

    def wake():
        for each in list(WEAKLY_KNOWN):
            each.wake()

    soon(wake)

async def test_known_weakly(client, known_weakly):
    await client.event.wait()

VARIABLE = ContextVar("VARIABLE")

async def test_context(client):
    context = copy_context()
    context.run(VARIABLE.set, client)
    soon(lambda: VARIABLE.get().wake(), context=context)
    await client.event.wait()

@pytest.fixture
async def reader(client):
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    asyncio.get_running_loop().add_reader(ours, client.wake)
    timer = threading.Timer(SOON, theirs.send, [b"x"])
    timer.start()
    yield
    timer.join()
    asyncio.get_running_loop().remove_reader(ours)
    ours.close()
    theirs.close()

async def test_reader(client, reader):
    await client.event.wait()

class Watched:
    def __init__(self, client):
        vars(self).update(attribute=1, client=client)

    def __setattr__(self, name, value):
        vars(self)[name] = value
        if value == 1:
            self.client.wake()

async def test_monkeypatch(client, monkeypatch):
    monkeypatch.setattr(Watched(client), "attribute", 2)
    soon(monkeypatch.undo)
    await client.event.wait()

async def test_frames(client):
    def wake():
        frame = sys._getframe()
        while frame is not None:
            for value in list(frame.f_locals.values()):
                if type(value) is dict and type(value.get("client")) is Client:
                    value["client"].wake()
            frame = frame.f_back

    soon(wake)
    await client.event.wait()

def wakes(request):
    return lambda: request.getfixturevalue("client").wake()

async def run_later(call):
    await asyncio.sleep(SOON)
    call()

class Dispatching:
    def __init__(self, request):
        self.request = request

    def on_end(self):
        self.request.getfixturevalue("client").wake()

    @functools.cached_property
    def woken(self):
        self.on_end()

    def __getattr__(self, name):
        return getattr(self.request, name)

    def handle(self, name):
        getattr(self, f"on_{name}")()

async def test_object_of_a_library(client, request):
    soon(types.SimpleNamespace(wake=wakes(request)).wake)
    await client.event.wait()

async def test_in_object_of_a_library(client, request):
    namespace = types.SimpleNamespace(wake=wakes(request))
    soon(lambda: namespace.wake())
    await client.event.wait()

async def test_mock(client, request):
    soon(mock.Mock(side_effect=wakes(request)))
    await client.event.wait()

async def test_exit_stack(client, request):
    stack = contextlib.ExitStack()
    stack.callback(wakes(request))
    soon(stack.close)
    await client.event.wait()

async def test_cached_function(client, request):
    soon(functools.cache(wakes(request)))
    await client.event.wait()

ITEM = ContextVar("ITEM")

async def test_item_in_context(client, request):
    context = copy_context()
    context.run(ITEM.set, request.node)
    soon(lambda: ITEM.get().funcargs["client"].wake(), context=context)
    await client.event.wait()

async def test_attribute_of_item(client, request):
    request.node.mine = client
    dispatching = Dispatching(request.node)
    soon(lambda: dispatching.mine.wake())
    await client.event.wait()

async def test_dispatch(client, request):
    soon(Dispatching(request).handle, "end")
    await client.event.wait()

async def test_property(client, request):
    dispatching = Dispatching(request)
    soon(lambda: dispatching.woken)
    await client.event.wait()

class Registered:
    request = None

    @classmethod
    def wake(cls):
        vars(cls)["request"].getfixturevalue("client").wake()

async def test_class_attribute(client, request):
    Registered.request = request
    soon(lambda: [each.wake() for each in object.__subclasses__() if each is Registered])
    await client.event.wait()
    Registered.request = None

async def test_queue_of_a_task(client, request):
    calls = asyncio.Queue()
    calls.put_nowait(wakes(request))

    async def work():
        await asyncio.sleep(SOON)
        (await calls.get())()

    task = asyncio.create_task(work())
    await client.event.wait()

async def test_many_tasks(client, request):
    tasks = [asyncio.create_task(run_later(call)) for call in [int] * 150 + [wakes(request)]]
    await client.event.wait()
    await asyncio.wait(tasks)

@pytest.fixture
def loop_of_thread():
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()

async def test_task_of_another_loop(client, request, loop_of_thread):
    wake = functools.partial(asyncio.get_running_loop().call_soon_threadsafe, wakes(request))
    asyncio.run_coroutine_threadsafe(run_later(wake), loop_of_thread)
    await client.event.wait()

async def test_worker_thread(client, request):
    loop, calls = asyncio.get_running_loop(), queue.Queue()
    calls.put(functools.partial(time.sleep, SOON))
    calls.put(functools.partial(loop.call_soon_threadsafe, wakes(request)))

    def work():
        for _ in range(2):
            calls.get()()

    thread = _in_thread(work)
    await client.event.wait()
    thread.join()

async def test_function_in_config(client, request, pytestconfig):
    pytestconfig.mine = wakes(request)
    soon(lambda: pytestconfig.mine())
    await client.event.wait()

async def test_function_in_stash(client, request, pytestconfig):
    key = pytest.StashKey()
    pytestconfig.stash[key] = wakes(request)
    soon(lambda: pytestconfig.stash[key]())
    await client.event.wait()

async def test_filter_of_logging(client, request, caplog):
    caplog.handler.addFilter(lambda record: wakes(request)() or True)
    soon(logging.getLogger().warning, "wake")
    await client.event.wait()

async def test_function_of_sqlite(client, request):
    connection = sqlite3.connect(":memory:")
    connection.create_function("wake", 0, wakes(request))
    soon(connection.execute, "select wake()")
    await client.event.wait()
    connection.close()

@pytest.fixture
def asked_for(request):
    return weakref.ref(request.getfixturevalue("client"))

async def test_request_of_a_fixture(asked_for, request):
    top = request.node._request
    soon(lambda: getattr(top, "".join(["getfixture", "value"]))("client").wake())
    await asked_for().event.wait()

CALLS = []

def test_function_of_the_same_code(client):
    def make(client):
        def run(coroutine):
            client
            asyncio.run(coroutine)

        def wake():
            client.wake()

        CALLS.append(wake)
        return run

    async def main(run):
        soon(CALLS[0])
        await client.event.wait()

    run = make(client)
    [make(None)][0](main(run))
    CALLS.clear()

class TestInstance:
    def setup_method(self):
        self.client = Client()

    async def test_hangs_in_instance(self):
        await self.client.event.wait()

    async def test_instance(self):
        soon(lambda: self.client.wake())
        await self.client.event.wait()

    async def test_method(self):
        soon(self.wake)
        await self.client.event.wait()

    def wake(self):
        self.client.wake()

    async def test_instance_of_request(self, request):
        soon(lambda: request.instance.client.wake())
        await self.client.event.wait()

@pytest.fixture
async def cancelling():
    tasks = []
    soon(lambda: tasks[0].cancel())
    return tasks

async def test_is_cancelled(client, cancelling):
    cancelling.append(asyncio.current_task())
    with pytest.raises(asyncio.CancelledError):
        await client.event.wait()
    cancelling[0].uncancel()
"""

_ON_TRIO = """
import gc
import threading
import time
import weakref

import pytest
import trio

class Client:
    def __init__(self):
        self.event = trio.Event()
        self.inbox, self.outbox = trio.open_memory_channel(0)

    def wake(self):
        self.event.set()

    async def read(self):
        async for _ in self.outbox:
            pass

@pytest.fixture
async def with_worker():
    client = Client()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.read)
        yield client
        nursery.cancel_scope.cancel()

async def test_hangs_in_coroutine(coroutine):
    await coroutine.outbox.receive()

async def test_hangs_in_its_own(generator):
    await trio.Event().wait()

async def wake_later(call):
    await trio.sleep(SOON)
    call()

def soon(call):
    trio.lowlevel.spawn_system_task(wake_later, call)

async def test_task(client):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wake_later, client.wake)
        await client.event.wait()

async def test_system_task(generator):
    soon(generator.wake)
    await generator.event.wait()

@pytest.fixture
async def task_of_fixture(client):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wake_later, client.wake)
        yield

@pytest.fixture
async def worker_has_deadline(client):
    async def work():
        with trio.move_on_after(SOON):
            await trio.sleep_forever()
        client.wake()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(work)
        yield

async def test_worker_has_deadline(client, worker_has_deadline):
    await client.event.wait()

@pytest.fixture
async def worker_is_cancelled(client):
    async def work(scope):
        with scope:
            await trio.sleep_forever()
        client.wake()

    scope = trio.CancelScope()
    soon(scope.cancel)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(work, scope)
        yield

@pytest.fixture
async def thread_has_value(client):
    def work(token):
        time.sleep(SOON)
        token.run_sync_soon(client.wake)

    thread = threading.Thread(target=work, args=[trio.lowlevel.current_trio_token()])
    thread.start()
    yield
    thread.join()

@pytest.fixture
async def thread_has_request(client, request):
    def work(request, token):
        time.sleep(SOON)
        token.run_sync_soon(request.node.funcargs["client"].wake)

    thread = threading.Thread(target=work, args=[request, trio.lowlevel.current_trio_token()])
    thread.start()
    yield
    thread.join()

async def test_thread_of_trio(client):
    def work():
        time.sleep(SOON)
        trio.from_thread.run_sync(client.wake)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, work)
        await client.event.wait()

class TestInstance:
    async def test_instance(self):
        self.event = trio.Event()
        soon(lambda: self.event.set())
        await self.event.wait()

@pytest.fixture
async def scopes():
    scopes = []
    soon(lambda: scopes[0].cancel())
    return scopes

async def test_is_cancelled(client, scopes):
    with trio.CancelScope() as scope:
        scopes.append(scope)
        await client.event.wait()
"""

ON_ASYNCIO = (_ON_ASYNCIO + _ON_EITHER).replace("SOON", str(SOON))
ON_TRIO = (_ON_TRIO + _ON_EITHER).replace("SOON", str(SOON))
