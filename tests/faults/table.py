"""The table of faults and steps, in Markdown. Pure."""

from __future__ import annotations

import collections
from collections.abc import Iterable

from .cells import Verdict
from .faults import FAULTS
from .steps import COLUMNS

SHORT = {"stream start": "start", "stream middle": "middle", "stream end": "end", "push agent": "agent"}


def table(verdicts: Iterable[Verdict], direction: str) -> str:
    """One table: a row for each fault, a column for each step; ``passed/played``, or ``n`` when all ``n`` passed."""
    played: collections.Counter[tuple[str, str]] = collections.Counter()
    passed: collections.Counter[tuple[str, str]] = collections.Counter()
    for verdict in verdicts:
        if verdict.cell.direction == direction and verdict.counts:
            place = (verdict.cell.fault, verdict.cell.step.column)
            played[place] += 1
            passed[place] += not verdict.wrong

    def shown(fault: str, column: str) -> str:
        count, good = played[fault, column], passed[fault, column]
        return "" if not count else str(count) if good == count else f"**{good}/{count}**"

    lines = [f"| {direction} | " + " | ".join(SHORT.get(column, column) for column in COLUMNS) + " |"]
    lines.append("|---" * (len(COLUMNS) + 1) + "|")
    for fault in FAULTS:
        if direction in fault.directions:
            lines.append(f"| {fault.name} | " + " | ".join(shown(fault.name, column) for column in COLUMNS) + " |")
    return "\n".join(lines)


def totals(verdicts: Iterable[Verdict]) -> str:
    """One sentence: how many were played, how many passed, and what did not."""
    verdicts = list(verdicts)
    landed = [verdict for verdict in verdicts if verdict.counts]
    passed = sum(not verdict.wrong for verdict in landed)
    return (
        f"{len(verdicts)} cells: {len(landed)} in which the fault happened, of which {passed} passed and "
        f"{len(landed) - passed} failed; in {len(verdicts) - len(landed)} the fault did not happen (nothing to hit at "
        f"that moment, or ZFS refused it), which says nothing and is not counted."
    )


def failures(verdicts: Iterable[Verdict]) -> list[str]:
    """What failed, a line each, however it came about."""
    return [f"- {verdict.cell}: {'; '.join(verdict.wrong)}" for verdict in verdicts if verdict.wrong]
