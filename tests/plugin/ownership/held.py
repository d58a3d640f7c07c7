"""The ways in which a fixture has the object that a test uses, on asyncio."""

from __future__ import annotations

from plugin.ownership.on_either import WEAK_REFERENCE
from plugin.ownership.program import Program

HELD = (
    Program(
        "inner",
        """
        @pytest.fixture
        async def NAME_TWIN():
            scheduler = Scheduler()
            yield scheduler
            await scheduler.aclose()  # teardown

        @pytest.fixture
        async def outer_TWIN(NAME_TWIN):
            yield types.SimpleNamespace(scheduler=NAME_TWIN)

        async def test_NAME_TWIN(outer_TWIN):
            outer_TWIN.scheduler.submit(forever)
        """,
    ),
    Program(
        "asked_for_in_test",
        """
        @pytest.fixture
        def NAME_TWIN():
            scheduler = Scheduler()
            yield scheduler
            for job in scheduler.jobs:
                job.cancel()  # teardown

        async def test_NAME_TWIN(request, loop_is_older):
            request.getfixturevalue("NAME_TWIN").submit(forever)
        """,
    ),
    Program(
        "autouse",
        """
        _NAME_TWIN = []

        @pytest.fixture
        async def NAME_TWIN():
            scheduler = Scheduler()
            _NAME_TWIN.append(scheduler)
            yield
            await scheduler.aclose()  # teardown

        @pytest.mark.usefixtures("NAME_TWIN")
        async def test_NAME_TWIN():
            _NAME_TWIN.pop().submit(forever)
        """,
    ),
    Program(
        "fixture_method",
        """
        class TestClass_NAME_TWIN:
            @pytest.fixture(autouse=True)
            async def NAME_TWIN(self):
                self.client = Client()
                yield
                await self.client.aclose()  # teardown

            async def test_NAME_TWIN(self):
                self.client.ask()
        """,
    ),
    Program(
        "set_up_method",
        """
        @pytest.mark.usefixtures("loop_of_session")
        class TestClass_NAME_TWIN:
            def setup_method(self):
                self.scheduler = Scheduler()

            def teardown_method(self):
                for job in self.scheduler.jobs:
                    job.cancel()  # teardown

            async def test_NAME_TWIN(self):
                self.scheduler.submit(forever)
        """,
        owner="setup_method of TestClass_NAME_leak",
        needs_wide_loop=True,
    ),
    Program(
        "mock",
        """
        @pytest.fixture
        async def NAME_TWIN():
            mock = MagicMock()
            mock.client = Client()
            yield mock
            await mock.client.aclose()  # teardown

        async def test_NAME_TWIN(NAME_TWIN):
            NAME_TWIN.client.ask()
        """,
    ),
    Program(
        "dict_of_defaults",
        """
        @pytest.fixture
        async def NAME_TWIN():
            clients = collections.defaultdict(Client)
            yield {"clients": clients}
            for client in clients.values():
                await client.aclose()  # teardown

        async def test_NAME_TWIN(NAME_TWIN):
            NAME_TWIN["clients"]["a"].ask()
        """,
    ),
    WEAK_REFERENCE,
    Program(
        "sync_generator",
        """
        @pytest.fixture
        def NAME_TWIN(loop_is_older):
            scheduler = Scheduler()
            yield weakref.proxy(scheduler)
            for job in scheduler.jobs:
                job.cancel()  # teardown

        async def test_NAME_TWIN(NAME_TWIN):
            NAME_TWIN.submit(forever)
        """,
    ),
    Program(
        "add_finalizer",
        """
        @pytest.fixture
        def NAME_TWIN(request, loop_is_older):
            scheduler = Scheduler()
            def finish():
                for job in scheduler.jobs:
                    job.cancel()  # teardown
            request.addfinalizer(finish)
            return functools.partial(submit_NAME_TWIN, weakref.ref(scheduler))

        def submit_NAME_TWIN(scheduler, job):
            scheduler().submit(job)

        async def test_NAME_TWIN(NAME_TWIN):
            NAME_TWIN(forever)
        """,
    ),
    Program(
        "global_object",
        """
        shared_TWIN = Scheduler()

        @pytest.fixture
        async def NAME_TWIN():
            yield
            await shared_TWIN.aclose()  # teardown
            assert shared_TWIN

        async def test_NAME_TWIN(NAME_TWIN):
            shared_TWIN.submit(forever)
        """,
    ),
    Program(
        "global_of_function",
        """
        background_TWIN = set()

        async def shut_down_TWIN():
            await end(*background_TWIN)

        @pytest.fixture
        async def NAME_TWIN():
            yield
            shut_down = shut_down_TWIN
            await shut_down()  # teardown

        async def test_NAME_TWIN(NAME_TWIN):
            background_TWIN.add(asyncio.create_task(forever()))  # spawned here
        """,
    ),
    Program(
        "attribute_of_module",
        """
        app_TWIN = types.ModuleType("app_TWIN")
        app_TWIN.background = set()

        @pytest.fixture
        def NAME_TWIN(loop_is_older):
            yield
            for task in app_TWIN.background:
                task.cancel()  # teardown

        async def test_NAME_TWIN(NAME_TWIN):
            app_TWIN.background.add(asyncio.create_task(forever()))  # spawned here
        """,
    ),
    Program(
        "class_itself",
        """
        class Bus_TWIN:
            tasks = set()

            @classmethod
            def publish(cls):
                cls.tasks.add(asyncio.create_task(forever()))  # spawned here

            @classmethod
            async def shut_down(cls):
                await end(*cls.tasks)

        @pytest.fixture
        async def NAME_TWIN():
            yield Bus_TWIN
            await Bus_TWIN.shut_down()  # teardown

        async def test_NAME_TWIN(NAME_TWIN):
            NAME_TWIN.publish()
        """,
    ),
    Program(
        "weak_set",
        """
        @pytest.fixture
        async def NAME_TWIN():
            tasks = weakref.WeakSet()
            yield tasks
            await end(*tasks)  # teardown

        async def test_NAME_TWIN(NAME_TWIN):
            NAME_TWIN.add(asyncio.create_task(forever()))  # spawned here
        """,
    ),
    Program(
        "bound_method_of_list",
        """
        @pytest.fixture
        def NAME_TWIN(request, loop_is_older):
            tasks = []
            request.addfinalizer(functools.partial(cancel_TWIN, tasks.copy, weakref.ref(Client)))
            return tasks.append

        def cancel_TWIN(copy, unused):
            for task in copy():
                task.cancel()  # teardown

        async def test_NAME_TWIN(NAME_TWIN):
            NAME_TWIN(asyncio.create_task(forever()))  # spawned here
        """,
    ),
    Program(
        "exit_stack",
        """
        @pytest.fixture
        async def NAME_TWIN():
            stack = contextlib.AsyncExitStack()
            yield stack
            await stack.aclose()  # teardown

        async def test_NAME_TWIN(NAME_TWIN):
            task = asyncio.create_task(forever())  # spawned here
            NAME_TWIN.push_async_callback(end, task)
        """,
    ),
    Program(
        "large_neighbour",
        """
        @pytest.fixture
        def data_TWIN():
            return [{"row": [object()]} for _ in range(30_000)]

        @pytest.fixture
        async def NAME_TWIN():
            scheduler = Scheduler()
            yield scheduler
            await scheduler.aclose()  # teardown

        async def test_NAME_TWIN(data_TWIN, NAME_TWIN):
            NAME_TWIN.submit(forever)
        """,
    ),
    Program(
        "hostile",
        """
        class Hostile_TWIN:
            touched = []

            def __init__(self):
                self.scheduler = Scheduler()

            def __getattribute__(self, name):
                if pytest.is_over:
                    object.__getattribute__(self, "touched").append(name)
                return object.__getattribute__(self, name)

            def __getattr__(self, name):
                self.touched.append(name)
                raise ZeroDivisionError(name)

            @property
            def __class__(self):
                self.touched.append("class")
                raise ZeroDivisionError

            def __eq__(self, other):
                raise ZeroDivisionError

            __hash__ = None

            def __bool__(self):
                raise ZeroDivisionError

        @pytest.fixture
        async def NAME_TWIN():
            pytest.is_over = False
            hostile = Hostile_TWIN()
            yield hostile
            assert not Hostile_TWIN.touched
            pytest.is_over = False
            await hostile.scheduler.aclose()  # teardown

        async def test_NAME_TWIN(NAME_TWIN):
            NAME_TWIN.scheduler.submit(forever)
            pytest.is_over = True
        """,
    ),
)
