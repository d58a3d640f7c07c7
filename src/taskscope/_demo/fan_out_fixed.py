"""The same downloads and reader, but whoever starts a task also ends it: nothing is left.

Compare with `fan_out.py`. The `finally` runs whether the reader is stopped, `main` is cancelled or something fails.
Cancelling alone would not do: `gather` waits until every task has really ended.
"""

from __future__ import annotations

import asyncio

import taskscope
from taskscope._demo.fan_out import download, read


async def main() -> None:
    pages: asyncio.Queue[str] = asyncio.Queue(maxsize=1)
    first_page = asyncio.Event()
    tasks = {asyncio.create_task(read(pages, first_page), name="reader")}
    try:
        for number in range(1, 6):
            tasks.add(asyncio.create_task(download(number, pages), name=f"download {number}"))
        await first_page.wait()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def run() -> taskscope.Report:
    async with taskscope.TaskScope("fan-out, fixed", on_leak="ignore") as scope:
        await main()
    return scope.report


if __name__ == "__main__":
    print(asyncio.run(run()))
