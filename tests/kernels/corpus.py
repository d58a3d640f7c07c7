"""All kernels, and all controls: programs like them that are right and must stay silent."""

from __future__ import annotations

from typing import Final

from kernels import (
    ab_ba,
    asyncio_only,
    channel,
    channel_and_context,
    channel_and_lock,
    condition,
    double_locking,
    go_micro,
    must_not_report,
    rendezvous,
    rendezvous_and_lock,
    rwr,
    uber,
    wait_group,
)
from kernels.kernel import Body, Kernel

ALL: Final[tuple[Kernel, ...]] = (
    *double_locking.KERNELS,
    *ab_ba.KERNELS,
    *rwr.KERNELS,
    *channel.KERNELS,
    *rendezvous.KERNELS,
    *channel_and_context.KERNELS,
    *condition.KERNELS,
    *channel_and_lock.KERNELS,
    *rendezvous_and_lock.KERNELS,
    *wait_group.KERNELS,
    *go_micro.KERNELS,
    *uber.KERNELS,
    *asyncio_only.KERNELS,
    *must_not_report.KERNELS,
)

CONTROLS: Final[tuple[tuple[str, Body], ...]] = (
    *rendezvous.CONTROLS,
    *channel_and_context.CONTROLS,
    *go_micro.CONTROLS,
    *must_not_report.CONTROLS,
)
