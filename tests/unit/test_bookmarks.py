"""The bookmarks that a run leaves at the source, one per dataset and target."""

from __future__ import annotations

from tests.unit.dsl import dataset
from zfsync_ssh.bookmarks import PREFIX, bookmark_operations, spared
from zfsync_ssh.dataset import MAX_NAME_CHARS, Bookmark, Snapshot
from zfsync_ssh.holds import digest_of
from zfsync_ssh.messages import Operation

TARGET = "there:dst"
MARK = f"{PREFIX}{digest_of(TARGET)}."


def test_the_newest_that_both_have_is_bookmarked_and_the_one_before_goes() -> None:
    one = dataset("@b,2", "src/a")._replace(bookmarks=(Bookmark(MARK + "a", 1, 5), Bookmark("mine", 7, 6)))
    made, gone = bookmark_operations([(one, one.snapshots[0])], TARGET)
    assert made == [Operation("bookmark", f"src/a#{MARK}b", ("src/a@b",))]
    assert gone == [Operation("unbookmark", f"src/a#{MARK}a")]


def test_one_that_is_there_is_not_made_again() -> None:
    one = dataset("@b,2", "src/a")._replace(bookmarks=(Bookmark(MARK + "b", 2, 5),))
    assert bookmark_operations([(one, one.snapshots[0])], TARGET) == ([], [])


def test_the_two_oldest_of_a_target_tell_which_snapshots_it_needs() -> None:
    other = Bookmark(f"{PREFIX}{digest_of('other:dst')}.z", 9, 1)
    marks = tuple(Bookmark(MARK + name, guid, 10 * guid) for name, guid in (("d", 4), ("b", 2), ("c", 3)))
    one = dataset("@b,2 @c,3 @d,4", "src/a")
    assert spared(one._replace(bookmarks=(*marks, other, Bookmark("mine", 8, 2))), TARGET) == {2, 3}
    assert spared(one._replace(bookmarks=(other,)), TARGET) == set()


def test_those_of_another_target_stay() -> None:
    one = dataset("@b,2", "src/a")._replace(bookmarks=(Bookmark(f"{PREFIX}{digest_of('other:dst')}.a", 1, 5),))
    assert bookmark_operations([(one, one.snapshots[0])], TARGET)[1] == []


def test_a_name_that_does_not_fit_says_the_guid_or_nothing_goes() -> None:
    for length, name in ((200, str(2**63)), (240, None)):
        one = dataset("", "src/" + "a" * (length - 4))._replace(bookmarks=(Bookmark(MARK + "old", 1, 5),))
        made, gone = bookmark_operations([(one, Snapshot("b" * 40, 2**63, 9))], TARGET)
        assert [operation.name.rpartition(".")[2] for operation in made] == ([name] if name else [])
        assert bool(gone) == bool(name)  # else there would be none at all
        assert all(len(operation.name) <= MAX_NAME_CHARS for operation in made)
