"""Doctests, which call `asyncio.run` and the like as plain tests do."""

from __future__ import annotations

import pytest
from plugin.project import Run, run_pytest

FILES = {
    "examples.py": '''
        import asyncio

        async def forever():
            await asyncio.Event().wait()

        async def spawn():
            global task
            task = asyncio.create_task(forever())

        async def end():
            task.cancel()
            await asyncio.wait([task])

        def leaks():
            """
            >>> asyncio.run(spawn())
            """

        def leaks_in_an_example():
            """
            >>> async def main():
            ...     asyncio.create_task(forever())
            >>> asyncio.run(main())
            """

        def fails_and_leaks():
            """
            >>> asyncio.run(spawn())
            >>> 1 + 1
            3
            """

        def hangs():
            """
            >>> asyncio.run(forever())
            """

        def clean():
            """
            >>> loop = asyncio.new_event_loop()
            >>> loop.run_until_complete(spawn())
            >>> loop.run_until_complete(end())
            >>> loop.close()
            """

        def without_a_loop():
            """
            >>> 1 + 1
            2
            """
    ''',
    "text.rst": """
        >>> import asyncio
        >>> async def main():
        ...     asyncio.create_task(asyncio.sleep(3600))
        >>> asyncio.run(main())
    """,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    options = ("--doctest-modules", "--doctest-glob=*.rst", "--taskscope")
    return run_pytest(tmp_path_factory.mktemp("doctests"), FILES, *options)


@pytest.mark.parametrize(
    ("test", "site"),
    [
        ("examples.leaks", "examples.py"),
        ("examples.leaks_in_an_example", "<doctest examples.leaks_in_an_example[0]>"),
        ("text.rst", "<doctest text.rst[1]>"),
    ],
)
def test_a_leak_fails_the_doctest(run: Run, test: str, site: str) -> None:
    phase = run.phase(test)
    assert phase.outcome == "failed", run.output
    assert "1 task outlived scope" in phase.text and f'File "{site}"' in phase.text


def test_one_that_fails_keeps_its_failure(run: Run) -> None:
    phase = run.phase("examples.fails_and_leaks")
    assert phase.outcome == "failed"
    assert "Expected:" in phase.text
    assert "1 task outlived scope" in phase.sections["Captured taskscope call"], phase.sections


def test_one_that_hangs_for_good_fails_with_the_report_alone(run: Run) -> None:
    phase = run.phase("examples.hangs")
    assert phase.outcome == "failed"
    assert "could never have gone on" in phase.text
    assert "UNEXPECTED EXCEPTION" not in phase.text


@pytest.mark.parametrize("test", ["examples.clean", "examples.without_a_loop"])
def test_a_clean_one_passes(run: Run, test: str) -> None:
    assert run.outcomes()[test] == "passed", run.output
