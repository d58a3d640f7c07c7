"""Who closes, or has just closed, resources that scopes know of. What is seen there is told by `_closed_in_use`."""

from __future__ import annotations

import weakref
from collections import deque
from typing import Final

from taskscope._table import AnyTask

closers: Final[weakref.WeakKeyDictionary[AnyTask, deque[int]]] = weakref.WeakKeyDictionary()
"""Tasks that have closed a resource, or are at it, with the ids of what they have closed last."""
