"""What changes at the target before anything is sent; every change is also carried out, on a model of the target."""

from __future__ import annotations

import datetime
import zlib
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.dsl import dataset
from zfsync_ssh.align import (
    MOVING_MARK,
    Change,
    Target,
    follow_promotions,
    follow_renames,
    free_names,
    losses,
    settle_divergence,
)
from zfsync_ssh.dataset import VOLUME, Dataset, Host, Inventory
from zfsync_ssh.messages import Operation
from zfsync_ssh.policy import Divergence, Policy

BUFFER = "dst.zfsyncbuffer"
NOW = datetime.datetime(2026, 11, 24, 17, 5, tzinfo=datetime.UTC)
ASIDE = ".zfsync-aside-20261124-170500"


def tree(root: str, lines: dict[str, str]) -> Inventory:
    """A tree by child."""
    return Inventory(root, {child: dataset(line, root + child) for child, line in sorted(lines.items())})


def source_of(lines: dict[str, str]) -> Inventory:
    return tree("src", lines)


def target_of(lines: dict[str, str], buffer: str = BUFFER) -> Target:
    return Target(tree("dst", lines), buffer)


class Model:
    """A machine that knows nothing but the names and GUIDs of datasets, and refuses what ZFS would."""

    def __init__(self, target: Target) -> None:
        self.guids = {one.name: one.guid for one in (*target.datasets.values(), *target.buffered.values())}

    def below(self, name: str) -> list[str]:
        return [other for other in self.guids if other == name or other.startswith(name + "/")]

    def carry_out(self, changes: Iterable[Change]) -> None:
        for change in changes:
            for operation in change.operations:
                self.do(operation)

    def do(self, operation: Operation) -> None:
        verb, name, arguments = operation
        if verb == "buffer":
            self.guids.setdefault(name, 0)
        elif verb in ("rename", "park", "aside"):
            to = arguments[0]
            assert name in self.guids, operation
            assert to not in self.guids, operation
            assert not to.startswith(name + "/"), operation
            assert "/" not in to or to.rpartition("/")[0] in self.guids, operation
            for other in self.below(name):
                self.guids[to + other[len(name) :]] = self.guids.pop(other)
        elif verb == "destroy":
            assert self.below(name) == [name], operation
            del self.guids[name]
        else:
            assert verb in ("rollback", "hollow", "promote", "drop"), operation
            assert name.partition("@")[0] in self.guids, operation


def aligned(target: Target) -> dict[str, int]:
    """By name, the GUIDs that the simulation has; what was set aside has left it."""
    inventory = target.inventory()
    return {one.name: one.guid for one in (*inventory.datasets.values(), *inventory.buffered.values())}


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


# ---- names of datasets that are gone ---------------------------------------------------------------------------------


def freed(
    choice: Divergence, here: dict[str, str], there: dict[str, str], without: str = ""
) -> tuple[list[tuple[str, str]], dict[str, int]]:
    """What is done, each with the name, when the source takes part but for ``without``; where each GUID then is."""
    source, target = source_of(here), target_of(there)
    selected = Inventory("src", {child: one for child, one in source.datasets.items() if child != without})
    model = Model(target)
    policy = Policy(on_divergence=choice)
    changes = free_names(source, selected, target, host=Host("there"), policy=policy, now=NOW)
    changes += follow_renames(source, target)
    changes += settle_divergence(selected, target, host=Host("there"), policy=policy, now=NOW)
    model.carry_out(changes)
    asides = {name for name in model.guids if ASIDE in name}
    assert {name: guid for name, guid in model.guids.items() if guid and name not in asides} == aligned(target)
    return [(change.kind, change.name) for change in changes], model.guids


TAKEN_HERE, TAKEN_THERE = {"": "@r,1", "/b": "@x,2 @y,3"}, {"": "@r,1", "/a": "@x,2", "/b": "@old,9"}


def test_a_name_that_was_taken_over_is_freed_by_setting_aside_and_the_copy_is_renamed() -> None:
    guids = target_of(TAKEN_THERE).datasets
    changes, after = freed(Divergence.SET_ASIDE, TAKEN_HERE, TAKEN_THERE)
    assert changes == [("set-aside", "dst/b"), ("rename", "dst/a")]
    assert after["dst/b"] == guids["/a"].guid
    assert after[f"dst/b{ASIDE}"] == guids["/b"].guid


