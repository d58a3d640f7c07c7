"""`guard`: notices, without the help of whoever does it, that a resource is closed somewhere else."""

from __future__ import annotations

import functools
import inspect
import sys
import types
import weakref
from collections.abc import Callable, Coroutine, Generator, Iterable
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast, final

from taskscope._arguments import check_name
from taskscope._backends._here import backend_here
from taskscope._diagnosis.awaitables import c_field, field_of, is_exactly, is_future
from taskscope._diagnosis.opaque import class_of
from taskscope._off import is_off
from taskscope._resource import CLOSES, closed_part, refusal, type_name, what_it_is

if TYPE_CHECKING:
    from taskscope._backends._backend import Tracking
    from taskscope._closed_in_use import Suspects

R = TypeVar("R")

_ALLOWED: Final = "something whose closing can be noticed; with taskscope.closing(resource) anything can be closed"

_ABSENT: Final = object()

# What has been put in the place of a method says by this whose it is.
_MARK: Final = "_taskscope_guard"

# No scope may begin or end for long: when there are twice as many guards as were left the last time, and at least so
# many, those of what is closed by now are dropped.
_FEWEST_SWEPT: Final = 32

# What says of a resource, as a plain bool of its own, that it is closed.
_FLAGS: Final = ("closed", "is_closed")


def guard(resource: R, name: str | None = None) -> R:
    """Sees to it that who still holds a resource is told of when that is closed, wherever that is done.

    As with `closing`, tasks of a scope that are pending then, and hold the resource, are in the `findings` of that
    scope's report. The methods `aclose` and `close` of this one object are wrapped for that, until it has been closed.
    Until then it refers to itself by them: one that is dropped without being closed is freed by the garbage collector.
    Where that cannot be done, or where something else closes the resource (`sqlite3.Connection`, `async with` an
    `httpx.AsyncClient`), it is looked at when a scope begins or ends. Who has closed it cannot be told then, so of the
    tasks that are pending at that time those alone are found that fail with an error which says that something is
    closed.

    Args:
        resource: What is closed by `aclose()` or `close()` somewhere. A pair `(reader, writer)`, as
            `asyncio.open_connection` returns it, is closed by its writer.
        name: Name for reports, beside the type. None: the type alone.

    Returns:
        The resource itself.

    Raises:
        TypeError: The closing of `resource` cannot be noticed, or `name` is no string.
        ValueError: `name` is empty.
        RuntimeError: The resource can only be looked at, and neither asyncio nor Trio runs the code.
    """
    check_name(name)
    if is_off():
        return resource
    part = closed_part(resource)
    attributes = _attributes_of(part)
    methods = [] if attributes is None else [each for each in CLOSES if _is_method(part, attributes, each)]
    can_tell = _closed_by_its_own_word(part) is not None
    if not methods and not can_tell:
        raise refusal(resource, _ALLOWED)
    tracking = _tracking_here(is_needed=not methods) if can_tell else None
    release_guard(resource)
    noticed = _Guard(what_it_is(resource, name), resource, part)
    if attributes is not None:
        noticed.wrap(attributes, methods)
    if tracking is not None:
        _note(tracking, noticed)
    return resource


def release_guard(resource: Any) -> None:
    """Takes a guard off a resource that has one."""
    attributes = _attributes_of(closed_part(resource)) or {}
    for name in CLOSES:
        noticed = _guard_of(attributes.get(name))
        if noticed is not None:
            noticed.take_off()


def look_at_guarded(tracking: Tracking) -> None:
    """Looks which of a loop's guarded resources are closed without that having been noticed."""
    tracking.guards = _Guards(noticed for noticed in tracking.guards or () if noticed.is_open()) or None


@final
class _Guards(list["_Guard"]):
    """The guards whose resources are looked at. Some of those cannot be referred to weakly, and are held here."""

    def __init__(self, guards: Iterable[_Guard] = ()) -> None:
        super().__init__(guards)
        self.sweep_at = max(_FEWEST_SWEPT, 2 * len(self))


