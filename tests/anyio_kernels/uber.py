"""Kernels after the common patterns of goroutine leaks that Uber found in its code, as they look on AnyIO.

From "Unveiling and Vanquishing Goroutine Leaks in Enterprise Microservices" (CGO 2024,
doi:10.1109/CGO57630.2024.10444835) and VladSaioc/common-goroutine-leak-patterns.
"""

from __future__ import annotations

from typing import Final

import anyio
from anyio import lowlevel
from anyio.abc import ObjectReceiveStream, ObjectSendStream, TaskGroup
from kernels.kernel import Stuck

from anyio_kernels.kernel import Kernel
from anyio_kernels.shims import settled

# NoCloseRange


async def work_off(jobs: ObjectReceiveStream[int]) -> None:
    async for _ in jobs:
        await lowlevel.checkpoint()


async def no_close_range(group: TaskGroup) -> None:
    send, jobs = anyio.create_memory_object_stream[int](0)
    for _ in range(3):
        group.start_soon(work_off, jobs)
    for job in range(6):
        await send.send(job)
    await settled()  # bug: the stream is never closed


async def no_close_range_fixed(group: TaskGroup) -> None:
    send, jobs = anyio.create_memory_object_stream[int](0)
    for _ in range(3):
        group.start_soon(work_off, jobs)
    async with send:
        for job in range(6):
            await send.send(job)
    await settled()


async def no_workers(group: TaskGroup) -> None:
    send, jobs = anyio.create_memory_object_stream[int](0)
    for _ in range(0):  # bug: a configuration with no workers at all
        group.start_soon(work_off, jobs)
    await send.send(0)


# MethodContractViolation


class Worker:
    """Its contract: who calls start() calls aclose()."""

    def __init__(self) -> None:
        self._changed = anyio.Condition()
        self._jobs: list[int] = []
        self._is_closed = False

    def start(self, group: TaskGroup) -> None:
        group.start_soon(self._run)

    async def aclose(self) -> None:
        async with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    async def _run(self) -> None:
        async with self._changed:
            while not self._jobs and not self._is_closed:
                await self._changed.wait()


async def contract(group: TaskGroup) -> None:
    worker = Worker()
    worker.start(group)  # bug: and no aclose()
    await settled()


async def contract_fixed(group: TaskGroup) -> None:
    worker = Worker()
    worker.start(group)
    await lowlevel.checkpoint()
    await worker.aclose()
    await settled()


# DoubleSend


async def answer_twice(answer: ObjectSendStream[str]) -> None:
    await answer.send("error")  # bug: no return after the error
    await answer.send("result")


async def answer_once(answer: ObjectSendStream[str]) -> None:
    await answer.send("error")


async def double_send(group: TaskGroup) -> None:
    answer, answers = anyio.create_memory_object_stream[str](0)
    group.start_soon(answer_twice, answer)
    await answers.receive()
    await settled()


async def double_send_fixed(group: TaskGroup) -> None:
    answer, answers = anyio.create_memory_object_stream[str](0)
    group.start_soon(answer_once, answer)
    await answers.receive()
    await settled()


# EarlyReturn


async def compute(result: ObjectSendStream[str]) -> None:
    await lowlevel.checkpoint()
    await result.send("result")


async def check() -> None:
    await lowlevel.checkpoint()
    raise ValueError("the request is not valid")


async def early_return(group: TaskGroup) -> None:
    result, results = anyio.create_memory_object_stream[str](0)
    group.start_soon(compute, result)
    try:
        await check()
        await results.receive()
    except ValueError:
        await settled()  # bug: the result is not received


async def early_return_fixed(group: TaskGroup) -> None:
    result, results = anyio.create_memory_object_stream[str](1)
    group.start_soon(compute, result)
    try:
        await check()
        await results.receive()
    except ValueError:
        await settled()


# NCastLeak


async def ask(backend: int, answer: ObjectSendStream[int]) -> None:
    await lowlevel.checkpoint()
    await answer.send(backend)


