"""A method of one event loop, with one in its place that takes note of each call."""

from __future__ import annotations

import asyncio
import functools
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any, final


@final
class LoopMethod:
    """Put there as an attribute of the loop, and taken away again; a loop that has no such method is let be."""

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str) -> None:
        self._loop = weakref.ref(loop)
        self._name = name
        self._note: Callable[..., None] | None = None
        self._noting: Any = None
        self._before: Any = None

    def put(self, note: Callable[..., None]) -> None:
        """note: called with what the method has returned, and with its arguments. Let go of when it is taken away."""
        self._note = note
        attributes = self._attributes()
        method = getattr(self._loop(), self._name, None)
        if attributes is None or method is None or (self._noting is not None and method is self._noting):
            return
        self._before = attributes.get(self._name)
        self._noting = attributes[self._name] = self._noting_calls(method)

    def take(self) -> None:
        self._note = None
        attributes = self._attributes()
        if attributes is None or self._noting is None or attributes.get(self._name) is not self._noting:
            return  # somebody calls ours from theirs: theirs stays, and ours passes everything through
        if self._before is None:
            del attributes[self._name]
        else:
            attributes[self._name] = self._before
        self._noting = self._before = None

    def is_there(self) -> bool:
        attributes = self._attributes()
        return attributes is not None and self._noting is not None and attributes.get(self._name) is self._noting

    def _attributes(self) -> dict[str, Any] | None:
        """The loop's own. None where it is gone, or can have none."""
        return getattr(self._loop(), "__dict__", None)

    def _noting_calls(self, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def noting(*args: Any, **kwargs: Any) -> Any:
            result = method(*args, **kwargs)
            note = self._note
            if note is not None:
                with suppress(Exception):  # that a note fails is no reason for the call to fail
                    note(result, *args)
            return result

        return noting
