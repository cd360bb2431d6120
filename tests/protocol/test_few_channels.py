"""Sources that open few channels, as an sshd with a low MaxSessions does, or none beside the control agent's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from tests.protocol.conftest import FewChannels, Pair
from zfsync_ssh.agent import AgentClient
from zfsync_ssh.channel import LocalChannel
from zfsync_ssh.events import Event, Finished, Notice, Planned
from zfsync_ssh.keeping import Holds
from zfsync_ssh.messages import Result, Send
from zfsync_ssh.orchestrator import Options, Replication
from zfsync_ssh.policy import Policy


async def test_a_plan_is_made_anew_over_the_only_channel(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    pair.sender.snapshot("src/tree@1")
    pair.sender.snapshot("src/tree@gone")
    hold = Holds.hold

    async def destroyed_before(holds: Holds, snapshots: Sequence[str]) -> None:
        if "src/tree@gone" in snapshots:
            pair.sender.destroy("src/tree@gone")
        await hold(holds, snapshots)

    monkeypatch.setattr(Holds, "hold", destroyed_before)
    opener = FewChannels(1)
    source = pair.remote_source("src/tree", opener)
    assert await Replication(source, pair.target(), Options(owner="test"), pair.events.append).run() == 0
    assert any(isinstance(event, Notice) and "planning anew" in event.text for event in pair.events)
    assert pair.receiver.guids("dst/tree") == pair.sender.guids("src/tree")
    assert len(opener.opened) == 1


@pytest.mark.parametrize("most", [1, 2, 9])
async def test_the_control_agent_sends_only_where_there_is_no_other(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    for number in range(6):
        pair.sender.create(f"src/tree/{number}")
        for snapshot in ("1", "2"):
            pair.sender.snapshot(f"src/tree/{number}@{snapshot}", 300_000)
    pair.sender.snapshot("src/tree@1")
    senders: list[AgentClient] = []
    send_stream = AgentClient.send_stream

    async def noted(client: AgentClient, question: Send, relay: Callable[[bytes], Awaitable[None]]) -> Result:
        senders.append(client)
        return await send_stream(client, question, relay)

    monkeypatch.setattr(AgentClient, "send_stream", noted)
    opener = FewChannels(most)
    source = pair.remote_source("src/tree", opener)
    options = Options(3, owner="test", policy=Policy(buffer_behind=0))
    assert await asyncio.wait_for(Replication(source, pair.target(), options, pair.events.append).run(), 60) == 0
    assert pair.receiver.guids("dst/tree") == pair.sender.guids("src/tree")
    assert len(opener.opened) <= min(most, 4)
    assert {client.channel is opener.opened[0] for client in senders} == {most == 1}


async def test_a_receive_that_fails_early_costs_neither_the_runs_lock_nor_its_holds(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.sender.snapshot("src/tree@1", 12 << 20)  # more than is on its way when the receive ends
    monkeypatch.setenv("FAKEZFS_FULL", "2000")
    opener = FewChannels(9)
    close = LocalChannel.close
    closed: list[LocalChannel] = []
    hung_up: list[list[bool]] = []

    def noted(channel: LocalChannel) -> None:
        closed.append(channel)
        close(channel)

    def observe(event: Event) -> None:
        if isinstance(event, Finished):
            hung_up.append([channel in closed for channel in opener.opened])

    monkeypatch.setattr(LocalChannel, "close", noted)
    source = pair.remote_source("src/tree", opener)
    assert await Replication(source, pair.target(), Options(owner="test"), observe).run() == 3
    assert hung_up == [[False, True]]  # the control agent is the first


async def test_the_channels_to_send_over_are_opened_while_the_rest_is_looked_at(pair: Pair) -> None:
    for child in ("", "/a", "/b"):
        pair.sender.create(f"src/tree{child}")
        pair.sender.snapshot(f"src/tree{child}@1")
    opener = FewChannels(9)
    begun: list[int] = []

    def observe(event: Event) -> None:
        if isinstance(event, Planned):
            begun.append(opener.begun)

    for expected in (4, 1):  # the second run has nothing to send
        opener.begun = 0
        source = pair.remote_source("src/tree", opener)
        assert await Replication(source, pair.target(), Options(8, owner="test"), observe).run() == 0
        assert begun.pop() == expected
