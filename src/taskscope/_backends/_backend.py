"""What the core needs of an event loop's library: to see what is spawned, to wait, to cancel and to tell the time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Container, Coroutine, Iterable
from contextlib import AbstractContextManager
from contextvars import Context
from typing import Any, Protocol, TypeVar

from taskscope._backends._budget import Budget
from taskscope._report import Outcome
from taskscope._table import AnyTask, Row, TaskTable

T = TypeVar("T")


class Owner(Protocol):
    """Who owns what a task spawns."""

    @property
    def table(self) -> TaskTable | None: ...
    @property
    def origin(self) -> Row: ...


class Tracking(Protocol):
    """What taskscope keeps for one loop, for as long as it runs: who owns what is spawned there.

    Attributes:
        installation: What `install` has put there, None where nobody has.
        losses: How often it was found that spawns had not been seen for a time.
        budget: How much of the time goes into proofs.
        timed_bodies: What ends the bodies of scopes that have a timeout or are watched.
        looks: How much of it goes into looks at who holds a resource that is closed.
        closings_missed: How many resources were closed for which nothing of that was left.
        guards: Those of the resources that are looked at from time to time. None where there are none.
        root: Owner of the tasks that are spawned outside of any scope.
    """

    installation: Any
    losses: int
    budget: Budget
    timed_bodies: set[Any]
    guards: list[Any] | None
    looks: Budget
    closings_missed: int

    @property
    def root(self) -> TaskTable | None: ...
    @root.setter
    def root(self, table: TaskTable | None, /) -> None: ...
    def acquire(self) -> None:
        """Begins to see what is spawned, unless that is so already, and counts a user."""
        ...

    def release(self) -> None:
        """Counts a user off, and leaves the loop as it was with the last one."""
        ...

    def is_on_loop(self) -> bool:
        """Whether what is spawned is still seen."""
        ...

    def call_soon(self, callback: Callable[[], object], /) -> None:
        """Has something called in the loop, as soon as that runs."""
        ...

    def loss(self) -> str:
        """What has happened where it is not, or was not for a time."""
        ...

    def owner_of_spawn(self) -> Owner:
        """The owner of what the running code spawns now."""
        ...

    def owner_of_scope(self, host: AnyTask | None) -> Owner:
        """The owner of a scope that `host` opens."""
        ...

    def table_of(self, task: AnyTask) -> TaskTable | None:
        """The table that holds a task, None when no open scope does."""
        ...

    def move(self, task: AnyTask, source: TaskTable | None, target: TaskTable | None) -> None:
        """Gives a pending task from the table that holds it to another, None to let it go for good."""
        ...

    def is_starting(self) -> bool:
        """Whether the running task is in its first step, and not even seen yet."""
        ...

    def is_moved(self, task: AnyTask) -> bool:
        """Whether a task's owner is known not to be the one that its context names."""
        ...


class Clock(Protocol):
    """The loop's clock for one exit."""

    def time(self) -> float: ...
    async def wait_ended(self, tasks: Iterable[AnyTask], deadline: float) -> None:
        """Returns when all tasks have ended or it is `deadline`."""
        ...

    def close(self) -> None:
        """Leaves nothing behind."""
        ...


class Timer(Protocol):
    def cancel(self) -> object: ...


class BodyCancel(Protocol):
    """Cancels a scope's body, and nothing that is outside of it."""

    def enter(self, host: AnyTask) -> None:
        """Says that the body begins, or goes on, in the running task."""
        ...

    def cancel(self) -> None: ...
    def leave(self, exc: BaseException | None) -> BaseException | None:
        """Says that the body has ended, or is suspended, and returns what is left of what it raised."""
        ...

    def was_it(self, exc: BaseException | None) -> bool:
        """Whether the body ended for this cancellation alone. To be asked once, in the host."""
        ...


