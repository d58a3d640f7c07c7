"""What stands for a task: whoever leads to one of these has the task, or can end it."""

from __future__ import annotations

import gc
import types
from typing import Any, Final

from taskscope._diagnosis.opaque import class_of, module_of
from taskscope._diagnosis.stack import Link, task_chain
from taskscope._table import AnyTask

# Objects of these modules and packages only wake who waits for them: a task that waits for a fixture's queue is not the
# fixture's.
_WAITED_FOR: Final = frozenset({"asyncio.locks", "asyncio.queues", "anyio", "trio"})

_HOLDERS: Final = (types.CoroutineType, types.GeneratorType, types.AsyncGeneratorType)

_mro: Final = type.__dict__["__mro__"].__get__
_name: Final = type.__dict__["__name__"].__get__


def traces(task: AnyTask, instance: object | None = None) -> set[int]:
    """Ids of a task, of its coroutines, and of the objects whose methods they are.

    instance: of the test's class. A function that the test has in itself is no method of that.
    """
    found = {id(task)}
    for link in task_chain(task).links:
        found.add(id(link.holder))
        obj = _object_of_method(link, instance)
        if obj is not None:
            found.add(id(obj))
    return found


def _object_of_method(link: Link, instance: object | None) -> object | None:
    """The object whose method a coroutine is, or in whose method the function was made that it is.

    It is looked for among the things that the coroutine holds, the first of which are its arguments. (`f_locals` would
    hold them all for as long as the coroutine lives, before Python 3.13.)
    """
    if type(link.holder) not in _HOLDERS:
        return None
    *outer, own = map(class_in, link.code.co_qualname.split(".<locals>."))
    if not own and not any(outer):
        return None
    for held in gc.get_referents(link.holder):
        obj = contents_of(held) if type(held) is types.CellType else held
        kind: Any = obj if issubclass(class_of(obj), type) else class_of(obj)  # a class method's is the class
        names = {_name(base) for base in _mro(kind) if not _is_waited_for(base)}
        if own in names or (obj is not instance and not names.isdisjoint(outer)):
            return obj
    return None


def _is_waited_for(kind: type) -> bool:
    module = module_of(kind) or ""
    return module in _WAITED_FOR or module.partition(".")[0] in _WAITED_FOR


def class_in(qualname: str) -> str:
    """The class that a function is defined in, "" where it is in none."""
    return qualname.rpartition(".")[0].rpartition(".")[2]


def contents_of(cell: types.CellType) -> object | None:
    """What a variable of a closure has in it; None also where that has no value yet."""
    try:
        contents: object = cell.cell_contents
        return contents
    except ValueError:  # empty
        return None
