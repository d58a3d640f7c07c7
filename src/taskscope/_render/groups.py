"""Tasks that hang in the same place and come from the same place, told once with their number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import final

from taskscope._report import Frame, TaskRecord


@final
@dataclass(frozen=True, slots=True)
class Group:
    """Records with the same coroutine, await chain and spawn site, in the order of the report."""

    records: tuple[TaskRecord, ...]

    @property
    def first(self) -> TaskRecord:
        return self.records[0]

    def counted(self, field: str) -> list[tuple[str, int]]:
        """The values of a field that are not None, each with its number, most frequent first."""
        values = (getattr(record, field) for record in self.records)
        return Counter(value for value in values if value is not None).most_common()

    def closed(self) -> list[tuple[str, int]]:
        """The resources that had been closed before the tasks ended."""
        lists = (record.closed_before_end for record in self.records)
        return Counter(", ".join(resources) for resources in lists if resources).most_common()

    def outcomes(self) -> list[tuple[tuple[str, str | None], int]]:
        ended = [record for record in self.records if record.outcome is not None]
        return Counter((str(record.outcome), record.outcome_detail) for record in ended).most_common()

    def reasons(self) -> list[tuple[str, int]]:
        """Why records without an outcome are where they are."""
        details = (record.outcome_detail for record in self.records if record.outcome is None)
        return Counter(detail for detail in details if detail is not None).most_common()

    def spawn_chains(self) -> list[tuple[tuple[tuple[Frame, ...], int], int]]:
        return Counter((record.spawn_chain, record.spawn_chain_omitted) for record in self.records).most_common()

    def ages(self) -> tuple[float, float] | None:
        """The youngest and the oldest, in seconds."""
        known = [record.age for record in self.records if record.age is not None]
        return (min(known), max(known)) if known else None


def grouped(records: Iterable[TaskRecord]) -> list[Group]:
    """Groups, largest first; those of one size in the order in which they come in the report."""
    found: dict[object, list[TaskRecord]] = {}
    for record in records:
        key = (record.coroutine, record.stack, record.spawn_site, record.spawn_stack)
        found.setdefault(key, []).append(record)
    groups = [Group(tuple(members)) for members in found.values()]
    return sorted(groups, key=lambda group: -len(group.records))
