"""What a benchmark hands back: rows of samples, with the goal where there is one."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Goal:
    """An upper limit for the median of a row, either of its samples or of their ratios to the baseline."""

    limit: float
    of: Literal["samples", "ratios"]


@dataclass
class Row:
    """One subject in one benchmark.

    Attributes:
        samples: One figure for each round, in `unit`.
        ratios: Each sample divided by the baseline's of the same round. Empty for the baseline itself and where there
            is nothing to divide by.
        note: Why there are no samples, None where there are.
    """

    benchmark: str
    subject: str
    unit: str
    samples: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    goal: Goal | None = None
    note: str | None = None

    @property
    def judged(self) -> list[float]:
        """The figures that the goal is about."""
        if self.goal is None:
            return []
        return self.samples if self.goal.of == "samples" else self.ratios

    @property
    def is_met(self) -> bool | None:
        """Whether the goal is met. None without a goal or without samples."""
        if self.goal is None or not self.judged:
            return None
        return statistics.median(self.judged) <= self.goal.limit

    def to_dict(self) -> dict[str, Any]:
        return {
            "benchmark": self.benchmark,
            "subject": self.subject,
            "unit": self.unit,
            "samples": self.samples,
            "samples_summary": summary(self.samples),
            "ratios": self.ratios,
            "ratios_summary": summary(self.ratios),
            "goal": None if self.goal is None else {"limit": self.goal.limit, "of": self.goal.of, "met": self.is_met},
            "note": self.note,
        }


def ratios(samples: list[float], baseline: list[float]) -> list[float]:
    return [sample / base for sample, base in zip(samples, baseline, strict=True)]


def quartiles(figures: list[float]) -> tuple[float, float]:
    if len(figures) < 2:
        return figures[0], figures[0]
    first, _, third = statistics.quantiles(figures, n=4, method="inclusive")
    return first, third


def summary(figures: list[float]) -> dict[str, float] | None:
    if not figures:
        return None
    first, third = quartiles(figures)
    return {"median": statistics.median(figures), "first_quartile": first, "third_quartile": third}


def rotated(things: list[Any], places: int) -> list[Any]:
    """The same in another order, so that none has the same neighbours and the same place in every round."""
    places %= max(1, len(things))
    return things[places:] + things[:places]
