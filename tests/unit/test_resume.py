"""Resume tokens: real ones, made ones, and what is none."""

from __future__ import annotations

import string
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakezfs import make_token
from zfsync_ssh.resume import MAX_TOKEN_BYTES, BadToken, ResumeToken, parse_token

# From OpenZFS 2.4.4 (tools 2.3.9): a full stream of p/a/b@1, and the one from there to p/a/b@2, both cut off.
FULL = (
    "1-df73b11db-e8-789c636064000310a500c4ec50360710e72765a52697303030419460caa7a515a7968064dae0f26c48f2499525a9c5"
    "40fa415c0756fd25f9e9a599290c0cb90607dbc38d354b90e539c1f27989b9a90c0c05fa89fa490e860c12507d30f7a6e626a5a6e46783"
    "cde546124fcecf2d284a2d2e064ac10100cb731bee"
)
INCREMENTAL = (
    "1-10777edcc9-110-789c636064000310a501c49c50360710a715e5e7a69766a6304041aec1c1f67063cd1205209b1d495d7e52566a72"
    "09030333541d867c5a5a716a0948460b2ecf86249f5459925a0ca477a8e860d55f920f7145e63df1a09dc7c35991e539c1f27989b9a90c"
    "0c05fa89fa490e460c12507d307fa5e626a5a6e46783cde546124fcecf2d284a2d2e064ac10100731521f9"
)


def packed(body: bytes, length: int | None = None) -> str:
    """A token around any bytes."""
    return f"1-0-{len(body) if length is None else length:x}-{zlib.compress(body).hex()}"


def nvpair(name: str, kind: int, data: bytes, size: int | None = None, name_bytes: int | None = None) -> bytes:
    """One pair of a native little-endian nvlist; ``size`` and ``name_bytes`` may lie."""
    key = name.encode() + b"\0"
    length = len(key) if name_bytes is None else name_bytes
    key += b"\0" * (-len(key) % 8)
    whole = 16 + len(key) + len(data)
    return struct.pack("<ihhii", whole if size is None else size, length, 0, 1, kind) + key + data


HEAD = b"\0\1\0\0" + struct.pack("<ii", 0, 1)
END = b"\0" * 4
TO_GUID, TO_NAME = nvpair("toguid", 8, struct.pack("<Q", 5)), nvpair("toname", 9, b"p@a\0\0\0\0\0")


# ---- tokens ----------------------------------------------------------------------------------------------------------


def test_a_real_token_of_a_full_stream_is_read() -> None:
    assert parse_token(FULL) == ResumeToken("p/a/b@1", 8370277833477533805, 0, 0x885EE0, False, "ec")


def test_a_real_token_of_an_incremental_stream_is_read() -> None:
    token = parse_token(INCREMENTAL)
    assert (token.to_name, token.to_guid, token.from_guid) == ("p/a/b@2", 384995891923639913, 8370277833477533805)
    assert token.received > 0
    assert not token.raw


@given(st.text(min_size=1, max_size=40).filter(lambda text: "\0" not in text), *[st.integers(0, 2**64 - 1)] * 3)
def test_a_made_token_is_read(name: str, to: int, base: int, received: int) -> None:
    token = make_token({"toguid": to, "toname": name, "fromguid": base, "bytes": received, "object": 7, "author": "me"})
    assert parse_token(token) == ResumeToken(name, to, base, received, False)


def test_what_a_token_leaves_out_is_nothing() -> None:
    assert parse_token(make_token({"toguid": 5, "toname": "p@a"})) == ResumeToken("p@a", 5, 0, 0, False)


def test_a_raw_stream_is_known_by_its_flag() -> None:
    assert parse_token(packed(HEAD + TO_GUID + TO_NAME + nvpair("rawok", 1, b"") + END)).raw
    assert not parse_token(packed(HEAD + TO_GUID + TO_NAME + nvpair("compressok", 1, b"") + END)).raw


def test_values_of_other_types_are_passed_over() -> None:
    array = nvpair("redact_snaps", 16, struct.pack("<QQ", 1, 2))
    assert parse_token(packed(HEAD + array + TO_GUID + TO_NAME + END)).to_guid == 5


def test_a_token_of_a_big_endian_machine_is_read() -> None:
    def pair(name: bytes, kind: int, data: bytes) -> bytes:
        return struct.pack(">ihhii", 24 + len(data), len(name) + 1, 0, 1, kind) + name.ljust(8, b"\0") + data

    body = pair(b"toguid", 8, struct.pack(">Q", 5)) + pair(b"toname", 9, b"p@a".ljust(8, b"\0"))
    token = parse_token(packed(b"\0\0\0\0" + struct.pack(">ii", 0, 1) + body + END))
    assert (token.to_guid, token.to_name) == (5, "p@a")


