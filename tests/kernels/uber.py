"""Kernels after the common patterns of goroutine leaks that Uber found in its code.

From "Unveiling and Vanquishing Goroutine Leaks in Enterprise Microservices" (CGO 2024,
doi:10.1109/CGO57630.2024.10444835) and VladSaioc/common-goroutine-leak-patterns. Where asyncio has an idiom of its own
with the same bug, that is here too, as "native".
"""

from __future__ import annotations

import asyncio
from typing import Final

from kernels.ending import end
from kernels.kernel import Kernel, Stuck
from kernels.shims import Chan, Receiving, give_way, select

# NoCloseRange


async def work_off(jobs: Chan[int]) -> None:
    async for _ in jobs:
        await asyncio.sleep(0)


async def no_close_range() -> None:
    jobs = Chan[int]()
    for number in range(3):
        asyncio.create_task(work_off(jobs), name=f"worker {number}")
    for job in range(6):
        await jobs.send(job)
    await give_way()  # bug: the channel is never closed


async def no_close_range_fixed() -> None:
    jobs = Chan[int]()
    async with asyncio.TaskGroup() as group:
        for number in range(3):
            group.create_task(work_off(jobs), name=f"worker {number}")
        for job in range(6):
            await jobs.send(job)
        jobs.close()


async def no_workers() -> None:
    jobs = Chan[int]()
    for number in range(0):  # bug: a configuration with no workers at all
        asyncio.create_task(work_off(jobs), name=f"worker {number}")
    await jobs.send(0)


async def take_jobs(jobs: asyncio.Queue[int | None]) -> None:
    while await jobs.get() is not None:
        await asyncio.sleep(0)


async def no_close_range_native() -> None:
    jobs: asyncio.Queue[int | None] = asyncio.Queue(1)
    for number in range(3):
        asyncio.create_task(take_jobs(jobs), name=f"worker {number}")
    for job in range(6):
        await jobs.put(job)
    await give_way()  # bug: nothing tells the workers that this was all


async def no_close_range_native_fixed() -> None:
    jobs: asyncio.Queue[int | None] = asyncio.Queue(1)
    async with asyncio.TaskGroup() as group:
        for number in range(3):
            group.create_task(take_jobs(jobs), name=f"worker {number}")
        for job in (*range(6), None, None, None):
            await jobs.put(job)


async def no_workers_native() -> None:
    jobs: asyncio.Queue[int | None] = asyncio.Queue(1)
    for job in range(6):  # bug: a configuration with no workers at all
        await jobs.put(job)


# MethodContractViolation


class Worker:
    """Its contract: who calls start() calls stop()."""

    def __init__(self) -> None:
        self._jobs = Chan[int]()
        self._done = Chan[None]()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="worker")

    async def stop(self) -> None:
        self._done.close()
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        while True:
            chosen, _ = await select(Receiving(self._jobs), Receiving(self._done))
            if chosen == 1:
                return


async def contract() -> None:
    worker = Worker()
    worker.start()  # bug: and no stop()
    await give_way()


async def contract_fixed() -> None:
    worker = Worker()
    worker.start()
    try:
        await give_way()
    finally:
        await worker.stop()


class NativeWorker:
    """Its contract: who calls start() calls aclose()."""

    def __init__(self) -> None:
        self._changed = asyncio.Condition()
        self._jobs: list[int] = []
        self._is_closed = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="worker")

    async def aclose(self) -> None:
        async with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._jobs or self._is_closed)


async def contract_native() -> None:
    worker = NativeWorker()
    worker.start()  # bug: and no aclose()
    await give_way()


async def contract_native_fixed() -> None:
    worker = NativeWorker()
    worker.start()
    await give_way()
    await worker.aclose()


# DoubleSend


async def answer_twice(answers: Chan[str]) -> None:
    await answers.send("error")  # bug: no return after the error
    await answers.send("result")


async def answer_once(answers: Chan[str]) -> None:
    await answers.send("error")


async def double_send() -> None:
    answers = Chan[str]()
    asyncio.create_task(answer_twice(answers), name="answerer")
    await answers.recv()
    await give_way()


async def double_send_fixed() -> None:
    answers = Chan[str]()
    answerer = asyncio.create_task(answer_once(answers), name="answerer")
    await answers.recv()
    await answerer


