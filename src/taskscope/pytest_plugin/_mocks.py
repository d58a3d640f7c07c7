"""What mocks note of their calls: the arguments are those of whoever has called them, not of who made them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from taskscope._diagnosis.opaque import class_of, is_named
from taskscope._site import MOCKS

_mro: Final = type.__dict__["__mro__"].__get__
_parts_of_tuple: Final[Callable[[Any], Iterator[object]]] = vars(tuple)["__iter__"]
_parts_of_list: Final[Callable[[Any], Iterator[object]]] = vars(list)["__iter__"]


def is_call(kind: type) -> bool:
    """Whether its objects are notes of one call each."""
    return _is_of_mocks(kind, "_Call")


def is_mock(kind: type) -> bool:
    return _is_of_mocks(kind, "NonCallableMock")


def given_in(value: Any) -> list[object]:
    """The arguments in a mock's notes of one call, or of many. Of anything else the value itself."""
    kind = class_of(value)
    if is_call(kind):
        return [*_parts_of_tuple(value)]
    if _is_of_mocks(kind, "_CallList"):
        return [part for call in _parts_of_list(value) for part in given_in(call)]
    return [value]


def attributes_of_mock(own: Mapping[str, Any], names: Iterable[str]) -> Iterator[object]:
    """Those attributes of a mock's that have these names.

    own: its `__dict__`, where it has its notes, and the mocks that it has as attributes, by other names.
    """
    children: Any = own.get("_mock_children")
    for name in names:
        if f"_mock_{name}" in own:
            yield own[f"_mock_{name}"]
        if class_of(children) is dict and name in children:
            yield children[name]


def _is_of_mocks(kind: type, name: str) -> bool:
    return any(is_named(base, module, name) for base in _mro(kind) for module in MOCKS)
