"""What a scope does with its report: tell, and raise, warn or log as its policy says."""

from __future__ import annotations

import linecache
import warnings
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from taskscope._arguments import OnReport
from taskscope._backends._backend import Backend
from taskscope._closing import Closing
from taskscope._diagnosis.safely import error_in_words
from taskscope._errors import DeadlockError, ScopeTimeoutError, TaskLeakError, TaskLeakWarning
from taskscope._frames import frame_at
from taskscope._logger import logger
from taskscope._policy import Policy
from taskscope._render.summary import summary
from taskscope._report import Frame, Report

if TYPE_CHECKING:
    from taskscope._scope import TaskScope

RENDER_SECONDS = 1.0
"""How long the text of a report may take. After that a summary is used, for which no source has to be read."""


async def act(
    scope: TaskScope,
    report: Report,
    policy: Policy,
    closing: Closing,
    exc: BaseException | None,
    own_error: type[ScopeTimeoutError] | type[DeadlockError] | None,
) -> None:
    """Tells about a report and raises what has to leave the scope, if the body raised nothing itself.

    exc: what the body raised.
    own_error: what to raise where exc, if any, is only the cancellation with which the scope itself ended the body.
    """
    leaving: BaseException | None = exc if own_error is None else None
    if leaving is None:
        leaving = closing.cancelled_by
    failures: list[BaseException] = []
    if policy.on_report is not None and _has_anything_to_tell(report):
        _call(policy.on_report, report, failures)
    if report.tracking_lost is not None:
        with _collecting(failures):
            logger().warning("scope %r: %s", report.scope, report.tracking_lost)
    has_leaks = bool(closing.leaks or report.findings)
    if has_leaks and policy.on_leak != "ignore":
        leaving = await _act_on_leaks(scope, report, policy, closing, leaving, failures)
    if leaving is not None:
        _report_failures(failures, leaving)
        if leaving is exc:
            if closing.cancelled_by is not None and not isinstance(exc, closing.backend.Cancelled):
                closing.backend.cancel_later(closing.cancelled_by)
            return  # it is on its way already
        raise leaving
    if own_error is not None:
        error = own_error(report)
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
) -> BaseException | None:
    """Does what the policy says, and returns what has to leave the scope then."""
    on_leak = policy.on_leak
    if not isinstance(on_leak, str):
        _call(on_leak, report, failures)
    if leaving is None and on_leak not in ("log", "warn"):
        return None
    place = frame_at(*scope._opened_at)  # pyright: ignore[reportPrivateUsage]
    text = await _text(report, place, closing)
    leaving = leaving or closing.cancelled_by  # which may have come while the text was being made
    if leaving is not None:
        _add_note(leaving, text)
        _log_leak(report, text, failures)
    elif on_leak == "log":
        _log_leak(report, text, failures)
    else:
        try:
            warnings.warn_explicit(TaskLeakWarning(text), TaskLeakWarning, place.file, place.line)
        except Warning as error:  # the user's filters turn it into an error
            failures.append(error)
    return leaving


def tell_of_abandoned(backend: Backend, report: Report, policy: Policy, exc: BaseException) -> None:
    """Tells about a scope whose body was destroyed, where nothing can be awaited.

    exc: what the body was destroyed with.
    """
    failures: list[BaseException] = []
    if policy.on_report is not None:
        _call(policy.on_report, report, failures)
    if policy.on_leak != "ignore":
        if not isinstance(policy.on_leak, str):
            _call(policy.on_leak, report, failures)
        text = summary(report) if backend.is_in_loop() else report.format()
        _add_note(exc, text)
        _log_leak(report, text, failures)
    _report_failures(failures, exc)


async def _text(report: Report, place: Frame, closing: Closing) -> str:
    """The report as text. The source lines are read in a thread: nothing of ours may block the loop.

    place: whose line a warning shows as well.
    """
    texts: list[str | None] = []

    def read_and_format() -> str:
        linecache.getline(place.file, place.line)
        return report.format()

    async def render() -> None:
        texts.append(await closing.backend.off_loop(read_and_format, RENDER_SECONDS))

    await closing.guarded(render(), shield=True)
    return (texts[0] if texts else None) or summary(report)


def _add_note(error: BaseException, note: str) -> None:
    with suppress(Exception):  # of a class that is frozen, or has its own idea of notes: the log has it too
        error.add_note(note)


def _log_leak(report: Report, text: str, failures: list[BaseException]) -> None:
    """One record under the logger `taskscope`, with the report as a dict in its attribute `taskscope_report`."""
    with _collecting(failures):
        logger().error("%s", text, extra={"taskscope_report": report.to_dict()})


def _call(callback: OnReport, report: Report, failures: list[BaseException]) -> None:
    with _collecting(failures):
        callback(report)


@contextmanager
def _collecting(failures: list[BaseException]) -> Generator[None, None, None]:
    """Runs users' code, callbacks and handlers of logging, and keeps what it raises."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # pytest.fail and the like are no Exceptions
        failures.append(error)


def _report_failures(failures: list[BaseException], leaving: BaseException) -> None:
    for error in failures:
        _add_note(leaving, f"taskscope: telling about a report failed too: {error_in_words(error)}")
        with suppress(Exception):  # as above, or the very handler that has failed before
            logger().error("telling about a report failed", exc_info=error)


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
