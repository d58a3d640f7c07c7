"""The `__dict__` of an object, where the object has one already and the garbage collector does not say so.

Most objects keep their attributes in themselves and get a `__dict__` only when somebody asks for it. CPython 3.13 then
goes on to tell the collector of the attributes, but not of the dict, though whoever has the dict has the attributes.
To ask for the dict would be to make it, so it is looked up where this one version of CPython keeps it.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

_MANAGED_DICT: Final = 1 << 4
_INLINE_VALUES: Final = 1 << 2
_flags: Final[Callable[[type], int]] = type.__dict__["__flags__"].__get__


class _Plain:
    def __init__(self) -> None:
        self.attribute = [0]


def _are_hidden() -> bool:
    plain = _Plain()
    attributes = vars(plain)
    return not any(ref is attributes for ref in gc.get_referents(plain))


DICTS_ARE_HIDDEN: Final = _are_hidden()
"""Whether this version of Python has such dicts at all."""

if DICTS_ARE_HIDDEN or TYPE_CHECKING:
    import ctypes

    _OFFSET: Final = 3 * ctypes.sizeof(ctypes.c_void_p)


def may_hide_dict(kind: type) -> bool:
    """Whether objects of a class can have such a dict."""
    return _flags(kind) & _MANAGED_DICT > 0 and _flags(kind) & _INLINE_VALUES > 0


def address_of_dict(obj: object) -> int:
    """Where the `__dict__` of an object of such a class is, 0 if it has none so far."""
    return ctypes.c_void_p.from_address(id(obj) - _OFFSET).value or 0


def dict_of(obj: object) -> Any:
    """The `__dict__` of an object that has one."""
    return ctypes.py_object.from_address(id(obj) - _OFFSET).value


def _are_where_expected() -> bool:
    plain = _Plain()
    if sys.version_info[:2] != (3, 13) or not may_hide_dict(_Plain) or address_of_dict(plain):
        return False
    attributes = vars(plain)
    return address_of_dict(plain) == id(attributes)


DICTS_CAN_BE_SEEN: Final = not DICTS_ARE_HIDDEN or _are_where_expected()
"""Whether every `__dict__` can be found, if not by the collector then here."""