async def ask_all(group: TaskGroup, backends: int, capacity: int) -> None:
    answer, answers = anyio.create_memory_object_stream[int](capacity)
    for number in range(backends):
        group.start_soon(ask, number, answer)
    await answers.receive()  # bug, where there is no buffer: one receive for all that send
    await settled()


async def n_cast(group: TaskGroup) -> None:
    await ask_all(group, backends=3, capacity=0)


async def n_cast_fixed(group: TaskGroup) -> None:
    await ask_all(group, backends=3, capacity=3)


async def n_cast_of_none(group: TaskGroup) -> None:
    await ask_all(group, backends=0, capacity=3)


# Timeout


async def compute_late(may_go_on: anyio.Event, result: ObjectSendStream[str]) -> None:
    await may_go_on.wait()
    await result.send("result")


async def timeout(group: TaskGroup) -> None:
    may_go_on = anyio.Event()
    result, results = anyio.create_memory_object_stream[str](0)
    group.start_soon(compute_late, may_go_on, result)
    with anyio.move_on_after(0.01):
        await results.receive()
    may_go_on.set()  # bug: too late, nobody receives the result any more
    await settled()


async def timeout_fixed(group: TaskGroup) -> None:
    may_go_on = anyio.Event()
    result, results = anyio.create_memory_object_stream[str](0)
    group.start_soon(compute_late, may_go_on, result)
    with anyio.move_on_after(0.01):
        await results.receive()
    may_go_on.set()
    await results.receive()
    await settled()


# looping-timer


class Metrics:
    def __init__(self, group: TaskGroup) -> None:
        self.context = anyio.CancelScope()
        group.start_soon(self.emit)

    async def emit(self) -> None:
        with self.context:
            while True:
                await anyio.sleep(60)


async def looping_timer(group: TaskGroup) -> None:
    Metrics(group)  # bug: a constructor starts an endless loop
    await settled()


async def looping_timer_fixed(group: TaskGroup) -> None:
    metrics = Metrics(group)
    await settled()
    metrics.context.cancel()
    await settled()


KERNELS: Final = (
    Kernel(
        "uber_no_close_range",
        "Workers loop over a stream that is never closed.",
        no_close_range,
        no_close_range_fixed,
        leaks=(Stuck("work_off", "MemoryObjectReceiveStream.receive"),) * 3,
    ),
    Kernel(
        "uber_no_close_range_no_workers",
        "A job is sent to workers of which there are none.",
        no_workers,
        no_close_range_fixed,
        body=Stuck("", "MemoryObjectSendStream.send"),
    ),
    Kernel(
        "uber_method_contract_violation",
        "start() without aclose().",
        contract,
        contract_fixed,
        leaks=(Stuck("Worker._run", "Condition.wait"),),
    ),
    Kernel(
        "uber_double_send",
        "A result is sent after an error was, and only one of them is received.",
        double_send,
        double_send_fixed,
        leaks=(Stuck("answer_twice", "MemoryObjectSendStream.send"),),
    ),
    Kernel(
        "uber_early_return",
        "An error makes the parent return before it has received.",
        early_return,
        early_return_fixed,
        leaks=(Stuck("compute", "MemoryObjectSendStream.send"),),
    ),
    Kernel(
        "uber_n_cast_leak",
        "Three send, one is received.",
        n_cast,
        n_cast_fixed,
        leaks=(Stuck("ask", "MemoryObjectSendStream.send"),) * 2,
    ),
    Kernel(
        "uber_n_cast_leak_no_senders",
        "None sends, one is received.",
        n_cast_of_none,
        n_cast_fixed,
        body=Stuck("", "MemoryObjectReceiveStream.receive"),
    ),
    Kernel(
        "uber_timeout",
        "A result comes after the timeout and is not received any more.",
        timeout,
        timeout_fixed,
        leaks=(Stuck("compute_late", "MemoryObjectSendStream.send"),),
    ),
    Kernel(
        "uber_looping_timer",
        "A constructor starts an endless loop.",
        looping_timer,
        looping_timer_fixed,
        leaks=(Stuck("Metrics.emit", "sleep", provable=False),),
    ),
)
