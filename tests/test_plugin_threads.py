"""Loops in other threads than the test's: what runs there is no body of a test, whatever the test itself does."""

from __future__ import annotations

import pytest
from plugin.project import Run, run_pytest

FILES = {
    "test_threads.py": """
        import asyncio
        import socket
        import threading
        import time
        import pytest

        async def forever():
            await asyncio.Event().wait()

        class Server(threading.Thread):
            def __init__(self):
                super().__init__(daemon=True)
                self.is_listening = threading.Event()
                self.may_listen = threading.Event()

            def run(self):
                self.may_listen.wait()
                asyncio.run(self.serve())

            async def serve(self):
                async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0) as server:
                    self.address = server.sockets[0].getsockname()
                    self.loop = asyncio.get_running_loop()
                    self.stopped = asyncio.Event()
                    self.is_listening.set()
                    await asyncio.Future() if self.is_for_good else await self.stopped.wait()

            is_for_good = True

            def ask(self):
                self.may_listen.set()
                self.is_listening.wait()
                time.sleep(0.7)  # longer than two looks at the body of a test
                socket.create_connection(self.address).close()

        def test_server_of_its_own():
            server = Server()
            server.start()
            server.ask()

        @pytest.fixture(scope="module")
        def server():
            server = Server()
            server.start()  # and begins to listen in the first test
            yield server

        def test_server_of_a_fixture(server):
            server.ask()

        def test_the_same_server(server):
            server.ask()

        @pytest.fixture(scope="module")
        def jobs():
            is_over = threading.Event()
            ran = threading.Semaphore(0)

            async def job():
                asyncio.create_task(forever())
                await asyncio.sleep(0)

            def work():
                while not is_over.is_set():
                    asyncio.run(job())
                    ran.release()

            thread = threading.Thread(target=work)
            thread.start()
            yield ran
            is_over.set()
            thread.join()

        def test_beside_jobs_of_a_fixture(jobs):
            for _ in range(3):
                jobs.acquire()

        def test_beside_the_same_jobs(jobs):
            for _ in range(3):
                jobs.acquire()

        def test_leak_in_a_thread_of_its_own():
            async def main():
                asyncio.create_task(forever())  # spawned here

            thread = threading.Thread(target=lambda: asyncio.run(main()))
            thread.start()
            thread.join()

        def test_hang():
            asyncio.run(forever())
        """,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_pytest(tmp_path_factory.mktemp("threads"), FILES, ini="taskscope = true")


@pytest.mark.parametrize(
    "test",
    [
        "test_server_of_its_own",
        "test_server_of_a_fixture",
        "test_the_same_server",
        "test_beside_jobs_of_a_fixture",
        "test_beside_the_same_jobs",
    ],
)
def test_what_another_thread_runs_is_let_be(run: Run, test: str) -> None:
    assert run.outcomes()[test] == "passed", run.output
    assert run.findings_of(test) == []


def test_what_a_test_leaves_on_a_loop_in_its_own_thread_is_told(run: Run) -> None:
    test = "test_leak_in_a_thread_of_its_own"
    assert "# spawned here" in run.phase(test).text
    assert [finding["outcome"] for finding in run.findings_of(test)] == ["failed"]


def test_its_own_body_is_watched(run: Run) -> None:
    assert "could never have gone on" in run.phase("test_hang").text
