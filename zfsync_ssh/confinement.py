"""What a client may say to a confined receiver: every message. Pure.

The threat is a client that was taken over, so everything that is not known to be harmless is refused: a message, verb,
property or flag that is not named here, in `zfsync_ssh.verbs` or in `zfsync_ssh.streamhead`, however new. What can only
be known by asking ZFS is asked by `zfsync_ssh.serve`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from .bounds import Confinement, Refused, begun, check_writes, child_in, marked, reached, told
from .buffer import default_buffer
from .dataset import FILESYSTEM, VOLUME, child_of
from .filters import FILTERS
from .messages import (
    Apply,
    Begin,
    CleanBuffer,
    Digest,
    Inventory,
    Lock,
    Message,
    More,
    Operation,
    Query,
    Send,
    Stream,
    Sync,
)
from .streamhead import check_arriving, resumed_snapshot
from .tree import Arriving, Tree
from .verbs import check_operation
from .zfs import ABOUT_QUERY, ABOVE_QUERY, FEATURES_QUERY, QUERIES, STREAM_FLAGS, STREAM_PROPERTY

Asked: TypeAlias = Message | Operation | Arriving

MAX_OWNER_CHARS = 300
_PROPERTY = re.compile(r"[a-z][a-z0-9_.:-]*")
_HOLDS = re.compile(r"zfsync:holds\.[0-9a-f]{1,40}")


def refusal(asked: Asked, bounds: Confinement, tree: Tree | None) -> str:
    """Why ``asked`` may not be, as the end of a sentence; empty when it may, as far as can be known without asking ZFS.

    ``tree`` is what the client has begun with.
    """
    try:
        # (An Apply is checked by its operations, and what a Stream says by its Sync and its head.)
        for text in () if isinstance(asked, Apply | Stream) else _texts(asked):
            if any(char < " " or char == "\x7f" or "\ud800" <= char <= "\udfff" for char in text):
                raise Refused(f"{told(text)} has characters that no name has")
        check = _CHECKS.get(type(asked))
        if check is None:
            raise Refused(f"a {type(asked).__name__} is nothing that a confined receiver knows")
        check(asked, bounds, tree)
    except Refused as refused:
        return str(refused)
    return ""


def describe(asked: Asked) -> str:
    """What was asked, for the log."""
    if isinstance(asked, Operation):
        return f"{told(asked.verb)} of {' '.join(map(told, (asked.name, *asked.arguments[:3])))}"
    if isinstance(asked, Arriving):
        return f"a stream into {told(asked.name)}"
    named = {Begin: "root", Sync: "name", Send: "child", Digest: "child", Query: "names", CleanBuffer: "placeholders"}
    what = getattr(asked, named.get(type(asked), ""), "")
    name = type(asked).__name__
    return f"{name} of {told(what if isinstance(what, str) else ' '.join(what))}" if what else name


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, tuple):
        for part in value:
            yield from _texts(part)


def _begin(begin: Begin, bounds: Confinement, _: Tree | None) -> None:
    reached(begin.root, bounds)
    if child_of(bounds.root, begin.root) is None:
        raise Refused(f"{told(begin.root)} is not {bounds.root}, nor below it")
    if begin.buffer not in ("", default_buffer(begin.root)):
        raise Refused(f"{told(begin.buffer)} cannot be the buffer: a confined receiver has none but its own")


def _lock(lock: Lock, bounds: Confinement, tree: Tree | None) -> None:
    if begun(tree).buffer:
        check_writes(bounds)
    elif not lock.owner.isalnum():
        raise Refused(f"{told(lock.owner)} is not the name of a run")
    if len(lock.owner) > MAX_OWNER_CHARS:
        raise Refused("the name of the lock's owner is too long")


def _inventory(inventory: Inventory, _: Confinement, __: Tree | None) -> None:
    if inventory.holds and not _HOLDS.fullmatch(inventory.holds):
        raise Refused(f"{told(inventory.holds)} is not a property that tells of holds")


def _query(query: Query, bounds: Confinement, tree: Tree | None) -> None:
    if query.kind in (FEATURES_QUERY, ABOUT_QUERY, ABOVE_QUERY):
        return  # take no names
    if query.kind not in QUERIES:
        raise Refused(f"{told(query.kind)} is nothing that can be asked")
    for name in query.names:
        mark = next((mark for mark in "@#" if mark in name), "")
        child = name.partition(mark)[0] if mark else name
        full = child_in(child, bounds, begun(tree))
        if mark:
            marked(full + name[len(child) :], mark, bounds)


def _send(send: Send, bounds: Confinement, tree: Tree | None) -> None:
    dataset = child_in(send.child, bounds, begun(tree))
    if send.filter and send.filter not in FILTERS:
        raise Refused(f"{told(send.filter)} is no filter")
    if send.token:
        resumed_snapshot(send.token, bounds)
        return
    marked(f"{dataset}@{send.to}", "@", bounds)
    if send.base:
        mark = "#" if send.base.startswith("#") else "@"
        marked(dataset + send.base if send.base.startswith(mark) else send.base, mark, bounds)
    if set(send.flags) - set(STREAM_FLAGS):
        raise Refused(f"{told(send.flags)} are no flags of a stream")


def _digest(digest: Digest, bounds: Confinement, tree: Tree | None) -> None:
    marked(f"{child_in(digest.child, bounds, begun(tree))}@{digest.snapshot}", "@", bounds)


def _clean_buffer(clean: CleanBuffer, bounds: Confinement, tree: Tree | None) -> None:
    check_writes(bounds)
    for child in clean.placeholders:
        child_in(child, bounds, begun(tree))


def _sync(sync: Sync, bounds: Confinement, tree: Tree | None) -> None:
    check_writes(bounds)
    target = begun(tree)
    own = child_in(sync.child, bounds, target)
    if reached(sync.name, bounds) != own and not (sync.child and child_of(target.buffer, sync.name)):
        raise Refused(f"{told(sync.name)} is no place for {own}")
    if sync.kind not in (FILESYSTEM, VOLUME):
        raise Refused(f"{told(sync.kind)} is no type of dataset")
    if sync.origin:
        marked(sync.origin, "@", bounds)
    for text in sync.properties:
        name, _, value = text.partition("=")
        if not _harmless(name, value):
            raise Refused(f"a confined receiver does not let {told(text)} be set on a copy")
    for name in sync.excluded:
        if not _PROPERTY.fullmatch(name) or name in _KEPT:
            raise Refused(f"a confined receiver does not let {told(name)} be excluded")


HARMLESS_PROPERTIES = (
    *("aclinherit", "aclmode", "acltype", "atime", "compression", "dnodesize", "logbias", "primarycache"),
    *("recordsize", "relatime", "secondarycache", "xattr"),
)
"""What a client may set on its copies: not where they are mounted, what may run from there, nor what they take up."""

_KEPT = ("readonly", "encryption", "keylocation", "keyformat")


def _harmless(name: str, value: str) -> bool:
    if name == STREAM_PROPERTY:
        return value.isascii() and value.isalpha()
    pairs = ("readonly=on", "canmount=off", "canmount=noauto")
    return name in HARMLESS_PROPERTIES or f"{name}={value}" in pairs


_Check: TypeAlias = Callable[[Any, Confinement, Tree | None], None]  # each takes its own kind of message


def _fine(_: object, __: Confinement, ___: Tree | None) -> None:
    """What is checked piece by piece: `Operation`, `Arriving`; or has nothing in it that could be wrong."""


_CHECKS: dict[type, _Check] = {
    Begin: _begin,
    Lock: _lock,
    Inventory: _inventory,
    Query: _query,
    Apply: _fine,
    Operation: check_operation,
    Sync: _sync,
    Stream: _fine,
    Arriving: check_arriving,
    CleanBuffer: _clean_buffer,
    Send: _send,
    Digest: _digest,
    More: _fine,
}
