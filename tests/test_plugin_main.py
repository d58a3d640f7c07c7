"""What a test that is no coroutine function has `asyncio.run` run: it is watched, and looks as it did."""

from __future__ import annotations

from pathlib import Path

from plugin.project import run_pytest

RUNS = {
    "test_it_is_called_what_it_is.py": """
        import asyncio

        async def main():
            return asyncio.current_task().get_coro().__qualname__

        def test_name():
            assert asyncio.run(main()) == "main"
        """,
    "test_closed_runner.py": """
        import asyncio
        import pytest

        async def main():
            pass

        def test_closed_runner():
            with asyncio.Runner() as runner:
                runner.get_loop()
            coro = main()
            with pytest.raises(RuntimeError, match="Runner is closed"):
                runner.run(coro)
            coro.close()
        """,
    "test_loop_goes.py": """
        import asyncio, gc, weakref

        async def main():
            await asyncio.create_task(asyncio.sleep(0))
            return weakref.ref(asyncio.get_running_loop())

        def test_loop_goes():
            loop = asyncio.run(main())
            gc.collect()
            assert loop() is None
        """,
    "test_interrupted.py": """
        import asyncio
        import pytest

        def interrupt():
            raise KeyboardInterrupt

        async def main():
            asyncio.get_running_loop().call_soon(interrupt)
            await asyncio.Event().wait()

        def test_interrupted():
            with pytest.raises(KeyboardInterrupt):
                asyncio.run(main())
        """,
    "test_it_is_watched.py": """
        import asyncio

        async def main():
            asyncio.create_task(asyncio.Event().wait(), name="left behind")

        def test_leak():
            asyncio.run(main())
        """,
}


def test_main_of_a_test_is_watched_and_looks_as_it_did(tmp_path: Path) -> None:
    run = run_pytest(tmp_path, RUNS, ini="taskscope = true\nfilterwarnings = error")
    passed = dict.fromkeys(("test_name", "test_closed_runner", "test_loop_goes", "test_interrupted"), "passed")
    assert run.outcomes() == {**passed, "test_leak": "failed"}, run.output
    assert "left behind" in run.phase("test_leak").text
