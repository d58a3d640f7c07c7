"""Fixtures that are set up again and again: what one setup has left is never taken for another one's."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from typing import Any

import pytest
from plugin.project import Run, run_pytest

from taskscope._backends import _asyncio
from taskscope._policy import DEFAULT_POLICY
from taskscope._table import NO_SITE
from taskscope.pytest_plugin._known_fixtures import KnownFixture
from taskscope.pytest_plugin._owners import Owner, put_tag, take_tag_back
from taskscope.pytest_plugin._settings import Settings

FILES = {
    "test_setups.py": """
        import asyncio
        import contextvars
        import pytest
        import taskscope

        contexts = []
        scopes = []

        async def forever():
            await asyncio.Event().wait()

        def spawn():
            return asyncio.get_running_loop().create_task(forever())

        @pytest.fixture
        def context():
            contexts.append(contextvars.copy_context())

        @pytest.fixture
        def scope():
            scopes.append(taskscope.current_scope())

        async def test_first(context, scope):
            pass

        async def test_of_the_setup_before(context):
            contexts[-2].run(spawn)

        async def test_of_its_own_setup(context):
            contexts[-1].run(spawn)

        async def test_clean(context):
            task = contexts[-2].run(spawn)
            task.cancel()
            await asyncio.wait([task])

        async def test_scope(scope):
            assert scopes[0] is not scopes[1]
            assert [each.name for each in scopes] == ["fixture scope"] * 2
        """,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    ini = "taskscope = true\nasyncio_mode = auto"
    return run_pytest(tmp_path_factory.mktemp("setups"), FILES, ini=ini, plugins=("pytest_asyncio.plugin",))


def test_what_the_context_of_an_earlier_setup_spawns_is_not_the_later_ones(run: Run) -> None:
    text = run.phase("test_of_the_setup_before", "teardown").text
    assert "1 task outlived scope 'event loop'" in text
    assert "from the context of scope 'fixture context', which was closed" in text


def test_what_the_context_of_a_setup_spawns_before_its_teardown_is_the_fixtures(run: Run) -> None:
    text = run.phase("test_of_its_own_setup", "teardown").text
    assert "1 task outlived scope 'fixture context'" in text
    assert "is torn down" in text


@pytest.mark.parametrize("test", ["test_first", "test_clean", "test_scope"])
def test_others_pass(run: Run, test: str) -> None:
    assert run.outcomes()[test] == "passed"


@pytest.fixture
def settings() -> Settings:
    return Settings(DEFAULT_POLICY, "raise")


@pytest.fixture
def known(settings: Settings) -> KnownFixture:
    heir = Owner("event loop", "loop", settings, _set_up).table_on(_asyncio)
    return KnownFixture("things", _set_up, _set_up, heir)


def _set_up(known: KnownFixture, settings: Settings, during: Callable[[Owner], object]) -> tuple[Owner, object]:
    owner = known.owner(settings, None, None)  # type: ignore[arg-type]
    token = put_tag(owner)
    try:
        held = during(owner)
    finally:
        take_tag_back(token)
    owner.set_value("a value", [])
    return owner, held


def test_the_owner_of_a_setup_that_has_nothing_stands_for_the_next_one(known: KnownFixture, settings: Settings) -> None:
    owner, _ = _set_up(known, settings, lambda owner: None)
    assert owner.is_unknown()
    known.keep(owner)
    assert owner.values == []
    assert known.owner(settings, None, None) is owner  # type: ignore[arg-type]
    assert known.owner(settings, None, None) is not owner  # type: ignore[arg-type]


def test_it_does_not_where_other_settings_hold(known: KnownFixture, settings: Settings) -> None:
    owner, _ = _set_up(known, settings, lambda owner: None)
    known.keep(owner)
    others = Settings(DEFAULT_POLICY._replace(grace=0.0), "raise")
    assert known.owner(others, None, None) is not owner  # type: ignore[arg-type]


def _in_a_nested_setup(owner: Owner) -> object:
    inner = Owner("fixture inner", "fixture", owner.settings, _set_up)
    token = put_tag(inner)
    take_tag_back(token)
    return inner  # whose table knows the tag before its own


def _with_a_task_that_ends(owner: Owner) -> None:
    async def main() -> None:
        task = asyncio.create_task(asyncio.sleep(0))
        table.rows[task] = NO_SITE
        await task
        table.let_ended_go()

    table = owner.table_on(_asyncio)
    asyncio.run(main(), debug=False)


def _with_a_finding(owner: Owner) -> None:
    owner.is_judged = True


@pytest.mark.parametrize(
    "during",
    [
        lambda owner: contextvars.copy_context(),
        lambda owner: contextvars.copy_context().run(contextvars.copy_context),
        lambda owner: owner.table_on(_asyncio).scope,
        lambda owner: owner.table_on(_asyncio),
        _in_a_nested_setup,
        _with_a_task_that_ends,
        _with_a_finding,
    ],
    ids=["context", "context of a context", "scope", "table", "nested setup", "task", "judged"],
)
def test_it_does_not_where_anybody_may_know_it(known: KnownFixture, settings: Settings, during: Any) -> None:
    owner, held = _set_up(known, settings, during)
    assert not owner.is_unknown()
    del held
