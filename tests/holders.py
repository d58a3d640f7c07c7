"""Odd places in which a program can keep what a task waits for, each with a way to get at it again."""

from __future__ import annotations

import array
import asyncio
import collections
import contextvars
import copy
import functools
import gc
import heapq
import io
import itertools
import operator
import queue
import signal
import sys
import threading
import types
import weakref
from collections import OrderedDict, UserDict, defaultdict, deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

Wake = Callable[[], object]
Hold = Callable[[Any, ExitStack], Wake]
"""Puts an event away, and gives a function that finds it again and sets it.

Either that function holds it, or something that lives on until the stack is closed.
"""

HOLDERS: dict[str, Hold] = {}
"""All of them, by the name of the place."""

PLACES: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {}
"""Those that are objects: how to make one of something, and how to get that out of it again."""

VARIABLE: contextvars.ContextVar[Any] = contextvars.ContextVar("VARIABLE")


def holder(hold: Hold) -> Hold:
    HOLDERS[hold.__name__.replace("_", " ")] = hold
    return hold


def place(name: str, make: Callable[[Any], Any], find: Callable[[Any], Any]) -> None:
    """A place that is an object: made of the event by one function, from which another gets the event again."""

    def hold(event: Any, stack: ExitStack) -> Wake:
        made = make(event)
        return lambda: find(made).set()

    HOLDERS[name] = hold
    PLACES[name] = make, find


class Plain:
    """An object with attributes."""

    event: Any

    def __init__(self, event: Any = None) -> None:
        self.event = event

    def set(self) -> None:
        self.event.set()


class Slotted:
    __slots__ = ("__weakref__", "event")

    def __init__(self, event: Any) -> None:
        self.event = event


@dataclass(slots=True)
class SlottedData:
    event: Any


@dataclass(frozen=True)
class FrozenData:
    event: Any


class Text(str):
    event: Any


class Number(int):
    event: Any


class Octets(bytearray):
    event: Any


class Numbers(array.array):  # type: ignore[type-arg]
    event: Any


class Pair(tuple[Any, ...]):
    event: Any


class Mapping(dict[Any, Any]):
    event: Any


class Error(Exception):
    event: Any


class Raw(io.RawIOBase):
    """A stream that does something when it is read."""

    event: Any

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self.event.set()
        return 0


class WithProperty:
    def __init__(self, event: Any) -> None:
        self._event = event

    @property
    def event(self) -> Any:
        return self._event

    @functools.cached_property
    def cached(self) -> Any:
        return self._event


class NamedPair(collections.namedtuple("NamedPair", "left right")):
    __slots__ = ()


class Closing:
    """Keeps a coroutine that nobody may ever await, which must not be complained about."""

    def __init__(self, coroutine: Any) -> None:
        self.coroutine = coroutine

    def __del__(self) -> None:
        self.coroutine.close()


def give(made: Any, event: Any) -> Any:
    made.event = event
    return made


def filled(made: Any, item: Any) -> Any:
    made.put_nowait(item)
    return made


def begun(iterator: Any) -> Any:
    next(iterator)
    return iterator


def second(iterator: Any) -> Any:
    next(iterator)
    return next(iterator)


def passed_by(tees: Any) -> Any:
    """One of two tees, which has kept what only the other has seen."""
    next(tees[0])
    return tees[1]


def list_in_itself(event: Any) -> list[Any]:
    made = [event]
    made.append(made)
    return made


def raised(event: Any) -> BaseException:
    def raiser(kept: Any) -> None:
        raise ValueError

    try:
        raiser(event)
    except ValueError as error:
        return error
    raise AssertionError


def last_frame(error: BaseException) -> Any:
    assert error.__traceback__ is not None and error.__traceback__.tb_next is not None
    return error.__traceback__.tb_next.tb_frame


def raised_meanwhile(event: Any) -> BaseException:
    try:
        try:
            raise ValueError(event)
        except ValueError:
            raise KeyError from None
    except KeyError as error:
        return error
    raise AssertionError


def yielding(event: Any) -> Iterator[Any]:
    yield None
    yield event


def delegating(event: Any) -> Iterator[Any]:
    yield from yielding(event)


