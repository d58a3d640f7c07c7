"""Tests that no plugin runs: plain functions that run a loop themselves, and unittest's test cases."""

from __future__ import annotations

from plugin.ownership.program import Program

WITHOUT_PLUGIN = (
    Program(
        "finalizer",
        """
        @pytest.fixture
        def loop_NAME_TWIN():
            loop = asyncio.new_event_loop()
            yield loop
            loop.close()

        def test_NAME_TWIN(loop_NAME_TWIN, request):
            client = Client()
            async def main():
                client.ask()
            def end_NAME_TWIN():
                told = client
                loop_NAME_TWIN.run_until_complete(told.aclose())  # teardown
            request.addfinalizer(end_NAME_TWIN)
            loop_NAME_TWIN.run_until_complete(main())
        """,
        owner="finalizer test_NAME_leak.<locals>.end_NAME_leak",
    ),
    Program(
        "runner",
        """
        @pytest.fixture
        def NAME_TWIN():
            with asyncio.Runner() as runner:
                client = Client()
                yield types.SimpleNamespace(runner=runner, client=client)
                runner.run(client.aclose())  # teardown

        def test_NAME_TWIN(NAME_TWIN):
            async def main():
                NAME_TWIN.client.ask()
            NAME_TWIN.runner.run(main())
        """,
    ),
    Program(
        "runner_of_module",
        """
        @pytest.fixture(scope="module")
        def NAME_TWIN():
            with asyncio.Runner() as runner:
                client = Client()
                yield runner, weakref.ref(client)
                runner.run(client.aclose())  # teardown

        def test_NAME_TWIN(NAME_TWIN):
            runner, client = NAME_TWIN
            async def main():
                client().ask()
            runner.run(main())
        """,
    ),
    Program(
        "client_on_loop",
        """
        @pytest.fixture
        def loop_TWIN():
            loop = asyncio.new_event_loop()
            yield loop
            loop.close()

        @pytest.fixture
        def NAME_TWIN(loop_TWIN):
            client = Client()
            yield client
            loop_TWIN.run_until_complete(client.aclose())  # teardown

        def test_NAME_TWIN(NAME_TWIN, loop_TWIN):
            async def main():
                NAME_TWIN.ask()
            loop_TWIN.run_until_complete(main())
        """,
    ),
    Program(
        "client_in_thread",
        """
        @pytest.fixture
        def thread_TWIN():
            loop = asyncio.new_event_loop()
            thread = threading.Thread(target=loop.run_forever)
            thread.start()
            yield loop
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

        @pytest.fixture
        def NAME_TWIN(thread_TWIN):
            client = Client()
            yield client
            asyncio.run_coroutine_threadsafe(client.aclose(), thread_TWIN).result()  # teardown

        def test_NAME_TWIN(NAME_TWIN, thread_TWIN):
            async def main():
                NAME_TWIN.ask()
            asyncio.run_coroutine_threadsafe(main(), thread_TWIN).result()
        """,
    ),
    Program(
        "own_in_runner",
        """
        @pytest.fixture
        def NAME_TWIN():
            with asyncio.Runner() as runner:
                yield types.SimpleNamespace(runner=runner, queue=asyncio.Queue())

        def test_NAME_TWIN(NAME_TWIN):
            async def main():
                task = asyncio.create_task(NAME_TWIN.queue.get())  # spawned here
                await asyncio.sleep(0)
                await end(task)  # teardown
            NAME_TWIN.runner.run(main())
        """,
        owner="test_NAME_leak",
    ),
    Program(
        "closed_loop",
        """
        @pytest.fixture
        def NAME_TWIN():
            yield types.SimpleNamespace(client=None)

        def test_NAME_TWIN(NAME_TWIN):
            async def main():
                NAME_TWIN.client = Client()
                NAME_TWIN.client.ask()
                await asyncio.sleep(0)
                await NAME_TWIN.client.aclose()  # teardown
            asyncio.run(main())
        """,
        owner="test_NAME_leak",
    ),
    Program(
        "case",
        """
        class Case_NAME_TWIN(unittest.IsolatedAsyncioTestCase):
            async def asyncSetUp(self):
                self.client = Client()

            async def asyncTearDown(self):
                await self.client.aclose()  # teardown

            async def test_NAME_TWIN(self):
                self.client.ask()
        """,
        owner="test_NAME_leak",
    ),
    Program(
        "cleanup_of_case",
        """
        class Case_NAME_TWIN(unittest.IsolatedAsyncioTestCase):
            async def asyncSetUp(self):
                client = Client()
                cleanup = nothing  # stands in for it in the leaking twin
                cleanup = Client.aclose  # teardown
                self.addAsyncCleanup(cleanup, client)
                self.client = weakref.proxy(client)

            async def test_NAME_TWIN(self):
                self.client.ask()
                self.job = asyncio.create_task(self.work())
                self.addAsyncCleanup(end, self.job)

            async def work(self):
                await forever()
        """,
        owner="test_NAME_leak",
    ),
    Program(
        "fixture_of_case",
        """
        class Case_NAME_TWIN(unittest.IsolatedAsyncioTestCase):
            @pytest.fixture(autouse=True)
            def NAME_TWIN(self):
                self.queue = asyncio.Queue()
                yield

            async def test_NAME_TWIN(self):
                async def wait():
                    await self.queue.get()
                task = asyncio.create_task(wait())  # spawned here
                await asyncio.sleep(0)
                await end(task)  # teardown
        """,
        owner="test_NAME_leak",
    ),
    Program(
        "sync_case",
        """
        class Case_NAME_TWIN(unittest.TestCase):
            def setUp(self):
                self.runner = asyncio.Runner()
                self.client = Client()

            def tearDown(self):
                self.runner.run(self.client.aclose())  # teardown
                self.runner.close()

            def test_NAME_TWIN(self):
                async def main():
                    self.client.ask()
                self.runner.run(main())
        """,
        owner="test_NAME_leak",
    ),
    Program(
        "tear_down_with_global",
        """
        client_NAME_TWIN = Client()

        class Case_NAME_TWIN(unittest.IsolatedAsyncioTestCase):
            async def asyncTearDown(self):
                client = client_NAME_TWIN
                await client.aclose()  # teardown

            async def test_NAME_TWIN(self):
                client_NAME_TWIN.ask()
        """,
        owner="test_NAME_leak",
    ),
    Program(
        "class_attribute_of_case",
        """
        class Base_NAME_TWIN(unittest.IsolatedAsyncioTestCase):
            client = Client()

            async def asyncTearDown(self):
                client = self.client
                await client.aclose()  # teardown

        class Case_NAME_TWIN(Base_NAME_TWIN):
            async def asyncTearDown(self):
                await super().asyncTearDown()

            async def test_NAME_TWIN(self):
                self.client.ask()
        """,
        owner="test_NAME_leak",
    ),
    Program(
        "cleanup_with_global",
        """
        client_NAME_TWIN = Client()

        class Case_NAME_TWIN(unittest.IsolatedAsyncioTestCase):
            async def test_NAME_TWIN(self):
                async def clean():
                    client = client_NAME_TWIN
                    await client.aclose()  # teardown
                self.addAsyncCleanup(clean)
                client_NAME_TWIN.ask()
        """,
        owner="test_NAME_leak",
    ),
    Program(
        "global_of_case_not_named",
        """
        ended_NAME_TWIN, forgotten_NAME_TWIN = Client(), Client()

        class Case_NAME_TWIN(unittest.IsolatedAsyncioTestCase):
            async def asyncTearDown(self):
                await ended_NAME_TWIN.aclose()

            async def test_NAME_TWIN(self):
                forgotten_NAME_TWIN.ask()
                await asyncio.sleep(0)
                await forgotten_NAME_TWIN.aclose()  # teardown
        """,
        owner="test_NAME_leak",
    ),
    Program(
        "set_up_class_of_case",
        """
        class Case_NAME_TWIN(unittest.TestCase):
            @classmethod
            def setUpClass(cls):
                cls.runner, cls.client = asyncio.Runner(), Client()

            @classmethod
            def tearDownClass(cls):
                cls.runner.run(cls.client.aclose())  # teardown
                cls.runner.close()

            def test_NAME_TWIN(self):
                async def main():
                    self.client.ask()
                self.runner.run(main())
        """,
        owner="setUpClass of Case_NAME_leak",
    ),
    Program(
        "class_cleanup_of_case",
        """
        class Case_NAME_TWIN(unittest.TestCase):
            @classmethod
            def setUpClass(cls):
                cls.runner, client = asyncio.Runner(), Client()
                cls.addClassCleanup(cls.runner.close)
                cls.addClassCleanup(cls.finish, client)
                cls.ask = staticmethod(functools.partial(ask_NAME_TWIN, weakref.ref(client)))

            @classmethod
            def finish(cls, client):
                cls.runner.run(client.aclose())  # teardown

            def test_NAME_TWIN(self):
                self.runner.run(self.ask())

        async def ask_NAME_TWIN(client):
            client().ask()
        """,
        owner="setUpClass of Case_NAME_leak",
    ),
    Program(
        "set_up_class",
        """
        class TestClass_NAME_TWIN:
            @classmethod
            def setup_class(cls):
                cls.runner, cls.client = asyncio.Runner(), Client()

            @classmethod
            def teardown_class(cls):
                cls.runner.run(cls.client.aclose())  # teardown
                cls.runner.close()

            def test_NAME_TWIN(self):
                async def main():
                    self.client.ask()
                self.runner.run(main())
        """,
        owner="setup_class of TestClass_NAME_leak",
    ),
    Program(
        "set_up_function",
        """
        things_NAME_TWIN = types.SimpleNamespace()

        class TestClass_NAME_TWIN:
            def setup_method(self):
                things_NAME_TWIN.runner, things_NAME_TWIN.client = asyncio.Runner(), Client()

            def teardown_method(self):
                runner, client = things_NAME_TWIN.runner, things_NAME_TWIN.client
                runner.run(client.aclose())  # teardown
                runner.close()

            def test_NAME_TWIN(self):
                async def main():
                    things_NAME_TWIN.client.ask()
                things_NAME_TWIN.runner.run(main())
        """,
        owner="setup_method of TestClass_NAME_leak",
    ),
)