class Backend(Protocol):
    """A module of this package."""

    @property
    def name(self) -> str: ...
    @property
    def Cancelled(self) -> type[BaseException] | tuple[type[BaseException], ...]:
        """What a cancellation from outside is raised as, and Ctrl-C where that comes in its place."""
        ...

    @property
    def BodyCancel(self) -> Callable[[], BodyCancel]: ...

    def running_tracking(self) -> Tracking:
        """The tracking of the running loop. `RuntimeError` where none runs."""
        ...

    def tracking_of_task(self, task: AnyTask) -> Tracking: ...
    def current_task(self) -> AnyTask | None: ...
    def all_tasks(self) -> Iterable[AnyTask]:
        """The pending tasks of the running loop."""
        ...

    def task_context(self, task: AnyTask) -> Context | None: ...
    def is_task(self, obj: object) -> bool: ...
    def is_done(self, task: AnyTask) -> bool: ...
    def is_runnable(self, task: AnyTask) -> bool: ...
    def where_it_waits(self, task: AnyTask) -> int:
        """A number that changes when a blocked task has run meanwhile; 0 for one that is not blocked."""
        ...

    def outcome(self, task: AnyTask) -> tuple[Outcome | None, BaseException | None]:
        """How a task ended, None where that was not seen. Nobody else must take it for a look at what it raised."""
        ...

    def drop_ended(self, table: TaskTable) -> bool:
        """Has a large table's tasks dropped as they end from now on, where the library tells of every end."""
        ...

    def watch_end(self, task: AnyTask) -> None:
        """Makes sure that the outcome of a pending task will be seen."""
        ...

    def sees_each_turn(self, table: TaskTable, task: AnyTask) -> bool:
        """Whether the running loop looks at a table in each of its turns, and has it let go then what has ended.

        It begins to with this task, where that is cheaper than to be called when the task has ended.
        """
        ...

    def watch_for_end(self, task: AnyTask, ended: Callable[[AnyTask], object]) -> object:
        """Has a function called with a pending task of the running loop when that has ended. Its outcome is known then.

        Returns what is needed to stop that.
        """
        ...

    def stop_watching_for_end(self, task: AnyTask, ended: Callable[[AnyTask], object], watch: Any) -> None:
        """watch: what `watch_for_end` has returned."""
        ...

    def outcome_of_cancelled(self, task: AnyTask) -> tuple[Outcome | None, BaseException | None]:
        """How a task ended that has been cancelled by us."""
        ...

    def number_of_groups(self, host: AnyTask | None) -> int:
        """How many task groups a task has opened that are open, 0 where that cannot be told."""
        ...

    def is_opened_since(self, group: object, opener: AnyTask, number: int) -> bool:
        """Whether a task has opened a group when so many were open."""
        ...

    def is_ended_by_another(self, task: AnyTask, pending: Container[AnyTask]) -> bool:
        """Whether it is for one of the pending tasks to cancel a task, and to wait for it."""
        ...

    def cancel(self, task: AnyTask, host: AnyTask) -> tuple[bool, int]:
        """Cancels a task. Returns whether anything will deliver that, and how many cancels came back to the host."""
        ...

    def is_out_of_reach(self, task: AnyTask) -> bool:
        """Whether a task is to be let be for now: a cancel would break into what its library means to keep whole."""
        ...

    def why_immune(self, task: AnyTask) -> str | None:
        """Why a cancelled task has not even noticed, None where it has or that cannot be told."""
        ...

    def cancel_without_waiting(self, task: AnyTask) -> None:
        """Asks a task to end, from wherever this runs."""
        ...

    def refuse(self, task: AnyTask) -> None:
        """Cancels a task before its first step."""
        ...

    def cancels_of(self, host: AnyTask) -> int:
        """How many cancellations a task has been asked for and has not taken back."""
        ...

    def cancel_later(self, cancellation: BaseException) -> None:
        """Has the running task cancelled again by a cancellation that cannot propagate by itself."""
        ...

    def tasks_waiting_for_current(self) -> list[AnyTask]:
        """The tasks that wait for the current one: to wait for them would be a deadlock."""
        ...

    def is_in_loop(self) -> bool: ...
    def protected(self, work: Coroutine[Any, Any, T]) -> Awaitable[T]:
        """Keeps Ctrl-C from striking in the midst of our own code, where the library has a way to do so."""
        ...

    def new_clock(self) -> Clock: ...
    def time(self) -> float:
        """Seconds on the loop's clock."""
        ...

    def is_clock_virtual(self) -> bool:
        """Whether the clock may jump to the next deadline, or stand still: one of ours would make a difference."""
        ...

    def call_at(self, when: float, callback: Callable[[], object]) -> Timer: ...

    def call_after_turns(self, turns: int, callback: Callable[[], object]) -> None:
        """Has a function called when everything has had so many turns that is ready to run."""
        ...

    async def timers_gone(self, timers: list[Any]) -> None:
        """Returns when nothing is left of timers that have fired or have been cancelled."""
        ...

    async def one_turn(self) -> None:
        """Lets everything run once that is ready to run."""
        ...

    async def called_back(self, work: Callable[[Any], T]) -> T | None:
        """The result of work done while the calling task is suspended; None where it failed.

        work: gets what the task waits for.
        """
        ...

    async def off_loop(self, work: Callable[[], T], seconds: float) -> T | None:
        """The result of work that may block, done in a thread; None where it failed or was not done in time."""
        ...

    async def within(self, works: list[Coroutine[Any, Any, object]], seconds: float) -> list[BaseException | None]:
        """Awaits works, all together for at most so many seconds on the loop's clock.

        Returns what each has raised by itself; of one whose time was up a TimeoutError.
        """
        ...

    def shielded(self) -> AbstractContextManager[Any]:
        """Keeps cancel scopes round the running code out of a wait."""
        ...

    def is_cancelled_already(self) -> bool:
        """Whether a cancel scope round the running code has been cancelled, so that no wait would last."""
        ...
