"""The buffer: where a dataset waits that arrived before its parent. Pure functions over names.

The buffer of target ``pool/backup`` is the dataset ``pool/backup.zfsyncbuffer``. Child ``/a/b`` waits in it as
``2F612F62``, the hexadecimal of its UTF-8, and is renamed into place, parents first, when the parent is there: the
way of the original zfsync. A hexadecimal name is twice as long as what it says and ZFS allows 255 characters, so
one that would not fit is replaced by a digest; the full name that it is to have is in every case
kept in the user property `PATH_PROPERTY` of the buffered dataset.

Also shipped to the far end: standard library only, Python >= 3.8.
"""

from __future__ import annotations

from typing import Iterable, List, Mapping, NamedTuple, Optional, Tuple

from .dataset import MAX_NAME_CHARS, child_of, parent_of, pool_of

SUFFIX = ".zfsyncbuffer"
PATH_PROPERTY = "zfsync:path"

_DIGEST_CHARS = 20
_DIGEST_MARK = "H-"
"""Begins a digest name. No hexadecimal name has an H or a dash, so the two kinds cannot be confused."""


def default_buffer(root: str) -> str:
    """The buffer of target ``root``: beside it, or inside when the root is a whole pool, which nothing is beside."""
    return root + SUFFIX if "/" in root else "%s/%s" % (root, SUFFIX.lstrip("."))


def encode(child: str) -> str:
    """``/a/b`` -> ``2F612F62``. The root, ``""``, never waits: it has no parent to wait for."""
    return child.encode("utf-8").hex().upper()


def decode(name: str) -> Optional[str]:
    """``2F612F62`` -> ``/a/b``; None for a name that `encode` did not make."""
    try:
        child = bytes.fromhex(name).decode("utf-8")
    except ValueError:
        return None
    return child if child.startswith("/") and all(child[1:].split("/")) and encode(child) == name else None


def buffered_name(buffer: str, child: str, longest_snapshot: int) -> str:
    """The full name under which ``child`` waits in ``buffer``.

    ``longest_snapshot`` is the length in characters of its longest snapshot name, which has to fit behind it.
    """
    name = "%s/%s" % (buffer, encode(child))
    if len(name) + 1 + longest_snapshot <= MAX_NAME_CHARS:
        return name
    from hashlib import sha256  # OpenSSL with it, which most agents never need

    return "%s/%s%s" % (buffer, _DIGEST_MARK, sha256(child.encode("utf-8")).hexdigest()[:_DIGEST_CHARS])


def child_waiting(root: str, buffer: str, name: str, path: str) -> Optional[str]:
    """Which child of ``root`` the dataset ``name`` in ``buffer`` is; None when it is none.

    ``path`` is the value of its `PATH_PROPERTY`, the full name that it is to have, or empty. Without it only the name
    tells, and only in the root's own buffer: another may serve several targets. What lies below a dataset that waits
    inherits its property, and waits with it.
    """
    inside = child_of(buffer, name)
    if not inside:
        return None
    head, slash, below = inside[1:].partition("/")
    own = buffer == default_buffer(root) and not below
    child = child_of(root, path) if path else decode(head) if own else None
    return child + slash + below if child else None


class Move(NamedTuple):
    """One rename out of the buffer; or, without ``source``, a placeholder to make for the children of ``child``."""

    child: str
    source: str


class Stuck(NamedTuple):
    """A dataset that stays in the buffer, and why, as the end of a sentence."""

    child: str
    reason: str


def rename_plan(
    root: str, waiting: Mapping[str, str], present: Iterable[str], placeholders: Iterable[str] = ()
) -> Tuple[List[Move], List[Stuck]]:
    """How to empty the buffer: what to do, in that order, and what has to stay.

    ``waiting`` maps each buffered child to its full name in the buffer, ``present`` is the children that the target
    already has, ``placeholders`` those to make where they are missing. A parent is moved, or made, before its
    children; nothing is ever moved onto what is there. What lies below another that waits goes along with that.
    """
    names = set(waiting.values())
    nested = {child: name for child, name in waiting.items() if name.rpartition("/")[0] in names}
    waiting = {child: name for child, name in waiting.items() if child not in nested}
    there = set(present)
    moves: List[Move] = []
    stuck: List[Stuck] = []
    for child in sorted({*waiting, *placeholders}, key=lambda child: (child.count("/"), child)):
        source = waiting.get(child, "")
        parent = parent_of(child)
        if child in there:
            if source:
                stuck.append(Stuck(child, "%s%s is there already" % (root, child)))
        elif parent is not None and parent not in there:
            if source:
                stuck.append(Stuck(child, "its parent %s%s is not there" % (root, parent)))
        elif len(root) + len(child) > MAX_NAME_CHARS:
            if source:
                stuck.append(Stuck(child, "its name would be longer than ZFS allows"))
        else:
            moves.append(Move(child, source))
            there.add(child)
            there.update(below for below, name in nested.items() if source and name.startswith(source + "/"))
    return moves, stuck


def check_buffer(root: str, buffer: str) -> Optional[str]:
    """Why ``buffer`` cannot serve target ``root``, as the end of a sentence; None when it can."""
    if pool_of(buffer) != pool_of(root):
        return "it has to be in the target's pool, %s, because a rename cannot leave a pool" % pool_of(root)
    if child_of(buffer, root) is not None:
        return "the target lies inside it"
    return None
