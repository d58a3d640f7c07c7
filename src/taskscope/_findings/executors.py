"""Threads that still run what a scope has given them: through an executor, AnyIO or Trio."""

from __future__ import annotations

import threading
from typing import final

from taskscope._backends._ownership import running_loop
from taskscope._findings.callables import name_of, object_of
from taskscope._findings.found import Found, Looking
from taskscope._findings.owners import is_tagged
from taskscope._findings.submissions import Submission, Submissions, submissions_of
from taskscope._findings.thread_stacks import frames_of
from taskscope._findings.workers import Work, current_work
from taskscope._policy import Policy
from taskscope._report import Finding
from taskscope._table import TaskTable


@final
class Executors(Looking):
    def __init__(self, table: TaskTable, policy: Policy) -> None:
        super().__init__(table, policy)
        self._submissions: Submissions | None = None
        self._run: object = None

    def begin(self) -> None:
        if self.table.backend.name == "asyncio":
            loop = self._run = running_loop()
            self._submissions = submissions_of(loop)
            self._submissions.acquire()
        else:
            import trio

            self._run = trio.lowlevel.current_trio_token()

    def finish(self) -> None:
        if self._submissions is not None:
            self._submissions.release()
        self._run = None

    def found(self) -> list[Found]:
        submitted = [] if self._submissions is None else self._submissions.unfinished(self.table)
        works = [(thread, work) for thread in threading.enumerate() if (work := current_work(thread)) is not None]
        by_future = {id(work.future): thread for thread, work in works if work.future is not None}
        found = [_submitted(submission, by_future.get(id(submission.future))) for submission in submitted]
        return found + [_running(thread, work) for thread, work in works if self._is_mine(work)]

    def _is_mine(self, work: Work) -> bool:
        # Work that another loop has given to a thread under the same tag may be what waits for this loop: an answer
        # that is made by means of a client, say, which has a loop of its own.
        return work.run is self._run and is_tagged(work.context, self.table)

    def coverage(self) -> tuple[str, ...]:
        if self._submissions is None or self._submissions.is_there():
            return ()
        return ("work in executors was not all seen: run_in_executor was replaced while the scope was open",)


def _submitted(submission: Submission, thread: threading.Thread | None) -> Found:
    state = "running" if submission.future.running() else "waiting for a worker"
    finding = Finding(
        "executor",
        f"{name_of(submission.function)} ({state})",
        spawn_site=submission.origin.place,
        stack=() if thread is None else frames_of(thread, since=submission.function),
    )
    things = (submission.future, object_of(submission.function), thread)
    return Found(finding, things, origin=submission.origin)


def _running(thread: threading.Thread, work: Work) -> Found:
    finding = Finding("executor", f"{name_of(work.function)} (running)", stack=frames_of(thread, since=work.function))
    return Found(finding, (work.context, object_of(work.function), thread))