async def double_send_native() -> None:
    answers: asyncio.Queue[str] = asyncio.Queue(1)

    async def answer() -> None:
        await answers.put("error")  # bug: no return after the error, and only one answer is ever taken
        await answers.put("result")
        await answers.put("end")

    asyncio.create_task(answer(), name="answerer")
    await answers.get()
    await give_way()


async def double_send_native_fixed() -> None:
    answers: asyncio.Queue[str] = asyncio.Queue(1)
    answerer = asyncio.create_task(answers.put("error"), name="answerer")
    await answers.get()
    await answerer


# EarlyReturn


async def check() -> None:
    await asyncio.sleep(0)
    raise ValueError("the request is not valid")


async def early_return() -> None:
    result = Chan[str]()
    asyncio.create_task(result.send("result"), name="computation")
    try:
        await check()
    except ValueError:
        return  # bug: the result is not received
    await result.recv()


async def early_return_fixed() -> None:
    result = Chan[str](1)
    computation = asyncio.create_task(result.send("result"), name="computation")
    try:
        await check()
    except ValueError:
        return
    finally:
        await computation


async def early_return_native() -> None:
    go = asyncio.Event()

    async def compute() -> None:
        await go.wait()

    computation = asyncio.create_task(compute(), name="computation")
    try:
        await check()
    except ValueError:
        return  # bug: the task was created before the check
    go.set()
    await computation


async def early_return_native_fixed() -> None:
    go = asyncio.Event()

    async def compute() -> None:
        await go.wait()

    try:
        await check()
    except ValueError:
        go.set()
    await asyncio.create_task(compute(), name="computation")


# NCastLeak


async def n_cast() -> None:
    answers = Chan[int]()
    for number in range(3):
        asyncio.create_task(answers.send(number), name=f"backend {number}")
    await answers.recv()  # bug: one receive for three sends
    await give_way()


async def n_cast_fixed() -> None:
    answers = Chan[int](3)
    backends = [asyncio.create_task(answers.send(number), name=f"backend {number}") for number in range(3)]
    await answers.recv()
    await asyncio.gather(*backends)


async def n_cast_of_none() -> None:
    answers = Chan[int]()
    for number in range(0):  # bug: no backends
        asyncio.create_task(answers.send(number), name=f"backend {number}")
    await answers.recv()


async def ask(backend: int, answers: asyncio.Queue[int]) -> None:
    await answers.put(backend)


async def n_cast_native() -> None:
    answers: asyncio.Queue[int] = asyncio.Queue(1)
    backends = [asyncio.create_task(ask(number, answers), name=f"backend {number}") for number in range(3)]
    await asyncio.wait(backends, return_when=asyncio.FIRST_COMPLETED)
    await give_way()  # bug: the losers are not cancelled


async def n_cast_native_fixed() -> None:
    answers: asyncio.Queue[int] = asyncio.Queue(1)
    backends = [asyncio.create_task(ask(number, answers), name=f"backend {number}") for number in range(3)]
    _, losers = await asyncio.wait(backends, return_when=asyncio.FIRST_COMPLETED)
    await end(*losers)


# Timeout


async def compute(result: Chan[str], may_go_on: asyncio.Event) -> None:
    await may_go_on.wait()
    await result.send("result")


async def timeout() -> None:
    result, may_go_on = Chan[str](), asyncio.Event()
    asyncio.create_task(compute(result, may_go_on), name="computation")
    try:
        async with asyncio.timeout(0.01):
            await result.recv()
    except TimeoutError:
        may_go_on.set()  # bug: too late, nobody receives the result any more
    await give_way()


async def timeout_fixed() -> None:
    result, may_go_on = Chan[str](1), asyncio.Event()
    computation = asyncio.create_task(compute(result, may_go_on), name="computation")
    try:
        async with asyncio.timeout(0.01):
            await result.recv()
    except TimeoutError:
        may_go_on.set()
    await computation


async def timeout_native() -> None:
    replies: asyncio.Queue[str] = asyncio.Queue()
    request = asyncio.create_task(replies.get(), name="request")
    await asyncio.wait([request], timeout=0.01)  # bug: unlike wait_for() it cancels nothing


async def timeout_native_fixed() -> None:
    replies: asyncio.Queue[str] = asyncio.Queue()
    request = asyncio.create_task(replies.get(), name="request")
    await asyncio.wait([request], timeout=0.01)
    await end(request)


