"""The routes of a small shop whose requests start work in the background, some of them more than they look after."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

import taskscope

logger = logging.getLogger("shop")
two_requests = asyncio.Barrier(2)


async def wait_for_stock() -> None:
    await asyncio.get_running_loop().create_future()


async def retry(swallows: int) -> None:
    """A poller that takes a cancellation for one more failure, so many times."""
    while True:
        try:
            await wait_for_stock()
        except asyncio.CancelledError:
            swallows -= 1
            if swallows < 0:
                raise


async def deliver(port: int) -> None:
    """Takes as long as the courier at this port does, and then ends by itself."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await reader.read()
    writer.close()


async def pack() -> None:
    await asyncio.sleep(0)


async def reserve(customer: str) -> None:
    asyncio.create_task(wait_for_stock(), name=f"stock for {customer}")
    await wait_for_stock()


async def blocked(request: Request) -> PlainTextResponse:
    asyncio.create_task(wait_for_stock(), name="blocked")
    return PlainTextResponse("ordered")


async def stubborn(request: Request) -> PlainTextResponse:
    asyncio.create_task(retry(2), name="stubborn")
    return PlainTextResponse("ordered")


async def immortal(request: Request) -> PlainTextResponse:
    asyncio.create_task(retry(1_000_000), name="immortal")
    return PlainTextResponse("ordered")


async def delivery(request: Request) -> PlainTextResponse:
    asyncio.create_task(deliver(int(request.query_params["port"])), name="delivery")
    return PlainTextResponse("ordered")


async def clean(request: Request) -> PlainTextResponse:
    await asyncio.create_task(pack(), name="clean")
    return PlainTextResponse("ordered")


async def together(request: Request) -> PlainTextResponse:
    customer = request.query_params["customer"]
    await two_requests.wait()
    asyncio.create_task(reserve(customer), name=f"order of {customer}")
    await two_requests.wait()
    return PlainTextResponse("ordered")


async def checked(request: Request) -> PlainTextResponse:
    customer = request.query_params["customer"]
    async with taskscope.TaskScope(f"request of {customer}", grace=0, on_leak="log"):
        await two_requests.wait()
        asyncio.create_task(reserve(customer), name=f"order of {customer}")
        await two_requests.wait()
    return PlainTextResponse("ordered")


async def strict(request: Request) -> PlainTextResponse:
    async with taskscope.TaskScope("strict", grace=0):
        asyncio.create_task(wait_for_stock(), name="strict")
    return PlainTextResponse("ordered")


async def hopeless(request: Request) -> PlainTextResponse:
    async with taskscope.TaskScope("hopeless", grace=0, cancel_timeout=0.05, on_leak="log"):
        asyncio.create_task(retry(1_000_000), name="hopeless")
        await asyncio.sleep(0)
    return PlainTextResponse("ordered")


def in_thread(request: Request) -> PlainTextResponse:
    """Not `async`, so it runs in a thread of Starlette's, from where work gets back to the loop in two ways."""
    anyio.from_thread.run_sync(order_from_thread)
    loop = anyio.from_thread.run_sync(asyncio.get_running_loop)
    asyncio.run_coroutine_threadsafe(wait_for_stock(), loop)
    return PlainTextResponse("ordered")


def order_from_thread() -> None:
    asyncio.create_task(wait_for_stock(), name="from thread")


async def hanging(request: Request) -> PlainTextResponse:
    logger.info("this one hangs")
    await wait_for_stock()
    raise AssertionError("there is no stock")


Endpoint = Callable[[Request], Coroutine[Any, Any, PlainTextResponse] | PlainTextResponse]
ENDPOINTS: list[Endpoint] = [
    blocked,
    stubborn,
    immortal,
    delivery,
    clean,
    together,
    checked,
    strict,
    hopeless,
    in_thread,
    hanging,
]
routes = [Route(f"/{endpoint.__name__}", endpoint) for endpoint in ENDPOINTS]
