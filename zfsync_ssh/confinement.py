"""What a client may do at a confined receiver: every message, every operation, the head of every stream. Pure.

The threat is a client that was taken over, so everything that is not known to be harmless is refused: a message, verb,
property or flag that this module does not name, however new. Names are checked whole, here, because what comes
after (zfs itself, and the checks that guard against mistakes) was made for clients that mean well.

What can only be known by asking ZFS is asked by `zfsync_ssh.serve`, of the functions here that say so.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from .buffer import default_buffer
from .dataset import FILESYSTEM, MAX_NAME_CHARS, VOLUME, Snapshot, check_name, child_of
from .errors import UsageError
from .filters import FILTERS
from .holds import parse_tag
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
from .resume import BadToken, parse_token
from .tree import Arriving, Tree
from .zfs import ABOUT_QUERY, FEATURES_QUERY, QUERIES, STREAM_FLAGS, STREAM_PROPERTY

Asked: TypeAlias = Message | Operation | Arriving

MAX_OWNER_CHARS = 300
_SHORT_NAME = re.compile(r"[A-Za-z0-9_.: -]+")
_PROPERTY = re.compile(r"[a-z][a-z0-9_.:-]*")
_HOLDS = re.compile(r"zfsync:holds\.[0-9a-f]{1,40}")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")


@dataclass(frozen=True, slots=True)
class Confinement:
    """The tree that a client may reach, and what it may do there."""

    root: str
    append_only: bool = False
    """It may add to the copies, and nothing else."""
    keep_at_least: int = 0
    """The newest snapshots of each dataset that it may not destroy."""
    read_only: bool = False
    """It may list, read and be sent what is there."""

    @property
    def words(self) -> str:
        """``append-only``, ``read-only`` or what there is of others, for the log and for refusals."""
        parts = ["append-only"] * self.append_only + ["read-only"] * self.read_only
        parts += [f"keeps at least {self.keep_at_least}"] if self.keep_at_least else []
        return ", ".join(parts) or "confined"


class _Refused(Exception):
    """The message is why, as the end of a sentence."""


def refusal(asked: Asked, bounds: Confinement, tree: Tree | None) -> str:
    """Why ``asked`` may not be, as the end of a sentence; empty when it may, as far as can be known without asking ZFS.

    ``tree`` is what the client has begun with.
    """
    try:
        # (An Apply is checked by its operations, and what a Stream says by its Sync and its head.)
        for text in () if isinstance(asked, Apply | Stream) else _texts(asked):
            if any(char < " " or char == "\x7f" or "\ud800" <= char <= "\udfff" for char in text):
                raise _Refused(f"{told(text)} has characters that no name has")
        check = _CHECKS.get(type(asked))
        if check is None:
            raise _Refused(f"a {type(asked).__name__} is nothing that a confined receiver knows")
        check(asked, bounds, tree)
    except _Refused as refused:
        return str(refused)
    return ""


def told(text: str) -> str:
    """A client's text as it can be shown and logged."""
    return ascii(text if len(text) <= MAX_NAME_CHARS else text[:MAX_NAME_CHARS] + "...")


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


# ---- names -----------------------------------------------------------------------------------------------------------


def _reached(name: str, bounds: Confinement) -> str:
    """``name``, if it is a dataset that the client may reach: in the root, or in the buffer that belongs to that."""
    try:
        check_name(name)
    except UsageError as error:
        raise _Refused(str(error).rstrip(".")) from error
    if all(child_of(top, name) is None for top in (bounds.root, default_buffer(bounds.root))):
        raise _Refused(f"{told(name)} is not in {bounds.root}, which is all that this key reaches")
    return name


def _marked(name: str, mark: str, bounds: Confinement) -> str:
    """Likewise for a snapshot (``mark`` is ``@``) or bookmark (``#``)."""
    dataset, found, short = name.partition(mark)
    _reached(dataset, bounds)
    if not found or not _SHORT_NAME.fullmatch(short) or short in (".", "..") or len(name) > MAX_NAME_CHARS:
        raise _Refused(f"{told(name)} is not the name of a {'snapshot' if mark == '@' else 'bookmark'}")
    return name


