"""What a run's holds are called, and how it is remembered that there are some. Pure.

A run holds every snapshot that it sends, or begins a stream from, at the source, so that nobody's pruning takes them
away meanwhile. The tag is ``zfsync:TARGET:RUN``: where to, and which run. As long as there may be such holds, the
source's root carries the tag in a user property, of a name that belongs to the target: the next run to that target
sees it in its listing, without another command, and lets go of what a run left behind that had no time to.

Also shipped to the far end: standard library only, Python >= 3.8.
"""

from __future__ import annotations

from typing import NamedTuple, Optional

PREFIX = "zfsync:"
MAX_TARGET_CHARS = 200
"""Of the target in a tag: ZFS allows 255 characters (ZFS_MAX_DATASET_NAME_LEN) for all of it."""

_DIGEST_CHARS = 10


class Tag(NamedTuple):
    """A tag, taken apart: for which target, by which run."""

    target: str
    run: str

    def __str__(self) -> str:
        return "%s%s:%s" % (PREFIX, self.target, self.run)


def tag_of(target: str, run: str) -> Tag:
    """The tag of a run to ``target``, ``host:dataset``."""
    return Tag(target[-MAX_TARGET_CHARS:], run)


def parse_tag(text: str) -> Optional[Tag]:
    """A tag that zfsync made; None for somebody else's."""
    target, _, run = text[len(PREFIX) :].rpartition(":")
    return Tag(target, run) if text.startswith(PREFIX) and target and run else None


def digest_of(target: str) -> str:
    """A short name for ``target``, ``host:dataset``, where the full one does not fit."""
    from hashlib import sha256  # OpenSSL with it, which most agents never need

    return sha256(target[-MAX_TARGET_CHARS:].encode("utf-8")).hexdigest()[:_DIGEST_CHARS]


def property_of(target: str) -> str:
    """The user property of the source's root that tells of holds for ``target``."""
    return "%sholds.%s" % (PREFIX, digest_of(target))


RUN_LOCK = "@run-"
"""How the lock's name of every run begins."""


def lock_name(run: str) -> str:
    """What a run locks beside its source as long as it lives (`zfsync_ssh.lock`). No dataset has such a name."""
    return RUN_LOCK + run
