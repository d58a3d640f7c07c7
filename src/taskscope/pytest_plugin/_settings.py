"""What holds for a test: the options, and what its markers say."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import chain
from operator import is_
from typing import Any, Final, NamedTuple, final

import pytest

from taskscope._arguments import PolicyArguments, check_policy
from taskscope._diagnosis.safely import safe_repr
from taskscope._ignore import Ignore
from taskscope._policy import Policy
from taskscope.pytest_plugin._options import ON_LEAK, OPTIONS
from taskscope.pytest_plugin._values import ignore_lines, value_of

MARKER = "taskscope"
LEAKS_MARKER = "taskscope_leaks"
_OURS: Final = (MARKER, LEAKS_MARKER)


class Settings(NamedTuple):
    """What holds for a test or a fixture.

    Attributes:
        policy: What its scopes do. They tell nobody of leaks: that is for the plugin.
        on_leak: What the plugin does: one of `ON_LEAK`, or a function that takes the report.
    """

    policy: Policy
    on_leak: Any


class Expected(NamedTuple):
    """The leaks that a test says it has: globs of qualified names, and those of them that must have been seen."""

    coroutines: tuple[str, ...]
    required: tuple[str, ...]


class SettingsOfSession:
    """The settings of all tests.

    Raises:
        pytest.UsageError: A bad value in the ini file or on the command line.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._arguments: dict[str, Any] = {}
        self._on_command_line: set[str] = set()
        for option in OPTIONS:
            is_given, value = value_of(config, option)
            self._arguments[option.name] = value
            if is_given:
                self._on_command_line.add(option.name)
        self._arguments["ignore"] = tuple(map(_rule_of_line, ignore_lines(config)))
        self.default = _settings(self._arguments, "taskscope")
        # The node that was asked for last and had no marker of ours: a test has many fixtures.
        self._without = _Markers(None)
        self._of_markers: dict[tuple[tuple[str, int], ...], Settings] = {}

    def of(self, item: pytest.Item) -> Settings | None:
        """The settings of a test, None where its marker takes it out.

        Raises:
            pytest.UsageError: A marker says what it cannot say.
        """
        if self._without.are_of(item):
            return self.default
        markers = _Markers(item)
        if not markers.are_any_ours():
            self._without = markers
            return self.default
        arguments: dict[str, Any] = {}
        for mark in item.iter_markers(MARKER):
            if mark.args == (False,) and not mark.kwargs:
                return None if not arguments else self._with(arguments, item)
            if mark.args:
                given = ", ".join(map(safe_repr, mark.args))
                raise pytest.UsageError(
                    f"{item.nodeid}: taskscope({given}): the marker takes False, or keyword arguments"
                )
            arguments = {**mark.kwargs, **arguments}
        return self._with(arguments, item) if arguments else self.default

    def expected_leaks(self, item: pytest.Item) -> Expected | None:
        """What the markers of a test say of leaks that it is to have, None where they say nothing.

        Raises:
            pytest.UsageError: A marker says what it cannot say.
        """
        return None if self._without.are_of(item) else _expected_leaks(item)

    def _with(self, arguments: dict[str, Any], item: pytest.Item) -> Settings:
        key = tuple(sorted((name, id(value)) for name, value in arguments.items()))
        found = self._of_markers.get(key)
        if found is None:
            ours = {name: value for name, value in arguments.items() if name not in self._on_command_line}
            found = _settings({**self._arguments, **_about_processes(ours), **ours}, f"{item.nodeid}: taskscope marker")
            if "ignore" in ours:
                both = (*self.default.policy.ignore, *found.policy.ignore)
                found = found._replace(policy=found.policy._replace(ignore=both))
            self._of_markers[key] = found
        return found


@final
class _Markers:
    """The markers of a test, and of what is round it, as they were."""

    __slots__ = ("_all", "_lists", "_node")

    def __init__(self, node: pytest.Item | None) -> None:
        self._node = node
        self._lists = [] if node is None else [each.own_markers for each in node.listchain()[::-1]]
        self._all = [*chain.from_iterable(self._lists)]

    def are_any_ours(self) -> bool:
        return any(mark.name in _OURS for mark in self._all)

    def are_of(self, node: pytest.Item) -> bool:
        """Whether they are a test's still: fixtures can add some, to a test or round it."""
        if node is not self._node or node.own_markers is not self._lists[0]:
            return False
        found = [*chain.from_iterable(self._lists)]
        return len(found) == len(self._all) and all(map(is_, found, self._all))  # `==` would ask the arguments


def _expected_leaks(item: pytest.Item) -> Expected | None:
    names: list[str] = []
    required: list[str] = []
    for mark in item.iter_markers(LEAKS_MARKER):
        is_strict = mark.kwargs.get("strict", True)
        if not mark.args or not all(isinstance(name, str) for name in mark.args) or type(is_strict) is not bool:
            raise pytest.UsageError(
                f"{item.nodeid}: {LEAKS_MARKER}: takes qualified names of coroutine functions, and strict=True or False"
            )
        if unknown := set(mark.kwargs) - {"strict"}:
            raise pytest.UsageError(f"{item.nodeid}: {LEAKS_MARKER}: there is no argument {', '.join(sorted(unknown))}")
        names += mark.args
        required += mark.args if is_strict else ()
    return Expected(tuple(names), tuple(required)) if names else None


def _about_processes(arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """A marker that has no processes looked for has none ended either, whatever the ini file says of that."""
    found = arguments.get("find")
    is_told_not_to = isinstance(found, Collection) and "processes" not in found
    return {"end_processes": False} if is_told_not_to else {}


def _rule_of_line(line: str) -> Ignore:
    try:
        return Ignore.parse(line)
    except (TypeError, ValueError) as error:
        raise pytest.UsageError(f"taskscope_ignore: {error}") from None


def _settings(arguments: Mapping[str, Any], where: str) -> Settings:
    policy_arguments = dict(arguments)
    on_leak = policy_arguments.pop("on_leak")
    ignore_builtin = policy_arguments.pop("ignore_builtin")
    if on_leak not in ON_LEAK and (isinstance(on_leak, str) or not callable(on_leak)):
        allowed = f"one of {', '.join(ON_LEAK)}, or a function that takes a Report"
        raise pytest.UsageError(f"{where}: on_leak={safe_repr(on_leak)}: must be {allowed}")
    if not isinstance(on_leak, str):
        policy_arguments["on_leak"] = on_leak
    if not isinstance(ignore_builtin, bool):
        raise pytest.UsageError(f"{where}: ignore_builtin={safe_repr(ignore_builtin)}: must be True or False")
    if "on_report" in policy_arguments:
        raise pytest.UsageError(f"{where}: on_report: the plugin takes the reports; on_leak can be a function")
    known = [*PolicyArguments.__annotations__, "ignore_builtin"]
    known.remove("on_report")
    for name, value in policy_arguments.items():
        if name not in known:
            allowed = ", ".join(known)
            raise pytest.UsageError(
                f"{where}: {name}={safe_repr(value)}: there is no such argument; it takes {allowed}"
            )
    try:
        policy = check_policy(**policy_arguments)
    except (TypeError, ValueError) as error:
        raise pytest.UsageError(f"{where}: {error}") from None
    # A suite can have hundreds of leaks that sleep, and would wait out the grace for each of them.
    policy = policy._replace(on_leak="ignore", ignore_builtin=ignore_builtin, looks_ahead=True)
    if on_leak == "summary":  # which looks, and changes nothing
        policy = policy._replace(cancels=False, timeout=None, watch=None)
    return Settings(policy, on_leak)
