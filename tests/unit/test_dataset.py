"""Names: which are legal, and how a child, its parent and its ancestors hang together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.strategies import children, names
from zfsync_ssh.dataset import (
    MAX_NAME_CHARS,
    Dataset,
    Inventory,
    Snapshot,
    ancestors_of,
    check_name,
    child_of,
    parent_of,
    pool_of,
)
from zfsync_ssh.errors import UsageError


@given(names)
def test_every_legal_name_is_accepted(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name", ["p", "tank/a b:c-d_e.f", "P/0", "p/.hidden", "p/...", "p/-", "p/a ", "p/" + "x" * 253]
)
def test_odd_names_that_zfs_allows_are_accepted(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "it is empty"),
        ("p/" + "x" * 254, "it has 256 characters, and ZFS allows 255"),
        ("p/a@b", "names a snapshot or bookmark"),
        ("p/a#b", "names a snapshot or bookmark"),
        ("/p/a", "a pool's name begins with a letter"),
        ("-p", "a pool's name begins with a letter"),
        ("1p/a", "a pool's name begins with a letter"),
        (" p", "a pool's name begins with a letter"),
        ("ä/a", "a pool's name begins with a letter"),
        ("p//a", "an empty part between slashes"),
        ("p/a/", "an empty part between slashes"),
        ("p/./a", "'.' is not allowed as a part"),
        ("p/..", "'..' is not allowed as a part"),
        ("p/ä", "ZFS allows letters, digits"),
        ("p/%recv", "ZFS allows letters, digits"),
        ("p/a\n", "ZFS allows letters, digits"),
        ("p/a\tb", "ZFS allows letters, digits"),
        ("p/a\0", "ZFS allows letters, digits"),
        ("p/$(x)", "ZFS allows letters, digits"),
    ],
)  # fmt: skip
def test_an_illegal_name_is_refused_with_the_reason(name: str, why: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_name(name)
    assert why in str(caught.value)
    assert str(caught.value).startswith(repr(name))


@given(st.text(max_size=20))
def test_what_is_accepted_can_be_taken_for_no_option_and_no_control(text: str) -> None:
    try:
        name = check_name(text)
    except UsageError:
        return
    assert name.isascii()
    assert name.isprintable()
    assert name[0].isalpha()
    assert len(name) <= MAX_NAME_CHARS


@given(names, children)
def test_a_child_is_what_stands_behind_its_root(root: str, child: str) -> None:
    assert child_of(root, root + child) == child
    assert child_of(root, root) == ""
    assert child_of(root + child, root) is None
    assert child_of(root, root + "x" + child) is None


@given(children)
def test_parents_lead_to_the_root(child: str) -> None:
    steps = 0
    current: str | None = child
    while current:
        parent = parent_of(current)
        assert parent is not None
        assert current.startswith(parent + "/")
        assert "/" not in current[len(parent) + 1 :]
        current, steps = parent, steps + 1
    assert current == ""
    assert steps == child.count("/")


def test_the_root_has_no_parent() -> None:
    assert parent_of("") is None


@given(names)
def test_ancestors_lead_from_the_pool_to_the_parent(name: str) -> None:
    above = ancestors_of(name)
    assert len(above) == name.count("/")
    for depth, ancestor in enumerate(above):
        assert ancestor.count("/") == depth
        assert child_of(ancestor, name)
    assert pool_of(name) == (*above, name)[0]


def test_the_newest_snapshot_is_the_last() -> None:
    old, new = Snapshot("a", 1, 1), Snapshot("b", 2, 2)
    assert Dataset("p", "filesystem", 1, snapshots=(old, new)).newest is new
    assert Dataset("p", "filesystem", 1).newest is None


def test_an_inventory_is_asked_for_children() -> None:
    inventory = Inventory("p", {"": Dataset("p", "filesystem", 1)})
    assert "" in inventory
    assert "/a" not in inventory
    assert list(inventory) == [""]
    assert inventory.buffered == {}
