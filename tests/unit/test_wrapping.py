"""The key that a raw stream brings, read out of its first record. tests/lab/test_serve.py has those of real streams."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zfsync_ssh.head import HEAD_BYTES, MAX_PAYLOAD_BYTES, BadHead, parse_head
from zfsync_ssh.wrapping import wrapped_key

Encode = Callable[["Tree"], bytes]
Tree = dict[str, "int | bytes | Tree"]

KEY: Tree = {
    "DSL_CRYPTO_SUITE": 8,
    "DSL_CRYPTO_GUID": 1 << 63,
    "DSL_CRYPTO_VERSION": 1,
    "DSL_CRYPTO_MASTER_KEY_1": bytes(range(32)),
    "DSL_CRYPTO_HMAC_KEY_1": bytes(range(64)),
    "DSL_CRYPTO_IV": b"initialized.",
    "DSL_CRYPTO_MAC": b"authenticated...",
    "portable_mac": bytes(32),
    "keyformat": 3,
    "pbkdf2iters": 350000,
    "pbkdf2salt": 12345,
    "to_ivset_guid": 77,
}


def native(values: Tree, order: str = "<", nested: bool = False) -> bytes:
    packed = b"" if nested else bytes((0, order == "<", 0, 0)) + struct.pack(order + "iI", 0, 1)
    for name, value in values.items():
        text = name.encode() + b"\0"
        if isinstance(value, dict):
            kind, count, body, behind = 19, 1, bytes(24), native(value, order, nested=True)
        elif isinstance(value, bytes):
            kind, count, body, behind = 26, len(value), value, b""
        else:
            kind, count, body, behind = 8, 1, struct.pack(order + "Q", value), b""
        start = text.ljust((len(text) + 7) // 8 * 8, b"\0")
        body = body.ljust((len(body) + 7) // 8 * 8, b"\0")
        size = 16 + len(start) + len(body)
        packed += struct.pack(order + "ihhii", size, len(text), 0, count, kind) + start + body + behind
    return packed + bytes(4)


def xdr(values: Tree, nested: bool = False) -> bytes:
    packed = (b"" if nested else bytes((1, 1, 0, 0))) + struct.pack(">iI", 0, 1)
    for name, value in values.items():
        text = name.encode()
        if isinstance(value, dict):
            kind, count, body = 19, 1, xdr(value, nested=True)
        elif isinstance(value, bytes):
            kind, count = 26, len(value)
            body = struct.pack(f">{len(value) + 1}I", len(value), *value)
        else:
            kind, count, body = 8, 1, struct.pack(">Q", value)
        start = struct.pack(">I", len(text)) + text.ljust((len(text) + 3) // 4 * 4, b"\0")
        size = 8 + len(start) + 8 + len(body)
        packed += struct.pack(">ii", size, 99) + start + struct.pack(">ii", kind, count) + body
    return packed + bytes(8)


def head(payload: bytes, order: str = "<") -> bytes:
    record = struct.pack(order + "IIQ", 0, len(payload), 0x2F5BACBAC)
    return record.ljust(HEAD_BYTES, b"\0") + payload


ENCODINGS = [
    pytest.param(lambda values: head(native(values)), id="native"),
    pytest.param(lambda values: head(native(values, ">"), ">"), id="native of the other byte order"),
    pytest.param(lambda values: head(xdr(values)), id="xdr"),
]


@pytest.mark.parametrize("encode", ENCODINGS)
def test_the_key_is_the_same_in_every_encoding(encode: Encode) -> None:
    whole = encode({"crypt_keydata": KEY, "resume_object": 5})
    assert HEAD_BYTES + parse_head(whole).payload == len(whole)
    found = wrapped_key(whole + b"what follows")
    assert found["DSL_CRYPTO_MASTER_KEY_1"] == KEY["DSL_CRYPTO_MASTER_KEY_1"]
    assert found["pbkdf2salt"] == struct.pack(">Q", 12345)
    assert found == wrapped_key(head(native({"crypt_keydata": KEY})))


@pytest.mark.parametrize("encode", ENCODINGS)
def test_another_snapshot_of_the_same_key_has_the_same_and_another_key_has_another(encode: Encode) -> None:
    mine = wrapped_key(encode({"crypt_keydata": KEY}))
    assert wrapped_key(encode({"crypt_keydata": KEY | {"to_ivset_guid": 78, "portable_mac": b"x" * 32}})) == mine
    for name in mine:
        value = KEY[name]
        other = value[::-1] if isinstance(value, bytes) else 4711
        assert wrapped_key(encode({"crypt_keydata": KEY | {name: other}})) != mine


@pytest.mark.parametrize("encode", ENCODINGS)
def test_what_has_no_whole_key_is_refused(encode: Encode) -> None:
    less: list[Tree] = [{}, {"crypt_keydata": 5}, {"crypt_keydata": {}}, {"crypt_keydata": KEY | {"keyformat": {}}}]
    for values in less:
        with pytest.raises(BadHead):
            wrapped_key(encode(values))
    deep: Tree = {}
    for _ in range(400):
        deep = {"crypt_keydata": deep}
    with pytest.raises(BadHead):
        wrapped_key(encode(deep))
    short = encode({"crypt_keydata": KEY})
    with pytest.raises(BadHead):
        wrapped_key(short[:-30])


def test_a_name_that_is_there_twice_or_is_cut_short_by_a_null_is_refused() -> None:
    twice = native({"crypt_keydata": KEY, "crypt_keydatb": KEY}).replace(b"crypt_keydatb", b"crypt_keydata")
    cut = native({"crypt_keydata": KEY, "crypt_keydata_x": KEY}).replace(b"crypt_keydata_x", b"crypt_keydata\0x")
    for payload in (twice, cut):
        with pytest.raises(BadHead):
            wrapped_key(head(payload))


def test_an_array_of_two_lengths_hides_no_other_key_from_zfs() -> None:
    """ZFS reads as many elements as the array itself says, and what follows would be its next pair."""
    honest = xdr({"crypt_keydata": KEY})
    lists_at = 12
    theirs = xdr({"crypt_keydata": KEY | {"DSL_CRYPTO_IV": b"thieves' own"}})[lists_at:]
    body = struct.pack(">I", 0) + theirs.ljust((len(theirs) + 3) // 4 * 4, b"\0")
    name = struct.pack(">I", 1) + b"x\0\0\0"
    pair = (
        struct.pack(">ii", 8 + len(name) + 8 + len(body), 99) + name + struct.pack(">ii", 26, len(body) // 4 - 1) + body
    )
    with pytest.raises(BadHead):
        wrapped_key(head(honest[:lists_at] + pair + honest[lists_at:]))
    none = struct.pack(">ii", 8 + len(name) + 8, 99) + name + struct.pack(">ii", 26, 0)
    with pytest.raises(BadHead):
        wrapped_key(head(honest[:lists_at] + none + honest[lists_at:]))
    ended = struct.pack(">ii", 8, 0)
    with pytest.raises(BadHead):
        wrapped_key(head(honest[:lists_at] + ended + honest[lists_at:]))


def test_a_payload_beyond_all_reason_is_refused_before_it_is_read() -> None:
    record = struct.pack("<IIQ", 0, MAX_PAYLOAD_BYTES + 1, 0x2F5BACBAC).ljust(HEAD_BYTES, b"\0")
    with pytest.raises(BadHead, match="begins with a payload of 65537 bytes"):
        wrapped_key(record)


@given(st.binary(max_size=400), st.integers(0, 300), st.sampled_from([native, xdr]))
def test_no_payload_makes_it_fail_otherwise(noise: bytes, at: int, encode: Encode) -> None:
    payload = encode({"crypt_keydata": KEY})
    for mangled in (noise, payload[:at] + noise, payload[:at] + noise + payload[at + len(noise) :]):
        with contextlib.suppress(BadHead):
            wrapped_key(head(mangled))
