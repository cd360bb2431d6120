"""Two inventories and what is to be done about them, in the DSL of `tests.unit.dsl`."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakezfs import make_token
from tests.unit.dsl import dataset, tree
from tests.unit.histories import Histories, histories
from zfsync_ssh.buffer import decode
from zfsync_ssh.dataset import FILESYSTEM, VOLUME, Dataset, Host, Inventory, Snapshot, parent_of
from zfsync_ssh.decision import FULL, INCREMENTAL, NEW, REFUSED, RESUME, UPTODATE, Decision
from zfsync_ssh.dispatch import Dispatch
from zfsync_ssh.divergence import newest_base
from zfsync_ssh.errors import RemoteProtocolError, UsageError, ZfsError
from zfsync_ssh.item import Item
from zfsync_ssh.plan import (
    Plan,
    check_apart,
    in_place_without_room,
    make_plan,
    place_for,
    snapshots_needed,
    with_estimates,
)
from zfsync_ssh.policy import DEFAULT
from zfsync_ssh.selection import Selection
from zfsync_ssh.steps import replan

ROOT = "dst/tree"
BUFFER = "dst/tree.zfsyncbuffer"
SOURCE = "@a,1 @b,2 @c,3"


def planned(source: Inventory, target: Inventory) -> Plan:
    return make_plan(source, target, host=Host("there"))


def item_for(source: Dataset, target: Dataset | None) -> Item:
    """The plan's item for a root at the source, and what is at the target."""
    there = {} if target is None else {"": target._replace(name=ROOT, guid=99)}
    (item,) = planned(
        Inventory(source.name, {"": source}), Inventory(ROOT, there, ancestors=() if there else ("dst",))
    ).items
    return item


def shown(item: Item) -> list[str]:
    """Each step of an item, as ``base -> to: all that arrives``."""
    return [
        f"{step.base or 'full'} -> @{step.to.name}: {' '.join(snapshot.name for snapshot in step.snapshots)}"
        for step in item.steps
    ]


# ---- names ---------------------------------------------------------------------------------------------------------


def test_a_name_that_another_snapshot_has_there_is_told_before_anything_is_sent() -> None:
    item = item_for(dataset("#m,9 @daily,2 @c,3", "src"), dataset("@daily,1 @m,9"))
    assert (item.code, item.steps) == ("exists", ())
    assert item.problem == (
        f"there:{ROOT} has another snapshot @daily than src: give the one there another name, by 'zfs rename "
        f"{ROOT}@daily ...'."
    )
    assert item_for(dataset("#m,9 @daily,2 @c,3"), dataset("@renamed,1 @m,9")).steps


# ---- steps -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "target", "steps", "what", "why"),
    [
        (SOURCE, None, ["full -> @a: a", "@a -> @c: b c"], "full @a -> @c", "new at the target"),
        ("@a,1", None, ["full -> @a: a"], "full -> @a", "new at the target"),
        (SOURCE, "@a,1", ["@a -> @c: b c"], "@a -> @c", "newest snapshot in common is the target's newest"),
        (SOURCE, "@b,2", ["@b -> @c: c"], "@b -> @c", "newest snapshot in common is the target's newest"),
        (SOURCE, "@other,2", ["@b -> @c: c"], "@b -> @c", "newest snapshot in common is the target's newest"),
        (SOURCE, "@b,2 @c,3", [], "", "up to date"),
        ("#m,9 @a,1", "@m,9", ["#m -> @a: a"], "#m -> @a", "newest snapshot in common is the target's newest"),
        (
            "@o,8 #m,9 " + SOURCE,
            "@m,9",
            ["#m -> @a: a", "@a -> @c: b c"],
            "#m -> @c",
            "newest snapshot in common is the target's newest",
        ),
    ],
)
def test_what_is_sent_and_why(source: str, target: str | None, steps: list[str], what: str, why: str) -> None:
    item = item_for(dataset(source), None if target is None else dataset(target))
    assert shown(item) == steps
    assert item.what == what
    assert item.why == why
    assert item.problem == ""


def test_a_placeholder_is_replaced_by_a_full_stream() -> None:
    item = item_for(dataset(SOURCE), dataset("", placeholder=True))
    assert shown(item) == ["full -> @a: a", "@a -> @c: b c"]
    assert item.why == "takes the place of an empty placeholder"