def _note(tracking: Tracking, noticed: _Guard) -> None:
    guards = tracking.guards
    if guards is None:
        guards = tracking.guards = _Guards()
    guards.append(noticed)
    if len(guards) >= cast("_Guards", guards).sweep_at:
        look_at_guarded(tracking)


@final
class _Guard:
    """What notices the closing of one resource."""

    def __init__(self, what: str, resource: Any, part: Any) -> None:
        self._what = what
        self._reader = None if resource is part else _weakly(resource[0])
        self._part = _weakly(part)
        self._replaced: dict[str, object] = {}
        # Ids of the tasks that are closing it: 0 for code that is no task's.
        self._closers: list[int] = []
        self._is_over = False

    def wrap(self, attributes: dict[str, Any], methods: list[str]) -> None:
        for name in methods:
            part = self._part()
            self._replaced[name] = own = attributes.get(name, _ABSENT)
            attributes[name] = types.MethodType(_wrapper(self, name, getattr(part, name), own), part)

    def take_off(self) -> None:
        """Leaves the resource as it was."""
        self._is_over = True
        attributes = _attributes_of(self._part()) or {}
        for name, own in self._replaced.items():
            if _guard_of(attributes.get(name)) is not self:
                continue  # somebody has put something else there
            if own is _ABSENT:
                del attributes[name]
            else:
                attributes[name] = own
        self._replaced.clear()

    def is_open(self) -> bool:
        """Whether this has to go on. Judges where the resource says that it is closed."""
        part = self._part()
        if self._is_over or part is None:
            return False
        if not _closed_by_its_own_word(part):
            return True
        if self._closers:
            return True  # it is being closed, and the wrapper will judge
        self.take_off()
        from taskscope._closed_in_use import Suspects

        suspects = Suspects.before(self._what, self._resource(part))
        if suspects is not None:
            suspects.judge_unseen()
        return False

    def suspects(self, part: Any) -> Suspects | None:
        """Who holds the resource as it begins to be closed. None inside another call that closes it: that one counts,
        and it may be in another task, or in a thread, where nothing can be told. Nor is there anyone to be asked about
        when it is closed by its own finalizer, or is a copy of the one that is guarded.
        """
        if self._is_over or self._closers or part is not self._part() or _current_task_id() is None:
            return None
        from taskscope._closed_in_use import Suspects

        return Suspects.before(self._what, self._resource(part))

    @contextmanager
    def closing(self, part: Any, suspects: Suspects | None) -> Generator[None]:
        """Round what closes the resource."""
        from taskscope._closed_in_use import note_closer

        closer = _current_task_id() or 0
        self._closers.append(closer)
        note_closer(part)
        is_closed = False
        try:
            yield
            is_closed = True
        finally:
            self._closers.remove(closer)
            if suspects is not None:
                self.closed(suspects) if is_closed else suspects.judge_unseen()

    def closed(self, suspects: Suspects, *, is_certain: bool = True) -> None:
        if self._is_over:
            return
        self.take_off()
        suspects.judge(is_closed=is_certain)

    def _resource(self, part: Any) -> Any:
        reader = None if self._reader is None else self._reader()
        return part if reader is None else (reader, part)


