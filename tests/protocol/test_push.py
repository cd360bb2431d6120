"""Whole pushes, with real agents over pipes and a fake zfs at both ends."""

from __future__ import annotations

import asyncio

import pytest

from tests import agents
from tests.fakezfs import make_token
from tests.protocol.conftest import Pair, zfs_command
from tests.ssh.processes import eventually
from zfsync_ssh import bootstrap
from zfsync_ssh.channel import Channel, LocalOpener
from zfsync_ssh.dataset import Host
from zfsync_ssh.endpoint import Endpoint
from zfsync_ssh.errors import AgentError, ConnectError, UsageError, ZfsError
from zfsync_ssh.events import Cleaned, Ended, Event, Opened, SendEnded, SendStarted, Status
from zfsync_ssh.jobs import clean_buffer
from zfsync_ssh.orchestrator import Options, Replication
from zfsync_ssh.policy import Policy
from zfsync_ssh.remote_source import AgentSource
from zfsync_ssh.selection import Selection
from zfsync_ssh.source import LocalSource


def tree(pair: Pair) -> None:
    """Three levels, with a volume, several snapshots, and the largest datasets at the bottom."""
    for child, kind in (("", "filesystem"), ("/a", "filesystem"), ("/a/b", "filesystem"), ("/v:1 x", "volume")):
        pair.sender.create("src/tree" + child, kind)
        for snapshot in ("1", "2", "3"):
            pair.sender.snapshot(f"src/tree{child}@{snapshot}", 1000 + 300_000 * child.count("/"))


@pytest.mark.parametrize("pull", [False, True])
async def test_a_tree_arrives_and_is_kept_up_to_date(pair: Pair, pull: bool) -> None:
    prefix = "far:" if pull else ""
    tree(pair)
    assert await pair.push(pull=pull) == 0
    assert pair.receiver.guids("dst/tree") == pair.sender.guids("src/tree")
    assert pair.receiver.guids("dst/tree.zfsyncbuffer") == {}
    assert {outcome.status for outcome in pair.outcomes.values()} == {Status.SENT}

    pair.sender.snapshot("src/tree/a/b@4")
    assert await pair.push(pull=pull) == 0
    assert pair.receiver.guids("dst/tree") == pair.sender.guids("src/tree")
    assert pair.outcomes[prefix + "src/tree/a/b"].what == "@3 -> @4"
    assert pair.outcomes[prefix + "src/tree"].status is Status.UP_TO_DATE


async def test_channels_that_are_opened_ahead_are_given_up_by_a_run_that_does_not_come_to_them(pair: Pair) -> None:
    class Stuck(LocalOpener):
        """Opens the control channel, and no other."""

        begun = given_up = 0

        async def open(self) -> Channel:
            self.begun += 1
            if self.begun == 1:
                return await super().open()
            try:
                return await asyncio.Future()
            finally:
                self.given_up += 1

    for child in ("", "/a", "/b", "/c", "/d"):
        pair.sender.create("src/tree" + child)
        pair.sender.snapshot(f"src/tree{child}@1", 1 << 40)
    opener = Stuck(bootstrap.command((agents.PYTHON,)))
    target = Endpoint(opener, Host("there"), "dst/tree", "dst/tree.zfsyncbuffer", zfs_command(pair.receiver))
    source = LocalSource("src/tree", zfs_command(pair.sender))
    with pytest.raises(ZfsError, match="has room for"):
        await Replication(source, target, Options(channels=4, owner="test"), pair.events.append).run()
    assert not any(isinstance(event, Opened) for event in pair.events)
    assert (opener.begun, opener.given_up) == (5, 4)


async def test_what_is_below_a_large_dataset_does_not_wait_for_it(pair: Pair) -> None:
    tree(pair)
    assert await pair.push(channels=4, policy=Policy(buffer_behind=0)) == 0
    started = {event.source: event.buffered for event in pair.events if isinstance(event, SendStarted)}
    assert started == {"src/tree": False, "src/tree/a": True, "src/tree/a/b": True, "src/tree/v:1 x": True}
    assert [event.renamed for event in pair.events if isinstance(event, Cleaned)] == [3]
    assert pair.receiver.guids("dst/tree") == pair.sender.guids("src/tree")
    assert pair.receiver.guids("dst/tree.zfsyncbuffer") == {}


async def test_a_large_dataset_does_not_keep_others_waiting_for_its_parent(pair: Pair) -> None:
    for child, size in (("", 1000), ("/a", 9 << 20), ("/b", 9 << 20)):
        pair.sender.create("src/tree" + child)
        pair.sender.snapshot(f"src/tree{child}@1", size)
    assert await pair.push(channels=2) == 0
    order = [(type(event), event.source) for event in pair.events if isinstance(event, SendStarted | SendEnded)]
    first, second = (name for kind, name in order if kind is SendStarted and name != "src/tree")
    assert order.index((SendStarted, second)) < order.index((SendEnded, first))
    assert pair.receiver.guids("dst/tree") == pair.sender.guids("src/tree")


