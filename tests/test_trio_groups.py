"""In whose nursery a task of Trio's is, and where that was opened."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import pytest
import trio
import trio.testing

from taskscope._diagnosis.groups import group_name, owning_group

Opens = Callable[[Callable[[], None]], Coroutine[Any, Any, Any]]


async def in_a_block(look: Callable[[], None]) -> None:
    async with trio.open_nursery() as nursery:  # here
        await run(nursery, look)


async def run(nursery: Any, look: Callable[[], None]) -> None:
    nursery.start_soon(stray, look, name="stray")
    await trio.sleep_forever()


async def stray(look: Callable[[], None]) -> None:
    await trio.testing.wait_all_tasks_blocked()
    look()


async def among_others(look: Callable[[], None]) -> None:
    async with trio.Lock():
        with trio.CancelScope():
            async with trio.open_nursery() as nursery:  # here
                async with trio.open_nursery(), trio.Lock():
                    await run(nursery, look)


async def in_anyio_s_block(look: Callable[[], None]) -> None:
    async with anyio.create_task_group() as group:  # here
        await run(group, look)


async def in_a_context_manager(look: Callable[[], None]) -> None:
    @asynccontextmanager
    async def fixture() -> AsyncIterator[trio.Nursery]:
        async with trio.open_nursery() as nursery:  # here
            yield nursery

    async with fixture() as nursery:
        await run(nursery, look)


async def on_a_stack(look: Callable[[], None]) -> None:
    async with AsyncExitStack() as stack:
        nursery = await stack.enter_async_context(trio.open_nursery())
        await run(nursery, look)  # here


async def for_a_class(look: Callable[[], None]) -> None:
    class Service:
        async def __aenter__(self) -> Any:
            self.manager = trio.open_nursery()
            return await self.manager.__aenter__()

        async def __aexit__(self, *exc: Any) -> Any:
            return await self.manager.__aexit__(*exc)

    async with Service() as nursery:
        await run(nursery, look)


@pytest.mark.parametrize(
    ("opens", "function", "kind"),
    [
        (in_a_block, "in_a_block", "nursery"),
        (among_others, "among_others", "nursery"),
        (in_anyio_s_block, "in_anyio_s_block", "AnyIO task group"),
        (in_a_context_manager, "in_a_context_manager.<locals>.fixture", "nursery"),
        (on_a_stack, "on_a_stack", "nursery"),
        (for_a_class, None, "nursery"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_the_place_where_a_nursery_was_opened_is_named(opens: Opens, function: str | None, kind: str) -> None:
    seen: list[str] = []

    async def main() -> None:
        async with trio.open_nursery() as nursery:

            def look() -> None:
                seen.append(group_name(*owning_group(trio.lowlevel.current_task())))
                nursery.cancel_scope.cancel()

            nursery.start_soon(opens, look, name="opener")

    trio.run(main)
    place = "" if function is None else f"in '{function}' (test_trio_groups.py:{line_of(opens)}) "
    assert seen == [f"{kind} opened {place}by task 'opener'"]


def children_of_all() -> list[Any]:
    found: list[Any] = [trio.lowlevel.current_root_task()]
    for task in found:
        found += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    return found


def line_of(function: Any) -> int:
    with open(__file__) as source:
        lines = source.readlines()
    first = function.__code__.co_firstlineno
    return next(number for number, line in enumerate(lines[first:], first + 1) if "# here" in line)


def test_system_tasks_are_in_a_nursery_of_trio_s() -> None:
    async def main() -> None:
        task: Any = trio.lowlevel.spawn_system_task(trio.sleep_forever)
        assert group_name(*owning_group(task)) == "Trio's nursery for system tasks"

    trio.run(main)


def test_a_task_that_still_starts_belongs_to_the_nursery_that_it_will_be_in() -> None:
    async def main() -> None:
        async def starts(task_status: Any) -> None:
            await trio.sleep_forever()

        async def start(nursery: trio.Nursery) -> None:
            await nursery.start(starts, name="starts")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(start, nursery)
            await trio.testing.wait_all_tasks_blocked()
            starting = next(task for task in children_of_all() if task.name == "starts")
            assert owning_group(starting)[0] is nursery
            nursery.cancel_scope.cancel()

    trio.run(main)