def _wrapper(noticed: _Guard, name: str, method: Callable[..., Any], own: object) -> Callable[..., Any]:
    """The function of what takes the place of a method: that is bound, as methods are, so that who keeps it keeps the
    resource, and a finalizer that calls it finds that still there.

    own: what the object had under the name itself, beside its class.
    """

    def call(part: Any, *args: Any, **kwargs: Any) -> Any:
        found: Any = _method_of_class(part, name) if own is _ABSENT else own
        return found(*args, **kwargs)

    def close(part: Any, /, *args: Any, **kwargs: Any) -> Any:
        suspects = noticed.suspects(part)
        try:
            with noticed.closing(part, None):
                result = call(part, *args, **kwargs)
        except BaseException:
            if suspects is not None:
                suspects.judge_unseen()
            raise
        return result if suspects is None else _judged_when_done(noticed, part, suspects, result)

    async def aclose(part: Any, /, *args: Any, **kwargs: Any) -> Any:
        with noticed.closing(part, noticed.suspects(part)):
            return await call(part, *args, **kwargs)

    wrapper: Any = aclose if inspect.iscoroutinefunction(method) else close
    for attribute in functools.WRAPPER_ASSIGNMENTS:
        with suppress(Exception):
            setattr(wrapper, attribute, getattr(method, attribute))
    with suppress(Exception):
        bound = inspect.signature(method)
        part = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
        wrapper.__signature__ = bound.replace(parameters=[part, *bound.parameters.values()])
    setattr(wrapper, _MARK, noticed)
    return cast("Callable[..., Any]", wrapper)


def _method_of_class(part: Any, name: str) -> Any:
    found = inspect.getattr_static(class_of(part), name)
    return found.__get__(part, class_of(part)) if hasattr(found, "__get__") else found


def _judged_when_done(noticed: _Guard, part: Any, suspects: Suspects, result: Any) -> Any:
    """What a call returns that closes a resource, and does so at once unless it returns something to await."""
    if is_exactly(result, types.CoroutineType):
        return _awaited(noticed, part, suspects, result)
    if is_future(result):
        result.add_done_callback(partial(_closed_by_future, noticed, suspects))
    else:
        # What is there to be awaited, but is nothing that we know, tells nobody when it has been.
        noticed.closed(suspects, is_certain=not inspect.isawaitable(result))
    return result


def _closed_by_future(noticed: _Guard, suspects: Suspects, future: object) -> None:
    noticed.closed(suspects)


async def _awaited(noticed: _Guard, part: Any, suspects: Suspects, closing: Coroutine[Any, Any, Any]) -> Any:
    with noticed.closing(part, suspects):
        return await closing


def _guard_of(method: object) -> _Guard | None:
    function = method.__func__ if type(method) is types.MethodType else None
    found = vars(function).get(_MARK) if type(function) is types.FunctionType else None
    return found if type(found) is _Guard else None


def _weakly(thing: Any) -> Callable[[], Any]:
    try:
        return weakref.ref(thing)
    except TypeError:
        return lambda: thing


def _attributes_of(thing: object) -> dict[str, Any] | None:
    """The `__dict__` of an object that has one, whatever its class makes of attributes."""
    found = c_field(thing, "__dict__")
    return cast("dict[str, Any]", found) if type(found) is dict else None


def _is_method(thing: object, attributes: dict[str, Any], name: str) -> bool:
    if name in attributes:
        return callable(attributes[name])
    found = inspect.getattr_static(class_of(thing), name, None)
    return found is not None and not hasattr(class_of(found), "__set__") and callable(getattr(thing, name, None))


def _closed_by_its_own_word(thing: Any) -> bool | None:
    """Whether a resource says that it is closed, None for one that does not say. No code of a user's is run."""
    kind = class_of(thing)
    sqlite3 = sys.modules.get("sqlite3")
    if sqlite3 is not None and issubclass(kind, sqlite3.Connection):
        try:
            cast("Any", vars(sqlite3.Connection)["total_changes"]).__get__(thing)
        except sqlite3.ProgrammingError as error:
            return "closed" in str(error)
        return False
    if any(type_name(base) == "httpx.AsyncClient" for base in kind.__mro__):
        return getattr(field_of(thing, "_state"), "name", None) == "CLOSED"
    flags = [value for name in _FLAGS if type(value := field_of(thing, name)) is bool]
    return flags[0] if flags else None


def _tracking_here(*, is_needed: bool) -> Tracking | None:
    try:
        return backend_here().running_tracking()
    except RuntimeError:
        if is_needed:
            raise
        return None


def _current_task_id() -> int | None:
    """None where no loop runs, or one runs code that is no task's."""
    try:
        task = backend_here().current_task()
    except RuntimeError:
        return None
    return 0 if task is None else id(task)
