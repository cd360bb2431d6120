"""How well a job does: for each dataset and target, up to when the target has everything, and a verdict. Pure.

A dataset of which the target has the newest snapshot that it is to get is as good as at the end of the last run that
was well, for that run saw to it; else it is as good as the newest snapshot there. So a job that takes no snapshots of
what nobody writes to is not late, and one that has stopped running is, soon.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import IntEnum

from .dataset import Dataset, Inventory, Snapshot
from .decision import newest_common
from .history import DatasetRun, Run
from .retention import parse_name
from .selection import EVERYTHING, Selection
from .units import span_words


class Verdict(IntEnum):
    """As monitoring plugins end: the value is the exit code."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


@dataclass(frozen=True, slots=True)
class Seen:
    """What was found out of a job: its history, and both sides' listings where they could be had."""

    job: str
    targets: tuple[str, ...]
    """As the user names them: ``host:dataset``."""
    runs: Sequence[Run] = ()
    """Newest first."""
    datasets: Sequence[DatasetRun] = ()
    """The last outcome of each, by target."""
    source: Inventory | None = None
    there: Mapping[str, Inventory] = field(default_factory=dict)
    """By target."""
    held: Mapping[str, int] = field(default_factory=dict)
    """By dataset of the source: how many of its snapshots are held."""
    local_time: bool = False
    """The names of snapshots are in local time."""
    good: Sequence[DatasetRun] = ()
    """As ``datasets``, the last that was well."""
    selection: Selection = EVERYTHING
    """Which snapshots the job sends."""


@dataclass(frozen=True, slots=True)
class DatasetStatus:
    """One dataset and one target."""

    job: str
    target: str
    dataset: str
    source_newest: str = ""
    target_newest: str = ""
    """The newest that both have."""
    behind: int | None = None
    """Snapshots that the target is to get and lacks; None when that is not known."""
    good_until: datetime | None = None
    """The target has all that the source had then; None when it has nothing, or that is not known."""
    bytes: int = 0
    held: int = 0
    """Snapshots at the source that are held, by whomever."""
    partial: bool = False
    """A receive was cut off there, and can be resumed."""
    failure: str = ""
    """Of the last run."""

    def age(self, now: datetime) -> timedelta | None:
        """How old what the target has is."""
        return None if self.good_until is None else max(timedelta(0), now - self.good_until)


@dataclass(frozen=True, slots=True)
class TargetStatus:
    """One target of a job: its last run, how many failed since one was well, and its datasets."""

    job: str
    target: str
    last: Run | None
    last_success: datetime | None
    failures: int
    datasets: tuple[DatasetStatus, ...]


# ---- what is the case ------------------------------------------------------------------------------------------------


def status_of(seen: Seen) -> tuple[TargetStatus, ...]:
    """How a job does, for each of its targets."""
    return tuple(_target(seen, target) for target in seen.targets)


def _target(seen: Seen, target: str) -> TargetStatus:
    runs = [run for run in seen.runs if run.target == target]
    failures = next((number for number, run in enumerate(runs) if run.exit_code == 0), len(runs))
    success = _moment(runs[failures].ended) if failures < len(runs) else None
    return TargetStatus(
        seen.job, target, runs[0] if runs else None, success, failures, tuple(_datasets(seen, target, success))
    )


def _datasets(seen: Seen, target: str, success: datetime | None) -> Iterator[DatasetStatus]:
    past = {row.dataset: row for row in seen.datasets if row.target == target}
    good = {row.dataset: row for row in (*seen.good, *past.values()) if row.target == target and not row.failed}
    there = seen.there.get(target)
    if seen.source is None or there is None:
        yield from (_remembered(seen, row, good.get(row.dataset)) for row in _existing(seen, target, past.values()))
        return
    for child, source in seen.source.datasets.items():
        known = there.find(child)
        last, well = past.get(source.name), good.get(source.name)
        common = newest_common(source.snapshots, known.snapshots) if known else None
        after = source.snapshots.index(common) + 1 if common else 0
        behind = sum(seen.selection.wanted(source.snapshots)[after:])
        moments = [_time_of(common.name, seen.local_time, common.creation) if common else None]
        if last is None:
            moments.append(success if not behind else None)
        elif well and (not behind or well.target_newest in _up_to(common, source)):
            moments.append(_moment(well.ended))  # what that run brought is there still
        yield DatasetStatus(
            seen.job,
            target,
            source.name,
            source.newest.name if source.newest else "",
            common.name if common else "",
            behind,
            max((moment for moment in moments if moment is not None), default=None),
            last.bytes if last else 0,
            seen.held.get(source.name, 0),
            bool(known and known.token),
            last.message if last and last.failed else "",
        )


def _existing(seen: Seen, target: str, rows: Collection[DatasetRun]) -> list[DatasetRun]:
    """Those of datasets that the source still has, as far as is known: a copy of what is gone there gets no older."""
    if seen.source is not None:
        names = {dataset.name for dataset in seen.source.datasets.values()}
        return [row for row in rows if row.dataset in names]
    ends = {row.ended for row in rows}
    # The newest run that got as far as the source's datasets: all of them were noted with the moment of its end.
    newest = next((run.ended for run in seen.runs if run.target == target and run.ended in ends), None)
    return [row for row in rows if newest is None or row.ended == newest]


