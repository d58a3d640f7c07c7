"""Which variables of a suspended frame can still be read."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest

from taskscope._diagnosis.live_variables import dead_variables


class Step:
    def __await__(self) -> Any:
        yield


def step() -> Any:
    return Step()


async def never_read(it: object) -> None:
    await step()


async def read(it: object) -> None:
    await step()
    print(it)


async def read_in_a_branch(it: object, other: object) -> None:
    await step()
    if other:
        print(it)


async def assigned_first(it: Any) -> None:
    await step()
    it = 5
    print(it)


async def assigned_in_one_branch(it: Any, other: object) -> None:
    await step()
    if other:
        it = 5
    print(it)


async def deleted(it: object) -> None:
    await step()
    del it


async def read_when_it_fails(it: object) -> None:
    try:
        await step()
    except ValueError:
        print(it)


async def read_in_the_end(it: object) -> None:
    try:
        await step()
    finally:
        print(it)


async def read_after_the_block(it: object) -> None:
    with suppress(ValueError):
        await step()
    print(it)


async def leftover_of_a_loop() -> None:
    it: Any = 1
    while it is not None:
        print(it)
        it = await step()


async def read_in_the_next_round(it: object) -> None:
    while True:
        print(it)
        await step()


async def shared_with_a_function(it: object) -> Callable[[], object]:
    def inner() -> object:
        return it

    await step()
    return lambda: None


async def asked_for_all(it: object) -> None:
    await step()
    print(locals())


async def assigned_from_itself(it: Any) -> None:
    await step()
    it = it + 1


async def two_at_once(it: Any, other: Any) -> None:
    await step()
    it, other = step(), step()
    print(it, other)


async def swapped(it: Any, other: Any) -> None:
    await step()
    it, other = other, it
    print(it)


async def read_in_a_comprehension(it: Any) -> None:
    await step()
    print([each + 1 for each in it])


async def name_of_a_comprehension(it: Any) -> None:
    await step()
    it = [other + 1 for other in step()]
    print(it)


async def read_by_an_asynchronous_block(it: Any) -> None:
    await step()
    async with it:
        pass


async def iterated(it: Any) -> None:
    await step()
    async for each in it:
        print(each)


async def returned(it: Any) -> Any:
    await step()
    return it


async def matched(it: Any) -> None:
    await step()
    match it:
        case {"key": 5}:
            pass


class Derived:
    async def read_by_super(it) -> str:
        await step()
        return super().__repr__()


DEAD = [never_read, assigned_first, deleted, two_at_once, name_of_a_comprehension, leftover_of_a_loop]
LIVE = [
    read,
    read_in_a_branch,
    assigned_in_one_branch,
    read_when_it_fails,
    read_in_the_end,
    read_after_the_block,
    read_in_the_next_round,
    shared_with_a_function,
    asked_for_all,
    assigned_from_itself,
    swapped,
    read_in_a_comprehension,
    read_by_an_asynchronous_block,
    iterated,
    returned,
    matched,
    Derived.read_by_super,
]


def suspended(function: Callable[..., Coroutine[Any, Any, Any]]) -> frozenset[str]:
    """The dead variables of a function where it waits for the first time."""
    arguments = [5] * function.__code__.co_argcount
    coroutine = function(*arguments)
    coroutine.send(None)
    try:
        frame: Any = coroutine.cr_frame  # type: ignore[attr-defined]
        return dead_variables(frame.f_code, frame.f_lasti)
    finally:
        coroutine.close()


@pytest.mark.parametrize("function", DEAD, ids=lambda function: function.__name__)
def test_a_variable_that_is_not_read_again_is_dead(function: Any) -> None:
    assert "it" in suspended(function)
    assert "it" in suspended(function)  # now from memory


@pytest.mark.parametrize("function", LIVE, ids=lambda function: function.__name__)
def test_one_that_can_be_is_not(function: Any) -> None:
    assert "it" not in suspended(function)


@pytest.mark.parametrize("function", [*LIVE, never_read], ids=lambda function: function.__name__)
def test_what_has_not_begun_yet_is_to_read_its_arguments(function: Any) -> None:
    coroutine = function(*[5] * function.__code__.co_argcount)
    frame = coroutine.cr_frame
    assert ("it" in dead_variables(frame.f_code, frame.f_lasti)) is (function is never_read)
    coroutine.close()


def test_many_variables_take_long_instructions() -> None:
    names = [f"v{number}" for number in range(600)]
    source = f"async def many({', '.join(names)}):\n    await step()\n    if v0:\n        "
    source += "\n        ".join(f"print({name})" for name in names[:500]) + "\n    v510 = v599\n    print(v510)\n"
    namespace: dict[str, Any] = {"step": step}
    exec(source, namespace)
    assert suspended(namespace["many"]) == frozenset(names[500:599])


def test_what_is_not_understood_is_live() -> None:
    assert dead_variables(never_read.__code__, 10_001) == frozenset()


def test_it_is_the_same_under_a_tracer() -> None:
    before = sys.gettrace()
    sys.settrace(lambda *_: None)
    try:
        assert "it" in suspended(never_read)
        assert "it" not in suspended(read)
    finally:
        sys.settrace(before)
