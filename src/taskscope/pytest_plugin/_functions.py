"""What sort of function a test or fixture is. It is asked of each of them, and `inspect` takes ten times as long."""

from __future__ import annotations

import inspect
import types
from typing import Any, Final

# What pytest notes in functions, and what says nothing of their sort. Anything else may mark one as a function that
# returns a coroutine.
_SAYS_NOTHING: Final = frozenset({"pytestmark"})

_OF_PARAMETERS: Final = "get_direct_param_fixture_func"


def is_coroutine_function(function: Any) -> bool:
    """As `inspect.iscoroutinefunction` has it."""
    plain = function.__func__ if type(function) is types.MethodType else function
    if type(plain) is types.FunctionType and plain.__code__.co_flags & inspect.CO_COROUTINE:
        return True
    return not is_surely_sync(plain) and inspect.iscoroutinefunction(function)


def is_surely_sync(function: Any) -> bool:
    """Whether it is a plain function, of which most are."""
    return (
        type(function) is types.FunctionType
        and not function.__code__.co_flags & (inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR)
        and (not function.__dict__ or function.__dict__.keys() <= _SAYS_NOTHING)
    )


def is_of_parameter(function: Any) -> bool:
    """Whether it is that of the fixture which pytest makes for a test's parameter: what it returns was there before."""
    return type(function) is types.FunctionType and function.__name__ == _OF_PARAMETERS


def leads_to_coroutine_function(function: Any) -> bool:
    """Whether it is a coroutine function, also where a partial or a wrapper of AnyIO's is round it."""
    return is_coroutine_function(function) or inspect.iscoroutinefunction(inspect.unwrap(function))