def test_a_dataset_without_snapshots_is_left_alone() -> None:
    item = item_for(dataset("#m,1"), dataset("@x,99"))
    assert (item.decision, item.steps, item.problem, item.what) == (None, (), "", "")
    assert item.why == "no snapshots"


@pytest.mark.parametrize(
    ("target", "to", "base", "steps"),
    [
        ("", 1, 0, ["full -> @a: a", "@a -> @c: b c"]),
        ("@a,1", 2, 1, ["full -> @b: b", "@b -> @c: c"]),
        ("@a,1", 3, 1, ["full -> @c: c"]),
    ],
)
def test_a_stream_that_was_cut_off_goes_on_and_the_rest_follows(
    target: str, to: int, base: int, steps: list[str]
) -> None:
    token = make_token({"toguid": to, "toname": "src/tree@x", "bytes": 400, **({"fromguid": base} if base else {})})
    item = item_for(dataset(SOURCE), dataset(target, token=token))
    assert shown(item) == steps
    assert [step.token for step in item.steps] == [token, ""][: len(steps)]
    assert item.steps[0].received == 400
    assert item.steps[0].base_guid == base
    assert item.what == "resume -> @c"
    assert item.why == "goes on where it was cut off"


def test_a_partial_receive_that_is_dropped_is_said() -> None:
    item = item_for(dataset(SOURCE), dataset("@a,1", token="garbage"))
    assert shown(item) == ["@a -> @c: b c"]
    assert item.why.endswith(", a partial receive that no longer fits is dropped")


@given(histories(), st.booleans(), st.booleans())
def test_steps_bring_exactly_what_follows_the_base_each_from_the_end_of_the_one_before(
    pair: Histories, absent: bool, placeholder: bool
) -> None:
    source = Dataset("src/tree", FILESYSTEM, 1, snapshots=pair.source, bookmarks=pair.bookmarks)
    target = Dataset(ROOT, FILESYSTEM, 1, snapshots=pair.target, placeholder=placeholder)
    item = item_for(source, None if absent else target)
    assert item.decision is not None
    if item.decision.kind in (REFUSED, UPTODATE):
        assert item.steps == ()
        assert bool(item.problem) == (item.decision.kind == REFUSED)
        return
    if item.code == "exists":
        names = {snapshot.name for snapshot in pair.target}
        assert any(one.name in names for one in pair.source if one.createtxg > item.decision.base * 10)
        return
    base = item.decision.base
    base_txg = base * 10  # of snapshots and bookmarks alike, in these histories
    brought = [snapshot for step in item.steps for snapshot in step.snapshots]
    assert brought == [snapshot for snapshot in pair.source if snapshot.createtxg > base_txg]
    for step in item.steps:
        assert step.base_guid == base
        assert step.to == step.snapshots[-1]
        assert bool(step.base) == bool(base)
        if step.base.startswith("@"):
            assert step.base[1:] in {snapshot.name for snapshot in pair.source if snapshot.guid == base}
        else:
            # A full stream, or one from a bookmark, has no snapshots in between.
            assert len(step.snapshots) == 1
        base = step.to.guid
    assert base == pair.source[-1].guid


# ---- refusals --------------------------------------------------------------------------------------------------------


def refusal(source: Dataset, target: Dataset) -> Item:
    item = item_for(source, target)
    assert item.steps == ()
    assert item.why == "refused"
    assert item.problem.startswith("there:dst/tree ")
    assert item.problem.endswith(".")
    return item


def test_a_target_that_is_ahead_says_what_would_be_lost_and_how() -> None:
    item = refusal(dataset(SOURCE), dataset("@a,1 @x,98 @y,99"))
    assert item.code == "diverged"
    assert item.problem == (
        "there:dst/tree has 2 snapshots from @x to @y after @a, the newest in common, that src/tree has not: "
        "--on-divergence set-aside keeps them by renaming the dataset there and goes on from @a, rollback loses them, "
        "replace loses all of the dataset and sends it in full."
    )


def test_one_snapshot_ahead_is_named_and_what_was_written_since_is_told() -> None:
    there = dataset("@c,3 @d,4")._replace(written=12345)
    assert "has @d after @c, the newest in common, that src/tree has not, and 12,345 bytes written since: " in (
        refusal(dataset(SOURCE), there).problem
    )


def test_the_same_name_with_another_guid_is_said() -> None:
    item = refusal(dataset(SOURCE), dataset("@a,1 @b,99"))
    assert "has not, of which @b has the name but not the GUID of one here: " in item.problem


