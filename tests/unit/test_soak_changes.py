"""What is drawn for a soak: always possible, within bounds, and the same for the same seed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.faults.field import Look
from tests.soak import changes
from tests.soak.changes import KINDS, Step, Tree, draw

CHILDREN = ("", "/f-a", "/f-a/f-b", "/f-c", "/f-d", "/e-e", "/v-f", "/f-g", "/c-h")
MANY = tuple(f"s{number}" for number in range(changes.MAX_SNAPSHOTS + 1))
TREE = Tree(
    "tank/soak",
    {child: "volume" if "/v-" in child else "filesystem" for child in CHILDREN},
    {"/c-h": "/f-a@s0"},
    {child: MANY if child == "/f-a" else ("s0", "s1") for child in CHILDREN},
    promotable=frozenset({"/c-h"}),
)
DRAWS = [draw(TREE, 7, number) for number in range(1, 400)]


def steps(*kinds: str) -> list[Step]:
    """All that was drawn of these kinds, but for the pruning that comes first."""
    pruning = TREE.pruned()[1]
    return [step for kind, drawn in DRAWS if not kinds or kind in kinds for step in drawn if step not in pruning]


def test_the_same_seed_and_tree_give_the_same_change_and_another_seed_another() -> None:
    assert [draw(TREE, 7, number) for number in range(1, 400)] == DRAWS
    assert [draw(TREE, 8, number) for number in range(1, 400)] != DRAWS


def test_every_kind_of_change_is_drawn() -> None:
    assert {kind for kind, _ in DRAWS} == set(KINDS)


def test_too_many_snapshots_are_pruned_oldest_first_but_none_that_has_a_clone() -> None:
    tree, pruning = TREE.pruned()
    gone = MANY[1 : 1 + len(MANY) - changes.KEEP_SNAPSHOTS]
    assert pruning == [("zfs", "destroy", f"tank/soak/f-a@{','.join(gone)}")]
    assert tree.snapshots["/f-a"] == tuple(name for name in MANY if name not in gone)
    assert tree.snapshots["/f-c"] == TREE.snapshots["/f-c"]


def test_a_snapshot_with_a_clone_is_not_destroyed_nor_is_its_dataset_nor_the_last_snapshot() -> None:
    destroyed = {step[-1] for step in steps("destroy", "destroy snapshots")}
    assert "tank/soak/f-d" in destroyed
    assert not destroyed & {"tank/soak", "tank/soak/f-a", "tank/soak/f-a@s0"}
    last = Tree(TREE.root, TREE.kinds, {}, dict.fromkeys(CHILDREN, ("s0",)))
    drawn = [draw(last, 7, number) for number in range(1, 400)]
    assert all(kind != "destroy snapshots" for kind, _ in drawn)


@pytest.mark.parametrize(
    "children", [("/e-a", "/e-b", "/e-c"), ("/f-a", "/f-a/f-b", "/f-a/f-b/f-c", "/f-a/f-b/f-c/f-d")]
)
def test_where_nothing_can_be_moved_or_has_room_something_else_is_drawn(children: tuple[str, ...]) -> None:
    tree = Tree("tank/soak", dict.fromkeys(("", *children), "filesystem"), {}, dict.fromkeys(("", *children), ("s0",)))
    moved = {step[2] for number in range(400) for step in draw(tree, 47, number)[1] if step[1] == "rename"}
    assert f"tank/soak{children[0]}" not in moved


def test_what_was_swapped_is_not_destroyed_before_the_copies_have_followed() -> None:
    source = Look({f"t{child}": {} for child in ("", "/x", "/y")}, {"t/x@1": "2", "t/y@1": "1"}, [], {}, [], [], [])
    before = replace(source, snapshots={"c/x@1": "1", "c/y@1": "2", "d/x@1": "2", "d/y@1": "1"})
    after = replace(source, snapshots={"c/x@1": "2", "c/y@1": "1"})
    moved = replace(source, snapshots={"c/old@1": "1"})
    assert changes.swapped(source, "t", before, ["c", "d"]) == {"/x", "/y"}
    assert changes.swapped(source, "t", after, ["c", "d"]) == changes.swapped(source, "t", moved, ["c"]) == frozenset()
    pruned = replace(source, snapshots={"c/x@1": "2", "c/y@0": "3"})
    assert changes.swapped(source, "t", pruned, ["c"]) == {"", "/x", "/y"}
    assert "/f-d" in TREE.destroyable()
    assert "/f-d" not in replace(TREE, swapped=frozenset({"/f-d"})).destroyable()


def test_only_what_is_a_clone_in_every_copy_is_promoted() -> None:
    clone, whole = {"origin": "t/x@1"}, {"origin": "-"}
    source = Look({"t/a": clone, "t/b": clone, "t/c": whole}, {}, [], {}, [], [], [])
    there = replace(source, datasets={"c/a": clone, "d/a": clone, "c/b": clone, "d/b": whole, "c/c": clone})
    assert changes.clones_everywhere(source, "t", there, ["c", "d"]) == {"/a"}
    assert "promote" not in {draw(replace(TREE, promotable=frozenset()), 7, number)[0] for number in range(1, 400)}


def test_a_tree_that_is_large_enough_does_not_grow_and_one_that_is_small_enough_does_not_shrink() -> None:
    more = [f"/f-{number}" for number in range(changes.MAX_DATASETS - len(CHILDREN))]
    kinds = {**TREE.kinds, **dict.fromkeys(more, "filesystem")}
    full = Tree(TREE.root, kinds, {}, dict.fromkeys(kinds, ("s0",)))
    assert not {"create", "clone"} & {draw(full, 7, number)[0] for number in range(1, 400)}
    few = CHILDREN[: changes.MIN_DATASETS]
    small = Tree(TREE.root, {child: TREE.kinds[child] for child in few}, {}, dict.fromkeys(few, ("s0", "s1")))
    assert "destroy" not in {draw(small, 7, number)[0] for number in range(1, 400)}


def test_nothing_is_renamed_below_itself_and_a_new_name_is_of_that_run() -> None:
    for kind, drawn in DRAWS:
        for _, verb, *names in (step for step in drawn if step[1] == "rename"):
            assert verb == "rename"
            assert not names[1].startswith(names[0] + "/")
            assert kind == "swap" or names[1] not in {TREE.root + child for child in CHILDREN}
