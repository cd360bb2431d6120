"""What there is: datasets, snapshots, bookmarks, and the inventory of a tree. Frozen values, no I/O.

A *child* is the name of a dataset relative to the root of its tree, as the original zfsync wrote it: ``""`` is the
root itself, ``"/a/b"`` two levels below it. The same child names a dataset on both sides, whatever the roots are.

Also shipped to the far end: standard library only, Python >= 3.8. `NamedTuple` and not `dataclass`, because importing
`dataclasses` and making twenty of them costs an agent as much as all else that it does before its hello.
"""

from __future__ import annotations

import re
from typing import Dict, Iterator, Mapping, NamedTuple, Optional, Tuple

from .errors import UsageError

MAX_NAME_CHARS = 255
"""Longest full name of a dataset or snapshot: ZFS_MAX_DATASET_NAME_LEN less its NUL (sys/fs/zfs.h)."""

MAX_RECEIVED_CHARS = MAX_NAME_CHARS - len("/%recv")
"""Longest full name of a dataset that may be received into. What goes on with one that exists is first received into
its child ``%recv``, and where that name is too long, ZFS does not refuse: the kernel panics in dsl_dir_name, and the
pool hangs until the next boot (OpenZFS 2.4.4, tests/lab/test_names.py)."""

MAX_ROLLED_BACK_CHARS = MAX_NAME_CHARS - len("/%rollback")
"""Likewise, of a dataset that may be rolled back."""

_COMPONENT = re.compile(r"[A-Za-z0-9_.: -]+")

FILESYSTEM = "filesystem"
VOLUME = "volume"


class Snapshot(NamedTuple):
    """One snapshot. ``name`` is what stands after the ``@``; ``written`` is in bytes on disk.

    ``creation``, in seconds since 1970, is 0 unless it was asked for.
    """

    name: str
    guid: int
    createtxg: int
    written: int = 0
    creation: int = 0


class Bookmark(NamedTuple):
    """One bookmark. ``name`` is what stands after the ``#``; ``guid`` is that of the snapshot it was made of."""

    name: str
    guid: int
    createtxg: int


class Dataset(NamedTuple):
    """One filesystem or volume, with its snapshots and bookmarks, oldest first."""

    name: str
    kind: str
    guid: int
    used: int = 0
    token: str = ""
    """receive_resume_token: not empty when a receive was interrupted here."""
    origin: str = ""
    encrypted: bool = False
    compressed: bool = False
    """ZFS compresses what is written to it, and so its streams are compressed already."""
    placeholder: bool = False
    """Made by zfsync, for children alone: in the place of a parent without snapshots, or as the buffer."""
    excluded: bool = False
    """The user property zfsync:exclude is on."""
    path: str = ""
    """For a dataset in the buffer: the full name that it is to have, from its user property."""
    snapshots: Tuple[Snapshot, ...] = ()
    bookmarks: Tuple[Bookmark, ...] = ()
    written: int = 0
    """Bytes on disk, since the newest snapshot."""
    available: int = 0
    """Bytes that it may still take, quotas counted."""
    encryption_root: str = ""
    key_loaded: bool = False
    stream: str = ""
    """For a copy: the flags of `zfs send` that it was received with, from its user property."""
    aside: bool = False
    """Set aside by zfsync, because it had diverged."""
    gone: str = ""
    """For a copy: since when its source has been gone (ISO 8601), from its user property."""
    holds: str = ""
    """For a source: the tag of holds that a run to the same target made, and has not released."""
    version: str = ""
    """Stands for its snapshots, and is the same as long as they are; empty where ZFS does not tell."""

    @property
    def complete(self) -> bool:
        """Whether it is more than the beginning of a first receive that was cut off."""
        return bool(self.snapshots) or not self.token

    @property
    def newest(self) -> Optional[Snapshot]:
        """The newest snapshot, or None."""
        return self.snapshots[-1] if self.snapshots else None


