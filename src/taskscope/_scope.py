"""`TaskScope`: a stretch of code whose tasks must not outlive it."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterable, Mapping, Sequence
from contextvars import Token
from dataclasses import replace
from inspect import CO_ASYNC_GENERATOR
from operator import is_
from types import CodeType, FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, final

from taskscope._arguments import OnLeak, OnReport, check_name, check_policy
from taskscope._backends._backend import Backend, Tracking
from taskscope._backends._here import backend_here
from taskscope._diagnosis.safely import safe_repr
from taskscope._errors import TaskScopeError
from taskscope._handing import backend_for
from taskscope._ignore import Ignore
from taskscope._off import is_off
from taskscope._policy import DEFAULT_POLICY, TASKS_ONLY, Find, OuterGroups, Policy, SpawnSite
from taskscope._report import DESCRIBED_LIMIT, Report, TaskRecord
from taskscope._site import note_nothing, note_stack
from taskscope._table import NO_SITE, AnyTask, Note, Row, TaskTable, set_tag, tag

if TYPE_CHECKING:
    from taskscope._body import BodyEnd
    from taskscope._closing import Claims, Closing
    from taskscope._diagnosis.diagnosis import Diagnosis
    from taskscope._findings.search import ClaimsThings, Search
    from taskscope._handing import Task

_NOTES: dict[str, Note | None] = {"site": None, "stack": note_stack, "off": note_nothing}


@final
class TaskScope:
    """An asynchronous context manager that does not let tasks outlive it.

    Every task spawned in its body, and by those tasks in turn, is tagged. When the body has ended the scope waits up to
    `grace` seconds for the tagged tasks to end by themselves, then cancels what is still pending, waits up to
    `cancel_timeout` seconds for that, and reports. With nothing pending it returns at once.

    The idea is Go's: labels of a goroutine propagate to the goroutines it starts, so that a test can find its own leaks
    beside parallel tests.

    Args:
        name: Name for reports. None: the function and line that opens the scope.
        grace: Seconds that tagged tasks have, after the body ended, to end by themselves.
        cancel_timeout: Seconds to wait for cancelled tasks to end.
        on_leak: What to do about leaks: `"raise"` a `TaskLeakError`, `"warn"` with a `TaskLeakWarning`, `"log"` an
            error under the logger `taskscope`, `"ignore"`, or a function that is called with the report. When the body
            itself raised, its exception propagates, with the report as a note, and the leak is logged.
        on_report: Called with the report at every exit that has anything to tell, late tasks too. None: nobody.
        timeout: Seconds that the body has. When they are over the body is cancelled and `ScopeTimeoutError` raised. A
            body that swallows cancellation cannot be ended so. None: as long as it takes.
        watch: Seconds between looks at the body. One that is proven stuck is cancelled and `DeadlockError` raised; what
            holds for `timeout` holds here. Looking takes at most 1 % of the time. None: no looks.
        outer_groups: Whether a task in a task group that was opened outside the scope is a `"leak"`, or left to that
            group and listed in `report.transferred` (`"transfer"`).
        ignore: Rules for tasks that are meant to outlive the scope. A pending task that matches one is no leak: it is
            left alone, and listed in `report.ignored`. Asked only when the body has ended.
        find: What else is looked for at exit, beside tasks, which always are: `"timers"` (calls that the loop was
            asked for and that are still to come), `"generators"` (asynchronous ones started and never closed),
            `"executor"` (threads still running what the scope gave to an executor or to `to_thread`), `"threads"` and
            `"processes"` started under the scope, `"servers"` still listening, `"transports"` still open,
            `"unretrieved"` exceptions of tasks, and `"untracked"` tasks, made past the task factory. What there is has
            `grace` seconds to end too. Then timers are cancelled, generators, servers and transports closed, within
            `cancel_timeout` seconds; what was found is in `report.findings`.
        scan: Also look through all tasks of the loop at exit, for those that were made without the task factory
            (`asyncio.Task(...)`). Takes about 0.3 µs for each task alive on the loop; meant for tests.
        spawn_site: `"site"` notes the line that spawned each task, `"stack"` the whole stack and the time, `"off"`
            nothing.
        end_processes: Whether processes that are found are terminated, and killed if they do not end.

    Raises:
        TypeError, ValueError: At construction, for a bad argument.
        RuntimeError: On entering, where neither asyncio nor Trio runs the code.
        TaskLeakError: On leaving, with `on_leak="raise"`.
        ScopeTimeoutError: On leaving, when the body took longer than `timeout`.
        DeadlockError: On leaving, when `watch` has found that the body could never go on.
    """

    # What most scopes never change stays with the class, and what only the others need is imported where they need it:
    # one that is clean should cost next to nothing.
    _state: Literal["new", "open", "closing", "closed", "off"] = "new"
    _report: Report | None = None
    _closings_missed = 0  # on its loop, when it ended
    _tracking: Tracking | None = None
    _losses = 0
    _is_given_up = False
    _token: Token[TaskTable | None] | None = None
    _body_end: BodyEnd | None = None
    _inherited: dict[AnyTask, TaskRecord] | None = None
    _handed_off: weakref.WeakKeyDictionary[AnyTask, tuple[str, Row]] | None = None
    _claims: Claims | None = None
    _claims_things: ClaimsThings | None = None
    _search: Search | None = None
    # How many coroutines its body begins with that were made before, so that their maker has them too.
    _given = 0

    def __init__(
        self,
        name: str | None = None,
        *,
        grace: float = 0.2,
        cancel_timeout: float = 1.0,
        on_leak: OnLeak = "raise",
        on_report: OnReport | None = None,
        timeout: float | None = None,
        watch: float | None = None,
        outer_groups: OuterGroups = "leak",
        ignore: Sequence[Ignore] = (),
        find: Sequence[Find] = ("tasks",),
        scan: bool = False,
        spawn_site: SpawnSite = "site",
        end_processes: bool = False,
    ) -> None:
        check_name(name)
        given = (
            grace,
            cancel_timeout,
            on_leak,
            on_report,
            timeout,
            watch,
            outer_groups,
            ignore,
            find,
            scan,
            spawn_site,
            end_processes,
        )
        policy = DEFAULT_POLICY if all(map(is_, given, _DEFAULTS)) else check_policy(*given)
        frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
        self._set_up(name, policy, (frame.f_code, frame.f_lasti))

    @classmethod
    def _of(
        cls,
        policy: Policy,
        name: str,
        opened_at: tuple[CodeType, int],
        claims: Claims | None = None,
        claims_things: ClaimsThings | None = None,
        search: Search | None = None,
    ) -> TaskScope:
        """search: begun already, for what an owner has that was there before the scope. The scope finishes it."""
        scope = cls.__new__(cls)
        if claims is not None:
            scope._claims = claims
        if claims_things is not None:
            scope._claims_things = claims_things
        if search is not None:
            scope._search = search
        scope._set_up(name, policy, opened_at)
        return scope

    @classmethod
    def _to_hold(cls, backend: Backend, policy: Policy, name: str) -> TaskScope:
        """An open one that has no body and is never judged: whoever opens it takes its tasks out of it again."""
        scope = cls._of(policy, name, _NOWHERE)
        scope._table.backend = backend
        scope._state = "open"
        return scope

    def _set_up(self, name: str | None, policy: Policy, opened_at: tuple[CodeType, int]) -> None:
        self._policy = policy
        self._opened_at = opened_at
        self._table = TaskTable(self, _NOTES[policy.spawn_site], name or opened_at)

    @property
    def name(self) -> str:
        """The scope's name in reports."""
        return self._table.name

    @property
    def report(self) -> Report:
        """What the scope found. There is none before it has ended: `TaskScopeError`."""
        if self._state == "off":
            return Report(self.name, coverage=("TASKSCOPE=off: nothing was looked at",))
        if self._report is None:
            if self._state != "closed":
                raise TaskScopeError(
                    f"scope {self.name!r} has not ended and has no report yet; snapshot() tells which tasks are alive"
                )
            if self._is_given_up:
                raise TaskScopeError(f"root scope {self.name!r} was uninstalled without a judgement: use aclose()")
            self._report = self._clean_report()
        return self._report

    def _clean_report(self) -> Report:
        coverage = () if self._search is None else self._search.coverage
        if self._closings_missed:
            from taskscope._exit_report import missed_closings

            coverage = (*coverage, *missed_closings(self._closings_missed))
        return Report(self.name, spawned=self._table.spawned, coverage=coverage)

    def snapshot(self) -> Report:
        """A report of the tagged tasks alive now, as its `leaks`, in phase `"body"`. Changes nothing."""
        return self._report_now(self._table.pending())

    def _report_now(self, pending: list[AnyTask]) -> Report:
        from taskscope._diagnosis.diagnosis import Diagnosis

        host = self._table.host
        diagnosis = Diagnosis([*pending, *([] if self._table.closed or host is None else [host])])
        return Report(
            self.name,
            phase="body",
            leaks=tuple(self._record_now(task, diagnosis) for task in pending[:DESCRIBED_LIMIT]),
            leaks_omitted=max(0, len(pending) - DESCRIBED_LIMIT),
            spawned=self._table.spawned,
        )

    def _record_now(self, task: AnyTask, diagnosis: Diagnosis) -> TaskRecord:
        record = diagnosis.record(task, self._table.rows.get(task, NO_SITE))
        return replace(record, closed_scope=self._table.closed_scope_of(task))

    def adopt(self, task: Task) -> None:
        """Takes responsibility for a task, and for what it spawns from now on, from whoever has it.

        A task that has ended is let be.

        Raises:
            TypeError: `task` is not a task.
            ValueError: The scope runs in this very task.
            TaskScopeError: The scope is not open.
        """
        backend = backend_for(task)
        given: Any = task
        if self._state == "off" or backend.is_done(given):
            return
        if self._table.closed or self._state == "new":
            raise TaskScopeError(f"scope {self.name!r} is not open: it cannot adopt a task")
        if given is self._table.host:
            raise ValueError(f"task={safe_repr(task)}: a scope cannot wait for the task that it runs in")
        if backend is not self._table.backend:
            raise ValueError(
                f"task={safe_repr(task)}: scope {self.name!r} runs on {self._table.backend.name}, and the task does not"
            )
        tracking = backend.tracking_of_task(given)
        source = tracking.table_of(given)
        if source is self._table:
            return
        tracking.move(given, source, self._table)
        if self._handed_off is not None:
            self._handed_off.pop(given, None)  # it has come back

    async def __aenter__(self) -> Self:
        if self._open():
            self._token = set_tag(self._table)
            if self._body_end is not None:
                from taskscope._host import host_as_held

                held = host_as_held(self._table)  # not among the arguments, where the host would be held once more
                if self._given:
                    frames = (*held.frames, *[0] * self._given)
                    held = held._replace(frames=frames, given=self._given)
                self._body_end.enter(held)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._state == "off":
            return
        self._untag()
        left = exc
        if self._body_end is not None:
            left = self._body_end.end(exc)
            if not isinstance(exc, GeneratorExit):
                await self._body_end.gone()
        if self._is_clean():
            self._shut()
        elif isinstance(exc, GeneratorExit) and not _may_await(sys._getframe(1)):  # pyright: ignore[reportPrivateUsage]
            self._abandon(exc)
        else:
            await self._table.backend.protected(self._end(left))
        if left is not exc and left is not None:
            raise left

    def _open(self) -> bool:
        """Opens the scope, without setting the tag. False when taskscope is switched off."""
        if self._state != "new":
            raise TaskScopeError(f"scope {self.name!r} has been entered before: make a new TaskScope for each use")
        if is_off():
            self._state = "off"
            return False
        backend = backend_here()
        self._table.backend = backend
        self._tracking = tracking = backend.running_tracking()
        tracking.acquire()
        self._losses = tracking.losses
        self._table.host = host = backend.current_task()
        self._table.groups_before = backend.number_of_groups(host)
        owner = tracking.owner_of_scope(host)
        self._table.parent = owner.table
        self._table.host_row = owner.origin
        self._state = "open"
        if self._policy.timeout is not None or self._policy.watch is not None:
            from taskscope._body import BodyEnd

            self._body_end = BodyEnd(self._table, timeout=self._policy.timeout, watch=self._policy.watch)
        if tracking.guards is not None:
            from taskscope._guard import look_at_guarded

            look_at_guarded(tracking)  # what is closed by now was not closed while this scope used it
        if self._policy.find is not TASKS_ONLY:
            self._begin_search()
        return True

    def _open_as_root(self, backend: Backend, tracking: Tracking) -> None:
        """Opens a scope that has no body and owns what is spawned outside any other."""
        self._table.backend = backend
        self._tracking = tracking
        tracking.acquire()
        self._losses = tracking.losses
        self._state = "open"
        if backend.is_in_loop() and backend.running_tracking() is tracking:
            self._begin_search()
        elif self._policy.find is not TASKS_ONLY:
            tracking.call_soon(self._begin_search)  # what a search prepares, a loop that begins to run would undo
        self._become_root()

    def _begin_search(self) -> None:
        if self._policy.find is not TASKS_ONLY and self._search is None and self._state == "open":
            from taskscope._findings.search import Search

            self._search = Search(self._table, self._policy, self._claims_things)
            self._search.begin()

    def _become_root(self) -> None:
        if self._tracking is not None and self._tracking.root is None:
            self._tracking.root = self._table

    async def _end_root(self, excused: Iterable[AnyTask], exc: BaseException | None) -> None:
        self._state = "closing"
        await self._end(exc, excused)

    def _give_up(self) -> None:
        """Shuts a root scope, judged or not. If not it has no report: nobody has looked, to call it clean."""
        self._is_given_up = self._report is None
        self._shut()

    def _untag(self) -> None:
        self._state = "closing"
        if self._token is None or tag.get(None) is not self._table:
            return
        try:  # noqa: SIM105 - `suppress` takes a tenth of what a clean scope does
            tag.reset(self._token)
        except ValueError:  # entered in another context: there is nothing of ours to take back in this one
            pass
        self._token = None

    def _is_clean(self) -> bool:
        """Whether there is nothing to wait for, to look for or to tell. The way out that costs next to nothing."""
        return (
            not (self._table.rows and self._table.pending())
            and (self._body_end is None or not self._body_end.fired)
            and not self._inherited
            and not self._handed_off
            and self._table.closed_in_use is None
            and not self._policy.scan
            and self._is_tracking_intact()
            and (self._search is None or self._search.is_clean())
        )

    def _is_tracking_intact(self) -> bool:
        tracking = self._tracking
        assert tracking is not None
        return self._losses == tracking.losses and tracking.is_on_loop()

    def _shut(self) -> None:
        """Lets go of everything. What is spawned under the tag from here on goes to the nearest open ancestor."""
        if self._state == "closed":
            return
        self._state = "closed"
        if self._search is not None:
            self._search.finish()
        if self._table.closed_in_use is not None:
            from taskscope._accusations import forget

            forget(self._table)
        self._table.close()
        if self._tracking is None:
            return
        if self._tracking.closings_missed:
            self._closings_missed = self._tracking.closings_missed
        if self._tracking.root is self._table:
            self._tracking.root = None
        self._tracking.release()

    async def _end(self, exc: BaseException | None, excused: Iterable[AnyTask] = ()) -> None:
        from taskscope._acting import act
        from taskscope._closing import Closing

        closing = Closing(self._table, self._policy, excused, self._claims, self._search)
        try:
            lost = self._look_for_lost(closing)
            await closing.run(grace=not isinstance(exc, KeyboardInterrupt | SystemExit))
            self._report = self._make_report(closing, lost)
            self._bequeath(closing.survivors)
        finally:
            self._shut()
        end = self._body_end
        own_error = end.error if end is not None and end.was_it(exc) else None
        await act(self, self._report, self._policy, closing, exc, own_error)

    def _abandon(self, exc: GeneratorExit) -> None:
        """The body's coroutine is being closed, so nothing can be awaited: cancel, and tell what is known."""
        if sys.is_finalizing():  # nobody runs a cancelled task any more, and nothing can be imported to tell of it
            self._shut()
            return
        from taskscope._acting import tell_of_abandoned
        from taskscope._left_alone import LeftAlone

        left = LeftAlone(self._table, self._policy, None)
        pending = [task for task in self._table.pending() if not left.takes_by_rule(task)]
        findings = () if self._search is None else self._search.end_at_once()
        if self._table.closed_in_use is not None:
            from taskscope._accusations import findings_of

            findings = (*findings_of(self._table), *findings)
        try:
            report = self._report_now(pending)
            self._report = replace(
                report, phase="exit", ignored=left.records, coverage=left.coverage, findings=findings
            )
            for task in pending:
                self._table.backend.cancel_without_waiting(task)
        finally:
            self._shut()
        if not self._report.ok:
            tell_of_abandoned(self._table.backend, self._report, self._policy, exc)

    def _look_for_lost(self, closing: Closing) -> str | None:
        """Finds tasks that the factory did not see, and says so where it was not on the loop all the time."""
        intact = self._is_tracking_intact()
        if intact and not self._policy.scan:
            return None
        from taskscope._lost import describe_loss, recover_tasks

        assert self._tracking is not None
        recovered = recover_tasks(self._table, self._tracking, {*closing.excused, *(self._inherited or ())})
        if intact and self._search is not None:
            self._search.note_untracked(recovered)
        return None if intact else describe_loss(self._tracking, len(recovered))

    def _make_report(self, closing: Closing, lost: str | None) -> Report:
        from taskscope._exit_report import exit_report, records_of_given

        given = () if self._handed_off is None else records_of_given(self._table.backend, self._handed_off)
        return exit_report(self._table, closing, self._body_end, given, self._inherited or {}, lost)

    def _bequeath(self, survivors: Mapping[AnyTask, TaskRecord]) -> None:
        heir = self._table.open_ancestor()
        if heir is not None and heir.scope is not None and (survivors or self._inherited):
            heir.scope._inherited = {**(heir.scope._inherited or {}), **(self._inherited or {}), **survivors}


def _may_await(frame: FrameType) -> bool:
    """Whether code that handles `GeneratorExit` may await: an asynchronous generator may, a coroutine may not."""
    return bool(frame.f_code.co_flags & CO_ASYNC_GENERATOR)


# Where one was opened that tells of no task.
_NOWHERE = (TaskScope.__init__.__code__, -1)

_DEFAULTS = tuple((TaskScope.__init__.__kwdefaults__ or {}).values())


def current_scope() -> TaskScope | None:
    """The innermost open scope that a task spawned here would belong to, None outside of any."""
    try:
        backend = backend_here()
    except RuntimeError:
        table = tag.get(None)  # a worker thread: the tag travels with the context
        if table is not None and table.closed:
            table = table.open_ancestor()
    else:
        table = backend.running_tracking().owner_of_spawn().table
    return None if table is None else table.scope
