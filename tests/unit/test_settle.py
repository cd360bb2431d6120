"""What has diverged or is in the way at the target; every change is also carried out, on a model of the target."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.alignment import ASIDE, BUFFER, NOW, Model, aligned, source_of, target_of
from tests.unit.dsl import dataset
from zfsync_ssh.align import Change, Target, follow_renames
from zfsync_ssh.dataset import VOLUME, Dataset, Host, Inventory
from zfsync_ssh.messages import Operation
from zfsync_ssh.policy import Divergence, Policy
from zfsync_ssh.settle import free_names, losses, settle_divergence

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


@pytest.mark.parametrize("encrypted", ["here", "there"])
def test_replace_parks_what_is_below_where_no_full_stream_could_take_the_place(encrypted: str) -> None:
    here = dataset(HERE)._replace(encrypted=encrypted == "here")
    source, target = source_of({"/a": HERE}), target_of({"/a": DIVERGED, "/a/k": "@k,5"})
    source.datasets["/a"] = here
    target.datasets["/a"] = target.datasets["/a"]._replace(encrypted=encrypted == "there")
    model = Model(target)
    policy = Policy(on_divergence=Divergence.REPLACE)
    (change,) = settle_divergence(source, target, host=Host("there"), policy=policy, now=NOW)
    model.carry_out([change])
    assert [operation.verb for operation in change.operations] == ["buffer", "park", "destroy"]
    assert {name: guid for name, guid in model.guids.items() if guid} == aligned(target)
    assert "/a" not in target.datasets


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