def test_a_name_that_was_taken_over_is_freed_by_replacing() -> None:
    changes, after = freed(Divergence.REPLACE, TAKEN_HERE, TAKEN_THERE)
    assert changes == [("replace", "dst/b"), ("rename", "dst/a")]
    assert after["dst/b"] == target_of(TAKEN_THERE).datasets["/a"].guid


@pytest.mark.parametrize("choice", [Divergence.FAIL, Divergence.ROLLBACK])
def test_a_name_that_was_taken_over_is_not_freed_unasked(choice: Divergence) -> None:
    assert freed(choice, TAKEN_HERE, TAKEN_THERE)[0] == []


def test_what_is_below_the_renamed_copy_is_not_put_below_the_one_that_goes() -> None:
    changes, after = freed(Divergence.REPLACE, TAKEN_HERE | {"/b/k": "@k,5"}, TAKEN_THERE | {"/a/k": "@k,5"})
    assert changes == [("replace", "dst/b"), ("rename", "dst/a")]
    assert "dst/b/k" in after


def test_where_two_swap_their_names_none_is_gone() -> None:
    here, there = {"": "@r,1", "/a": "@y,2", "/b": "@x,3"}, {"": "@r,1", "/a": "@x,3", "/b": "@y,2"}
    assert [kind for kind, _ in freed(Divergence.REPLACE, here, there)[0]] == ["rename", "rename"]


def test_what_is_below_a_copy_that_is_set_aside_for_its_name_waits_for_the_new_one() -> None:
    there = TAKEN_THERE | {"/b/k": "@k,5"}
    here = TAKEN_HERE | {"/b/k": "@k,5"}
    changes, after = freed(Divergence.SET_ASIDE, here, there)
    assert changes == [("set-aside", "dst/b"), ("rename", "dst/a")]
    assert target_of(there).datasets["/b/k"].guid in after.values()


@pytest.mark.parametrize(
    ("choice", "here", "there", "without", "kinds"),
    [
        pytest.param(
            Divergence.REPLACE,
            TAKEN_HERE | {"/b/k": "@k,5"},
            TAKEN_THERE | {"/b/k": "@k,5"},
            "",
            ["replace"],  # hollowed, so its name is not free
            id="children",
        ),
        pytest.param(Divergence.SET_ASIDE, TAKEN_HERE, TAKEN_THERE, "/b", [], id="left out of the run"),
        pytest.param(
            Divergence.SET_ASIDE, TAKEN_HERE, TAKEN_THERE | {"/a": "@x,2 @mine,8"}, "", ["set-aside"], id="diverged too"
        ),
        pytest.param(
            Divergence.SET_ASIDE,
            {"": "@r,1", "/b": "@x,2 @y,3"},
            {"": "@r,1", "/a": "@y,3", "/b": "@x,2"},
            "",
            [],
            id="a copy of it",
        ),
        pytest.param(
            Divergence.SET_ASIDE,
            TAKEN_HERE,
            {"": "@r,1", "/b": "@old,9", "/b/a": "@x,2"},
            "",
            ["set-aside"],
            id="below",
        ),
    ],
)
def test_a_name_that_was_taken_over_is_not_freed_where_the_copy_could_not_have_it(
    choice: Divergence, here: dict[str, str], there: dict[str, str], without: str, kinds: list[str]
) -> None:
    assert [kind for kind, _ in freed(choice, here, there, without)[0]] == kinds


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


@pytest.mark.parametrize(
    ("origin", "line"),
    [("", "@a,2 @own,3"), ("elsewhere@a", "@a,2 @own,3"), ("dst/base@gone", "@a,2 @own,3"), ("dst/base@a", "@own,3")],
)
def test_nothing_is_promoted_that_was_not_at_the_source(origin: str, line: str) -> None:
    source, there = promotable()
    source.datasets["/clone"] = dataset(line, "src/clone")
    there.datasets["/clone"] = there.datasets["/clone"]._replace(origin=origin)
    assert follow_promotions(source, there) == []


def test_clones_of_what_the_source_no_longer_has_are_left_alone() -> None:
    source, there = promotable()
    del source.datasets["/clone"]
    assert follow_promotions(source, there) == []


# ---- divergence ------------------------------------------------------------------------------------------------------


