"""The names and classes of the snapshots that zfsync takes, which is due, and which are to go. Pure.

A name is the UTC minute and the letter of a class, as the original zfsync wrote it: ``20210127-0636_M``. A snapshot has
the highest class that is due when it is taken. The letters:

======== ========== ==============================================================================================
letter   class      due
======== ========== ==============================================================================================
``M``    minutely   in every minute, that is with every run
``H``    hourly     in every hour
``D``    daily      on every day
``W``    weekly     in every ISO week, which begins on Monday
``N``    monthly    in every month (``M`` is taken)
``Y``    yearly     in every year
``S``    secondly   never: the original's fourth class, kept for what it left; names tell no seconds
======== ========== ==============================================================================================

What is kept counts a snapshot as the highest class that has a count, up to its own: with ``daily=90`` alone, that of a
Monday is a daily one as well.

A clock may jump. So age is a matter of ``createtxg``, which only ever grows, and not of the time in the name: what is
newest is known whatever the clock said. Times here have no zone: they are in the one that the names are written in. But
where days, weeks, months and years begin is a matter of the clock on the wall, by which cron starts jobs: else one that
is started at midnight would find nothing due once a year, when the clock is put forward.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import lru_cache
from types import MappingProxyType

from .dataset import Dataset, Snapshot
from .units import parse_span, span_words

_NAME = re.compile(r"([0-9]{8}-[0-9]{4})_([SMHDWNY])(?:\.([1-9][0-9]{0,19}))?")
_TIME = "%Y%m%d-%H%M"
MAX_COUNT = 10**6


class Class(Enum):
    """The class of a snapshot, lowest first; the value is its letter."""

    SECONDLY = "S"
    MINUTELY = "M"
    HOURLY = "H"
    DAILY = "D"
    WEEKLY = "W"
    MONTHLY = "N"
    YEARLY = "Y"

    @property
    def word(self) -> str:
        """As ``--keep`` has it."""
        return self.name.lower()


_RANK = {kind: rank for rank, kind in enumerate(Class)}
_PERIOD: Mapping[Class, Callable[[datetime], object]] = {
    Class.MINUTELY: lambda time: time.replace(second=0, microsecond=0),
    Class.HOURLY: lambda time: time.replace(minute=0, second=0, microsecond=0),
    Class.DAILY: lambda time: time.date(),
    Class.WEEKLY: lambda time: time.isocalendar()[:2],
    Class.MONTHLY: lambda time: (time.year, time.month),
    Class.YEARLY: lambda time: time.year,
}
"""In which period a time lies. A class is due once in each."""


def local_time(time: datetime) -> datetime:
    """What the clock on the wall of this machine shows at a time of UTC."""
    try:
        return time.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)
    except (OverflowError, OSError, ValueError):  # a name may tell any time
        return time


# ---- names -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, order=True)
class Name:
    """What a snapshot's name tells. ``repeat`` is not 0 when the clock came to this minute, or a later one, before."""

    time: datetime
    repeat: int
    letter: str

    def __str__(self) -> str:
        return f"{self.time:%Y%m%d-%H%M}_{self.letter}{f'.{self.repeat}' if self.repeat else ''}"

    @property
    def kind(self) -> Class:
        """The class."""
        return Class(self.letter)


@lru_cache(maxsize=4096)  # the datasets of a tree have the same names
def parse_name(name: str) -> Name | None:
    """What ``name`` tells, or None: then the snapshot is not ours."""
    found = _NAME.fullmatch(name)
    if not found:
        return None
    try:
        time = datetime.strptime(found[1], _TIME)
    except ValueError:
        return None
    parsed = Name(time, int(found[3] or 0), found[2])
    return parsed if str(parsed) == name else None


