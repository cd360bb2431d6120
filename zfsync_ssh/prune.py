"""What the target has and the source no longer has: which snapshots, and which datasets, are to go. Pure.

Only what the user asked for with an option is ever looked at here, and nothing that a later run needs is ever named:
not the newest snapshot in common, no dataset with something below it that stays, nothing that was set aside.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby

from . import losing
from .dataset import Inventory, parent_of
from .messages import Operation, Result
from .selection import Selection

_FIRST_MARK = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
"""There was no zfsync before that made any: an older mark is of a clock that had been reset."""
_MAX_SECONDS = 253402300799
"""The end of the year 9999, after which `datetime` knows no time."""


def surplus_snapshots(source: Inventory, target: Inventory, newest: Mapping[str, int]) -> list[str]:
    """Full names of the target's snapshots that the source no longer has, of the children in ``newest``.

    ``newest`` is, by child, the GUID of the newest snapshot that both have now: it stays, and whatever is newer.
    ``source`` is the whole tree: a promotion has given snapshots to another dataset, which may take no part.
    """
    surplus: list[tuple[int, str]] = []
    for child, base in newest.items():
        there, here = target.find(child), source.datasets.get(child)
        if there is None or here is None:
            continue
        known = {snapshot.guid for snapshot in here.snapshots}
        at = next((index for index, one in enumerate(there.snapshots) if one.guid == base), len(there.snapshots))
        # Its own place: by the time that they go, what waited in the buffer has been renamed.
        place = target.root + child
        surplus += [(one.guid, f"{place}@{one.name}") for one in there.snapshots[:at] if one.guid not in known]
    spared = _only_here({guid for guid, _ in surplus}, source, target)
    return [name for guid, name in surplus if guid not in spared]


def guids_of(tree: Inventory, child: str = "") -> set[int]:
    """The GUIDs of all snapshots of ``child`` and what is below it."""
    own = (one for name, one in tree.datasets.items() if not child or name == child or name.startswith(child + "/"))
    return {snapshot.guid for dataset in own for snapshot in dataset.snapshots}


def _only_here(guids: Collection[int], source: Inventory, target: Inventory) -> set[int]:
    """Those of the ``guids`` that a dataset of the source has, and its own copy has not."""
    spared: set[int] = set()
    for child, here in source.datasets.items() if guids else ():
        wanted = {one.guid for one in here.snapshots if one.guid in guids}
        if wanted:
            there = target.find(child)
            spared |= wanted - {one.guid for one in there.snapshots} if there is not None else wanted
    return spared


def destroyed(results: Iterable[Result]) -> Iterator[tuple[str, str, list[Result]]]:
    """For each dataset of which snapshots were to be destroyed, which of them have gone, in words, and what failed."""
    for dataset, group in groupby(results, lambda result: result.name.partition("@")[0]):
        of_dataset = list(group)
        done = [f"@{result.name.partition('@')[2]}" for result in of_dataset if result.ok]
        words = f"{len(done)} snapshots from {done[0]} to {done[-1]}" if len(done) > 1 else "".join(done)
        yield dataset, words, [result for result in of_dataset if not result.ok]


@dataclass(frozen=True, slots=True)
class Orphan:
    """A dataset at the target whose source is gone, or was: what is done about it, in words and as operations."""

    child: str
    name: str
    words: str
    operations: tuple[Operation, ...]
    loss: str = ""
    back: bool = False
    """Its source is there again."""


def orphans(
    source: Inventory, target: Inventory, selection: Selection, *, age: float, now: datetime.datetime
) -> list[Orphan]:
    """What to do about datasets whose source is gone, what is below before what is above.

    With an ``age`` (seconds), one that is not marked is marked with ``now``, and goes when the mark is so old. One
    whose source is back loses its mark. A clock may be wrong: of ``now`` and the times that the inventories tell, the
    mark has the latest, and its age is by the earliest.
    """
    gone = _gone(source, target, selection)
    seconds = [now.timestamp(), *(min(tree.at, _MAX_SECONDS) for tree in (source, target) if tree.at > 0)]
    earliest, latest = (datetime.datetime.fromtimestamp(when, datetime.UTC) for when in (min(seconds), max(seconds)))
    found = []
    for child in sorted(target.datasets, key=lambda child: child.split("/"), reverse=True):
        dataset = target.datasets[child]
        if child not in gone:
            if dataset.gone and child in source and not _marked_above(child, target):
                words = "is back at the source: its mark goes"
                found.append(Orphan(child, dataset.name, words, (Operation("unmark", dataset.name),), back=True))
            continue
        since = _time(dataset.gone)
        if age and since is None:
            if child.rpartition("/")[0] in gone:
                continue  # it inherits the mark
            stamp = latest.strftime("%Y-%m-%dT%H:%M:%SZ")
            words = "is gone at the source: marked, and destroyed when it has been gone for long enough"
            found.append(Orphan(child, dataset.name, words, (Operation("mark", dataset.name, (stamp,)),)))
        elif not age or (since is not None and (earliest - since).total_seconds() >= age):
            loss = f"{len(dataset.snapshots)} snapshots, {dataset.used:,} bytes"
            words = "is destroyed, because its source is gone"
            found.append(Orphan(child, dataset.name, words, losing.destroy(dataset), loss))
    return found


def _gone(source: Inventory, target: Inventory, selection: Selection) -> Collection[str]:
    """Children that are gone with everything that is below them at the target."""
    gone: set[str] = set()
    kept: set[str] = set()
    for child in sorted(target.datasets, key=lambda child: child.split("/"), reverse=True):
        dataset = target.datasets[child]
        goes = child and child not in source and selection.takes(child) and not dataset.aside and child not in kept
        goes = goes and not _left_out(child, source)
        (gone if goes else kept).add(child)
        if not goes:
            kept.add(child.rpartition("/")[0])
    return gone


def _left_out(child: str, source: Inventory) -> bool:
    """Whether the source says of what is still there above ``child`` that it takes no part."""
    above = parent_of(child)
    while above is not None and above not in source:
        above = parent_of(above)
    return above is not None and source.datasets[above].excluded


def _marked_above(child: str, target: Inventory) -> bool:
    """Whether the mark is inherited: from a dataset that is marked itself."""
    parent = child.rpartition("/")[0]
    return parent in target.datasets and bool(target.datasets[parent].gone) and bool(parent)


def _time(stamp: str) -> datetime.datetime | None:
    """When a mark was made; None for what is no time at which one can have been, and so no mark."""
    try:
        time = datetime.datetime.strptime(stamp, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=datetime.UTC)
    except ValueError:
        return None
    return time if time >= _FIRST_MARK else None
