"""The bookmarks that a run leaves at the source: one per dataset and target, of the newest snapshot both have. Pure.

So an incremental stream stays possible when the snapshot itself is pruned at the source.
"""

from __future__ import annotations

from collections.abc import Iterable

from .dataset import MAX_NAME_CHARS, Dataset, Snapshot
from .holds import digest_of
from .messages import Operation

PREFIX = "zfsync."


def bookmark_operations(
    copied: Iterable[tuple[Dataset, Snapshot]], target: str
) -> tuple[list[Operation], list[Operation]]:
    """What to do at the source: new bookmarks; and those of ``target`` that go when their dataset's new one is there.

    ``copied`` are the source's datasets, each with its newest snapshot that ``target``, ``host:dataset``, has.
    """
    prefix = f"{PREFIX}{digest_of(target)}."
    made, gone = [], []
    for dataset, snapshot in copied:
        own = [mark for mark in dataset.bookmarks if mark.name.startswith(prefix)]
        if all(mark.guid != snapshot.guid for mark in own):
            name = f"{dataset.name}#{prefix}{snapshot.name}"
            if len(name) > MAX_NAME_CHARS:
                name = f"{dataset.name}#{prefix}{snapshot.guid}"
            if len(name) > MAX_NAME_CHARS:
                continue  # there is no room for a bookmark at all
            made.append(Operation("bookmark", name, (f"{dataset.name}@{snapshot.name}",)))
        gone += [Operation("unbookmark", f"{dataset.name}#{mark.name}") for mark in own if mark.guid != snapshot.guid]
    return made, gone
