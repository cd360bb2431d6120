"""The first record of a stream, which says what the stream is. Pure.

Also shipped to the far end: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

_RECORD = struct.Struct("IIQQQIIQQ256s")  # dmu_replay_record_t with drr_begin, sys/zfs_ioctl.h
HEAD_BYTES = 312
"""sizeof (dmu_replay_record_t): the record, and what other records have room for."""
MAX_PAYLOAD_BYTES = 64 << 10
"""Of what belongs to the first record. That of a raw stream has about 2 KiB; a list of redacted snapshots is longer."""
_BEGIN, _MAGIC, _SUBSTREAM = 0, 0x2F5BACBAC, 1
# Features, DMU_BACKUP_FEATURE_RESUMING and _RAW, stand behind the two bits of the header's type.
_RESUMING = 1 << 20 + 2
_RAW = 1 << 24 + 2


class BadHead(Exception):
    """It is no stream that could be received: the end of a sentence."""


class Head(NamedTuple):
    """``type`` is a DMU_OST_; ``to`` and ``base`` are GUIDs, ``snapshot`` the name behind the @.

    A ``package`` holds several streams, and says nothing else of them.
    """

    package: bool
    type: int
    to: int
    base: int
    snapshot: str
    resuming: bool
    raw: bool
    payload: int
    """How many bytes belong to it, behind the record itself."""


def parse_head(data: bytes) -> Head:
    """Read the first `HEAD_BYTES` of a stream, of either byte order."""
    if len(data) < HEAD_BYTES:
        raise BadHead("its stream ends before it has begun")
    for order in "<>":
        kind, payload, magic, version, _, objects, _, to, base, name = struct.unpack_from(order + _RECORD.format, data)
        if kind == _BEGIN and magic == _MAGIC:
            snapshot = name.partition(b"\0")[0].decode("utf-8", "replace").partition("@")[2]
            resuming, raw = bool(version & _RESUMING), bool(version & _RAW)
            return Head(version & 3 != _SUBSTREAM, objects, to, base, snapshot, resuming, raw, payload)
    raise BadHead("its stream is no stream of ZFS")
