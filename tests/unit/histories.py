"""Pairs of histories that replication can leave behind, for hypothesis."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import strategies as st

from zfsync_ssh.dataset import Bookmark, Snapshot


class Histories(NamedTuple):
    """What became of one dataset at the source, and of its copy at the target, each oldest first."""

    source: tuple[Snapshot, ...]
    bookmarks: tuple[Bookmark, ...]
    target: tuple[Snapshot, ...]


@st.composite
def histories(draw: st.DrawFn) -> Histories:
    """Snapshots 1, 2, 3, ... were taken; each was kept, bookmarked and sent, or not; foreign ones came in between.

    A bookmark always has a younger snapshot at the source.
    """
    source, bookmarks, target = [], [], []
    count = draw(st.integers(1, 8))
    for guid in range(1, count + 1):
        name = draw(st.sampled_from([f"s{guid}", "same"]))
        last = guid == count
        if draw(st.booleans()) or last:
            source.append(Snapshot(name, guid, guid * 10))
        if draw(st.booleans()) and not last:
            bookmarks.append(Bookmark(name, guid, guid * 10))
        if draw(st.booleans()):
            target.append(Snapshot(name, guid, 500 + guid * 10))
        if draw(st.integers(0, 4)) == 0:
            target.append(Snapshot(name, 1000 + guid, 505 + guid * 10))
    return Histories(tuple(source), tuple(bookmarks), tuple(target))
