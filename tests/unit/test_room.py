"""What makes room for a copy; every change is also carried out, on a model of the target."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.fakezfs import make_token
from tests.unit.alignment import BUFFER, Model, aligned, source_of, target_of
from tests.unit.dsl import dataset
from tests.unit.test_decision import token
from zfsync_ssh.align import Change, Target
from zfsync_ssh.dataset import VOLUME, Dataset, Inventory
from zfsync_ssh.messages import Operation
from zfsync_ssh.policy import Policy
from zfsync_ssh.room import make_room

CLEAR, ENCRYPTED = dataset("@x,1"), dataset("@x,1")._replace(encrypted=True)
PLACEHOLDER = dataset("", placeholder=True)
BELOW = {"/a/k": "@k,5", "/a/k/l": "@l,6"}


def room(here: Dataset, there: Dataset, below: dict[str, str] | None = None, **policy: bool) -> list[Change]:
    """What is done for ``here``, the child ``/a`` of the source, when ``there`` is in its place."""
    source, target = source_of({"": "@r,9"}), target_of({"": "@r,9", **(below or {})})
    source.datasets["/a"] = here._replace(name="src/a")
    target.datasets["/a"] = there._replace(name="dst/a")
    model = Model(target)
    changes = make_room(source, target, replace(Policy(), **policy))  # type: ignore[arg-type]
    model.carry_out(changes)
    assert {name: guid for name, guid in model.guids.items() if guid} == aligned(target)
    return changes


def verbs(changes: list[Change]) -> list[str]:
    return [operation.verb for change in changes for operation in change.operations]


@pytest.mark.parametrize(
    ("here", "there", "raw", "goes"),
    [
        (CLEAR, PLACEHOLDER, True, False),
        (ENCRYPTED, PLACEHOLDER, True, True),
        (ENCRYPTED, PLACEHOLDER, False, False),
        (CLEAR, PLACEHOLDER._replace(encrypted=True), True, True),
        (ENCRYPTED, PLACEHOLDER._replace(encrypted=True), False, True),
        (CLEAR._replace(kind=VOLUME), PLACEHOLDER, True, True),
        (dataset(""), PLACEHOLDER, True, False),
        (ENCRYPTED, dataset("@x,1"), True, False),
        (ENCRYPTED, dataset(""), True, False),  # somebody else's
    ],
)
def test_a_placeholder_goes_whose_place_no_stream_can_take(
    here: Dataset, there: Dataset, raw: bool, goes: bool
) -> None:
    assert verbs(room(here, there, raw=raw)) == (["vacate"] if goes else [])


def test_what_is_below_an_encrypted_copy_goes_too_for_it_would_take_its_encryption() -> None:
    source = Inventory("src", {"": ENCRYPTED, "/a": CLEAR})
    there = Inventory("dst", {"": dataset("@x,1", "dst")._replace(encrypted=True), "/a": PLACEHOLDER})
    assert verbs(make_room(source, Target(there, BUFFER), Policy())) == ["vacate"]


def test_what_is_below_it_waits_in_the_buffer() -> None:
    (change,) = room(ENCRYPTED, PLACEHOLDER, BELOW)
    assert change.operations == (
        Operation("buffer", BUFFER),
        Operation("park", "dst/a/k", (f"{BUFFER}/2F612F6B", "filesystem", "dst/a/k")),
        Operation("vacate", "dst/a"),
    )
    assert change.loss == ""
    assert room(CLEAR._replace(kind=VOLUME), PLACEHOLDER, BELOW) == []  # where nothing could be below it


def test_the_beginning_of_a_stream_that_nothing_follows_goes() -> None:
    begun = dataset("", token=token(77))
    assert verbs(room(dataset(""), begun)) == ["drop"]
    assert verbs(room(dataset(""), begun, BELOW)) == ["buffer", "park", "drop"]
    assert verbs(room(CLEAR, begun)) == []  # the stream that begins anew drops it
    assert verbs(room(CLEAR, begun, BELOW)) == ["buffer", "park", "drop"]
    assert verbs(room(CLEAR, dataset("", token=token(1)), BELOW)) == []  # it is resumed
    flagged = make_token({"toguid": 1, "toname": "src/a@x", "bytes": 100, "largeblockok": 1})
    assert verbs(room(CLEAR, dataset("", token=flagged), BELOW)) == []
    clone = CLEAR._replace(origin="src/o@o")
    assert verbs(room(clone, dataset("", token=token(1, 7)), BELOW)) == []
    assert verbs(room(CLEAR, dataset("", token=token(1, 7)), BELOW)) == ["buffer", "park", "drop"]
    assert verbs(room(CLEAR, dataset("", token=token(1)), BELOW, resume=False)) == ["buffer", "park", "drop"]


def test_what_has_the_buffer_in_it_or_whose_children_cannot_wait_there_stays() -> None:
    source, target = source_of({"/a": "@x,1"}), Target(target_of({}).inventory(), "dst/a/buffer")
    source.datasets["/a"] = ENCRYPTED
    target.datasets["/a"] = PLACEHOLDER._replace(name="dst/a")
    assert make_room(source, target, Policy()) == []
    target = target_of({"": "@r,9", **BELOW})
    target.datasets["/a"] = PLACEHOLDER._replace(name="dst/a")
    target.buffered["/a/k"] = dataset("@other,8", f"{BUFFER}/2F612F6B")
    assert make_room(source, target, Policy()) == []
    assert "/a" in target.datasets
