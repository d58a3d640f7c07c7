"""The application of the README: what stands between the two marks is shown there, word for word."""

# README: from here
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from orders import routes
from starlette.applications import Starlette

import taskscope


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    async with taskscope.install(root="shop", grace=1.0):
        yield


app = Starlette(routes=routes, lifespan=lifespan)
# README: to here
