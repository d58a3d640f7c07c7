"""A real server that owns the loop: what its requests leave behind is told when it stops, in bounded time."""

from __future__ import annotations

import ast
import http.client
import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest
from test_readme import block

APP = Path(__file__).parent / "app"
LOOPS = ["asyncio", "uvloop"] if importlib.util.find_spec("uvloop") is not None else ["asyncio"]

GRACE = 1.0
CANCEL_TIMEOUT = 1.0
# What uvicorn needs by itself, on a machine that has other things to do.
MARGIN = 10.0

Report = dict[str, Any]
Serve = Callable[..., Any]


def source_of_recipe() -> str:
    source = (APP / "lifespan_app.py").read_text(encoding="utf-8")
    found = re.search(r"^# README: from here\n(.*)^# README: to here$", source, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


class Server:
    """A uvicorn process. Its log is read as it comes, so that nobody has to ask again and again."""

    def __init__(self, process: subprocess.Popen[str], reports: Path) -> None:
        assert process.stderr is not None
        self._process = process
        self._reports = reports
        self._lines: list[str] = []
        self._news = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read, args=(process.stderr,))
        self._reader.start()
        self.port = int(self.wait_for(r"running on http://127\.0\.0\.1:(\d+)"))

    def _read(self, log: IO[str]) -> None:
        for line in log:
            with self._news:
                self._lines.append(line)
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    @property
    def log(self) -> str:
        return "".join(self._lines)

    def wait_for(self, pattern: str) -> str:
        """Waits until a line of the log matches, and returns the first group, or all of the match."""
        with self._news:
            assert self._news.wait_for(lambda: self._ended or re.search(pattern, self.log), timeout=30), self.log
            found = re.search(pattern, self.log)
        assert found is not None, f"the server has ended without {pattern!r}:\n{self.log}"
        return found[1] if found.groups() else found[0]

    def get(self, path: str) -> int:
        """The status of a real request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            response.read()
            return response.status
        finally:
            connection.close()

    def ask_and_hang_up(self, path: str) -> None:
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())

    def get_together(self, *paths: str) -> list[int]:
        with ThreadPoolExecutor(len(paths)) as pool:
            return list(pool.map(self.get, paths))

    def send(self, how: signal.Signals) -> None:
        self._process.send_signal(how)

    def stop(self, how: signal.Signals = signal.SIGINT, *, within: float = GRACE + CANCEL_TIMEOUT) -> int:
        """The exit code."""
        started = time.monotonic()
        self.send(how)
        return self.wait(started + within + MARGIN)

    def wait(self, deadline: float) -> int:
        code = self._process.wait(max(0.0, deadline - time.monotonic()))
        self._reader.join()
        return code

    def reports(self) -> list[Report]:
        """The reports that came with log records, oldest first. Each record of ours has one."""
        return [ast.literal_eval(line) for line in self._reports.read_text(encoding="utf-8").splitlines()]

    def report(self) -> Report:
        (report,) = self.reports()
        return report

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._reader.join()
        assert self._process.stderr is not None
        self._process.stderr.close()


def log_config(reports: Path) -> dict[str, Any]:
    """All that is logged as lines to stderr, and what taskscope logs beside it as data to a file."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "lines": {"format": "%(levelname)s %(name)s: %(message)s"},
            "reports": {"format": "%(taskscope_report)r"},
        },
        "handlers": {
            "lines": {"class": "logging.StreamHandler", "formatter": "lines"},
            "reports": {"class": "logging.FileHandler", "filename": str(reports), "formatter": "reports"},
        },
        "loggers": {"taskscope": {"handlers": ["reports"]}},
        "root": {"handlers": ["lines"], "level": "INFO"},
    }


