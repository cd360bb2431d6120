"""The head of a stream, which says what `zfs receive` would make of it; and the token that a stream resumes. Pure."""

from __future__ import annotations

from .bounds import Confinement, Refused, check_writes, marked, reached
from .dataset import FILESYSTEM, VOLUME
from .head import BadHead, Head, parse_head
from .resume import BadToken, ResumeToken, parse_token
from .tree import Arriving, Tree

_TYPES = {FILESYSTEM: 2, VOLUME: 3}  # DMU_OST_ZFS, DMU_OST_ZVOL, sys/fs/zfs.h


def check_arriving(stream: Arriving, bounds: Confinement, _: Tree | None) -> None:
    """The stream has to be what was announced, and to be one.

    A package of several (`zfs send -R`, -I, -p) has names and properties in it, and `zfs receive` makes datasets of
    those names. And of one stream `zfs receive` may look for the base, by its GUID, in the whole pool.
    """
    check_writes(bounds)
    reached(stream.name, bounds)
    if stream.filter:
        raise Refused("a confined receiver takes no stream that is compressed on its way")
    head = read_head(stream.head)
    if head.type != _TYPES.get(stream.kind):
        raise Refused(f"its stream is not that of a {stream.kind}")
    if not head.to:  # as of a package; what has no GUID could never be told from another
        raise Refused("its stream is of no snapshot")
    if head.to != stream.to:
        raise Refused("its stream is of another snapshot than was announced")
    if head.resuming and not stream.token:
        raise Refused("its stream goes on with a receive that nobody resumes")
    # A token comes from `Sync.known`, a client's word: it excuses the stream from nothing.
    if stream.token and not head.resuming:
        raise Refused("its stream goes on with no receive, and was announced as one that does")
    if head.base != (_said(stream.token).from_guid if stream.token else stream.base):
        raise Refused("its stream begins from another snapshot than was announced")


def read_head(data: bytes) -> Head:
    """Read the first record of a stream that is one."""
    try:
        head = parse_head(data)
    except BadHead as error:
        raise Refused(str(error)) from error
    if head.package:
        raise Refused("its stream is a package of several: a confined receiver takes one snapshot at a time")
    return head


def resumed_snapshot(token: str, bounds: Confinement) -> tuple[str, int]:
    """The full name and GUID of the snapshot that a token sends on; they have to belong together."""
    said = _said(token)
    return marked(said.to_name, "@", bounds), said.to_guid


def _said(token: str) -> ResumeToken:
    try:
        return parse_token(token)
    except BadToken as error:
        raise Refused(f"it cannot be resumed: {error}") from error