def _up_to(newest: Snapshot | None, dataset: Dataset) -> set[str]:
    """The names of its snapshots up to this one; it has this one if there is one."""
    return {snapshot.name for snapshot in dataset.snapshots[: dataset.snapshots.index(newest) + 1]} if newest else set()


def _remembered(seen: Seen, row: DatasetRun, well: DatasetRun | None) -> DatasetStatus:
    moments = [_time_of(row.target_newest, seen.local_time) if row.failed else None]
    if well and (not row.failed or row.target_newest in ("", well.target_newest)):
        moments.append(_moment(well.ended))  # as far as is known, what that run brought is there still
    return DatasetStatus(
        seen.job,
        row.target,
        row.dataset,
        row.source_newest,
        row.target_newest,
        good_until=max((moment for moment in moments if moment is not None), default=None),
        bytes=row.bytes,
        failure=row.message if row.failed else "",
    )


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _time_of(snapshot: str, local: bool, creation: int = 0) -> datetime | None:
    """When a snapshot was made: as its name tells, or else ZFS, if it was asked."""
    name = parse_name(snapshot)
    if name is None:
        return _moment(creation) if creation else None
    return name.time.astimezone(UTC) if local else name.time.replace(tzinfo=UTC)


# ---- what to say of it -----------------------------------------------------------------------------------------------


def verdict(
    targets: Sequence[TargetStatus], now: datetime, *, warn: timedelta | None = None, crit: timedelta | None = None
) -> tuple[Verdict, str]:
    """The verdict on these, and its line. Without limits it is about failures, with them about age alone.

    So a connection that fails once, in a job that runs each minute, wakes nobody before what is there gets old.
    """
    if not targets or not any(target.last or target.datasets for target in targets):
        return Verdict.UNKNOWN, "ZFSYNC UNKNOWN: no run is known yet"
    found = [entry for target in targets for entry in _judge(target, now, warn, crit)]
    worst = max((level for level, _, _ in found), key=_SEVERITY.index, default=Verdict.OK)
    told = [words for level, _, words in found if level is worst]
    count = sum(len(target.datasets) for target in targets)
    ages = [age for _, age, _ in found if age is not None]
    if worst is Verdict.OK:
        line = f"{count} dataset{'s' * (count != 1)} up to date"
        line += f", none older than {span_words(max(ages))}" if ages else ""
    else:
        line = told[0] + (f"; {len(told) - 1} more" if len(told) > 1 else "")
    limits = ";".join(str(int(limit.total_seconds())) if limit else "" for limit in (warn, crit))
    oldest = f" | oldest={int(max(ages).total_seconds())}s;{limits}" if ages else ""
    return worst, f"ZFSYNC {worst.name}: {line.replace('|', '/')}{oldest}"


_SEVERITY = (Verdict.OK, Verdict.UNKNOWN, Verdict.WARNING, Verdict.CRITICAL)


def _judge(
    target: TargetStatus, now: datetime, warn: timedelta | None, crit: timedelta | None
) -> Iterator[tuple[Verdict, timedelta | None, str]]:
    where = f"{target.job} to {target.target}"
    failed = target.last is not None and target.last.exit_code != 0
    if not target.datasets:
        age = now - target.last_success if target.last_success else None
        reason = f": {target.last.message}" if target.last and target.last.message else ""
        yield _level(age, failed, warn, crit), age, f"{where}: {_age_words(age)}{reason}"
    if target.datasets and all(map(_is_empty, target.datasets)) and (failed or target.last is None):
        why = (target.last.message or f"exit code {target.last.exit_code}") if target.last else "no run is known yet"
        yield Verdict.UNKNOWN, None, f"{where}: {why}"
    for dataset in target.datasets:
        age = dataset.age(now)
        if _is_empty(dataset):
            yield Verdict.OK, None, ""  # it has no snapshot, so there is nothing that the target could have
            continue
        reason = dataset.failure or (target.last.message if failed and target.last else "")
        because = f": {reason}" if reason else ""
        yield (
            _level(age, bool(dataset.failure), warn, crit),
            age,
            f"{where}: {dataset.dataset}: {_age_words(age)}{because}",
        )
    if failed and not (warn or crit) and target.last:
        yield Verdict.CRITICAL, None, f"{where}: {target.last.message or f'exit code {target.last.exit_code}'}"


def _is_empty(dataset: DatasetStatus) -> bool:
    """Both sides were listed, and the source has no snapshot of it."""
    return not dataset.source_newest and dataset.behind == 0


def _level(age: timedelta | None, failed: bool, warn: timedelta | None, crit: timedelta | None) -> Verdict:
    if not (warn or crit):
        return Verdict.CRITICAL if failed else Verdict.UNKNOWN if age is None else Verdict.OK
    if age is None or (crit and age > crit):
        return Verdict.CRITICAL if crit else Verdict.WARNING
    return Verdict.WARNING if warn and age > warn else Verdict.OK


def _age_words(age: timedelta | None) -> str:
    return "nothing is known to be there" if age is None else f"what is there is {span_words(age)} old"