def test_a_target_that_is_no_copy_is_to_be_renamed() -> None:
    item = refusal(dataset(SOURCE), dataset("@x,98 @y,99"))
    assert item.code == "diverged"
    assert item.problem == (
        "there:dst/tree has no snapshot in common with src/tree: choose another target; "
        "--on-divergence set-aside renames it there, replace destroys it, and a full copy is made."
    )


@pytest.mark.parametrize(
    ("there", "words"),
    [
        (
            {"/a": "@x,2"},
            ", whose copy is there:dst/tree/a: rename the first there, as --on-divergence set-aside does, ",
        ),
        ({"/b.zfsync-moving": "@x,2"}, ", whose copy is there:dst/tree/b.zfsync-moving: rename"),
        ({"/b/a": "@x,2"}, ": choose another target; "),  # goes wherever what is in its place goes
        ({"/a": "@x,2 @z,9"}, ": choose another target; "),  # could not go on
        ({"/a": "@x,2", "/c": "@x,2"}, ": choose another target; "),  # which of the two?
        ({"/a": "@x,2", "/b": "@old,9 @x,2 @own,8"}, " has @own after @x, the newest in common"),
    ],
)
def test_it_is_said_which_is_the_copy_when_another_has_its_name(there: dict[str, str], words: str) -> None:
    source = tree("src/tree", root="@r,1", b="@x,2 @y,3")
    lines = {"": "@r,1", "/b": "@old,9"} | there
    target = Inventory(ROOT, {child: dataset(line, ROOT + child) for child, line in sorted(lines.items())})
    (item,) = (item for item in planned(source, target).items if item.code == "diverged")
    assert item.child == "/b"
    assert words in item.problem
    (unnamed,) = (
        item
        for item in make_plan(source, target, host=Host("there"), policy=replace(DEFAULT, follow_renames=False)).items
        if item.code == "diverged"
    )
    assert "whose copy is" not in unnamed.problem


def test_a_target_that_only_has_the_same_names_is_no_copy() -> None:
    item = refusal(dataset(SOURCE), dataset("@a,98 @b,99"))
    assert "with src/tree (@b exists on both, but with different GUIDs): choose another target; " in item.problem


def test_an_empty_dataset_that_is_not_ours_is_not_filled() -> None:
    item = refusal(dataset(SOURCE), dataset(""))
    assert item.code == "diverged"
    assert item.problem == (
        "there:dst/tree exists but has no snapshot, so it is no copy of src/tree: destroy it there if it is empty, "
        "or choose another target; --on-divergence set-aside renames it, replace destroys it, and a full copy is made."
    )


@pytest.mark.parametrize(("mine", "other"), [(FILESYSTEM, VOLUME), (VOLUME, FILESYSTEM)])
def test_a_volume_is_no_filesystem(mine: str, other: str) -> None:
    item = refusal(dataset(SOURCE, kind=mine), dataset("@a,1", kind=other))
    assert item.code == "exists"
    assert item.problem.startswith(f"there:dst/tree is a {other} and src/tree a {mine}: rename one of them; ")


def test_a_name_that_would_be_too_long_is_refused_before_anything_is_sent() -> None:
    room = 255 - len("dst/tree/@ab")
    source = Inventory(
        "s", {child: dataset("@a,1 @ab,2", "s" + child) for child in ("/" + "x" * room, "/" + "y" * (room + 1))}
    )
    fits, too_long = planned(source, tree(ROOT, root="@a,1")).items
    assert len(fits.steps) == 2
    assert too_long.steps == ()
    assert too_long.code == "name"
    assert too_long.problem == (
        f"there:{too_long.target} with its longest snapshot name would have 256 characters, "
        "and ZFS allows 255: choose a shorter target."
    )


@given(histories())
def test_every_refusal_names_the_dataset_the_host_and_a_way_out(pair: Histories) -> None:
    source = Dataset("src/tree", FILESYSTEM, 1, snapshots=pair.source, bookmarks=pair.bookmarks)
    item = item_for(source, Dataset(ROOT, FILESYSTEM, 1, snapshots=pair.target))
    if item.code == "exists":
        assert " has another snapshot @" in item.problem
    elif item.problem:
        assert item.problem.startswith("there:dst/tree ")
        assert "src/tree" in item.problem
        assert "set-aside" in item.problem
        common = newest_base(source, Dataset(ROOT, FILESYSTEM, 1, snapshots=pair.target))
        assert (f"after @{common.name}, the newest in common" if common else "choose another target") in item.problem