def looping(event: Any) -> Iterator[Any]:
    for each in [None, event]:  # noqa: UP028 - it is the loop that matters
        yield each


async def returning(event: Any) -> Any:
    return event


async def yielding_later(event: Any) -> AsyncIterator[Any]:
    yield event


def result_of(awaitable: Any) -> Any:
    """What something that never waits gives when it is awaited."""
    try:
        awaitable.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError


def with_default(event: Any) -> Callable[[], Any]:
    def function(kept: Any = event) -> Any:
        return kept

    return function


def with_keyword_default(event: Any) -> Callable[[], Any]:
    def function(*, kept: Any = event) -> Any:
        return kept

    return function


def with_closure(event: Any) -> Callable[[], Any]:
    return lambda: event


def with_attribute(event: Any) -> Any:
    def function() -> None: ...

    return give(function, event)


def with_annotation(event: Any) -> Any:
    def function(kept: Any) -> None: ...

    function.__annotations__["kept"] = event
    return function


def code_with_constant(event: Any) -> types.CodeType:
    code: types.CodeType = with_attribute(None).__code__
    return code.replace(co_consts=(event,))


def class_with_attribute(event: Any) -> Any:
    class Local:
        kept = event

    return Local


def class_with_method(event: Any) -> Any:
    class Local:
        def get(self) -> Any:
            return event

    return Local


def class_of_a_metaclass(event: Any) -> Any:
    class Meta(type):
        kept = event

    return Meta("Local", (), {})


def in_a_cache(event: Any) -> Any:
    @functools.lru_cache
    def get(key: int) -> Any:
        return box.pop()

    box = [event]
    get(1)
    return get


def context_with(event: Any) -> contextvars.Context:
    context = contextvars.Context()
    context.run(VARIABLE.set, event)
    return context


def context_after(context: contextvars.Context) -> contextvars.Context:
    """A context that shares what it can with another."""
    for number in range(40):
        context.run(contextvars.ContextVar(f"{number}").set, number)
    return context.copy()


def token_for(event: Any) -> contextvars.Token[Any]:
    def twice() -> contextvars.Token[Any]:
        VARIABLE.set(event)
        return VARIABLE.set(None)

    return contextvars.Context().run(twice)


def done_future(event: Any) -> asyncio.Future[Any]:
    future = asyncio.get_running_loop().create_future()
    future.set_result(event)
    return future


def failed_future(event: Any) -> asyncio.Future[Any]:
    future = asyncio.get_running_loop().create_future()
    future.set_exception(ValueError(event))
    future.exception()
    return future


def future_with_attribute(event: Any) -> Any:
    class WithAttribute(asyncio.Future[Any]):
        kept = None

    return give(WithAttribute(), event)


first_item: Callable[[Any], Any] = operator.itemgetter(0)
attribute: Callable[[Any], Any] = operator.attrgetter("event")


def first_key(made: Any) -> Any:
    return next(iter(made))


def called(made: Any) -> Any:
    return made()


# Containers
place("list", lambda event: [event], first_item)
place("tuple", lambda event: (event,), first_item)
place("nested containers", lambda event: [({"a": [{0: (event,)}]},)], lambda made: made[0][0]["a"][0][0][0])
place("list in itself", list_in_itself, first_item)
place("value of a dict", lambda event: {0: event}, first_item)
place("key of a dict", lambda event: {event: 0}, first_key)
place("set", lambda event: {event}, first_key)
place("frozenset", lambda event: frozenset({event}), first_key)
place("deque", lambda event: deque([event]), first_item)
place("OrderedDict", lambda event: OrderedDict({0: event}), first_item)
place("key of an OrderedDict", lambda event: OrderedDict({event: 0}), first_key)
place("defaultdict", lambda event: defaultdict(list, {0: event}), first_item)
place("default factory", lambda event: defaultdict(with_closure(event)), first_item)
place("ChainMap", lambda event: collections.ChainMap({}, {0: event}), first_item)
place("UserDict", lambda event: UserDict({0: event}), first_item)
place("Counter", lambda event: collections.Counter([event]), first_key)
place("namedtuple", lambda event: NamedPair(event, 1), first_item)
place("mappingproxy", lambda event: types.MappingProxyType({0: event}), first_item)
place("heap", lambda event: heapq.nsmallest(2, [(2, event), (1, None)]), lambda made: heapq.nlargest(1, made)[0][1])
place("SimpleQueue", lambda event: filled(queue.SimpleQueue(), event), lambda made: made.get_nowait())
place("Queue of threads", lambda event: filled(queue.Queue(), event), lambda made: made.get_nowait())
place("PriorityQueue", lambda event: filled(queue.PriorityQueue(), (1, event)), lambda made: made.get_nowait()[1])
place("Queue of asyncio", lambda event: filled(asyncio.Queue(), event), lambda made: made.get_nowait())
place("slice", lambda event: slice(event), lambda made: made.stop)
place("generic alias", lambda event: types.GenericAlias(list, (event,)), lambda made: made.__args__[0])

