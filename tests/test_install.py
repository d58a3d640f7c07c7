"""Tracking a whole loop with `install` or a whole program with `run`, and the switch that makes all of it inert."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
from conftest import Run

import taskscope
from taskscope import (
    Installation,
    Report,
    TaskLeakError,
    TaskLeakWarning,
    TaskScope,
    TaskScopeError,
    current_scope,
    hand_off,
    install,
    scoped,
)

NewLoop = Callable[[], asyncio.AbstractEventLoop]


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


async def nothing() -> None:
    pass


def quiet(name: str | None = None, **policy: object) -> TaskScope:
    """A scope that judges at once and only reports."""
    return TaskScope(name, **{"grace": 0, "on_leak": "ignore", **policy})  # type: ignore[arg-type]


def leaked(report: Report | None) -> set[str]:
    assert report is not None
    return {record.name for record in report.leaks}


async def turns(count: int = 3) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


# --- install


def test_install_puts_the_factory_on_and_uninstall_takes_it_off(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        before = loop.get_task_factory()
        installation = install()
        assert isinstance(installation, Installation)
        assert installation.root is None and installation.report is None
        ours = loop.get_task_factory()
        assert ours is not before
        async with TaskScope(grace=0) as scope:
            assert loop.get_task_factory() is ours
            await asyncio.create_task(nothing())
        assert scope.report.spawned == 1
        assert loop.get_task_factory() is ours
        installation.uninstall()
        assert loop.get_task_factory() is before
        installation.uninstall()
        assert loop.get_task_factory() is before

    run(main)


def test_install_is_idempotent(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        before = loop.get_task_factory()
        first = install()
        ours = loop.get_task_factory()
        assert install() is first and install(loop) is first
        assert loop.get_task_factory() is ours
        with_root = install(root="app", grace=0, on_leak="ignore")
        assert with_root is first and first.root is not None and first.root.name == "app"
        assert install() is first
        await first.aclose()
        assert loop.get_task_factory() is before

    run(main)


def test_after_uninstalling_it_can_be_installed_again(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        before = loop.get_task_factory()
        for name in ("first", "second"):
            installation = install(root=name, grace=0, on_leak="ignore")
            asyncio.create_task(forever(), name=f"leak of {name}")
            await installation.aclose()
            assert leaked(installation.report) == {f"leak of {name}"}
            assert loop.get_task_factory() is before
            await installation.aclose()
            assert leaked(installation.report) == {f"leak of {name}"}

    run(main)


def test_without_a_root_tasks_outside_of_scopes_are_nobodys(run: Run) -> None:
    async def main() -> None:
        async with install() as installation:
            task = asyncio.create_task(forever())
            await asyncio.sleep(0)
            assert current_scope() is None
        assert installation.report is None
        assert not task.done()
        task.cancel()

    run(main)


def test_an_installation_outlives_a_scope_opened_before_it_and_the_other_way_round(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        before = loop.get_task_factory()
        async with TaskScope():
            installation = install()
        assert loop.get_task_factory() is not before
        async with quiet() as scope:
            installation.uninstall()
            assert loop.get_task_factory() is not before
            asyncio.create_task(forever(), name="leak")
        assert leaked(scope.report) == {"leak"}
        assert loop.get_task_factory() is before

    run(main)


def test_a_loop_that_does_not_run_yet_can_be_given(new_loop: NewLoop) -> None:
    loop = new_loop()
    try:
        before = loop.get_task_factory()
        installation = install(loop, root="app", grace=0, on_leak="ignore")

        async def main() -> None:
            asyncio.create_task(forever(), name="leak")
            await asyncio.sleep(0)

        loop.run_until_complete(main())
        loop.run_until_complete(installation.aclose())
        assert leaked(installation.report) == {"leak"}
        assert loop.get_task_factory() is before
    finally:
        loop.close()


def test_without_a_running_loop_one_has_to_be_given() -> None:
    with pytest.raises(RuntimeError, match="needs a running event loop"):
        install()


@pytest.mark.parametrize("loop", ["loop", 1, asyncio.AbstractEventLoop, object()])
def test_what_is_no_loop_is_refused(loop: Any) -> None:
    with pytest.raises(TypeError, match=r"loop=.*must be None or an event loop of asyncio"):
        install(loop)


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"root": 1}, TypeError, "root=1"),
        ({"root": ""}, ValueError, "root=''"),
        ({"grace": 1.0}, ValueError, "grace.*root="),
        ({"on_leak": "raise"}, ValueError, "on_leak.*root="),
        ({"grace": 0.2, "scan": False}, ValueError, "grace, scan.*root="),
        ({"root": "app", "timeout": 1.0}, ValueError, "timeout=1.0.*no body"),
        ({"root": "app", "grace": -1}, ValueError, "grace=-1"),
        ({"root": "app", "on_leak": "explode"}, ValueError, "on_leak='explode'"),
        ({"root": "app", "nonsense": 1}, TypeError, "nonsense"),
    ],
)
def test_bad_arguments_are_refused_and_change_nothing(
    run: Run, arguments: dict[str, Any], kind: type[Exception], message: str
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        before = loop.get_task_factory()
        with pytest.raises(kind, match=message):
            install(**arguments)
        assert loop.get_task_factory() is before
        async with install(root="app", on_leak="ignore"):  # nothing is half installed
            pass

    run(main)


# --- the root scope


def test_the_root_owns_what_is_spawned_outside_of_any_scope(run: Run) -> None:
    async def parent(all_there: asyncio.Event) -> None:
        asyncio.create_task(forever(), name="child")
        asyncio.create_task(forever(), name="lost child", context=contextvars.Context())
        all_there.set()
        await forever()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        before = asyncio.create_task(forever(), name="before")
        installation = install(root="app", grace=0, on_leak="ignore")
        assert current_scope() is installation.root
        all_there = asyncio.Event()
        asyncio.create_task(parent(all_there), name="parent")
        await all_there.wait()
        called = asyncio.Event()

        def callback() -> None:
            asyncio.create_task(forever(), name="of a callback")
            called.set()

        loop.call_soon(callback, context=contextvars.Context())
        await called.wait()
        async with quiet("request") as request:
            asyncio.create_task(forever(), name="of the request")
        await installation.aclose()
        assert leaked(request.report) == {"of the request"}
        assert leaked(installation.report) == {"parent", "child", "lost child", "of a callback"}
        assert installation.report is not None and installation.report.scope == "app"
        assert installation.report.spawned == 4
        assert not before.done()
        before.cancel()

    run(main)


def test_the_root_is_judged_by_a_context_manager_too_and_a_clean_one_is_silent(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with install(root="app", grace=0) as installation:
            await asyncio.gather(nothing(), nothing())
        assert installation.report is not None
        assert installation.report.ok and installation.report.spawned == 2
        assert not caplog.records

    run(main)


def test_by_default_the_root_logs(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with install(root="app", grace=0):
            asyncio.create_task(forever(), name="leak")

    run(main)
    assert [(record.name, record.levelname) for record in caplog.records] == [("taskscope", "ERROR")]
    logged = caplog.records[0].taskscope_report  # type: ignore[attr-defined]
    assert logged["scope"] == "app" and [leak["name"] for leak in logged["leaks"]] == ["leak"]
    assert logged["leaks"][0]["spawn_site"]["function"].endswith("main")


def test_the_policy_of_the_root_is_obeyed(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        before = loop.get_task_factory()
        installation = install(root="app", grace=0, on_leak="raise")
        asyncio.create_task(forever(), name="leak")
        with pytest.raises(TaskLeakError) as caught:
            await installation.aclose()
        assert leaked(caught.value.report) == {"leak"} and caught.value.report is installation.report
        assert loop.get_task_factory() is before

        told: list[Report] = []
        installation = install(root="app", grace=5, on_leak="raise", on_report=told.append, spawn_site="stack")
        released = asyncio.Event()
        asyncio.create_task(released.wait(), name="late")
        loop.call_soon(released.set)
        await installation.aclose()
        assert [record.name for report in told for record in report.late] == ["late"]

        installation = install(root="app", grace=0, on_leak="warn")
        asyncio.create_task(forever(), name="leak")
        with pytest.warns(TaskLeakWarning, match="app"):
            await installation.aclose()

    run(main)


def test_the_bodys_exception_goes_on_through_an_installation(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        before = loop.get_task_factory()
        with pytest.raises(ZeroDivisionError):
            async with install(root="app", grace=0, on_leak="ignore") as installation:
                asyncio.create_task(forever(), name="leak")
                raise ZeroDivisionError
        assert leaked(installation.report) == {"leak"}
        assert loop.get_task_factory() is before

    run(main)


def test_an_exception_of_the_body_is_not_masked_by_the_root_that_raises(run: Run) -> None:
    async def main() -> None:
        with pytest.raises(ZeroDivisionError) as caught:
            async with install(root="app", grace=0, on_leak="raise"):
                asyncio.create_task(forever(), name="leak")
                raise ZeroDivisionError
        assert any("app" in note for note in caught.value.__notes__)

    run(main)


def test_a_second_root_is_refused_and_the_first_stays(run: Run) -> None:
    async def main() -> None:
        installation = install(root="app", grace=0, on_leak="ignore")
        with pytest.raises(TaskScopeError, match=r"root='other'.*'app'"):
            install(root="other")
        with pytest.raises(TaskScopeError, match=r"root='app'.*'app'"):
            install(root="app")
        asyncio.create_task(forever(), name="leak")
        await installation.aclose()
        assert leaked(installation.report) == {"leak"}

    run(main)


def test_uninstalling_gives_a_root_up_without_a_judgement(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        before = loop.get_task_factory()
        installation = install(root="app", grace=0)
        with pytest.raises(TaskScopeError, match="'app'"):
            _ = installation.report
        task = asyncio.create_task(forever(), name="left alone")
        installation.uninstall()
        assert loop.get_task_factory() is before
        assert current_scope() is None
        with pytest.raises(TaskScopeError, match="'app'"):  # nobody has looked: to call it clean would be wrong
            _ = installation.report
        await installation.aclose()
        await turns()
        assert not task.done()
        task.cancel()

    run(main)


def test_the_root_can_be_asked_for_a_snapshot_and_given_tasks(run: Run) -> None:
    async def main() -> None:
        installation = install(root="app", grace=0, on_leak="ignore")
        assert installation.root is not None
        async with TaskScope("request", grace=0) as request:
            task = asyncio.create_task(forever(), name="adopted")
            installation.root.adopt(task)
            given = asyncio.create_task(forever(), name="handed off")
            hand_off(given, installation.root, reason="serves all requests")
        assert request.report.ok
        assert leaked(installation.root.snapshot()) == {"adopted", "handed off"}
        await installation.aclose()
        assert leaked(installation.report) == {"adopted", "handed off"}
        with pytest.raises(TaskScopeError):
            installation.root.adopt(task := asyncio.create_task(forever()))
        task.cancel()
        await turns()

    run(main)


def test_whoever_waits_for_the_end_is_not_waited_for(run: Run) -> None:
    """A server's lifespan task ends the root scope while the server's main task, spawned under the root, awaits it."""

    async def main() -> None:
        installation: list[Installation] = []

        async def lifespan() -> None:
            asyncio.create_task(forever(), name="leak")
            await installation[0].aclose()

        async def server() -> None:
            await asyncio.create_task(lifespan(), name="lifespan")

        installation.append(install(root="app", grace=0, on_leak="ignore"))
        await asyncio.create_task(server(), name="server")
        assert leaked(installation[0].report) == {"leak"}

    run(main)


def test_two_who_end_the_root_at_once_end_it_once(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        before = loop.get_task_factory()
        first = asyncio.Event()
        installation = install(grace=0.01, root="app")
        asyncio.create_task(forever(), name="leak")

        async def end() -> None:
            first.set()
            await installation.aclose()

        await asyncio.gather(end(), end())
        assert leaked(installation.report) == {"leak"}
        assert loop.get_task_factory() is before

    run(main)
    assert len(caplog.records) == 1


def test_cancelling_the_end_of_the_root_still_ends_it(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        before = loop.get_task_factory()
        installation = install(root="app", grace=30, on_leak="ignore")
        leak = asyncio.create_task(forever(), name="leak")
        ending = asyncio.create_task(installation.aclose())
        await turns()
        ending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await ending
        assert leak.cancelled() and leaked(installation.report) == {"leak"}
        assert loop.get_task_factory() is before

    run(main)


def test_a_root_that_lost_its_factory_says_so(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        installation = install(root="app", grace=0, on_leak="ignore")
        loop.set_task_factory(None)
        await installation.aclose()
        assert installation.report is not None and installation.report.tracking_lost is not None
        assert loop.get_task_factory() is None

    run(main)


# --- run


def test_run_returns_the_result(new_loop: NewLoop) -> None:
    async def main() -> str:
        await asyncio.create_task(nothing())
        return "result"

    assert taskscope.run(main(), loop_factory=new_loop) == "result"


def test_run_raises_what_the_program_raises(new_loop: NewLoop) -> None:
    async def main() -> None:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        taskscope.run(main(), loop_factory=new_loop)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError("mine")])
def test_run_raises_what_is_no_exception_too(error: BaseException) -> None:
    async def main() -> None:
        asyncio.create_task(forever())
        await asyncio.sleep(0)
        raise error

    with pytest.raises(type(error)):
        taskscope.run(main(), grace=30, on_leak="ignore")


def test_run_puts_a_scope_round_the_program(new_loop: NewLoop) -> None:
    scopes: list[TaskScope | None] = []

    async def main() -> None:
        scopes.append(current_scope())
        asyncio.create_task(forever(), name="leak")
        asyncio.create_task(forever(), name="lost", context=contextvars.Context())

    with pytest.raises(TaskLeakError) as caught:
        taskscope.run(main(), grace=0, loop_factory=new_loop)
    assert leaked(caught.value.report) == {"leak", "lost"}
    assert scopes[0] is not None and scopes[0].report is caught.value.report
    assert caught.value.report.scope.endswith("main")


def test_run_names_its_scope_and_obeys_the_policy(new_loop: NewLoop, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> int:
        asyncio.create_task(forever(), name="leak")
        return 7

    assert taskscope.run(main(), name="app", grace=0, on_leak="log", loop_factory=new_loop) == 7
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert caplog.records[0].taskscope_report["scope"] == "app"  # type: ignore[attr-defined]


def test_a_clean_program_is_silent(new_loop: NewLoop, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(nothing())

    with caplog.at_level(logging.DEBUG, "taskscope"):
        taskscope.run(main(), grace=0, loop_factory=new_loop)
    assert not [record for record in caplog.records if record.name == "taskscope"]


def test_run_ends_a_program_that_takes_too_long() -> None:
    with pytest.raises(taskscope.ScopeTimeoutError):
        taskscope.run(forever(), timeout=0.01)


@pytest.mark.parametrize("debug", [True, False])
def test_run_sets_debug_mode_as_asyncio_run_does(debug: bool) -> None:
    async def main() -> bool:
        return asyncio.get_running_loop().get_debug()

    assert taskscope.run(main(), debug=debug) is debug
    assert taskscope.run(main()) is asyncio.run(main())


def test_run_closes_the_loop_and_its_generators() -> None:
    closed: list[str] = []
    loops: list[asyncio.AbstractEventLoop] = []

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            closed.append("numbers")

    async def main() -> None:
        loops.append(asyncio.get_running_loop())
        iterator = numbers()
        kept.append(iterator)
        await anext(iterator)

    kept: list[AsyncIterator[int]] = []
    taskscope.run(main())
    assert closed == ["numbers"] and loops[0].is_closed()
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()


def test_a_nested_call_is_refused_without_a_word_about_coroutines_never_awaited(run: Run) -> None:
    async def inner() -> None:
        raise AssertionError("never runs")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        before = loop.get_task_factory()
        coro = inner()
        with pytest.raises(RuntimeError, match="running event loop"):
            taskscope.run(coro)
        assert coro.cr_frame is None, "it has been closed"
        assert loop.get_task_factory() is before and asyncio.get_running_loop() is loop
        async with TaskScope(grace=0) as scope:
            with pytest.raises(RuntimeError, match="running event loop"):
                taskscope.run(inner())
        assert scope.report.spawned == 0

    run(main)
    gc.collect()  # the warning, if there were one, would come now, and fail this test


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"backend": "curio"}, ValueError, "backend=.curio.: must be .asyncio. or .trio."),
        ({"backend": "trio", "debug": True}, ValueError, "^debug=True: is for asyncio"),
        ({"backend": "trio", "loop_factory": asyncio.new_event_loop}, ValueError, "^loop_factory=.*: is for asyncio"),
        ({"backend": None}, ValueError, "backend=None"),
        ({"name": 1}, TypeError, "name=1"),
        ({"name": ""}, ValueError, "name=''"),
        ({"grace": -1}, ValueError, "grace=-1"),
        ({"ignore": 1}, TypeError, "ignore=1"),
        ({"nonsense": 1}, TypeError, "nonsense"),
        ({"loop_factory": 1}, TypeError, "not callable"),
    ],
)
def test_run_refuses_bad_arguments_and_closes_the_coroutine(
    arguments: dict[str, Any], kind: type[Exception], message: str
) -> None:
    coro = nothing()
    with pytest.raises(kind, match=message):
        taskscope.run(coro, **arguments)
    assert coro.cr_frame is None
    gc.collect()


@pytest.mark.parametrize("main", [None, nothing, 1, [nothing]])
def test_run_refuses_what_is_no_coroutine(main: Any) -> None:
    with pytest.raises(TypeError, match="main="):
        taskscope.run(main)


def test_a_root_inside_run_is_refused_for_the_program_has_one(new_loop: NewLoop) -> None:
    async def main() -> None:
        installation = install()
        assert installation.root is None
        with pytest.raises(TaskScopeError, match=r"root='other'.*'app'"):
            install(root="other", grace=0)
        installation.uninstall()
        asyncio.create_task(forever(), name="lost", context=contextvars.Context())

    with pytest.raises(TaskLeakError) as caught:
        taskscope.run(main(), name="app", grace=0, loop_factory=new_loop)
    assert leaked(caught.value.report) == {"lost"}


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="there are no such signals on this system")
@pytest.mark.parametrize("where", ["in the program", "in a scope that has ended", "in an empty context"])
def test_tasks_of_signal_handlers_belong_to_the_program(new_loop: NewLoop, where: str) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        arrived = asyncio.Event()

        def handle() -> None:
            asyncio.create_task(forever(), name="of the handler")
            arrived.set()

        if where == "in the program":
            loop.add_signal_handler(signal.SIGUSR1, handle)
        elif where == "in an empty context":
            contextvars.Context().run(loop.add_signal_handler, signal.SIGUSR1, handle)
        else:
            async with TaskScope("start-up"):
                loop.add_signal_handler(signal.SIGUSR1, handle)
        try:
            os.kill(os.getpid(), signal.SIGUSR1)
            async with TaskScope("bystander", grace=0):
                await arrived.wait()
        finally:
            loop.remove_signal_handler(signal.SIGUSR1)

    with pytest.raises(TaskLeakError) as caught:
        taskscope.run(main(), name="app", grace=0, loop_factory=new_loop)
    assert caught.value.report.scope == "app"
    assert leaked(caught.value.report) == {"of the handler"}


def test_run_works_in_another_thread_and_beside_others(new_loop: NewLoop) -> None:
    reports: dict[int, Report] = {}
    together = threading.Barrier(4)

    async def main(number: int) -> None:
        await asyncio.to_thread(together.wait, 30)
        asyncio.create_task(forever(), name=f"leak {number}")

    def work(number: int) -> None:
        try:
            taskscope.run(main(number), grace=0, loop_factory=new_loop)
        except TaskLeakError as error:
            reports[number] = error.report

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert {number: leaked(report) for number, report in reports.items()} == {
        number: {f"leak {number}"} for number in range(4)
    }


def test_run_leaves_the_users_factory_of_a_loop_as_it_was() -> None:
    def theirs(loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], **kwargs: Any) -> asyncio.Task[Any]:
        return asyncio.Task(coro, loop=loop, **kwargs)

    loops: list[asyncio.AbstractEventLoop] = []

    def make() -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        loop.set_task_factory(theirs)
        loops.append(loop)
        return loop

    async def main() -> None:
        assert asyncio.get_running_loop().get_task_factory() is not theirs
        await asyncio.create_task(nothing())

    taskscope.run(main(), loop_factory=make)
    assert loops[0].get_task_factory() is theirs


# --- TASKSCOPE=off


@pytest.fixture(params=["off", "OFF", " off "])
def switched_off(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKSCOPE", request.param)


def told(report: Report) -> None:
    raise AssertionError(f"nothing is to be told: {report}")


async def leave_a_task() -> asyncio.Task[None]:
    task = asyncio.create_task(forever())
    await asyncio.sleep(0)
    return task


@pytest.mark.usefixtures("switched_off")
def test_switched_off_a_scope_does_nothing(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        before = loop.get_task_factory()
        context = contextvars.copy_context()
        async with TaskScope("scope", grace=0, on_report=told, timeout=0, scan=True) as scope:
            assert loop.get_task_factory() is before
            assert contextvars.copy_context() == context
            assert current_scope() is None
            task = await leave_a_task()
            scope.adopt(task)
            hand_off(task, reason="none")
            hand_off(task, scope, reason="none")
            assert scope.snapshot().leaks == ()
            await asyncio.sleep(0.001)
        assert not task.done()
        assert scope.report.ok and scope.report.scope == "scope" and scope.report.spawned == 0
        assert any("TASKSCOPE=off" in text for text in scope.report.coverage)
        assert str(scope.report)
        task.cancel()

    run(main)


@pytest.mark.usefixtures("switched_off")
def test_switched_off_scoped_does_nothing(run: Run) -> None:
    @scoped(grace=0, on_report=told)
    async def leaky() -> asyncio.Task[None]:
        assert current_scope() is None
        return await leave_a_task()

    @scoped(grace=0, on_report=told)
    async def numbers() -> AsyncIterator[asyncio.Task[None]]:
        yield await leave_a_task()

    async def main() -> None:
        tasks = [await leaky()]
        async for task in numbers():
            tasks.append(task)  # noqa: PERF401 - the plain loop is what is under test
        assert not any(task.done() for task in tasks)
        for task in tasks:
            task.cancel()

    run(main)


@pytest.mark.usefixtures("switched_off")
def test_switched_off_install_does_nothing(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        before = loop.get_task_factory()
        async with install(root="app", grace=0, on_report=told) as installation:
            assert loop.get_task_factory() is before
            task = await leave_a_task()
            assert install(root="other") is not None, "there is no first root"
        assert installation.root is None and installation.report is None
        installation.uninstall()
        assert not task.done()
        task.cancel()

    run(main)


@pytest.mark.usefixtures("switched_off")
def test_switched_off_run_is_asyncio_run(new_loop: NewLoop) -> None:
    async def main() -> str:
        assert current_scope() is None
        await leave_a_task()
        return "result"

    assert taskscope.run(main(), grace=0, on_report=told, loop_factory=new_loop) == "result"


@pytest.mark.usefixtures("switched_off")
def test_switched_off_bad_arguments_are_refused_all_the_same(run: Run) -> None:
    """Otherwise they would be found when it is switched on again."""

    async def main() -> None:
        with pytest.raises(ValueError, match="grace"):
            TaskScope(grace=-1)
        with pytest.raises(ValueError, match="grace"):
            install(root="app", grace=-1)
        with pytest.raises(TypeError, match="task="):
            hand_off(None, reason="none")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="task="):
            TaskScope().adopt(None)  # type: ignore[arg-type]

    run(main)


def test_switched_off_later_what_is_open_goes_on_and_ends_well(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        before = loop.get_task_factory()
        async with quiet("opened before") as scope:
            monkeypatch.setenv("TASKSCOPE", "off")
            async with quiet("opened after"):
                asyncio.create_task(forever(), name="leak")
        assert leaked(scope.report) == {"leak"}
        assert loop.get_task_factory() is before

    run(main)


@pytest.mark.parametrize("value", ["", "on", "0", "offf", "false"])
def test_other_values_do_not_switch_it_off(run: Run, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("TASKSCOPE", value)

    async def main() -> None:
        with pytest.raises(TaskLeakError):
            async with TaskScope(grace=0):
                asyncio.create_task(forever())

    run(main)


def test_the_switch_works_from_the_start_of_a_process(tmp_path: Any) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import asyncio, taskscope\n"
        "async def main():\n"
        "    async with taskscope.TaskScope(grace=0):\n"
        "        asyncio.create_task(asyncio.sleep(30))\n"
        "taskscope.run(main())\n"
    )

    async def exit_code(value: str) -> int:
        environment = {**os.environ, "TASKSCOPE": value}
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(program), env=environment, stderr=asyncio.subprocess.DEVNULL
        )
        return await process.wait()

    async def main() -> None:
        assert await asyncio.gather(exit_code("off"), exit_code("")) == [0, 1]

    asyncio.run(main())
