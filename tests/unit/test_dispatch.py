"""In which order datasets are sent that need each other; above all, that a run comes to its end."""

from __future__ import annotations

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.dsl import dataset, tree
from zfsync_ssh.dataset import Dataset, Host, Inventory, parent_of
from zfsync_ssh.decision import CLONE, NEW
from zfsync_ssh.dispatch import MAX_BEHIND, Dispatch
from zfsync_ssh.item import Item, Origin
from zfsync_ssh.plan import make_plan
from zfsync_ssh.policy import DEFAULT

SMALL_BYTES = DEFAULT.buffer_behind


def items(**lines: str) -> list[Item]:
    """Items of a tree that is new at the target, as in `tests.unit.dsl.tree`."""
    plan = make_plan(tree("src", root="@r,1", **lines), Inventory("dst", {}, ancestors=("dst",)), host=Host())
    return [item for item in plan.items if item.child]


def clone_of(item: Item, other: Item) -> Item:
    """``item`` as a clone of the other's newest snapshot, which is sent in the same run."""
    newest = other.source.snapshots[-1]
    return dataclasses.replace(item, origin=Origin(f"{other.source.name}@{newest.name}", newest.guid, other.child, ""))


def test_without_needs_all_go_as_they_come() -> None:
    dispatch = Dispatch(items(a="@1,11", b="@1,12"), {""}, DEFAULT)
    taken = [dispatch.take(), dispatch.take(), dispatch.take()]
    assert [item and item.child for item in taken] == ["/a", "/b", None]
    assert len(dispatch) == 0


def sized(item: Item, size: int) -> Item:
    return dataclasses.replace(item, estimate=size)


def children(*taken: Item | None) -> list[str | None]:
    return [item.child if item else None for item in taken]


def test_what_has_most_to_send_with_all_below_it_goes_first() -> None:
    a, b, below = items(a="@1,11", b="@1,12", b_k="@1,13")
    dispatch = Dispatch([sized(a, 5), sized(b, 1), sized(below, 9)], {""}, DEFAULT)
    assert children(dispatch.take(), dispatch.take()) == ["/b", "/a"]


def test_a_child_goes_behind_its_parent_on_the_same_channel_and_waits_for_it_on_another() -> None:
    parent, child = items(a="@1,11", a_k="@1,12")
    dispatch = Dispatch([parent, child], {""}, DEFAULT)
    assert dispatch.take() == parent
    assert dispatch.take() is None
    assert dispatch.take(["/a"]) == child


def test_a_channel_that_has_many_on_their_way_leaves_the_children_to_others() -> None:
    parent, child = items(a="@1,11", a_k="@1,12")
    dispatch = Dispatch([parent, child], {""}, DEFAULT)
    assert dispatch.take() == parent
    assert dispatch.take(["/a", *(f"/{number}" for number in range(MAX_BEHIND - 1))]) is None
    dispatch.arrived(parent, "dst/a")
    assert dispatch.take() == child


def test_behind_a_large_parent_children_go_to_the_buffer() -> None:
    parent, child = items(a="@1,11", a_k="@1,12")
    parent = sized(parent, SMALL_BYTES + 1)
    dispatch = Dispatch([parent, child], {""}, DEFAULT)
    assert dispatch.take() == parent
    assert dispatch.take() == child


def test_what_has_a_place_goes_before_what_is_small_and_would_be_buffered_and_after_what_is_large() -> None:
    for size, first in ((SMALL_BYTES, "/b"), (SMALL_BYTES + 1, "/a/k")):
        parent, child, other = items(a="@1,11", a_k="@1,12", b="@1,13")
        dispatch = Dispatch([sized(parent, 2 * SMALL_BYTES), sized(child, size), sized(other, 1)], {""}, DEFAULT)
        assert children(dispatch.take(), dispatch.take()) == ["/a", first]


def test_below_what_went_to_the_buffer_or_failed_there_is_but_the_buffer() -> None:
    for fails in (False, True):
        parent, child = items(a="@1,11", a_k="@1,12")
        dispatch = Dispatch([parent, child], {""}, DEFAULT)
        assert dispatch.take() == parent
        if fails:
            dispatch.failed(parent)
        else:
            dispatch.arrived(parent, "dst.zfsyncbuffer/2F61")
        assert dispatch.take() == child
        assert dispatch.present == {""}