async def test_what_was_to_arrive_below_one_that_fails_is_sent_again_to_the_buffer(pair: Pair) -> None:
    for child in ("", "/a", "/a/b"):
        pair.sender.create("src/tree" + child)
        pair.sender.snapshot(f"src/tree{child}@1")
    pair.receiver.hang(receive=0)  # the root's, until all are on their way; then it fails

    def observe(event: Event) -> None:
        pair.events.append(event)
        if isinstance(event, SendEnded) and event.source == "src/tree/a/b":
            eventually("the root's receive stands still", lambda: pair.receiver.stood_still)
            pair.receiver.hang()

    assert await pair.replicate(observe, channels=1) == 3
    places = [(event.source, event.buffered) for event in pair.events if isinstance(event, SendStarted)]
    for name in ("src/tree/a", "src/tree/a/b"):
        assert [buffered for source, buffered in places if source == name] == [False, True]
        assert f"{name} has arrived, but waits in dst/tree.zfsyncbuffer" in pair.outcomes[name].message
    assert pair.outcomes["src/tree"].code == "failed"
    assert await pair.push() == 0
    assert pair.receiver.guids("dst/tree") == pair.sender.guids("src/tree")
    assert pair.receiver.guids("dst/tree.zfsyncbuffer") == {}


@pytest.mark.parametrize("pull", [False, True])
async def test_nothing_to_do_costs_two_listings_at_each_end(pair: Pair, pull: bool) -> None:
    tree(pair)
    await pair.push()
    before = len(pair.sender.commands()), len(pair.receiver.commands())
    assert await pair.push(pull=pull) == 0
    assert [command[0] for command in pair.sender.commands()[before[0] :]] == ["list", "list"]
    assert [command[0] for command in pair.receiver.commands()[before[1] :]] == ["list", "list"]


async def test_a_missing_pool_is_said_and_nothing_done(pair: Pair) -> None:
    tree(pair)
    with pytest.raises(ZfsError, match="no pool nowhere on there"):
        await pair.push(root="nowhere/tree")
    assert isinstance(pair.events[-1], Ended)
    assert "no pool nowhere" in pair.events[-1].message
    with pytest.raises(ZfsError, match="neither the target nor its buffer"):
        await clean_buffer(pair.target("nowhere/tree"), "test", pair.events.append)


async def test_streams_of_one_dataset_are_not_all_sent_ahead_of_their_results(pair: Pair) -> None:
    for number in range(150):
        pair.sender.snapshot(f"src/tree@{'ab'[number % 2]}{number}")
    assert await pair.push(policy=Policy(selection=Selection(snapshots=("a*",)))) == 0
    assert len(pair.receiver.guids("dst/tree")[""]) == 75


async def test_datasets_that_no_agent_was_left_for_are_no_success(pair: Pair) -> None:
    tree(pair)
    target = pair.target()
    events: list[Event] = []

    def observe(event: Event) -> None:
        events.append(event)
        if isinstance(event, Opened):
            for client in target._clients[1:]:
                client.channel.close()

    source = LocalSource("src/tree", zfs_command(pair.sender))
    with pytest.raises(AgentError, match="has gone"):
        await Replication(source, target, Options(owner="test"), observe).run()
    assert await pair.push() == 0
    assert pair.receiver.guids("dst/tree") == pair.sender.guids("src/tree")


async def test_a_partial_receive_on_a_dataset_that_is_up_to_date_is_dropped(pair: Pair) -> None:
    tree(pair)
    assert await pair.push() == 0
    with pair.receiver.open() as state:
        state["datasets"]["dst/tree/a"]["token"] = make_token({"toguid": 5, "toname": "src/tree/a@gone"})
    assert await pair.push() == 0
    with pair.receiver.open() as state:
        assert state["datasets"]["dst/tree/a"]["token"] == ""
    assert pair.receiver.guids("dst/tree") == pair.sender.guids("src/tree")


class NoWay:
    """A way to a host that cannot be reached."""

    lost = False
    cipher = ""

    async def open(self) -> Channel:
        raise ConnectError("far cannot be reached")

    async def close(self) -> None:
        pass


async def test_a_source_that_cannot_be_reached_ends_the_run_though_the_target_is_just_being_started(pair: Pair) -> None:
    source = AgentSource(Endpoint(NoWay(), Host("far"), "src/tree", "", ("zfs",)))
    run = Replication(source, pair.target(), Options(owner="test"), pair.events.append).run()
    with pytest.raises(ConnectError, match="far cannot be reached"):
        await asyncio.wait_for(run, 60)


@pytest.mark.parametrize("root", ["src/tree", "src/tree/sub/copy"])
async def test_this_machine_by_another_name_is_no_target_above_or_below_the_source(pair: Pair, root: str) -> None:
    for child in ("/sub/x", "/sub/copy/y"):
        pair.sender.create("src/tree" + child)
        pair.sender.snapshot(f"src/tree{child}@1")
    pair.receiver = pair.sender
    before = pair.sender.guids("src")
    with pytest.raises(UsageError, match="there is the machine of the source: src"):
        await pair.push("src/tree/sub", root)
    assert pair.sender.guids("src") == before
    assert {command[0] for command in pair.sender.commands()} == {"list"}


async def test_a_selection_of_nothing_is_refused(pair: Pair) -> None:
    tree(pair)
    with pytest.raises(UsageError, match="Nothing of src/tree is selected"):
        await pair.push(policy=Policy(selection=Selection(include=("nowhere",))))


async def test_what_waits_for_another_target_in_a_shared_buffer_stays(pair: Pair) -> None:
    tree(pair)
    pair.receiver.create("dst/shared/2F686F6D65", **{"zfsync:path": "dst/x/home"})
    pair.receiver.snapshot("dst/shared/2F686F6D65@1")
    source = LocalSource("src/tree", zfs_command(pair.sender))
    target = pair.target(buffer="dst/shared")
    assert await Replication(source, target, Options(owner="test"), pair.events.append).run() == 0
    assert pair.receiver.guids("dst/tree") == pair.sender.guids("src/tree")
    assert list(pair.receiver.guids("dst/shared")) == ["", "/2F686F6D65"]
