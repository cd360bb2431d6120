"""What a run changes at the target besides its streams, at its beginning and at its end, and what it refuses to."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.protocol.conftest import Pair
from zfsync_ssh.errors import UsageError
from zfsync_ssh.events import Changed, Event, Notice, Opened, Planned, Status
from zfsync_ssh.holds import property_of
from zfsync_ssh.policy import Divergence, Policy
from zfsync_ssh.selection import Selection
from zfsync_ssh.zfs import GONE_PROPERTY

TARGET = "there:dst/tree"


def left_behind(pair: Pair) -> tuple[bool, str | None]:
    """Whether something is held, and the announcement."""
    with pair.sender.open() as state:
        held = any(state.get("holds", {}).values())
    return held, pair.sender.property("src/tree", property_of(TARGET))


def diverged(pair: Pair) -> None:
    """A tree at both ends, of which ``/a`` has a snapshot of its own at the target."""
    for child in ("", "/a", "/b"):
        pair.sender.create("src/tree" + child)
        pair.sender.snapshot(f"src/tree{child}@1")


async def made_to_diverge(pair: Pair) -> None:
    diverged(pair)
    assert await pair.push() == 0
    pair.receiver.snapshot("dst/tree/a@mine")
    pair.sender.snapshot("src/tree/a@2")


def changes(pair: Pair) -> list[Changed]:
    return [event for event in pair.events if isinstance(event, Changed)]


async def test_a_rollback_is_carried_out_after_it_was_confirmed(pair: Pair) -> None:
    await made_to_diverge(pair)
    asked: list[str] = []

    async def confirm(lines: Sequence[str]) -> bool:
        asked.extend(lines)
        return len(asked) > 1

    policy = Policy(on_divergence=Divergence.ROLLBACK)
    with pytest.raises(UsageError, match="was not confirmed"):
        await pair.push(policy=policy, confirm=confirm)
    assert [name for name, _ in pair.receiver.guids("dst/tree/a")[""]] == ["1", "mine"]
    assert await pair.push(policy=policy, confirm=confirm) == 0
    assert asked == ["there:dst/tree/a: @mine"] * 2
    assert pair.receiver.guids("dst/tree") == pair.sender.guids("src/tree")


@pytest.mark.parametrize("child", ["", "/a"])
async def test_a_promotion_that_a_run_did_not_come_to_is_made_by_the_next(pair: Pair, child: str) -> None:
    diverged(pair)
    assert await pair.push() == 0
    pair.receiver.snapshot(f"dst/tree{child}@mine")
    pair.sender.snapshot(f"src/tree{child}@2")
    with pair.receiver.open() as state:
        state["refuse"] = ["promote"]
    assert await pair.push(policy=Policy(on_divergence=Divergence.SET_ASIDE)) == 0
    assert any(isinstance(event, Notice) and "stays a clone" in event.text for event in pair.events)
    with pair.receiver.open() as state:
        assert "aside" in state["datasets"][f"dst/tree{child}"]["properties"]["origin"]
        state["refuse"] = []
    assert await pair.push() == 0
    with pair.receiver.open() as state:
        assert "origin" not in state["datasets"][f"dst/tree{child}"]["properties"]
    promotions = [command for command in pair.receiver.commands() if command[0] == "promote"]
    assert await pair.push() == 0
    assert [command for command in pair.receiver.commands() if command[0] == "promote"] == promotions


async def test_a_promotion_that_waits_in_the_buffer_with_its_dataset_is_made_by_the_next_run(pair: Pair) -> None:
    diverged(pair)
    assert await pair.push() == 0
    for child, written in (("", 1000), ("/a", 100_000)):  # the larger goes first, and so into the buffer
        pair.receiver.snapshot(f"dst/tree{child}@mine")
        pair.sender.snapshot(f"src/tree{child}@2", written)

    def observe(event: Event) -> None:
        if isinstance(event, Opened):
            with pair.receiver.open() as state:
                state["refuse"] = ["rename", "promote"]

    policy = Policy(on_divergence=Divergence.SET_ASIDE, buffer_behind=0)
    assert await pair.replicate(observe, policy=policy) == 3
    with pair.receiver.open() as state:
        assert "aside" in state["datasets"]["dst/tree.zfsyncbuffer/2F61"]["properties"]["origin"]
        state["refuse"] = []
    assert await pair.push() == 0
    with pair.receiver.open() as state:
        for child in ("", "/a"):
            assert "origin" not in state["datasets"][f"dst/tree{child}"]["properties"]


async def test_what_comes_while_the_user_thinks_is_not_lost(pair: Pair) -> None:
    await made_to_diverge(pair)

    async def confirm(lines: Sequence[str]) -> bool:
        pair.receiver.snapshot("dst/tree/a@meanwhile")
        return True

    for choice in (Divergence.ROLLBACK, Divergence.REPLACE):
        assert await pair.push(policy=Policy(on_divergence=choice), confirm=confirm) == 3
        assert "meanwhile" in [name for name, _ in pair.receiver.guids("dst/tree/a")[""]]
        (change,) = changes(pair)
        assert "its newest snapshot is not the one" in change.problem
        pair.receiver.destroy("dst/tree/a@meanwhile")


async def test_a_plan_is_compared_before_anything_is_changed(pair: Pair) -> None:
    await made_to_diverge(pair)
    plans: list[dict[str, object]] = []
    rollback = Policy(on_divergence=Divergence.ROLLBACK)
    assert await pair.push(policy=rollback, dry_run=True, write_plan=plans.append) == 0
    pair.sender.snapshot("src/tree/b@2")  # the plan no longer holds
    with pytest.raises(UsageError, match="The plan no longer holds: for src/tree/b"):
        await pair.push(policy=rollback, expected=plans[0])
    assert [name for name, _ in pair.receiver.guids("dst/tree/a")[""]] == ["1", "mine"]
    assert left_behind(pair) == (False, None)
    pair.sender.destroy("src/tree/b@2")
    assert await pair.push(policy=rollback, expected=plans[0]) == 0
    assert pair.receiver.guids("dst/tree") == pair.sender.guids("src/tree")


async def test_after_a_rename_that_was_refused_no_other_dataset_is_taken_for_it(pair: Pair) -> None:
    diverged(pair)
    assert await pair.push() == 0
    # At the source /a is now /c; there /c cannot be made, and what is set aside is not the dataset that was meant.
    with pair.sender.open() as state:
        state["datasets"]["src/tree/c"] = state["datasets"].pop("src/tree/a")
    pair.sender.snapshot("src/tree/b@2")
    pair.receiver.snapshot("dst/tree/b@mine")
    with pair.receiver.open() as state:
        state["refuse"] = ["rename"]
    assert await pair.push(policy=Policy(on_divergence=Divergence.REPLACE)) == 3
    first, second = changes(pair)
    assert "suspended" in first.problem
    assert second.problem == "there:dst/tree/a had to be changed before, and was not"
    assert "mine" in [name for name, _ in pair.receiver.guids("dst/tree/b")[""]]


@pytest.mark.parametrize("choice", [Divergence.SET_ASIDE, Divergence.REPLACE])
async def test_without_recursion_what_is_below_the_root_stays_what_it_is(pair: Pair, choice: Divergence) -> None:
    diverged(pair)
    assert await pair.push() == 0
    pair.receiver.snapshot("dst/tree@mine")
    pair.sender.snapshot("src/tree@2")
    before = pair.receiver.guids("dst/tree")
    policy = Policy(on_divergence=choice, delete_datasets=True, bookmark=False)
    await pair.push(policy=policy, recursive=False, dry_run=True)
    assert not any("source is gone" in change.words for change in changes(pair))
    assert await pair.push(policy=policy, recursive=False) == 0
    after = pair.receiver.guids("dst/tree")
    assert [after[child] for child in ("/a", "/b")] == [before[child] for child in ("/a", "/b")]


async def test_a_dataset_that_is_gone_goes_but_not_when_something_failed(pair: Pair) -> None:
    await made_to_diverge(pair)
    pair.sender.destroy("src/tree/b")
    policy = Policy(delete_datasets=True)
    assert await pair.push(policy=policy) == 3
    assert "/b" in pair.receiver.guids("dst/tree")
    assert any(isinstance(event, Notice) and "No dataset is destroyed" in event.text for event in pair.events)
    pair.receiver.destroy("dst/tree/a@mine")
    assert await pair.push(policy=policy) == 0
    assert "/b" not in pair.receiver.guids("dst/tree")
    (change,) = changes(pair)
    assert change.loss.startswith("1 snapshots")


async def test_a_dry_run_tells_of_a_copy_that_was_written_to(pair: Pair) -> None:
    diverged(pair)
    assert await pair.push() == 0
    for child in ("/a", "/b"):
        pair.sender.snapshot(f"src/tree{child}@2")
    with pair.receiver.open() as state:
        state["datasets"]["dst/tree/a"]["written"] = 14336
    assert await pair.push(dry_run=True) == 0
    assert pair.outcomes["src/tree/a"].message.startswith("14,336 bytes were written there since")
    assert pair.outcomes["src/tree/b"].message == ""


async def test_what_was_renamed_at_the_source_amid_a_run_is_let_go_of_as_well(pair: Pair) -> None:
    diverged(pair)

    def observe(event: Event) -> None:
        pair.events.append(event)
        if isinstance(event, Planned):
            with pair.sender.open() as state:
                state["datasets"]["src/tree/z"] = state["datasets"].pop("src/tree/b")
                state["holds"]["src/tree/z@1"] = state["holds"].pop("src/tree/b@1")
                assert state["holds"]["src/tree/z@1"]

    assert await pair.replicate(observe) == 3
    with pair.sender.open() as state:
        assert not any(state["holds"].values())
        assert not any(name.startswith("zfsync:holds") for name in state["datasets"]["src/tree"]["properties"])


async def test_a_buffer_that_cannot_go_at_the_end_is_told_of_and_goes_with_the_next_run(pair: Pair) -> None:
    for child, written in (("", 1000), ("/a", 100_000)):  # the larger goes first, and so into the buffer
        pair.sender.create("src/tree" + child)
        pair.sender.snapshot(f"src/tree{child}@1", written=written)
    with pair.receiver.open() as state:
        state["refuse"] = ["destroy"]
    assert await pair.push(policy=Policy(buffer_behind=0)) == 0
    told = [event.text for event in pair.events if isinstance(event, Notice)]
    assert any(
        text.startswith("there:dst/tree.zfsyncbuffer is not cleared up: ") and "suspended" in text for text in told
    ), told
    with pair.receiver.open() as state:
        state["refuse"] = []
    assert await pair.push() == 0
    assert pair.receiver.guids("dst/tree.zfsyncbuffer") == {}


async def test_what_is_below_a_beginning_waits_in_the_buffer(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    for child, size in (("", 10), ("/p", 900_000), ("/p/c", 10)):
        pair.sender.create("src/tree" + child)
        pair.sender.snapshot(f"src/tree{child}@1", size)
    monkeypatch.setenv("FAKEZFS_FULL", "200000")
    assert await pair.push(channels=1) == 3
    with pair.receiver.open() as state:
        assert "dst/tree/p/c" not in state["datasets"]
        assert any(name.startswith("dst/tree.zfsyncbuffer/") for name in state["datasets"])
        assert state["datasets"]["dst/tree/p"]["token"]
    pair.sender.destroy("src/tree/p@1")
    pair.sender.snapshot("src/tree/p@2", 10)
    monkeypatch.delenv("FAKEZFS_FULL")
    assert await pair.push() == 0
    assert pair.receiver.guids("dst/tree") == pair.sender.guids("src/tree")


async def test_a_placeholder_that_cannot_be_made_keeps_only_what_is_below_it_from_its_place(pair: Pair) -> None:
    for child in ("", "/a", "/p", "/p/c"):
        pair.sender.create("src/tree" + child)
        if child != "/p":
            pair.sender.snapshot(f"src/tree{child}@1")
    assert await pair.push(policy=Policy(selection=Selection(exclude=("a", "p")))) == 0
    with pair.receiver.open() as state:
        state["denied"] = ["canmount"]
        state["datasets"]["dst/tree.zfsyncbuffer"] = state["datasets"]["dst"] | {
            "properties": {"zfsync:placeholder": "dst/tree.zfsyncbuffer"}
        }
    assert await pair.push() == 3
    assert "/a" in pair.receiver.guids("dst/tree")
    assert any("dst/tree/p" in change.target and change.problem for change in changes(pair))
    with pair.receiver.open() as state:
        state["denied"] = []
    assert await pair.push() == 0
    assert "/p/c" in pair.receiver.guids("dst/tree")


async def test_what_a_second_look_at_the_source_finds_under_another_name_stays(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    diverged(pair)
    for name in "12":
        pair.sender.snapshot(f"src/tree/a@{name}x")
    assert await pair.push() == 0
    with pair.sender.open() as state:  # as a listing sees what is renamed, or moved by a promotion, meanwhile
        away = state["datasets"].pop("src/tree/b")
        away["snapshots"] += [entry for entry in state["datasets"]["src/tree/a"]["snapshots"] if entry[0] == "1x"]
    pair.sender.destroy("src/tree/a@1x")
    pair.sender.destroy("src/tree/a@1")
    before = pair.receiver.guids("dst/tree")

    def observe(event: Event) -> None:
        if isinstance(event, Planned):
            with pair.sender.open() as state:
                state["datasets"]["src/tree/c"] = away

    policy = Policy(delete_datasets=True, delete_snapshots=True)
    assert await pair.replicate(observe, policy=policy) == 0
    after = pair.receiver.guids("dst/tree")
    assert after["/b"] == before["/b"]
    assert [name for name, _ in after["/a"]] == ["1x", "2x"]  # only what is gone indeed


@pytest.mark.parametrize(("age", "loss"), [(0.0, "1 snapshots, 0 bytes"), (86400.0, "")])
async def test_a_dry_run_tells_which_datasets_are_to_go_and_neither_destroys_nor_marks_them(
    pair: Pair, age: float, loss: str
) -> None:
    diverged(pair)
    assert await pair.push() == 0
    pair.sender.destroy("src/tree/b")
    before = len(pair.receiver.commands())
    assert await pair.push(policy=Policy(delete_datasets=True, delete_age=age), dry_run=True) == 0
    told = [(change.target, change.loss, change.planned, change.problem) for change in changes(pair)]
    assert told == [("there:dst/tree/b", loss, True, "")]
    assert {command[0] for command in pair.receiver.commands()[before:]} == {"list"}
    assert pair.receiver.guids("dst/tree")["/b"]


async def test_after_a_rename_that_was_refused_no_dataset_is_destroyed(pair: Pair) -> None:
    diverged(pair)
    assert await pair.push() == 0
    with pair.sender.open() as state:
        state["datasets"]["src/tree/c"] = state["datasets"].pop("src/tree/a")
    with pair.receiver.open() as state:
        state["refuse"] = ["rename"]
    before = pair.receiver.guids("dst/tree")["/a"]
    assert await pair.push(policy=Policy(delete_datasets=True)) == 3
    assert {outcome.code for outcome in pair.outcomes.values()} == {""}  # nothing else has failed
    assert pair.receiver.guids("dst/tree")["/a"] == before


async def test_what_is_back_loses_its_mark_though_something_failed(pair: Pair) -> None:
    diverged(pair)
    assert await pair.push() == 0
    with pair.sender.open() as state:
        away = state["datasets"].pop("src/tree/b")
    policy = Policy(delete_datasets=True, delete_age=86400.0)
    assert await pair.push(policy=policy) == 0
    with pair.receiver.open() as state:
        assert state["datasets"]["dst/tree/b"]["properties"][GONE_PROPERTY]
    with pair.sender.open() as state:
        state["datasets"]["src/tree/b"] = away
    pair.receiver.snapshot("dst/tree/a@mine")
    pair.sender.snapshot("src/tree/a@2")
    assert await pair.push(policy=policy) == 3
    with pair.receiver.open() as state:
        assert GONE_PROPERTY not in state["datasets"]["dst/tree/b"]["properties"]
    assert [change.target for change in changes(pair)] == ["there:dst/tree/b"]


async def test_snapshots_that_are_gone_go_and_held_ones_are_told(pair: Pair) -> None:
    for name in "1234":
        pair.sender.snapshot(f"src/tree@{name}")
    assert await pair.push() == 0
    for name in "123":
        pair.sender.destroy(f"src/tree@{name}")
    with pair.receiver.open() as state:
        state.setdefault("holds", {})["dst/tree@2"] = ["mine"]
    policy = Policy(delete_snapshots=True)
    assert await pair.push(policy=policy, dry_run=True) == 0
    assert [name for name, _ in pair.receiver.guids("dst/tree")[""]] == ["1", "2", "3", "4"]
    assert changes(pair)[0].planned
    assert await pair.push(policy=policy) == 0
    assert [name for name, _ in pair.receiver.guids("dst/tree")[""]] == ["2", "4"]
    assert changes(pair)[0].loss == "2 snapshots from @1 to @3"
    assert any(isinstance(event, Notice) and "dst/tree@2 stays" in event.text for event in pair.events)


async def test_of_what_did_not_arrive_no_snapshot_is_destroyed(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    diverged(pair)
    assert await pair.push() == 0
    pair.sender.destroy("src/tree/a@1")  # a bookmark alone is left of what both have in common
    pair.sender.snapshot("src/tree/a@2", 900_000)
    before = pair.receiver.guids("dst/tree")["/a"]
    policy = Policy(delete_snapshots=True)
    monkeypatch.setenv("FAKEZFS_FULL", "200000")
    assert await pair.push(policy=policy) == 3
    assert pair.receiver.guids("dst/tree")["/a"] == before
    monkeypatch.delenv("FAKEZFS_FULL")
    assert await pair.push(policy=policy) == 0
    assert pair.receiver.guids("dst/tree") == pair.sender.guids("src/tree")


async def test_more_properties_than_a_message_holds_fail_their_dataset_alone(pair: Pair) -> None:
    from zfsync_ssh.policy import Properties

    diverged(pair)
    with pair.sender.open() as state:
        for number in range(20):
            state["datasets"]["src/tree/a"]["properties"][f"my:note{number}"] = "x" * 8000
    assert await pair.push(policy=Policy(properties=Properties(preserve=("all",)))) == 3
    refused = pair.outcomes["src/tree/a"]
    assert (refused.code, refused.estimate) == ("properties", 0)
    assert pair.outcomes["src/tree/b"].status is Status.SENT


async def test_a_property_that_the_target_does_not_know_fails_its_dataset_until_it_is_excluded(pair: Pair) -> None:
    from zfsync_ssh.policy import Properties

    pair.sender.create("src/tree/a")
    pair.sender.snapshot("src/tree@1")
    pair.sender.snapshot("src/tree/a@1")
    with pair.sender.open() as state:
        state["datasets"]["src/tree/a"]["properties"].update({"direct": "always", "atime": "off"})
    with pair.receiver.open() as state:
        state["unknown"] = ["direct"]
    assert await pair.push(policy=Policy(properties=Properties(preserve=("all",)))) == 3
    assert (pair.outcomes["src/tree"].status, pair.outcomes["src/tree/a"].code) == (Status.SENT, "property")
    left_out = Properties(preserve=("all",), exclude=("direct", "my:note"))
    assert await pair.push(policy=Policy(properties=left_out)) == 0
    assert pair.receiver.guids("dst/tree") == pair.sender.guids("src/tree")
    received = [words for words in pair.receiver.commands() if words[0] == "receive"][-1]
    assert "atime=off" in received
    assert "my:note" in received
    assert "direct" not in received
