"""What a fixture's function names, and what the functions and methods name that it calls, on asyncio."""

from __future__ import annotations

from plugin.ownership.program import Program

# Beside what a fixture ends by its name, and not to be taken for that: owned by the test.
_OWN = (
    Program(
        "other_global_of_module",
        """
        ended_TWIN, forgotten_TWIN = set(), set()

        class App_NAME_TWIN:
            def fire(self):
                forgotten_TWIN.add(asyncio.create_task(forever()))  # spawned here

            async def stop(self):
                await end(*ended_TWIN)

        @pytest.fixture
        async def NAME_TWIN():
            app = App_NAME_TWIN()
            yield app
            await app.stop()

        async def test_NAME_TWIN(NAME_TWIN):
            NAME_TWIN.fire()
            await asyncio.sleep(0)
            await end(*forgotten_TWIN)  # teardown
        """,
        owner="test_NAME_leak",
    ),
    Program(
        "registry_of_all",
        """
        opened_TWIN = []

        class Client_NAME_TWIN(Client):
            def __init__(self):
                super().__init__()
                opened_TWIN.append(self)

        @pytest.fixture
        async def NAME_TWIN():
            client = Client_NAME_TWIN()
            yield client
            await client.aclose()

        async def test_NAME_TWIN(NAME_TWIN):
            mine = Client_NAME_TWIN()
            mine.ask()
            await asyncio.sleep(0)
            await mine.aclose()  # teardown
        """,
        owner="test_NAME_leak",
    ),
    Program(
        "attribute_of_class_not_named",
        """
        class TestClass_NAME_TWIN:
            client = Client()
            other = Client()

            @pytest.fixture(autouse=True)
            async def NAME_TWIN(self):
                yield
                await self.client.aclose()

            async def test_NAME_TWIN(self):
                self.other.ask()
                await asyncio.sleep(0)
                await self.other.aclose()  # teardown
        """,
        owner="test_NAME_leak",
    ),
    Program(
        "attribute_of_class_by_stranger",
        """
        @pytest.fixture
        async def NAME_TWIN():
            things = types.SimpleNamespace(client=Client())
            yield
            await things.client.aclose()

        class TestClass_NAME_TWIN:
            client = Client()

            async def test_NAME_TWIN(self, NAME_TWIN):
                self.client.ask()
                await asyncio.sleep(0)
                await self.client.aclose()  # teardown
        """,
        owner="test_NAME_leak",
    ),
)