def _child(child: str, bounds: Confinement, tree: Tree) -> str:
    """The full name of a child."""
    if child and not child.startswith("/"):
        raise _Refused(f"{told(child)} is not in {tree.root}")
    return _reached(tree.root + child, bounds)


def _tree(tree: Tree | None) -> Tree:
    if tree is None:
        raise _Refused("nothing was begun")
    return tree


def _writes(bounds: Confinement) -> None:
    if bounds.read_only:
        raise _Refused("this key may only read there (zfsync serve --read-only)")


# ---- messages --------------------------------------------------------------------------------------------------------


def _begin(begin: Begin, bounds: Confinement, _: Tree | None) -> None:
    _reached(begin.root, bounds)
    if child_of(bounds.root, begin.root) is None:
        raise _Refused(f"{told(begin.root)} is not {bounds.root}, nor below it")
    if begin.buffer not in ("", default_buffer(begin.root)):
        raise _Refused(f"{told(begin.buffer)} cannot be the buffer: a confined receiver has none but its own")


def _lock(lock: Lock, bounds: Confinement, tree: Tree | None) -> None:
    if _tree(tree).buffer:
        _writes(bounds)
    elif not lock.owner.isalnum():
        raise _Refused(f"{told(lock.owner)} is not the name of a run")
    if len(lock.owner) > MAX_OWNER_CHARS:
        raise _Refused("the name of the lock's owner is too long")


def _inventory(inventory: Inventory, _: Confinement, __: Tree | None) -> None:
    if inventory.holds and not _HOLDS.fullmatch(inventory.holds):
        raise _Refused(f"{told(inventory.holds)} is not a property that tells of holds")


def _query(query: Query, bounds: Confinement, tree: Tree | None) -> None:
    if query.kind in (FEATURES_QUERY, ABOUT_QUERY):
        return  # take no names
    if query.kind not in QUERIES:
        raise _Refused(f"{told(query.kind)} is nothing that can be asked")
    for name in query.names:
        mark = next((mark for mark in "@#" if mark in name), "")
        child = name.partition(mark)[0] if mark else name
        full = _child(child, bounds, _tree(tree))
        if mark:
            _marked(full + name[len(child) :], mark, bounds)


def _send(send: Send, bounds: Confinement, tree: Tree | None) -> None:
    dataset = _child(send.child, bounds, _tree(tree))
    if send.filter and send.filter not in FILTERS:
        raise _Refused(f"{told(send.filter)} is no filter")
    if send.token:
        resumed_snapshot(send.token, bounds)
        return
    _marked(f"{dataset}@{send.to}", "@", bounds)
    if send.base:
        mark = "#" if send.base.startswith("#") else "@"
        _marked(dataset + send.base if send.base.startswith(mark) else send.base, mark, bounds)
    if set(send.flags) - set(STREAM_FLAGS):
        raise _Refused(f"{told(send.flags)} are no flags of a stream")


def _digest(digest: Digest, bounds: Confinement, tree: Tree | None) -> None:
    _marked(f"{_child(digest.child, bounds, _tree(tree))}@{digest.snapshot}", "@", bounds)


def _clean_buffer(clean: CleanBuffer, bounds: Confinement, tree: Tree | None) -> None:
    _writes(bounds)
    for child in clean.placeholders:
        _child(child, bounds, _tree(tree))


def _sync(sync: Sync, bounds: Confinement, tree: Tree | None) -> None:
    _writes(bounds)
    target = _tree(tree)
    own = _child(sync.child, bounds, target)
    if _reached(sync.name, bounds) != own and not (sync.child and child_of(target.buffer, sync.name)):
        raise _Refused(f"{told(sync.name)} is no place for {own}")
    if sync.kind not in (FILESYSTEM, VOLUME):
        raise _Refused(f"{told(sync.kind)} is no type of dataset")
    if sync.origin:
        _marked(sync.origin, "@", bounds)
    for text in sync.properties:
        name, _, value = text.partition("=")
        if not _harmless(name, value):
            raise _Refused(f"a confined receiver does not let {told(text)} be set on a copy")
    for name in sync.excluded:
        if not _PROPERTY.fullmatch(name) or name in _KEPT:
            raise _Refused(f"a confined receiver does not let {told(name)} be excluded")


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


