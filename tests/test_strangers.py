"""Whoever holds the task of a body is found, by whatever way it is held."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import socket
import sys
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import MappingProxyType, MethodType, ModuleType, SimpleNamespace
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest

from taskscope._diagnosis import strangers
from taskscope._diagnosis.registries import callbacks_of, registries_of_asyncio
from taskscope._diagnosis.strangers import why_it_can_be_ended

# Each example makes what holds its task, and takes the collector through the heap some times.
pytestmark = pytest.mark.nothing_frozen_holds_a_task

LATER = 60


@dataclass(slots=True)
class Slotted:
    value: object


@dataclass
class Plain:
    value: object


def suspended(value: object) -> Iterator[object]:
    yield value
    yield value


def started(generator: Iterator[object]) -> Iterator[object]:
    next(generator)
    return generator


def in_a_context(value: object) -> contextvars.Context:
    context = contextvars.copy_context()
    context.run(CARRIED.set, value)
    return context


CARRIED: contextvars.ContextVar[object] = contextvars.ContextVar("carried")

# Ways to hold an object, each by another one.
WRAPPERS: list[Callable[[Any], object]] = [
    lambda value: [value],
    lambda value: (value, 1),
    lambda value: {"key": value},
    lambda value: {1: {2: value}},
    lambda value: deque([value]),
    lambda value: OrderedDict(key=value),
    lambda value: lambda: value,
    lambda value: lambda default=value: default,
    lambda value: lambda *, default=value: default,
    lambda value: functools.partial(print, value),
    lambda value: functools.partial(print, end=value),
    lambda value: MethodType(print, value),
    lambda value: [value].append,
    lambda value: SimpleNamespace(value=value),
    lambda value: MappingProxyType({"key": value}),
    lambda value: iter([value]),
    lambda value: map(print, [value]),
    lambda value: started(suspended(value)),
    lambda value: ValueError(value),
    Plain,
    Slotted,
    in_a_context,
]


def keep_until_a_timer_fires(value: object) -> Callable[[], object]:
    return asyncio.get_running_loop().call_later(LATER, print, value).cancel


def keep_until_a_future_is_done(value: object) -> Callable[[], object]:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.add_done_callback(functools.partial(print, value))
    return asyncio.get_running_loop().call_later(LATER, future.cancel).cancel


def keep_in_a_task(value: object) -> Callable[[], object]:
    async def keeping(value: object) -> object:
        await asyncio.get_running_loop().create_future()
        return value

    return asyncio.create_task(keeping(value)).cancel


def keep_in_a_thread(value: object) -> Callable[[], object]:
    thread = threading.Timer(LATER, print, [value])
    thread.start()
    return thread.cancel


def keep_as_a_reader(value: object) -> Callable[[], object]:
    ours, theirs = socket.socketpair()
    loop = asyncio.get_running_loop()
    loop.add_reader(ours, print, value)

    def end() -> None:
        loop.remove_reader(ours)
        ours.close()
        theirs.close()

    return end


def keep_in_a_handler_of_exceptions(value: object) -> Callable[[], object]:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda *_: print(value))
    return functools.partial(loop.set_exception_handler, None)


def keep_in_a_module(value: object) -> Callable[[], object]:
    module = ModuleType("of_this_example")
    vars(module)["kept"] = value
    sys.modules[module.__name__] = module
    return functools.partial(sys.modules.pop, module.__name__)


def keep_in_a_class(value: object) -> Callable[[], object]:
    kind = type("OfThisExample", (), {"kept": value})
    return lambda: kind


KEEPERS = [
    keep_until_a_timer_fires,
    keep_until_a_future_is_done,
    keep_in_a_task,
    keep_in_a_thread,
    keep_as_a_reader,
    keep_in_a_handler_of_exceptions,
    keep_in_a_module,
    keep_in_a_class,
]


async def why_this_task_can_be_ended(wrappers: list[Callable[[Any], object]], keeper: Any) -> str | None:
    """What is found about the running task while it waits, with something that holds it by such a way."""
    tasks: list[Any] = [asyncio.current_task()]  # in no variable, which would hold it as well
    value: object = tasks[0]
    for wrap in wrappers:
        value = wrap(value)
    end = (lambda: None) if keeper is None else keeper(value)
    del value
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[str | None] = loop.create_future()
    known = callbacks_of(registries_of_asyncio())

    def look() -> None:
        try:
            answer.set_result(why_it_can_be_ended(tasks[0], tasks, (), asyncio.all_tasks(), known))
        except Exception as error:
            answer.set_exception(error)

    try:
        loop.call_soon(look)
        return await answer
    finally:
        end()


@hypothesis.settings(max_examples=200)
@hypothesis.given(
    wrappers=st.lists(st.sampled_from(WRAPPERS), max_size=strangers.LEVELS + 2), keeper=st.sampled_from(KEEPERS)
)
def test_who_holds_a_task_is_found_by_whatever_way(
    wrappers: list[Callable[[Any], object]], keeper: Callable[[object], Callable[[], object]]
) -> None:
    assert asyncio.run(why_this_task_can_be_ended(wrappers, keeper)) is not None
    assert asyncio.run(why_this_task_can_be_ended([], None)) is None
