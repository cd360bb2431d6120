"""What is known to fail before the first byte is sent."""

from __future__ import annotations

import dataclasses

import pytest

from tests.unit.dsl import dataset, tree
from zfsync_ssh.dataset import Dataset, Host, Inventory
from zfsync_ssh.errors import ZfsError
from zfsync_ssh.plan import Plan, make_plan, with_estimates
from zfsync_ssh.preflight import lineage_questions, parse_features, with_features, with_lineage, with_room

THERE = Host("there")
ALL = {"encryption": True, "large_blocks": True, "embedded_data": True, "lz4_compress": True}


def plan_of(source: dict[str, Dataset], target: dict[str, Dataset]) -> Plan:
    here = Inventory("src", source)
    return make_plan(here, Inventory("dst", target, ancestors=() if target else ("dst",)), host=THERE)


def encrypted(line: str, name: str = "src", **fields: object) -> Dataset:
    return dataset(line, name)._replace(encrypted=True, **fields)  # type: ignore[arg-type]


# ---- features --------------------------------------------------------------------------------------------------------


def test_the_features_of_a_pool_are_read() -> None:
    text = "size\t100|feature@lz4_compress\tactive|feature@encryption\tdisabled|feature@large_blocks\tenabled|feature@x"
    lines = text.split("|")
    assert parse_features(lines) == {"lz4_compress": True, "encryption": False, "large_blocks": True}
    assert parse_features([]) == {}


def test_a_raw_stream_needs_encryption_there() -> None:
    plan = plan_of({"": encrypted("@a,1")}, {})
    (item,) = with_features(plan, {**ALL, "encryption": False}, THERE, {}).items
    assert (item.code, item.steps) == ("feature", ())
    assert "there:dst has no encryption" in item.problem
    assert with_features(plan, ALL, THERE, {}) == plan
    assert with_features(plan, {}, THERE, {}) == plan  # it could not be asked


def test_what_a_dataset_needs_of_the_pool_is_looked_at_before_anything_is_sent() -> None:
    old = {**ALL, "zstd_compress": False, "large_dnode": False}
    new = plan_of({"": dataset("@a,1", "src")}, {})
    begun = plan_of({"": dataset("@a,1 @b,2", "src")}, {"": dataset("@a,1", "dst")})
    zstd, dnodes = {"src": {"compression": "zstd-3"}}, {"src": {"compression": "lz4", "dnodesize": "auto"}}
    assert with_features(new, old, THERE, zstd).items[0].flags == "Le"
    (item,) = with_features(begun, old, THERE, zstd).items
    assert (item.steps, item.code) == ((), "feature")
    assert "The pool of there:dst has no zstd_compress, which src needs" in item.problem
    (item,) = with_features(new, old, THERE, dnodes).items
    assert (item.steps, item.code) == ((), "feature")
    assert "has no large_dnode, which src needs" in item.problem
    modern = {**ALL, "zstd_compress": True, "large_dnode": True}
    for traits in (zstd, dnodes):
        assert with_features(new, modern, THERE, traits) == new
        assert with_features(begun, modern, THERE, traits) == begun


def test_flags_that_the_pool_does_not_take_are_left_out_of_new_copies_alone() -> None:
    new = plan_of({"": dataset("@a,1", "src")}, {})
    assert with_features(new, {**ALL, "embedded_data": False, "large_blocks": False}, THERE, {}).items[0].flags == "c"
    begun = plan_of({"": dataset("@a,1 @b,2", "src")}, {"": dataset("@a,1", "dst")})
    assert with_features(begun, {}, THERE, {}) == begun
    assert with_features(begun, {"encryption": True}, THERE, {}).items[0].flags == begun.items[0].flags
    done = plan_of({"": dataset("@a,1", "src")}, {"": dataset("@a,1", "dst")})
    assert with_features(done, {"encryption": True}, THERE, {}) == done


# ---- lineage ---------------------------------------------------------------------------------------------------------


def lineage(raw: bool, same: bool) -> Plan:
    there = encrypted("@copy,1", "dst", stream="raw" if raw else "Lec")
    plan = plan_of({"": encrypted("@a,1 @b,2")}, {"": there})
    plan = dataclasses.replace(plan, items=tuple(dataclasses.replace(item, raw=raw) for item in plan.items))
    if not plan.items[0].steps:  # what the plan itself has refused, because the copy remembers
        plan = plan_of({"": encrypted("@a,1 @b,2")}, {"": there._replace(stream="")})
        plan = dataclasses.replace(plan, items=tuple(dataclasses.replace(item, raw=raw) for item in plan.items))
    assert lineage_questions(plan) == [("src@a", "@copy")]
    return with_lineage(plan, {"src@a": 5}, {"dst@copy": 5 if same else 6}, THERE)