# ---- the whole tree --------------------------------------------------------------------------------------------------


def test_every_dataset_of_the_source_has_its_item_and_its_own_place() -> None:
    plan = planned(tree("src/tree", root="@a,1", a="@a,2", a_b=""), tree(ROOT, root="@a,1", z="@z,9"))
    assert [(item.child, item.target, item.place) for item in plan.items] == [
        ("", ROOT, ROOT),
        ("/a", f"{ROOT}/a", f"{ROOT}/a"),
        ("/a/b", f"{ROOT}/a/b", f"{ROOT}/a/b"),
    ]


def test_what_waits_in_the_buffer_goes_on_there() -> None:
    target = tree(ROOT, root="@r,1")
    waits = dataset("@a,1", f"{BUFFER}/2F612F62")
    target.buffered["/a/b"] = waits
    plan = planned(tree("src/tree", root="@r,1", a="@a,5", a_b="@a,1 @b,2"), target)
    item = plan.items[2]
    assert item.place == waits.name
    assert item.target == f"{ROOT}/a/b"
    assert shown(item) == ["@a -> @b: b"]
    assert plan.buffer_left


def test_a_dataset_in_its_own_place_comes_before_one_in_the_buffer() -> None:
    target = tree(ROOT, root="@r,1", a="@a,1")
    target.buffered["/a"] = dataset("@x,99", f"{BUFFER}/2F61")
    item = planned(tree("src/tree", root="@r,1", a="@a,1 @b,2"), target).items[1]
    assert item.place == f"{ROOT}/a"
    assert shown(item) == ["@a -> @b: b"]


def test_ancestors_that_are_missing_are_made_from_the_top() -> None:
    source = tree("src/tree", root="@a,1")
    assert planned(source, Inventory("dst/x/y/z", {}, ancestors=("dst", "dst/x"))).ancestors == ("dst/x/y",)
    assert planned(source, Inventory("dst/x/y/z", {}, ancestors=("dst",))).ancestors == ("dst/x", "dst/x/y")
    assert planned(source, Inventory("dst/x", {}, ancestors=("dst",))).ancestors == ()
    assert planned(source, tree(ROOT, root="@a,1")).ancestors == ()


def test_a_pool_that_is_missing_ends_the_run() -> None:
    with pytest.raises(ZfsError, match="There is no pool dst on there, for the target dst/x to be in") as caught:
        planned(tree("src/tree", root="@a,1"), Inventory("dst/x", {}))
    assert caught.value.code == "missing"


def test_a_source_and_a_target_that_have_a_dataset_in_common_are_refused() -> None:
    source, there = tree("src/tree", root="@a,1", a="@a,2"), Host("there")
    for name in ("src/tree", "src/tree/a"):
        with pytest.raises(UsageError, match=f"machine of the source: {name} is part of the source src/tree itself: "):
            check_apart(source, tree(name, root="@a,1"), there)
    with pytest.raises(UsageError, match="there is the machine of the source: src has the source src/tree in its own"):
        check_apart(source, tree("src", root="@a,1", tree="@a,2"), there)


def test_another_machine_may_have_datasets_of_the_same_names() -> None:
    source, target = tree("src/tree", root="@a,1"), tree("src", root="@a,1", tree="@a,1")
    target.datasets["/tree"] = target.datasets["/tree"]._replace(guid=1)
    check_apart(source, target, Host("there"))


@pytest.mark.parametrize(
    ("source", "present", "placeholders"),
    [
        ({"root": "@r,1", "a": "", "a_b": "@b,2"}, {"root": "@r,1"}, ("/a",)),
        ({"root": "", "a": "", "a_b": "", "a_b_c": "@c,1"}, {}, ("", "/a", "/a/b")),
        ({"root": "", "a": "@a,1"}, {"root": ""}, ()),
        ({"root": "@r,1", "a": "@a,1", "a_b": "@b,2"}, {}, ()),
        ({"root": "@r,1", "a": "", "b": ""}, {"root": "@r,1"}, ()),  # nothing is to be sent below them
        ({"root": "@r,1", "a": "", "a_b": "@b,2"}, {"root": "@r,1", "a": ""}, ()),
        ({"root": "", "a_b": "@b,2", "c": "", "c_d": "@d,3"}, {}, ("", "/a", "/c")),  # /a is not in the source at all
    ],
)
def test_parents_that_will_not_come_by_themselves_get_placeholders(
    source: dict[str, str], present: dict[str, str], placeholders: tuple[str, ...]
) -> None:
    target = tree(ROOT, **present)
    target.ancestors = ("dst",)
    assert planned(tree("src/tree", **source), target).placeholders == placeholders


