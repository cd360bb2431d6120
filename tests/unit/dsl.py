"""Datasets in a few characters, as zrepl's tests have them: ``@a,1 #b,2 @c,3`` is name, GUID, oldest first."""

from __future__ import annotations

import zlib

from zfsync_ssh.dataset import FILESYSTEM, Bookmark, Dataset, Inventory, Snapshot


def snapshots(line: str) -> tuple[Snapshot, ...]:
    """The ``@`` entries of ``line``. Their createtxg is their place in it, so no two lines share their txgs."""
    return tuple(Snapshot(name, guid, txg) for mark, name, guid, txg in _entries(line) if mark == "@")


def bookmarks(line: str) -> tuple[Bookmark, ...]:
    """The ``#`` entries of ``line``."""
    return tuple(Bookmark(name, guid, txg) for mark, name, guid, txg in _entries(line) if mark == "#")


def _entries(line: str) -> list[tuple[str, str, int, int]]:
    made = []
    for place, entry in enumerate(line.split(), 1):
        name, _, guid = entry[1:].partition(",")
        made.append((entry[0], name, int(guid), place * 10))
    return made


def dataset(
    line: str, name: str = "src/tree", *, kind: str = FILESYSTEM, token: str = "", placeholder: bool = False
) -> Dataset:
    """A dataset with the snapshots and bookmarks of ``line``."""
    return Dataset(
        name,
        kind,
        zlib.crc32(name.encode()),
        token=token,
        placeholder=placeholder,
        snapshots=snapshots(line),
        bookmarks=bookmarks(line),
    )


def tree(name: str, /, **lines: str) -> Inventory:
    """The inventory of the tree of ``name``: ``root`` is the line of the root, ``a_b`` that of child ``/a/b``."""
    datasets = {}
    for key, line in lines.items():
        child = "" if key == "root" else "/" + key.replace("_", "/")
        datasets[child] = dataset(line, name + child)
    return Inventory(name, datasets)
