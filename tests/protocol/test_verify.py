"""Contents compared through real agents: real directories, which stand in a fake ZFS's ``.zfs/snapshot``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests import agents
from tests.fakezfs import State
from tests.protocol.conftest import zfs_command
from zfsync_ssh import bootstrap
from zfsync_ssh.channel import LocalOpener
from zfsync_ssh.dataset import Host
from zfsync_ssh.endpoint import Endpoint
from zfsync_ssh.entry import MAX_BATCH_ENTRIES
from zfsync_ssh.errors import AgentError, ZfsError
from zfsync_ssh.events import Event, Finished, Notice, Outcome, Status
from zfsync_ssh.verify import Verify, VerifyOptions


class Ends:
    """Two trees, ``src`` and ``dst``, that are mounted in directories."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.states = {name: State(str(path / f"{name}.json")) for name in ("src", "dst")}
        self.events: list[Event] = []

    def dataset(self, child: str = "", snapshot: str = "1", guid: int = 11, **properties: str) -> None:
        """Make a dataset with one snapshot at both ends."""
        for name, state in self.states.items():
            where = self.path / name / child.strip("/") if child else self.path / name
            state.create(name + child, mounted="yes", mountpoint=str(where), **properties)
            state.snapshot(f"{name}{child}@{snapshot}", guid=guid)
            self.of(name, child, snapshot).mkdir(parents=True)
            os.utime(self.of(name, child, snapshot), ns=(0, 0))

    def of(self, name: str, child: str = "", snapshot: str = "1") -> Path:
        """The contents of a snapshot."""
        return self.path / name / child.strip("/") / ".zfs/snapshot" / snapshot

    def write(self, child: str, file: str, text: str, *names: str) -> None:
        for name in names or self.states:
            path = self.of(name, child) / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            os.utime(path, ns=(0, 0))
            for parent in path.relative_to(self.of(name, child)).parents:
                os.utime(self.of(name, child) / parent, ns=(0, 0))

    def end(self, name: str) -> Endpoint:
        opener = LocalOpener(bootstrap.command((agents.PYTHON,)))
        return Endpoint(opener, Host(), name, "", zfs_command(self.states[name]))

    async def verify(self, **options: Any) -> int:
        self.events.clear()
        return await Verify(self.end("src"), self.end("dst"), VerifyOptions(**options), self.events.append).run()

    @property
    def outcomes(self) -> dict[str, Outcome]:
        return {event.outcome.source: event.outcome for event in self.events if isinstance(event, Finished)}


@pytest.fixture
def ends(tmp_path: Path) -> Ends:
    return Ends(tmp_path)


async def test_equal_trees_are_equal(ends: Ends) -> None:
    ends.dataset()
    ends.dataset("/a")
    for number in range(30):
        ends.write("/a", f"{number % 3}/{number}", str(number))
    assert await ends.verify() == 0
    assert [outcome.status for outcome in ends.outcomes.values()] == [Status.EQUAL] * 2
    assert ends.outcomes["src/a"].bytes == 50


async def test_far_more_entries_than_a_batch_has(ends: Ends) -> None:
    ends.dataset()
    for name in ends.states:
        for number in range(MAX_BATCH_ENTRIES * 2 + 7):
            (ends.of(name) / str(number)).symlink_to("x")
            os.utime(ends.of(name) / str(number), ns=(0, 0), follow_symlinks=False)
        os.utime(ends.of(name), ns=(0, 0))
    (ends.of("dst") / "7777").unlink()
    os.utime(ends.of("dst"), ns=(0, 0))
    assert await ends.verify() == 3
    assert ends.outcomes["src"].message == "@1 differs in its contents: 7777: only in src."


async def test_a_difference_is_named_and_does_not_stop_the_others(ends: Ends) -> None:
    ends.dataset()
    for child in ("/a", "/b", "/c"):
        ends.dataset(child)
        ends.write(child, "file", "same")
    ends.write("/b", "file", "else", "dst")
    assert await ends.verify(channels=2) == 3
    assert ends.outcomes["src/b"].status is Status.DIFFERENT
    assert ends.outcomes["src/b"].message == "@1 differs in its contents: file: contents."
    assert {ends.outcomes[name].status for name in ("src", "src/a", "src/c")} == {Status.EQUAL}


async def test_what_cannot_be_compared_is_told_by_dataset(ends: Ends) -> None:
    ends.dataset()
    ends.dataset("/locked", keystatus="unavailable")
    for name, state in ends.states.items():
        state.create(f"{name}/empty")
        state.create(f"{name}/other")
        state.snapshot(f"{name}/other@1")
    ends.states["src"].create("src/alone")
    assert await ends.verify() == 3
    told = {name: (outcome.status, outcome.message) for name, outcome in ends.outcomes.items()}
    assert told["src"] == (Status.EQUAL, "")
    assert told["src/alone"] == (Status.DIFFERENT, "it is only in src.")
    assert told["src/empty"][0] is Status.NO_SNAPSHOTS
    assert told["src/other"] == (Status.DIFFERENT, "no snapshot in common, so nothing can be compared.")
    assert told["src/locked"][0] is Status.FAILED
    assert "src/locked cannot be read: its key is not loaded there" in told["src/locked"][1]


async def test_a_snapshot_that_was_replaced_since_is_not_taken_for_the_one_that_was_listed(ends: Ends) -> None:
    ends.dataset()
    end = ends.end("src")
    client, _ = await end.open()
    try:
        from zfsync_ssh.messages import Digest

        assert (await client.result(Digest("", "1", 12))).code == "stale"
        assert (await client.result(Digest("", "2", 11))).code == "missing"
        with pytest.raises(ZfsError, match="no snapshot is being read"):
            await client.batch(1)
        assert (await client.result(Digest("", "1", 11))).ok
        with pytest.raises(AgentError, match="not in the tree"):
            await client.result(Digest("x", "1", 11))
    finally:
        await end.close()


async def test_a_sample_tells_its_seed_and_reads_less(ends: Ends) -> None:
    ends.dataset()
    for number in range(100):
        ends.write("", str(number), "x" * 10)
    assert await ends.verify(sample=1, seed="abc") == 0
    assert any(isinstance(event, Notice) and "--seed abc" in event.text for event in ends.events)
    assert ends.outcomes["src"].bytes < 500  # of 1000, at each end


async def test_two_snapshots_by_name(ends: Ends) -> None:
    ends.dataset()
    ends.dataset(snapshot="2", guid=22)
    for name in ends.states:
        new = ends.of(name, snapshot="2") / "new"
        new.mkdir()
        for path in (new, ends.of(name, snapshot="2")):  # else they differ where a second begins between the two
            os.utime(path, ns=(0, 0))
    assert await ends.verify(snapshots=("2", "2")) == 0
    assert await ends.verify(snapshots=("1", "2")) == 3
    assert ends.outcomes["src"].message == "@1, @2 differs in its contents: new: only in dst."
    assert await ends.verify(snapshots=("1", "3")) == 3
    assert ends.outcomes["src"].message == "there is no @3 in dst."


async def test_no_such_tree(ends: Ends) -> None:
    ends.dataset()
    ends.states["dst"].destroy("dst")
    with pytest.raises(ZfsError, match="There is no dataset dst on this machine"):
        await ends.verify()
