"""The named things that an object holds itself, in its `__dict__` or in slots, read without running anybody's code."""

from __future__ import annotations

import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from taskscope._diagnosis.awaitables import UNKNOWN, class_attribute, is_exactly

_mro: Final[Callable[[type], tuple[type, ...]]] = type.__dict__["__mro__"].__get__
_namespace: Final[Callable[[type], Any]] = type.__dict__["__dict__"].__get__


class _Layout(NamedTuple):
    """Where objects of a class keep what they hold.

    Attributes:
        kind: The class.
        attributes: What reads the `__dict__` that Python itself gives to its objects, None where they have none.
        slots: What reads the slots, by their names.
    """

    kind: weakref.ref[type]
    attributes: Any
    slots: tuple[tuple[str, Any], ...]


# Of classes that were asked for before, by their ids: a metaclass can have a hash of its own.
_known: dict[int, _Layout] = {}
_MOST_KNOWN: Final = 10_000


def own_fields(obj: object, *names: str) -> Iterator[tuple[str, object]]:
    """An object's attributes with their names; with names given, those of them that it has."""
    for name, value in _all(obj):
        if not names or name in names:
            yield name, value


def own_values(obj: object) -> list[object]:
    """The same without the names."""
    return [value for _, value in _all(obj)]


def _all(obj: object) -> list[tuple[str, object]]:
    layout = _layout_of(type(obj))
    attributes: Any = None if layout.attributes is None else layout.attributes(obj)
    found: list[tuple[str, object]] = list(attributes.items()) if is_exactly(attributes, dict) else []
    for name, slot in layout.slots:
        try:
            found.append((name, slot.__get__(obj, type(obj))))
        except AttributeError:  # one that was never filled
            continue
    return found


def _layout_of(kind: type) -> _Layout:
    known = _known.get(id(kind))
    if known is not None and known.kind() is kind:
        return known
    attributes = class_attribute(kind, "__dict__")
    is_pythons = attributes is not UNKNOWN and type(attributes) is types.GetSetDescriptorType
    slots = tuple(
        (name, value)
        for base in _mro(kind)
        for name, value in list(_namespace(base).items())
        if type(value) is types.MemberDescriptorType and type(name) is str
    )
    layout = _Layout(weakref.ref(kind), attributes.__get__ if is_pythons else None, slots)
    if len(_known) < _MOST_KNOWN:
        _known[id(kind)] = layout
    return layout
