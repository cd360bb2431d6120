"""Names in the buffer, and the plan that empties it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.strategies import children, components, names
from zfsync_ssh.buffer import (
    Move,
    Stuck,
    buffered_name,
    check_buffer,
    child_waiting,
    decode,
    default_buffer,
    encode,
    rename_plan,
)
from zfsync_ssh.dataset import MAX_NAME_CHARS, check_name, parent_of

BUFFER = "p/t.zfsyncbuffer"
DIGEST_CHARS = len("/H-") + 20


# ---- the codec -------------------------------------------------------------------------------------------------------


def test_a_name_is_encoded_as_the_original_zfsync_did() -> None:
    assert encode("/a/b") == "2F612F62"
    assert decode("2F612F62") == "/a/b"


@given(children)
def test_every_legal_child_comes_back(child: str) -> None:
    assert decode(encode(child)) == child
    assert check_name("p/" + encode(child))


@given(
    st.text(max_size=12) | st.text("0123456789ABCDEF", max_size=12).map("2F".__add__) | st.text("2Ff6aA ", max_size=8)
)
def test_nothing_is_decoded_that_was_not_encoded(name: str) -> None:
    child = decode(name)
    assert child is None or encode(child) == name


@pytest.mark.parametrize("name", ["", "61", "2f61", "2F6", "2F 61", "2FFF", "H-00", "home", "2F61\n", "\uff12F61"])
def test_a_name_that_is_no_encoding_is_refused(name: str) -> None:
    assert decode(name) is None


# ---- names in the buffer ---------------------------------------------------------------------------------------------


def test_a_child_waits_under_its_hexadecimal_name() -> None:
    assert buffered_name(BUFFER, "/a/b", 10) == "p/t.zfsyncbuffer/2F612F62"


long_children = st.lists(components | st.just("long" * 15), min_size=1, max_size=6).map(
    lambda parts: "/" + "/".join(parts)
)


@given(names, long_children, st.integers(1, 120))
def test_a_buffered_name_fits_with_its_longest_snapshot(buffer: str, child: str, longest: int) -> None:
    name = buffered_name(buffer, child, longest)
    assert len(name) + 1 + longest <= MAX_NAME_CHARS
    assert child_waiting("r", buffer, name, "r" + child) == child
    assert check_name(name) == name


@given(long_children, st.integers(1, 120))
def test_a_name_is_hexadecimal_if_that_fits_and_else_a_digest_that_is_no_hexadecimal(child: str, longest: int) -> None:
    last = buffered_name(BUFFER, child, longest).rpartition("/")[2]
    if len(BUFFER) + 1 + len(encode(child)) + 1 + longest <= MAX_NAME_CHARS:
        assert decode(last) == child
    else:
        assert len(last) + 1 == DIGEST_CHARS
        assert decode(last) is None


def test_the_digest_begins_one_character_beyond_what_fits() -> None:
    child = "/" + "x" * 50
    room = MAX_NAME_CHARS - len(f"{BUFFER}/{encode(child)}@")
    assert buffered_name(BUFFER, child, room) == f"{BUFFER}/{encode(child)}"
    assert buffered_name(BUFFER, child, room + 1).startswith(f"{BUFFER}/H-")


@given(st.sets(long_children, min_size=2, max_size=5))
def test_no_two_children_share_a_name(some: set[str]) -> None:
    assert len({buffered_name(BUFFER, child, 60) for child in some}) == len(some)


def test_what_waits_is_known_by_its_property_before_its_name() -> None:
    assert child_waiting("p/t", BUFFER, f"{BUFFER}/H-00", "p/t/a/long name") == "/a/long name"
    assert child_waiting("p/t", BUFFER, f"{BUFFER}/2F61", "p/t/b") == "/b"
    assert child_waiting("p/t", BUFFER, f"{BUFFER}/2F61", "") == "/a"


def test_what_waits_for_another_target_in_a_shared_buffer_is_not_ours() -> None:
    assert child_waiting("p/t", "p/shared", "p/shared/2F61", "p/other/a") is None
    assert child_waiting("p/t", "p/shared", "p/shared/2F61", "p/t/a") == "/a"
    assert child_waiting("p/t", "p/shared", "p/shared/2F61", "") is None


@pytest.mark.parametrize(
    "name", [BUFFER, f"{BUFFER}/home", f"{BUFFER}/H-00", f"{BUFFER}/2F61/2F62", "p/t/2F61", f"{BUFFER}x/2F61"]
)
def test_what_is_not_of_the_buffer_does_not_wait(name: str) -> None:
    assert child_waiting("p/t", BUFFER, name, "") is None


def test_a_property_that_is_no_name_below_the_target_makes_it_a_stranger() -> None:
    for path in ("a", "/a", "p/t", "p/tx/a"):
        assert child_waiting("p/t", BUFFER, f"{BUFFER}/2F61", path) is None


def test_what_lies_below_one_that_waits_waits_with_it_and_goes_along() -> None:
    assert child_waiting("p/t", BUFFER, f"{BUFFER}/2F61/x", "p/t/b") == "/b/x"
    waiting = {"/b": f"{BUFFER}/2F61", "/b/x": f"{BUFFER}/2F61/x", "/b/x/y": f"{BUFFER}/2F62"}
    moves, stuck = rename_plan("p/t", waiting, [""])
    assert moves == [Move("/b", f"{BUFFER}/2F61"), Move("/b/x/y", f"{BUFFER}/2F62")]
    assert stuck == []


# ---- the plan that empties it ----------------------------------------------------------------------------------------

ALL = (
    [""]
    + [f"/{one}" for one in "ab"]
    + [f"/{one}/{two}" for one in "ab" for two in "ab"]
    + ["/a/a/a", "/b/a/b", "/c/x"]
)
some_children = st.sets(st.sampled_from(ALL))


@given(some_children, some_children, some_children)
def test_the_buffer_empties_parents_first_and_nothing_is_overwritten_or_forgotten(
    waiting_children: set[str], present: set[str], placeholders: set[str]
) -> None:
    waiting = {child: f"{BUFFER}/{encode(child)}" for child in waiting_children if child}
    moves, stuck = rename_plan("p/t", waiting, present, placeholders)

    there = set(present)
    for move in moves:
        parent = parent_of(move.child)
        assert move.child not in there
        assert parent is None or parent in there
        assert move.source == waiting.get(move.child, "")
        assert move.source or move.child in placeholders
        there.add(move.child)

    moved = [move.child for move in moves if move.source]
    stays = [why.child for why in stuck]
    assert sorted(moved + stays) == sorted(waiting)
    for why in stuck:
        if why.child in present:
            assert why.reason == f"p/t{why.child} is there already"
        else:
            parent = parent_of(why.child)
            assert parent not in there
            assert why.reason == f"its parent p/t{parent} is not there"
    for child in placeholders - there:
        assert parent_of(child) not in there


def test_a_placeholder_is_made_for_what_waits_below_it() -> None:
    moves, stuck = rename_plan("p/t", {"/a/b": "p/x/2F612F62"}, [""], ["/a"])
    assert moves == [Move("/a", ""), Move("/a/b", "p/x/2F612F62")]
    assert stuck == []


def test_what_waits_comes_before_a_placeholder_of_the_same_name() -> None:
    assert rename_plan("p/t", {"/a": "p/x/2F61"}, [""], ["/a"]) == ([Move("/a", "p/x/2F61")], [])


def test_a_name_that_would_be_too_long_stays() -> None:
    root = "p/" + "r" * 250
    fits, too_long = "/ab", "/abc"
    moves, stuck = rename_plan(root, {fits: "p/x/1", too_long: "p/x/2"}, [""])
    assert moves == [Move(fits, "p/x/1")]
    assert stuck == [Stuck(too_long, "its name would be longer than ZFS allows")]


# ---- which buffer ----------------------------------------------------------------------------------------------------


@given(names)
def test_the_default_buffer_serves_its_root(root: str) -> None:
    buffer = default_buffer(root)
    assert check_buffer(root, buffer) is None
    assert check_name(buffer) == buffer


def test_the_default_buffer_is_beside_its_root_or_inside_a_pool() -> None:
    assert default_buffer("p/t") == "p/t.zfsyncbuffer"
    assert default_buffer("p") == "p/zfsyncbuffer"


@pytest.mark.parametrize(
    ("root", "buffer", "why"),
    [
        ("p/t", "q/t.zfsyncbuffer", "has to be in the target's pool, p,"),
        ("p/t", "p/t", "the target lies inside it"),
        ("p/t", "p", "the target lies inside it"),
        ("p/t/u", "p/t", "the target lies inside it"),
    ],
)
def test_a_buffer_that_cannot_serve_is_refused(root: str, buffer: str, why: str) -> None:
    assert why in (check_buffer(root, buffer) or "")


@pytest.mark.parametrize("buffer", ["p/u", "p/t/u", "p/t2", "p/u/v"])
def test_any_other_dataset_of_the_pool_can_be_the_buffer(buffer: str) -> None:
    assert check_buffer("p/t", buffer) is None
