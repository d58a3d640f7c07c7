"""The kernels of what only asyncio has, and Go has not."""

from __future__ import annotations

from kernels import asyncio_cancelling, asyncio_joining, asyncio_origins, asyncio_primitives, asyncio_waking

KERNELS = (
    *asyncio_cancelling.KERNELS,
    *asyncio_joining.KERNELS,
    *asyncio_origins.KERNELS,
    *asyncio_primitives.KERNELS,
    *asyncio_waking.KERNELS,
)
