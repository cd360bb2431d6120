"""The snapshots of a tree as an earlier run listed them, in a file: see `zfsync_ssh.recall` for when they still hold.

Only a memory: a file that is missing, damaged, old or cannot be written costs a listing and nothing else.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import time
import zlib
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from .dataset import Dataset, Inventory
from .errors import ZfsError
from .recall import MAX_RECALLED, UNKNOWN
from .state import make_private

MAX_AGE_SECONDS = 86400
"""After so long a dataset's snapshots are listed anew, whatever ZFS says of them."""
UNUSED_SECONDS = 30 * 86400
"""The memory of a tree that no run has asked for is then thrown away."""
SETTLED_SECONDS = 2
"""The times are whole seconds: what changed no longer ago than this may have changed once more in the same second."""
_HEAD = b"zfsync-remembered 1 "
_UNSUPPORTED = "!"


class Recall(NamedTuple):
    """What a listing is to make of it: ask when snapshots changed, and spare those whose version is in ``lines``."""

    changes: bool = False
    lines: Mapping[str, str] = MappingProxyType({})


class Remembered:
    """What is remembered of one tree, ``place``; in a file of ``directory``, which is made when it is written to."""

    def __init__(self, directory: Path, place: str, now: Callable[[], float] = time.time) -> None:
        self._path = directory / hashlib.sha256(place.encode()).hexdigest()[:24]
        self._now = now
        self._entries: dict[str, tuple[int, str]] = {}
        """By version: when they were listed, and the lines."""
        self._changed = False
        self._learned: Inventory | None = None
        for block in filter(None, _read(self._path).split("\0")):
            head, _, text = block.partition("\n")
            version, _, listed = head.rpartition(" ")
            if 0 <= now() - int(listed) < MAX_AGE_SECONDS:
                self._entries[version] = int(listed), text

    @property
    def recall(self) -> Recall:
        """What can be made of it. Lines are as listed, but with short names."""
        if _UNSUPPORTED in self._entries:
            return Recall()
        return Recall(True, {version: text for version, (_, text) in self._entries.items()})

    def learn(self, inventory: Inventory) -> None:
        """Remember what was listed, once there is time for it: see `save`."""
        self._learned = inventory

    def _take_in(self, inventory: Inventory) -> None:
        now, entries = int(self._now()), {}
        for dataset in (*inventory.datasets.values(), *inventory.buffered.values()):
            if _settled(dataset, inventory.at):
                text = "".join(f"{one.name}\t{one.guid}\t{one.createtxg}\n" for one in dataset.snapshots)
                known = self._entries.get(dataset.version)
                entries[dataset.version] = known if known and known[1] == text else (now, text)
        self._set(dict(list(entries.items())[:MAX_RECALLED]))

    def learn_unsupported(self) -> None:
        """Remember that ZFS there does not know when snapshots changed."""
        self._set({_UNSUPPORTED: (int(self._now()), "")})

    def forget(self) -> None:
        """Something went wrong that a listing from memory could have to do with: remember nothing."""
        self._learned = None
        self._set({})

    def _set(self, entries: dict[str, tuple[int, str]]) -> None:
        self._changed = self._changed or entries != self._entries
        self._entries = entries

    def save(self) -> None:
        """Write down what was learned, and throw away what nobody asks for any more."""
        if self._learned is not None:
            self._take_in(self._learned)
            self._learned = None
        with contextlib.suppress(OSError):
            if self._changed:
                blocks = (f"{version} {listed}\n{text}" for version, (listed, text) in self._entries.items())
                _write(self._path, "\0".join(blocks).encode())
                self._changed = False
            elif self._entries:
                os.utime(self._path)
            for path in self._path.parent.iterdir():
                if self._now() - path.stat().st_mtime > UNUSED_SECONDS:
                    path.unlink()


async def recalling(listed: Callable[[Recall], Awaitable[Inventory]], remembered: Remembered | None) -> Inventory:
    """What ``listed`` lists with the help of what is ``remembered``, which learns from it."""
    if remembered is None:
        return await listed(Recall())
    recall = remembered.recall
    try:
        inventory = await listed(recall)
    except ZfsError as error:
        if error.code != UNKNOWN:
            raise
        remembered.learn_unsupported()
        return await listed(Recall())
    if recall.changes:
        remembered.learn(inventory)
    return inventory


def _settled(dataset: Dataset, at: int) -> bool:
    """Whether a listing that began ``at`` saw all that happened in the second that the version names."""
    return bool(dataset.version) and int(dataset.version.split(":")[1]) + SETTLED_SECONDS <= at


def _read(path: Path) -> str:
    """The text of a file that is as it was written; of any other, nothing."""
    try:
        head, _, body = path.read_bytes().partition(b"\n")
    except OSError:
        return ""
    return body.decode() if head == _HEAD + b"%08x" % zlib.crc32(body) else ""


def _write(path: Path, body: bytes) -> None:
    make_private(path.parent)
    descriptor, name = tempfile.mkstemp(dir=path.parent)  # 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(_HEAD + b"%08x\n" % zlib.crc32(body) + body)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink()
        raise
