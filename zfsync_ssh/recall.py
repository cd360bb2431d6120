"""Which snapshots need not be listed, because the client remembers them from a run before. Pure.

A dataset's property ``snapshots_changed`` (OpenZFS 2.2) is the second in which a snapshot of it was last made,
received, renamed or destroyed. A dataset of the same GUID, with the same time there, has the snapshots that it had; but
a promotion moves snapshots without a trace there: it is seen by the origin. Bookmarks leave no trace at all, and are
listed always.

Also shipped to the far end: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import zlib
from typing import Container, Dict, Iterable, List, Sequence, Tuple

from . import zfs

MAX_RECALLED = 20000
"""Datasets of which the client says what it remembers: their keys fit in one message."""


def key_of(guid: str, changed: str, origin: str) -> str:
    """What stands for the snapshots of a dataset, by three of its properties; empty where ZFS does not tell."""
    return "%s:%s:%08x" % (guid, changed, zlib.crc32(origin.encode("utf-8"))) if changed.isdigit() else ""


def keys_of(lines: Iterable[str]) -> Dict[str, str]:
    """The key of each dataset, by name, in lines of `list_rest`."""
    guid, origin = zfs.DATASET_COLUMNS.index("guid"), zfs.DATASET_COLUMNS.index("origin")
    rows = (["" if value == "-" else value for value in line.split("\t")] for line in lines)
    return {row[0]: key_of(row[guid], row[-1], row[origin]) for row in rows if "#" not in row[0]}


UNKNOWN = "no-changes"
"""The code of a listing that failed because the property is not known there."""


def unknown(stderr: str) -> bool:
    """Whether `zfs list` did nothing because it does not know the property: it is of a version before 2.2."""
    return zfs.CHANGED_PROPERTY in stderr and "invalid property" in stderr


def list_rest(roots: Sequence[str], holds: str) -> Tuple[str, ...]:
    """The listing of all but snapshots in the trees of ``roots``; ``holds`` as in `zfs.list_datasets`.

    In one walk: another for the bookmarks would take as long as that for the datasets.
    """
    return zfs.list_datasets(roots, True, holds, True, "filesystem,volume,bookmark")


def list_changed(
    lines: Sequence[str], known: Container[str], roots: Sequence[str]
) -> Tuple[List[Tuple[str, ...]], bool]:
    """The listings of snapshots that are still needed, and whether they leave out those that are known.

    ``lines`` are those of `list_rest`. When most datasets have changed, all snapshots are listed, by one command.
    """
    keys = keys_of(lines)
    changed = [name for name, key in keys.items() if key not in known]
    if 2 * len(changed) >= len(keys):
        return [zfs.list_snapshots(roots, kinds="snapshot")], False
    return [zfs.list_snapshots_of(batch) for batch in zfs.batches(changed)], True
