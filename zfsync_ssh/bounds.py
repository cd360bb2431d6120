"""What a client of a confined receiver may reach: its tree, and the names in that. Pure.

Names are checked whole, here, because what comes after (zfs itself, and the checks that guard against mistakes) was
made for clients that mean well.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .buffer import default_buffer
from .dataset import MAX_NAME_CHARS, check_name, child_of
from .errors import UsageError
from .floor import NO_FLOOR, Floor
from .tree import Tree

_SHORT_NAME = re.compile(r"[A-Za-z0-9_.: -]+")


@dataclass(frozen=True, slots=True)
class Confinement:
    """The tree that a client may reach, and what it may do there."""

    root: str
    append_only: bool = False
    """It may add to the copies, and nothing else."""
    keep_at_least: Floor = NO_FLOOR
    """Snapshots of each dataset that it may not destroy."""
    read_only: bool = False
    """It may list, read and be sent what is there."""

    @property
    def words(self) -> str:
        """``append-only``, ``read-only`` or what there is of others, for the log and for refusals."""
        parts = ["append-only"] * self.append_only + ["read-only"] * self.read_only
        parts += [f"keeps {self.keep_at_least.words}"] if self.keep_at_least else []
        return ", ".join(parts) or "confined"


class Refused(Exception):
    """The message is why, as the end of a sentence."""


def told(text: str) -> str:
    """A client's text as it can be shown and logged."""
    return ascii(text if len(text) <= MAX_NAME_CHARS else text[:MAX_NAME_CHARS] + "...")


def reached(name: str, bounds: Confinement) -> str:
    """``name``, if it is a dataset that the client may reach: in the root, or in the buffer that belongs to that."""
    try:
        check_name(name)
    except UsageError as error:
        raise Refused(str(error).rstrip(".")) from error
    if all(child_of(top, name) is None for top in (bounds.root, default_buffer(bounds.root))):
        raise Refused(f"{told(name)} is not in {bounds.root}, which is all that this key reaches")
    return name


def marked(name: str, mark: str, bounds: Confinement) -> str:
    """Likewise for a snapshot (``mark`` is ``@``) or bookmark (``#``)."""
    dataset, found, short = name.partition(mark)
    reached(dataset, bounds)
    if not found or not _SHORT_NAME.fullmatch(short) or short in (".", "..") or len(name) > MAX_NAME_CHARS:
        raise Refused(f"{told(name)} is not the name of a {'snapshot' if mark == '@' else 'bookmark'}")
    return name


def child_in(child: str, bounds: Confinement, tree: Tree) -> str:
    """The full name of a child."""
    if child and not child.startswith("/"):
        raise Refused(f"{told(child)} is not in {tree.root}")
    return reached(tree.root + child, bounds)


def begun(tree: Tree | None) -> Tree:
    """The tree that the client has begun with."""
    if tree is None:
        raise Refused("nothing was begun")
    return tree


def check_writes(bounds: Confinement) -> None:
    """Refuse what would change anything, where a client may only read."""
    if bounds.read_only:
        raise Refused("this key may only read there (zfsync serve --read-only)")
