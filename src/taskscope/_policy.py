"""What a scope does with what it finds, and the words for that. Each start of pytest imports it, for the options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

if TYPE_CHECKING:
    from taskscope._arguments import OnLeak, OnReport
    from taskscope._ignore import Ignore

OnLeakName = Literal["raise", "warn", "log", "ignore"]
OuterGroups = Literal["leak", "transfer"]
SpawnSite = Literal["site", "stack", "off"]
Find = Literal[
    "tasks",
    "timers",
    "generators",
    "executor",
    "threads",
    "processes",
    "servers",
    "transports",
    "unretrieved",
    "untracked",
]

FIND: tuple[str, ...] = get_args(Find)
TASKS_ONLY: frozenset[Find] = frozenset({"tasks"})
"""What a scope looks for unless it is told to look for more. There is no other set that is equal to it."""


class Policy(NamedTuple):
    """What a scope does with what it finds. Built by `check_policy` of `_arguments`, never changed afterwards."""

    grace: float = 0.2
    cancel_timeout: float = 1.0
    on_leak: OnLeak = "raise"
    on_report: OnReport | None = None
    timeout: float | None = None
    watch: float | None = None
    outer_groups: OuterGroups = "leak"
    ignore: tuple[Ignore, ...] = ()
    find: frozenset[Find] = TASKS_ONLY
    scan: bool = False
    spawn_site: SpawnSite = "site"
    end_processes: bool = False
    # No arguments of a scope, but for what is built on scopes:
    ignore_builtin: bool = True
    cancels: bool = True  # False: what has leaked is told, and let be
    looks_ahead: bool = False  # True: to wait for timers that are due after the grace is in vain, too


DEFAULT_POLICY = Policy()