# Views and iterators
place("values of a dict", lambda event: {0: event}.values(), first_key)
place("items of a dict", lambda event: {0: event}.items(), lambda made: next(iter(made))[1])
place("keys of a dict", lambda event: {event: 0}.keys(), first_key)
place("mapping of the keys of a dict", lambda event: {0: event}.keys(), lambda made: made.mapping[0])
place("values of an OrderedDict", lambda event: OrderedDict({0: event}).values(), first_key)
place("iterator of values", lambda event: iter({0: event}.values()), next)
place("iterator of items", lambda event: iter({0: event}.items()), lambda made: next(made)[1])
place("iterator of an OrderedDict", lambda event: iter(OrderedDict({event: 0})), next)
place("iterator of a list", lambda event: iter([event]), next)
place("reversed list", lambda event: reversed([event]), next)
place("iterator of a tuple", lambda event: iter((event,)), next)
place("iterator of a set", lambda event: iter({event}), next)
place("iterator of a deque", lambda event: iter(deque([event])), next)
place("reversed deque", lambda event: reversed(deque([event])), next)
place("iterator of a sequence", lambda event: iter(collections.UserList([event])), next)
place("iterator of calls", lambda event: iter(with_closure(event), None), next)
place("enumerate", lambda event: enumerate([event]), lambda made: next(made)[1])
place("zip", lambda event: zip([event], strict=True), lambda made: next(made)[0])
place("zip that has begun", lambda event: begun(zip([0, event], [0, 1], strict=True)), lambda made: next(made)[0])
place("map", lambda event: map(with_default(None), [event]), next)
place("filter", lambda event: filter(None, [event]), next)
place("repeat", lambda event: itertools.repeat(event), next)
place("cycle", lambda event: begun(itertools.cycle([event])), next)
place("chain", lambda event: itertools.chain([], [event]), next)
place("chain of an iterable", lambda event: itertools.chain.from_iterable([[event]]), next)
place("islice", lambda event: itertools.islice([0, event], 1, None), next)
place("accumulate", lambda event: itertools.accumulate([event]), next)
place("compress", lambda event: itertools.compress([event], [1]), next)
place("dropwhile", lambda event: itertools.dropwhile(lambda _: False, [event]), next)
place("takewhile", lambda event: itertools.takewhile(lambda _: True, [event]), next)
place("filterfalse", lambda event: itertools.filterfalse(lambda _: False, [event]), next)
place("starmap", lambda event: itertools.starmap(with_closure(event), [()]), next)
place("groupby", lambda event: itertools.groupby([event]), lambda made: next(made)[0])
place("group of a groupby", lambda event: next(itertools.groupby([event]))[1], next)
place("pairwise", lambda event: itertools.pairwise([0, event]), lambda made: next(made)[1])
place("product", lambda event: itertools.product([event]), lambda made: next(made)[0])
place("permutations", lambda event: itertools.permutations([event]), lambda made: next(made)[0])
place("combinations", lambda event: itertools.combinations([event], 1), lambda made: next(made)[0])
place("zip_longest", lambda event: itertools.zip_longest([1, 2], [1], fillvalue=event), lambda made: second(made)[1])
place("tee", lambda event: itertools.tee([event])[0], next)
place("tee that another has passed", lambda event: passed_by(itertools.tee(iter([event]))), next)
place("count", lambda event: itertools.count(give(Number(1), event), 0.5), lambda made: next(made).event)

