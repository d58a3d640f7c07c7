"""Tasks that somebody has given attributes are told from those that have only what asyncio gives them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from conftest import Run

from taskscope._diagnosis.own_attributes import has_own_attributes

PythonTask: type[asyncio.Task[Any]] = asyncio.tasks._PyTask  # type: ignore[attr-defined]


class Named(asyncio.Task[Any]):
    """A user's task class."""


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


async def awaits(awaitable: Awaitable[Any]) -> None:
    await awaitable


def ordinary() -> asyncio.Task[Any]:
    return asyncio.create_task(forever())


def named() -> asyncio.Task[Any]:
    return asyncio.create_task(forever(), name="named")


def asked_for_its_name() -> asyncio.Task[Any]:
    task = ordinary()
    task.get_name()
    return task


def of_a_users_class() -> asyncio.Task[Any]:
    return Named(forever(), loop=asyncio.get_running_loop())


def in_pure_python() -> asyncio.Task[Any]:
    return PythonTask(forever(), loop=asyncio.get_running_loop())


def in_pure_python_awaited_by_several() -> asyncio.Task[Any]:
    task = in_pure_python()
    for _ in range(3):
        asyncio.create_task(awaits(task))
        PythonTask(awaits(task), loop=asyncio.get_running_loop())
    task.add_done_callback(repr)
    return task


def awaited(number: int) -> asyncio.Task[Any]:
    task = ordinary()
    for _ in range(number):
        asyncio.create_task(awaits(task))
    return task


def awaited_once() -> asyncio.Task[Any]:
    return awaited(1)


def awaited_by_several() -> asyncio.Task[Any]:
    return awaited(3)


def awaited_twice_by_one() -> asyncio.Task[Any]:
    task = ordinary()
    asyncio.create_task(awaits(asyncio.gather(task, asyncio.shield(task))))
    return task


def with_callbacks() -> asyncio.Task[Any]:
    task = ordinary()
    for callback in (repr, str, id):
        task.add_done_callback(callback)
    return task


KINDS = [
    *(ordinary, named, asked_for_its_name, of_a_users_class),
    *(in_pure_python, in_pure_python_awaited_by_several),
    *(awaited_once, awaited_by_several, awaited_twice_by_one, with_callbacks),
]

VALUES: list[Callable[[asyncio.Task[Any]], object]] = [
    *(lambda task: "text", lambda task: 1, lambda task: None, lambda task: object()),
    *(lambda task: [], lambda task: set(), lambda task: {}, lambda task: ()),
    *(lambda task: task, lambda task: task.get_loop(), lambda task: task.get_coro(), lambda task: type(task)),
]


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("debug", [False, True])
def test_what_asyncio_gives_a_task_is_no_attribute_of_its_own(
    run: Run, make: Callable[[], asyncio.Task[Any]], debug: bool
) -> None:
    async def main() -> None:
        asyncio.get_running_loop().set_debug(debug)
        task = make()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not has_own_attributes(task)

    run(main)


@pytest.mark.parametrize("make", KINDS)
def test_an_attribute_of_whatever_kind_is_seen(run: Run, make: Callable[[], asyncio.Task[Any]]) -> None:
    async def main() -> None:
        for value in VALUES:
            task: Any = make()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            task.note = value(task)
            assert has_own_attributes(task)

    run(main)


def test_a_task_that_computes_its_dict_is_in_doubt(run: Run) -> None:
    class Computed(PythonTask):  # type: ignore[misc, valid-type]
        @property
        def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
            raise AssertionError("nobody may ask")

    async def main() -> None:
        task: asyncio.Task[Any] = Computed(forever(), loop=asyncio.get_running_loop())
        await asyncio.sleep(0)
        assert has_own_attributes(task)

    run(main)