def settled(
    choice: Divergence,
    here: str,
    there: Dataset,
    more: dict[str, str] | None = None,
    *,
    child: str = "/a",
    kind: str = "filesystem",
    buffer: str = BUFFER,
) -> tuple[list[Change], Target]:
    """Settle one dataset that has diverged, ``more`` being the children beside it at the target."""
    source = source_of({"": "@r,1"})
    source.datasets[child] = dataset(here, "src" + child, kind=kind)
    target = target_of({"": "@r,1", **(more or {})}, buffer)
    target.datasets[child] = there._replace(name="dst" + child)
    model = Model(target)
    before = sorted(model.guids.values())
    policy = Policy(on_divergence=choice)
    changes = settle_divergence(source, target, host=Host("there"), policy=policy, now=NOW)
    model.carry_out(changes)
    after = sorted(guid for guid in model.guids.values() if guid)
    assert after == before or any(change.loss for change in changes)
    return changes, target


DIVERGED = "@a,1 @b,2 @mine,9"
HERE = "@a,1 @b,2 @c,3"


def test_by_default_nothing_is_touched() -> None:
    assert settled(Divergence.FAIL, HERE, dataset(DIVERGED))[0] == []


@pytest.mark.parametrize("choice", list(Divergence))
@pytest.mark.parametrize("there", ["@a,1", "@a,1 @b,2", "@a,1 @b,2 @c,3"])
def test_what_has_not_diverged_is_never_touched(choice: Divergence, there: str) -> None:
    assert settled(choice, HERE, dataset(there))[0] == []


def test_rollback_goes_back_to_the_newest_in_common_and_says_what_is_lost() -> None:
    (change,), target = settled(Divergence.ROLLBACK, HERE, dataset(DIVERGED)._replace(written=7))
    assert change.operations == (Operation("rollback", "dst/a@b", ("9",)),)
    assert losses([change]) == ["dst/a: @mine and 7 bytes written since its newest snapshot"]
    assert [one.name for one in target.datasets["/a"].snapshots] == ["a", "b"]


def test_rollback_loses_no_snapshot_that_a_bookmark_at_the_source_can_follow() -> None:
    (change,), _ = settled(Divergence.ROLLBACK, "@a,1 #b,2 @c,3", dataset(DIVERGED))
    assert change.operations == (Operation("rollback", "dst/a@b", ("9",)),)
    assert change.loss == "@mine"


def test_rollback_of_what_was_only_written() -> None:
    (change,), _ = settled(Divergence.ROLLBACK, HERE, dataset("@a,1")._replace(written=7))
    assert change.loss == "7 bytes written since its newest snapshot"


def test_rollback_without_a_snapshot_in_common_does_nothing() -> None:
    assert settled(Divergence.ROLLBACK, HERE, dataset("@x,8 @y,9"))[0] == []
    assert settled(Divergence.ROLLBACK, HERE, dataset(DIVERGED), kind=VOLUME)[0] == []


@pytest.mark.parametrize("choice", [Divergence.ROLLBACK, Divergence.REPLACE])
def test_a_partial_receive_is_dropped_before_snapshots_go(choice: Divergence) -> None:
    (change,), _ = settled(choice, HERE, dataset(DIVERGED, token="garbage"))
    assert [operation.verb for operation in change.operations] == ["drop", choice.replace("replace", "destroy")]


def test_set_aside_renames_parks_the_children_and_loses_nothing() -> None:
    (change,), target = settled(Divergence.SET_ASIDE, HERE, dataset(DIVERGED), {"/a/k": "@k,5", "/a/k/l": "@l,6"})
    assert [operation.verb for operation in change.operations] == ["buffer", "park", "aside"]
    assert change.operations[-1] == Operation("aside", "dst/a", (f"dst/a{ASIDE}", "filesystem"))
    assert change.words == f"is set aside as there:dst/a{ASIDE}"
    assert set(target.buffered) == {"/a/k", "/a/k/l"}
    assert target.asides["/a"].name == f"dst/a{ASIDE}"
    assert "/a" not in target.datasets
    assert losses([change]) == []


def test_set_aside_without_a_snapshot_in_common_is_the_beginning_of_nothing() -> None:
    changes, target = settled(Divergence.SET_ASIDE, HERE, dataset("@x,9"))
    assert len(changes) == 1
    assert target.asides == {}