def test_what_waits_in_the_buffer_gets_its_placeholders_as_well() -> None:
    target = tree(ROOT, root="@r,1")
    target.buffered["/a/b"] = dataset("@b,2", f"{BUFFER}/2F612F62")
    plan = planned(tree("src/tree", root="@r,1", a="", a_b="@b,2"), target)
    assert plan.work == ()
    assert plan.placeholders == ("/a",)


def test_what_waits_in_the_buffer_needs_no_placeholder() -> None:
    target = tree(ROOT, root="@r,1")
    target.buffered["/a"] = dataset("@a,1", f"{BUFFER}/2F61")
    plan = planned(tree("src/tree", root="@r,1", a="@a,1", a_b="@b,2"), target)
    assert plan.placeholders == ()


def test_no_placeholder_takes_the_place_of_a_dataset_that_is_refused() -> None:
    target = tree(ROOT, root="@r,1")
    too_long = dataset("@" + "x" * 250 + ",1", "src/tree/a")
    source = Inventory("src/tree", {"": dataset("@r,1"), "/a": too_long, "/a/b": dataset("@b,2", "src/tree/a/b")})
    plan = planned(source, target)
    assert plan.items[1].code == "name"
    assert plan.placeholders == ()


CHILDREN = ("", "/a", "/a/b", "/a/b/c", "/d", "/d/e")


@given(
    st.lists(st.booleans(), min_size=6, max_size=6),
    st.sets(st.sampled_from(CHILDREN)),
    st.sets(st.sampled_from(CHILDREN[1:])),
)
def test_whatever_is_sent_finds_its_parents(filled: list[bool], present: set[str], waiting: set[str]) -> None:
    source = Inventory(
        "src/tree",
        {
            child: dataset(f"@s,{at}" * full, "src/tree" + child)
            for at, (child, full) in enumerate(zip(CHILDREN, filled, strict=True), 1)
        },
    )
    # A target that zfsync itself could have left: nothing without its parent, and placeholders for what is empty.
    there = {child for child in present if all(above == child or above in present for above in lineage(child))}
    datasets = {child: dataset("", ROOT + child, placeholder=True) for child in CHILDREN if child in there}
    buffered = {child: dataset("", f"{BUFFER}/{child}", placeholder=True) for child in waiting - there}
    plan = planned(source, Inventory(ROOT, datasets, buffered, ancestors=("dst",)))

    made = list(plan.placeholders)
    assert made == sorted(set(made), key=lambda child: child.split("/"))
    arriving = {item.child for item in plan.work}
    assert there.isdisjoint(made)
    assert arriving.isdisjoint(made)
    assert set(buffered).isdisjoint(made)
    finally_there = there | set(made) | arriving | set(buffered)
    for child in arriving:
        assert set(lineage(child)) <= finally_there
    assert not any(source.datasets[child].snapshots for child in made)


def lineage(child: str) -> list[str]:
    """The child and all above it."""
    found = []
    current: str | None = child
    while current is not None:
        found.append(current)
        current = parent_of(current)
    return found


# ---- sizes and order -------------------------------------------------------------------------------------------------


def test_the_estimate_is_what_the_snapshots_needed_have_written() -> None:
    plan = planned(tree("src/tree", root="@a,1 @b,2", a="@a,3 @b,4 @c,5", b="@x,6"), tree(ROOT, root="@a,1", b="@x,6"))
    assert snapshots_needed(plan) == ["src/tree@a", "src/tree@b", "src/tree/a@a", "src/tree/a@b", "src/tree/a@c"]
    written = {"src/tree@a": 1, "src/tree@b": 20, "src/tree/a@a": 300, "src/tree/a@c": 4000}
    estimated = with_estimates(plan, written)
    assert [item.estimate for item in estimated.items] == [20, 4300, 0]
    assert estimated.estimate == 4320
    assert plan.estimate == 0


WRITTEN = {"src/tree@a": 1000, "src/tree@b": 20, "src/tree@c": 7}
REFERENCED = {"src/tree@a": 1000, "src/tree@b": 1010, "src/tree@c": 1015}


