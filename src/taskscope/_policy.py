"""The arguments of a scope, checked once."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, get_args

from taskscope._report import Report

OnLeakName = Literal["raise", "warn", "log", "ignore"]
OnLeak = OnLeakName | Callable[[Report], None]
OnReport = Callable[[Report], None]
OuterGroups = Literal["leak", "transfer"]
SpawnSite = Literal["site", "stack", "off"]

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
    watch: None
    outer_groups: OuterGroups
    ignore: tuple[()]
    find: tuple[Literal["tasks"]]
    scan: bool
    spawn_site: SpawnSite


@dataclass(frozen=True, slots=True)
class Policy:
    """What a scope does with what it finds. Built by `check_policy`, never changed afterwards."""

    grace: float = 0.2
    cancel_timeout: float = 1.0
    on_leak: OnLeak = "raise"
    on_report: OnReport | None = None
    timeout: float | None = None
    outer_groups: OuterGroups = "leak"
    scan: bool = False
    spawn_site: SpawnSite = "site"


def check_policy(
    grace: float = 0.2,
    cancel_timeout: float = 1.0,
    on_leak: OnLeak = "raise",
    on_report: OnReport | None = None,
    timeout: float | None = None,
    watch: object = None,
    outer_groups: OuterGroups = "leak",
    ignore: object = (),
    find: object = ("tasks",),
    scan: bool = False,
    spawn_site: SpawnSite = "site",
) -> Policy:
    """The arguments as a `Policy`.

    Raises:
        TypeError, ValueError: An argument is not what it must be. The message names it, its value and what is allowed.
    """
    _check_seconds("grace", grace)
    _check_seconds("cancel_timeout", cancel_timeout)
    if timeout is not None:
        _check_seconds("timeout", timeout, "None or ")
    _check_on_leak(on_leak)
    if on_report is not None:
        _check_callback("on_report", on_report, "None or a function that takes a Report")
    _check_word("outer_groups", outer_groups, _OUTER_GROUPS)
    _check_word("spawn_site", spawn_site, _SPAWN_SITE)
    if not isinstance(scan, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"scan={scan!r}: must be True or False")
    if watch is not None:
        raise ValueError(f"watch={watch!r}: watching the body is not supported in this version, leave it None")
    if not isinstance(ignore, tuple) or ignore:
        raise ValueError(f"ignore={ignore!r}: ignore rules are not supported in this version, leave it ()")
    if find != ("tasks",):
        raise ValueError(f'find={find!r}: this version looks for tasks only, leave it ("tasks",)')
    return Policy(
        float(grace),
        float(cancel_timeout),
        on_leak,
        on_report,
        None if timeout is None else float(timeout),
        outer_groups,
        scan,
        spawn_site,
    )


def check_name(name: object, argument: str = "name") -> None:
    if name is None:
        return
    if not isinstance(name, str):
        raise TypeError(f"{argument}={name!r}: must be None or a string, not {type(name).__name__}")
    if not name:
        raise ValueError(f"{argument}='': must be None or a string that is not empty")


def _check_seconds(argument: str, value: object, also: str = "") -> None:
    allowed = f"must be {also}a finite number of seconds >= 0"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{argument}={value!r}: {allowed}, not {type(value).__name__}")
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"{argument}={value!r}: {allowed}")


def _check_word(argument: str, value: object, allowed: tuple[str, ...]) -> None:
    if not isinstance(value, str) or value not in allowed:
        kind = ValueError if isinstance(value, str) else TypeError
        raise kind(f"{argument}={value!r}: must be one of {', '.join(map(repr, allowed))}")


def _check_on_leak(value: object) -> None:
    allowed = f"one of {', '.join(map(repr, _ON_LEAK))} or a function that takes a Report"
    if isinstance(value, str):
        if value not in _ON_LEAK:
            raise ValueError(f"on_leak={value!r}: must be {allowed}")
        return
    _check_callback("on_leak", value, allowed)


def _check_callback(argument: str, value: Any, allowed: str) -> None:
    if not callable(value):
        raise TypeError(f"{argument}={value!r}: must be {allowed}")
    call = getattr(value, "__call__", None)  # noqa: B004 - an object whose __call__ is a coroutine function
    if any(map(inspect.iscoroutinefunction, (value, call))) or any(map(inspect.isasyncgenfunction, (value, call))):
        raise TypeError(f"{argument}={value!r}: must be {allowed}, and not async: nothing would await it")


DEFAULT_POLICY = Policy()