# looping-timer


class Metrics:
    def __init__(self) -> None:
        self.emitting = asyncio.create_task(self._emit(), name="metrics")  # bug: it has no method to end it again

    async def _emit(self) -> None:
        while True:
            await asyncio.sleep(60)


async def looping_timer() -> None:
    Metrics()
    await give_way()


async def looping_timer_fixed() -> None:
    metrics = Metrics()
    await give_way()
    await end(metrics.emitting)


WORKERS: Final = ("worker 0", "worker 1", "worker 2")

KERNELS: Final = (
    Kernel(
        "uber/NoCloseRange",
        "Workers loop over a channel that is never closed.",
        no_close_range,
        no_close_range_fixed,
        leaks=tuple(Stuck(worker, "Chan.recv") for worker in WORKERS),
    ),
    Kernel(
        "uber/NoCloseRange/no-workers",
        "A send to workers of which there are none.",
        no_workers,
        no_close_range_fixed,
        body=Stuck("", "Chan.send"),
    ),
    Kernel(
        "uber/NoCloseRange/native",
        "Workers loop over a queue without a sentinel.",
        no_close_range_native,
        no_close_range_native_fixed,
        leaks=tuple(Stuck(worker, "Queue.get") for worker in WORKERS),
    ),
    Kernel(
        "uber/NoCloseRange/native/no-workers",
        "A bounded queue is filled for workers of which there are none.",
        no_workers_native,
        no_close_range_native_fixed,
        body=Stuck("", "Queue.put"),
    ),
    Kernel(
        "uber/MethodContractViolation",
        "start() without stop().",
        contract,
        contract_fixed,
        leaks=(Stuck("worker", "select"),),
    ),
    Kernel(
        "uber/MethodContractViolation/native",
        "start() without aclose().",
        contract_native,
        contract_native_fixed,
        leaks=(Stuck("worker", "Condition.wait_for"),),
    ),
    Kernel(
        "uber/DoubleSend",
        "A result is sent after an error was, and only one of them is received.",
        double_send,
        double_send_fixed,
        leaks=(Stuck("answerer", "Chan.send"),),
    ),
    Kernel(
        "uber/DoubleSend/native",
        "An answer too many is put into a bounded queue.",
        double_send_native,
        double_send_native_fixed,
        leaks=(Stuck("answerer", "Queue.put"),),
    ),
    Kernel(
        "uber/EarlyReturn",
        "An error makes the parent return before it has received.",
        early_return,
        early_return_fixed,
        leaks=(Stuck("computation", "Chan.send"),),
    ),
    Kernel(
        "uber/EarlyReturn/native",
        "An error makes the parent return between creating a task and letting it go on.",
        early_return_native,
        early_return_native_fixed,
        leaks=(Stuck("computation", "Event.wait"),),
    ),
    Kernel(
        "uber/NCastLeak",
        "Three send, one is received.",
        n_cast,
        n_cast_fixed,
        leaks=(Stuck("backend 1", "Chan.send"), Stuck("backend 2", "Chan.send")),
    ),
    Kernel(
        "uber/NCastLeak/no-senders",
        "None sends, one is received.",
        n_cast_of_none,
        n_cast_fixed,
        body=Stuck("", "Chan.recv"),
    ),
    Kernel(
        "uber/NCastLeak/native",
        "The first of three is taken, the losers are forgotten.",
        n_cast_native,
        n_cast_native_fixed,
        leaks=(Stuck("backend 1", "Queue.put"), Stuck("backend 2", "Queue.put")),
    ),
    Kernel(
        "uber/Timeout",
        "A result comes after the timeout and is not received any more.",
        timeout,
        timeout_fixed,
        leaks=(Stuck("computation", "Chan.send"),),
    ),
    Kernel(
        "uber/Timeout/native",
        "wait() with a timeout leaves the task behind.",
        timeout_native,
        timeout_native_fixed,
        leaks=(Stuck("request", "Queue.get"),),
    ),
    Kernel(
        "uber/looping-timer",
        "A constructor starts an endless loop.",
        looping_timer,
        looping_timer_fixed,
        leaks=(Stuck("metrics", "sleep", provable=False),),
    ),
)
