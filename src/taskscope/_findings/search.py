"""What a scope looks for beside tasks: begun when it opens, asked when its body has ended."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Coroutine, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, Final, Protocol, final

from taskscope._diagnosis.describe import describe
from taskscope._diagnosis.safely import error_in_words
from taskscope._findings.found import Found, Kind
from taskscope._findings.kinds import KINDS, kind_of
from taskscope._findings.taken import Taken
from taskscope._findings.told import is_told, note_told
from taskscope._policy import FIND, Policy
from taskscope._report import Finding
from taskscope._table import NO_SITE, AnyTask, TaskTable

FOUND_LIMIT: Final = 1_000
"""Things beyond this number are ended like the others, and counted, but not described."""

FIRST_PAUSE: Final = 0.001
"""Seconds until things are looked for again. Each further pause is twice as long, up to the longest."""

LONGEST_PAUSE: Final = 0.05

_UNPRINTABLE: Final = "it cannot be printed"

# What Trio does not have: there an exception always propagates, and what would be a timer or a server is a task.
_OF_ASYNCIO: Final = frozenset({"timers", "servers", "transports", "unretrieved"})


# What only a context tells of whose it is, on asyncio.
_BY_CONTEXT: Final = ("timers", "servers")


class Taker(Protocol):
    """Who may answer for a thing that was found at the end of a scope of somebody else's."""

    def take(self, found: Found, kind: Kind) -> None:
        """Answers for it from now on, if it looks for such things.

        kind: what has found it.
        """
        ...


ClaimsThings = Callable[[list[Found]], Mapping[int, Taker]]
"""Tells of things which of them are somebody else's: by their keys, who takes each. Asked before anything is waited
for, ended or told, and only where there is something."""


class Waiting(Protocol):
    """What a search needs of the end of a scope: to wait, within bounds, whatever cancels it from outside."""

    def time(self) -> float:
        """Seconds on the loop's clock."""
        ...

    async def pause(self, seconds: float) -> bool:
        """Lets the loop run for so many seconds of real time. False when the end of the scope is to be hurried up."""
        ...

    async def bounded(self, works: list[Coroutine[Any, Any, object]], seconds: float) -> list[BaseException | None]:
        """Awaits works, all together for at most so many seconds. Returns what each has raised."""
        ...

    def left_to_others(self) -> Collection[AnyTask]:
        """The pending tasks that were the scope's and are left alone, or are somebody else's by now."""
        ...


