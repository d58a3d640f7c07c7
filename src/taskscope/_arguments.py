"""The arguments of a scope, checked once."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Collection, Sequence, Set
from typing import Any, TypedDict, cast, get_args

from taskscope._diagnosis.safely import safe_repr
from taskscope._ignore import Ignore
from taskscope._policy import FIND, TASKS_ONLY, Find, OnLeakName, OuterGroups, Policy, SpawnSite
from taskscope._report import Report

OnLeak = OnLeakName | Callable[[Report], None]
OnReport = Callable[[Report], None]

_ON_LEAK: tuple[str, ...] = get_args(OnLeakName)
_OUTER_GROUPS: tuple[str, ...] = get_args(OuterGroups)
_SPAWN_SITE: tuple[str, ...] = get_args(SpawnSite)


class PolicyArguments(TypedDict, total=False):
    """Keyword arguments that `TaskScope`, `scoped`, `run` and `install` have in common. `TaskScope` explains them."""

    grace: float
    cancel_timeout: float
    on_leak: OnLeak
    on_report: OnReport | None
    timeout: float | None
    watch: float | None
    outer_groups: OuterGroups
    ignore: Sequence[Ignore]
    find: Sequence[Find]
    scan: bool
    spawn_site: SpawnSite
    end_processes: bool


def check_policy(
    grace: float = 0.2,
    cancel_timeout: float = 1.0,
    on_leak: OnLeak = "raise",
    on_report: OnReport | None = None,
    timeout: float | None = None,
    watch: float | None = None,
    outer_groups: OuterGroups = "leak",
    ignore: object = (),
    find: object = ("tasks",),
    scan: bool = False,
    spawn_site: SpawnSite = "site",
    end_processes: bool = False,
    **unknown: object,
) -> Policy:
    """The arguments as a `Policy`.

    Raises:
        TypeError, ValueError: An argument is not what it must be. The message names it, its value and what is allowed.
    """
    for argument, value in unknown.items():
        allowed = ", ".join(PolicyArguments.__annotations__)
        raise TypeError(f"{argument}={safe_repr(value)}: there is no such argument; a scope takes {allowed}")
    _check_seconds("grace", grace)
    _check_seconds("cancel_timeout", cancel_timeout)
    if timeout is not None:
        _check_seconds("timeout", timeout, "None or ")
    _check_on_leak(on_leak)
    if on_report is not None:
        _check_callback("on_report", on_report, "None or a function that takes a Report")
    _check_word("outer_groups", outer_groups, _OUTER_GROUPS)
    _check_word("spawn_site", spawn_site, _SPAWN_SITE)
    _check_flag("scan", scan)
    _check_flag("end_processes", end_processes)
    if watch is not None:
        _check_seconds("watch", watch, "None or ")
        if not watch:
            raise ValueError(f"watch={watch!r}: must be None or more than 0 seconds")
    rules = _checked_rules(ignore)
    wanted = _checked_find(find)
    if end_processes and "processes" not in wanted:
        raise ValueError('end_processes=True: needs "processes" in find, or no process is looked for')
    return Policy(
        float(grace),
        float(cancel_timeout),
        on_leak,
        on_report,
        None if timeout is None else float(timeout),
        None if watch is None else float(watch),
        outer_groups,
        rules,
        wanted,
        scan or "untracked" in wanted,
        spawn_site,
        end_processes,
    )


def check_name(name: object, argument: str = "name") -> None:
    if name is None:
        return
    if not isinstance(name, str):
        raise TypeError(f"{argument}={safe_repr(name)}: must be None or a string, not {type(name).__name__}")
    if not name:
        raise ValueError(f"{argument}='': must be None or a string that is not empty")


def _check_seconds(argument: str, value: object, also: str = "") -> None:
    allowed = f"must be {also}a finite number of seconds >= 0"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{argument}={safe_repr(value)}: {allowed}, not {type(value).__name__}")
    if not _is_finite(value) or value < 0:
        raise ValueError(f"{argument}={safe_repr(value)}: {allowed}")


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an int beyond the range of floats
        return False


def _checked_rules(value: object) -> tuple[Ignore, ...]:
    allowed = "must be a sequence of taskscope.Ignore: ignore=(taskscope.Ignore('Client._read', reason='...'),)"
    if not isinstance(value, Sequence):
        raise TypeError(f"ignore={safe_repr(value)}: {allowed}, not {type(value).__name__}")
    rules: list[Ignore] = []
    given = cast("Sequence[object]", value)
    for number, rule in enumerate(given):
        if type(rule) is not Ignore:
            raise TypeError(f"ignore={safe_repr(given)}: {allowed}; its element {number} is {type(rule).__name__}")
        rules.append(rule)
    return tuple(rules)


def _checked_find(value: object) -> frozenset[Find]:
    allowed = f"must be a sequence of {', '.join(map(repr, FIND))}"
    if isinstance(value, str) or not isinstance(value, Sequence | Set):
        raise TypeError(f"find={safe_repr(value)}: {allowed}, not {type(value).__name__}")
    given = cast("Collection[object]", value)
    for word in given:
        if not isinstance(word, str):
            raise TypeError(f"find={safe_repr(given)}: {allowed}; {safe_repr(word)} is {type(word).__name__}")
        if word not in FIND:
            raise ValueError(f"find={safe_repr(given)}: {allowed}; there is no {safe_repr(word)}")
    wanted = TASKS_ONLY | cast("Set[Find]", set(given))
    return TASKS_ONLY if wanted == TASKS_ONLY else wanted


def _check_flag(argument: str, value: object) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{argument}={safe_repr(value)}: must be True or False")


def _check_word(argument: str, value: object, allowed: tuple[str, ...]) -> None:
    if not isinstance(value, str) or value not in allowed:
        kind = ValueError if isinstance(value, str) else TypeError
        raise kind(f"{argument}={safe_repr(value)}: must be one of {', '.join(map(repr, allowed))}")


def _check_on_leak(value: object) -> None:
    allowed = f"one of {', '.join(map(repr, _ON_LEAK))} or a function that takes a Report"
    if isinstance(value, str):
        if value not in _ON_LEAK:
            raise ValueError(f"on_leak={safe_repr(value)}: must be {allowed}")
        return
    _check_callback("on_leak", value, allowed)


def _check_callback(argument: str, value: Any, allowed: str) -> None:
    if not callable(value):
        raise TypeError(f"{argument}={safe_repr(value)}: must be {allowed}")
    inner = value
    while isinstance(inner, functools.partial):
        inner = inner.func
    call = getattr(inner, "__call__", None)  # noqa: B004 - an object whose __call__ is a coroutine function
    if any(map(inspect.iscoroutinefunction, (inner, call))) or any(map(inspect.isasyncgenfunction, (inner, call))):
        raise TypeError(f"{argument}={safe_repr(value)}: must be {allowed}, and not async: nothing would await it")
    if any(map(inspect.isgeneratorfunction, (inner, call))):
        raise TypeError(f"{argument}={safe_repr(value)}: must be {allowed}, and not a generator: nothing would run it")