def test_a_clone_waits_for_its_origin_and_learns_where_that_is() -> None:
    base, clone = items(a="@1,11", b="@1,12")
    dispatch = Dispatch([clone_of(clone, base), base], {""}, DEFAULT)
    first = dispatch.take()
    assert first == base
    assert dispatch.take() is None
    dispatch.arrived(base, "dst.zfsyncbuffer/2F61")
    second = dispatch.take()
    assert second is not None
    assert second.origin is not None
    assert second.origin.at == "dst.zfsyncbuffer/2F61@1"
    assert dispatch.buffered == {"/a"}


def test_a_clone_goes_in_full_when_its_origin_has_not_arrived() -> None:
    base, clone = items(a="@1,11", b="@1,12")
    dispatch = Dispatch([clone_of(clone, base), base], {""}, DEFAULT)
    assert dispatch.take() == base
    dispatch.failed(base)
    second = dispatch.take()
    assert second is not None
    assert second.origin is None
    assert second.decision is not None
    assert second.decision.kind == NEW
    assert [step.base for step in second.steps] == [""]


def test_what_takes_its_encryption_from_its_parent_waits_for_that_one() -> None:
    parent, child = items(a="@1,11", a_k="@1,12")
    child = dataclasses.replace(child, in_place=True)
    dispatch = Dispatch([child, parent], {""}, DEFAULT)
    assert dispatch.take() == parent
    assert dispatch.take() is None
    dispatch.arrived(parent, "dst/a")
    assert dispatch.take() == child


def test_a_parent_that_is_to_be_a_clone_of_its_own_child_is_no_deadlock() -> None:
    parent, child = items(a="@1,11", a_k="@1,12")
    child = dataclasses.replace(child, in_place=True)
    dispatch = Dispatch([child, clone_of(parent, child)], {""}, DEFAULT)
    first = dispatch.take()
    assert first is not None
    assert (first.child, first.origin) == ("/a", None)


@given(st.data())
def test_whatever_needs_whatever_and_fails_all_are_taken_once_and_the_run_ends(data: st.DataObject) -> None:
    lines = {"a": "@1,11", "a_a": "@1,12", "b": "@1,13", "b_a": "@1,14", "b_a_a": "@1,15", "c": "@1,16"}
    plain = items(**lines)
    wanted = []
    for one in data.draw(st.permutations(plain)):
        size = data.draw(st.sampled_from([1, SMALL_BYTES, SMALL_BYTES + 1]))
        placed = dataclasses.replace(one, in_place=data.draw(st.booleans()), estimate=size)
        other = data.draw(st.sampled_from([None, *plain]))
        wanted.append(placed if other is None or other.child == one.child else clone_of(placed, other))
    dispatch = Dispatch(wanted, {""}, DEFAULT)
    under_way: list[Item] = []
    taken: list[str] = []
    for _ in range(1000):
        ahead = data.draw(st.lists(st.sampled_from(under_way), unique_by=id)) if under_way else []
        ready = dispatch.take([item.child for item in ahead]) if len(under_way) < 3 else None
        if ready is not None:
            if ready.origin is not None and ready.origin.at:
                assert ready.origin.at.rpartition("@")[0] in {"dst" + child for child in dispatch.present}
            under_way.append(ready)
            taken.append(ready.child)
        elif under_way:
            done = under_way.pop(data.draw(st.integers(0, len(under_way) - 1)))
            if data.draw(st.booleans()):
                dispatch.arrived(done, done.target)
            else:
                dispatch.failed(done)
        else:
            break
    assert len(dispatch) == 0
    assert sorted(taken) == sorted(item.child for item in wanted)


def test_clones_at_the_source_are_planned_as_such_and_need_their_origin() -> None:
    source = Inventory(
        "src", {"": dataset("@r,1", "src"), "/b": dataset("@a,2", "src/b"), "/c": _clone("@x,3", "src/c", "src/b@a")}
    )
    plan = make_plan(source, Inventory("dst", {}, ancestors=("dst",)), host=Host())
    (clone,) = [item for item in plan.items if item.child == "/c"]
    assert clone.decision is not None
    assert clone.decision.kind == CLONE
    dispatch = Dispatch(reversed(plan.items), set(), DEFAULT)
    assert [item.child for item in iter(lambda: dispatch.take([""]), None)] == ["", "/b"]
    assert parent_of("/c") == ""


def _clone(line: str, name: str, origin: str) -> Dataset:
    return dataset(line, name)._replace(origin=origin)
