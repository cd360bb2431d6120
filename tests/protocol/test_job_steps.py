"""What an unattended job does to ZFS, step by step, with fake ZFS at both ends and real agents in between."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.protocol.conftest import Pair, zfs_command
from zfsync_ssh import zfssteps
from zfsync_ssh.bookmarks import snapshot_name
from zfsync_ssh.config import Job
from zfsync_ssh.dataset import Snapshot
from zfsync_ssh.endpoint import Endpoint
from zfsync_ssh.errors import ZfsError
from zfsync_ssh.jobsteps import Pruned
from zfsync_ssh.location import Location
from zfsync_ssh.retention import parse_keep
from zfsync_ssh.selection import Selection
from zfsync_ssh.source import LocalSource, Source
from zfsync_ssh.state import VARIABLE as STATE
from zfsync_ssh.transfer import Transfer
from zfsync_ssh.zfssteps import ZfsSteps

TARGET = Location(None, "there", "dst/tree")


@pytest.fixture(params=["here", "far"])
def steps(pair: Pair, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> ZfsSteps:
    """Of a job from ``src/tree``, on this machine or another one, to ``dst/tree``. The ends are the pair's."""

    def source_at(*_: object, **__: object) -> Source:
        if request.param == "far":
            return pair.remote_source("src/tree")
        return LocalSource("src/tree", zfs_command(pair.sender))

    def endpoint_at(*_: object, **__: object) -> Endpoint:
        return pair.target()

    monkeypatch.setattr(zfssteps, "source_at", source_at)
    monkeypatch.setattr(zfssteps, "endpoint_at", endpoint_at)
    job = Job("web", Location("", "", "src/tree"), (TARGET,), transfer=Transfer())
    return ZfsSteps(job, "test", pair.events.append)


def marked(pair: Pair, dataset: str) -> list[str]:
    """The snapshots that bookmarks at the source are of."""
    with pair.sender.open() as state:
        return [snapshot_name(entry[0]) for entry in state["datasets"][dataset]["bookmarks"]]