@pytest.mark.parametrize(
    ("selection", "target", "token", "estimate"),
    [
        (Selection(), None, {}, 1000 + 20 + 7),
        (Selection(latest=1), None, {}, 1015),
        (Selection(latest=2), None, {}, 1010 + 7),
        (Selection(latest=1), "@a,1", {}, 15),  # what is not there any more may have been written in between
        (Selection(), "@a,1", {}, 20 + 7),
        (Selection(latest=1), "", {"toguid": 3, "toname": "src/tree@c", "bytes": 100}, 915),
        (Selection(latest=1), "@b,2", {"toguid": 3, "toname": "src/tree@c", "fromguid": 2, "bytes": 3}, 4),
    ],
)
def test_what_snapshots_that_are_left_out_have_written_is_sent_too(
    selection: Selection, target: str | None, token: dict[str, int | str], estimate: int
) -> None:
    there = {} if target is None else {"": dataset(target, ROOT, token=make_token(token) if token else "")}
    inventory = Inventory(ROOT, there, ancestors=() if there else ("dst",))
    policy = replace(DEFAULT, selection=selection)
    plan = make_plan(tree("src/tree", root=SOURCE), inventory, host=Host("there"), policy=policy)
    assert with_estimates(plan, WRITTEN, REFERENCED).estimate == estimate


@pytest.mark.parametrize(("received", "estimate"), [(400, 600 + 50), (5000, 50)])
def test_what_has_arrived_already_is_not_sent_again(received: int, estimate: int) -> None:
    token = make_token({"toguid": 2, "toname": "src/tree@b", "fromguid": 1, "bytes": received})
    target = Inventory(ROOT, {"": dataset("@a,1", ROOT, token=token)})
    plan = planned(tree("src/tree", root=SOURCE), target)
    assert with_estimates(plan, {"src/tree@b": 1000, "src/tree@c": 50}).estimate == estimate


def test_the_largest_goes_first_and_a_parent_before_its_equals() -> None:
    plan = planned(
        tree("src/tree", root="@s,1", a="@s,2", a_b="@s,3", c="@s,4", d="@s,5", e=""), tree(ROOT, root="@s,1", d="@s,5")
    )
    sizes = {"src/tree/a@s": 10, "src/tree/a/b@s": 10, "src/tree/c@s": 30}
    assert [item.child for item in with_estimates(plan, sizes).work] == ["/c", "/a", "/a/b"]
    assert [item.child for item in plan.work] == ["/a", "/c", "/a/b"]


@given(st.lists(st.integers(0, 3), min_size=len(CHILDREN), max_size=len(CHILDREN)))
def test_work_is_ordered_by_size_then_depth(sizes: list[int]) -> None:
    source = Inventory("s", {child: dataset("@s,1", "s" + child) for child in CHILDREN})
    plan = planned(source, Inventory(ROOT, {}, ancestors=("dst",)))
    work = with_estimates(plan, {f"s{child}@s": size for child, size in zip(CHILDREN, sizes, strict=True)}).work
    assert sorted(item.child for item in work) == sorted(CHILDREN)
    for before, after in itertools.pairwise(work):
        assert before.estimate >= after.estimate
        if before.estimate == after.estimate:
            assert before.child.count("/") <= after.child.count("/")


# ---- places ----------------------------------------------------------------------------------------------------------


def sealed(inventory: Inventory, *children: str) -> Inventory:
    for child in children:
        inventory.datasets[child] = inventory.datasets[child]._replace(encrypted=True)
    return inventory


@pytest.mark.parametrize(
    ("source", "target", "raw", "by_buffer", "in_place"),
    [
        (["/e"], ["/e"], True, True, False),
        (["", "/e"], ["", "/e"], True, True, False),
        (["/e"], ["", "/e"], True, False, True),  # the target is below an encrypted dataset, in which all is to be so
        (["/e"], ["/e"], False, False, True),
        ([], ["", "/e"], True, False, True),
        ([], [], True, False, False),
    ],
)
def test_what_is_not_encrypted_below_a_raw_copy_comes_by_way_of_the_buffer(
    source: list[str], target: list[str], raw: bool, by_buffer: bool, in_place: bool
) -> None:
    here = sealed(tree("src/tree", root="@r,1", e="@e,2", e_c="@c,3"), *source)
    there = sealed(tree(ROOT, root="@r,1", e="@e,2"), *target)
    item = make_plan(here, there, host=Host("there"), policy=replace(DEFAULT, raw=raw)).items[-1]
    assert (item.child, item.by_buffer, item.in_place) == ("/e/c", by_buffer, in_place)
    waits = f"{BUFFER}/2F652F63" if by_buffer else f"{ROOT}/e/c"
    assert place_for(item, BUFFER, {"", "/e"}) == waits


