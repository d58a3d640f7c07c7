"""What a task of Trio's waits for: the primitive of Trio or of AnyIO at the end of its await chain."""

from __future__ import annotations

import math
import types
from typing import Any, Final

from taskscope._diagnosis.folding import is_internal
from taskscope._diagnosis.packages import ANYIO, TRIO, function_in
from taskscope._diagnosis.stack import Chain, Link
from taskscope._diagnosis.trio_deadlines import deadlines_of, own_deadline
from taskscope._diagnosis.trio_primitives import PRIMITIVES, TrioPrimitive
from taskscope._diagnosis.trio_state import Waiting
from taskscope._diagnosis.trio_tasks import can_go_on, seconds_to
from taskscope._diagnosis.wait_point import WaitPoint, with_ending
from taskscope._report import Verdict

_SLEEP: Final = ("_timeouts", "sleep_until")


def trio_wait_point(task: Any, chain: Chain) -> WaitPoint | None:
    """Where a task waits, None for one that could go on or of which nothing is known. Never raises.

    chain: its await chain as it is now.
    """
    try:
        return None if can_go_on(task) or not chain.links else _wait_point(task, chain)
    except Exception:  # what is looked at can be broken in any way
        return None


def trio_verdict(task: Any, chain: Chain) -> Verdict:
    """As `verdict` of any task."""
    if can_go_on(task):
        return "runnable"
    is_timed = any(function_in(TRIO, link.code) == _SLEEP for link in _machinery(chain))
    return "sleeping" if is_timed and own_deadline(task) < math.inf else "blocked"


def _wait_point(task: Any, chain: Chain) -> WaitPoint:
    links = _machinery(chain)
    known = [(link, primitive) for link in links if (primitive := _primitive(link)) is not None]
    if not known:
        return WaitPoint("reschedule", _innermost_function(chain), _with_deadline(task, "a bare wait_task_rescheduled"))
    link, primitive = known[0]
    waiting = Waiting(task, [inner.holder for inner in links[links.index(link) :]])
    detail = _detail(primitive, waiting)
    if primitive.kind != "timer":
        detail = _with_deadline(task, detail)
    tasks = () if primitive.awaited is None else tuple(primitive.awaited(waiting))
    return WaitPoint(primitive.kind, primitive.name_for(waiting), detail, link.holder, tasks)


def _machinery(chain: Chain) -> list[Link]:
    """The frames of Trio's and AnyIO's at the end of a chain, outermost first."""
    found: list[Link] = []
    for link in reversed(chain.links):
        if function_in(TRIO, link.code) is None and function_in(ANYIO, link.code) is None:
            break
        found.append(link)
    return found[::-1]


def _primitive(link: Link) -> TrioPrimitive | None:
    for package in (TRIO, ANYIO):
        function = function_in(package, link.code)
        if function is not None:
            return PRIMITIVES.get((package, *function))
    return None


def _detail(primitive: TrioPrimitive, waiting: Waiting) -> str | None:
    try:
        return primitive.state(waiting)
    except Exception:
        return None


def _innermost_function(chain: Chain) -> str:
    """What somebody has made from Trio's bare rescheduling is known by its own function: `Channel.send`."""
    own = [link for link in chain.links if not is_internal(link.code) and type(link.holder) is not types.CodeType]
    return (own or chain.links)[-1].frame.function


def _with_deadline(task: Any, detail: str | None) -> str | None:
    """The detail, with the seconds after which the nearest deadline round the wait ends it."""
    deadline = min(deadlines_of(task), default=math.inf)
    left = None if deadline == math.inf else seconds_to(deadline, task)
    return detail if left is None else with_ending(detail, left)