@pytest.mark.parametrize(
    ("raw", "same", "problem"),
    [
        (True, True, ""),
        (True, False, "but encrypted anew"),
        (False, True, "was received raw: leave out --no-raw"),
        (False, False, ""),
    ],
)
def test_streams_of_another_kind_do_not_follow(raw: bool, same: bool, problem: str) -> None:
    (item,) = lineage(raw, same).items
    assert problem in item.problem
    assert bool(item.steps) == (not problem)
    assert item.code == ("encryption" if problem else "")


def test_what_is_not_known_of_a_base_is_no_problem() -> None:
    plan = plan_of({"": encrypted("@a,1 @b,2")}, {"": encrypted("@a,1", "dst")})
    assert with_lineage(plan, {}, {"dst@a": 5}, THERE) == plan
    assert with_lineage(plan, {"src@a": 5}, {}, THERE) == plan


def test_only_what_goes_on_from_a_base_in_its_place_is_asked_about() -> None:
    assert lineage_questions(plan_of({"": dataset("@a,1 @b,2", "src")}, {"": dataset("@a,1", "dst")})) == []
    assert lineage_questions(plan_of({"": encrypted("@a,1")}, {})) == []
    waiting = Inventory("dst", {"": encrypted("@r,9", "dst")}, {"/a": encrypted("@a,1", "dst.zfsyncbuffer/2F61")})
    source = Inventory("src", {"": encrypted("@r,9"), "/a": encrypted("@a,1 @b,2", "src/a")})
    assert lineage_questions(make_plan(source, waiting, host=THERE)) == []


# ---- room ------------------------------------------------------------------------------------------------------------

SIZES = {"src@r": 10, "src/a@a": 100, "src/a/k@k": 1000}


def roomy(room: dict[str, int], available: int = 0) -> Plan:
    source = tree("src", root="@r,1", a="@a,2", a_k="@k,3")
    target = Inventory("dst", {}, ancestors=("dst",), available=available)
    plan = with_estimates(make_plan(source, target, host=THERE), SIZES)
    there = {child: dataset("", "dst" + child)._replace(available=left) for child, left in room.items()}
    return with_room(plan, Inventory("dst", there, available=available), THERE)


def test_what_fits_is_as_it_was() -> None:
    assert not any(item.problem for item in roomy({"": 1110, "/a": 1100}).items)


def test_a_pool_that_is_too_small_ends_the_run() -> None:
    with pytest.raises(ZfsError, match="there:dst has room for 1,109 bytes, and about 1,110 are to be sent"):
        roomy({"": 1109})
    with pytest.raises(ZfsError, match="room for 1,109 bytes"):
        roomy({}, available=1109)


def test_nothing_is_said_where_the_room_is_not_known() -> None:
    assert not any(item.problem for item in roomy({}).items)
    assert not any(item.problem for item in roomy({"": 0, "/a": 0}).items)


def test_a_quota_in_between_fails_what_is_below_it_alone() -> None:
    items = {item.child: item for item in roomy({"": 5000, "/a": 1099}).items}
    assert items[""].steps
    for child in ("/a", "/a/k"):
        assert items[child].code == "no-space"
        assert items[child].estimate == 0
        assert "there:dst/a has room for 1,099 bytes, and about 1,100" in items[child].problem


def test_what_is_refused_for_another_reason_takes_no_room() -> None:
    source = {"": dataset("@r,1", "src"), "/big": encrypted("@b,2", "src/big")}
    target = Inventory("dst", {}, ancestors=("dst",), available=100)
    plan = with_estimates(make_plan(Inventory("src", source), target, host=THERE), {"src@r": 10, "src/big@b": 1000})
    refused = with_features(plan, {**ALL, "encryption": False}, THERE, {})
    assert [(item.code, item.estimate) for item in refused.items] == [("", 10), ("feature", 0)]
    assert with_room(refused, target, THERE) == refused
    begun = plan_of({"": encrypted("@a,1 @b,2")}, {"": encrypted("@a,1", "dst")})
    (item,) = with_lineage(with_estimates(begun, {"src@b": 1000}), {"src@a": 5}, {"dst@a": 6}, THERE).items
    assert (item.code, item.estimate) == ("encryption", 0)
