"""What was counted after each run of a soak, in Markdown: how each figure went, and whether it is flat. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

BLOCK = 100


@dataclass(frozen=True)
class Figure:
    """Something that is counted. Flat: its median of the last runs is above that of the first by ``slack`` at most."""

    title: str
    slack: float
    """More where a run with much to send needs more than one with little."""
    unit: int = 1


FIGURES = {
    "client_peak": Figure("client: peak of resident memory, MiB", 3, 1024),
    "agent_peak": Figure("largest agent: peak of resident memory, MiB", 5, 1024),
    "client_files": Figure("client: open files", 10),
    "agent_files": Figure("agent: open files", 4),
    "agents": Figure("agents", 5),
    "processes_source": Figure("processes at the source, after the run", 0),
    "processes_target": Figure("processes at the target, after the run", 0),
    "open_files_source": Figure("open files of all, at the source, after the run", 8),
    "open_files_target": Figure("open files of all, at the target, after the run", 8),
    "state_files_source": Figure("files in /var/lib/zfsync at the source", 0),
    "state_files_target": Figure("files in /var/lib/zfsync at the target", 0),
    "state_bytes_source": Figure("bytes in /var/lib/zfsync at the source", 2048),
    "state_bytes_target": Figure("bytes in /var/lib/zfsync at the target", 2048),
    "locks_source": Figure("locks at the source", 0),
    "locks_target": Figure("locks at the target", 0),
    "holds": Figure("held snapshots, both ends", 0),
    "buffered": Figure("datasets in the buffer", 0),
    "partial": Figure("partial receives", 0),
    "bookmarks_over": Figure("bookmarks at the source beyond one for each dataset and target", 0),
}
CONTEXT = {
    "bookmarks": Figure("bookmarks at the source", 0),
    "datasets": Figure("datasets at the source", 0),
    "snapshots": Figure("snapshots at the source", 0),
    "copied": Figure("snapshots of both copies", 0),
    "overtaken": Figure("snapshots that a promotion brought too late for the copy", 0),
    "seconds": Figure("seconds that zfsync took", 0),
}
"""What tells how large the tree was, and is not judged."""


@dataclass
class Entry:
    """One run."""

    number: int
    kind: str
    plan: str
    code: int | None = None
    sent: int = 0
    wrong: list[str] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)


def blocks(count: int) -> list[slice]:
    """The hundreds of so many runs; the last may be longer by less than another. Of fewer than 200, two halves."""
    size = BLOCK if count >= 2 * BLOCK else max(1, count // 2)
    starts = [size * number for number in range(max(1, count // size))]
    return [slice(one, two) for one, two in zip(starts, [*starts[1:], count], strict=True)]


def is_growing(name: str, entries: Sequence[Entry]) -> bool:
    """Whether the median of the last hundred runs is above that of the first by more than its slack.

    Never of fewer than 200: in the first runs the tree grows, and what zfsync remembers is written for the first time.
    """
    if len(entries) < 2 * BLOCK:
        return False
    parts = blocks(len(entries))
    first, last = (statistics.median(e.figures[name] for e in entries[part]) for part in (parts[0], parts[-1]))
    return last - first > FIGURES[name].slack * FIGURES[name].unit


def growing(entries: Sequence[Entry]) -> list[str]:
    """The titles of what grows."""
    whole = [entry for entry in entries if entry.figures]
    return [figure.title for name, figure in FIGURES.items() if is_growing(name, whole)]


def table(entries: Sequence[Entry]) -> str:
    """A row for each figure, a column for each block of runs: first / median / last / max; and flat or growing."""
    whole = [entry for entry in entries if entry.figures]
    if not whole:
        return "No run was counted."
    parts = blocks(len(whole))
    heads = [f"runs {whole[part][0].number} to {whole[part][-1].number}" for part in parts]
    lines = [f"| first / median / last / max | {' | '.join(heads)} | slack | |", "|---" * (len(parts) + 3) + "|"]
    for name, figure in {**FIGURES, **CONTEXT}.items():
        cells = [_shown([entry.figures[name] / figure.unit for entry in whole[part]]) for part in parts]
        judged = "" if name not in FIGURES or len(whole) < 2 * BLOCK else "flat"
        judged = "**growing**" if judged and is_growing(name, whole) else judged
        slack = f"{figure.slack:g}" if name in FIGURES else ""
        lines.append(f"| {figure.title} | {' | '.join(cells)} | {slack} | {judged} |")
    return "\n".join(lines)


def _shown(values: Sequence[float]) -> str:
    return " / ".join(f"{round(one, 1):g}" for one in (values[0], statistics.median(values), values[-1], max(values)))


def totals(entries: Sequence[Entry]) -> str:
    """What was done, in sentences."""
    kinds: dict[str, int] = {}
    for entry in entries:
        kinds[entry.kind] = kinds.get(entry.kind, 0) + 1
    failed = sum(bool(entry.wrong) for entry in entries)
    pushes = sum(entry.plan.startswith("push") for entry in entries)
    drawn = ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items(), key=lambda pair: -pair[1]))
    return (
        f"{len(entries)} runs, {pushes} pushes and {len(entries) - pushes} pulls, which sent "
        f"{sum(entry.sent for entry in entries)} datasets; {len(entries) - failed} right and {failed} wrong. "
        f"Changes before them: {drawn}."
    )


def failures(entries: Sequence[Entry]) -> list[str]:
    """What was wrong, a line for each run."""
    return [
        f"- run {e.number}, {e.plan} after {e.kind}, exit code {e.code}: {'; '.join(e.wrong)}"
        for e in entries
        if e.wrong
    ]
