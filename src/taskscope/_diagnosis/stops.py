"""Where no walk along references goes on: what leads everywhere, and what leads nowhere."""

from __future__ import annotations

import asyncio
import contextvars
import types
import weakref
from typing import Final

# Futures are among them: by them a thing leads to who waits for it.
STOPS: Final[tuple[type, ...]] = (
    types.ModuleType,
    type,
    types.CodeType,
    types.FrameType,
    weakref.ReferenceType,
    weakref.ProxyType,
    weakref.CallableProxyType,
    contextvars.Context,
    contextvars.ContextVar,
    contextvars.Token,
    asyncio.events.AbstractEventLoop,
    asyncio.runners.Runner,
    asyncio.futures.Future,
    str,
    bytes,
    int,
    float,
    complex,
    type(None),
)