# Functions and what is made of them
place("closure", with_closure, called)
place("default argument", with_default, called)
place("keyword-only default", with_keyword_default, called)
place("attribute of a function", with_attribute, attribute)
place("annotation", with_annotation, lambda made: made.__annotations__["kept"])
place("constant of a code object", code_with_constant, lambda made: made.co_consts[0])
place("cell", types.CellType, lambda made: made.cell_contents)
place("partial", lambda event: functools.partial(with_default(0), event), called)
place("keyword of a partial", lambda event: functools.partial(with_default(0), kept=event), called)
place("partial of a method", lambda event: functools.partial(event.set), lambda made: made.func.__self__)
place("bound method", lambda event: event.set, lambda made: made.__self__)
place("bound method of an owner", lambda event: Plain(event).set, lambda made: made.__self__.event)
place("method of a list", lambda event: [event].pop, called)
place("method wrapper", lambda event: event.__str__, lambda made: made.__self__)
place("super", lambda event: super(Plain, Plain(event)), lambda made: made.__self__.event)
place("staticmethod", lambda event: staticmethod(with_closure(event)), called)
place("classmethod", lambda event: classmethod(with_closure(event)), lambda made: made.__func__())
place("property", lambda event: property(with_closure(event)), lambda made: made.fget())
place("partialmethod", lambda event: functools.partialmethod(with_closure(event)), lambda made: made.func())
place("lru_cache", in_a_cache, lambda made: made(1))
place("singledispatch", lambda event: functools.singledispatch(lambda _, it=event: it), lambda made: made(0))
place("cmp_to_key", lambda event: functools.cmp_to_key(lambda a, b: 0)(event), lambda made: made.obj)
place("wrapper", lambda event: functools.wraps(with_closure(event))(lambda: 0), lambda made: made.__wrapped__())
place("methodcaller", lambda event: operator.methodcaller("get", 0, event), lambda made: made({}))

# Objects
place("attribute", Plain, attribute)
place("dict of an object", lambda event: vars(Plain(event)), operator.itemgetter("event"))
place("slot", Slotted, attribute)
place("slot of a dataclass", SlottedData, attribute)
place("frozen dataclass", FrozenData, attribute)
place("copy of an object", lambda event: copy.copy(Plain(event)), attribute)
place("namespace", lambda event: types.SimpleNamespace(event=event), attribute)
place("property of an object", WithProperty, attribute)
place("cached property", WithProperty, lambda made: made.cached)
place("str with an attribute", lambda event: give(Text("text"), event), attribute)
place("int with an attribute", lambda event: give(Number(1), event), attribute)
place("bytearray with an attribute", lambda event: give(Octets(b"text"), event), attribute)
place("array with an attribute", lambda event: give(Numbers("i", [1]), event), attribute)
place("tuple with an attribute", lambda event: give(Pair((1,)), event), attribute)
place("dict with an attribute", lambda event: give(Mapping(), event), attribute)
place("memoryview", lambda event: memoryview(give(Octets(b"text"), event)), lambda made: made.obj.event)
place("slice of a memoryview", lambda event: memoryview(give(Octets(b"ab"), event))[1:], lambda made: made.obj.event)
place("BytesIO with an attribute", lambda event: give(type("Bytes", (io.BytesIO,), {})(), event), attribute)
place("raw of a buffered reader", lambda event: io.BufferedReader(give(Raw(), event)), lambda made: made.raw.event)
place("module that nobody imported", lambda event: give(types.ModuleType("local"), event), attribute)
place("attribute of a class", class_with_attribute, lambda made: made.kept)
place("method of a class", class_with_method, lambda made: made().get())
place("method of an object of a local class", lambda event: class_with_method(event)(), lambda made: made.get())
place("attribute of a metaclass", class_of_a_metaclass, lambda made: type(made).kept)

