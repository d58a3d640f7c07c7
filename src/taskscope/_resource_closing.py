"""`closing`: a block at whose end a resource is closed, and nobody may be using it any more."""

from __future__ import annotations

import inspect
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, final, overload

from taskscope._arguments import check_name
from taskscope._diagnosis.holding import is_stop, leads_to
from taskscope._diagnosis.opaque import class_of
from taskscope._guard import release_guard
from taskscope._resource import close_of, closed_part, method_of, refusal, what_it_is

if TYPE_CHECKING:
    import asyncio


class _HasAclose(Protocol):
    def aclose(self) -> Any: ...


class _HasClose(Protocol):
    def close(self) -> Any: ...


A = TypeVar("A", bound=_HasAclose)
C = TypeVar("C", bound=_HasClose)
T = TypeVar("T")

_ALLOWED = (
    "something with a method aclose() or close(), a context manager, or a pair (reader, writer) of an asyncio stream"
)


@overload
def closing(resource: A, name: str | None = None) -> AbstractAsyncContextManager[A]: ...
@overload
def closing(resource: C, name: str | None = None) -> AbstractAsyncContextManager[C]: ...
@overload
def closing(
    resource: tuple[asyncio.StreamReader, asyncio.StreamWriter], name: str | None = None
) -> AbstractAsyncContextManager[tuple[asyncio.StreamReader, asyncio.StreamWriter]]: ...
@overload
def closing(resource: AbstractAsyncContextManager[T], name: str | None = None) -> AbstractAsyncContextManager[T]: ...
@overload
def closing(resource: AbstractContextManager[T], name: str | None = None) -> AbstractAsyncContextManager[T]: ...
def closing(resource: Any, name: str | None = None) -> AbstractAsyncContextManager[Any]:
    """An asynchronous context manager that closes a resource, as `contextlib.aclosing` does, and sees who still has it.

    Tasks of a scope that are pending when the resource has been closed, and hold it in a variable that can still be
    read, directly or through a few attributes, items or closures, are in the `findings` of that scope's report, of kind
    `"closed-in-use"`: the resource was closed too early. Not accused are the task that closes it, tasks that await that
    one, and what the resource itself ends as it is closed.

    Args:
        resource: What is closed by `aclose()`, else by `close()`, awaited where that returns something to await, and by
            `wait_closed()` after that, where there is such a method. A context manager that has neither is entered when
            the block begins, with what that returns as the value of `as`, and exited at its end. A pair
            `(reader, writer)`, as `asyncio.open_connection` returns it, is closed by its writer.
        name: Name for reports, beside the type. None: the type alone.

    Raises:
        TypeError: `resource` is none of these, or `name` is no string.
        ValueError: `name` is empty.
        RuntimeError: One block is entered twice.
    """
    check_name(name)
    part = closed_part(resource)
    if close_of(part) is not None:
        return _Closing(resource, name)
    for enter, leave in (("__aenter__", "__aexit__"), ("__enter__", "__exit__")):
        if hasattr(class_of(part), enter) and hasattr(class_of(part), leave):
            return _Entered(resource, name, enter, leave)
    raise refusal(resource, _ALLOWED)


async def _awaited(result: Any) -> Any:
    return await result if inspect.isawaitable(result) else result


class _Block:
    def __init__(self, resource: Any, name: str | None) -> None:
        self._resource = resource
        self._name = name
        self._is_new = True

    def _begin(self) -> None:
        if not self._is_new:
            raise RuntimeError(
                "this closing(...) block has been entered before: call closing() again for another block"
            )
        self._is_new = False


@final
class _Closing(_Block):
    """A block round a resource that has a method to close it."""

    async def __aenter__(self) -> Any:
        self._begin()
        return self._resource

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        from taskscope._closed_in_use import Suspects, note_closer

        resource, self._resource = self._resource, None
        release_guard(resource)
        part = closed_part(resource)
        close, wait_closed = close_of(part), method_of(part, "wait_closed")
        assert close is not None, "it had one when the block was opened"
        note_closer(part)
        suspects = Suspects.before(what_it_is(resource, self._name), resource)
        is_closed = False
        try:
            await _awaited(close())
            is_closed = True
            if wait_closed is not None:
                await _awaited(wait_closed())
        finally:
            if suspects is not None:
                suspects.judge(is_closed=is_closed)


@final
class _Entered(_Block):
    """A block round a context manager."""

    def __init__(self, resource: Any, name: str | None, enter: str, leave: str) -> None:
        super().__init__(resource, name)
        self._entered: Any = None  # what stands for the resource as well
        self._enter = enter
        self._leave = leave

    async def __aenter__(self) -> Any:
        from taskscope._closed_in_use import is_within_reach

        self._begin()
        entered = await _awaited(getattr(class_of(self._resource), self._enter)(self._resource))
        # What tasks had before is an application that has a session, say: it is not closed with that.
        if not is_stop(class_of(entered)) and (leads_to(entered, self._resource) or not is_within_reach(entered)):
            self._entered = entered
        return entered

    async def __aexit__(self, *exit: Any) -> Any:
        from taskscope._closed_in_use import Suspects, note_closer

        resource, entered = self._resource, self._entered
        self._resource = self._entered = None
        note_closer(resource)
        suspects = Suspects.before(what_it_is(resource, self._name), resource, entered)
        is_closed = False
        try:
            result = await _awaited(getattr(class_of(resource), self._leave)(resource, *exit))
            is_closed = True
        finally:
            if suspects is not None:
                suspects.judge(is_closed=is_closed)
        return result