@contextmanager
def serving(
    folder: Path,
    *options: str,
    app: str = "lifespan_app",
    start: tuple[str, ...] = ("-m", "uvicorn"),
    configure_log: bool = True,
    **environment: str,
) -> Iterator[Server]:
    reports = folder / "reports"
    config = folder / "log.json"
    config.write_text(json.dumps(log_config(reports)), encoding="utf-8")
    inherited = {name: value for name, value in os.environ.items() if name not in ("TASKSCOPE", "WEB_CONCURRENCY")}
    path = [str(folder), str(APP), *filter(None, [inherited.get("PYTHONPATH")])]
    process = subprocess.Popen(
        [
            *(sys.executable, *start, f"{app}:app", "--host", "127.0.0.1", "--port", "0"),
            *(("--log-config", str(config)) if configure_log else ()),
            *options,
        ],
        env={**inherited, "PYTHONPATH": os.pathsep.join(path), **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    server: Server | None = None
    try:
        server = Server(process, reports)
        yield server
    finally:
        if server is not None:
            server.close()
        elif process.poll() is None:
            process.kill()


@pytest.fixture(params=LOOPS)
def serve(request: pytest.FixtureRequest, tmp_path: Path) -> Serve:
    """Starts the application of the README, or another, on each kind of loop."""

    def serve(*options: str, **arguments: Any) -> Any:
        return serving(tmp_path, "--loop", request.param, *options, **arguments)

    return serve


@pytest.fixture
def serve_on_asyncio(tmp_path: Path) -> Serve:
    """The same, for what does not depend on the kind of loop."""

    def serve(*options: str, **arguments: Any) -> Any:
        return serving(tmp_path, "--loop", "asyncio", *options, **arguments)

    return serve


@pytest.fixture
def variant(tmp_path: Path) -> Callable[[str, str], str]:
    """The name of a module with the README's application in which one thing is otherwise."""

    def variant(old: str, new: str) -> str:
        source = source_of_recipe()
        assert source.count(old) == 1
        (tmp_path / "variant.py").write_text(source.replace(old, new), encoding="utf-8")
        return "variant"

    return variant


@contextmanager
def courier() -> Iterator[tuple[int, Callable[[], None]]]:
    """A port, and a function that ends the task that the request `/delivery` leaves: it waits for this to hang up."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def hang_up() -> None:
            connection, _ = listening.accept()
            connection.close()

        yield listening.getsockname()[1], hang_up


def line_of(code: str) -> int:
    """The number of the line of the application that holds this code."""
    lines = (APP / "orders.py").read_text(encoding="utf-8").splitlines()
    (number,) = (number for number, line in enumerate(lines, 1) if code in line)
    return number


def by_name(records: list[Report]) -> dict[str, Report]:
    found = {record["name"]: record for record in records}
    assert len(found) == len(records)
    return found


def spawned_in(record: Report) -> list[str]:
    """The functions that spawned a task and its ancestors, nearest first."""
    return [frame["function"] for frame in (record["spawn_site"], *record["spawn_chain"])]


def nothing_is_logged(server: Server) -> bool:
    return not server.reports() and "taskscope" not in server.log and "Traceback" not in server.log


def test_the_readme_shows_the_application_that_is_tested_here() -> None:
    assert block("app-recipe") == source_of_recipe()


def test_what_requests_leave_is_reported_when_the_server_stops(serve: Serve) -> None:
    with courier() as (port, hang_up), serve() as server:
        for path in ("/blocked", "/stubborn", f"/delivery?port={port}", "/clean"):
            assert server.get(path) == 200
        server.send(signal.SIGINT)
        server.wait_for("Waiting for application shutdown")
        hang_up()
        assert server.wait(time.monotonic() + GRACE + CANCEL_TIMEOUT + MARGIN) == 0
        report = server.report()
    assert report["scope"] == "shop"
    leaks = by_name(report["leaks"])
    assert set(leaks) == {"blocked", "stubborn"}
    for name, code in (("blocked", "(wait_for_stock(), name="), ("stubborn", "retry(2)")):
        site = leaks[name]["spawn_site"]
        assert (Path(site["file"]), site["function"]) == (APP / "orders.py", name)
        assert code in (APP / "orders.py").read_text(encoding="utf-8").splitlines()[site["line"] - 1]
        assert leaks[name]["outcome"] == "cancelled"
    assert leaks["stubborn"]["outcome_detail"] == "after 3 cancels"
    (late,) = report["late"]
    assert (late["name"], late["outcome"]) == ("delivery", "finished")
    assert not report["survivors"]
    assert report["settled_after"] < GRACE + CANCEL_TIMEOUT + 0.25


def test_the_log_shows_the_task_and_the_line_that_spawned_it(serve_on_asyncio: Serve) -> None:
    with serve_on_asyncio() as server:
        server.get("/stubborn")
        server.stop()
        log = server.log
    assert "ERROR taskscope: taskscope: 1 task outlived scope 'shop' and was cancelled." in log
    assert re.search(rf'spawned at\n    File ".*orders\.py", line {line_of("retry(2)")}, in stubborn\n', log)
    assert '      asyncio.create_task(retry(2), name="stubborn")\n' in log
    assert "Application shutdown complete." in log


def test_without_a_log_configuration_the_report_goes_to_stderr(serve_on_asyncio: Serve) -> None:
    with serve_on_asyncio(configure_log=False) as server:
        server.get("/blocked")
        assert server.stop() == 0
        assert "taskscope: 1 task outlived scope 'shop' and was cancelled." in server.log


@pytest.mark.parametrize("requests", [[], ["/clean"], ["/clean"] * 20])
def test_a_clean_run_logs_nothing(serve: Serve, requests: list[str]) -> None:
    with serve() as server:
        for path in requests:
            assert server.get(path) == 200
        assert server.stop() == 0
        assert nothing_is_logged(server), server.log


def test_tasks_that_end_while_the_server_stops_are_nothing_to_log(serve_on_asyncio: Serve) -> None:
    with courier() as (port, hang_up), serve_on_asyncio() as server:
        server.get(f"/delivery?port={port}")
        server.send(signal.SIGINT)
        server.wait_for("Waiting for application shutdown")
        hang_up()
        assert server.wait(time.monotonic() + GRACE + MARGIN) == 0
        assert nothing_is_logged(server), server.log


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_the_exit_code_is_that_of_the_same_server_without_us(
    tmp_path: Path, variant: Callable[[str, str], str], how: signal.Signals
) -> None:
    # 0 for SIGINT. When it has shut down in good order uvicorn sends itself the SIGTERM that it got, and dies of that.
    codes: list[int] = []
    for app in ("lifespan_app", variant(", lifespan=lifespan", "")):
        with serving(tmp_path, app=app) as server:
            server.get("/blocked")
            codes.append(server.stop(how))
            assert ("outlived scope 'shop'" in server.log) is (app == "lifespan_app")
    assert codes == [0 if how is signal.SIGINT else -signal.SIGTERM] * 2


def test_a_server_that_handles_sigterm_ends_with_exit_code_zero(serve_on_asyncio: Serve) -> None:
    program = "import signal, uvicorn; signal.signal(signal.SIGTERM, lambda *_: None); uvicorn.main()"
    with serve_on_asyncio(start=("-c", program)) as server:
        server.get("/blocked")
        assert server.stop(signal.SIGTERM) == 0
        assert [record["name"] for record in server.report()["leaks"]] == ["blocked"]


def test_a_server_that_ends_by_itself_ends_with_exit_code_zero(serve_on_asyncio: Serve) -> None:
    with serve_on_asyncio("--limit-max-requests", "1") as server:
        server.get("/blocked")
        assert server.wait(time.monotonic() + GRACE + CANCEL_TIMEOUT + MARGIN) == 0
        assert [record["name"] for record in server.report()["leaks"]] == ["blocked"]


def test_a_task_that_swallows_every_cancellation_does_not_keep_the_server(serve: Serve) -> None:
    with serve() as server:
        server.get("/immortal")
        assert server.stop(signal.SIGTERM) == -signal.SIGTERM
        (survivor,) = server.report()["survivors"]
    assert (survivor["name"], survivor["outcome"]) == ("immortal", "survived")
    assert "swallowed in retry" in survivor["outcome_detail"]


def test_two_requests_at_once_are_told_apart(serve: Serve) -> None:
    with serve() as server:
        assert server.get_together("/together?customer=Ada", "/together?customer=Grace") == [200, 200]
        server.stop()
        leaks = by_name(server.report()["leaks"])
    assert set(leaks) == {"order of Ada", "stock for Ada", "order of Grace", "stock for Grace"}
    for name, record in leaks.items():
        ours = [function for function in spawned_in(record) if function in ("together", "reserve")]
        assert ours == (["together"] if name.startswith("order") else ["reserve", "together"])


def test_requests_with_scopes_of_their_own_at_once_get_a_report_each(serve: Serve) -> None:
    with serve() as server:
        assert server.get_together("/checked?customer=Ada", "/checked?customer=Grace") == [200, 200]
        reports = {report["scope"]: report for report in server.reports()}
        assert server.stop() == 0
        # the root scope has nothing to add
        assert len(server.reports()) == 2
    assert set(reports) == {"request of Ada", "request of Grace"}
    for customer in ("Ada", "Grace"):
        leaks = by_name(reports[f"request of {customer}"]["leaks"])
        assert set(leaks) == {f"order of {customer}", f"stock for {customer}"}
        assert spawned_in(leaks[f"stock for {customer}"])[:2] == ["reserve", "checked"]


def test_a_request_that_raises_for_its_leak_fails_alone(serve_on_asyncio: Serve) -> None:
    with serve_on_asyncio() as server:
        assert [server.get(path) for path in ("/strict", "/clean", "/strict")] == [500, 200, 500]
        assert server.stop() == 0
        assert server.log.count("TaskLeakError: taskscope: 1 task outlived scope 'strict'") == 2
        assert not server.reports()


def test_what_a_request_could_not_end_is_told_once(serve_on_asyncio: Serve) -> None:
    with serve_on_asyncio() as server:
        assert server.get("/hopeless") == 200
        server.stop(signal.SIGTERM)
        report = server.report()
    assert report["scope"] == "hopeless"
    assert [record["name"] for record in report["survivors"]] == ["hopeless"]


def test_what_threads_send_back_to_the_loop_belongs_to_the_root_scope(serve_on_asyncio: Serve) -> None:
    with serve_on_asyncio() as server:
        assert server.get("/in_thread") == 200
        assert server.stop() == 0
        leaks = server.report()["leaks"]
    assert [record["coroutine"] for record in leaks] == ["wait_for_stock"] * 2
    assert [record["spawn_site"]["function"] for record in leaks if record["name"] == "from thread"] == [
        "order_from_thread"
    ]


def test_a_server_that_resets_the_context_of_each_request_loses_no_task(serve_on_asyncio: Serve) -> None:
    with serve_on_asyncio("--reset-contextvars") as server:
        server.get("/blocked")
        server.get_together("/checked?customer=Ada", "/checked?customer=Grace")
        assert server.stop() == 0
        found = {report["scope"]: {record["name"] for record in report["leaks"]} for report in server.reports()}
    assert found == {
        "request of Ada": {"order of Ada", "stock for Ada"},
        "request of Grace": {"order of Grace", "stock for Grace"},
        "shop": {"blocked"},
    }


def test_middleware_that_runs_requests_in_task_groups_changes_nothing(
    serve_on_asyncio: Serve, variant: Callable[[str, str], str], tmp_path: Path
) -> None:
    (tmp_path / "middle.py").write_text(
        "from starlette.middleware import Middleware\n"
        "from starlette.middleware.base import BaseHTTPMiddleware\n"
        "async def dispatch(request, call_next):\n"
        "    return await call_next(request)\n"
        "middleware = [Middleware(BaseHTTPMiddleware, dispatch=dispatch)] * 2\n",
        encoding="utf-8",
    )
    app = variant("lifespan=lifespan", "lifespan=lifespan, middleware=__import__('middle').middleware")
    with serve_on_asyncio(app=app) as server:
        assert [server.get(path) for path in ("/clean", "/blocked", "/clean")] == [200] * 3
        assert server.stop() == 0
        (leak,) = server.report()["leaks"]
    assert (leak["name"], leak["spawn_site"]["function"]) == ("blocked", "blocked")


def test_a_request_that_the_server_itself_cancels_is_no_leak(serve_on_asyncio: Serve) -> None:
    with serve_on_asyncio("--timeout-graceful-shutdown", "1") as server, ThreadPoolExecutor(1) as pool:
        request = pool.submit(server.get, "/hanging")
        server.wait_for("this one hangs")
        assert server.stop() == 0
        assert request.exception() is not None or request.result() == 500
        assert "Cancel 1 running task(s)" in server.log
        assert not server.reports(), server.log


def test_a_server_that_is_forced_to_end_still_ends_what_requests_left(serve: Serve) -> None:
    # With the second Ctrl-C uvicorn asks no lifespan to end: the runner of the loop cancels everything that there is.
    with serve() as server:
        for path in ("/blocked", "/stubborn"):
            assert server.get(path) == 200
        server.ask_and_hang_up("/hanging")
        server.wait_for("this one hangs")
        server.send(signal.SIGINT)
        server.wait_for("Waiting for background tasks to complete")
        assert server.stop() == 0
        report = server.report()
    assert [(leak["name"], leak["outcome"]) for leak in report["leaks"]] == [("stubborn", "cancelled")]


def test_a_second_ctrl_c_during_the_grace_loses_no_report(serve: Serve) -> None:
    with serve() as server:
        server.get("/blocked")
        server.send(signal.SIGINT)
        server.wait_for("Waiting for application shutdown")
        assert server.stop() == 0
        assert [leak["name"] for leak in server.report()["leaks"]] == ["blocked"]


def test_a_lifespan_that_raises_for_leaks_has_the_server_log_the_error(
    serve: Serve, variant: Callable[[str, str], str]
) -> None:
    # uvicorn says that the shutdown has failed, with the error, and ends as it would have: the exit code is no other.
    with serve(app=variant("grace=1.0", 'grace=0.1, on_leak="raise"')) as server:
        server.get("/blocked")
        assert server.stop() == 0
        assert not server.reports()
        assert "ERROR uvicorn.error: Traceback" in server.log
        assert "taskscope._errors.TaskLeakError: taskscope: 1 task outlived scope 'shop'" in server.log
        assert re.search(rf'File ".*orders\.py", line {line_of(chr(34) + "blocked" + chr(34))}, in blocked', server.log)
        assert "Application shutdown failed. Exiting." in server.log


def test_a_lifespan_that_raises_for_leaks_stops_in_silence_when_there_are_none(
    serve_on_asyncio: Serve, variant: Callable[[str, str], str]
) -> None:
    with serve_on_asyncio(app=variant("grace=1.0", 'on_leak="raise"')) as server:
        server.get("/clean")
        assert server.stop() == 0
        assert nothing_is_logged(server), server.log


def test_switched_off_the_server_runs_as_if_nothing_were_installed(serve_on_asyncio: Serve) -> None:
    with serve_on_asyncio(TASKSCOPE="off") as server:
        assert [server.get(path) for path in ("/blocked", "/strict")] == [200] * 2
        assert server.stop() == 0
        assert nothing_is_logged(server), server.log
