"""Which objects can be known only to those who hold a reference to them."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from typing import Any, Final, cast

_HEAP_TYPE: Final = 1 << 9
_flags: Final[Callable[[type], int]] = type.__dict__["__flags__"].__get__
_mro: Final[Callable[[type], tuple[type, ...]]] = type.__dict__["__mro__"].__get__
_name: Final[Callable[[type], str]] = type.__dict__["__name__"].__get__
_namespace: Final[Callable[[type], Any]] = type.__dict__["__dict__"].__get__
_globals: Final[Callable[[object], dict[str, object]]] = vars(types.ModuleType)["__dict__"].__get__

class_of: Final = cast("Callable[[object], type[Any]]", type)
"""The class of an object, without asking the object."""

# Modules whose C code remembers objects by their addresses.
_KEEPERS_OF_ADDRESSES: Final = frozenset({"_ctypes", "ctypes", "_curses_panel"})

# Their `__del__` tells of what was not closed, and does nothing else.
_WARNING_ONLY: Final = frozenset({"anyio", "trio"})

# What a class written in C has in its namespace, and one written in Python has not, save for two names.
_OF_C: Final = (
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    types.ClassMethodDescriptorType,
    types.GetSetDescriptorType,
)
_GIVEN_TO_ALL: Final = ("__dict__", "__weakref__")


def is_transparent(kind: type) -> bool:
    """Whether an object of this class can be known only to those who hold a reference to it.

    C code can keep addresses, which no count shows. Python's own types do not, save for a few; of others only classes
    written in Python are known not to. Nor is it so where a `__del__` of a user's does what it likes in the end.
    """
    return all(base is object or (_is_known(base) and not _has_finalizer(base)) for base in _mro(kind))


def _is_known(kind: type) -> bool:
    module = module_of(kind)
    if module is None or _name(kind) == "PyCapsule" or module.partition(".")[0] in _KEEPERS_OF_ADDRESSES:
        return False
    in_c = _is_written_in_c(kind)
    if module.partition(".")[0] in sys.stdlib_module_names:
        # Classes of Rust say that they are builtins, unless told better. Python's own are no heap types.
        return not (in_c and module == "builtins" and _flags(kind) & _HEAP_TYPE)
    return not in_c and (module == "__main__" or _is_of_python_file(module))


def _has_finalizer(kind: type) -> bool:
    """Whether a class has a `__del__` of its own that can wake a task."""
    package = package_of(kind)
    is_library = package in sys.stdlib_module_names or package in _WARNING_ONLY
    return "__del__" in _namespace(kind) and not is_library


def module_of(kind: type) -> str | None:
    """The module that a class says it is from, without asking its metaclass."""
    if not _flags(kind) & _HEAP_TYPE:
        found: object = getattr(kind, "__module__", None)  # from its name in C
    else:
        found = _namespace(kind).get("__module__")
    return found if type(found) is str else None


def is_named(kind: type, module: str, name: str) -> bool:
    """Whether it is the class of that name, also where its module has been imported anew since and has another one."""
    return module_of(kind) == module and _name(kind) == name


def package_of(kind: type) -> str:
    """The outermost package of that module, empty where it says nothing."""
    return (module_of(kind) or "").partition(".")[0]


def ids_of_namespaces() -> set[int]:
    """The ids of the dicts in which modules have what they define."""
    # Without a call for each of them: every walk asks, and there are hundreds.
    modules = [module for module in list(sys.modules.values()) if issubclass(class_of(module), types.ModuleType)]
    return set(map(id, map(_globals, modules)))


def _is_module(obj: object) -> bool:
    return issubclass(class_of(obj), types.ModuleType)


def _is_of_python_file(name: str) -> bool:
    module = sys.modules.get(name)
    if not _is_module(module):
        return False
    file = _globals(module).get("__file__")
    return type(file) is str and file.endswith((".py", ".pyc"))


def _is_written_in_c(kind: type) -> bool:
    """Whether a class itself is written in C, whatever module it says it is from."""
    if not _flags(kind) & _HEAP_TYPE:
        return True
    return any(_is_of_c(kind, name, value) for name, value in _namespace(kind).items())


def _is_of_c(kind: type, name: str, value: Any) -> bool:
    if any(type(value) is known for known in _OF_C):
        return value.__objclass__ is kind and name not in _GIVEN_TO_ALL
    return type(value) is types.BuiltinFunctionType and value.__self__ is kind
