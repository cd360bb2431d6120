"""What a key may do: only add, only read, and never take the newest or the young snapshots."""

from __future__ import annotations

import time

import pytest

from tests.protocol.hostile.conftest import ROOT, VERBS, Serve, changing, sync
from zfsync_ssh.messages import (
    Apply,
    CleanBuffer,
    Inventory,
    Listed,
    Lock,
    Operation,
    Query,
    Result,
    Results,
    Send,
)

ADDING = {"alive", "ancestor", "placeholder", "buffer", "drop", "snapshot"}


def own(verb: str) -> Operation:
    """The verb, of what is the client's own."""
    mark, *arguments = VERBS[verb]
    name = {"buffer": f"{ROOT}.zfsyncbuffer", "placeholder": f"{ROOT}/y"}.get(verb, f"{ROOT}/x")
    return Operation(verb, name + mark, tuple(one.format(f"{ROOT}/z") for one in arguments))


@pytest.mark.parametrize("verb", VERBS)
def test_an_append_only_key_destroys_moves_and_sets_nothing(serve: Serve, verb: str) -> None:
    hostile = serve(append_only=True)
    hostile.begin()
    before = hostile.receiver.guids(ROOT)
    answer = hostile.ask(Apply((own(verb),)))
    assert isinstance(answer, Results)
    (result,) = answer.results
    assert (result.code != "refused") == (verb in ADDING - {"ancestor", "alive"})
    if verb not in ADDING:
        assert f"this key may only add to what is there (zfsync serve --append-only): no {verb}" in result.message
    after = hostile.receiver.guids(ROOT)
    assert {child: after[child][: len(snapshots)] for child, snapshots in before.items()} == before


@pytest.mark.parametrize("verb", VERBS)
def test_a_read_only_key_changes_nothing(serve: Serve, verb: str) -> None:
    hostile = serve(read_only=True)
    hostile.begin()
    answer = hostile.ask(Apply((own(verb),)))
    assert isinstance(answer, Results)
    assert verb == "alive" or "may only read" in answer.results[0].message
    for question in (sync(), CleanBuffer(), Lock("somebody")):
        assert "may only read" in str(hostile.ask(question))
    assert changing(hostile.receiver) == []
    hostile.begin(ROOT, "")
    answers = [hostile.ask(question) for question in (Inventory(), Send("/x", "4"), Query("written", ("/x@1",)))]
    assert [type(answer) for answer in answers] == [Listed, Result, Listed]
    assert all(isinstance(answer, (Result, Listed)) and answer.ok for answer in answers)


def test_the_newest_snapshots_stay(serve: Serve) -> None:
    hostile = serve(keep_at_least=2)
    hostile.begin()
    x = f"{ROOT}/x"

    def done(*operations: Operation) -> list[bool]:
        answer = hostile.ask(Apply(operations))
        assert isinstance(answer, Results)
        return [result.ok for result in answer.results]

    destroys = [Operation("destroy-snapshot", f"{x}@{number}") for number in (1, 2, 3, 4)]
    assert done(*destroys) == [True, True, False, False]
    newest = (str(hostile.receiver.guids(x)[""][-1][1]),)
    assert done(Operation("rollback", f"{x}@3", newest), Operation("rollback", f"{x}@4", newest)) == [False, True]
    assert done(Operation("hollow", x, newest), Operation("destroy", x, newest)) == [False, False]
    # a name that is another dataset's by then
    moved = Operation("rename", x, (f"{ROOT}/y", "filesystem"))
    assert done(moved, Operation("destroy-snapshot", f"{ROOT}/y@4"), Operation("destroy", f"{ROOT}/y", newest)) == [
        True,
        False,
        False,
    ]
    assert [name for name, _ in hostile.receiver.guids(f"{ROOT}/y")[""]] == ["3", "4"]
    assert any("keep-at-least" in line for line in hostile.log)


def test_what_cannot_be_listed_stays(serve: Serve) -> None:
    hostile = serve(keep_at_least=2)
    hostile.begin()
    with hostile.receiver.open() as state:
        state["refuse"] = ["list -t snapshot,bookmark"]
    before = hostile.receiver.guids(ROOT)
    x, newest = f"{ROOT}/x", str(hostile.receiver.guids(ROOT)["/x"][-1][1])
    for operation in (
        Operation("destroy-snapshot", f"{x}@4"),
        Operation("rollback", f"{x}@1", (newest,)),
        Operation("hollow", x, (newest,)),
        Operation("destroy", x, (newest,)),
    ):
        answer = hostile.ask(Apply((operation,)))
        assert isinstance(answer, Results)
        assert "cannot be listed: cannot iterate filesystems: I/O error" in answer.results[0].message
    assert hostile.receiver.guids(ROOT) == before


def test_young_snapshots_stay_and_old_ones_may_go(serve: Serve) -> None:
    hostile = serve(keep_at_least="30d")
    x, now = f"{ROOT}/x", int(time.time())
    days = {"1": 90, "2": 31, "3": 29, "4": 0, "5": -4000}  # the last says that it is of the future
    hostile.receiver.snapshot(f"{x}@5")
    hostile.receiver.created({f"{x}@{name}": now - 86400 * age for name, age in days.items()})
    hostile.begin()

    def done(*operations: Operation) -> list[bool]:
        answer = hostile.ask(Apply(operations))
        assert isinstance(answer, Results)
        return [result.ok for result in answer.results]

    newest = (str(hostile.receiver.guids(x)[""][-1][1]),)
    assert done(Operation("hollow", x, newest), Operation("destroy", x, newest)) == [False, False]
    assert done(Operation("rollback", f"{x}@3", newest), Operation("rollback", f"{x}@5", newest)) == [False, True]
    destroys = [Operation("destroy-snapshot", f"{x}@{name}") for name in days]
    assert done(*destroys) == [True, True, False, False, False]
    assert "all snapshots younger than 30d of each dataset stay" in hostile.log[-1]
    # an old dataset may go, and one more snapshot makes no other one old
    y = f"{ROOT}/y"
    hostile.receiver.create(y)
    hostile.receiver.snapshot(f"{y}@1")
    hostile.receiver.created({f"{y}@1": now - 86400 * 31})
    assert done(Operation("destroy", y, (str(hostile.receiver.guids(y)[""][0][1]),))) == [True]
    assert done(Operation("snapshot", f"{x}@6"), *destroys[2:]) == [True, False, False, False]
