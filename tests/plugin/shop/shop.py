"""What the example in the README tests."""

import asyncio


async def checkout(orders: asyncio.Queue[str]) -> str:
    await orders.put("a book")
    return "thank you"


async def send_receipts(orders: asyncio.Queue[str]) -> None:
    while True:
        order = await orders.get()
        print(f"sent the receipt for {order}")
