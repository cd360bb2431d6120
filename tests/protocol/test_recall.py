"""A run that remembers which snapshots there are, through real agents, does what one that lists them all would do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.protocol.conftest import Pair
from zfsync_ssh.events import Status
from zfsync_ssh.remembered import Remembered

CHILDREN = ("", "/a", "/b", "/c")


class Remembering:
    """Runs that remember, in ``directory``."""

    def __init__(self, pair: Pair, directory: Path, pull: bool) -> None:
        self.pair = pair
        self.directory = directory
        self.pull = pull

    async def run(self, **options: Any) -> tuple[list[list[str]], list[list[str]]]:
        """Push; the listings at the sender and at the receiver. Both have the same then."""
        ends = (self.pair.sender, self.pair.receiver)
        before = [len(end.commands()) for end in ends]
        memory = tuple(Remembered(self.directory, place) for place in ("src/tree", "there:dst/tree"))
        assert await self.pair.push(pull=self.pull, remembered=memory, **options) == 0
        assert self.pair.receiver.guids("dst/tree") == self.pair.sender.guids("src/tree")
        here, there = (
            [command for command in end.commands()[start:] if command[0] == "list"]
            for end, start in zip(ends, before, strict=True)
        )
        return here, there

    def status(self, name: str) -> Status:
        """What became of a dataset of the source in the last run."""
        return self.pair.outcomes[f"far:{name}" if self.pull else name].status


@pytest.fixture(params=[False, True], ids=["push", "pull"])
def remembering(pair: Pair, tmp_path: Path, request: pytest.FixtureRequest) -> Remembering:
    for child in CHILDREN:
        pair.sender.create("src/tree" + child)
        pair.sender.snapshot(f"src/tree{child}@1")
    return Remembering(pair, tmp_path / "remembered", request.param)


def kinds(listings: list[list[str]]) -> list[str]:
    return [listing[listing.index("-t") + 1] for listing in listings]


WHOLE = ["filesystem,volume", "snapshot,bookmark"]


async def test_when_nothing_has_changed_no_snapshots_are_listed(remembering: Remembering) -> None:
    await remembering.run()
    await remembering.run()
    here, there = await remembering.run()
    assert kinds(here) == kinds(there) == ["filesystem,volume,bookmark"]
    assert {outcome.status for outcome in remembering.pair.outcomes.values()} == {Status.UP_TO_DATE}


async def test_what_has_changed_alone_is_listed_and_sent(remembering: Remembering) -> None:
    await remembering.run()
    await remembering.run()
    remembering.pair.sender.snapshot("src/tree/b@2")
    here, there = await remembering.run()
    assert kinds(here)[:2] == ["filesystem,volume,bookmark", "snapshot"]
    assert here[1][-1] == "src/tree/b"
    assert kinds(there)[0] == "filesystem,volume,bookmark"
    assert remembering.status("src/tree/b") is Status.SENT


async def test_what_was_destroyed_and_made_at_the_target_is_seen(remembering: Remembering) -> None:
    await remembering.run()
    await remembering.run()
    remembering.pair.receiver.destroy("dst/tree/c@1")
    remembering.pair.sender.snapshot("src/tree/c@2")
    memory = tuple(Remembered(remembering.directory, place) for place in ("src/tree", "there:dst/tree"))
    assert await remembering.pair.push(pull=remembering.pull, remembered=memory) == 3
    assert remembering.status("src/tree/c") is Status.FAILED


async def test_after_a_failure_all_is_listed(remembering: Remembering) -> None:
    pair = remembering.pair
    await remembering.run()
    await remembering.run()
    # As if the memory were wrong: the snapshot has gone, and ZFS says that nothing has changed.
    pair.sender.snapshot("src/tree/a@2")
    with pair.receiver.open() as state:
        changed = state["datasets"]["dst/tree/a"]["changed"]
        state["datasets"]["dst/tree/a"]["snapshots"].clear()
    with pair.receiver.open() as state:
        state["datasets"]["dst/tree/a"]["changed"] = changed
    memory = tuple(Remembered(remembering.directory, place) for place in ("src/tree", "there:dst/tree"))
    assert await pair.push(pull=remembering.pull, remembered=memory) == 3
    memory = tuple(Remembered(remembering.directory, place) for place in ("src/tree", "there:dst/tree"))
    assert [one.recall.lines for one in memory] == [{}, {}]


async def test_with_an_older_zfs_all_is_listed_and_it_is_asked_once(remembering: Remembering) -> None:
    for end in (remembering.pair.sender, remembering.pair.receiver):
        with end.open() as state:
            state["changes"] = False
    here, there = await remembering.run()
    assert any("snapshots_changed" in part for listing in here for part in listing)
    here, there = await remembering.run()
    assert sorted(kinds(here)) == sorted(kinds(there)) == WHOLE
    assert not any("snapshots_changed" in part for listing in (*here, *there) for part in listing)


async def test_without_memory_all_is_listed(remembering: Remembering) -> None:
    await remembering.run()
    await remembering.run()
    before = len(remembering.pair.sender.commands())
    assert await remembering.pair.push(pull=remembering.pull) == 0
    assert sorted(kinds(remembering.pair.sender.commands()[before:])) == WHOLE
