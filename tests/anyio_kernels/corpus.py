"""All kernels on AnyIO."""

from __future__ import annotations

from typing import Final

from anyio_kernels import (
    anyio_only,
    conditions,
    contexts,
    full_streams,
    lock_taken_twice,
    mutex_left_held,
    opposite_orders,
    rendezvous,
    streams_and_locks,
    uber,
    waiting_for_workers,
)
from anyio_kernels.kernel import Kernel

ALL: Final[tuple[Kernel, ...]] = (
    *mutex_left_held.KERNELS,
    *lock_taken_twice.KERNELS,
    *opposite_orders.KERNELS,
    *full_streams.KERNELS,
    *rendezvous.KERNELS,
    *contexts.KERNELS,
    *conditions.KERNELS,
    *streams_and_locks.KERNELS,
    *waiting_for_workers.KERNELS,
    *uber.KERNELS,
    *anyio_only.KERNELS,
)