@final
class Search:
    """What one scope looks for beside tasks.

    Attributes:
        claims: Who else may have what is found. None: nobody.
    """

    def __init__(self, table: TaskTable, policy: Policy, claims: ClaimsThings | None = None) -> None:
        self.claims = claims
        self.findings: tuple[Finding, ...] = ()
        self.coverage: tuple[str, ...] = ()
        self._policy = policy
        self._kinds = [
            kind_of(word)(table, policy)
            for word in FIND
            if word in policy.find and word in KINDS and (table.backend.name == "asyncio" or word not in _OF_ASYNCIO)
        ]
        self._begun: list[Kind] = []
        self._found: list[Found] = []
        self._untracked: list[AnyTask] = []
        self._taken = Taken()
        # What is somebody else's, by its key. Held, for as long as it is to be known by that.
        self._claimed: dict[int, Found] = {}
        self._table = table
        # Tasks that were the scope's and are not any more. What they have started is not the scope's either.
        self._left: Collection[AnyTask] = ()
        self._is_anything_withheld = False
        # Where a look failed: it is no reason for a scope to fail.
        self._failures: dict[type[Kind], str] = {}

    def begin(self) -> None:
        for kind in self._kinds:
            with self._noting_failure(kind):
                kind.begin()
                self._begun.append(kind)

    def resume(self) -> None:
        """Says that the loop was stopped since, and runs again."""
        for kind in self._begun:
            with self._noting_failure(kind):
                kind.resume()

    def finish(self) -> None:
        while self._begun:
            with suppress(Exception):
                self._begun.pop().finish()
        self._claimed.clear()

    @contextmanager
    def _noting_failure(self, kind: Kind) -> Generator[None]:
        try:
            yield
        except Exception as error:
            what = error_in_words(error, _UNPRINTABLE)
            self._failures[type(kind)] = f"{type(kind).__name__.lower()} could not all be looked at: {what}"

    def looks_for(self, kind: Kind) -> bool:
        """Whether it looks for things of a sort."""
        return type(kind) in map(type, self._kinds)

    def take(self, found: Found, kind: Kind) -> None:
        """As `Taker` has it."""
        if self.looks_for(kind):
            self._taken.add(found, kind)

    def is_clean(self) -> bool:
        """Whether there is nothing to wait for and nothing to tell."""
        self._left = self._table.pending_elsewhere()
        if self._look_for_mine():
            return False
        self._note_coverage()
        return True

    def note_untracked(self, tasks: list[AnyTask]) -> None:
        """Keeps in mind which tasks were made past the factory."""
        self._untracked = tasks if "untracked" in self._policy.find else []

    async def wait_out_grace(self, waiting: Waiting, deadline: float) -> None:
        """Gives things time to end by themselves, and keeps those that do not.

        deadline: on the loop's clock. Where that stands still, the grace is over after as many seconds of pauses.
        """
        self._left = waiting.left_to_others()
        pause, waited = FIRST_PAUSE, 0.0
        self._found = self._look_for_mine()
        while not all(_lasts(found, deadline) for found in self._found):
            # A first pause in any case: what is on its way gets its turns of the loop.
            if waited and (waiting.time() >= deadline or waited >= self._policy.grace):
                break
            if not await waiting.pause(pause):
                break
            waited += pause
            pause = min(2 * pause, LONGEST_PAUSE)
            self._found = self._look()
        if self._found:  # somebody may have come to hold it meanwhile
            self._found = self._look_for_mine()

    async def end(self, waiting: Waiting, leaks: Container[AnyTask]) -> None:
        """Ends what was found, as far as a scope does that, and tells of it.

        leaks: the tasks that have leaked.
        """
        if self._policy.cancels:
            outcomes = await self._end_all(waiting)
        else:
            outcomes = [found.finding for found in self._found]
        self._tell([*outcomes, *(_untracked(task) for task in self._untracked if task in leaks)])
        self._note_told()

    def end_at_once(self) -> tuple[Finding, ...]:
        """The same where nothing can be awaited."""
        self._left = self._table.pending_elsewhere()
        self._found = self._look_for_mine()
        if self._policy.cancels:
            for found in self._found:
                _ask_to_end(found)
        self._tell([found.finding for found in self._found])
        self._note_told()
        return self.findings

    async def _end_all(self, waiting: Waiting) -> list[Finding]:
        if not self._found:
            return []
        for found in self._found:
            _ask_to_end(found)
        closed = [found for found in self._found if found.close is not None]
        works = [found.close() for found in closed if found.close is not None]
        errors = await waiting.bounded(works, self._policy.cancel_timeout) if works else []
        failures = {found: error for found, error in zip(closed, errors, strict=False) if error is not None}
        there = await self._wait_until_gone(waiting)
        return [_with_end(found, found.key in there, failures.get(found)) for found in self._found]

    async def _wait_until_gone(self, waiting: Waiting) -> set[int]:
        """Looks until nothing is left that was asked to end, or the time for that is over. Returns what is there."""
        asked = {found.key for found in self._found if found.end is not None}
        pause, waited = FIRST_PAUSE, 0.0
        has_insisted = False
        while True:
            there = {found.key for found in self._look()}
            if not asked & there or waited >= self._policy.cancel_timeout:
                return there
            if not has_insisted and waited >= self._policy.cancel_timeout / 2:
                has_insisted = True
                self._insist(there)
            await waiting.pause(pause)
            waited += pause
            pause = min(2 * pause, LONGEST_PAUSE)

    def _insist(self, there: set[int]) -> None:
        for found in self._found:
            if found.insist is not None and found.key in there:
                with suppress(Exception):
                    found.insist()
                found.ended = found.forced or found.ended

    def _look(self) -> list[Found]:
        """What there is now, save for what is known to be somebody else's, or was told of before."""
        return [found for found, _ in self._look_by_kind()]

    def _look_for_mine(self) -> list[Found]:
        """The same, when it was asked who has what."""
        there = self._look_by_kind()
        if self.claims is None or not there:
            return [found for found, _ in there]
        takers = self.claims([found for found, _ in there])
        for found, kind in there:
            if found.key in takers:
                self._claimed[found.key] = found
                takers[found.key].take(found, kind)
        return [found for found, _ in there if found.key not in takers]

    def _look_by_kind(self) -> Collection[tuple[Found, Kind]]:
        there = [(found, kind) for kind in self._begun for found in self._found_by(kind)] + self._taken.found()
        return {
            found.key: (found, kind)
            for found, kind in there
            if found.key not in self._claimed and not is_told(found.things[0]) and not self._is_others(found)
        }.values()

    def _found_by(self, kind: Kind) -> list[Found]:
        with self._noting_failure(kind):
            return kind.found()
        return []

    def _is_others(self, found: Found) -> bool:
        """Whether a thing is that of a task which is not the scope's any more, or may be."""
        task = None if found.origin is None or found.origin.task is None else found.origin.task()
        if task is not None:
            return task in self._left
        if found.origin is not None or not self._left:
            return False
        self._is_anything_withheld = True
        return True

    def _note_told(self) -> None:
        for found in self._found:
            note_told(found.things[0])
        self._found = []

    def _note_coverage(self) -> None:
        words: list[str] = []
        for kind in self._begun:
            with self._noting_failure(kind):
                words += kind.coverage()
        if self._is_root_without_body() and any(word in self._policy.find for word in _BY_CONTEXT):
            words.append("timers and servers of tasks that are in no scope but this one were not looked at")
        if self._is_anything_withheld:
            words.append("timers, servers and the like were not all told: they may be those of tasks left to others")
        self.coverage = (*self._failures.values(), *words)

    def _is_root_without_body(self) -> bool:
        """Whether what is the scope's carries no tag, as what is spawned outside of any scope does."""
        table = self._table
        if table.host is not None or not table.backend.is_in_loop():
            return False
        return table.backend.running_tracking().root is table

    def _tell(self, findings: list[Finding]) -> None:
        self._note_coverage()
        self.findings = tuple(findings[:FOUND_LIMIT])
        omitted = len(findings) - FOUND_LIMIT
        if omitted > 0:
            self.coverage += (f"{omitted:,} more things outlived the scope, too many to describe",)


def _lasts(found: Found, deadline: float) -> bool:
    return found.lasts is not None and found.lasts(deadline)


def _ask_to_end(found: Found) -> None:
    if found.end is not None:
        with suppress(Exception):  # a transport's or a protocol's, and what is left is told anyway
            found.end()


def _with_end(found: Found, is_there: bool, failure: BaseException | None) -> Finding:
    was_asked = found.end is not None or found.close is not None
    if failure is not None:
        finding = replace(found.finding, detail=f"closing it failed: {error_in_words(failure, _UNPRINTABLE)}")
        return replace(finding, outcome="survived" if is_there else found.ended)
    if is_there:
        return replace(found.finding, outcome="survived" if was_asked else None)
    return replace(found.finding, outcome=found.ended if was_asked else "ended")


def _untracked(task: AnyTask) -> Finding:
    record = describe(task, NO_SITE, None)
    return Finding(
        "untracked",
        f"task {record.name!r}, which runs {record.coroutine}",
        detail="made by calling the Task class, and not by create_task or a task group",
        task=record,
    )
