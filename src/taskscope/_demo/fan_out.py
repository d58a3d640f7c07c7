"""Five downloads hand their pages to one reader. The reader is stopped, the downloads are not.

The queue has room for one page, so it is a meeting point: a download that is done waits in `put` until the reader
comes. The reader is cancelled after its first page, as when a user closes the window or a timeout strikes. From then
on nobody comes, and the downloads wait for good. Nothing fails and nothing is logged; every such request leaves
three more tasks in memory.

`fan_out_fixed.py` is the same program without the mistake.
"""

from __future__ import annotations

import asyncio

import taskscope


async def download(number: int, pages: asyncio.Queue[str]) -> None:
    await pages.put(f"page {number}")


async def read(pages: asyncio.Queue[str], first_page: asyncio.Event) -> None:
    while True:
        await pages.get()
        first_page.set()


async def main() -> None:
    pages: asyncio.Queue[str] = asyncio.Queue(maxsize=1)
    first_page = asyncio.Event()
    reader = asyncio.create_task(read(pages, first_page), name="reader")
    downloads: set[asyncio.Task[None]] = set()
    for number in range(1, 6):
        downloads.add(asyncio.create_task(download(number, pages), name=f"download {number}"))

    await first_page.wait()
    reader.cancel()
    await asyncio.gather(reader, return_exceptions=True)
    # The mistake: whoever started the downloads returns, and nobody waits for them or ends them.


async def run() -> taskscope.Report:
    async with taskscope.TaskScope("fan-out", on_leak="ignore") as scope:
        await main()
    return scope.report


if __name__ == "__main__":
    print(asyncio.run(run()))
