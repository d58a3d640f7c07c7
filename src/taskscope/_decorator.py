"""`scoped`: a scope round every call of a coroutine function or asynchronous generator function."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from types import CodeType, FunctionType
from typing import Any, ParamSpec, TypeVar, Unpack, overload

from taskscope._arguments import PolicyArguments, check_name, check_policy
from taskscope._policy import Policy
from taskscope._scope import TaskScope
from taskscope._steps import ScopedSteps

P = ParamSpec("P")
R = TypeVar("R")
Y = TypeVar("Y")
S = TypeVar("S")
F = TypeVar("F", bound=Callable[..., Coroutine[Any, Any, Any] | AsyncIterator[Any]])


@overload
def scoped(func: F, /) -> F: ...
@overload
def scoped(*, name: str | None = None, **policy: Unpack[PolicyArguments]) -> Callable[[F], F]: ...
def scoped(func: Any = None, /, *, name: str | None = None, **policy: Any) -> Any:
    """Opens a fresh `TaskScope` round every call of a function: `@scoped`, or `@scoped(grace=1.0)`.

    For coroutine functions and methods, and for asynchronous generator functions, where the scope spans the iteration.
    The function keeps its signature, name and attributes. Calls may be concurrent or recursive.

    Args:
        func: The function.
        name: Name of the scopes in reports. None: the function's qualified name.
        policy: The other arguments of `TaskScope`.

    Raises:
        TypeError: `func` is not a coroutine function or asynchronous generator function, or an argument of the policy
            is not what it must be.
        ValueError: An argument of the policy is out of range.
    """
    check_name(name)
    checked = check_policy(**policy)
    if func is not None:
        return _wrap(func, name, checked)

    def decorate(func: Any) -> Any:
        return _wrap(func, name, checked)

    return decorate


def _wrap(func: Any, name: str | None, policy: Policy) -> Any:
    if issubclass(type(func), (staticmethod, classmethod)):
        return type(func)(_wrap(func.__func__, name, policy))
    label = name or getattr(func, "__qualname__", None) or repr(func)
    if inspect.iscoroutinefunction(func):
        return _wrap_coroutine_function(func, label, policy)
    if inspect.isasyncgenfunction(func):
        return _wrap_generator_function(func, label, policy)
    raise TypeError(_refusal(func))


def _wrap_coroutine_function(
    func: Callable[P, Coroutine[Any, Any, R]], name: str, policy: Policy
) -> Callable[P, Coroutine[Any, Any, R]]:
    defined_at = defined_where(func)

    @functools.wraps(func)
    async def in_scope(*args: P.args, **kwargs: P.kwargs) -> R:
        async with TaskScope._of(policy, name, defined_at):  # pyright: ignore[reportPrivateUsage]
            return await func(*args, **kwargs)

    return in_scope


def _wrap_generator_function(
    func: Callable[P, AsyncGenerator[Y, S]], name: str, policy: Policy
) -> Callable[P, AsyncGenerator[Y, S]]:
    defined_at = defined_where(func)

    def enter(steps: Any) -> ScopedSteps:
        return ScopedSteps(TaskScope._of(policy, name, defined_at), steps)  # pyright: ignore[reportPrivateUsage]

    return step_by_step(func, enter)


def step_by_step(
    func: Callable[P, AsyncGenerator[Y, S]], enter: Callable[[Any], AbstractAsyncContextManager[ScopedSteps]]
) -> Callable[P, AsyncGenerator[Y, S]]:
    """The same generator function, whose generators take their steps as what `enter` makes of each says."""

    @functools.wraps(func)
    async def in_scope(*args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[Y, S]:
        steps: Any = func(*args, **kwargs)
        async with enter(steps) as scope:
            take_step = scope.first
            while True:
                try:
                    item = await scope.step(take_step)
                except StopAsyncIteration:
                    return
                finally:
                    del take_step  # it can hold an exception whose traceback holds this frame
                try:
                    sent = yield item
                except BaseException as error:
                    take_step = scope.throwing(error)
                else:
                    take_step = scope.sending(sent)

    return in_scope


def defined_where(func: Callable[..., Any]) -> tuple[CodeType, int]:
    if type(func) is FunctionType and "__wrapped__" not in func.__dict__:  # each test is asked, and `unwrap` is slow
        return func.__code__, -1
    inner: Any = inspect.unwrap(func)
    while isinstance(inner, functools.partial | functools.partialmethod):
        inner = inspect.unwrap(inner.func)
    return getattr(inner, "__code__", _wrap.__code__), -1


def _refusal(func: Any) -> str:
    what = f"func={getattr(func, '__qualname__', None) or repr(func)}"
    if not callable(func):
        return (
            f"{what}: scoped decorates functions, not {type(func).__name__}; options go by keyword: @scoped(grace=1.0)"
        )
    if inspect.isclass(func):
        return f"{what}: scoped decorates functions, not classes; decorate the class's async methods"
    if inspect.iscoroutinefunction(type(func).__call__) or inspect.isasyncgenfunction(type(func).__call__):
        return f"{what}: scoped decorates functions; decorate the object's method `async def __call__`"
    return (
        f"{what}: scoped decorates `async def` functions, and this one is not; make it async, or put "
        "`async with TaskScope():` round the code that spawns, or run it with taskscope.run(...)"
    )
