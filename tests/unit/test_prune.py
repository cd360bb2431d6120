"""What goes at the target because the source no longer has it; above all, what stays."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.dsl import dataset, tree
from tests.unit.histories import Histories, histories
from zfsync_ssh.dataset import Dataset, Inventory
from zfsync_ssh.decision import newest_common
from zfsync_ssh.listing import InventoryParser
from zfsync_ssh.messages import Operation
from zfsync_ssh.prune import Orphan, orphans, surplus_snapshots
from zfsync_ssh.selection import EVERYTHING, Selection
from zfsync_ssh.zfs import ASIDE_PROPERTY, DATASET_COLUMNS

NOW = datetime.datetime(2026, 11, 24, tzinfo=datetime.UTC)
DAY = 86400.0


# ---- snapshots -------------------------------------------------------------------------------------------------------


def test_what_is_older_than_the_base_and_gone_goes() -> None:
    source, target = tree("src", a="@c,3 @d,4"), tree("dst", a="@a,1 @b,2 @c,3 @d,4")
    assert surplus_snapshots(source, target, {"/a": 4}) == ["dst/a@a", "dst/a@b"]


def test_the_name_is_nothing_the_guid_is_all() -> None:
    source, target = tree("src", a="@a,9 @d,4"), tree("dst", a="@a,1 @other,9 @d,4")
    assert surplus_snapshots(source, target, {"/a": 4}) == ["dst/a@a"]


def test_the_base_stays_though_only_a_bookmark_at_the_source_knows_it() -> None:
    source, target = tree("src", a="#d,4"), tree("dst", a="@a,1 @d,4")
    assert surplus_snapshots(source, target, {"/a": 4}) == ["dst/a@a"]


def test_what_has_just_come_is_newer_than_all_that_was_listed() -> None:
    source, target = tree("src", a="@e,5"), tree("dst", a="@a,1 @d,4")
    assert surplus_snapshots(source, target, {"/a": 5}) == ["dst/a@a", "dst/a@d"]


def test_a_dataset_that_is_new_or_did_not_arrive_is_not_looked_at() -> None:
    source, target = tree("src", a="@e,5", b="@f,6"), tree("dst", b="@a,1 @f,6")
    assert surplus_snapshots(source, target, {"/a": 5}) == []


def test_what_a_promotion_has_given_to_another_dataset_stays_until_that_ones_copy_has_it() -> None:
    source, target = tree("src", a="@d,4", b="@a,1 @b,2 @e,5"), tree("dst", a="@a,1 @b,2 @c,3 @d,4")
    assert surplus_snapshots(source, target, {"/a": 4}) == ["dst/a@c"]
    target.datasets["/b"] = dataset("@b,2 @e,5", "dst/b")  # as one that was sent with --latest has it
    assert surplus_snapshots(source, target, {"/a": 4, "/b": 5}) == ["dst/a@b", "dst/a@c"]
    target.datasets["/b"] = dataset("@a,1 @b,2 @e,5", "dst/b")
    assert surplus_snapshots(source, target, {"/a": 4, "/b": 5}) == ["dst/a@a", "dst/a@b", "dst/a@c"]


def test_what_waited_in_the_buffer_is_named_by_its_own_place() -> None:
    waiting = {"/a": dataset("@a,1 @d,4", "dst.zfsyncbuffer/2F61")}
    target = Inventory("dst", {}, waiting)
    assert surplus_snapshots(tree("src", a="@d,4"), target, {"/a": 4}) == ["dst/a@a"]


@given(histories())
def test_neither_the_base_nor_what_is_newer_nor_what_the_source_has_ever_goes(pair: Histories) -> None:
    here = Dataset("src", "filesystem", 1, snapshots=pair.source, bookmarks=pair.bookmarks)
    there = Dataset("dst", "filesystem", 2, snapshots=pair.target)
    common = newest_common(pair.source, pair.target)
    base = common.guid if common else pair.source[-1].guid
    gone = surplus_snapshots(Inventory("src", {"": here}), Inventory("dst", {"": there}), {"": base})
    at = next((index for index, one in enumerate(pair.target) if one.guid == base), len(pair.target))
    kept = {one.guid for one in pair.source}
    assert gone == [f"dst@{one.name}" for one in pair.target[:at] if one.guid not in kept]


# ---- datasets --------------------------------------------------------------------------------------------------------


def found(source: Inventory, target: Inventory, *, age: float = 0, selection: Selection = EVERYTHING) -> dict[str, str]:
    """The verbs by child, in order."""
    return {one.child: one.operations[-1].verb for one in asked(source, target, age, selection)}


def asked(source: Inventory, target: Inventory, age: float, selection: Selection = EVERYTHING) -> list[Orphan]:
    return orphans(source, target, selection, age=age, now=NOW)


def changed(inventory: Inventory, child: str, **fields: object) -> Inventory:
    inventory.datasets[child] = inventory.datasets[child]._replace(**fields)  # type: ignore[arg-type]
    return inventory


def test_what_is_gone_goes_from_below() -> None:
    target = tree("dst", root="@1,1", a="@1,2", a_x="@1,3", a_x_y="@1,4", b="@1,5")
    assert list(found(tree("src", root="@1,1", b="@1,5"), target)) == ["/a/x/y", "/a/x", "/a"]


def test_each_says_what_is_lost_and_which_snapshot_was_seen() -> None:
    target = changed(tree("dst", root="@1,1", a="@1,2 @2,3"), "/a", used=5000, token="partial")
    (orphan,) = asked(tree("src", root="@1,1"), target, 0)
    assert orphan.operations == (Operation("drop", "dst/a"), Operation("destroy", "dst/a", ("3",)))
    assert orphan.loss == "2 snapshots, 5,000 bytes"


def test_the_root_is_never_gone() -> None:
    assert found(Inventory("src", {}), tree("dst", root="@1,1")) == {}


def test_what_has_something_below_it_that_stays_stays() -> None:
    target = tree("dst", root="@1,1", a="@1,2", a_keep="@1,3", a_x="@1,4")
    source = tree("src", root="@1,1")
    assert found(source, target, selection=Selection(exclude=("a/keep",))) == {"/a/x": "destroy"}
    assert found(source, changed(target, "/a/keep", aside=True)) == {"/a/x": "destroy"}


def test_what_is_left_out_of_the_run_is_not_gone() -> None:
    source, target = tree("src", root="@1,1", a="@1,2"), tree("dst", root="@1,1", a="@1,2", b="@1,3")
    assert found(source, target, selection=Selection(include=("c",))) == {}
    assert found(source, target, selection=Selection(exclude=("b",))) == {}
    assert found(changed(source, "/a", excluded=True), target, selection=Selection(exclude=("b",))) == {}


def test_what_was_below_a_dataset_that_the_source_excludes_stays() -> None:
    source, target = tree("src", root="@1,1", a="@1,2"), tree("dst", root="@1,1", a="@1,2", a_x="@1,3", a_x_y="@1,4")
    assert found(source, target) == {"/a/x/y": "destroy", "/a/x": "destroy"}
    assert found(changed(source, "/a", excluded=True), target) == {}


def test_with_an_age_the_topmost_is_marked_first() -> None:
    target = tree("dst", root="@1,1", a="@1,2", a_x="@1,3")
    (mark,) = asked(tree("src", root="@1,1"), target, DAY)
    assert mark.operations == (Operation("mark", "dst/a", ("2026-11-24T00:00:00Z",)),)
    assert mark.loss == ""


def test_a_mark_has_to_be_as_old_as_the_age() -> None:
    for stamp, expected in (("2026-11-23T00:00:01Z", {}), ("2026-11-23T00:00:00Z", {"/a": "destroy"})):
        target = changed(tree("dst", root="@1,1", a="@1,2"), "/a", gone=stamp)
        assert found(tree("src", root="@1,1"), target, age=DAY) == expected


@pytest.mark.parametrize("stamp", ["yesterday", "1970-01-01T00:02:00Z"])
def test_a_mark_that_cannot_be_right_is_none(stamp: str) -> None:
    target = changed(tree("dst", root="@1,1", a="@1,2"), "/a", gone=stamp)
    assert found(tree("src", root="@1,1"), target, age=DAY) == {"/a": "mark"}


@pytest.mark.parametrize("end", ["source", "target"])
@pytest.mark.parametrize(
    ("at", "stamp"), [(120, "2026-11-24"), (0, "2026-11-24"), (int(NOW.timestamp()) + 86400, "2026-11-25")]
)
def test_a_mark_is_made_by_the_clock_that_is_ahead(end: str, at: int, stamp: str) -> None:
    ends = {"source": tree("src", root="@1,1"), "target": tree("dst", root="@1,1", a="@1,2")}
    ends[end].at = at
    (mark,) = asked(ends["source"], ends["target"], DAY)
    assert mark.operations == (Operation("mark", "dst/a", (f"{stamp}T00:00:00Z",)),)


@pytest.mark.parametrize("end", ["source", "target"])
@pytest.mark.parametrize(("at", "goes"), [(120, False), (-1, True), (int(NOW.timestamp()), True), (10**30, True)])
def test_a_mark_is_judged_by_the_clock_that_is_behind(end: str, at: int, goes: bool) -> None:
    ends = {"source": tree("src", root="@1,1"), "target": tree("dst", root="@1,1", a="@1,2")}
    changed(ends["target"], "/a", gone="2026-11-23T00:00:00Z")
    ends[end].at = at
    assert found(ends["source"], ends["target"], age=DAY) == ({"/a": "destroy"} if goes else {})


def test_one_that_is_back_loses_its_mark_where_it_was_set() -> None:
    target = tree("dst", root="@1,1", a="@1,2", a_x="@1,3")
    for child in ("/a", "/a/x"):
        changed(target, child, gone="2026-11-01T00:00:00Z")
    source = tree("src", root="@1,1", a="@1,2", a_x="@1,3")
    assert found(source, target, age=DAY) == {"/a": "unmark"}
    assert found(source, target) == {"/a": "unmark"}


def with_parents(children: set[str]) -> set[str]:
    return {child[:end] for child in children for end in range(1, len(child) + 1) if (child + "/")[end] == "/"}


@given(
    st.sets(st.sampled_from(["/a", "/a/x", "/a/x/y", "/a/z", "/b", "/b/c"])),
    st.sets(st.sampled_from(["/a", "/a/x", "/a/x/y", "/a/z", "/b", "/b/c"])),
    st.sets(st.sampled_from(["/a", "/a/x", "/b", "/b/c"])),
    st.sampled_from(["", "a/x", "*c"]),
    st.sampled_from([0.0, DAY]),
    st.sampled_from(["", "2026-01-01T00:00:00Z"]),
)
def test_nothing_that_is_at_the_source_or_set_aside_or_left_out_is_destroyed_nor_above_it(
    here: set[str], there: set[str], asides: set[str], pattern: str, age: float, mark: str
) -> None:
    here, there = with_parents(here), with_parents(there)
    source = Inventory("src", {child: dataset("@1,1", "src" + child) for child in ("", *sorted(here))})
    target = Inventory(
        "dst",
        {
            child: dataset("@1,1", "dst" + child)._replace(aside=child in asides, gone=mark)
            for child in ("", *sorted(there))
        },
    )
    selection = Selection(exclude=(pattern,)) if pattern else EVERYTHING
    destroyed = [one.child for one in asked(source, target, age, selection) if one.loss]
    stays = set(target.datasets) - set(destroyed)
    for child in destroyed:
        assert child not in here
        assert child not in asides
        assert selection.takes(child)
        assert not any(other.startswith(child + "/") for other in stays)
    assert destroyed == sorted(destroyed, key=lambda child: child.split("/"), reverse=True)


def listed(name: str, aside: str) -> Dataset:
    values = {"name": name, "type": "filesystem", "guid": "1", ASIDE_PROPERTY: aside}
    parser = InventoryParser("dst", "dst.zfsyncbuffer")
    parser.feed("\t".join(values.get(column, "-") for column in DATASET_COLUMNS))
    return parser.finish().datasets[name.removeprefix("dst")]


def test_what_was_set_aside_is_still_known_after_one_above_it_was_renamed() -> None:
    name = "dst/old/a.zfsync-aside-20261124-170500"
    assert listed(name, name).aside
    assert listed(name.replace("old", "new"), name).aside
    assert listed(name + "/below", name).aside
    assert not listed("dst/old/a", name).aside  # a rename that was cut off before it, or taken back