# ---- operations ------------------------------------------------------------------------------------------------------

READING_VERBS = frozenset({"alive"})
ADDING_VERBS = READING_VERBS | {"ancestor", "placeholder", "buffer", "drop"}
"""What an append-only client may do. A partial receive that is dropped is its own, and was never a snapshot."""

_SHAPES = {
    "hold": ("snapshot", "tag"),
    "release": ("snapshot", "tag"),
    "announce": ("dataset", "tag"),
    "forget": ("dataset", "tag"),
    "let-go": ("dataset", "tag"),
    "alive": ("dataset", "run"),
    "bookmark": ("bookmark", "snapshot"),
    "unbookmark": ("bookmark",),
    "destroy-snapshot": ("snapshot",),
    "ancestor": ("dataset",),
    "placeholder": ("dataset",),
    "buffer": ("dataset",),
    "drop": ("dataset",),
    "rename": ("moved", "dataset", "kind"),
    "park": ("moved", "dataset", "kind", "dataset"),
    "aside": ("moved", "dataset", "kind"),
    "rollback": ("snapshot", "newest"),
    "hollow": ("dataset", "newest"),
    "destroy": ("moved", "newest"),
    "promote": ("dataset",),
    "mark": ("dataset", "time"),
    "unmark": ("dataset",),
    "inherit-key": ("dataset",),
}
"""What each verb of `zfsync_ssh.operations` takes; one that is not here is refused."""


def _operation(operation: Operation, bounds: Confinement, tree: Tree | None) -> None:
    verb, name, arguments = operation
    shape = _SHAPES.get(verb)
    if shape is None or len(shape) != 1 + len(arguments):
        raise _Refused(f"{told(verb)} is nothing that a confined receiver does")
    if verb not in READING_VERBS:
        _writes(bounds)
    if bounds.append_only and verb not in ADDING_VERBS:
        raise _Refused(f"this key may only add to what is there (zfsync serve --append-only): no {verb}")
    for kind, text in zip(shape, (name, *arguments), strict=True):
        _SHAPE_CHECKS[kind](text, bounds)
    if verb == "buffer" and name != _tree(tree).buffer:
        raise _Refused(f"{told(name)} is not the buffer")


def _moved(name: str, bounds: Confinement) -> None:
    if _reached(name, bounds) in (bounds.root, default_buffer(bounds.root)):
        raise _Refused(f"{name} itself stays where it is: it is the root that this key is confined to")


def _tag(text: str, _: Confinement) -> None:
    if parse_tag(text) is None or len(text) > MAX_NAME_CHARS:
        raise _Refused(f"{told(text)} is not a tag of zfsync's own holds")


def _kind(text: str, _: Confinement) -> None:
    if text not in (FILESYSTEM, VOLUME):
        raise _Refused(f"{told(text)} is no type of dataset")


def _run(text: str, _: Confinement) -> None:
    if not (text.isascii() and text.isalnum() and len(text) <= MAX_NAME_CHARS):
        raise _Refused(f"{told(text)} is not the name of a run")


def _time(text: str, _: Confinement) -> None:
    if not _TIME.fullmatch(text):
        raise _Refused(f"{told(text)} is no time")


def _newest(text: str, _: Confinement) -> None:
    if text and not (text.isascii() and text.isdigit()):
        raise _Refused(f"{told(text)} is no GUID")


_SHAPE_CHECKS: dict[str, Callable[[str, Confinement], object]] = {
    "dataset": _reached,
    "moved": _moved,
    "snapshot": lambda text, bounds: _marked(text, "@", bounds),
    "bookmark": lambda text, bounds: _marked(text, "#", bounds),
    "tag": _tag,
    "kind": _kind,
    "run": _run,
    "time": _time,
    "newest": _newest,
}


# ---- streams ---------------------------------------------------------------------------------------------------------

