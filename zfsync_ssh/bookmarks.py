"""The bookmarks that a run leaves at the source: one per dataset and target, of the newest snapshot both have. Pure.

So an incremental stream stays possible when the snapshot itself is pruned at the source.
"""

from __future__ import annotations

from collections.abc import Iterable

from .dataset import MAX_NAME_CHARS, Dataset, Snapshot
from .holds import digest_of
from .item import Item
from .messages import Operation

PREFIX = "zfsync."


def bookmark_operations(
    copied: Iterable[tuple[Dataset, Snapshot]], target: str
) -> tuple[list[Operation], list[Operation]]:
    """What to do at the source: new bookmarks; and those of ``target`` that go when their dataset's new one is there.

    ``copied`` are the source's datasets, each with its newest snapshot that ``target``, ``host:dataset``, has.
    """
    prefix = _prefix(target)
    made, gone = [], []
    for dataset, snapshot in copied:
        own = [mark for mark in dataset.bookmarks if mark.name.startswith(prefix)]
        if all(mark.guid != snapshot.guid for mark in own):
            name = _mark(dataset, snapshot, target)
            if not name:
                continue
            made.append(Operation("bookmark", name, (f"{dataset.name}@{snapshot.name}",)))
        gone += [Operation("unbookmark", f"{dataset.name}#{mark.name}") for mark in own if mark.guid != snapshot.guid]
    return made, gone


def marks_of_partial(item: Item, target: str) -> list[Operation]:
    """Bookmarks of every snapshot that ``item``, whose streams were cut off, may have brought to ``target``."""
    arriving = [snapshot for step in item.steps for snapshot in step.snapshots]
    named = ((_mark(item.source, snapshot, target), snapshot) for snapshot in arriving)
    return [Operation("bookmark", mark, (f"{item.source.name}@{snapshot.name}",)) for mark, snapshot in named if mark]


def spared(dataset: Dataset, target: str) -> set[int]:
    """GUIDs of the snapshots that the bookmarks for ``target`` tell to keep: the next stream may need them themselves.

    After a good run there is one bookmark, of the newest snapshot that both have. After one that was cut off there are
    those of what may have arrived as well, and the oldest of these is the one that takes long, in a first copy: without
    its snapshot it could not be resumed.
    """
    own = [mark for mark in dataset.bookmarks if mark.name.startswith(_prefix(target))]
    return {mark.guid for mark in sorted(own, key=lambda mark: mark.createtxg)[:2]}


def snapshot_name(mark: str) -> str:
    """The name of the snapshot that a bookmark was made of, as far as its name tells."""
    return mark.split(".", 2)[-1] if mark.startswith(PREFIX) else mark


def _mark(dataset: Dataset, snapshot: Snapshot, target: str) -> str:
    """The full name of a bookmark; empty when there is no room for one at all."""
    names = (f"{dataset.name}#{_prefix(target)}{name}" for name in (snapshot.name, snapshot.guid))
    return next((name for name in names if len(name) <= MAX_NAME_CHARS), "")


def _prefix(target: str) -> str:
    return f"{PREFIX}{digest_of(target)}."