NAMED = (
    Program(
        "set_on_class",
        """
        class TestClass_NAME_TWIN:
            @pytest.fixture(autouse=True)
            async def NAME_TWIN(self, request):
                request.cls.client = Client()
                yield
                await request.cls.client.aclose()  # teardown

            async def test_NAME_TWIN(self):
                self.client.ask()
        """,
    ),
    Program(
        "set_on_class_from_outside",
        """
        @pytest.fixture
        async def NAME_TWIN(request):
            request.cls.client = Client()
            yield
            await request.cls.client.aclose()  # teardown

        @pytest.mark.usefixtures("NAME_TWIN")
        class TestClass_NAME_TWIN:
            async def test_NAME_TWIN(self):
                self.client.ask()
        """,
    ),
    Program(
        "class_body",
        """
        class Base_NAME_TWIN:
            client = Client()

        class TestClass_NAME_TWIN(Base_NAME_TWIN):
            @pytest.fixture(autouse=True)
            async def NAME_TWIN(self):
                yield
                client = self.client
                await client.aclose()  # teardown

            async def test_NAME_TWIN(self):
                self.client.ask()
        """,
    ),
    Program(
        "other_method_of_class",
        """
        tasks_NAME_TWIN = set()

        class TestClass_NAME_TWIN:
            @pytest.fixture(autouse=True)
            async def NAME_TWIN(self):
                yield
                await self._end()

            async def _end(self):
                tasks = tasks_NAME_TWIN
                await end(*tasks)  # teardown

            async def test_NAME_TWIN(self):
                tasks_NAME_TWIN.add(asyncio.create_task(forever()))  # spawned here
        """,
    ),
    Program(
        "method_with_global",
        """
        tasks_NAME_TWIN = set()

        class App_NAME_TWIN:
            async def stop(self):
                await shut_down_NAME_TWIN()

        async def shut_down_NAME_TWIN():
            tasks = tasks_NAME_TWIN
            await end(*tasks)  # teardown

        @pytest.fixture
        async def NAME_TWIN():
            app = App_NAME_TWIN()
            yield
            await app.stop()

        async def test_NAME_TWIN(NAME_TWIN):
            tasks_NAME_TWIN.add(asyncio.create_task(forever()))  # spawned here
        """,
    ),
    Program(
        "sync_generator_with_global",
        """
        tasks_NAME_TWIN = set()

        class App_NAME_TWIN:
            @property
            def running(self):
                return tasks_NAME_TWIN

        @pytest.fixture
        def NAME_TWIN(loop_is_older):
            app = App_NAME_TWIN()
            yield
            for task in app.running:
                task.cancel()  # teardown

        async def test_NAME_TWIN(NAME_TWIN):
            tasks_NAME_TWIN.add(asyncio.create_task(forever()))  # spawned here
        """,
    ),
    Program(
        "finalizer_with_global",
        """
        tasks_NAME_TWIN = set()

        class App_NAME_TWIN:
            def stop(self):
                for task in tasks_NAME_TWIN:
                    task.cancel()  # teardown

        @pytest.fixture
        def NAME_TWIN(request, loop_is_older):
            request.addfinalizer(functools.partial(App_NAME_TWIN.stop, App_NAME_TWIN()))

        async def test_NAME_TWIN(NAME_TWIN):
            tasks_NAME_TWIN.add(asyncio.create_task(forever()))  # spawned here
        """,
    ),
    Program(
        "block_with_global",
        """
        tasks_NAME_TWIN = set()

        class App_NAME_TWIN:
            async def __aenter__(self):
                return self

            async def __aexit__(self, *exc_info):
                tasks = tasks_NAME_TWIN
                await end(*tasks)  # teardown

        @pytest.fixture
        async def NAME_TWIN():
            async with App_NAME_TWIN():
                yield

        async def test_NAME_TWIN(NAME_TWIN):
            tasks_NAME_TWIN.add(asyncio.create_task(forever()))  # spawned here
        """,
    ),
    Program(
        "registry_of_base_class",
        """
        class Base_NAME_TWIN:
            running = {}

            @classmethod
            def start(cls, name):
                cls.running[name] = asyncio.create_task(forever())  # spawned here

            @classmethod
            async def stop_all(cls):
                running = cls.running.values()
                await end(*running)  # teardown

        class Impl_NAME_TWIN(Base_NAME_TWIN):
            pass

        @pytest.fixture
        async def NAME_TWIN():
            yield Impl_NAME_TWIN()
            await Impl_NAME_TWIN.stop_all()

        async def test_NAME_TWIN(NAME_TWIN):
            NAME_TWIN.start("a")
        """,
    ),
    Program(
        "class_attribute_of_base",
        """
        class Base_NAME_TWIN:
            tasks = set()

            def go(self):
                self.tasks.add(asyncio.create_task(forever()))  # spawned here

            async def stop(self):
                tasks = self.tasks
                await end(*tasks)  # teardown

        class Impl_NAME_TWIN(Base_NAME_TWIN):
            pass

        def make_NAME_TWIN():
            return Impl_NAME_TWIN()

        @pytest.fixture
        async def NAME_TWIN():
            made = make_NAME_TWIN()
            yield made
            await made.stop()

        async def test_NAME_TWIN(NAME_TWIN):
            NAME_TWIN.go()
        """,
    ),
    Program(
        "weak_registry",
        """
        tasks_NAME_TWIN = weakref.WeakKeyDictionary()

        class Service_NAME_TWIN:
            def go(self):
                tasks_NAME_TWIN[self] = asyncio.create_task(forever())  # spawned here

            async def stop(self):
                task = tasks_NAME_TWIN[self]
                await end(task)  # teardown

        @pytest.fixture
        async def NAME_TWIN():
            service = Service_NAME_TWIN()
            yield service
            await service.stop()

        async def test_NAME_TWIN(NAME_TWIN):
            NAME_TWIN.go()
        """,
    ),
    Program(
        "local_import",
        """
        sys.modules["app_NAME_TWIN"] = types.ModuleType("app_NAME_TWIN")
        sys.modules["app_NAME_TWIN"].background = set()

        @pytest.fixture
        async def NAME_TWIN():
            yield
            from app_NAME_TWIN import background
            await end(*background)  # teardown

        async def test_NAME_TWIN(NAME_TWIN):
            app = sys.modules["app_NAME_TWIN"]
            app.background.add(asyncio.create_task(forever()))  # spawned here
        """,
    ),
    Program(
        "context_variable",
        """
        current_NAME_TWIN = contextvars.ContextVar("current_NAME_TWIN")
        current_NAME_TWIN.set(Client())

        @pytest.fixture
        async def NAME_TWIN():
            yield
            client = current_NAME_TWIN.get()
            await client.aclose()  # teardown

        async def test_NAME_TWIN(NAME_TWIN):
            current_NAME_TWIN.get().ask()
        """,
    ),
    Program(
        "on_its_instance_and_ended",
        """
        class TestClass_NAME_TWIN:
            @pytest.fixture(autouse=True)
            async def NAME_TWIN(self):
                yield
                await self.stop()

            async def stop(self):
                await end(self.task)  # teardown

            async def test_NAME_TWIN(self):
                self.task = asyncio.create_task(forever())  # spawned here
        """,
        owner="test_NAME_leak",  # there the fixture's code does not name it any more
    ),
    Program(
        "instance_as_value",
        """
        class TestClass_NAME_TWIN:
            @pytest.fixture
            async def NAME_TWIN(self):
                yield self
                for task in vars(self).get("tasks", ()):
                    await end(task)  # teardown

            async def test_NAME_TWIN(self, NAME_TWIN):
                NAME_TWIN.tasks = [asyncio.create_task(forever())]  # spawned here
        """,
    ),
    Program(
        "passed_to_mock_and_ended",
        """
        @pytest.fixture
        async def NAME_TWIN():
            mock = MagicMock()
            yield mock
            for call in mock.call_args_list:
                await call.args[0].aclose()  # teardown
            _, client = mock.connection.send.call_args.args
            await client.aclose()  # teardown

        async def test_NAME_TWIN(NAME_TWIN):
            for send in (NAME_TWIN, functools.partial(NAME_TWIN.connection.send, "now")):
                client = Client()
                client.ask()
                send(client)
        """,
    ),
    Program(
        "passed_to_function_in_place_and_ended",
        """
        def send_NAME_TWIN(client):
            pass

        @pytest.fixture
        async def NAME_TWIN():
            with patch(f"{__name__}.send_NAME_TWIN", autospec=True) as mock:
                yield
                client = mock.mock_calls[0].kwargs["client"]
                await client.aclose()  # teardown

        async def test_NAME_TWIN(NAME_TWIN):
            client = Client()
            client.ask()
            send_NAME_TWIN(client=client)
        """,
    ),
    *_OWN,
)
