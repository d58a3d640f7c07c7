"""`Ignore`: a rule that says which tasks are meant to outlive a scope, and why."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, final

from taskscope._diagnosis.safely import safe_repr

CONDITIONS: Final = ("coroutine", "task", "spawn_site", "wait")

_LINE: Final = f"key=glob ... -- reason, where key is one of {', '.join(CONDITIONS)}"


@final
@dataclass(frozen=True, slots=True)
class Ignore:
    """A rule for `ignore=` of a scope: a pending task that matches it is no leak.

    Such a task is neither waited for nor cancelled. It is listed in `report.ignored`, with the reason, and no other
    scope answers for it either. So are the tasks in its own task groups or nurseries. What else it spawns is not.

    Each of the four conditions is None, which says nothing, or a glob as of `fnmatch.fnmatchcase`: `*` stands for any
    text, also for none and across `.` and `/`, `?` for one character, `[ab]` for one of these. All of those that are
    given must match, and at least one must be given.

    Attributes:
        coroutine: Qualified name of the coroutine function that the task runs, as `TaskRecord.coroutine` has it
            (`"Client._read"`), or the same with its module (`"kafka.client.Client._read"`). Either may match.
        task: The task's name.
        spawn_site: The file that the task was spawned in, with `/` between folders (`"*/kafka/client.py"`), or file and
            qualified name of the function (`"*/kafka/client.py:Client.start"`). Either may match. A task of which that
            was not noted (`spawn_site="off"`, an adopted task) never does.
        wait: The primitive that the task waits in, as `Wait.primitive` has it (`"Queue.get"`). Asked when the body has
            ended, and once more when the grace is over.
        reason: Why such tasks are meant to stay, for reports. A text that is not empty.

    Raises:
        TypeError, ValueError: A bad argument, or none of the four conditions.
    """

    coroutine: str | None = None
    task: str | None = field(default=None, kw_only=True)
    spawn_site: str | None = field(default=None, kw_only=True)
    wait: str | None = field(default=None, kw_only=True)
    reason: str = field(kw_only=True)

    def __post_init__(self) -> None:
        for condition in CONDITIONS:
            value = getattr(self, condition)
            if value is not None:
                _check_text(condition, value, "None or a glob that is not empty")
        _check_text("reason", self.reason, "a text that is not empty: why such tasks are meant to stay")
        if not self._conditions():
            raise ValueError(f"{'=None, '.join(CONDITIONS)}=None: at least one of them must be a glob")

    @classmethod
    def parse(cls, line: str) -> Ignore:
        """The rule that a line of a configuration file says: `coroutine=Client._read task=worker-* -- the reason`.

        Conditions are separated by spaces, and the reason follows on ` -- `. Quotes keep spaces in a glob, as in a
        shell; a backslash stands for itself.

        Raises:
            TypeError: `line` is not a string.
            ValueError: `line` is not of this form.
        """
        if not isinstance(line, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"line={safe_repr(line)}: must be a string, not {type(line).__name__}")
        words, reason = _split(line)
        conditions: dict[str, Any] = {}
        for word in words:
            key, equals, glob = word.partition("=")
            if not equals or key not in CONDITIONS:
                raise _bad(line, f"{word!r} is not a condition")
            if key in conditions:
                raise _bad(line, f"{key} is given twice")
            conditions[key] = glob
        try:
            return cls(**conditions, reason=reason)
        except ValueError as error:
            raise _bad(line, str(error)) from None

    def __str__(self) -> str:
        """The conditions, as `parse` takes them: `coroutine='Client._read' task='worker-*'`."""
        return " ".join(f"{condition}={_quoted(glob)}" for condition, glob in self._conditions().items())

    def _conditions(self) -> dict[str, str]:
        values = {condition: getattr(self, condition) for condition in CONDITIONS}
        return {condition: value for condition, value in values.items() if value is not None}


def _check_text(argument: str, value: object, allowed: str) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{argument}={safe_repr(value)}: must be {allowed}, not {type(value).__name__}")
    if not value.strip():
        raise ValueError(f"{argument}={safe_repr(value)}: must be {allowed}")


def _split(line: str) -> tuple[list[str], str]:
    """The words before the ` -- ` of a line, without their quotes, and the text behind it as it stands there."""
    import io  # only who has rules in a file pays for these
    import shlex

    stream = io.StringIO(line)
    lexer = shlex.shlex(stream, posix=True)
    lexer.whitespace_split = True
    lexer.commenters = lexer.escape = ""
    words: list[str] = []
    try:
        for word in iter(lexer.get_token, None):
            if word == "--":
                return words, stream.read().strip()
            words.append(str(word))
    except ValueError as error:
        raise _bad(line, str(error)) from None
    raise _bad(line, "there is no reason")


def _bad(line: str, why: str) -> ValueError:
    return ValueError(f"line={safe_repr(line)}: {why}; must be {_LINE}")


def _quoted(glob: str) -> str:
    return "'" + str.__str__(glob).replace("'", "'\"'\"'") + "'"