# ---- what is none ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not a version 1"),
        ("-", "not a version 1"),
        ("1-", "not a version 1"),
        ("1-a-b-", "not a version 1"),
        (FULL.replace("1-", "2-", 1), "not a version 1"),
        (FULL[:-20], "not a resume token"),
        (FULL[:-1], "not a resume token"),
        (FULL.replace("-e8-", "-zz-"), "not a resume token"),
        (FULL.replace("-e8-", "-80-"), "not a resume token"),
        (FULL.replace("-e8-", "-0-"), "not a resume token"),
        ("1-0-4-" + "zz" * 8, "not a resume token"),
        ("1-0-4-" + "00" * 8, "not a resume token"),
        (packed(b""), "not a resume token"),
        (packed(b"\1" + HEAD[1:] + TO_GUID + TO_NAME + END), "encoding other than the native one"),
        (packed(HEAD), "not a resume token"),
        (packed(HEAD + TO_GUID + TO_NAME), "not a resume token"),
        (packed(HEAD + END), "names no snapshot"),
        (packed(HEAD + TO_GUID + END), "names no snapshot"),
        (packed(HEAD + TO_NAME + END), "names no snapshot"),
        (packed(HEAD + nvpair("toguid", 9, b"5\0\0\0\0\0\0\0") + TO_NAME + END), "names no snapshot"),
        (packed(HEAD + TO_GUID + TO_NAME + nvpair("bytes", 9, b"5\0\0\0\0\0\0\0") + END), "numbers are no numbers"),
        (packed(HEAD + TO_GUID + TO_NAME + nvpair("fromguid", 9, b"5\0\0\0\0\0\0\0") + END), "numbers are no numbers"),
        (packed(HEAD + nvpair("toguid", 8, b"12345678", size=4000)), "reaches past its end"),
        (packed(HEAD + nvpair("toguid", 8, b"12345678", size=-8)), "reaches past its end"),
        (packed(HEAD + nvpair("toguid", 8, b"12345678", size=15)), "reaches past its end"),
        (packed(HEAD + nvpair("toname", 9, b"p@a.....")), "not a resume token"),
        (packed(HEAD + nvpair("toname", 9, b"\xff\0\0\0\0\0\0\0") + END), "not a resume token"),
    ],
)
def test_what_is_no_token_is_refused(text: str, why: str) -> None:
    with pytest.raises(BadToken, match=why):
        parse_token(text)


def parsed_or_bad(text: str) -> None:
    try:
        token = parse_token(text)
    except BadToken:
        return
    assert isinstance(token, ResumeToken)


@given(st.text(max_size=30) | st.text(string.hexdigits + "-", max_size=60).map("1-".__add__))
def test_garbage_is_only_ever_a_bad_token(text: str) -> None:
    parsed_or_bad(text)


@given(st.binary(max_size=120), st.integers(0, 200) | st.none())
def test_any_nvlist_is_read_or_a_bad_token(body: bytes, length: int | None) -> None:
    parsed_or_bad(packed(body, length))
    parsed_or_bad(packed(HEAD + body + END))


pairs = st.builds(
    nvpair,
    st.sampled_from(["toguid", "toname", "fromguid", "bytes", "rawok", "x"]),
    st.sampled_from([1, 8, 9, 16, -1]),
    st.binary(max_size=16),
    st.none() | st.integers(-(2**31), 2**31 - 1) | st.integers(0, 64),
    st.none() | st.integers(-(2**15), 2**15 - 1),
)


@given(st.lists(pairs, max_size=5))
def test_an_nvlist_that_lies_about_its_sizes_is_read_or_a_bad_token(some: list[bytes]) -> None:
    parsed_or_bad(packed(HEAD + b"".join(some) + END))


@given(st.sampled_from([FULL, INCREMENTAL]), st.integers(0), st.characters(codec="ascii"))
def test_a_real_token_with_one_character_changed_is_read_or_a_bad_token(real: str, at: int, char: str) -> None:
    at %= len(real)
    parsed_or_bad(real[:at] + char + real[at + 1 :])


# ---- bombs -----------------------------------------------------------------------------------------------------------


def test_a_token_that_says_it_is_too_large_is_refused() -> None:
    with pytest.raises(BadToken, match="longer than a resume token can be"):
        parse_token(f"1-0-{MAX_TOKEN_BYTES + 1:x}-00")


def test_a_token_that_is_too_large_is_refused() -> None:
    with pytest.raises(BadToken, match="longer than a resume token can be"):
        parse_token("1-0-10-" + "00" * (MAX_TOKEN_BYTES + 1))


def test_a_small_token_is_not_inflated_beyond_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    inflated = []
    genuine = zlib.decompressobj

    class Watched:
        def decompress(self, data: bytes, limit: int = 0) -> bytes:
            out = genuine().decompress(data, limit)
            inflated.append(len(out))
            return out

    monkeypatch.setattr(zlib, "decompressobj", Watched)
    bomb = packed(HEAD + b"\0" * (50 << 20), MAX_TOKEN_BYTES)
    assert len(bomb) < 2 * MAX_TOKEN_BYTES
    with pytest.raises(BadToken, match="names no snapshot"):
        parse_token(bomb)
    assert inflated == [MAX_TOKEN_BYTES]
