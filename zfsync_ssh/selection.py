"""Which datasets and snapshots of a source take part. Pure.

A pattern is a glob, in which ``*`` stands for anything, slashes too, or a regular expression after ``re:``. It has to
match the whole of a name: of a dataset relative to the root, without a slash in front (``home/ann``), or of a snapshot.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from .dataset import Dataset, Inventory, Snapshot
from .errors import UsageError


@dataclass(frozen=True, slots=True)
class Selection:
    """Patterns, and which of the snapshots that they match are wanted."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    snapshots: tuple[str, ...] = ()
    exclude_snapshots: tuple[str, ...] = ()
    intermediates: bool = True
    latest: int = 0
    """Only so many of a dataset's snapshots, the newest; 0 for all."""
    since: float = 0.0
    """Only snapshots that were made then, in seconds since 1970, or later. The inventory has to tell the times."""
    until: str = ""
    """As if there were no snapshots after the one of this name; and none of a dataset that has not got it."""

    def __post_init__(self) -> None:
        """`UsageError` for a pattern that is none."""
        for pattern in (*self.include, *self.exclude, *self.snapshots, *self.exclude_snapshots):
            _compiled(pattern)
        for pattern in (*self.include, *self.exclude):
            _check_dataset(pattern)
        for pattern in (*self.snapshots, *self.exclude_snapshots):
            _check_snapshot(pattern)

    def takes(self, child: str) -> bool:
        """Whether a dataset takes part: it, or one above it, is included, and neither it nor one above is excluded."""
        parts = child.split("/")[1:]
        paths = ["/".join(parts[:depth]) for depth in range(1, len(parts) + 1)] or [""]
        included = not self.include or any(_matches(self.include, path) for path in paths)
        return included and not any(_matches(self.exclude, path) for path in paths)

    def datasets(self, source: Inventory) -> Inventory:
        """The part of a source's tree that takes part; the user property ``zfsync:exclude=on`` counts as well."""
        taken = {
            child: self._up_to(dataset)
            for child, dataset in source.datasets.items()
            if not dataset.excluded and self.takes(child)
        }
        return Inventory(source.root, taken)

    def _up_to(self, dataset: Dataset) -> Dataset:
        """``dataset`` as it was when the snapshot `until` was its newest."""
        if not self.until:
            return dataset
        names = [snapshot.name for snapshot in dataset.snapshots]
        end = names.index(self.until) + 1 if self.until in names else 0
        return dataset._replace(snapshots=dataset.snapshots[:end], bookmarks=())

    def wanted(self, snapshots: Sequence[Snapshot]) -> list[bool]:
        """Which of a dataset's snapshots, oldest first, are to be sent."""
        taken = [
            (not self.snapshots or _matches(self.snapshots, snapshot.name))
            and not _matches(self.exclude_snapshots, snapshot.name)
            for snapshot in snapshots
        ]
        if self.since:
            taken = [took and snapshot.creation >= self.since for took, snapshot in zip(taken, snapshots, strict=True)]
        limit = self.latest if self.intermediates else 1
        if limit:
            newest = set([index for index, took in enumerate(taken) if took][-limit:])
            taken = [index in newest for index in range(len(taken))]
        return taken


EVERYTHING = Selection()


def _check_dataset(pattern: str) -> None:
    """Refuse a glob that can match no dataset's name."""
    if pattern.startswith("re:"):
        return
    plain, mark, snapshot = pattern.partition("@")
    if mark and "[" not in pattern:
        dataset = plain.strip("/")
        raise UsageError(
            f"{pattern!r} matches no dataset: give {dataset!r}, and {snapshot!r} as a pattern of snapshots."
        )
    if pattern != pattern.strip("/"):
        raise UsageError(f"{pattern!r} matches no dataset: give {pattern.strip('/')!r}, relative to the source.")


def _check_snapshot(pattern: str) -> None:
    """Likewise for the name of a snapshot."""
    if "@" in pattern and "[" not in pattern and not pattern.startswith("re:"):
        raise UsageError(f"{pattern!r} matches no snapshot: give {pattern.rpartition('@')[2]!r}, what is after the @.")


def _matches(patterns: tuple[str, ...], text: str) -> bool:
    return any(_compiled(pattern).fullmatch(text) for pattern in patterns)


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern[3:] if pattern.startswith("re:") else fnmatch.translate(pattern))
    except re.error as error:
        raise UsageError(f"{pattern!r} is not a regular expression: {error}.") from error