class Host(NamedTuple):
    """Where a tree is: another host, or this machine, which has no name."""

    name: str = ""

    def __str__(self) -> str:
        return self.name or "this machine"

    def at(self, dataset: str) -> str:
        """``dataset`` as the user names it: ``host:dataset``, or by itself on this machine."""
        return "%s:%s" % (self.name, dataset) if self.name else dataset


class Inventory:
    """Every dataset of one tree, by child, parents before children.

    ``datasets`` is the tree below ``root``; ``buffered`` holds those that wait in the buffer for their parents,
    likewise by the child that they will be.
    """

    __slots__ = ("ancestors", "at", "available", "buffer", "buffered", "datasets", "encrypted", "root")

    def __init__(
        self,
        root: str,
        datasets: Dict[str, Dataset],
        buffered: Optional[Dict[str, Dataset]] = None,
        buffer: Optional[Dataset] = None,
        ancestors: Tuple[str, ...] = (),
        available: int = 0,
        encrypted: bool = False,
        at: int = 0,
    ) -> None:
        self.root = root
        self.datasets = datasets
        self.buffered = buffered if buffered is not None else {}
        self.buffer = buffer
        """The buffer itself, if it is there."""
        self.ancestors = ancestors
        """Those datasets above ``root`` that exist; only filled in when ``root`` itself does not."""
        self.available = available
        """Bytes that the last of ``ancestors`` may still take."""
        self.encrypted = encrypted
        """Whether the last of ``ancestors`` is encrypted."""
        self.at = at
        """When the listing began, in seconds since 1970 by the clock there; 0 when that was not asked for."""

    def find(self, child: str) -> Optional[Dataset]:
        """The dataset of a child, in its place or still in the buffer."""
        return self.datasets.get(child) or self.buffered.get(child)

    def __contains__(self, child: str) -> bool:
        return child in self.datasets

    def __iter__(self) -> Iterator[str]:
        return iter(self.datasets)


def parent_of(child: str) -> Optional[str]:
    """The child that holds ``child``, or None for the root."""
    return child.rpartition("/")[0] if child else None


def nearest_above(child: str, datasets: Mapping[str, Dataset]) -> Optional[Dataset]:
    """The nearest of ``datasets``, by child, that is above ``child``; None for none."""
    above = parent_of(child)
    while above is not None and above not in datasets:
        above = parent_of(above)
    return datasets[above] if above is not None else None


def child_of(root: str, name: str) -> Optional[str]:
    """The child that dataset ``name`` is in the tree of ``root``, or None when it is not in it."""
    if name == root:
        return ""
    return name[len(root) :] if name.startswith(root + "/") else None


def pool_of(name: str) -> str:
    """The pool that dataset ``name`` is in."""
    return name.partition("/")[0]


def ancestors_of(name: str) -> Tuple[str, ...]:
    """The datasets above ``name``, the pool first."""
    parts = name.split("/")
    return tuple("/".join(parts[:depth]) for depth in range(1, len(parts)))


def is_component(text: str) -> bool:
    """Whether ``text`` could be a part of a dataset's name, or what stands after the ``@`` or ``#`` of one."""
    return _COMPONENT.fullmatch(text) is not None


def check_name(name: str) -> str:
    """Return ``name`` if it is a legal full name of a dataset; raise `UsageError` saying why not.

    The rules are those of OpenZFS's module/zcommon/zfs_namecheck.c.
    """
    reason = None
    if not name:
        reason = "it is empty"
    elif len(name) > MAX_NAME_CHARS:
        reason = "it has %d characters, and ZFS allows %d" % (len(name), MAX_NAME_CHARS)
    elif "@" in name or "#" in name:
        reason = "it names a snapshot or bookmark; give the dataset alone"
    elif not name[0].isascii() or not name[0].isalpha():
        reason = "a pool's name begins with a letter"
    else:
        for part in name.split("/"):
            if not part:
                reason = "it has an empty part between slashes"
            elif part in (".", ".."):
                reason = "'%s' is not allowed as a part of it" % part
            elif not _COMPONENT.fullmatch(part):
                reason = "ZFS allows letters, digits and _ - . : and space"
    if reason:
        raise UsageError("%r is not a dataset: %s." % (name, reason))
    return name
