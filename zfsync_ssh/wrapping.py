"""The key that a raw stream brings, wrapped by the key that its owner has: it stands behind the first record. Pure.

`zfs receive` takes that of an increment in place of the one that is there (OpenZFS module/zfs/dsl_crypt.c,
dsl_crypto_recv_raw_key_sync). So whoever sends can lock the owner out of the copy, older snapshots included, by sending
one snapshot after a `zfs change-key`.

The payload is an nvlist (module/nvpair/nvpair.c): in the native encoding up to OpenZFS 2.4, as XDR in later ones.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from .head import HEAD_BYTES, MAX_PAYLOAD_BYTES, BadHead, parse_head

_KEYDATA = "crypt_keydata"
_WRAPPED = (
    "DSL_CRYPTO_SUITE",
    "DSL_CRYPTO_GUID",
    "DSL_CRYPTO_MASTER_KEY_1",
    "DSL_CRYPTO_HMAC_KEY_1",
    "DSL_CRYPTO_IV",
    "DSL_CRYPTO_MAC",
    "keyformat",
    "pbkdf2iters",
    "pbkdf2salt",
)
"""Of the key's data, what changes with the wrapping key. The rest is of the snapshot that is sent."""

_BOOLEAN, _UINT64, _STRING, _UINT64_ARRAY, _NVLIST, _UINT8_ARRAY = 1, 8, 9, 16, 19, 26
_NATIVE, _XDR = 0, 1
_LISTS_AT = 12
"""Behind encoding, endianness, two spare bytes, version and flags."""

Values = dict[str, "bytes | Values"]


def wrapped_key(head: bytes) -> Mapping[str, bytes]:
    """The wrapped key in a raw stream's first record with its payload; `BadHead` when there is none to be read."""
    try:
        length = parse_head(head).payload
        if length > MAX_PAYLOAD_BYTES:
            raise BadHead(f"its stream begins with a payload of {length} bytes")
        payload = head[HEAD_BYTES : HEAD_BYTES + length]
        order = "<" if payload[1] else ">"
        if payload[0] == _NATIVE:
            values, _ = _native(payload, _LISTS_AT, order)
        elif payload[0] == _XDR:
            values, _ = _xdr(payload, _LISTS_AT)
        else:
            raise BadHead("the payload of its first record is in an unknown encoding")
    except (IndexError, ValueError, RecursionError, struct.error) as error:
        raise BadHead(f"the key that it brings cannot be read ({error!r})") from error
    keydata = values.get(_KEYDATA)
    found = {name: keydata.get(name) for name in _WRAPPED} if isinstance(keydata, dict) else {}
    key = {name: value for name, value in found.items() if isinstance(value, bytes)}
    if len(key) < len(_WRAPPED):
        raise BadHead("it brings no key")
    return key


def _native(data: bytes, at: int, order: str) -> tuple[Values, int]:
    """The pairs of an nvlist in its native encoding from ``at`` on, and where it ends."""
    values: Values = {}
    while True:
        (size,) = struct.unpack_from(order + "i", data, at)
        if size == 0:
            return values, at + 4
        _, name_bytes, _, count, kind = struct.unpack_from(order + "ihhii", data, at)
        name = _new(data[at + 16 : at + 16 + name_bytes - 1].decode("ascii"), values)
        value = at + 16 + (name_bytes + 7) // 8 * 8
        at += size
        if size < 16 or name_bytes < 1 or at > len(data):
            raise ValueError("a pair that reaches past its end")
        if kind == _NVLIST:  # its pairs are behind its own
            values[name], at = _native(data, at, order)
        elif kind in (_UINT64, _UINT64_ARRAY):
            values[name] = struct.pack(f">{count}Q", *struct.unpack_from(f"{order}{count}Q", data[:at], value))
        elif kind == _UINT8_ARRAY:
            values[name] = data[value : min(value + count, at)]
        elif kind not in (_BOOLEAN, _STRING):
            raise ValueError(f"a value of type {kind}")


def _xdr(data: bytes, at: int) -> tuple[Values, int]:
    """Likewise, of one in XDR."""
    values: Values = {}
    while True:
        size, decoded = struct.unpack_from(">ii", data, at)
        if decoded == 0:  # which alone is the end to ZFS
            if size:
                raise ValueError("an end that has a length")
            return values, at + 8
        (name_bytes,) = struct.unpack_from(">I", data, at + 8)
        name = _new(data[at + 12 : at + 12 + name_bytes].decode("ascii"), values)
        value = at + 12 + (name_bytes + 3) // 4 * 4
        kind, count = struct.unpack_from(">ii", data, value)
        value += 8
        if kind == _NVLIST:  # version and flags first
            values[name], end = _xdr(data, value + 8)
        elif kind == _UINT64:
            values[name], end = data[value : value + 8], value + 8
        elif kind in (_UINT64_ARRAY, _UINT8_ARRAY):
            (there,) = struct.unpack_from(">i", data, value)
            if there != count or count < 1:  # ZFS goes by the length that is there
                raise ValueError("an array of two lengths")
            end = value + 4 + (8 if kind == _UINT64_ARRAY else 4) * count
            values[name] = data[value + 4 : end] if kind == _UINT64_ARRAY else data[value + 7 : end : 4]
        elif kind == _BOOLEAN:
            end = value
        else:
            raise ValueError(f"a value of type {kind}")
        if end != at + size or end > len(data):
            raise ValueError("a pair of another length than it says")
        at = end


def _new(name: str, values: Values) -> str:
    """``name``, which is one, and is not there yet: else ZFS could find another value by it than is found here."""
    if not name.isidentifier() or name in values:
        raise ValueError(f"{name!r} is no name, or is there twice")
    return name
