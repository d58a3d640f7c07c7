"""The fixture `anyio_backend` over all kinds of loops."""

from __future__ import annotations

from typing import Any

import pytest

from taskscope._anyio_backends import anyio_backends, available

_NAMES = {"uvloop": "asyncio+uvloop", "eager": "asyncio+eager"}


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(backend, id=_NAMES.get(kind, kind))
        for kind, backend in zip(available(), anyio_backends(), strict=True)
    ],
)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """The backend, and its options, on which AnyIO's plugin runs a test: each kind of loop in turn."""
    return request.param