def test_what_is_below_it_waits_with_it_though_the_nearest_that_is_there_is_encrypted() -> None:
    here = sealed(tree("src/tree", root="@r,1", e="@e,2", e_c="@c,3", e_c_d="@d,4", e_k_l="@l,5"), "/e")
    there = sealed(tree(ROOT, root="@r,1", e="@e,2"), "/e")
    items = {item.child: item for item in planned(here, there).items}
    assert place_for(items["/e/c/d"], BUFFER, {"", "/e"}) == f"{BUFFER}/2F652F632F64"
    assert not items["/e/c/d"].in_place


def test_what_does_not_take_part_is_encrypted_all_the_same() -> None:
    whole = sealed(tree("src/tree", root="@r,1", e="@e,2", e_c="@c,3"), "/e")
    there = sealed(tree(ROOT, root="@r,1", e="@e,2"), "/e")
    chosen = Inventory("src/tree", {"/e/c": whole.datasets["/e/c"]})
    (item,) = make_plan(chosen, there, host=Host("there"), whole=whole).items
    assert (item.by_buffer, item.in_place) == (True, False)


@pytest.mark.parametrize("encrypted", [False, True])
def test_in_a_new_tree_too_unless_all_is_encrypted_there(encrypted: bool) -> None:
    here = sealed(tree("src/tree", e="@e,2", e_c="@c,3"), "/e")
    there = Inventory(ROOT, {}, ancestors=("dst",), encrypted=encrypted)
    item = planned(here, there).items[-1]
    assert (item.child, item.by_buffer) == ("/e/c", not encrypted)


def test_a_dataset_is_received_in_place_if_its_parent_is_there_and_else_in_the_buffer() -> None:
    plan = planned(tree("src/tree", root="@s,1", a="@s,2", a_b="@s,3"), Inventory(ROOT, {}, ancestors=("dst",)))
    root, a, b = plan.items
    assert place_for(root, BUFFER, set()) == ROOT
    assert place_for(a, BUFFER, {""}) == f"{ROOT}/a"
    for item, present in ((a, set[str]()), (b, {""})):
        place = place_for(item, BUFFER, present)
        assert place.startswith(BUFFER + "/")
        assert decode(place.rpartition("/")[2]) == item.child


def test_a_dataset_that_is_somewhere_is_received_where_it_is() -> None:
    target = tree(ROOT, root="@s,1", a="@s,2")
    target.buffered["/a/b"] = dataset("@s,3", f"{BUFFER}/2F612F62")
    plan = planned(tree("src/tree", root="@s,1", a="@s,2 @t,4", a_b="@s,3 @t,5"), target)
    assert place_for(plan.items[1], BUFFER, set()) == f"{ROOT}/a"
    assert place_for(plan.items[2], BUFFER, {"", "/a"}) == f"{BUFFER}/2F612F62"


def long_child(length: int, below: str = ROOT) -> str:
    """A child whose full name has so many characters."""
    return "/" + "x" * (length - len(below) - 1)


@pytest.mark.parametrize(("length", "buffered"), [(249, False), (250, True), (253, True)])
def test_a_new_dataset_of_a_name_that_must_not_be_received_into_waits_under_another(
    length: int, buffered: bool
) -> None:
    child = long_child(length)
    source = Inventory("src", {"": dataset("@s,1", "src"), child: dataset("@a,1 @b,2", "src" + child)})
    item = planned(source, tree(ROOT, root="@s,1")).items[1]
    place = place_for(item, BUFFER, {""})
    assert (len(item.steps), item.problem) == (2, "")
    assert place.startswith(BUFFER + "/") == buffered
    assert len(place) <= 249


@pytest.mark.parametrize(("length", "code"), [(249, ""), (250, "name")])
@pytest.mark.parametrize("placeholder", [False, True])
def test_what_is_there_with_a_name_that_must_not_be_received_into_is_refused(
    length: int, code: str, placeholder: bool
) -> None:
    child = long_child(length)
    there = dataset("" if placeholder else "@a,1", ROOT + child)._replace(placeholder=placeholder)
    target = Inventory(ROOT, {"": dataset("@s,1", ROOT), child: there})
    source = Inventory("src", {"": dataset("@s,1", "src"), child: dataset("@a,1 @b,2", "src" + child)})
    item = planned(source, target).items[1]
    assert (item.code, bool(item.steps)) == (code, not code)
    if code:
        assert item.problem == (
            f"there:{ROOT + child} has 250 characters, and ZFS can only bring datasets up to date whose names have at "
            "most 249: choose a shorter target."
        )


