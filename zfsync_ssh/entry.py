"""One entry of a snapshot's contents: a file and what is known of it, or a range of a volume; as a line of text. Pure.

Entries come in one order, the same at both ends: a directory before what is in it, names by their bytes. A path is text
whatever bytes are in it: what is no UTF-8 is escaped as Python does it (``surrogateescape``), and JSON does the rest.

Also shipped to the far end: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import json
from typing import List, NamedTuple

DIRECTORY = "directory"
FILE = "file"
VOLUME = "volume"
RANGE = "range"

UNKNOWN = "-"
"""In the place of a digest: this end cannot tell."""

EVERYTHING = 1 << 32
"""The share of a snapshot of which all contents are read; see `chosen`."""

MAX_BATCH_ENTRIES = 4000
"""A batch of entries, which is what is asked for at a time, ends with so many."""


class Entry(NamedTuple):
    """One entry. ``path`` is relative to the snapshot's root, which is ``""`` itself; a range's is its `offset_path`.

    ``size`` is in bytes, and 0 for directories; ``mtime`` in nanoseconds. ``points_to`` is a link's target or the
    numbers of a device; ``links`` tells which file this is a name of, when it has several. ``xattrs``, ``acl`` and
    ``digest`` are digests: ``""`` for none, `UNKNOWN` where this end cannot tell; ``digest`` is that of the contents,
    ``""`` as well when they were not to be read. ``problem`` is why it could not be read.
    """

    path: str
    kind: str
    mode: int = 0
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime: int = 0
    points_to: str = ""
    links: str = ""
    xattrs: str = ""
    acl: str = ""
    digest: str = ""
    problem: str = ""


_TYPES = (str, str, int, int, int, int, int, str, str, str, str, str, str)


def encode_line(entry: Entry) -> str:
    """``entry`` as one line of ASCII, without its end."""
    return json.dumps(entry, separators=(",", ":"))


def decode_line(line: str) -> Entry:
    """The entry in a line; ``ValueError`` for a line that has none."""
    try:
        values = json.loads(line)
    except RecursionError as error:
        raise ValueError("a line that is no entry") from error
    if not isinstance(values, list) or tuple(type(value) for value in values) != _TYPES:
        raise ValueError("a line that is no entry")
    return Entry(*values)


def order(path: str) -> List[bytes]:
    """What entries are sorted by; ``ValueError`` for text that stands for no bytes."""
    return path.encode("utf-8", "surrogateescape").split(b"/")


def path_of(path: bytes) -> str:
    """The text of a path's bytes."""
    return path.decode("utf-8", "surrogateescape")


def offset_path(offset: int) -> str:
    """The path of the range of a volume that begins at ``offset``."""
    return "%020d" % offset


def chosen(path: str, seed: str, share: int) -> bool:
    """Whether the contents of ``path`` are among the ``share`` of `EVERYTHING` that is read: the same at both ends."""
    if share >= EVERYTHING:
        return True
    from hashlib import sha256

    digest = sha256(("%s/%s" % (seed, path)).encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:4], "big") < share
