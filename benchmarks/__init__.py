"""What taskscope costs, side by side with bare asyncio and with other tools: `python -m benchmarks`."""
