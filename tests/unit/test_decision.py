"""What a receiver answers, in the DSL of `tests.unit.dsl`: ``@name,guid #bookmark,guid``, oldest first."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakezfs import make_token
from tests.unit.dsl import bookmarks, dataset, snapshots
from tests.unit.histories import Histories, histories
from zfsync_ssh.dataset import Dataset
from zfsync_ssh.decision import (
    ABSENT,
    CLONE,
    FULL,
    INCREMENTAL,
    KINDS,
    NEW,
    REFUSED,
    RESUME,
    UPTODATE,
    Decision,
    TargetState,
    decide,
    newest_common,
    same_name_other_guid,
    state_of,
)

SOURCE = "@a,1 @b,2 #m,7 @c,3"


def decided(source: str, target: Dataset | None) -> Decision:
    """The decision for a source and a target."""
    return decide(snapshots(source), bookmarks(source), state_of(target))


def token(to: int, base: int = 0) -> str:
    """A resume token, of a full stream unless it has a base."""
    values: dict[str, int | str] = {"toguid": to, "toname": "src/tree@x", "bytes": 100}
    if base:
        values["fromguid"] = base
    return make_token(values)


# ---- without a partial receive ---------------------------------------------------------------------------------------


def test_what_is_not_there_is_new() -> None:
    assert decided(SOURCE, None) == Decision(NEW)


@pytest.mark.parametrize(
    ("target", "decision"),
    [
        ("@a,1", Decision(INCREMENTAL, 1)),
        ("@a,1 @b,2", Decision(INCREMENTAL, 2)),
        ("@b,2", Decision(INCREMENTAL, 2)),
        ("@a,1 @b,2 @c,3", Decision(UPTODATE, 3)),
        ("@old,99 @c,3", Decision(UPTODATE, 3)),
        ("@renamed,2", Decision(INCREMENTAL, 2)),
        ("@m,7", Decision(INCREMENTAL, 7)),
    ],
)
def test_the_base_is_the_newest_snapshot_of_the_target(target: str, decision: Decision) -> None:
    assert decided(SOURCE, dataset(target)) == decision


@pytest.mark.parametrize(
    "target",
    [
        "@x,99",  # nothing in common
        "@a,1 @x,99",  # newer than the newest in common
        "@a,99",  # the same name, another GUID
        "@a,1 @c,99",
        "@c,3 @d,4",  # ahead of the source
        "@m,7 @x,99",
        "#b,2 @x,99",  # a bookmark at the target is no base
    ],
)
def test_nothing_is_received_over_what_the_source_has_not(target: str) -> None:
    decision = decided(SOURCE, dataset(target))
    assert decision.kind == REFUSED
    assert decision.why == "its newest snapshot there is not one of the source's"


def test_a_bookmark_serves_only_where_no_snapshot_does() -> None:
    assert decided("@a,1 #a,1 @b,2", dataset("@a,1")) == Decision(INCREMENTAL, 1)
    assert decided("#a,1 @b,2", dataset("@a,1")) == Decision(INCREMENTAL, 1)


def test_only_our_own_placeholder_is_filled() -> None:
    assert decided(SOURCE, dataset("", placeholder=True)) == Decision(FULL)
    refused = decided(SOURCE, dataset(""))
    assert refused.kind == REFUSED
    assert "without any snapshot" in refused.why


def test_a_placeholder_with_snapshots_is_a_dataset_as_any_other() -> None:
    assert decided(SOURCE, dataset("@a,1", placeholder=True)) == Decision(INCREMENTAL, 1)
    assert decided(SOURCE, dataset("@x,99", placeholder=True)).kind == REFUSED


# ---- with one --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "cut_off"),
    [("", token(1)), ("", token(3)), ("@a,1", token(3, 1)), ("@a,1 @b,2", token(3, 2)), ("@m,7", token(3, 7))],
)
def test_a_receive_that_was_cut_off_goes_on(target: str, cut_off: str) -> None:
    there = dataset(target, token=cut_off)
    base = there.newest.guid if there.newest else 0
    assert decided(SOURCE, there) == Decision(RESUME, base, cut_off)


def test_what_was_cut_off_does_not_go_on_without_its_base_at_the_source() -> None:
    there = dataset("@a,1", token=token(3, 1))
    assert decided("@c,3", there).kind == REFUSED
    assert decided("#a,1 @c,3", there).kind == RESUME


def test_a_placeholder_may_be_filled_in_two_goes() -> None:
    there = dataset("", token=token(1), placeholder=True)
    assert decided(SOURCE, there) == Decision(RESUME, 0, there.token)


unfit = pytest.mark.parametrize(
    "cut_off",
    [
        pytest.param(token(99, 1), id="unknown snapshot"),
        pytest.param(token(99), id="unknown snapshot, full"),
        pytest.param(token(3, 98), id="another base"),
        pytest.param(token(3, 99), id="unknown base"),
        pytest.param("garbage", id="garbage"),
        pytest.param("1-0-0-00", id="no nvlist"),
    ],
)


@unfit
def test_a_token_that_does_not_fit_is_dropped_and_the_decision_is_as_without_it(cut_off: str) -> None:
    assert decided(SOURCE, dataset("@a,1", token=cut_off)) == Decision(INCREMENTAL, 1, discard=True)
    assert decided(SOURCE, dataset("@c,3", token=cut_off)) == Decision(UPTODATE, 3, discard=True)
    assert decided(SOURCE, dataset("@m,7", token=cut_off)) == Decision(INCREMENTAL, 7, discard=True)
    assert decided(SOURCE, dataset("", token=cut_off, placeholder=True)) == Decision(FULL, discard=True)


@unfit
def test_a_full_receive_that_cannot_go_on_leaves_nothing_behind(cut_off: str) -> None:
    assert decided(SOURCE, dataset("", token=cut_off)) == Decision(NEW, discard=True)


@unfit
def test_a_token_is_not_dropped_where_nothing_can_be_received(cut_off: str) -> None:
    assert decided(SOURCE, dataset("@x,55", token=cut_off)) == Decision(
        REFUSED, why="its newest snapshot there is not one of the source's"
    )


def test_a_full_stream_does_not_resume_onto_a_dataset_that_has_snapshots_by_now() -> None:
    assert decided(SOURCE, dataset("@a,1", token=token(3))) == Decision(INCREMENTAL, 1, discard=True)


# ---- against a model -------------------------------------------------------------------------------------------------


@given(histories())
def test_the_newest_common_snapshot_is_the_last_that_both_have(pair: Histories) -> None:
    both = [mine for mine in pair.source for other in pair.target if mine.guid == other.guid]
    assert newest_common(pair.source, pair.target) == (both[-1] if both else None)


@given(histories(), st.booleans())
def test_the_decision_is_that_of_the_model(pair: Histories, placeholder: bool) -> None:
    target = Dataset("p/t", "filesystem", 1, placeholder=placeholder, snapshots=pair.target)
    decision = decide(pair.source, pair.bookmarks, state_of(target))
    guids = [snapshot.guid for snapshot in pair.source]
    if not pair.target:
        assert decision.kind == (FULL if placeholder else REFUSED)
    elif pair.target[-1].guid == guids[-1]:
        assert decision == Decision(UPTODATE, guids[-1])
    elif pair.target[-1].guid in {*guids, *(bookmark.guid for bookmark in pair.bookmarks)}:
        assert decision == Decision(INCREMENTAL, pair.target[-1].guid)
    else:
        assert decision.kind == REFUSED
    common = newest_common(pair.source, pair.target)
    if decision.base in guids:
        assert common is not None
        assert common.guid == decision.base
    assert (decision.kind == REFUSED) == bool(decision.why)


@given(histories(), st.booleans(), st.booleans(), st.integers(0, 9), st.text(max_size=9))
def test_any_state_has_a_decision(pair: Histories, exists: bool, placeholder: bool, newest: int, garbage: str) -> None:
    decision = decide(pair.source, pair.bookmarks, TargetState(exists, placeholder, newest, garbage))
    assert decision.kind in KINDS
    assert decision.kind != RESUME
    assert decision.discard == (bool(garbage) and exists and decision.kind != REFUSED) or not exists


# ---- what divergence looks like --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "target", "impostors"),
    [
        ("@a,1 @b,2", "@a,1 @b,2", ""),
        ("@a,1 @b,2", "@a,9 @b,2", "@a,9"),
        ("@a,1 @b,2", "@a,8 @b,9 @c,3", "@a,8 @b,9"),
        ("@a,1", "@b,1", ""),
        ("", "@a,1", ""),
    ],
)
def test_a_name_with_another_guid_is_another_snapshot(source: str, target: str, impostors: str) -> None:
    found = same_name_other_guid(snapshots(source), snapshots(target))
    assert [(snapshot.name, snapshot.guid) for snapshot in found] == [
        (snapshot.name, snapshot.guid) for snapshot in snapshots(impostors)
    ]


def test_the_state_is_what_decides() -> None:
    assert state_of(None) == ABSENT
    assert state_of(dataset("")) == TargetState(True)
    assert state_of(dataset("@a,1 @b,2 #c,3", token="t")) == TargetState(True, False, 2, "t")
    assert state_of(dataset("", placeholder=True)) == TargetState(True, True)


@pytest.mark.parametrize(
    ("begun_with", "flags", "kind"),
    [
        ("Lec", "Lec", RESUME),
        ("ec", "Lec", RESUME),
        ("", "Lec", RESUME),
        ("Lec", "c", INCREMENTAL),
        ("e", "Lc", INCREMENTAL),
    ],
)
def test_a_partial_receive_with_flags_that_are_not_used_now_is_dropped(begun_with: str, flags: str, kind: str) -> None:
    names = {"L": "largeblockok", "e": "embedok", "c": "compressok"}
    values: dict[str, int | str] = {"toguid": 2, "toname": "p@b", "fromguid": 1, "bytes": 10}
    token = make_token({**values, **{names[flag]: 1 for flag in begun_with}})
    decision = decide(snapshots("@a,1 @b,2"), (), TargetState(True, newest=1, token=token), flags=flags)
    assert decision.kind == kind
    assert decision.discard == (kind == INCREMENTAL)


def test_what_is_not_there_becomes_a_clone_where_it_can_and_a_clone_that_was_cut_off_goes_on() -> None:
    line = snapshots("@b,2")
    assert decide(line, (), TargetState(False), origin=1) == Decision(CLONE, 1)
    token = make_token({"toguid": 2, "toname": "p@b", "fromguid": 1, "bytes": 10})
    assert decide(line, (), TargetState(True, token=token), origin=1).kind == RESUME
    assert decide(line, (), TargetState(True, token=token), origin=9) == Decision(CLONE, 9, discard=True)
    assert decide(line, (), TargetState(True, token=token)) == Decision(NEW, discard=True)