def name_for(now: datetime, kind: Class, snapshots: Iterable[Snapshot], known: Iterable[str] = ()) -> str:
    """A name that no snapshot has or has had, for one of this class to be taken at ``now``.

    When this minute, or a later one, has been used - the clock went back, or this is the second run in a minute - the
    name goes on with the createtxg of the newest snapshot, which no earlier name can have got. ``known`` are names that
    are no longer in ``snapshots`` but may be at a target: of bookmarks, of the history of runs.
    """
    minute = now.replace(second=0, microsecond=0)
    txg, taken = 1, set(known)
    for snapshot in snapshots:
        txg = max(txg, snapshot.createtxg)
        taken.add(snapshot.name)
    name = Name(minute, 0 if all(_time(name) < minute for name in taken) else txg, kind.value)
    while str(name) in taken:  # the newest one was destroyed since that name was made
        name = replace(name, repeat=name.repeat + 1)
    return str(name)


def _time(name: str) -> datetime:
    parsed = parse_name(name)
    return parsed.time if parsed else datetime.min


# ---- what is kept ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Keep:
    """What is to stay: so many of each class, everything within a span, and never fewer than ``at_least``.

    A snapshot counts as the highest class with a count that is not above its own. Of what is below all of them none is
    kept; but ``S``, which zfsync itself never takes, is then left alone.
    """

    counts: Mapping[Class, int]
    within: timedelta = timedelta(0)
    at_least: int = 0

    def __str__(self) -> str:
        words = [f"{kind.word}={count}" for kind, count in self.counts.items()]
        if self.within:
            words.append(f"within={span_words(self.within).replace(' ', '')}")
        return ",".join(words)

    @property
    def classes(self) -> tuple[Class, ...]:
        """Those of which there are to be snapshots, highest first."""
        return tuple(kind for kind in reversed(Class) if kind in _PERIOD and self.counts.get(kind))

    def counted_as(self, kind: Class) -> Class:
        """The class as which a snapshot of this one counts."""
        return next((one for one in self.classes if _RANK[one] <= _RANK[kind]), kind)


def parse_keep(text: str, at_least: int = 0) -> Keep:
    """``minutely=4,hourly=24,daily=30,within=48h`` -> what to keep; `ValueError`, a clause, for what is none."""
    counts: dict[Class, int] = {}
    within = timedelta(0)
    words = {kind.word: kind for kind in Class}
    seen: set[str] = set()
    for part in text.split(","):
        word, equals, value = (piece.strip() for piece in part.partition("="))
        if word in seen:
            raise ValueError(f"{word} is in it twice")
        seen.add(word)
        if not equals or (word not in words and word != "within"):
            raise ValueError(f"{part.strip()!r} is not one of {', '.join(words)} or within, each with =")
        if word == "within":
            within = parse_span(value)
        elif not re.fullmatch(r"[0-9]{1,7}", value) or int(value) > MAX_COUNT:
            raise ValueError(f"{word}={value} has to be a number from 0 to {MAX_COUNT}")
        else:
            counts[words[word]] = int(value)
    if not any(counts.values()) and not within:
        raise ValueError("it keeps nothing: give some class a count, as in daily=30")
    if at_least < 0:
        raise ValueError(f"a floor of {at_least} is none")
    ordered = {kind: counts[kind] for kind in Class if kind in counts}
    keep = Keep(MappingProxyType(ordered), within, at_least)
    if within and not (keep.classes or at_least):  # a clock that is ahead would leave nothing
        raise ValueError(
            "within alone keeps nothing once the clock is wrong: add a count, as in daily=30, or set keep-at-least"
        )
    return keep


def taken_together(datasets: Sequence[Dataset], root: str) -> tuple[Snapshot, ...]:
    """The snapshots that were taken of all these at once, as far as can be seen; one of each name.

    Those of the ``root``, if it takes part. Else of each name that most of them have that were there by then: a dataset
    may be new, and one may have snapshots that were not taken by this job.
    """
    if datasets and datasets[0].name == root and any(_ours(datasets[0].snapshots)):
        return datasets[0].snapshots
    ours = [[snapshot for snapshot, _ in _ours(dataset.snapshots)] for dataset in datasets]
    begun = sorted(min(one.createtxg for one in own) for own in ours if own)
    count = Counter(one.name for own in ours for one in own)
    first = {one.name: one for own in reversed(ours) for one in own}
    return tuple(one for name, one in first.items() if 2 * count[name] > bisect_right(begun, one.createtxg))


