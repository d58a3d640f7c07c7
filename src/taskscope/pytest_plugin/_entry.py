"""What pytest loads through the entry point: the options and markers, and the plugin proper where it is switched on."""

from __future__ import annotations

import pytest

from taskscope._off import is_off
from taskscope.pytest_plugin._options import add_options
from taskscope.pytest_plugin._values import is_on, refuse_unknown

_MARKERS = (
    "taskscope(grace=..., on_leak=..., timeout=..., ...): options of taskscope for this test; taskscope(False): leave "
    "its tasks alone",
    "taskscope_leaks(*coroutines, strict=True): the test leaves tasks of these coroutine functions behind (globs of "
    "qualified names), and fails if it does not, unless strict is False",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    for marker in _MARKERS:
        config.addinivalue_line("markers", marker)
    if is_off() or not is_on(config):
        return
    refuse_unknown(config)
    from taskscope.pytest_plugin._own_modules import import_as_installed

    import_as_installed(config)
    from taskscope.pytest_plugin._outcome import Outcomes
    from taskscope.pytest_plugin._plugin import Enforcement
    from taskscope.pytest_plugin._settings import SettingsOfSession
    from taskscope.pytest_plugin._summary import Summary

    settings = SettingsOfSession(config)
    outcomes = Outcomes(config)
    summary = Summary(config, settings, outcomes)
    enforcement = Enforcement(settings, outcomes)
    # What is found as the session ends has to be known before it is summed up: of two wrappers that are both to be the
    # last, the one that is registered first is outside.
    config.pluginmanager.register(summary, "taskscope-summary")
    config.pluginmanager.register(enforcement, "taskscope-enforcement")
