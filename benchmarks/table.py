"""The rows as a table of at most 110 columns."""

from __future__ import annotations

import statistics

from benchmarks.figures import Row, quartiles

WIDTHS = (42, 9, 20, 9, 18)
TITLES = ("", "median", "quartiles", "ratio", "quartiles", "goal")


def heading() -> str:
    return _line(TITLES)


def block(rows: list[Row]) -> str:
    """The rows of one benchmark."""
    first = rows[0]
    return "\n".join([f"{first.benchmark}  [{first.unit}]", *map(_row, rows), ""])


def _row(row: Row) -> str:
    name = f"  {row.subject}"
    if row.note is not None:
        return f"{name:<{WIDTHS[0]}}  {row.note}"
    return _line((name, *_figures(row.samples, decimals=2), *_figures(row.ratios, decimals=3), _goal(row)))


def _figures(figures: list[float], *, decimals: int) -> tuple[str, str]:
    if not figures:
        return "", ""
    middle = statistics.median(figures)
    first, third = quartiles(figures)
    # three to four digits that mean something
    if abs(middle) >= 10:
        decimals = 1 if abs(middle) < 100 else 0
    return f"{middle:,.{decimals}f}", f"{first:,.{decimals}f} .. {third:,.{decimals}f}"


def _goal(row: Row) -> str:
    if row.goal is None:
        return ""
    limit = f"<= {row.goal.limit:g}"
    if row.is_met:
        return f"{limit} met"
    excess = statistics.median(row.judged) / row.goal.limit - 1
    return f"{limit} missed +{excess:.0%}"


def _line(cells: tuple[str, ...]) -> str:
    name, *figures, goal = cells
    text = "".join(f"{figure:>{width}}" for figure, width in zip(figures, WIDTHS[1:], strict=True))
    return f"{name:<{WIDTHS[0]}}{text}  {goal}".rstrip()