def test_the_root_is_set_aside_too_but_not_a_pool() -> None:
    source = Inventory("src", {"": dataset(HERE, "src")})
    policy = Policy(on_divergence=Divergence.SET_ASIDE)
    for root, count in (("dst", 0), ("dst/tree", 1)):
        target = Target(Inventory(root, {"": dataset(DIVERGED, root)}), root + ".zfsyncbuffer")
        changes = settle_divergence(source, target, host=Host(), policy=policy, now=NOW)
        assert len(changes) == count
    assert target.inventory().ancestors == ("dst",)


def test_what_the_buffer_lies_in_is_not_set_aside_and_not_destroyed() -> None:
    inside = "dst/a/buffer"
    assert settled(Divergence.SET_ASIDE, HERE, dataset(DIVERGED), buffer=inside)[0] == []
    (change,), _ = settled(Divergence.REPLACE, HERE, dataset(DIVERGED), buffer=inside)
    assert change.operations[-1].verb == "hollow"


def test_replace_destroys_what_has_no_children_and_says_that_all_is_lost() -> None:
    (change,), target = settled(Divergence.REPLACE, HERE, dataset(DIVERGED)._replace(used=5000))
    assert change.operations == (Operation("destroy", "dst/a", ("9",)),)
    assert change.loss == "all of it: 3 snapshots, 5,000 bytes"
    assert "/a" not in target.datasets


def test_replace_hollows_what_has_children() -> None:
    (change,), target = settled(Divergence.REPLACE, HERE, dataset(DIVERGED), {"/a/k": "@k,5"})
    assert change.operations == (Operation("hollow", "dst/a", ("9",)),)
    assert target.datasets["/a"].placeholder
    assert "/a/k" in target.datasets


@pytest.mark.parametrize(
    ("choice", "longest"), [(Divergence.ROLLBACK, 245), (Divergence.REPLACE, 249)], ids=["rollback", "replace"]
)
@pytest.mark.parametrize("below", [False, True], ids=["alone", "with children"])
def test_nothing_is_lost_where_zfs_could_not_go_on_with_so_long_a_name(
    choice: Divergence, longest: int, below: bool
) -> None:
    for length in (longest, longest + 1):
        child = "/" + "x" * (length - len("dst/"))
        more = {f"{child}/k": "@k,5"} if below else {}
        changes, target = settled(choice, HERE, dataset(DIVERGED), more, child=child)
        assert len(changes) == (length == longest)
        assert (target.datasets.get(child) == dataset(DIVERGED)._replace(name="dst" + child)) == (length > longest)


def test_a_dataset_of_another_kind_is_replaced_only_where_that_can_succeed() -> None:
    (change,), _ = settled(Divergence.REPLACE, HERE, dataset("@x,9"), kind=VOLUME)
    assert change.operations == (Operation("destroy", "dst/a", ("9",)),)
    assert settled(Divergence.REPLACE, HERE, dataset("@x,9"), {"/a/k": "@k,5"}, kind=VOLUME)[0] == []


def test_a_dataset_without_any_snapshot_is_replaced_as_such() -> None:
    (change,), _ = settled(Divergence.REPLACE, HERE, dataset(""))
    assert change.operations == (Operation("destroy", "dst/a", ("",)),)


@given(
    st.sampled_from(list(Divergence)),
    st.sampled_from([HERE, "@a,1 #b,2 @c,3", ""]),
    st.sampled_from([DIVERGED, "@x,9", "", "@a,1", "@a,1 @b,2 @c,3"]),
    st.dictionaries(st.sampled_from(["/a/k", "/a/l", "/b"]), st.just("@k,5")),
    st.integers(0, 1),
    st.sampled_from(["filesystem", VOLUME]),
)
def test_only_a_loss_loses_and_what_is_lost_is_always_said(
    choice: Divergence, here: str, there: str, more: dict[str, str], written: int, kind: str
) -> None:
    changes, target = settled(choice, here, dataset(there)._replace(written=written), more, kind=kind)
    verbs = {operation.verb for change in changes for operation in change.operations}
    if verbs & {"rollback", "destroy", "hollow"}:
        assert all(change.loss for change in changes)
        assert choice in (Divergence.ROLLBACK, Divergence.REPLACE)
    assert {*target.datasets, *target.buffered} >= set(more)