# Running code and what is left of it
place("generator", yielding, second)
place("generator that has begun", lambda event: begun(yielding(event)), next)
place("generator behind a yield from", lambda event: begun(delegating(event)), next)
place("generator in a loop", lambda event: begun(looping(event)), next)
place("generator expression", lambda event: (each for each in [event]), next)
place("async generator", yielding_later, lambda made: result_of(made.__anext__()))
place("coroutine", lambda event: Closing(returning(event)), lambda made: result_of(made.coroutine))
place("exception", ValueError, lambda made: made.args[0])
place("StopIteration", StopIteration, lambda made: made.value)
place("context of an exception", raised_meanwhile, lambda made: made.__context__.args[0])
place("exception group", lambda event: ExceptionGroup("", [ValueError(event)]), lambda made: made.exceptions[0].args[0])
place("exception with an attribute", lambda event: give(Error(), event), attribute)
place("traceback of an exception", raised, lambda made: last_frame(made).f_locals["kept"])
place("frame that has ended", lambda event: last_frame(raised(event)), lambda made: made.f_locals["kept"])
place("context", context_with, lambda made: made[VARIABLE])
place("copy of a context", lambda event: context_with(event).copy(), lambda made: made[VARIABLE])
place("larger context", lambda event: context_after(context_with(event)), lambda made: made[VARIABLE])
place("token of a context variable", token_for, lambda made: made.old_value)
place("default of a context variable", lambda event: contextvars.ContextVar("", default=event), lambda made: made.get())

# Futures and their like
place("result of a future", done_future, lambda made: made.result())
place("exception of a future", failed_future, lambda made: made.exception().args[0])
place("attribute of a future", future_with_attribute, attribute)
place(
    "lock of a condition", lambda event: asyncio.Condition(give(asyncio.Lock(), event)), lambda made: made._lock.event
)


@holder
def callback_of_a_future(event: Any, stack: ExitStack) -> Wake:
    future = asyncio.get_running_loop().create_future()
    future.add_done_callback(lambda _: event.set())
    return lambda: future.set_result(None)


# What is found weakly is there as long as the task itself keeps it


@holder
def weak_reference(event: Any, stack: ExitStack) -> Wake:
    reference = weakref.ref(event)
    return lambda: reference().set()  # type: ignore[union-attr]


@holder
def weak_reference_with_a_callback(event: Any, stack: ExitStack) -> Wake:
    reference = weakref.ref(event, id)
    return lambda: reference().set()  # type: ignore[union-attr]


@holder
def weak_reference_of_a_subclass(event: Any, stack: ExitStack) -> Wake:
    class Reference(weakref.ref[Any]):
        __slots__ = ()

    reference = Reference(event)
    return lambda: reference().set()


@holder
def weak_proxy(event: Any, stack: ExitStack) -> Wake:
    proxy = weakref.proxy(event)
    return lambda: proxy.set()


@holder
def weak_method(event: Any, stack: ExitStack) -> Wake:
    method = weakref.WeakMethod(event.set)
    return lambda: method()()  # type: ignore[misc]


@holder
def weak_set(event: Any, stack: ExitStack) -> Wake:
    registry = weakref.WeakSet([event])
    return lambda: [each.set() for each in registry]


@holder
def weak_values(event: Any, stack: ExitStack) -> Wake:
    registry = weakref.WeakValueDictionary({0: event})
    return lambda: registry[0].set()


@holder
def weak_keys(event: Any, stack: ExitStack) -> Wake:
    registry = weakref.WeakKeyDictionary({event: 0})
    return lambda: [each.set() for each in registry]


@holder
def finalizer(event: Any, stack: ExitStack) -> Wake:
    box = [Plain()]
    finalize = weakref.finalize(box[0], event.set)
    stack.callback(finalize.detach)
    return box.clear


# Held by the process until the stack is closed


@holder
def global_of_a_module(event: Any, stack: ExitStack) -> Wake:
    globals()["EVENT"] = event
    stack.callback(globals().pop, "EVENT", None)
    return lambda: globals()["EVENT"].set()


@holder
def attribute_of_a_module(event: Any, stack: ExitStack) -> Wake:
    sys.modules["only_for_tests"] = give(types.ModuleType("only_for_tests"), event)
    stack.callback(sys.modules.pop, "only_for_tests", None)
    return lambda: sys.modules["only_for_tests"].event.set()


@holder
def attribute_of_a_global_class(event: Any, stack: ExitStack) -> Wake:
    Plain.kept = event  # type: ignore[attr-defined]
    stack.callback(delattr, Plain, "kept")
    return lambda: Plain.kept.set()  # type: ignore[attr-defined]


