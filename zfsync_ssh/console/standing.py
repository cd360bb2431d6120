"""How jobs stand, as people and programs read it: lines, a table, JSON. Pure but for the table's import of rich."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from ..status import DatasetStatus, TargetStatus
from ..units import span_words
from .text import printable, size

if TYPE_CHECKING:
    from rich.console import RenderableType


def lines(targets: Sequence[TargetStatus], now: datetime) -> Iterator[str]:
    """A line for each job and target, and one for each of its datasets."""
    for target in targets:
        yield f"{_title(target)}: {_runs(target, now)}"
        for dataset in target.datasets:
            yield printable(f"  {dataset.dataset}: {', '.join(_words(dataset, now))}")


def tables(targets: Sequence[TargetStatus], now: datetime) -> Iterator[RenderableType]:
    """A table for each job and target."""
    from rich.table import Table
    from rich.text import Text

    for target in targets:
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", title_justify="left",
                      title=Text(f"{_title(target)}: {_runs(target, now)}", style=_style(target)))  # fmt: skip
        for header in ("dataset", "newest at the source", "newest there", "lag", "behind", "last run", "held", ""):
            table.add_column(header, overflow="fold")
        for dataset in target.datasets:
            cells = [Text(printable(cell)) for cell in _columns(dataset, now)]
            table.add_row(*cells, style="red" if dataset.failure else "")
        yield table


def records(targets: Sequence[TargetStatus], now: datetime) -> list[dict[str, object]]:
    """The same for programs. Times are ISO 8601, ages seconds; None for what is not known."""

    def moment(when: datetime | None) -> str | None:
        return when.isoformat(timespec="seconds") if when else None

    def age(dataset: DatasetStatus) -> float | None:
        span = dataset.age(now)
        return None if span is None else round(span.total_seconds())

    return [
        {
            "job": target.job,
            "target": target.target,
            "last_run": moment(_ended(target)),
            "last_exit_code": target.last.exit_code if target.last else None,
            "last_bytes": target.last.bytes if target.last else None,
            "last_message": target.last.message if target.last else "",
            "last_success": moment(target.last_success),
            "failures": target.failures,
            "datasets": [
                {
                    "dataset": dataset.dataset,
                    "source_newest": dataset.source_newest,
                    "target_newest": dataset.target_newest,
                    "behind": dataset.behind,
                    "good_until": moment(dataset.good_until),
                    "age": age(dataset),
                    "bytes": dataset.bytes,
                    "held": dataset.held,
                    "partial": dataset.partial,
                    "failure": dataset.failure,
                }
                for dataset in target.datasets
            ],
        }
        for target in targets
    ]


def _title(target: TargetStatus) -> str:
    return printable(f"{target.job} to {target.target}")


def _ended(target: TargetStatus) -> datetime | None:
    return datetime.fromtimestamp(target.last.ended).astimezone() if target.last else None


def _runs(target: TargetStatus, now: datetime) -> str:
    ended = _ended(target)
    if target.last is None or ended is None:
        return "no run is known yet"
    words = f"last run {span_words(now - ended)} ago, {size(target.last.bytes)} sent"
    if not target.failures:
        return words
    success = f"{span_words(now - target.last_success)} ago" if target.last_success else "never"
    reason = f": {target.last.message}" if target.last.message else ""
    return printable(f"{words}; {target.failures} failed since one was well ({success}){reason}")


def _style(target: TargetStatus) -> str:
    return "bold red" if target.failures else "bold"


def _words(dataset: DatasetStatus, now: datetime) -> Iterator[str]:
    """What a line says of a dataset."""
    age = dataset.age(now)
    yield f"newest {dataset.source_newest or 'none'}"
    yield f"there {dataset.target_newest or 'none'}"
    if dataset.behind:
        yield f"{dataset.behind} behind"
    yield "age unknown" if age is None else f"{span_words(age)} old"
    yield f"{size(dataset.bytes)} in the last run"
    if dataset.held:
        yield f"{dataset.held} held"
    if dataset.partial:
        yield "a receive can be resumed"
    if dataset.failure:
        yield f"FAILED: {dataset.failure}"


def _columns(dataset: DatasetStatus, now: datetime) -> tuple[str, ...]:
    """The cells of a table's row."""
    age = dataset.age(now)
    return (
        dataset.dataset,
        dataset.source_newest or "none",
        dataset.target_newest or "none",
        "" if age is None else span_words(age),
        "" if dataset.behind is None else str(dataset.behind),
        size(dataset.bytes),
        str(dataset.held or ""),
        "; ".join(filter(None, ("can be resumed" * dataset.partial, dataset.failure))),
    )
