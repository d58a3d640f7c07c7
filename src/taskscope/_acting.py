"""What a scope does with its report: tell, and raise, warn or log as its policy says."""

from __future__ import annotations

import asyncio
import logging
import warnings
from typing import TYPE_CHECKING

from taskscope._backends import _asyncio as backend
from taskscope._closing import Closing
from taskscope._errors import ScopeTimeoutError, TaskLeakError, TaskLeakWarning
from taskscope._frames import frame_at
from taskscope._policy import OnReport, Policy
from taskscope._render.summary import summary
from taskscope._report import Report

if TYPE_CHECKING:
    from taskscope._scope import TaskScope

logger = logging.getLogger("taskscope")

RENDER_SECONDS = 1.0
"""How long the text of a report may take. After that a summary is used, for which no source has to be read."""


async def act(
    scope: TaskScope, report: Report, policy: Policy, closing: Closing, exc: BaseException | None, *, timed_out: bool
) -> None:
    """Tells about a report and raises what has to leave the scope, if the body raised nothing itself.

    exc: what the body raised.
    timed_out: exc, if any, is only the cancellation with which the scope's own timeout ended the body.
    """
    leaving: BaseException | None = None if timed_out else exc
    if leaving is None:
        leaving = closing.cancelled_by
    failures: list[BaseException] = []
    if policy.on_report is not None and _has_anything_to_tell(report):
        _call(policy.on_report, report, failures)
    if report.tracking_lost is not None:
        logger.warning("scope %r: %s", report.scope, report.tracking_lost)
    has_leaks = bool(closing.leaks)
    if has_leaks and policy.on_leak != "ignore":
        await _act_on_leaks(scope, report, policy, closing, leaving, failures)
    if leaving is not None:
        _report_failures(failures, leaving)
        if leaving is exc:
            return  # it is on its way already
        raise leaving
    if timed_out:
        error = ScopeTimeoutError(report)
        _report_failures(failures, error)
        raise error from exc
    if has_leaks and policy.on_leak == "raise":
        leak = TaskLeakError(report)
        _report_failures(failures, leak)
        raise leak
    if failures:
        _report_failures(failures[1:], failures[0])
        raise failures[0]


async def _act_on_leaks(
    scope: TaskScope,
    report: Report,
    policy: Policy,
    closing: Closing,
    leaving: BaseException | None,
    failures: list[BaseException],
) -> None:
    on_leak = policy.on_leak
    if not isinstance(on_leak, str):
        _call(on_leak, report, failures)
    if leaving is not None:
        text = await _text(report, closing)
        leaving.add_note(text)
        log_leak(report, text)
    elif on_leak == "log":
        log_leak(report, await _text(report, closing))
    elif on_leak == "warn":
        text = await _text(report, closing)
        place = frame_at(*scope._opened_at)  # pyright: ignore[reportPrivateUsage]
        try:
            warnings.warn_explicit(TaskLeakWarning(text), TaskLeakWarning, place.file, place.line)
        except Warning as error:  # the user's filters turn it into an error
            failures.append(error)


async def _text(report: Report, closing: Closing) -> str:
    """The report as text. The source lines are read in a thread: nothing of ours may block the loop."""
    texts: list[str | None] = []

    async def render() -> None:
        deadline = asyncio.get_running_loop().time() + RENDER_SECONDS
        texts.append(await backend.off_loop(report.format, deadline))

    await closing.guarded(render(), shield=True)
    return (texts[0] if texts else None) or summary(report)


def log_leak(report: Report, text: str) -> None:
    """One record under the logger `taskscope`, with the report as a dict in its attribute `taskscope_report`."""
    logger.error("%s", text, extra={"taskscope_report": report.to_dict()})


def _call(callback: OnReport, report: Report, failures: list[BaseException]) -> None:
    try:
        callback(report)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # pytest.fail and the like are no Exceptions
        failures.append(error)


def _report_failures(failures: list[BaseException], leaving: BaseException) -> None:
    for error in failures:
        leaving.add_note(f"taskscope: a callback for reports failed too: {type(error).__name__}: {error}")
        logger.error("a callback for reports failed", exc_info=error)


def _has_anything_to_tell(report: Report) -> bool:
    return bool(
        not report.ok
        or report.phase == "body"
        or report.late
        or report.transferred
        or report.ignored
        or report.inherited
        or report.tracking_lost
    )