@holder
def attribute_of_the_loop(event: Any, stack: ExitStack) -> Wake:
    loop: Any = asyncio.get_running_loop()
    loop.kept = event
    stack.callback(delattr, loop, "kept")
    return lambda: loop.kept.set()


@holder
def exception_handler_of_the_loop(event: Any, stack: ExitStack) -> Wake:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda *_: event.set())
    stack.callback(loop.set_exception_handler, None)
    return lambda: loop.call_exception_handler({"message": "wake"})


@holder
def signal_handler(event: Any, stack: ExitStack) -> Wake:
    before = signal.signal(signal.SIGUSR1, lambda *_: event.set())
    stack.callback(signal.signal, signal.SIGUSR1, before)
    return lambda: signal.raise_signal(signal.SIGUSR1)


@holder
def trace_function(event: Any, stack: ExitStack) -> Wake:
    def trace(frame: types.FrameType, what: str, argument: object) -> None:
        if frame.f_code is only_traced.__code__:
            event.set()

    stack.callback(sys.settrace, sys.gettrace())
    sys.settrace(trace)
    return only_traced


def only_traced() -> None: ...


@holder
def profile_function(event: Any, stack: ExitStack) -> Wake:
    def profile(frame: types.FrameType, what: str, argument: object) -> None:
        if frame.f_code is only_traced.__code__:
            event.set()

    stack.callback(sys.setprofile, sys.getprofile())
    sys.setprofile(profile)
    return only_traced


@holder
def callback_of_the_collector(event: Any, stack: ExitStack) -> Wake:
    armed: list[bool] = []

    def callback(phase: str, info: object) -> None:
        if armed:
            event.set()

    gc.callbacks.append(callback)
    stack.callback(gc.callbacks.pop, len(gc.callbacks) - 1)

    def collect() -> None:
        armed.append(True)
        gc.collect()

    return collect


@holder
def thread_local(event: Any, stack: ExitStack) -> Wake:
    local = threading.local()
    local.event = event
    return lambda: local.event.set()


@holder
def frame_of_another_thread(event: Any, stack: ExitStack) -> Wake:
    loop = asyncio.get_running_loop()
    given: queue.SimpleQueue[Any] = queue.SimpleQueue()
    orders: queue.SimpleQueue[bool] = queue.SimpleQueue()
    taken = threading.Event()

    def body() -> None:
        kept = given.get()
        taken.set()
        if orders.get():
            loop.call_soon_threadsafe(kept.set)

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    given.put(event)
    taken.wait()
    stack.callback(thread.join)
    stack.callback(orders.put, False)
    return lambda: orders.put(True)


@holder
def running_generator_of_another_thread(event: Any, stack: ExitStack) -> Wake:
    loop = asyncio.get_running_loop()
    orders: queue.SimpleQueue[bool] = queue.SimpleQueue()
    given = [event]
    taken = threading.Event()

    def generator() -> Iterator[None]:
        kept = given.pop()
        taken.set()
        if orders.get():
            loop.call_soon_threadsafe(kept.set)
        yield

    thread = threading.Thread(target=list, args=(generator(),), daemon=True)
    thread.start()
    taken.wait()
    stack.callback(thread.join)
    stack.callback(orders.put, False)
    return lambda: orders.put(True)


@holder
def call_soon_threadsafe(event: Any, stack: ExitStack) -> Wake:
    """Another thread that calls once and has nothing else: what it has called with is on its way."""
    loop = asyncio.get_running_loop()
    orders: queue.SimpleQueue[bool] = queue.SimpleQueue()
    wake = functools.partial(loop.call_soon_threadsafe, event.set)

    def body(call: Callable[[], object]) -> None:
        if orders.get():
            with suppress(RuntimeError):
                call()

    thread = threading.Thread(target=body, args=(wake,), daemon=True)
    thread.start()
    stack.callback(thread.join)
    stack.callback(orders.put, False)
    return lambda: orders.put(True)


@holder
def timer(event: Any, stack: ExitStack) -> Wake:
    stack.callback(asyncio.get_running_loop().call_later(0.1, event.set).cancel)
    return lambda: None
