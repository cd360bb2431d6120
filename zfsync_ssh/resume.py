"""What a resume token says. Pure.

`zfs receive -s` leaves a token on a dataset whose receive was cut off. It says which snapshot was on its way, by GUID,
so whether it still fits is decided by reading it, without a command. Layout: ``1-CHECKSUM-SIZE-HEX``, where HEX is
a zlib-compressed nvlist in its native encoding (OpenZFS lib/libzfs/libzfs_sendrecv.c, zfs_send_resume_token_to_nvlist;
module/nvpair/nvpair.c, nvs_native_*).

Also shipped to the far end: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import struct
import zlib
from typing import Dict, NamedTuple, Set, Union

MAX_TOKEN_BYTES = 64 << 10
"""A token has about 300 characters, and redaction lists make it longer. What is beyond this is no token."""

_NV_BOOLEAN, _NV_UINT64, _NV_STRING = 1, 8, 9


class BadToken(ValueError):
    """The text is not a resume token of the layout above."""


class ResumeToken(NamedTuple):
    """What a token says. ``to_guid`` is the snapshot on its way, ``from_guid`` its base, 0 for a full stream."""

    to_name: str
    to_guid: int
    from_guid: int
    received: int
    """Bytes that have arrived."""
    raw: bool
    flags: str = ""
    """Of `zfs send`: those of ``Lec`` that its stream makes use of."""


def parse_token(text: str) -> ResumeToken:
    """Read a token; `BadToken` when it is none."""
    version, _, rest = text.partition("-")
    _checksum, _, rest = rest.partition("-")
    size, _, packed = rest.partition("-")
    if version != "1" or not packed:
        raise BadToken("not a version 1 resume token")
    try:
        length = int(size, 16)
        if length > MAX_TOKEN_BYTES or len(packed) > 2 * MAX_TOKEN_BYTES:
            raise BadToken("longer than a resume token can be")
        inflated = zlib.decompressobj().decompress(bytes.fromhex(packed), MAX_TOKEN_BYTES)
        values = _nvlist(inflated[:length])
    except (ValueError, zlib.error, struct.error, IndexError) as error:
        raise BadToken("not a resume token: %s" % error) from error
    to_guid, to_name = values.get("toguid"), values.get("toname")
    if not isinstance(to_guid, int) or not isinstance(to_name, str):
        raise BadToken("it names no snapshot")
    from_guid, received = values.get("fromguid", 0), values.get("bytes", 0)
    if not isinstance(from_guid, int) or not isinstance(received, int):
        raise BadToken("its numbers are no numbers")
    flags = "".join(flag for flag, name in _FLAGS if values.get(name))
    return ResumeToken(to_name, to_guid, from_guid, received, bool(values.get("rawok")), flags)


_FLAGS = (("L", "largeblockok"), ("e", "embedok"), ("c", "compressok"))


def _nvlist(data: bytes) -> Dict[str, Union[int, str, bool]]:
    """The booleans, 64-bit numbers and strings of a packed nvlist; other types are passed over."""
    if data[0] != 0:
        raise BadToken("an nvlist in an encoding other than the native one")
    order = "<" if data[1] else ">"
    head = struct.Struct(order + "ihhii")
    values: Dict[str, Union[int, str, bool]] = {}
    seen: Set[str] = set()
    at = 12  # encoding, endianness, two spare bytes, version, flags
    while True:
        (size,) = struct.unpack_from(order + "i", data, at)
        if size == 0:
            return values
        if size < head.size or at + size > len(data):
            raise BadToken("an nvpair that reaches past its end")
        _, name_bytes, _, _, kind = head.unpack_from(data, at)
        start = at + head.size
        name = data[start : start + name_bytes - 1].decode("utf-8")
        value = start + (name_bytes + 7) // 8 * 8
        if name in seen or not name.isidentifier():  # ZFS could read it as another token than the one read here
            raise BadToken("the name of an nvpair that is there twice, or is none")
        seen.add(name)
        if kind == _NV_BOOLEAN:
            values[name] = True
        elif kind == _NV_UINT64:
            (values[name],) = struct.unpack_from(order + "Q", data, value)
        elif kind == _NV_STRING:
            values[name] = data[value : data.index(b"\0", value)].decode("utf-8")
        at += size
