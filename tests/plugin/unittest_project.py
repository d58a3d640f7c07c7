"""The same cells for `unittest.IsolatedAsyncioTestCase`."""

UNITTEST_FILES = {
    "test_body.py": """
        import asyncio
        import unittest
        import pytest

        async def forever():
            await asyncio.Event().wait()

        async def hang():
            await asyncio.Event().wait()

        class Body(unittest.IsolatedAsyncioTestCase):
            async def spawn(self):
                return asyncio.create_task(forever())  # spawned here

            async def test_clean(self):
                task = await self.spawn()
                task.cancel()
                await asyncio.wait([task])

            async def test_leak(self):
                await self.spawn()

            async def test_hang(self):
                await hang()

            async def test_fails_and_leaks(self):
                await self.spawn()
                assert 0

            @pytest.mark.xfail(strict=True)
            async def test_xfail_by_leak(self):
                await self.spawn()

            @pytest.mark.xfail(strict=True)
            async def test_xfail(self):
                assert 0

            @unittest.skip("not today")
            async def test_skip_by_mark(self):
                await self.spawn()

            async def test_skip_in_body(self):
                self.skipTest("not today")

            @pytest.mark.taskscope_leaks("forever")
            async def test_expected_leak(self):
                await self.spawn()

            @pytest.mark.taskscope_leaks("forever")
            async def test_expected_leak_is_absent(self):
                pass

            async def test_next_one_passes(self):
                pass

        class SetUpLeaks(unittest.IsolatedAsyncioTestCase):
            async def asyncSetUp(self):
                self.task = asyncio.create_task(forever())  # spawned here

            async def test_set_up_leaks(self):
                pass

        class SetUpAndTearDown(unittest.IsolatedAsyncioTestCase):
            async def run_until_told(self):
                await asyncio.Event().wait()

            async def asyncSetUp(self):
                self.task = asyncio.create_task(forever())
                self.tasks = []

            async def asyncTearDown(self):
                for task in (self.task, *self.tasks):
                    task.cancel()
                await asyncio.wait([self.task, *self.tasks])

            async def test_set_up_and_tear_down(self):
                self.tasks.append(asyncio.create_task(self.run_until_told()))
        """,
}
