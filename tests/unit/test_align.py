"""What changes at the target before anything is sent; every change is also carried out, on a model of the target."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.alignment import BUFFER, Model, aligned, source_of, target_of
from tests.unit.dsl import dataset
from zfsync_ssh.align import MOVING_MARK, Change, Target, follow_promotions, follow_renames
from zfsync_ssh.dataset import Inventory
from zfsync_ssh.messages import Operation


def renamed(source: Inventory, target: Target) -> tuple[dict[str, int], list[Change]]:
    """Follow renames on the simulation and the model, which have to agree; where each GUID is then."""
    model = Model(target)
    before = sorted(aligned(target).values())
    changes = follow_renames(source, target)
    model.carry_out(changes)
    after = aligned(target)
    assert {name: guid for name, guid in model.guids.items() if guid} == after
    assert sorted(after.values()) == before
    return after, changes


# ---- renames ---------------------------------------------------------------------------------------------------------

RENAMES = [
    ("nothing", {"": "@r,1", "/a": "@x,2"}, {"": "@r,1", "/a": "@x,2"}, {}),
    ("a plain one", {"": "@r,1", "/b": "@x,2"}, {"": "@r,1", "/a": "@x,2"}, {"/a": "/b"}),
    ("after which the source went on", {"/b": "@y,3 @z,4"}, {"/a": "@x,2 @y,3"}, {"/a": "/b"}),
    ("that a bookmark tells", {"/b": "#y,3 @z,4"}, {"/a": "@x,2 @y,3"}, {"/a": "/b"}),
    (
        "with what is below",
        {"/b": "@x,2", "/b/k": "@y,3"},
        {"/a": "@x,2", "/a/k": "@y,3"},
        {"/a": "/b", "/a/k": "/b/k"},
    ),
    ("a swap", {"/a": "@y,3", "/b": "@x,2"}, {"/a": "@x,2", "/b": "@y,3"}, {"/a": "/b", "/b": "/a"}),
    (
        "a cycle of three",
        {"/a": "@z,4", "/b": "@x,2", "/c": "@y,3"},
        {"/a": "@x,2", "/b": "@y,3", "/c": "@z,4"},
        {"/a": "/b", "/b": "/c", "/c": "/a"},
    ),
    (
        "out of what goes elsewhere itself",
        {"/a": "@y,3", "/b": "@x,2"},
        {"/a": "@x,2", "/a/k": "@y,3"},
        {"/a": "/b", "/a/k": "/a"},
    ),
    (
        "of a dataset whose child has stayed",
        {"/a": "@n,9", "/a/k": "@y,3", "/b": "@x,2"},
        {"/a": "@x,2", "/a/k": "@y,3"},
        {"/a": "/b", "/a/k": ".zfsyncbuffer/2F612F6B"},
    ),
    ("to a place that is taken", {"/b": "@x,2"}, {"/a": "@x,2", "/b": "@own,9"}, {}),
    ("below itself", {"/a": "@n,9", "/a/k": "@x,2"}, {"/a": "@x,2"}, {}),
    (
        "a swap of a parent and its child",
        {"/a": "@y,3", "/a/k": "@x,2"},
        {"/a": "@x,2", "/a/k": "@y,3"},
        {"/a": "/a/k", "/a/k": "/a"},
    ),
    ("of one that two copies could be", {"/b": "@x,2"}, {"/a": "@x,2", "/c": "@x,2"}, {}),
    ("of what two sources have", {"/b": "@x,2", "/c": "@x,2"}, {"/a": "@x,2"}, {}),
    ("of the root to a child", {"/b": "@r,1"}, {"": "@r,1"}, {}),
    ("of a child to the root", {"": "@x,2"}, {"/a": "@x,2"}, {}),
]


@pytest.mark.parametrize(("source", "target", "moves"), [row[1:] for row in RENAMES], ids=[row[0] for row in RENAMES])
def test_a_rename(source: dict[str, str], target: dict[str, str], moves: dict[str, str]) -> None:
    there = target_of({"": "@root,777", **target})
    guids = {child: one.guid for child, one in there.datasets.items()}
    after, _ = renamed(source_of({"": "@root,777", **source}), there)
    where = {guid: name.removeprefix("dst") for name, guid in after.items()}
    expected = {child: moves.get(child, child) for child in guids}
    assert {child: where[guid] for child, guid in guids.items()} == expected


def test_a_copy_whose_new_parent_is_not_there_waits_in_the_buffer() -> None:
    there = target_of({"": "@r,1", "/a": "@x,2", "/a/k": "@y,3"})
    _, (change,) = renamed(source_of({"": "@r,1", "/new": "@n,9", "/new/b": "@x,2", "/new/b/k": "@y,3"}), there)
    assert [operation.verb for operation in change.operations] == ["buffer", "park"]
    assert set(there.buffered) == {"/new/b", "/new/b/k"}
    assert there.buffered["/new/b/k"].name == f"{BUFFER}/2F6E65772F62/k"
    assert change.words == "is renamed to dst/new/b, as at the source"
    assert change.loss == ""


def test_nothing_is_renamed_to_where_something_waits_in_the_buffer() -> None:
    there = target_of({"": "@r,1", "/a": "@x,2"})
    there.buffered["/b"] = dataset("@x,2", f"{BUFFER}/2F62")
    assert follow_renames(source_of({"": "@r,1", "/b": "@x,2"}), there) == []


def test_what_the_buffer_lies_in_is_not_renamed() -> None:
    there = target_of({"": "@r,1", "/a": "@x,2"}, buffer="dst/a/buffer")
    assert follow_renames(source_of({"": "@r,1", "/b": "@x,2"}), there) == []


def test_what_was_set_aside_is_no_copy_of_anything_any_more() -> None:
    there = target_of({"": "@r,1", "/a": "@x,2"})
    there.datasets["/a"] = there.datasets["/a"]._replace(aside=True)
    assert follow_renames(source_of({"": "@r,1", "/b": "@x,2"}), there) == []


def test_a_swap_that_was_cut_off_is_gone_on_with() -> None:
    source = source_of({"": "@r,1", "/a": "@y,3", "/b": "@x,2"})
    there = target_of({"": "@r,1", "/a": "@x,2", "/b": "@y,3"})
    guids = {child: one.guid for child, one in there.datasets.items()}
    operations = [operation for change in follow_renames(source, there) for operation in change.operations]
    for cut in range(len(operations) + 1):
        start = target_of({"": "@r,1", "/a": "@x,2", "/b": "@y,3"})
        model = Model(start)
        for operation in operations[:cut]:
            model.do(operation)
        by_guid = {one.guid: one for one in start.datasets.values()}
        left = {name[3:]: by_guid[guid]._replace(name=name) for name, guid in model.guids.items()}
        after, _ = renamed(source, Target(Inventory("dst", left), BUFFER))
        assert after == {"dst": guids[""], "dst/b": guids["/a"], "dst/a": guids["/b"]}


def test_a_mark_that_is_left_in_the_way_of_a_swap_stops_it() -> None:
    source = source_of({"": "@r,1", "/a": "@y,3", "/b": "@x,2"})
    after, _ = renamed(
        source, target_of({"": "@r,1", "/a": "@x,2", "/b": "@y,3", f"/a{MOVING_MARK}": "", f"/b{MOVING_MARK}": ""})
    )
    assert after["dst/a"] == zlib.crc32(b"dst/a")


def test_what_waits_in_the_buffer_for_a_place_keeps_it_from_what_lies_below_another_that_would_wait() -> None:
    source = source_of({"": "@r,1", "/a/a": "@x,8", "/a/a/a": "@y,10", "/b/a": "@z,2"})
    after, _ = renamed(source, target_of({"": "@r,1", "/a": "@z,2", "/a/a": "@w,4", "/b": "@x,8", "/b/a": "@y,10"}))
    assert after["dst.zfsyncbuffer/2F612F612F61"] == zlib.crc32(b"dst/b/a")
    assert after["dst/b"] == zlib.crc32(b"dst/b")


@st.composite
def reshuffled(draw: st.DrawFn) -> tuple[Inventory, Target]:
    """A target, and a source that is the same tree with its datasets in other places, some gone and some new."""
    places = ["/a", "/b", "/c", "/a/a", "/a/b", "/b/a", "/b/b", "/a/a/a", "/b/a/b"]
    count = draw(st.integers(1, 6))

    def grow() -> list[str]:
        grown: list[str] = []
        while len(grown) < count:
            fit = [
                one for one in places if one not in grown and (one.count("/") == 1 or one.rpartition("/")[0] in grown)
            ]
            grown.append(draw(st.sampled_from(fit)))
        return grown

    old, new = grow(), draw(st.permutations(grow()))
    line = {index: f"@one,{100 + 2 * index} @two,{101 + 2 * index}" for index in range(count)}
    there = {"": "@r,1", **{child: line[index] for index, child in enumerate(old)}}
    here = {"": "@r,1"}
    for index, child in enumerate(new):
        here[child] = draw(st.sampled_from([line[index], line[index], line[index], f"@new,{900 + index}", ""]))
    return source_of(here), target_of(there)


@given(reshuffled())
def test_no_dataset_is_lost_or_doubled_by_renames_and_zfs_would_do_each_of_them(pair: tuple[Inventory, Target]) -> None:
    source, target = pair
    before = dict(target.datasets)
    after, changes = renamed(source, target)
    assert len(after) == len(set(after.values()))
    for child, one in before.items():  # what was in its place, or below something that was, is still somewhere
        assert one.guid in after.values(), child
    if not changes:
        assert after == {one.name: one.guid for one in before.values()}


# ---- promotions ------------------------------------------------------------------------------------------------------


def promotable() -> tuple[Inventory, Target]:
    source = source_of({"": "@r,1", "/base": "@b,4", "/clone": "@a,2 @own,3"})
    there = target_of({"": "@r,1", "/base": "@a,2 @b,4", "/clone": "@own,3"})
    there.datasets["/clone"] = there.datasets["/clone"]._replace(origin="dst/base@a")
    return source, there


def test_a_promotion_is_repeated_and_the_snapshots_go_over() -> None:
    source, there = promotable()
    (change,) = follow_promotions(source, there)
    assert change.operations == (Operation("promote", "dst/clone"),)
    assert "snapshots up to @a go from dst/base to it" in change.words
    assert [one.name for one in there.datasets["/clone"].snapshots] == ["a", "own"]
    assert [one.name for one in there.datasets["/base"].snapshots] == ["b"]
    assert there.datasets["/base"].origin == "dst/clone@a"
    assert there.datasets["/clone"].origin == ""


@pytest.mark.parametrize("base", ["/moved", "/not yet/base"])
def test_a_promotion_is_repeated_when_what_it_was_a_clone_of_is_renamed_too(base: str) -> None:
    source, there = promotable()
    source.datasets[base] = source.datasets.pop("/base")._replace(name="src" + base)
    follow_renames(source, there)
    if base in there.datasets:
        assert there.datasets["/clone"].origin == "dst/moved@a"
        (change,) = follow_promotions(source, there)
        assert change.operations == (Operation("promote", "dst/clone"),)
        assert there.datasets[base].origin == "dst/clone@a"
    else:  # it waits for its parent
        assert there.datasets["/clone"].origin == f"{there.buffered[base].name}@a"


def test_promotions_that_follow_from_one_another_are_all_repeated() -> None:
    source = source_of({"": "@r,1", "/base": "@c,5", "/one": "@b,3", "/two": "@a,2 @d,4"})
    there = target_of({"": "@r,1", "/base": "@a,2 @b,3 @c,5", "/one": "", "/two": "@d,4"})
    there.datasets["/one"] = there.datasets["/one"]._replace(origin="dst/base@b")
    there.datasets["/two"] = there.datasets["/two"]._replace(origin="dst/base@a")
    changes = follow_promotions(source, there)
    assert [change.name for change in changes] == ["dst/one", "dst/two"]
    assert there.datasets["/two"].origin == ""
    assert (there.datasets["/one"].origin, there.datasets["/base"].origin) == ("dst/two@a", "dst/one@b")


@pytest.mark.parametrize("top", ["/a-top", "/top"])
def test_a_clone_of_a_clone_is_promoted_over_both(top: str) -> None:
    source = source_of({"": "@r,1", "/base": "@b,5", "/mid": "@n,6", top: "@a,2 @m,3 @t,4"})
    there = target_of({"": "@r,1", "/base": "@a,2 @b,5", "/mid": "@m,3 @n,6", top: "@t,4"})
    there.datasets["/mid"] = there.datasets["/mid"]._replace(origin="dst/base@a")
    there.datasets[top] = there.datasets[top]._replace(origin="dst/mid@m")
    changes = follow_promotions(source, there)
    assert [change.name for change in changes] == [f"dst{top}"] * 2
    assert [one.name for one in there.datasets[top].snapshots] == ["a", "m", "t"]
    origins = {child: there.datasets[child].origin for child in ("/base", "/mid", top)}
    assert origins == {"/base": f"dst{top}@a", "/mid": f"dst{top}@m", top: ""}


@pytest.mark.parametrize(
    ("origin", "line"),
    [("", "@a,2 @own,3"), ("elsewhere@a", "@a,2 @own,3"), ("dst/base@gone", "@a,2 @own,3"), ("dst/base@a", "@own,3")],
)
def test_nothing_is_promoted_that_was_not_at_the_source(origin: str, line: str) -> None:
    source, there = promotable()
    source.datasets["/clone"] = dataset(line, "src/clone")
    there.datasets["/clone"] = there.datasets["/clone"]._replace(origin=origin)
    assert follow_promotions(source, there) == []


def test_nothing_is_promoted_where_the_snapshot_is_at_both_as_in_a_received_copy() -> None:
    source, there = promotable()
    source.datasets["/base"] = dataset("@a,2 @b,4", "src/base")
    assert follow_promotions(source, there) == []


def test_clones_of_one_another_which_zfs_cannot_have_end_too() -> None:
    source, there = promotable()
    there.datasets["/base"] = there.datasets["/base"]._replace(origin="dst/clone@a")
    there.datasets["/clone"] = dataset("@a,2 @own,3", "dst/clone")._replace(origin="dst/base@a")
    assert len(follow_promotions(source, there)) == 1


def test_clones_of_what_the_source_no_longer_has_are_left_alone() -> None:
    source, there = promotable()
    del source.datasets["/clone"]
    assert follow_promotions(source, there) == []
