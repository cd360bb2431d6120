"""Two trees side by side, by the GUIDs of their snapshots."""

from __future__ import annotations

import pytest

from tests.unit.dsl import dataset
from zfsync_ssh.comparison import Row, compare_inventories
from zfsync_ssh.dataset import Inventory


def rows(first: dict[str, str], second: dict[str, str]) -> list[Row]:
    one = Inventory("src", {child: dataset(line, "src" + child) for child, line in first.items()})
    two = Inventory("dst", {child: dataset(line, "dst" + child) for child, line in second.items()})
    return compare_inventories(one, two, names=("here", "there"))


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ("@a,1 @b,2", "@a,1 @b,2", ""),
        ("", "", ""),
        ("@renamed,1", "@a,1", ""),
        ("@a,1 @b,2", "@a,1", "newest in common is @a; @b only in here."),
        ("@a,1", "@a,1 @b,2", "newest in common is @a; @b only in there."),
        ("@a,1 @b,2 @c,3", "@c,3", "newest in common is @c; @a and @b only in here."),
        ("@a,1 @b,2 @c,3 @d,4", "@a,1 @x,9", "newest in common is @a; 3 snapshots from @b to @d only in here; "
                                             "@x only in there."),
        ("@a,1", "@a,9", "no snapshot in common; @a only in here; @a only in there; "
                         "@a of the same name but not the same."),
        ("@a,1", "", "no snapshot in common; @a only in here."),
    ],
)  # fmt: skip
def test_what_only_one_has_is_told(first: str, second: str, words: str) -> None:
    (row,) = rows({"": first}, {"": second})
    assert (row.words, row.equal) == (words, not words)


def test_a_dataset_of_one_tree_alone_is_told_and_parents_come_first() -> None:
    found = rows({"": "@a,1", "/x": "@a,2", "/x/y": "@a,3"}, {"": "@a,1", "/z": "@a,4"})
    assert [(row.child, row.words) for row in found] == [
        ("", ""),
        ("/x", "it is only in here."),
        ("/x/y", "it is only in here."),
        ("/z", "it is only in there."),
    ]
