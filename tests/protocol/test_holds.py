"""Holds and bookmarks of a run: made, given back, and left behind by one that was cut off."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests import agents
from tests.fakezfs import State
from tests.protocol.conftest import Pair, zfs_command
from tests.protocol.test_runs import TARGET, changes, diverged, left_behind
from zfsync_ssh import bootstrap
from zfsync_ssh.channel import LocalOpener
from zfsync_ssh.dataset import Inventory
from zfsync_ssh.errors import AgentError, UsageError, ZfsError
from zfsync_ssh.events import Event, Notice, Planned
from zfsync_ssh.holds import digest_of, tag_of
from zfsync_ssh.jobs import show_holds
from zfsync_ssh.keeping import Holds
from zfsync_ssh.lock import VARIABLE
from zfsync_ssh.messages import Operation, Result
from zfsync_ssh.orchestrator import Options, Replication
from zfsync_ssh.source import LocalSource, Source

TAG = str(tag_of("there:dst/tree", "0123456789ab"))


class Recorder(LocalSource):
    """A source that remembers what was asked of it, and refuses some of it."""

    def __init__(self, state: State, refuse: str = "", code: str = "permission") -> None:
        super().__init__("src/tree", zfs_command(state))
        self.asked: list[Operation] = []
        self.refuse = refuse
        self.code = code

    async def apply(self, operations: Sequence[Operation]) -> list[Result]:
        self.asked += operations
        if self.refuse == "lost":
            raise AgentError("The agent has gone.")
        results = await super().apply([one for one in operations if one.verb != self.refuse])
        left = iter(results)
        refused = Result(False, self.code, "it will not")
        return [refused._replace(name=one.name) if one.verb == self.refuse else next(left) for one in operations]

    @property
    def verbs(self) -> list[str]:
        return [operation.verb for operation in self.asked]


def holding(pair: Pair, refuse: str = "", code: str = "permission") -> tuple[Holds, Recorder]:
    pair.sender.snapshot("src/tree@1")
    pair.sender.snapshot("src/tree@2")
    end = Recorder(pair.sender, refuse, code)
    return Holds(end, TARGET, pair.events.append), end


async def test_holds_are_made_once_and_given_back(pair: Pair) -> None:
    holds, end = holding(pair)
    await holds.hold(["src/tree@1"])
    await holds.hold(["src/tree@1", "src/tree@2"])
    assert end.verbs == ["announce", "hold", "hold"]
    assert left_behind(pair)[0]
    await holds.release()
    await holds.release()
    assert left_behind(pair) == (False, None)
    assert end.verbs[3:] == ["release", "release", "forget"]
    await end.close()


async def test_one_that_has_gone_is_no_reason_for_a_notice(pair: Pair) -> None:
    holds, end = holding(pair)
    await holds.hold(["src/tree@1", "src/tree@gone"])
    assert pair.events == []
    await holds.release()
    assert left_behind(pair) == (False, None)
    await end.close()


async def test_where_nothing_can_be_held_it_is_said_once(pair: Pair) -> None:
    holds, end = holding(pair, "hold")
    await holds.hold(["src/tree@1"])
    await holds.hold(["src/tree@2"])
    (notice,) = pair.events
    assert isinstance(notice, Notice)
    assert "lets nothing be held (it will not)" in notice.text
    assert "'zfs allow -u USER hold,release,userprop src/tree' grants it; --no-hold" in notice.text
    await holds.release()
    await end.close()


@pytest.mark.parametrize("pull", [False, True])
async def test_where_the_runs_lock_cannot_be_taken_nothing_is_held_and_it_is_said(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pull: bool
) -> None:
    pair.sender.snapshot("src/tree@1")
    monkeypatch.setenv(VARIABLE, "/nonexistent")
    there = LocalOpener(f"{VARIABLE}={tmp_path} {bootstrap.command((agents.PYTHON,))}")  # the target's own lock
    source: Source = pair.remote_source("src/tree") if pull else LocalSource("src/tree", zfs_command(pair.sender))
    target = pair.target(opener=there)
    assert await Replication(source, target, Options(owner="test"), pair.events.append).run() == 0
    (notice,) = [event for event in pair.events if isinstance(event, Notice)]
    assert "src/tree lets nothing be held (cannot lock /nonexistent/zfsync-@run-" in notice.text
    assert "No such file or directory), so" in notice.text
    assert not any(command[0] == "hold" for command in pair.sender.commands())


async def test_what_cannot_be_released_stays_announced_for_the_next_run(pair: Pair) -> None:
    holds, end = holding(pair, "release")
    await holds.hold(["src/tree@1"])
    await holds.release()
    held, announced = left_behind(pair)
    assert held
    assert announced is not None
    (notice,) = pair.events
    assert isinstance(notice, Notice)
    assert "src/tree@1 stays held (it will not): the next run" in notice.text
    await end.close()

    after = Holds(LocalSource("src/tree", zfs_command(pair.sender)), TARGET, pair.events.append)
    inventory = await LocalSource("src/tree", zfs_command(pair.sender)).inventory(True, holds=after.property)
    await after.tidy(inventory)
    assert left_behind(pair) == (False, None)


async def test_a_connection_that_is_lost_amid_holding_is_followed_by_a_release_all_the_same(pair: Pair) -> None:
    holds, end = holding(pair, "lost")
    with pytest.raises(AgentError):
        await holds.hold(["src/tree@1"])
    end.refuse = ""
    await holds.release()
    assert end.verbs == ["announce", "hold", "release", "let-go"]  # for it was not held, as far as can be seen
    end.refuse = "lost"
    await holds.release()  # never fails
    await end.close()


async def test_an_interrupt_amid_holding_leaves_nothing_held(pair: Pair) -> None:
    holds, end = holding(pair)
    task = asyncio.create_task(holds.hold(["src/tree@1", "src/tree@2"]))
    await asyncio.sleep(0.02)  # the first command is still starting
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await holds.release()
    assert left_behind(pair) == (False, None)
    await end.close()


async def test_nothing_is_tidied_where_nothing_was_left(pair: Pair) -> None:
    holds, end = holding(pair)
    await holds.tidy(Inventory("src/tree", {}))
    await holds.tidy(await end.inventory(True, holds=holds.property))
    assert end.asked == []


async def test_a_run_leaves_no_holds_and_one_bookmark_per_dataset(pair: Pair) -> None:
    diverged(pair)
    assert await pair.push() == 0
    assert left_behind(pair) == (False, None)
    pair.sender.snapshot("src/tree/a@2")
    assert await pair.push() == 0
    with pair.sender.open() as state:
        marks = {name: [mark[0] for mark in one["bookmarks"]] for name, one in state["datasets"].items()}
    mark = f"zfsync.{digest_of(TARGET)}."
    assert marks["src/tree/a"] == [mark + "2"]
    assert marks["src/tree/b"] == [mark + "1"]


async def test_holds_go_when_the_preparation_fails(pair: Pair) -> None:
    diverged(pair)

    def observe(event: Event) -> None:
        if isinstance(event, Planned):
            assert left_behind(pair)[0]
            raise UsageError("No.")

    with pytest.raises(UsageError):
        await pair.replicate(observe)
    assert left_behind(pair) == (False, None)


async def test_holds_of_what_is_not_there_are_no_good_news(pair: Pair) -> None:
    with pytest.raises(ZfsError, match="There is no dataset dst/none on there"):
        await show_holds(pair.target("dst/none"), False, pair.events.append)


async def test_holds_that_a_run_has_left_are_shown_and_let_go(pair: Pair) -> None:
    pair.sender.snapshot("src/tree@1")
    end = LocalSource("src/tree", zfs_command(pair.sender))
    await end.apply([Operation("announce", "src/tree", (TAG,)), Operation("hold", "src/tree@1", (TAG,))])
    with pair.sender.open() as state:
        state["holds"]["src/tree@1"].append("mine")
    for release, code in ((False, 3), (True, 0), (False, 0)):
        pair.events.clear()
        there = pair.remote_source("src/tree")._endpoint
        assert await show_holds(there, release, pair.events.append) == code
        words = [change.words for change in changes(pair)]
        if code or release:
            assert words[0].startswith(f"has 1 snapshots held for {TARGET} by run 0123456789ab, which is gone")
        else:
            assert words == []
    assert left_behind(pair)[1] is None
    with pair.sender.open() as state:
        assert state["holds"]["src/tree@1"] == ["mine"]


async def test_a_run_at_work_is_told_from_one_that_is_gone(pair: Pair) -> None:
    holds, end = holding(pair)
    await holds.hold(["src/tree@1"])
    there = pair.remote_source("src/tree")._endpoint
    assert await show_holds(there, True, pair.events.append) == 0
    assert changes(pair)[0].words.endswith("which is at work")
    assert left_behind(pair)[0]
    await holds.release()
    await end.close()


async def test_a_bookmark_that_cannot_be_made_leaves_the_old_one(pair: Pair) -> None:
    diverged(pair)
    assert await pair.push() == 0
    pair.sender.snapshot("src/tree/a@2")
    end = Recorder(pair.sender, "bookmark")
    assert await Replication(end, pair.target(), Options(owner="test"), pair.events.append).run() == 0
    with pair.sender.open() as state:
        assert [mark[0] for mark in state["datasets"]["src/tree/a"]["bookmarks"]] == [f"zfsync.{digest_of(TARGET)}.1"]
    notices = [event.text for event in pair.events if isinstance(event, Notice)]
    assert any(
        "1 bookmarks cannot be kept at the source" in text and "zfs allow -u USER bookmark" in text for text in notices
    )