def due(
    now: datetime, keep: Keep, snapshots: Sequence[Snapshot], on_the_wall: Callable[[datetime], datetime] | None = None
) -> Class | None:
    """The highest class of which a snapshot is due, or None when none is.

    One is due that has none yet, of itself or a higher class, in the current period; so a clock that is set back over
    an hour, or jumps to and fro, never makes a second hourly one, which would push out an older one. The lowest class
    is due with each new period of the clock even so: while the clock repeats an hour, snapshots go on. ``on_the_wall``
    tells what the clock on the wall shows at ``now``, or at the time in a name, where that is another.
    """
    ours = sorted(_ours(snapshots), key=lambda entry: entry[0].createtxg)
    for kind in keep.classes:
        period = _PERIOD[kind]
        if on_the_wall and _RANK[kind] >= _RANK[Class.DAILY]:
            period = _after(on_the_wall, period)
        serving = [name for _, name in ours if _RANK[name.kind] >= _RANK[kind]]
        if kind is keep.classes[-1]:
            serving = serving[-1:]
        if not any(period(name.time) == period(now) for name in serving):
            return kind
    return None


def _after(shown: Callable[[datetime], datetime], period: Callable[[datetime], object]) -> Callable[[datetime], object]:
    return lambda time: period(shown(time))


def to_prune(
    now: datetime, keep: Keep, snapshots: Sequence[Snapshot], spared: Collection[int] = frozenset()
) -> tuple[Snapshot, ...]:
    """Those of one dataset's snapshots that are to go, oldest first.

    ``spared`` are the GUIDs of those that stay whatever ``keep`` says: held ones, the newest common with each target.
    What is not ours by its name stays as well. When the clock went back, a snapshot from the future is within any span.
    """
    ours = sorted(_ours(snapshots), key=lambda entry: entry[0].createtxg, reverse=True)
    left = dict(keep.counts)
    gone = []
    for position, (snapshot, name) in enumerate(ours):
        kind = keep.counted_as(name.kind)
        left[kind] = left.get(kind, 0) - 1
        counted = left[kind] >= 0 or (kind not in _PERIOD and kind not in keep.counts)
        recent = now - name.time <= keep.within if keep.within else False
        if not (counted or recent or position < keep.at_least or snapshot.guid in spared):
            gone.append(snapshot)
    return tuple(reversed(gone))


def outlived(
    now: datetime, keep: Keep, snapshots: Sequence[Snapshot], spared: Collection[int] = frozenset()
) -> tuple[Snapshot, ...]:
    """As `to_prune`, but of a copy whose snapshots somebody else may have named.

    A count is of periods here, not of snapshots, and a period that is yet to come counts for nothing: else whoever may
    add to a copy could push out what is there, by many snapshots with names of his own.
    """
    ours = sorted(_ours(snapshots), key=lambda entry: entry[0].createtxg, reverse=True)
    stay = {*spared, *(snapshot.guid for snapshot, _ in ours[: max(keep.at_least, 1)])}
    since: dict[Class, datetime] = {}
    """From when on each class stays."""
    for kind, period in _PERIOD.items():
        begun: dict[object, datetime] = {}
        for _, name in ours:
            if keep.counted_as(name.kind) is kind and name.time <= now:
                begun[period(name.time)] = min(name.time, begun.get(period(name.time), now))
        kept = sorted(begun.values(), reverse=True)[: keep.counts.get(kind, 0)]
        since[kind] = kept[-1] if kept else datetime.max
    gone = []
    for snapshot, name in ours:
        kind = keep.counted_as(name.kind)
        old = kind in since and name.time < since[kind] and name.time <= now
        recent = now - name.time <= keep.within if keep.within else False
        if old and not recent and snapshot.guid not in stay:
            gone.append(snapshot)
    return tuple(reversed(gone))


def _ours(snapshots: Iterable[Snapshot]) -> Iterable[tuple[Snapshot, Name]]:
    for snapshot in snapshots:
        name = parse_name(snapshot.name)
        if name is not None:
            yield snapshot, name