async def test_a_push_that_is_cut_off_leaves_bookmarks_of_all_that_may_have_arrived(
    pair: Pair, steps: ZfsSteps, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.sender.create("src/tree/a")
    for dataset in ("src/tree", "src/tree/a"):
        pair.sender.snapshot(f"{dataset}@1", 1000)
    assert (await steps.push(TARGET)).exit_code == 0
    assert marked(pair, "src/tree/a") == ["1"]
    pair.sender.snapshot("src/tree@2", 1000)
    for name, written in (("2", 1000), ("3", 900_000)):
        pair.sender.snapshot(f"src/tree/a@{name}", written)
    monkeypatch.setenv("FAKEZFS_FULL", "200000")
    pushed = await steps.push(TARGET)
    assert (pushed.exit_code, [row.dataset for row in pushed.datasets if row.failed]) == (3, ["src/tree/a"])
    assert [name for name, _ in pair.receiver.guids("dst/tree")["/a"]] == ["1", "2"]
    assert sorted(marked(pair, "src/tree/a")) == ["1", "2", "3"]  # several commands at once made them
    assert marked(pair, "src/tree") == ["2"]  # that one is whole

    # What they are for: the source loses all that the target has.
    for name in "12":
        pair.sender.destroy(f"src/tree/a@{name}")
    monkeypatch.delenv("FAKEZFS_FULL")
    assert (await steps.push(TARGET)).exit_code == 0
    assert [name for name, _ in pair.receiver.guids("dst/tree")["/a"]] == ["1", "2", "3"]
    assert marked(pair, "src/tree/a") == ["3"]


def everything(_: str, snapshots: Sequence[Snapshot], spared: Collection[int]) -> tuple[Snapshot, ...]:
    """A rule by which all goes that is not spared."""
    return tuple(one for one in snapshots if one.guid not in spared)


async def test_the_source_keeps_what_a_first_copy_that_was_cut_off_goes_on_with(
    pair: Pair, steps: ZfsSteps, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.sender.create("src/tree/a")
    pair.sender.snapshot("src/tree@1", 1000)
    for name, written in (("1", 900_000), ("2", 10), ("3", 10), ("4", 10)):
        pair.sender.snapshot(f"src/tree/a@{name}", written)
    monkeypatch.setenv("FAKEZFS_FULL", "200000")
    assert (await steps.push(TARGET)).exit_code == 3
    again = ZfsSteps(steps._job, "test", pair.events.append)  # another run, which has seen nothing of that
    assert (await again.prune(None, everything)).failures == ()
    assert [name for name, _ in pair.sender.guids("src/tree")["/a"]] == ["1", "2"]
    monkeypatch.delenv("FAKEZFS_FULL")
    assert (await steps.push(TARGET)).exit_code == 0
    assert any(command[0] == "send" and "-t" in command for command in pair.sender.commands())
    assert [name for name, _ in pair.receiver.guids("dst/tree")["/a"]] == ["1", "2"]
    assert (await again.prune(None, everything)).failures == ()
    assert [name for name, _ in pair.sender.guids("src/tree")["/a"]] == ["2"]


@pytest.mark.parametrize("keep", [False, True])
async def test_a_job_that_takes_no_snapshots_lists_none_again_when_nothing_has_changed(
    pair: Pair, steps: ZfsSteps, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, keep: bool
) -> None:
    monkeypatch.setenv(STATE, str(tmp_path / "state"))
    retention = replace(steps._job.retention, keep=parse_keep("daily=1") if keep else None)
    steps = ZfsSteps(replace(steps._job, retention=retention), "test", pair.events.append)
    pair.sender.snapshot("src/tree@1")
    assert (await steps.push(TARGET)).exit_code == 0
    assert (await steps.push(TARGET)).exit_code == 0
    before = len(pair.receiver.commands())
    assert (await steps.push(TARGET)).exit_code == 0
    listed = [command for command in pair.receiver.commands()[before:] if command[0] == "list"]
    assert any("snapshot" in command[command.index("-t") + 1] for command in listed) is keep


async def test_what_is_due_is_told_by_all_datasets_that_take_part(pair: Pair, steps: ZfsSteps) -> None:
    for child in ("/a", "/b"):
        pair.sender.create("src/tree" + child)
    pair.sender.snapshot("src/tree/b@20260101-0000_Y")
    assert [one.name for one in (await steps.source()).snapshots] == ["20260101-0000_Y"]


@pytest.mark.parametrize(
    ("pattern", "sizes", "written"),
    [("", (1000,), False), ("theirs*", (1000, 0), True), ("theirs*", (0, 0), False), ("*", (0,), True)],
)
async def test_what_another_programs_snapshot_has_and_is_not_sent_counts_as_written(
    pair: Pair, steps: ZfsSteps, pattern: str, sizes: Sequence[int], written: bool
) -> None:
    pair.sender.snapshot("src/tree@20260101-0000_D")
    for number, size in enumerate(sizes):
        pair.sender.snapshot(f"src/tree@theirs-{number}", size)
    selection = Selection(exclude_snapshots=(pattern,) if pattern else ())
    transfer = replace(steps._job.transfer, policy=replace(steps._job.transfer.policy, selection=selection))
    for skip in (True, False):
        job = replace(steps._job, transfer=transfer, retention=replace(steps._job.retention, skip_unwritten=skip))
        assert (await ZfsSteps(job, "test", pair.events.append).source()).written is (written or not skip)


async def test_a_push_that_never_began_leaves_no_bookmarks(pair: Pair, steps: ZfsSteps, tmp_path: Path) -> None:
    pair.sender.snapshot("src/tree@1")
    pair.receiver.create("dst/tree")
    pair.receiver.snapshot("dst/tree@theirs")
    assert (await steps.push(TARGET)).exit_code == 3
    assert marked(pair, "src/tree") == []


async def test_the_copy_of_a_dataset_that_is_gone_stays_when_another_has_its_name(pair: Pair, steps: ZfsSteps) -> None:
    pair.sender.create("src/tree/a")
    for name in "12":
        for child in ("", "/a"):
            pair.sender.snapshot(f"src/tree{child}@{name}")
    assert (await steps.push(TARGET)).exit_code == 0
    pair.sender.destroy("src/tree/a")
    pair.sender.create("src/tree/a")
    pair.sender.snapshot("src/tree/a@1")

    assert await steps.prune(TARGET, everything) == Pruned(1)
    left = {child: [name for name, _ in found] for child, found in pair.receiver.guids("dst/tree").items()}
    assert left == {"": ["2"], "/a": ["1", "2"]}


async def test_a_snapshot_is_taken_of_the_whole_tree_or_of_none_of_it(pair: Pair, steps: ZfsSteps) -> None:
    for child in ("/a", "/b"):
        pair.sender.create("src/tree" + child)
    await steps.take("20260101-0000_M")
    taken = pair.sender.guids("src/tree")
    assert [[name for name, _ in snapshots] for snapshots in taken.values()] == [["20260101-0000_M"]] * 3
    assert sum(command[0] == "snapshot" for command in pair.sender.commands()) == 1
    pair.sender.snapshot("src/tree/b@20260101-0001_M")
    before = pair.sender.guids("src/tree")
    with pytest.raises(ZfsError, match="cannot be taken"):
        await steps.take("20260101-0001_M")
    assert pair.sender.guids("src/tree") == before  # with the one that the user took
