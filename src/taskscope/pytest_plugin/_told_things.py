"""What was found beside tasks, in words that are the same for all that comes from one place."""

from __future__ import annotations

from typing import Any

from taskscope._render.findings import HEADINGS, STACKS


def what_it_is(thing: dict[str, Any]) -> str:
    """The sort of a thing. Not which one it is: each has a number, or a time left, of its own."""
    return HEADINGS[thing["kind"]]


def place_of(thing: dict[str, Any]) -> dict[str, Any] | None:
    """The frame that started it; where that is not known, where it stands or is defined. None for neither."""
    found: dict[str, Any] | None = thing["spawn_site"]
    return thing["stack"][-1] if found is None and thing["stack"] else found


def how_it_is_there(thing: dict[str, Any]) -> str:
    """What that frame has to do with it."""
    if thing["spawn_site"] is None:
        return STACKS.get(thing["kind"], "at")
    return "spawned at" if thing["task"] is not None else "started at"