def test_what_is_up_to_date_may_have_any_name() -> None:
    child = long_child(253)
    there = Inventory(ROOT, {"": dataset("@s,1", ROOT), child: dataset("@a,1", ROOT + child)})
    source = Inventory("src", {"": dataset("@s,1", "src"), child: dataset("@a,1", "src" + child)})
    assert planned(source, there).items[1].problem == ""


def test_what_has_no_room_in_the_buffer_for_its_snapshots_waits_for_its_parent_and_that_for_its_own() -> None:
    room = 255 - len(f"{BUFFER}/2F612F62@")
    for length, waits in ((room, False), (room + 1, True)):
        source = tree("src/tree", root="@s,1", a="@s,2", a_b=f"@{'x' * length},3", c="@s,4")
        plan = in_place_without_room(planned(source, Inventory(ROOT, {}, ancestors=("dst",))), BUFFER)
        assert [item.in_place for item in plan.items] == [False, waits, waits, False]
        root, a, b, _ = (replace(item, estimate=1) for item in plan.items)
        assert place_for(b, BUFFER, set()).startswith(BUFFER) != waits
        dispatch = Dispatch([b, a, root], set(), replace(DEFAULT, buffer_behind=0))
        assert dispatch.take() == root
        assert dispatch.take() == (None if waits else a)
        if waits:
            dispatch.arrived(root, ROOT)
            assert dispatch.take() == a
            dispatch.arrived(a, f"{ROOT}/a")
            assert dispatch.take() == b


# ---- a receiver that decides anew ------------------------------------------------------------------------------------


def an_item() -> Item:
    return item_for(dataset("#m,9 " + SOURCE), dataset("@a,1"))


@pytest.mark.parametrize(
    ("decision", "steps"),
    [
        (Decision(NEW), ["full -> @a: a", "@a -> @c: b c"]),
        (Decision(FULL), ["full -> @a: a", "@a -> @c: b c"]),
        (Decision(INCREMENTAL, 2), ["@b -> @c: c"]),
        (Decision(INCREMENTAL, 9), ["#m -> @a: a", "@a -> @c: b c"]),
        (Decision(UPTODATE, 3), []),
        (
            Decision(RESUME, 1, make_token({"toguid": 2, "toname": "x@b", "fromguid": 1})),
            ["full -> @b: b", "@b -> @c: c"],
        ),
    ],
)
def test_the_plan_follows_a_receiver_that_has_looked_again(decision: Decision, steps: list[str]) -> None:
    item = replan(an_item(), decision, "dst/elsewhere")
    assert shown(item) == steps
    assert item.place == "dst/elsewhere"
    assert item.decision == decision
    assert item.state.newest == decision.base
    assert item.state.exists == (decision.kind != NEW)
    assert item.why


def test_a_receiver_may_refuse_after_all() -> None:
    item = replan(an_item(), Decision(REFUSED, why="it has changed"), ROOT)
    assert (item.steps, item.problem, item.code) == ((), "it has changed", "diverged")


@pytest.mark.parametrize(
    "decision",
    [
        Decision(INCREMENTAL, 0),
        Decision(INCREMENTAL, 99),
        Decision(RESUME, 1, ""),
        Decision(RESUME, 1, "garbage"),
        Decision(RESUME, 1, make_token({"toguid": 99, "toname": "x@b", "fromguid": 1})),
        Decision("NONSENSE", 99),
    ],
)
def test_a_decision_that_these_snapshots_do_not_allow_breaks_the_protocol(decision: Decision) -> None:
    with pytest.raises(RemoteProtocolError, match="answered a Sync of src/tree with a base that is none"):
        replan(an_item(), decision, ROOT)


@given(st.sampled_from([NEW, FULL, INCREMENTAL, RESUME]), st.integers(0, 12), st.text(max_size=5))
def test_a_decision_anew_leads_to_the_newest_snapshot_or_breaks_the_protocol(kind: str, base: int, token: str) -> None:
    try:
        item = replan(an_item(), Decision(kind, base, token), ROOT)
    except RemoteProtocolError:
        return
    assert not item.steps or item.steps[-1].to == Snapshot("c", 3, 40)
    assert item.steps or base == 3
