"""Entries as lines, in their order, and which of them a sample takes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zfsync_ssh.entry import EVERYTHING, Entry, chosen, decode_line, encode_line, offset_path, order, path_of

names = st.binary(min_size=1, max_size=6).filter(lambda name: b"/" not in name and b"\0" not in name)
paths = st.lists(names, max_size=4).map(b"/".join)


@given(paths, st.integers(-(1 << 63), 1 << 63), st.binary().map(path_of))
def test_any_entry_is_one_line_of_ascii_and_comes_back(path: bytes, mtime: int, target: str) -> None:
    entry = Entry(path_of(path), "link", 0o777, 1, 2, 3, mtime, target, "", "-", "", "ab", "")
    line = encode_line(entry)
    assert line.isascii()
    assert "\n" not in line
    assert decode_line(line) == entry


@given(paths, paths)
def test_the_order_is_that_of_a_walk_with_names_sorted_by_their_bytes(one: bytes, two: bytes) -> None:
    assert (order(path_of(one)) < order(path_of(two))) == (one.split(b"/") < two.split(b"/"))


def test_a_directory_comes_before_what_is_in_it_and_that_before_its_neighbours() -> None:
    assert sorted(["a.b", "a/z", "a", "", "a0"], key=order) == ["", "a", "a/z", "a.b", "a0"]


def test_ranges_are_ordered_by_their_offsets() -> None:
    assert sorted(map(offset_path, (1 << 40, 0, 1 << 20))) == [offset_path(n) for n in (0, 1 << 20, 1 << 40)]


@pytest.mark.parametrize(
    "line", ["", "[]", "{}", "1", json.dumps([*Entry("a", "file")[:-1]]), json.dumps(Entry("a", "file", True)),
             encode_line(Entry("a", "file")).replace("0", "0.0", 1), json.dumps([*Entry("a", "file"), ""])],
)  # fmt: skip
def test_a_line_of_another_shape_is_refused(line: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        decode_line(line)


def test_text_that_stands_for_no_bytes_has_no_place_in_the_order() -> None:
    with pytest.raises(ValueError, match="surrogates"):
        order(json.loads('"\\ud800"'))


def test_a_sample_is_about_as_large_as_asked_for_and_the_same_each_time() -> None:
    taken = {n for n in range(4000) if chosen(f"dir/{n}", "seed", EVERYTHING // 10)}
    assert 300 < len(taken) < 500
    assert taken == {n for n in range(4000) if chosen(f"dir/{n}", "seed", EVERYTHING // 10)}
    assert taken != {n for n in range(4000) if chosen(f"dir/{n}", "other", EVERYTHING // 10)}
    assert all(chosen(f"dir/{n}", "seed", EVERYTHING) for n in range(4000))
