"""Programs as suites have them, in which a test starts tasks that are a fixture's to end.

Each is there twice: as it should be, and as its leaking twin, which does nothing in the lines that end in
`# teardown`. TWIN stands for which of the two it is, NAME for the program's name.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

_TEARDOWN = "# teardown"


@dataclass(frozen=True)
class Program:
    """One program.

    Attributes:
        name: Its tests are `test_NAME_clean` and `test_NAME_leak`, or methods of classes that are named so.
        text: Its source, without imports.
        owner: Who has the leak of the leaking twin: a fixture, by its name, or the test itself.
        spawner: Whether it is the test that has spawned the task, which the report must say.
        needs_wide_loop: Whether it takes a loop that outlives the test.
        has_twin: Whether there is a leaking twin: where a group is never closed, what is in it hangs.
    """

    name: str
    text: str
    owner: str = "fixture NAME_leak"
    spawner: bool = True
    needs_wide_loop: bool = False
    has_twin: bool = True

    def twin(self, which: str) -> str:
        lines = textwrap.dedent(self.text).splitlines()
        if which == "leak":
            lines = [_without_statement(line) if line.endswith(_TEARDOWN) else line for line in lines]
        return "\n".join(lines).replace("TWIN", which).replace("NAME", self.name) + "\n"

    @property
    def whole(self) -> str:
        return self.twin("clean") + (self.twin("leak") if self.has_twin else "")

    @property
    def owner_of_leak(self) -> str:
        return self.owner.replace("NAME", self.name)


def _without_statement(line: str) -> str:
    return line[: len(line) - len(line.lstrip())] + "pass"
