"""Two streams of entries side by side: every difference is found, named and counted, however the streams are cut."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zfsync_ssh.entry import UNKNOWN, Entry, offset_path, order, path_of
from zfsync_ssh.verification import MAX_NAMED, Verification, shown

MIB = 1 << 20


def verify(one: list[Entry], two: list[Entry]) -> Verification:
    found = Verification(("here", "there"))
    for end, entries in ((0, one), (1, two)):
        found.feed(end, entries)
        found.end(end)
    return found


def words(one: Entry, two: Entry) -> str:
    return verify([one], [two]).words


FILE = Entry("etc/x", "file", 0o644, 0, 0, 5, 1_000_000_001, digest="aa")


def test_equal_streams_are_equal() -> None:
    found = verify([Entry("", "directory"), FILE], [Entry("", "directory"), FILE])
    assert (found.words, found.differences, found.entries, found.bytes) == ("", 0, 2, 5)


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (FILE._replace(mode=0o600), "mode 644 and 600"),
        (FILE._replace(uid=7), "owner 0 and 7"),
        (FILE._replace(gid=7), "group 0 and 7"),
        (FILE._replace(size=6), "size 5 and 6"),
        (FILE._replace(mtime=1_000_000_002), "time of change"),
        (FILE._replace(digest="bb"), "contents"),
        (FILE._replace(xattrs="cc"), "extended attributes"),
        (FILE._replace(acl="cc"), "ACLs"),
        (FILE._replace(links="2 names of 8"), "hard links"),
        (FILE._replace(points_to="/"), "target"),
        (FILE._replace(mode=0o600, digest="bb"), "mode 644 and 600, contents"),
        (FILE._replace(kind="link"), "file and link"),
        (FILE._replace(problem="Input/output error"), "cannot be read: Input/output error in there"),
    ],
)
def test_what_differs_is_told(other: Entry, what: str) -> None:
    assert words(FILE, other) == f"etc/x: {what}"


def test_what_one_end_cannot_tell_is_not_compared_and_that_is_told() -> None:
    assert words(FILE._replace(acl="cc"), FILE._replace(acl=UNKNOWN)) == ""
    assert verify([FILE._replace(acl="cc")], [FILE._replace(acl=UNKNOWN)]).not_compared == {"ACLs"}
    assert verify([FILE], [FILE._replace(acl=UNKNOWN)]).not_compared == set()
    assert verify([FILE._replace(acl=UNKNOWN)], [FILE._replace(acl=UNKNOWN)]).not_compared == set()
    neither = FILE._replace(xattrs=UNKNOWN)
    assert words(neither, neither) == ""
    for other in (FILE, neither):
        assert verify([neither], [other]).not_compared == {"extended attributes"}


def test_a_directory_of_one_end_is_told_without_what_is_in_it() -> None:
    tree = [Entry("d", "directory"), Entry("d/x", "file"), Entry("d/y", "file"), Entry("d.", "file")]
    assert verify(tree, []).words == "d: only in here; d.: only in here"
    assert verify([Entry("d/z", "file")], tree).words == ("d: only in there; d/z: only in here; d.: only in there")


def test_a_link_to_a_dash_is_not_taken_for_what_is_unknown() -> None:
    link = FILE._replace(kind="link", digest="")
    assert words(link._replace(points_to="-"), link._replace(points_to="/etc")) == "etc/x: target"
    assert words(link._replace(points_to="a"), link._replace(points_to="-")) == "etc/x: target"


@pytest.mark.parametrize("name", ["d", ""])
@pytest.mark.parametrize("end", [0, 1])
def test_what_is_in_a_directory_that_one_end_cannot_read_is_not_told_as_well(name: str, end: int) -> None:
    inside = [Entry(f"{name}/{file}".strip("/"), "file") for file in "xy"]
    for bad in (Entry(name, "directory", problem="Input/output error"), Entry(name, "", problem="Input/output error")):
        trees = [[Entry(name, "directory"), *inside], [bad]]
        assert verify(trees[end], trees[1 - end]).differences == 1


def test_what_is_in_a_directory_that_is_a_file_at_the_other_end_is_not_told_as_well() -> None:
    assert (
        verify([Entry("d", "file")], [Entry("d", "directory"), Entry("d/x", "file")]).words == "d: file and directory"
    )
    assert (
        verify([Entry("d", "directory"), Entry("d/x", "file")], [Entry("d", "file")]).words == "d: directory and file"
    )


def test_what_cannot_be_read_is_told_though_its_directory_is_alone() -> None:
    found = verify([], [Entry("d", "directory"), Entry("d/x", "file", problem="Input/output error")])
    assert (found.differences, found.unreadable) == (2, 1)


def block(number: int, digest: str, problem: str = "") -> Entry:
    return Entry(offset_path(number * MIB), "range", size=MIB, digest=digest, problem=problem)


def test_ranges_that_follow_each_other_are_one_difference() -> None:
    size = Entry("", "volume", size=9 * MIB)
    one = [size, *(block(number, "aa") for number in (0, 1, 2, 5, 7))]
    two = [size, block(0, "bb"), block(2, "bb"), block(5, "aa"), block(6, "aa"), block(7, "bb")]
    found = verify(one, two)
    assert found.words == f"bytes 0 to {3 * MIB - 1}; bytes {6 * MIB} to {8 * MIB - 1}"
    assert found.differences == 2


def test_a_range_that_cannot_be_read_is_told_by_itself() -> None:
    bad = [block(1, "", problem="Input/output error")]
    assert verify([block(1, "aa")], bad).words == (
        f"bytes {MIB} to {2 * MIB - 1}: cannot be read: Input/output error in there"
    )
    assert verify([Entry("", "volume", size=1)], [Entry("", "volume", size=2)]).words == "size 1 and 2"


def test_so_many_are_named_and_the_others_counted() -> None:
    found = verify([Entry(f"{number:03}", "file") for number in range(MAX_NAMED + 5)], [])
    assert found.differences == MAX_NAMED + 5
    assert found.words.endswith(f"{MAX_NAMED - 1:03}: only in here; and 5 more")
    ranges = verify([block(2 * number, "aa") for number in range(MAX_NAMED + 5)] + [block(49, "aa")], [])
    assert ranges.words.endswith(f"bytes {38 * MIB} to {39 * MIB - 1}; and 5 more")


@pytest.mark.parametrize("second", ["a", "b", ""])
def test_entries_out_of_order_are_refused(second: str) -> None:
    with pytest.raises(ValueError, match="not in order"):
        verify([Entry("b", "file"), Entry(second, "file")], [])


def test_a_range_has_to_have_a_place() -> None:
    with pytest.raises(ValueError, match="without a place"):
        verify([Entry("x", "range")], [])


def test_a_path_is_shown_on_one_line() -> None:
    assert shown("") == "/"
    assert shown("a b/ü") == "a b/ü"
    assert shown(path_of(b"a\n\t\xff\\\x1b")) == r"a\n\t\xff\\\x1b"


# Few names, so that the two have many in common, and such as sort otherwise with a slash behind them.
paths = st.lists(st.sampled_from((b"a", b"a.", b"b", b"\xff")), max_size=3).map(b"/".join)
trees = st.dictionaries(paths, st.integers(0, 2), max_size=8)


@given(trees, trees, st.lists(st.tuples(st.booleans(), st.integers(0, 3)), min_size=1, max_size=16))
def test_however_the_streams_are_cut_what_is_found_is_the_same(
    one: dict[bytes, int], two: dict[bytes, int], cuts: list[tuple[bool, int]]
) -> None:
    ends = [
        sorted((Entry(path_of(path), "file", size) for path, size in tree.items()), key=lambda entry: order(entry.path))
        for tree in (one, two)
    ]
    differ = {path for path in one.keys() | two.keys() if one.get(path) != two.get(path)}
    whole = verify(*ends)
    assert whole.differences == len(differ)

    found, left = Verification(("here", "there")), [list(end) for end in ends]
    again = itertools.cycle((*cuts, (False, 1)))  # with one that brings it on
    while wanting := [end for end in (0, 1) if found.wants(end)]:
        last, count = next(again)
        end = wanting[-1 if last else 0]
        found.feed(end, left[end][:count])
        del left[end][:count]
        if not left[end]:
            found.end(end)
    assert (found.words, found.differences, found.entries) == (whole.words, whole.differences, whole.entries)