_RECORD = struct.Struct("IIQQQIIQQ256s")  # dmu_replay_record_t with drr_begin, sys/zfs_ioctl.h
_BEGIN, _MAGIC, _SUBSTREAM = 0, 0x2F5BACBAC, 1
_RESUMING = 1 << 22  # DMU_BACKUP_FEATURE_RESUMING, behind the two bits of the header's type
_TYPES = {FILESYSTEM: 2, VOLUME: 3}  # DMU_OST_ZFS, DMU_OST_ZVOL, sys/fs/zfs.h


def _arriving(stream: Arriving, bounds: Confinement, _: Tree | None) -> None:
    """The stream has to be what was announced, and to be one.

    A package of several (`zfs send -R`, -I, -p) has names and properties in it, and `zfs receive` makes datasets of
    those names. And of one stream `zfs receive` may look for the base, by its GUID, in the whole pool.
    """
    _writes(bounds)
    _reached(stream.name, bounds)
    if stream.filter:
        raise _Refused("a confined receiver takes no stream that is compressed on its way")
    head = read_head(stream.head)
    if head.type != _TYPES.get(stream.kind):
        raise _Refused(f"its stream is not that of a {stream.kind}")
    if head.to != stream.to:
        raise _Refused("its stream is of another snapshot than was announced")
    if head.resuming and not stream.token:
        raise _Refused("its stream goes on with a receive that nobody resumes")
    if not stream.token and head.base != stream.base:
        raise _Refused("its stream begins from another snapshot than was announced")


@dataclass(frozen=True, slots=True)
class Head:
    """What the first record of a stream says of it."""

    type: int
    to: int
    base: int
    resuming: bool


def read_head(data: bytes) -> Head:
    """Read the first record of a stream."""
    if len(data) < _RECORD.size:
        raise _Refused("its stream ends before it has begun")
    for order in "<>":
        kind, _, magic, version, _, objects, _, to, base, _ = struct.unpack(order + _RECORD.format, data)
        if kind == _BEGIN and magic == _MAGIC:
            if version & 3 != _SUBSTREAM:
                raise _Refused("its stream is a package of several: a confined receiver takes one snapshot at a time")
            return Head(objects, to, base, bool(version & _RESUMING))
    raise _Refused("its stream is no stream of ZFS")


def needs_dataset(stream: Arriving) -> bool:
    """Whether the dataset has to be there: else `zfs receive` would look for the base elsewhere in the pool."""
    return read_head(stream.head).base != 0 and not stream.clone


def resumed_snapshot(token: str, bounds: Confinement) -> tuple[str, int]:
    """The full name and GUID of the snapshot that a token sends on; they have to belong together."""
    try:
        said = parse_token(token)
    except BadToken as error:
        raise _Refused(f"it cannot be resumed: {error}") from error
    return _marked(said.to_name, "@", bounds), said.to_guid


# ---- the floor -------------------------------------------------------------------------------------------------------

DESTROYING_VERBS = frozenset({"destroy-snapshot", "rollback", "hollow", "destroy"})


def below_floor(operation: Operation, snapshots: tuple[Snapshot, ...] | None, keep: int) -> str:
    """Why a dataset with these ``snapshots``, oldest first, would keep less than it has to; None: it is not there."""
    dataset, _, short = operation.name.partition("@")
    floor = f"the newest {keep} snapshots of each dataset stay (zfsync serve --keep-at-least)"
    if snapshots is None:
        return f"{dataset} is not there"
    kept = {snapshot.name for snapshot in snapshots[-keep:]}
    if operation.verb == "destroy-snapshot":
        return floor if short in kept else ""
    if operation.verb == "rollback":
        return "" if snapshots and snapshots[-1].name == short else floor
    return floor if snapshots else ""


_Check: TypeAlias = Callable[[Any, Confinement, Tree | None], None]  # each takes its own kind of message


def _fine(_: object, __: Confinement, ___: Tree | None) -> None:
    """What is checked piece by piece: `Operation`, `Arriving`; or has nothing in it that could be wrong."""


_CHECKS: dict[type, _Check] = {
    Begin: _begin,
    Lock: _lock,
    Inventory: _inventory,
    Query: _query,
    Apply: _fine,
    Operation: _operation,
    Sync: _sync,
    Stream: _fine,
    Arriving: _arriving,
    CleanBuffer: _clean_buffer,
    Send: _send,
    Digest: _digest,
    More: _fine,
}
