"""Which datasets begin at the target as clones, and what their streams need."""

from __future__ import annotations

from tests.fakezfs import make_token
from tests.unit.dsl import dataset
from zfsync_ssh.dataset import Dataset, Host, Inventory
from zfsync_ssh.decision import CLONE, NEW, RESUME
from zfsync_ssh.item import Item
from zfsync_ssh.plan import Plan, make_plan, snapshots_needed
from zfsync_ssh.policy import DEFAULT, Policy

SOURCE = {
    "": dataset("@r,1", "src"),
    "/b": dataset("@a,2 @z,9", "src/b"),
    "/c": dataset("@x,3 @y,4", "src/c")._replace(origin="src/b@a"),
}


def planned(target: dict[str, Dataset], asides: dict[str, Dataset] | None = None, **more: object) -> Plan:
    root = {} if not target else {"": dataset("@r,1", "dst"), **target}
    there = Inventory("dst", root, ancestors=("dst",), **more)  # type: ignore[arg-type]
    return make_plan(Inventory("src", SOURCE), there, host=Host("there"), asides=asides)


def clone(plan: Plan, child: str = "/c") -> Item:
    return next(item for item in plan.items if item.child == child)


def test_the_origin_may_come_in_the_same_run() -> None:
    item = clone(planned({}))
    assert item.origin is not None
    assert (item.origin.base, item.origin.at, item.origin.child) == ("src/b@a", "", "/b")
    assert [(step.base, step.to.name, step.single) for step in item.steps] == [
        ("src/b@a", "x", True),
        ("@x", "y", True),
    ]


def test_the_origin_may_be_there_under_another_name_or_in_the_buffer() -> None:
    item = clone(planned({"/b": dataset("@other,2 @z,9", "dst/b")}))
    assert item.origin is not None
    assert item.origin.at == "dst/b@other"
    waiting = {"/b": dataset("@a,2 @z,9", "dst.zfsyncbuffer/2F62")}
    item = clone(planned({}, buffered=waiting))
    assert item.origin is not None
    assert item.origin.at == "dst.zfsyncbuffer/2F62@a"


def test_without_its_origin_it_goes_in_full() -> None:
    item = clone(planned({"/b": dataset("@z,9", "dst/b")}))
    assert item.origin is None
    assert item.decision is not None
    assert item.decision.kind == NEW
    assert clone(planned({"/b": dataset("@mine,99", "dst/b")})).origin is None  # refused, so nothing of it comes


def test_the_flags_are_those_that_the_origin_was_received_with() -> None:
    assert clone(planned({"/b": dataset("@a,2", "dst/b")._replace(stream="L")})).flags == "L"
    assert clone(planned({"/b": dataset("@a,2", "dst/b")._replace(stream="none")})).flags == ""
    assert clone(planned({})).flags == DEFAULT.flags


def test_an_origin_that_was_received_raw_takes_no_other_stream() -> None:
    assert clone(planned({"/b": dataset("@a,2", "dst/b")._replace(stream="raw", encrypted=True)})).origin is None


def test_a_cut_off_clone_goes_on_and_its_origin_is_held_for_that() -> None:
    token = make_token({"toguid": 3, "toname": "src/c@x", "fromguid": 2, "bytes": 10})
    plan = planned({"/b": dataset("@a,2 @z,9", "dst/b"), "/c": dataset("", "dst/c", token=token)})
    item = clone(plan)
    assert item.decision is not None
    assert item.decision.kind == RESUME
    assert "src/b@a" in snapshots_needed(plan)


def test_what_takes_the_place_of_one_set_aside_is_a_clone_of_it() -> None:
    aside = dataset("@old-name,2 @mine,77", "dst/b.zfsync-aside-1")._replace(stream="Le")
    plan = planned({"/c": dataset("@x,3 @y,4", "dst/c")}, {"/b": aside})
    item = clone(plan, "/b")
    assert item.decision is not None
    assert item.decision.kind == CLONE
    assert item.origin is not None
    assert (item.origin.base, item.origin.at) == ("@a", "dst/b.zfsync-aside-1@old-name")
    assert item.flags == "Le"
    assert [(step.base, step.to.name) for step in item.steps] == [("@a", "z")]
    assert "src/b@a" in snapshots_needed(plan)


def test_one_set_aside_that_was_received_raw_is_no_base_for_what_is_not() -> None:
    aside = dataset("@a,2 @mine,77", "dst/b.zfsync-aside-1")._replace(stream="raw", encrypted=True)
    assert clone(planned({"/c": dataset("@x,3", "dst/c")}, {"/b": aside}), "/b").origin is None


def test_a_clone_of_what_takes_no_part_goes_in_full() -> None:
    source = {child: one for child, one in SOURCE.items() if child != "/b"}
    plan = make_plan(Inventory("src", source), Inventory("dst", {}, ancestors=("dst",)), host=Host(), policy=Policy())
    assert clone(plan).origin is None
